"""Which features of an earlier layer make one of a later layer fire? Edges between two dictionaries, prompt by prompt.

In:  a model, (hook, dictionary) of an earlier and of a later hook, prompts (texts, or ids) and a position of each. The
     targets are the later latents j that fire most strongly at the position; r_j = x · W_enc[:, j] is what they read.
Out: for each earlier latent i that fires at or before the position, summed over the positions where it does,

    attribution_ij = Σ z_i d_i · ∂r_j / ∂x        what r_j owes to i, to first order
    ablation_ij    = r_j − r_j without z_i d_i    the same by running the model again

The rest of x is kept, the dictionary's error too. Transcoders are read at one hook and changed at the other. Special
tokens, tokens that the earlier dictionary was not taught and rows above its norm limit have no edges.

Source: attribution between features, Marks et al. 2024 (arXiv 2403.19647), Ge et al. 2024 (arXiv 2405.13868). Cost: a
backward pass a target; for ablations a pass up to the later hook for each latent of a prompt.
Limits: paths through attention count with its pattern as it is only to first order. What reaches the target by a later
latent that stopped firing is in neither: r_j is read before the later dictionary picks. Matching pursuit, and codes
that are refined, read what their other latents leave of x, and r_j is not that. The part that goes through the error
has no edge.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, Model, capture, evaluating, module_of, to_model
from interp.activations.model_passes import check_model_takes
from interp.activations.next_tokens import check_predicts_next
from interp.codes.sparse_codes import Dictionary
from interp.effects.interventions import is_taught
from interp.evaluation.dictionary_hooks import dictionary_hooks
from interp.features.text_features import tokens_of
from interp.runtime.progress import Progress, no_progress

_ROWS_AT_ONCE = 1 << 13
HookedDictionary = tuple[str, Dictionary]
"""The name of a hook, and a dictionary of it."""


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
    """Measure which earlier latents make the strongest later ones fire. Returns a row per edge: prompt, position,
    upstream, downstream (latents), activation (of the target), attribution, ablation (NaN without `ablate`), both in
    the unit of the target's activations.

    prompts: a text is read after the token that opens a sequence (`features.text_features.tokens_of`). positions: the
    last of each, where none are given.

    Raises ValueError as `dictionary_hooks`, for a later dictionary without W_enc, for positions outside, where the
    later hook does not depend on the earlier one, and for texts of different lengths where a model reads both ways.
    """
    module = module_of(model)
    tokens, last = _read(model, prompts)
    n, n_pos = tokens.shape
    up, down = dictionary_hooks(model, *upstream), dictionary_hooks(model, *downstream)
    if up.writes == down.reads:
        raise ValueError(f"{upstream[0]} is where both dictionaries are: name a later hook for the second")
    W_enc = encoder_of(*downstream).detach()
    at = last if positions is None else positions.long()
    if len(at) != n or targets < 1 or not 0 <= int(at.min()) <= int(at.max()) < n_pos:
        raise ValueError(f"positions {at.tolist()[:8]} must be one of 0..{n_pos - 1} a prompt, targets={targets} ≥ 1")
    with evaluating(module):
        read = capture(module, tokens, {"down": down.reads})["down"].flatten(2)[torch.arange(n), at].to(W_enc)
        z, latents = downstream[1].codes(read).dense().topk(min(targets, W_enc.shape[1]), dim=1)  # [prompt, target]
        directions = W_enc.T[latents]  # [prompt, target, d]
        clean = torch.einsum("pd,ptd->pt", read, directions)

        # What each pair of a prompt and an earlier latent writes, firing by firing.
        codes, usable = up.codes(upstream[1], capture(module, tokens, {"up": up.reads})["up"])
        usable = usable & is_taught(tokens, module, upstream[1]).flatten().to(usable.device)
        rows = codes.rows
        keep = codes.fires & (rows % n_pos <= at.to(rows.device)[rows // n_pos]) & usable.to(rows.device)[rows]
        rows, fired = rows[keep], codes.latents[keep].long()
        writes = codes.values[keep][:, None] * upstream[1].W_dec.detach()[fired]
        pairs, pair = torch.unique(rows // n_pos * upstream[1].d_sae + fired, return_inverse=True)
        prompt = pairs // upstream[1].d_sae

        later = partial(_later, module, up.writes, down.reads)
        with torch.enable_grad():
            share = writes.new_zeros(len(pairs), requires_grad=True)  # of what each pair writes, beyond what it does
            change = writes.new_zeros(n * n_pos, writes.shape[1]).index_add(0, rows, share[pair, None] * writes)
            moved = later(tokens, at, change.view(n, n_pos, -1)).to(W_enc)
            of_targets = torch.einsum("pd,ptd->tp", moved, directions).sum(1)
            gradients: Any = [
                torch.autograd.grad(each, share, retain_graph=True, allow_unused=True)[0] for each in of_targets
            ]
        if gradients[0] is None:
            raise ValueError("the later hook does not depend on the earlier one: name the earlier one first")

        ablated = torch.full((len(pairs), len(gradients)), torch.nan)
        n_at_once = max(1, _ROWS_AT_ONCE // n_pos)
        for start in range(0, len(pairs) if ablate else 0, n_at_once):
            part = slice(start, min(start + n_at_once, len(pairs)))
            inside = (pair >= part.start) & (pair < part.stop)
            without = writes.new_zeros(part.stop - part.start, n_pos, writes.shape[1])
            without[pair[inside] - start, rows[inside] % n_pos] = -writes[inside]
            left = later(tokens[prompt[part]], at[prompt[part]], without).to(W_enc)
            left = torch.einsum("pd,ptd->pt", left, directions[prompt[part]])
            ablated[part] = (clean[prompt[part]] - left).float()
            progress(part.stop, len(pairs), "ablations of a latent in a prompt")

    columns = {
        "prompt": prompt[:, None],
        "position": at[prompt, None],
        "upstream": pairs[:, None] % upstream[1].d_sae,
        "downstream": latents[prompt],
        "activation": z[prompt],
        "attribution": torch.stack(gradients, 1),
        "ablation": ablated,
    }
    table = pd.DataFrame({name: of.expand(ablated.shape).flatten().numpy(force=True) for name, of in columns.items()})
    return table[table["activation"] > 0].sort_values(["prompt", "downstream", "upstream"], ignore_index=True)


def encoder_of(hook: str, dictionary: Dictionary) -> Float[Tensor, "d_in d_sae"]:
    """Return the encoder of a dictionary. Raises ValueError where it has none."""
    W_enc = getattr(dictionary, "W_enc", None)
    if W_enc is None:
        raise ValueError(f"the dictionary at {hook} has no W_enc, and what its latents read is not known")
    return W_enc


def _later(
    module: nn.Module,
    writes: Hook,
    reads: Hook,
    tokens: Int[Tensor, "prompt pos"],
    at: Int[Tensor, " prompt"],
    change: Float[Tensor, "prompt pos d_out"],
) -> Float[Tensor, "prompt d"]:
    """Return what goes through the later hook at each prompt's position, with a change at the earlier one."""
    with writes.attach(lambda acts: acts + change.view(acts.shape).to(acts.dtype)):
        acts = capture(module, tokens, {"down": reads})["down"]
    return acts.flatten(2)[torch.arange(len(tokens)), at]


def _read(
    model: Model, prompts: str | Sequence[str] | Tensor
) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
    """Return the prompts as rows, and where each ends: after a shorter text its last token is repeated, which no
    earlier position sees."""
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
