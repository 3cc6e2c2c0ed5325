"""Latents of a transformer trained on a text with known factors, judged by those factors, for any such text.

    found = learned_latents(text, folder, seed, sizes)                 name → latents
    table = judge_learned(found, text, sizes)                          as `judge_latents`, with the column `basis`

The truth of a latent is the share of its mass that lies where each factor of the text holds (`Truth.attribute`). The
ranking never saw it. It is claimed only if two readings of it agree. The dictionary and the neurons are compared with
these nulls:

    frozen decoder      a dictionary of the same size whose decoder stays as it was drawn
    shifted text        the dictionary's codes, shifted by half of the text
    untrained           a dictionary of the same transformer before training;  untrained neurons: its neurons
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.scorecard.factors import FactorText
from analyses.scorecard.judged import Basis, judge_latents
from analyses.scorecard.rivals import residual_vectors
from analyses.scorecard.truth import Truth
from interp.activations import ActivationStore
from interp.activations.harvesting import harvest
from interp.codes.sparse_codes import SparseCodes
from interp.sae import SAE, TopKConfig, train_sae, train_sweep
from models.training import train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig

HOOK, NEURONS = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
TRAINED = ("dictionary", "neurons")


class Sizes(NamedTuple):
    n_seq: int = 3072
    judged: int = 1024
    """Sequences that latents are judged on, the first ones."""
    n_ctx: int = 128
    d_sae: int = 256
    d_mlp: int = 128
    model_tokens: int = 500_000
    sae_tokens: int = 300_000
    d_model: int = 64


QUICK = Sizes(320, 192, 64, 32, 32, 10_000, 10_000)


def learned_latents(text: FactorText, folder: Path, seed: int, sizes: Sizes) -> dict[str, Basis]:
    """Return the dictionary and the neurons of a one-layer transformer trained on the text, with what the rivals of the
    verdict need, and the nulls. Codes are those of the first `sizes.judged` sequences; the model and the dictionaries
    stay in the folder, under `sae` and names that begin with it."""
    tokens = torch.from_numpy(text.tokens)
    shape = {"n_ctx": sizes.n_ctx, "d_model": sizes.d_model, "n_heads": 4, "d_mlp": sizes.d_mlp}
    config = TransformerConfig.preset("one-layer", d_vocab=len(text.vocab), **shape, seed=seed)
    steps = TrainingConfig(tokens=sizes.model_tokens, n_samples=0, seed=seed)
    held_out = sizes.judged // 8
    train_model(Transformer(config), tokens[held_out:], tokens[:held_out], steps, folder / "model")
    model = Transformer.load(folder / "model")
    bases = _latents(model, tokens, folder / "sae", sizes, rivals=True)
    bases |= {name: bases[name]._replace(W_U=model.W_U) for name in TRAINED}
    untrained = _latents(Transformer(config), tokens, folder / "saeuntrained", sizes, rivals=False)
    return bases | {"untrained": untrained["dictionary"], "untrained neurons": untrained["neurons"]}


def judge_learned(bases: Mapping[str, Basis], text: FactorText, sizes: Sizes, **columns: Any) -> pd.DataFrame:
    """Judge all latents of the bases, one row each; `basis` is the name of theirs, `columns` are further ones."""
    tokens = torch.from_numpy(text.tokens)[: sizes.judged]
    factors = [replace(f, rows=f.rows[f.rows < tokens.numel()]) for f in text.factors]
    factors = [factor for factor in factors if len(factor.rows)]
    parts = []
    for name, basis in bases.items():
        truth = Truth.attribute(basis.codes, factors)
        parts.append(judge_latents(tokens, basis, text.vocab, factors, truth, **columns, basis=name))
    return pd.concat(parts)


def _latents(model: Transformer, tokens: Tensor, folder: Path, sizes: Sizes, *, rivals: bool) -> dict[str, Basis]:
    """Return a dictionary learnt on the residual stream, and the neurons; with `rivals` all that the model's own
    need."""
    store = harvest(model, tokens, [HOOK], folder.with_name(folder.name + "-store"))
    config = TopKConfig(d_sae=sizes.d_sae, k=8, tokens=sizes.sae_tokens)
    sae = train_sae(store, HOOK, config, out=folder)
    judged = tokens[: sizes.judged]
    fired = (acts[NEURONS].clamp_min(0) for acts in _activations(model, judged))
    neurons = SparseCodes.cat([SparseCodes.from_dense(acts) for acts in fired])
    bases = {
        "dictionary": _basis(sae, model, judged),
        "neurons": Basis(neurons, model.get_parameter("blocks.0.mlp.W_out").detach()),
    }
    if rivals:
        others = [replace(config, seed=1, freeze=part) for part in ("nothing", "decoder")]
        twin, frozen = train_sweep(store, HOOK, others, out=folder.with_name(folder.name + "-others"))
        bases = _with_rivals(bases, _basis(twin, model, judged), _basis(frozen, model, judged), store)
    return bases


def _with_rivals(bases: Mapping[str, Basis], twin: Basis, frozen: Basis, store: ActivationStore) -> dict[str, Basis]:
    embeddings, codes = residual_vectors(store, HOOK), bases["dictionary"].codes
    half = len(codes) // 2 + 17  # not a multiple of n_ctx: what fires by position alone has no meaning either
    shifted = SparseCodes.cat([codes[half : len(codes)], codes[:half]])
    return {
        "dictionary": bases["dictionary"]._replace(twin=twin, embeddings=embeddings),
        "neurons": bases["neurons"]._replace(embeddings=embeddings),
        "frozen decoder": frozen,
        "shifted text": Basis(shifted),
    }


@torch.no_grad()
def _basis(sae: SAE, model: Transformer, tokens: Tensor) -> Basis:
    codes = SparseCodes.cat([sae.codes(acts[HOOK]) for acts in _activations(model, tokens)])
    return Basis(codes, sae.W_dec.detach())


@torch.no_grad()
def _activations(model: Transformer, tokens: Tensor) -> Iterator[dict[str, Float[Tensor, "row d"]]]:
    for batch in tokens.split(64):
        _, cache = model.run_with_cache(batch, names_filter=[HOOK, NEURONS])
        yield {name: cache[name].flatten(0, 1).float() for name in (HOOK, NEURONS)}
