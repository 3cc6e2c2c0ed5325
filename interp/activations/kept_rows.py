"""Which rows of a token set are kept: all but those of some token ids and positions."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_SEQUENCES_AT_ONCE = 2048


class KeptRows:
    """Row ids seq · n_ctx + pos of the tokens that are kept, block by block (`shards.RowIds`).

    Raises ValueError for what is no token id or no position, and where no row is left.
    """

    def __init__(self, tokens: Int[Tensor, "seq pos"], exclude: Sequence[int], exclude_positions: Sequence[int] = ()):
        for token in exclude:
            if not 0 <= token < 1 << 31:
                raise ValueError(f"exclude={list(exclude)} holds {token}, which is no token id")
        for position in exclude_positions:
            if not 0 <= position < tokens.shape[1]:
                of = f"which is no position in 0..{tokens.shape[1] - 1}"
                raise ValueError(f"exclude_positions={list(exclude_positions)} holds {position}, {of}")
        self.tokens, self._exclude = tokens, torch.tensor(list(exclude), dtype=tokens.dtype)
        positions = {"exclude_positions": sorted({*map(int, exclude_positions)})} if exclude_positions else {}
        self.left_out: dict[str, list[int]] = {"exclude": sorted({*map(int, exclude)}), **positions}
        """The options by which rows are left out, without those that leave out none."""
        self._positions = torch.ones(tokens.shape[1], dtype=torch.bool)
        self._positions[list(exclude_positions)] = False
        counts: Counter[str] = Counter()
        for block in tokens.split(_SEQUENCES_AT_ONCE):
            allowed = self._allowed(block)
            counts["token"] += int((~allowed).sum())
            counts["position"] += int((allowed & ~self._positions).sum())
        self.excluded = {"token": counts["token"], "position": counts["position"]}
        """Rows left out, by cause; those of an excluded token at an excluded position count with the tokens."""
        if not len(self):
            left_out = f"excluded ids {list(exclude)}" + (" or positions" if exclude_positions else "")
            raise ValueError(f"no token is left to harvest: all {tokens.numel()} are among the {left_out}")

    def __len__(self) -> int:
        return self.tokens.numel() - sum(self.excluded.values())

    def of(self, sequences: slice | Int[Tensor, " seq"]) -> Int[Tensor, " row"]:
        """Counted from the first row of the sequences."""
        return (self._allowed(self.tokens[sequences]) & self._positions).flatten().nonzero().squeeze(1)

    def split(self, size: int, /) -> Iterator[Int[Tensor, " row"]]:
        """In blocks of whole sequences, of up to `size` rows where that is more than one."""
        n_seq, n_ctx = self.tokens.shape
        step = max(1, size // n_ctx)
        for start in range(0, n_seq, step):
            yield start * n_ctx + self.of(slice(start, start + step))

    def _allowed(self, tokens: Int[Tensor, "seq pos"]) -> Bool[Tensor, "seq pos"]:
        return torch.isin(tokens, self._exclude, invert=True)
