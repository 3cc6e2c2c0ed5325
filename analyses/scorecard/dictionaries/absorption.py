"""Absorption: a latent should fire for its concept but is silent, because another latent took its place.

The concept is a first letter (Chanin et al. 2024, arXiv 2409.14507; SAEBench, arXiv 2503.09532). In: the activations x
at single-token words that end the prompt `PROMPT`, minus their mean over the words. A logistic probe of the 26 letters
is fitted on `TRAINED` of the words; p is the unit direction of a letter. If fewer than `FEWEST_LETTERS` letters reach
an F1 of `SPELT` on the other words, the model cannot spell, and nothing is measured.

    main latents of a letter    the heaviest of an L1 logistic probe on the latents, one more for as long as the F1 of a
                                probe on them, on held-out words, rises by more than `JUMP`
    contribution of latent j    (z_j − its mean over the words) W_dec[j] · p

For each letter that the model can spell, among the held-out words whose letter the probe predicts:

    fully absorbed   no main latent fires, and the latent that contributes most lies along p (cosine ≥ `ALONG`) and
                     gives at least `SHARE` of x · p
    fraction         of the contribution of the main latents and of the `ABSORBERS` largest others (cosine ≥
                     `ABSORBING`), the share of the others; 0 if they give less than `SHARE` of x · p, or the main
                     latents all of it

Out: the means of both over letters, the F1 of the main latents, and their number.

Limits: if no latent stands for a letter nothing can be absorbed, so a dictionary of noise scores well; read the score
together with the F1 of the main latents. That F1 is a little too high, since it also chose their number. And words that
end a prompt are not words in text.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from interp.activations.hooks import Model, evaluating, hooked_rows, module_of, resolve_hooks
from interp.codes.dictionary import Dictionary

PROMPT = " mirth has the first letter: M."
MOST_WORDS, WORD_BATCH = 3000, 64
TRAINED, SPELT, FEWEST_LETTERS = 0.7, 0.7, 5
MOST_MAIN, JUMP = 10, 0.03
ALONG, ABSORBING, SHARE, ABSORBERS = 0.025, 0.1, 0.4, 3
"""SAEBench's, as `JUMP` and `MOST_MAIN` are."""
L1_STRENGTH = 1.0
"""scikit-learn's C of the probe whose weights choose main latents."""
EXAMPLES = 12


@dataclass(frozen=True)
class Words:
    x: Float[Tensor, "word d_in"]
    words: list[str]

    @property
    def letters(self) -> Int[np.ndarray, " word"]:
        return np.array([ord(word[0]) - ord("a") for word in self.words])


@dataclass(frozen=True)
class Spelling:
    """What a probe reads of first letters in the activations, by a division of the words."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    x: Float[Tensor, "word d_in"]
    """The activations, minus their mean over the words."""
    letters: Int[np.ndarray, " word"]
    directions: Float[Tensor, "letter d_in"]
    """Unit vectors; zeros of a letter that no word for training begins with."""
    is_recognized: Bool[np.ndarray, " test"]
    """The words for testing whose letter the probe tells."""
    f1: Float[np.ndarray, " letter"]
    """The F1 on the words for testing."""

    @property
    def accuracy(self) -> float:
        return float(self.is_recognized.mean())

    @property
    def spelt(self) -> list[int]:
        return [int(letter) for letter in np.flatnonzero(self.f1 >= SPELT)]


def read_words(model: Model, hook: str, tokenizer: Any, seed: int = 0) -> Words:
    """Run the model over single-token words in lower case, `MOST_WORDS` at most, each after the prompt."""
    shown = tokenizer.display()
    ids = [i for i, word in enumerate(shown) if re.fullmatch(r" [a-z]{3,}", word)]
    drawn = np.random.default_rng(seed).permutation(ids)[:MOST_WORDS]
    prompt = torch.tensor(tokenizer.encode(PROMPT))
    tokens = torch.cat([prompt.expand(len(drawn), -1), torch.from_numpy(drawn)[:, None]], 1)
    module, hooks = module_of(model), resolve_hooks(model, [hook])
    with evaluating(module):
        parts = [hooked_rows(module, part, hooks)[hook].unflatten(0, part.shape) for part in tokens.split(WORD_BATCH)]
    return Words(torch.cat([part[:, -1].float() for part in parts]), [shown[i].strip() for i in drawn])


def spelling(words: Words, seed: int) -> Spelling:
    """Fit the probe of letters on `TRAINED` of the words, drawn by the seed."""
    x, letters = words.x - words.x.mean(0), words.letters
    train, test = np.split(np.random.default_rng(seed).permutation(len(x)), [round(TRAINED * len(x))])
    scale = float(x.norm(dim=1).mean())
    probe = LogisticRegression(max_iter=300, class_weight="balanced").fit(x[train].numpy() / scale, letters[train])
    predicted = probe.predict(x[test].numpy() / scale)
    directions = torch.zeros(26, x.shape[1])
    directions[probe.classes_] = torch.nn.functional.normalize(torch.from_numpy(probe.coef_).float(), dim=1)
    f1 = f1_score(letters[test], predicted, labels=np.arange(26), average=None, zero_division=0.0)
    return Spelling(train, test, x, letters, directions, predicted == letters[test], f1)


def absorption(dictionary: Dictionary, words: Words, read: Spelling) -> dict[str, Any]:
    """Return means over the letters that the model can spell, and the numbers of each letter with examples of words."""
    if len(read.spelt) < FEWEST_LETTERS:
        return {"letters": {}}
    z = dictionary.codes(words.x).dense().float()
    W_dec = dictionary.W_dec.detach().float()
    rows_of_letters: dict[str, dict[str, Any]] = {}
    for letter in read.spelt:
        y = read.letters == letter
        main, f1 = main_latents(z.numpy(), y, read.train, read.test)
        recognized = read.test[read.is_recognized & y[read.test]]
        full, fraction, absorber = absorbed(
            z[recognized], z.mean(0), W_dec, read.directions[letter], read.x[recognized], main
        )
        silent = [(words.words[i], int(j)) for i, j, is_full in zip(recognized, absorber, full, strict=True) if is_full]
        rows_of_letters[chr(ord("a") + letter)] = {
            "full": float(full.float().mean()),
            "fraction": float(fraction.mean()),
            "F1 of main": f1,
            "main latents": len(main),
            "words": len(recognized),
            "main": main,
            "examples": silent[:EXAMPLES],
        }
    names = ("full", "fraction", "F1 of main", "main latents")
    return {name: float(np.mean([row[name] for row in rows_of_letters.values()])) for name in names} | {
        "letters": rows_of_letters
    }


def main_latents(
    z: Float[np.ndarray, "word d_sae"],
    y: Bool[np.ndarray, " word"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
) -> tuple[list[int], float]:
    """Return the latents that stand for a letter, and the F1 of a logistic probe on them. Their order and the probe are
    fitted on the words for training; how many they are is chosen by the F1 on the others, which is the one returned."""
    fires = np.flatnonzero((z[train] > 0).any(0))
    lasso = LogisticRegression(
        l1_ratio=1.0, solver="liblinear", C=L1_STRENGTH, class_weight="balanced", random_state=0, max_iter=300
    )
    seen = z[np.ix_(train, fires)] / z[np.ix_(train, fires)].max(0)
    order = fires[np.argsort(-lasso.fit(seen, y[train]).coef_[0], kind="stable")[:MOST_MAIN]]
    best, main = -1.0, []
    for k in range(1, len(order) + 1):
        probe = LogisticRegression(max_iter=300, class_weight="balanced")
        chosen = order[:k]
        f1 = float(f1_score(y[test], probe.fit(z[np.ix_(train, chosen)], y[train]).predict(z[np.ix_(test, chosen)])))
        if f1 <= best + JUMP:
            break
        best, main = f1, chosen.tolist()
    return main, best


def absorbed(
    z: Float[Tensor, "word d_sae"],
    usual: Float[Tensor, " d_sae"],
    W_dec: Float[Tensor, "d_sae d_in"],
    p: Float[Tensor, " d_in"],
    x: Float[Tensor, "word d_in"],
    main: list[int],
) -> tuple[Bool[Tensor, " word"], Float[Tensor, " word"], Int[Tensor, " word"]]:
    """Tell for each word whether it is absorbed, what fraction is, and the latent that fires and contributes most.
    `usual` is the mean of z over all words, which x is without too: what fires at every word tells no letter."""
    along = W_dec @ p
    cosine = along / W_dec.norm(dim=1).clamp(min=1e-12)
    contribution, target = (z - usual) * along, x @ p
    main_share = contribution[:, main].sum(1)

    largest, top = contribution.masked_fill(z <= 0, -torch.inf).max(1)
    silent = (z[:, main] == 0).all(1)
    full = silent & (target > 0) & (cosine[top] >= ALONG) & (largest >= SHARE * target)

    others = contribution.clamp(min=0) * (cosine >= ABSORBING)
    others[:, main] = 0
    others_share = others.topk(min(ABSORBERS, others.shape[1])).values.sum(1)
    absorbed_share = torch.minimum(others_share, target - main_share)
    fraction = torch.where(main_share <= 0, 1.0, absorbed_share / (absorbed_share + main_share))
    nothing = (main_share >= target) | (others_share < SHARE * target) | (target <= 0)
    return full, torch.where(nothing, 0.0, fraction), top
