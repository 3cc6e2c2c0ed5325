"""From activations to features and what they do: `sae`, `features`, `neurons`, `effects`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.pipeline import opening
from interp.pipeline.config import RunConfig
from interp.pipeline.pretrained import LoadedConfig
from interp.pipeline.run_folder import Run
from interp.pipeline.sections import EffectsConfig
from interp.pipeline.stages import LEFT_OUT, NEXT_LINE, OF_AUTOENCODERS, stage
from interp.runtime.progress import Progress
from interp.storage.files import write_parquet

if TYPE_CHECKING:
    from torch import Tensor

    from interp.codes.sparse_codes import Dictionary
    from interp.features.feature_store import ScanConfig
    from interp.sae import SAEConfig, TopKConfig


MEASURED = 1 << 16
"""Rows on which a loaded dictionary is measured."""
NEURONS_AT_ONCE = 32
"""How many neurons of a pretrained model, or coordinates, fire on a token, the strongest: half of the gated ones are
positive."""


def _demo_sae() -> "TopKConfig":
    from interp.sae import TopKConfig

    return TopKConfig(d_sae=4096, k=8, tokens=3_000_000)


def _demo_scan() -> "ScanConfig":
    from interp.features.feature_store import ScanConfig

    return ScanConfig()


def _check_loaded(config: RunConfig) -> None:
    if isinstance(config.sae, LoadedConfig) and len(config.harvest.hook_names) > 1:
        raise ValueError(
            f"[sae] load = {config.sae.load!r} is the dictionary of one hook, and [harvest] names "
            f"{', '.join(config.harvest.hook_names)}: name its own"
        )
    if isinstance(config.sae, LoadedConfig) and config.harvest.writes:
        raise ValueError(
            f"[harvest] writes = {config.harvest.writes!r} is of transcoders that are trained: leave it out"
        )


@stage(
    inputs=("activations",),
    check=_check_loaded,
    config={"sae": _demo_sae},
    shared=("harvest",),
    opens={"sae": (".", opening.open_sae), "sae_curve": ("metrics.jsonl", opening.open_curve)},
    summary=lambda r: (
        f"{r['steps']:,} steps, FVU {r['fvu']:.3f}, L0 {r['l0']:.1f}, of {r.get('config', r)['d_sae']:,} latents "
        f"{r['dead']:.1%} dead and {r['faint']:.1%} faint in training"
    ),
)
def sae(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a sparse autoencoder or transcoder, trained on the activations, or an autoencoder that is loaded"""
    if not isinstance(run.config.sae, LoadedConfig):
        return _train(run, run.config.sae, folder, progress)
    from interp.activations.hooks import check_own_hook, hooks_of
    from interp.codes.sparse_codes import check_one_hook, limit_on
    from interp.sae import load_sae

    loaded, hook_name = load_sae(run.config.sae.load, run.config.sae.sae_id), run.hook_name
    check_one_hook(loaded)
    check_own_hook(loaded, hook_name, hooks_of(run.model), "the model")
    if loaded.d_in != run.store.d(hook_name):
        raise ValueError(
            f"{run.config.sae.load} has inputs of width {loaded.d_in}, {hook_name} of {run.store.d(hook_name)}: "
            "name its own hook in [harvest]"
        )
    loaded.save(folder, format=loaded.preferred_format)
    shard = run.store.shard(0, hook_name).within(limit_on(loaded, run.store, hook_name))
    return {"steps": 0, "d_sae": loaded.d_sae, **_measured(loaded, shard.acts[:MEASURED].float())}


def _measured(dictionary: "Dictionary", acts: "Tensor") -> dict[str, float]:
    import torch

    from interp.codes.sparse_codes import is_faint

    codes = dictionary.codes(acts)
    maxima = torch.zeros(dictionary.d_sae).scatter_reduce_(0, codes.latents, codes.values.float(), "amax")
    residual = acts - dictionary.decode(codes)
    return {
        "fvu": float(residual.square().sum() / (acts - acts.mean(0)).square().sum()),
        "l0": codes.nnz / len(acts),
        "dead": 1 - len(codes.latents.unique()) / dictionary.d_sae,
        "faint": float(is_faint(maxima, dictionary.W_dec.norm(dim=1)).float().mean()),
    }


@stage(
    inputs=("corpus", "model", "activations", "sae"),
    config={"scan": _demo_scan},
    shared=("harvest",),
    opens={"features": (".", opening.open_features)},
    summary="{latents:,} latents, {dead:,} dead, L0 {mean_l0:.1f}",
)
def features(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """statistics, examples, logit effects and label agreement of every latent"""
    return _scan(run, run.sae, run.hook_name, folder, progress)


@stage(
    inputs=("corpus", "model", "activations"),
    shared=("harvest", "scan", "model"),
    opens={"neurons": (".", opening.open_features)},
    summary=lambda r: f"{r['latents']:,} {r.get('basis', 'neurons')}, {r['dead']:,} dead, L0 {r['mean_l0']:.1f}",
)
def neurons(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the same of every neuron of the MLP, to compare, or of the coordinates where there is none; of a pretrained model
    those that are strongest at each token"""
    from interp.evaluation.baselines import NeuronDictionary

    if run.target is not None:
        return {LEFT_OUT: OF_AUTOENCODERS}
    basis, hook_name = run.baseline
    d, are_neurons = run.store.d(hook_name), basis == "neurons"
    k = None if are_neurons and run.config.model.is_trained else min(d, NEURONS_AT_ONCE)
    scan = _scan(run, NeuronDictionary(d, k, signed=not are_neurons), hook_name, folder, progress)
    return {**scan, "basis": basis}


def ablated(results: Mapping[str, Any]) -> str:
    """How many latents were ablated, how many of them have an effect, and what the median one costs."""
    tested, firing, sequences = (results[name] for name in ("latents", "firing", "sequences"))
    return NEXT_LINE.join([
        f"{tested:,} of {firing:,} latents that fire, ablated in at most {sequences} sequences each: "
        f"{results['helps']:.0%} cost surely more than their null, {results['idles']:.0%} less",
        f"loss {results['loss_change']:+.4f} nats in the median, null {results['null_loss_change']:+.4f}; gradient × "
        f"activation agrees on the same sequences, Spearman {results['gradient_agreement']:.2f}",
    ])  # fmt: skip


@stage(
    inputs=("model", "sae", "features"),
    config={"effects": EffectsConfig},
    shared=("harvest",),
    opens={"effects": ("effects.parquet", opening.open_table)},
    summary=ablated,
)
def effects(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """what the model says without each latent: loss, KL, and the tokens that it makes likelier or less likely"""
    from interp.activations.next_tokens import NoNextTokens, check_predicts_next
    from interp.effects import feature_effects
    from interp.effects.effort import drawn_latents

    config, features = run.config.effects, run.features
    try:
        check_predicts_next(run.model, features.tokens)
    except NoNextTokens as reason:
        return {LEFT_OUT: str(reason)}
    table = feature_effects(
        run.model,
        run.hook_name,
        run.sae,
        features,
        latents=None if config.latents is None else drawn_latents(features, config.latents, config.seed),
        sequences=config.sequences,
        minutes=config.minutes,
        seed=config.seed,
        progress=progress,
    )
    write_parquet(folder / "effects.parquet", table)
    known = table.dropna(subset=["loss_change"])
    return {
        "latents": len(known),
        "firing": int((features.table()["n_active"] > 0).sum()),
        "sequences": table.attrs["sequences"],
        "way": table.attrs["way"],
        "loss_change": float(known["loss_change"].median()),
        "null_loss_change": float(known["null_loss_change"].median()),
        "helps": float((known["beyond_null_low"] > 0).mean()),
        "idles": float((known["beyond_null_high"] < 0).mean()),
        "gradient_agreement": table.attrs["gradient_agreement"],
    }


def _train(run: Run, config: "SAEConfig", folder: Path, progress: Progress) -> dict[str, Any]:
    from interp.sae import train_sae

    train_sae(run.store, run.hook_name, config, target=run.target, out=folder, progress=progress)
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def _scan(run: Run, dictionary: "Dictionary", hook_name: str, folder: Path, progress: Progress) -> dict[str, Any]:
    from interp.features.feature_store import scan_features

    table = scan_features(
        dictionary,
        run.store,
        hook_name,
        folder,
        model=run.model,
        vocab=run.tokenizer.display(),
        labels=run.harvested.labels,
        settings=run.config.scan,
        progress=progress,
    ).table()
    return {"latents": len(table), "dead": int((table.n_active == 0).sum()), "mean_l0": float(table.density.sum())}
