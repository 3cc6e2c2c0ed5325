"""World B of the scorecard: latents and neurons of transformers trained on planted text, and of their nulls.

The truth of a latent is the share of its mass that lies where each factor of the text holds (`Truth.attribute`), which
the ranking never saw, and is claimed where two readings of it agree. Beside the dictionary and the neurons stand, as
nulls,

    frozen decoder      a dictionary of the same size whose decoder stays as it was drawn
    shifted text        the dictionary's codes, laid on the text that stands half the text further on
    untrained           a dictionary of the same transformer before training;  untrained neurons: its neurons
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp import Run, TopKConfig, harvest, load_sae, train_sae
from interp.activations import ActivationStore
from interp.benchmark.factors import Factor
from interp.benchmark.judged import Basis, judge_latents
from interp.benchmark.planted_texts import FAMILIES
from interp.benchmark.rivals import residual_vectors
from interp.benchmark.truth import Truth
from interp.codes import SparseCodes
from interp.monosemanticity.calibration import Calibration
from interp.sae import SAE
from models.training import TrainingConfig, train_model
from models.transformer import Transformer, TransformerConfig

TRAINED = ("dictionary", "neurons")
HOOK, NEURONS = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
MIN_TOKENS = 200
"""A token of the labelled corpus is a factor if it is there so often."""


class Sizes(NamedTuple):
    n_seq: int = 3072
    judged: int = 1024
    """Sequences that latents are judged on, the first ones."""
    n_ctx: int = 128
    d_sae: int = 256
    d_mlp: int = 128
    model_tokens: int = 500_000
    sae_tokens: int = 300_000


QUICK = Sizes(320, 192, 64, 32, 32, 20_000, 20_000)


def learned_world(
    folder: Path, family: str, seed: int, sizes: Sizes, calibration: Calibration | None = None
) -> pd.DataFrame:
    """Latents and neurons of a transformer trained on a family's text; with a calibration the nulls' too."""
    text = FAMILIES[family](np.random.default_rng([seed, 77]), sizes.n_seq, sizes.n_ctx, 40, 0.0)
    tokens = torch.from_numpy(text.tokens)
    config = TransformerConfig.preset(
        "one-layer", d_vocab=len(text.vocab), n_ctx=sizes.n_ctx, d_model=64, n_heads=4, d_mlp=sizes.d_mlp, seed=seed
    )
    steps = TrainingConfig(tokens=sizes.model_tokens, n_samples=0, seed=seed)
    train_model(Transformer(config), tokens[sizes.judged // 8 :], tokens[: sizes.judged // 8], steps, folder)
    factors = [Factor(f.name, f.tags, f.rows[f.rows < sizes.judged * sizes.n_ctx]) for f in text.factors]
    factors = [factor for factor in factors if len(factor.rows)]
    model = Transformer.load(folder)
    found = _latents(model, tokens, folder / "sae", sizes, nulls=calibration is not None)
    if calibration is not None:
        untrained = _latents(Transformer(config), tokens, folder / "saeuntrained", sizes, nulls=False)
        found |= {"untrained": untrained["dictionary"], "untrained neurons": untrained["neurons"]}
    parts = []
    for name, basis in found.items():
        truth = Truth.attribute(basis.codes, factors)
        about: dict[str, Any] = {"family": family, "world": f"{family}-{seed}", "basis": name}
        if name in TRAINED:
            basis = basis._replace(W_U=model.W_U)
        table = judge_latents(tokens[: sizes.judged], basis, text.vocab, factors, truth, calibration, **about)
        if calibration is not None and name == "dictionary":
            sae = load_sae(folder / "sae")
            cosine = torch.nn.functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1)
            table["enc_dec_cosine"] = cosine.detach().numpy()
        parts.append(table)
    return pd.concat(parts)


def _latents(model: Transformer, tokens: Tensor, folder: Path, sizes: Sizes, *, nulls: bool) -> dict[str, Basis]:
    """A dictionary learnt on the residual stream, and the neurons; with `nulls` all that the model's own need."""
    store = harvest(model, tokens, [HOOK], folder.with_name(folder.name + "-store"))
    config = TopKConfig(d_sae=sizes.d_sae, k=8, tokens=sizes.sae_tokens)
    sae = train_sae(store, HOOK, config, out=folder)
    judged = tokens[: sizes.judged]
    neurons = SparseCodes.cat(
        [SparseCodes.from_dense(acts[NEURONS].clamp_min(0)) for acts in _activations(model, judged)]
    )
    found = {"dictionary": _basis(sae, model, judged), "neurons": Basis(neurons, model.blocks[0].mlp.W_out.detach())}
    if nulls:
        others = [
            TopKConfig(d_sae=sizes.d_sae, k=8, tokens=sizes.sae_tokens, seed=1, freeze=part)
            for part in ("nothing", "decoder")
        ]
        twin, frozen = train_sae(store, HOOK, others, out=folder.with_name(folder.name + "-others"))
        found = _with_nulls(found, _basis(twin, model, judged), _basis(frozen, model, judged), store)
    return found


def _with_nulls(found: Mapping[str, Basis], twin: Basis, frozen: Basis, store: ActivationStore) -> dict[str, Basis]:
    embeddings, codes = residual_vectors(store, HOOK), found["dictionary"].codes
    half = len(codes) // 2 + 17  # not a multiple of n_ctx: what fires by position alone has no meaning either
    shifted = SparseCodes.cat([codes[half : len(codes)], codes[:half]])
    return {
        "dictionary": found["dictionary"]._replace(twin=twin, embeddings=embeddings),
        "neurons": found["neurons"]._replace(embeddings=embeddings),
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


def run_world(path: Path, calibration: Calibration) -> pd.DataFrame:
    """Latents and neurons of a run, by the labels of its corpus and by token, neither of which the ranking sees."""
    run = Run(path)
    tokens, labels = run.features.tokens, run.harvested.labels
    factors = [
        Factor(f"label {name}", frozenset({name}), torch.as_tensor(mask).reshape(-1).nonzero()[:, 0].numpy())
        for name, mask in labels.items()
    ]
    flat = tokens.numpy().reshape(-1)
    counts = np.bincount(flat, minlength=len(run.features.vocab))
    words = pd.Series(run.features.vocab).str.strip().str.casefold()
    for word, ids in words.groupby(words).groups.items():
        if counts[ids].sum() >= MIN_TOKENS and word:
            factors.append(Factor(f"token {word!r}", frozenset({f"token {word}"}), np.flatnonzero(np.isin(flat, ids))))
    # As in the planted worlds, what holds at more than a quarter of the text is no meaning.
    factors = [factor for factor in factors if 0 < len(factor.rows) <= flat.size // 4]
    parts = []
    for name, features in (("dictionary", run.features), ("neurons", run.neurons)):
        basis = Basis(features.codes[0 : len(features.codes)])
        truth = Truth.attribute(basis.codes, factors)
        about: dict[str, Any] = {"family": "corpus", "world": str(path), "basis": name}
        parts.append(judge_latents(tokens, basis, features.vocab, factors, truth, calibration, **about))
    return pd.concat(parts)
