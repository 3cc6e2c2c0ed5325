"""Hold a text together with the codes of its rows. Every step from a latent's firings to its rule reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.checks.arguments import check_token_ids
from interp.codes.code_chunks import CodeChunk, CodeSource, check_codes, count_firings, read_chunks
from interp.features.examples import first_windows
from interp.features.feature_store import FeatureStore
from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.runtime.progress import Progress, no_progress
from interp.text.predicates import Predicates


@dataclass(frozen=True, kw_only=True)
class CodedText:
    """Tokens, the codes of their rows (seq * n_ctx + pos), and facts about both."""

    tokens: Int[Tensor, "seq pos"]
    codes: CodeSource
    vocab: Sequence[str]
    """The string of each token id."""
    has_vocab: bool
    """Whether these strings spell the tokens; otherwise they are only names, such as ids, and spelling is unknown."""
    maxima: Float32[np.ndarray, " d_sae"]
    """The largest activation of each latent, 0 if it never fires."""
    n_active: Int64[np.ndarray, " d_sae"]
    """Rows on which each latent fires."""
    counted: Bool[np.ndarray, " row"]
    """The rows that count as evidence: the first occurrence of each window (`features.examples`)."""
    encoded: Bool[np.ndarray, " row"]
    """The rows that have codes. No latent can fire on the others, which were left out at harvest."""
    world: Processes = SINGLE_PROCESS
    """The processes that divide what is computed from the text and serves all latents: its predicates, the nulls, and
    the rows at which rules hold. All of them call the same functions of this text in the same order, each for its own
    latents."""

    @classmethod
    def from_features(cls, features: FeatureStore, world: Processes = SINGLE_PROCESS) -> "CodedText":
        """Return the text that was scanned, with its codes."""
        codes = features.codes
        return cls(
            tokens=features.tokens,
            codes=codes,
            vocab=features.vocab,
            has_vocab=features.has_vocab,
            maxima=np.nan_to_num(features.column("max")).astype(np.float32),
            n_active=features.column("n_active").astype(np.int64),
            counted=first_windows(features.tokens.numpy()),
            encoded=codes.present(0, len(codes)).numpy(),
            world=world,
        )

    @classmethod
    def from_codes(
        cls, tokens: Int[Tensor, "seq pos"], codes: CodeSource, vocab: Sequence[str] | None = None
    ) -> "CodedText":
        """Check the codes of a text, and count their firings in one pass.
        vocab: the string of each token; None if spelling is unknown.

        Raises ValueError if codes or vocab do not belong to these tokens, or if codes are out of range.
        """
        n_ids = check_token_ids(tokens, None if vocab is None else len(vocab)) + 1
        check_codes(codes, tokens)
        tokens = tokens.int()  # a small dtype cannot hold the numbers of predicates, nor an unsigned one -1
        facts = count_firings(codes)
        return cls(
            tokens=tokens,
            codes=codes,
            vocab=[str(i) for i in range(n_ids)] if vocab is None else vocab,
            has_vocab=vocab is not None,
            maxima=facts.maxima,
            n_active=facts.n_active,
            counted=first_windows(tokens.numpy()),
            encoded=codes.present(0, len(codes)).numpy(),
        )

    @property
    def d_sae(self) -> int:
        return self.codes.d_sae

    @property
    def n_seq(self) -> int:
        return self.tokens.shape[0]

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @cached_property
    def predicates(self) -> Predicates:
        """The predicates of the text, counted at the first access where firings count: what holds in copies is as
        rare as it is without them."""
        with threadpool_limits(1, user_api="blas"):  # the result must not depend on BLAS's threads
            vocab = self.vocab if self.has_vocab else None
            candidates = self.encoded & self.counted
            return Predicates.count(self.tokens.numpy(), len(self.vocab), vocab, self.world, among=candidates)

    def read_chunks(
        self,
        rows_per_group: int,
        progress: Progress = no_progress,
        note: str = "",
        *,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[CodeChunk]:
        """Read the codes in token order, whole groups of rows at a time. Values are in 0..1 of their latent's maximum,
        and 0 on rows that do not count.
        part: (rank, count), to read only that rank's chunks."""
        return read_chunks(
            self.codes,
            rows_per_group,
            maxima=self.maxima,
            counted=self.counted,
            part=part,
            progress=progress,
            note=note,
        )
