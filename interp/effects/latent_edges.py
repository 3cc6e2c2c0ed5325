"""Measure which features of an earlier layer make a feature of a later layer fire. These are edges between two
dictionaries, on given prompts.

In: a model, (hook, dictionary) of an earlier and of a later hook, prompts (texts, or ids), and a position in each. The
     targets are the later latents j that fire most strongly at the position; r_j = x · W_enc[:, j] is their input.
Out: for each earlier latent i that fires at or before the position, summed over the positions where it does,

    attribution_ij = Σ z_i d_i · ∂r_j / ∂x        the contribution of i to r_j, to first order
    ablation_ij    = r_j − r_j without z_i d_i    the same by running the model again

The rest of x is kept, including the dictionary's error. Transcoders are read at one hook and changed at the other.
Special tokens, tokens excluded from the earlier dictionary's training and rows above its norm limit have no edges.

Sources: Marks et al. 2024 (arXiv 2403.19647) and Ge et al. 2024 (arXiv 2405.13868) for attribution between features.
Cost: a backward pass per target. Ablations take a pass up to the later hook per latent and prompt. Limits: changes of
the attention pattern count only to first order. Neither number has the effect of a later latent that stops firing, as
r_j is read before the later dictionary picks. Matching pursuit, and refined codes, read the residual of their other
latents instead of r_j. The part that goes through the error has no edge.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, Model, capture, evaluating, module_of, to_model
from interp.activations.model_passes import check_model_takes
from interp.activations.next_tokens import check_predicts_next
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary, encoder_of
from interp.codes.dictionary_hooks import DictionaryHooks, dictionary_hooks
from interp.features.text_features import tokens_of
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress

_ROWS_AT_ONCE = 1 << 13
HookedDictionary = tuple[str, Dictionary]
"""The name of a hook, and a dictionary for it."""


@shows_progress
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
    """Measure the effect of earlier latents on the strongest later latents. Returns a row per edge: prompt, position,
    upstream and downstream (latents), activation (of the target), attribution, and ablation (NaN without `ablate`). The
    last two are in the unit of the target's activations.

    prompts: a text is read after the token that opens a sequence (`features.text_features.tokens_of`).
    positions: by default the last of each prompt.

    Raises ValueError as `dictionary_hooks` does, for a later dictionary without W_enc, without a prompt, for positions
    out of range, if the later hook does not depend on the earlier one, and for texts of different lengths if the model
    is bidirectional.
    """
    module = module_of(model)
    tokens, last = _tokenize_prompts(model, prompts)
    n_prompts, n_pos = tokens.shape
    earlier, later = dictionary_hooks(model, *upstream), dictionary_hooks(model, *downstream)
    if earlier.output_hook == later.input_hook:
        raise InterpError(f"{upstream[0]} is where both dictionaries are: name a later hook for the second")
    W_enc = encoder_of(*downstream).detach()
    at = last if positions is None else positions.long().cpu()
    if len(at) != n_prompts or targets < 1 or not bool(((at >= 0) & (at <= last)).all()):
        raise InterpError(
            f"positions {at.tolist()[:8]} must be one a prompt, of 0..{last.tolist()[:8]}, and targets={targets} ≥ 1"
        )
    at = at.to(tokens.device)
    with evaluating(module):
        read = capture(module, tokens, {"later": later.input_hook})["later"].flatten(2)[torch.arange(n_prompts), at]
        read = read.to(W_enc)
        z, latents = downstream[1].codes(read).dense().topk(min(targets, W_enc.shape[1]), dim=1)  # [prompt, target]
        passes = _Passes(module, tokens, at, earlier.output_hook, later.input_hook, W_enc.T[latents])
        firings = _earlier_firings(module, tokens, at, earlier, upstream[1])
        attributions = _attributions(passes, firings)
        ablations = torch.full_like(attributions, torch.nan)
        if ablate:
            ablations = _ablations(passes, firings, passes.of_targets(read, slice(None)), progress)
    columns = {
        "prompt": firings.prompt[:, None],
        "position": at[firings.prompt, None],
        "upstream": firings.latent[:, None],
        "downstream": latents[firings.prompt],
        "activation": z[firings.prompt],
        "attribution": attributions,
        "ablation": ablations.float(),
    }
    shape = attributions.shape
    table = pd.DataFrame({name: column.expand(shape).flatten().numpy(force=True) for name, column in columns.items()})
    return table[table["activation"] > 0].sort_values(["prompt", "downstream", "upstream"], ignore_index=True)


class _Firings(NamedTuple):
    """The firings of earlier latents. A pair is a prompt and an earlier latent that fires in it."""

    rows: Int[Tensor, " firing"]
    """prompt * n_pos + position"""
    pair: Int[Tensor, " firing"]
    writes: Float[Tensor, "firing d_out"]
    """z_i d_i"""
    prompt: Int[Tensor, " pair"]
    latent: Int[Tensor, " pair"]


def _earlier_firings(
    module: nn.Module,
    tokens: Int[Tensor, "prompt pos"],
    at: Int[Tensor, " prompt"],
    hooks: DictionaryHooks,
    dictionary: Dictionary,
) -> _Firings:
    """Find the firings at or before each prompt's position, on tokens that were included in the dictionary's
    training."""
    n_pos = tokens.shape[1]
    codes, counted = hooks.codes_of_text(module, dictionary, tokens)
    rows = codes.rows
    is_before = rows % n_pos <= at.to(rows.device)[rows // n_pos]
    is_source = codes.fires & is_before & counted.to(rows.device)[rows]
    rows = rows[is_source]
    latents = codes.latents[is_source].long()
    writes = codes.values[is_source][:, None] * dictionary.W_dec.detach()[latents]
    pairs, pair = torch.unique(rows // n_pos * dictionary.d_sae + latents, return_inverse=True)
    return _Firings(rows, pair, writes, prompt=pairs // dictionary.d_sae, latent=pairs % dictionary.d_sae)


class _Passes(NamedTuple):
    """The model from the earlier hook to the inputs of each prompt's targets at its position."""

    module: nn.Module
    tokens: Int[Tensor, "prompt pos"]
    at: Int[Tensor, " prompt"]
    output_hook: Hook
    input_hook: Hook
    directions: Float[Tensor, "prompt target d"]
    """W_enc[:, j] of each target."""

    def of_targets(
        self, acts: Float[Tensor, "some d"], prompts: slice | Int[Tensor, " some"]
    ) -> Float[Tensor, "some target"]:
        """Return, for some prompts, the inputs of the targets, given these activations."""
        return torch.einsum("pd,ptd->pt", acts.to(self.directions), self.directions[prompts])

    def inputs_after(
        self, change: Float[Tensor, "some pos d_out"], prompts: slice | Int[Tensor, " some"]
    ) -> Float[Tensor, "some target"]:
        """Return, for some prompts, the inputs of the targets if a change is added at the earlier hook."""
        with self.output_hook.attach(lambda acts: acts + change.view(acts.shape).to(acts.dtype)):
            acts = capture(self.module, self.tokens[prompts], {"later": self.input_hook})["later"]
        return self.of_targets(acts.flatten(2)[torch.arange(len(acts)), self.at[prompts]], prompts)


def _attributions(passes: _Passes, firings: _Firings) -> Float[Tensor, "pair target"]:
    """Attribute the targets' inputs to each pair, to first order: the derivative with respect to a scale of the pair's
    output."""
    n_prompts, n_pos = passes.tokens.shape
    writes = firings.writes
    with torch.enable_grad():
        share = writes.new_zeros(len(firings.prompt), requires_grad=True)
        change = writes.new_zeros(n_prompts * n_pos, writes.shape[1])
        change = change.index_add(0, firings.rows, share[firings.pair, None] * writes)
        read = passes.inputs_after(change.view(n_prompts, n_pos, -1), slice(None))
        gradients: Any = [
            torch.autograd.grad(total, share, retain_graph=True, allow_unused=True)[0] for total in read.sum(0)
        ]
    if gradients[0] is None:
        raise InterpError("the later hook does not depend on the earlier one: name the earlier one first")
    return torch.stack(gradients, 1)


def _ablations(
    passes: _Passes, firings: _Firings, clean: Float[Tensor, "prompt target"], progress: Progress
) -> Float[Tensor, "pair target"]:
    """Measure the decrease of the targets' inputs in a pass without each pair's output."""
    n_pairs = len(firings.prompt)
    n_pos = passes.tokens.shape[1]
    n_at_once = max(1, _ROWS_AT_ONCE // n_pos)
    ablations = []
    for start in range(0, n_pairs, n_at_once):
        stop = min(start + n_at_once, n_pairs)
        prompts = firings.prompt[start:stop]
        inside = (firings.pair >= start) & (firings.pair < stop)
        change = firings.writes.new_zeros(stop - start, n_pos, firings.writes.shape[1])
        change[firings.pair[inside] - start, firings.rows[inside] % n_pos] = -firings.writes[inside]
        ablations.append(clean[prompts] - passes.inputs_after(change, prompts))
        progress(stop, n_pairs, "ablations of a latent in a prompt")
    return torch.cat(ablations) if ablations else clean.new_zeros(0, clean.shape[1])


def _tokenize_prompts(
    model: Model, prompts: str | Sequence[str] | Tensor
) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
    """Return the prompts as rows, and the last position of each. A shorter text is padded with its last token, which no
    earlier position sees."""
    is_one = isinstance(prompts, str) or (isinstance(prompts, Tensor) and prompts.ndim == 1)
    several: Any = [prompts] if is_one else prompts
    rows = [tokens_of(model, prompt) for prompt in several]
    if not rows:
        raise InterpError("there are no prompts: give at least one")
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    tokens = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
    check_model_takes(module_of(model), tokens)
    if not bool((lengths == longest).all()):
        check_predicts_next(model, tokens)
    return to_model(module_of(model), tokens), lengths - 1
