"""Run a model on sequences of a token set and return the activations at its hooks for the rows that are kept."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.activations.harvest_options import RowOptions
from interp.activations.hooks import (
    Hook,
    Model,
    evaluating,
    hooked_rows,
    model_name,
    module_of,
    names_of_hook,
    resolve_hooks,
    token_strings_of,
)
from interp.activations.outliers import NORM_SAMPLE_ROWS, NormLimits, NormSample
from interp.checks.arguments import check_token_ids
from interp.checks.errors import InterpError
from interp.checks.limits import is_whole_number
from interp.runtime.model_sizes import size_of
from interp.runtime.padding import check_padding
from interp.storage.files import digest

TokenBatches = (
    Int[Tensor, "seq pos"] | Float[Tensor, "input ..."] | Iterable[Int[Tensor, "seq pos"] | Float[Tensor, "input ..."]]
)
"""Token ids, or an iterable of batches of them; or the model's float inputs (images, audio, rows)."""
_SEQUENCES_AT_ONCE = 256
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ModelPasses:
    """Forward passes over sequences of a token set, and the selection of its rows, by id seq · n_ctx + pos.

    If inputs are floats, each input is a sequence, and its positions are those of the hooks' activations
    (`hooks.hooked_rows`).
    """

    module: nn.Module
    tokens: Int[Tensor, "seq pos"] | Float[Tensor, "input ..."]
    """On the CPU."""
    hooks: dict[str, Hook]
    """By their canonical names in the model."""
    aliases: dict[str, list[str]]
    """The other names of a hook, if it has any."""
    n_ctx: int
    options: RowOptions

    @classmethod
    def of(
        cls,
        model: Model,
        tokens: Int[Tensor, "seq pos"] | Float[Tensor, "input ..."],
        hook_names: str | Sequence[str],
        options: RowOptions,
    ) -> "ModelPasses":
        """Return the passes over these tokens.

        Raises ValueError for an unknown hook, for tokens that the model does not accept, for exclusions that are not
        token ids or positions, if no row is left, and for hooks with different numbers of positions.
        """
        hooks, aliases = dict[str, Hook](), dict[str, list[str]]()
        for hook in resolve_hooks(model, hook_names).values():
            main, *others = names_of_hook(model, hook)
            hooks[main] = hook
            if others:
                aliases[main] = others
        module, tokens = module_of(model), tokens.detach().cpu()
        passes = cls(module, tokens, hooks, aliases, _n_positions(module, tokens, hooks), options)
        passes._check_exclusions()
        return passes

    def _check_exclusions(self) -> None:
        exclude, exclude_positions = list(self.options.exclude), list(self.options.exclude_positions)
        for token in exclude:
            if not self.is_text or not is_whole_number(token) or not 0 <= token < 1 << 31:
                raise InterpError(f"exclude={exclude} holds {token}, which is not a token id")
        for position in exclude_positions:
            if not is_whole_number(position) or not 0 <= position < self.n_ctx:
                raise InterpError(
                    f"exclude_positions={exclude_positions} holds {position}, "
                    f"which is not a position in 0..{self.n_ctx - 1}"
                )
        if not self.n_rows:
            raise InterpError(
                f"no token is left to harvest: all {len(self)} have an id in exclude={exclude} or a position in "
                f"exclude_positions={exclude_positions}"
            )

    def __len__(self) -> int:
        """Return the number of rows of all sequences, including excluded ones."""
        return len(self.tokens) * self.n_ctx

    @property
    def name(self) -> str:
        return model_name(self.module)

    @property
    def is_text(self) -> bool:
        return not self.tokens.is_floating_point()

    @cached_property
    def excluded(self) -> dict[str, int]:
        """Numbers of rows left out, by cause; a row with an excluded token at an excluded position counts as excluded
        by token."""
        excluded = {"token": 0, "position": 0}
        for block in self.tokens.split(_SEQUENCES_AT_ONCE):
            allowed = self._is_allowed(block)
            excluded["token"] += int((~allowed).sum())
            excluded["position"] += int((allowed & ~self._positions).sum())
        return excluded

    @property
    def n_rows(self) -> int:
        """The number of rows that are kept."""
        return len(self) - sum(self.excluded.values())

    @cached_property
    def _exclude(self) -> Int[Tensor, " token"]:
        return torch.tensor(list(self.options.exclude), dtype=torch.long)

    @cached_property
    def _positions(self) -> Bool[Tensor, " pos"]:
        """Whether each position is kept."""
        positions = torch.ones(self.n_ctx, dtype=torch.bool)
        positions[list(self.options.exclude_positions)] = False
        return positions

    def kept_rows(self, sequences: slice | Int[Tensor, " seq"]) -> Int[Tensor, " row"]:
        """Return the kept rows of some sequences, counted from their first row."""
        return (self._is_allowed(self.tokens[sequences]) & self._positions).flatten().nonzero().squeeze(1)

    def row_ids(self) -> Iterator[Int[Tensor, " row"]]:
        """Yield the ids of the kept rows, block by block of sequences."""
        for start in range(0, len(self.tokens), _SEQUENCES_AT_ONCE):
            yield start * self.n_ctx + self.kept_rows(slice(start, start + _SEQUENCES_AT_ONCE))

    def _is_allowed(self, tokens: Tensor) -> Bool[Tensor, "seq pos"]:
        if not self.is_text:
            return torch.ones(len(tokens), self.n_ctx, dtype=torch.bool)
        return torch.isin(tokens, self._exclude.to(tokens.dtype), invert=True)

    def widths(self) -> dict[str, int]:
        """Return the width of each hook, measured on the first sequence."""
        return {name: x.shape[1] for name, x in hooked_rows(self.module, self.tokens[:1], self.hooks).items()}

    def run(self, sequences: Int[Tensor, " seq"]) -> tuple[Int[Tensor, " row"], dict[str, Float[Tensor, "row d"]]]:
        """Return row ids and activations of some sequences, from one pass."""
        kept_rows = self.kept_rows(sequences)
        n_ctx = self.n_ctx
        acts = hooked_rows(self.module, self.tokens[sequences], self.hooks)
        if len(kept_rows) < len(sequences) * n_ctx:
            acts = {name: x[kept_rows.to(x.device)] for name, x in acts.items()}
        return sequences[kept_rows // n_ctx] * n_ctx + kept_rows % n_ctx, acts

    def evenly_spaced(self, n_tokens: int) -> Int[Tensor, " seq"]:
        """Choose sequences with about `n_tokens` tokens, evenly spaced over the text; all if there are fewer. A
        sequence without a row that is kept is not chosen."""
        blocks = self.tokens.split(_SEQUENCES_AT_ONCE)
        has_rows = torch.cat([(self._is_allowed(block) & self._positions).any(1) for block in blocks])
        sequences = has_rows.nonzero().squeeze(1)
        n_seq = len(sequences)
        n = min(n_seq, math.ceil(n_tokens / self.n_ctx))
        return sequences[torch.arange(n) * n_seq // n]

    def norm_limits(self) -> "NormLimits":
        """Find the norm limits in a sample of the rows; a warning is logged if max_norm="auto" sets one."""
        max_norm = self.options.max_norm
        if max_norm is None:
            return NormLimits(None, None)
        samples = {name: NormSample() for name in self.hooks}
        for sequences in self.evenly_spaced(NORM_SAMPLE_ROWS).split(self.options.batch_size):
            row_ids, acts = self.run(sequences)
            for name, x in acts.items():
                samples[name].add(row_ids, x)
        outliers_of_hooks = {hook: sample.outliers(self.n_ctx, max_norm) for hook, sample in samples.items()}
        token_strings = token_strings_of(self.module)
        tokens = self.tokens if self.is_text else None
        limits = {}
        for hook, outliers in outliers_of_hooks.items():
            if max_norm == "auto" and not outliers.are_dominant:
                continue
            if not outliers.limit > 0:
                raise InterpError(f"max_norm={max_norm}: half of the rows at {hook} are 0, and so is their median norm")
            limits[hook] = outliers.limit
            if max_norm == "auto":
                where = samples[hook].where_above(outliers.limit, self.n_ctx, tokens, token_strings)
                log.warning("%s: %s, %s. They are left out; max_norm=None keeps them", hook, outliers.summary, where)
        return NormLimits(limits, {hook: outliers.to_manifest() for hook, outliers in outliers_of_hooks.items()})

    def made_of(self) -> dict[str, Any]:
        """Return the inputs that these rows depend on: the model, tokens, hooks and options."""
        options = self.options
        positions = sorted({*map(int, options.exclude_positions)})
        return {
            "hook_names": list(self.hooks),
            "shape": list(self.tokens.shape),
            "tokens" if self.is_text else "inputs": digest(*self._blocks()),
            "weights": weights_digest(self.module),
            "dtype": options.dtype,
            "batch_size": options.batch_size,
            "exclude": sorted({*map(int, options.exclude)}),
            **({"exclude_positions": positions} if positions else {}),
            "max_norm": options.max_norm,
        }

    def _blocks(self) -> Iterator[Tensor]:
        dtype = torch.int32 if self.is_text else torch.float32
        return (block.to(dtype) for block in self.tokens.split(_SEQUENCES_AT_ONCE))


def concatenate_tokens(
    tokens: TokenBatches, max_tokens: int | None = None
) -> Int[Tensor, "seq pos"] | Float[Tensor, "input ..."]:
    """Concatenate token ids into one tensor (4 bytes each), or the floats of all inputs. From a generator, take batches
    until they have `max_tokens`. Raises ValueError if there is no batch, and for batches of different lengths."""
    if isinstance(tokens, np.ndarray | Tensor):
        return _widened(torch.as_tensor(tokens))
    batches = list[Tensor]()
    n_tokens = 0
    for batch in tokens:
        if isinstance(batch, str):
            raise InterpError(f"the tokens hold text, {batch[:40]!r}: models.tokenize turns it into ids")
        batch = torch.as_tensor(batch)
        first = (batches or [batch])[0]
        is_alike = batch.shape[1:] == first.shape[1:] and batch.is_floating_point() == first.is_floating_point()
        if not is_alike or batch.ndim < 2 or (batch.ndim != 2 and not batch.is_floating_point()):
            shape = "seq, pos" if not batches else ", ".join(["seq", *map(str, first.shape[1:])])
            numbers = "floats" if batches and first.is_floating_point() else "integers"
            raise InterpError(
                f"batch {len(batches)} of the tokens, {tuple(batch.shape)} {batch.dtype}, must be {numbers} [{shape}]"
            )
        batches.append(batch.float() if batch.is_floating_point() else batch.int())
        n_tokens += batch.numel()
        if max_tokens is not None and n_tokens >= max_tokens:
            break
    if not batches:
        raise InterpError("tokens gives no batch: a generator can be read only once")
    return torch.cat(batches)


def _widened(tokens: Tensor) -> Tensor:
    """Return ids of 4 or 8 bytes: torch computes little with unsigned ones (files of tokens often have 2 bytes each),
    and narrower ones cannot hold every id to exclude."""
    if tokens.is_floating_point() or tokens.dtype in (torch.int32, torch.int64):
        return tokens
    return tokens.int() if tokens.dtype.itemsize < 4 else tokens.long()


def _n_positions(module: nn.Module, tokens: Tensor, hooks: dict[str, Hook]) -> int:
    """Return the number of positions of a sequence."""
    if not tokens.is_floating_point() or size_of(module, "d_vocab") is not None:
        check_model_takes(module, tokens)
        return tokens.shape[1]
    if tokens.ndim < 2 or not tokens.numel():
        raise InterpError(f"inputs of shape {tuple(tokens.shape)} must be [input, …], one at least")
    with evaluating(module):
        counts = {name: len(x) for name, x in hooked_rows(module, tokens[:1], hooks).items()}
    if len(set(counts.values())) > 1:
        positions_at_hooks = " and ".join(f"{n} at {name}" for name, n in counts.items())
        raise InterpError(f"an input has {positions_at_hooks} positions: harvest these hooks apart")
    return next(iter(counts.values()))


def check_model_takes(module: nn.Module, tokens: Int[Tensor, "seq pos"]) -> None:
    """Check that the model accepts these tokens. Raises ValueError as `check_token_ids` and `check_padding` do, and for
    sequences that are too long."""
    check_token_ids(tokens, size_of(module, "d_vocab"))
    check_padding(module, tokens)
    n_ctx = size_of(module, "n_ctx")
    if n_ctx is not None and tokens.shape[1] > n_ctx:
        raise InterpError(f"sequences of {tokens.shape[1]} tokens are longer than the model's context of {n_ctx}")


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of the model's weights; a store is resumed only with the same model."""
    state = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}
    return digest(*(part for name, x in state.items() for part in (f"{name}{tuple(x.shape)}{x.dtype}", x)))
