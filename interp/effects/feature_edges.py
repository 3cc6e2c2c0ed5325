"""Which features of an earlier layer make one of a later layer fire? Edges between two dictionaries, prompt by prompt.

In:  a model, (hook, dictionary) of an earlier and of a later hook, prompts (texts, or ids) and a position of each. The
     targets are the later latents j that fire most strongly at the position; r_j = x · W_enc[:, j] is what they read.
Out: for each earlier latent i that fires at or before the position, summed over the positions where it does,

    attribution_ij = Σ z_i d_i · ∂r_j / ∂x        what r_j owes to i, to first order
    ablation_ij    = r_j − r_j without z_i d_i    the same by running the model again

The rest of x is kept, the dictionary's error too. Transcoders are read at one hook and changed at the other. Of special
tokens, tokens that the earlier dictionary was not taught and rows above its norm limit there is no edge.

Source: attribution between features, Marks et al. 2024 (arXiv 2403.19647), Ge et al. 2024 (arXiv 2405.13868). Cost: a
backward pass a target; for ablations a pass up to the later hook for each latent of a prompt.
Failing: paths through attention count with its pattern as it is only to first order. What reaches the target by a later
latent that stopped firing is in neither: r_j is read before the later dictionary picks. Matching pursuit, and codes
that are refined, read what their other latents leave of x, and r_j is not that. What the error hands on has no edge.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, Model, capture, evaluating, module_of, to_model
from interp.activations.model_passes import check_model_takes
from interp.activations.next_tokens import check_predicts_next
from interp.codes.sparse_codes import Dictionary, SparseCodes
from interp.effects.interventions import is_taught
from interp.evaluation.dictionary_hooks import dictionary_hooks
from interp.features.text_features import tokens_of
from interp.runtime.progress import Progress, no_progress

_ROWS_AT_ONCE = 1 << 13
HookedDictionary = tuple[str, Dictionary]
"""The name of a hook, and a dictionary of it."""


class _Firing(NamedTuple):
    """The firings of the earlier latents, at or before each prompt's position."""

    pair: Int[Tensor, " firing"]
    """The number of the firing's pair of prompt and latent."""
    row: Int[Tensor, " firing"]
    """The row of the firing, prompt · pos + position."""
    change: Float[Tensor, "firing d_out"]
    """The change of the activations, −z d."""


def feature_edges(
    model: Model,
    prompts: str | Sequence[str] | Int[Tensor, "*prompt pos"],
    upstream: HookedDictionary,
    downstream: HookedDictionary,
    *,
    positions: Int[Tensor, " prompt"] | None = None,
    targets: int = 4,
    ablate: bool = True,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """A row an edge: prompt, position, upstream, downstream (latents), activation (of the target), attribution,
    ablation (NaN without `ablate`), both in the unit of the target's activations. prompts: a text is read after the
    token that opens a sequence (`features.text_features.tokens_of`). positions: the last of each, where none are given.

    Raises ValueError as `dictionary_hooks`, for a later dictionary without W_enc, for positions outside, where the
    later hook does not depend on the earlier one, and for texts of unlike lengths where a model reads both ways.
    """
    module = module_of(model)
    tokens, last = _read(model, prompts)
    up, down = dictionary_hooks(model, *upstream), dictionary_hooks(model, *downstream)
    if up.writes == down.reads:
        raise ValueError(f"{upstream[0]} is where both dictionaries are: name a later hook for the second")
    W_enc = encoder_of(*downstream)
    read_at = _checked(last if positions is None else positions.long(), tokens, targets)
    with evaluating(module):
        later = capture(module, tokens, {"down": down.reads})["down"].flatten(2)[torch.arange(len(read_at)), read_at]
        chosen = _strongest(downstream[1].codes(later.to(W_enc)), targets)
        codes, usable = up.codes(upstream[1], capture(module, tokens, {"up": up.reads})["up"])
        usable = usable & is_taught(tokens, module, upstream[1]).flatten().to(usable.device)
        pairs, firing = _firings(codes, usable, upstream[1], read_at, tokens.shape[1])
        read = _Reading(module, up.writes, down.reads, W_enc.detach())
        by_target = [read.gradient(tokens, read_at, latents, firing, len(pairs)) for latents, _ in chosen]
        prompt = pairs // upstream[1].d_sae
        clean = torch.stack([(later.to(W_enc) * W_enc.T[latents]).sum(1) for latents, _ in chosen], 1)
        ablated = torch.full((len(pairs), len(chosen)), torch.nan)
        if ablate:
            target_latents = torch.stack([latents for latents, _ in chosen], 1)
            for part, left in read.ablations(tokens, read_at, target_latents, prompt, firing):
                ablated[part] = (clean[prompt[part]] - left).float()
                progress(part.stop, len(pairs), "ablations of a latent in a prompt")
    edges = {"prompt": prompt, "position": read_at[prompt], "upstream": pairs % upstream[1].d_sae}
    return _table(edges, chosen, by_target, ablated)


def _table(
    edges: dict[str, Tensor], chosen: list[tuple[Tensor, Tensor]], by_target: list[Tensor], ablated: Tensor
) -> pd.DataFrame:
    prompt = edges["prompt"]
    targets = [
        {"downstream": latents[prompt], "activation": z[prompt], "attribution": owed, "ablation": ablated[:, k]}
        for k, ((latents, z), owed) in enumerate(zip(chosen, by_target, strict=True))
    ]
    parts = [{name: value.numpy(force=True) for name, value in (edges | target).items()} for target in targets]
    table = pd.concat(map(pd.DataFrame, parts), ignore_index=True)
    return table[table["activation"] > 0].sort_values(["prompt", "downstream", "upstream"], ignore_index=True)


def encoder_of(hook: str, dictionary: Dictionary) -> Float[Tensor, "d_in d_sae"]:
    W_enc = getattr(dictionary, "W_enc", None)
    if W_enc is None:
        raise ValueError(f"the dictionary at {hook} has no W_enc, and what its latents read is not known")
    return W_enc


class _Reading:
    """The reading of later latents, as a function of a change at the earlier hook."""

    def __init__(self, module: nn.Module, writes: Hook, reads: Hook, W_enc: Float[Tensor, "d_in d_sae"]):
        self.module, self.writes, self.reads, self.W_enc = module, writes, reads, W_enc

    def later(
        self, tokens: Tensor, read_at: Tensor, change: Float[Tensor, "prompt pos d_out"]
    ) -> Float[Tensor, "prompt d"]:
        with self.writes.attach(lambda acts: acts + change.view(acts.shape).to(acts.dtype)):
            acts = capture(self.module, tokens, {"down": self.reads})["down"]
        return acts.flatten(2)[torch.arange(len(tokens)), read_at].to(self.W_enc)

    def gradient(
        self, tokens: Tensor, read_at: Tensor, latents: Int[Tensor, " prompt"], firing: _Firing, n_pairs: int
    ) -> Float[Tensor, " pair"]:
        """The attributions of one target a prompt."""
        with torch.enable_grad():
            change = firing.change.new_zeros(*tokens.shape, firing.change.shape[1], requires_grad=True)
            reading = (self.later(tokens, read_at, change) * self.W_enc.T[latents]).sum()
            (gradient,) = torch.autograd.grad(reading, change, allow_unused=True)
        if gradient is None:
            raise ValueError("the later hook does not depend on the earlier one: name the earlier one first")
        owed = -(firing.change * gradient.flatten(0, 1)[firing.row]).sum(1)
        return owed.new_zeros(n_pairs).index_add_(0, firing.pair, owed)

    def ablations(
        self,
        tokens: Tensor,
        read_at: Tensor,
        target_latents: Int[Tensor, "prompt target"],
        prompt: Tensor,
        firing: _Firing,
    ) -> Iterator[tuple[slice, Float[Tensor, "pair target"]]]:
        """The readings of the targets without a latent, some pairs at a time."""
        pos = tokens.shape[1]
        n = max(1, _ROWS_AT_ONCE // tokens.shape[1])
        for start in range(0, len(prompt), n):
            part = slice(start, min(start + n, len(prompt)))
            inside = (firing.pair >= part.start) & (firing.pair < part.stop)
            change = firing.change.new_zeros(part.stop - part.start, pos, firing.change.shape[1])
            change[firing.pair[inside] - start, firing.row[inside] % pos] = firing.change[inside]
            later = self.later(tokens[prompt[part]], read_at[prompt[part]], change)
            yield part, torch.einsum("pd,ptd->pt", later, self.W_enc.T[target_latents[prompt[part]]])


def _read(
    model: Model, prompts: str | Sequence[str] | Tensor
) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
    """The prompts as rows, and where each ends: after a shorter text its last token is repeated, which no earlier
    position sees."""
    is_one = isinstance(prompts, str) or (isinstance(prompts, Tensor) and prompts.ndim == 1)
    several: Any = [prompts] if is_one else prompts
    rows = [tokens_of(model, prompt) for prompt in several]
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    tokens = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
    check_model_takes(module_of(model), tokens)
    if not bool((lengths == longest).all()):
        check_predicts_next(model, tokens)
    return to_model(module_of(model), tokens), lengths - 1


def _checked(
    read_at: Int[Tensor, " prompt"], tokens: Int[Tensor, "prompt pos"], targets: int
) -> Int[Tensor, " prompt"]:
    n, pos = tokens.shape
    if len(read_at) != n or targets < 1 or not 0 <= int(read_at.min()) <= int(read_at.max()) < pos:
        raise ValueError(
            f"positions {read_at.tolist()[:8]} must be one of 0..{pos - 1} a prompt, targets={targets} ≥ 1"
        )
    return read_at


def _strongest(codes: SparseCodes, n: int) -> list[tuple[Int[Tensor, " prompt"], Float[Tensor, " prompt"]]]:
    """The n strongest latents of each row, and how strongly they fire: 0 where fewer do."""
    z, latents = codes.dense().topk(min(n, codes.d_sae), dim=1)
    return list(zip(latents.unbind(1), z.unbind(1), strict=True))


def _firings(
    codes: SparseCodes, usable: Tensor, dictionary: Dictionary, read_at: Int[Tensor, " prompt"], pos: int
) -> tuple[Int[Tensor, " pair"], _Firing]:
    """The pairs, prompt · d_sae + latent, and their firings."""
    rows = codes.rows
    latents = codes.latents.long()
    keep = codes.fires & (rows % pos <= read_at.to(rows.device)[rows // pos]) & usable.to(rows.device)[rows]
    rows = rows[keep]
    latents = latents[keep]
    z = codes.values[keep]
    pairs, pair = torch.unique(rows // pos * dictionary.d_sae + latents, return_inverse=True)
    return pairs, _Firing(pair, rows, -z[:, None] * dictionary.W_dec.detach()[latents])
