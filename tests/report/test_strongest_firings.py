"""What the strongest firings of a latent have in common, in a text of a few words."""

from collections import Counter

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.display.segments import Segments, Token, to_text
from interp.features.feature_store import FeatureStore
from interp.report.naming import N_STRONGEST
from interp.report.strongest_firings import shared_by_strongest

VOCAB = [" B", "as", "h", ".", " l", "</", "c", " 0"]
BASH, LAS, STOP = [0, 1, 2], [4, 1], 3
N_WEAK = 4 * N_STRONGEST


@pytest.fixture
def shared(tmp_path):
    """A function that gives what a latent's strongest firings share: those at some place in one text that is repeated,
    beside weaker ones in another. label: marks the first text."""

    def share(strong: list[int], weak: list[int], place: int, n: int = N_STRONGEST, n_weak: int = N_WEAK) -> str:
        length = max(len(strong), len(weak))
        texts = [text + [STOP] * (length - len(text)) for text in [strong] * N_STRONGEST + [weak] * n_weak]
        fires = np.zeros((len(texts), length, 1), np.float32)
        fires[:, place] = 1
        is_strong = torch.zeros(len(texts), length, dtype=torch.bool)
        is_strong[:N_STRONGEST] = True
        masks = {"hex_bytes": is_strong}
        codes = scipy.sparse.csr_matrix(fires.reshape(-1, 1))
        features = FeatureStore.from_codes(
            torch.tensor(texts).int(), codes, tmp_path / "f", vocab=VOCAB, labels=masks, overwrite=True
        )
        around = {(0, offset): Counter(VOCAB[text[place + offset]] for text in texts) for offset in (-1, 1)}
        rows = [length * k + place for k in range(n)]
        found: dict[int, Segments] = shared_by_strongest(features, {0: rows}, around, masks, {"hex_bytes": "hex bytes"})
        told = found.get(0, [])
        assert all(isinstance(one, str | Token) for one in told), "it may stand within a name"
        return to_text(told)

    return share


def test_whole_words_are_told_first(shared):
    assert shared([*BASH, STOP], [*LAS, STOP], 1) == 'in "Bash"'


def test_then_the_token_after_or_before_if_it_is_not_that_of_all_firings(shared):
    assert shared([7, 6, 5, STOP], [7, 6, STOP, STOP], 1) == 'before "</"'
    assert shared([5, 6, STOP, STOP], [7, 6, STOP, STOP], 1) == 'after "</"'
    of_most = shared([7, 6, 5, STOP], [7, 6, STOP, STOP], 1, n_weak=N_STRONGEST)
    assert of_most != 'before "</"', "half of all firings are before it"


def test_then_the_kind_of_text_if_it_is_not_that_of_all_firings(shared):
    same = [7, 6, STOP, STOP]
    assert shared(same, same, 1) == "in hex bytes"


def test_nothing_is_told_of_few_firings(shared):
    assert shared([*BASH, STOP], [*LAS, STOP], 1, n=N_STRONGEST - 1) == ""
