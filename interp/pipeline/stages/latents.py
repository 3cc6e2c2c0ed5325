"""The stages from activations to features and their effects: `sae`, `features`, `neurons`, `effects`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.errors import InterpError
from interp.effects.ablation_config import AblationConfig
from interp.features.scan_config import ScanConfig
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.opening import lazy_call, read_curve, read_table, reader_of
from interp.pipeline.pretrained import LoadedConfig
from interp.pipeline.run_folder import Run
from interp.pipeline.sections import EffectsConfig
from interp.pipeline.stages import LEFT_OUT, NEXT_LINE, OF_AUTOENCODERS, stage
from interp.runtime.options import values_of
from interp.runtime.progress import Progress
from interp.storage.artifacts import folder_of
from interp.storage.files import digest_file, write_parquet

if TYPE_CHECKING:
    import pandas as pd

    from interp.codes.dictionary import Dictionary
    from interp.features.feature_store import FeatureStore

EFFECTS_FILE = "effects.parquet"
MEASURED_ROWS = 1 << 16
"""Rows on which a loaded dictionary is measured."""
CACHE_BYTES = 32e6
"""The largest size in bytes of the counts of pairs of latents that fits a processor's last-level cache."""
CORE_CACHE_BYTES = 1.1e6
"""The same for the cache of one core."""
NEURONS_AT_ONCE = 32
"""Number of a pretrained model's neurons, or coordinates, that count as firing per token, the strongest: half of the
gated ones are positive."""


def _open_features(folder: Path) -> "FeatureStore":
    """Open the features of a run, and make the table of its stage `effects` available to `sql`."""
    features = reader_of("features")(folder)
    features.views["effects"] = folder.parent / "effects" / EFFECTS_FILE
    return features


def _check_loaded(config: RunConfig) -> None:
    if isinstance(config.sae, LoadedConfig) and len(config.harvest.hook_names) > 1:
        raise InterpError(
            f"[sae] load = {config.sae.load!r} is the dictionary of one hook, and [harvest] names "
            f"{', '.join(config.harvest.hook_names)}: name its own"
        )
    if isinstance(config.sae, LoadedConfig) and config.harvest.output_hook:
        raise InterpError(
            f"[harvest] output_hook = {config.harvest.output_hook!r} is only for trained transcoders: leave it out"
        )


def training_cost(sizes: Sizes, tokens: float) -> Cost:
    """Estimate the cost of a training. A step encodes its rows; decodes, and takes the gradient of, what fires (six
    reads and writes of a decoder row per firing); and Adam reads and writes seven numbers per weight."""
    from interp.sae.training import training_bytes

    config = sizes.config.sae
    weights = (sizes.d_in + sizes.d_out) * sizes.d_sae
    if isinstance(config, LoadedConfig):
        return Cost(disk=4 * weights, memory=4 * weights)
    steps = tokens / config.batch_size
    moved = 28 * weights * steps + 24 * tokens * sizes.l0 * sizes.d_out
    memory = training_bytes(config, sizes.d_in + sizes.d_out)
    kept = Cost(disk=4 * weights, scratch=12 * weights, memory=memory, moved=moved, seconds=6e-3 * steps)
    return kept + sizes.encoding(tokens)


def _sae_cost(sizes: Sizes) -> Cost:
    """Estimate the cost of all hooks' dictionaries: one after the other, or at once where no activations are kept. Then
    the model runs in each epoch, and a batch holds the rows of all hooks."""
    n_hooks, tokens = len(sizes.config.harvest.hook_names), getattr(sizes.config.sae, "tokens", 0)
    cost = training_cost(sizes, tokens).times(n_hooks)
    if (buffer_mb := sizes.config.harvest.buffer_mb) is None:
        return cost
    passes = sizes.passes(tokens, before=1)
    batch = 4 * sizes.config.sae.batch_size * sum(sizes.widths.values())
    return cost + passes + Cost(memory=passes.memory + 1e6 * buffer_mb + batch + n_hooks * cost.memory)


def _stream_or_loaded(run: Run) -> dict[str, Any]:
    """Return the hooks of the one stream on which dictionaries are trained, or digests of the files of a dictionary
    that is loaded from a folder, so that it is loaded again where they changed. Where they are gone, the run has it."""
    config = run.config.sae
    if not isinstance(config, LoadedConfig):
        return {} if run.config.harvest.buffer_mb is None else {"hooks": list(run.hooks)}
    if not Path(config.load).is_dir():
        before = (run.manifest("sae") or {}).get("config", {})
        return {name: before[name] for name in ("loaded",) if name in before}
    files = [file for file in folder_of(config.load, "sae").iterdir() if file.suffix == ".safetensors"]
    return {"loaded": {file.name: digest_file(file) for file in files}}


@stage(
    made_for="all hooks",
    inputs=("activations",),
    outside=_stream_or_loaded,
    cost=_sae_cost,
    reduced_by=("sae.d_sae", "sae.batch_size"),
    check=_check_loaded,
    config={"sae": lazy_call("interp.sae:TopKConfig", d_sae=4096, k=8, tokens=3_000_000)},
    other_sections=("harvest",),
    opens={"sae": (".", reader_of("sae")), "sae_curve": ("metrics.jsonl", read_curve)},
    summary=lambda r: (
        f"{r['steps']:,} steps, FVU {r['fvu']:.3f}, L0 {r['l0']:.1f}, of {r.get('config', r)['d_sae']:,} latents "
        f"{r['dead']:.1%} dead and {r['faint']:.1%} faint in training"
    ),
)
def sae(runs: Sequence[Run], folders: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """a sparse autoencoder or transcoder, trained on the activations, or an autoencoder that is loaded"""
    from interp.sae import train_sae, train_saes
    from interp.sae.training import read_results

    config, placed = runs[0].config.sae, list(zip(runs, folders, strict=True))
    if isinstance(config, LoadedConfig):
        return [_load(run, config, folder) for run, folder in placed]
    if runs[0].config.harvest.buffer_mb is None:
        for run, folder in placed:
            train_sae(run.store, run.hook_name, config, output_hook=run.output_hook, out=folder, progress=progress)
    else:
        hooks: dict[str | Path, list[str]] = {folder: list(run.results("activations")["d"]) for run, folder in placed}
        train_saes(runs[0].stream(), hooks, config, progress=progress)
    return list(map(read_results, folders))


def _load(run: Run, config: LoadedConfig, folder: Path) -> dict[str, Any]:
    from interp.activations.hooks import check_own_hook, hooks_of
    from interp.activations.sources import first_rows
    from interp.codes.dictionary import check_one_hook, norm_limit_on
    from interp.evaluation.quality import evaluate_reconstruction
    from interp.sae import load_sae

    loaded = load_sae(config.load, config.sae_id)
    hook_name = run.hook_name
    check_one_hook(loaded)
    if loaded.kind == "transcoder":
        raise InterpError(f"{config.load} is a transcoder: [sae] load takes an autoencoder, which writes what it reads")
    check_own_hook(loaded, hook_name, hooks_of(run.model), "the model")
    if loaded.d_in != run.store.d(hook_name):
        raise InterpError(
            f"{config.load} has inputs of width {loaded.d_in}, {hook_name} of {run.store.d(hook_name)}: "
            "name its own hook in [harvest]"
        )
    loaded.save(folder, format=loaded.preferred_format)
    limit = norm_limit_on(loaded, run.store, hook_name)
    shard = first_rows(run.store, hook_name).within(limit)
    if not len(shard.acts):
        raise InterpError(
            f"none of the first rows of {hook_name} has a norm within {limit}, the limit of {config.load}: check that "
            "it was trained on this model and hook"
        )
    measured = evaluate_reconstruction(loaded, shard.acts[:MEASURED_ROWS].float())
    return {
        "steps": 0,
        "d_sae": loaded.d_sae,
        "fvu": measured.fvu,
        "l0": measured.l0,
        "dead": measured.dead_share,
        "faint": measured.faint_share,
    }


def scan_cost(sizes: Sizes, d_sae: int, l0: float, *, width: int) -> Cost:
    """Estimate the cost of a scan. Firings are sorted, kept (an id and a value; a row's id and place) and counted.
    Pairs of latents that fire together are counted, in the cache of a core, the last-level cache or outside it. Each
    latent's examples are written and its direction is multiplied by the unembedding. Held are the corpus, and of each
    row two token ids (the store's and the scan's) and its set of labels, which is made in 8 bytes."""
    firings, pairs = sizes.rows * l0, sizes.rows * l0**2
    table = 4 * d_sae**2
    pair_seconds = 2.5e-9 if table < CORE_CACHE_BYTES else 1e-8 if table < CACHE_BYTES else 3.5e-8
    counting = 2e-7 * firings + pair_seconds * pairs + 8e-4 * d_sae
    unembedding = 2 * d_sae * width * sizes.d_vocab
    of_text = sizes.corpus_bytes + 16 * sizes.rows
    memory = sizes.weight_bytes + 4 * width * sizes.d_vocab + 8 * width * d_sae + of_text
    disk = (6 if d_sae <= 1 << 16 else 8) * firings + 16 * sizes.rows + 8e3 * d_sae
    return Cost(disk=disk, memory=memory, float32_operations=unembedding, seconds=counting)


def _features_cost(sizes: Sizes) -> Cost:
    harvest = sizes.config.harvest
    cost = scan_cost(sizes, sizes.d_sae, sizes.l0, width=sizes.d_in) + sizes.encoding(sizes.rows)
    cost = cost.times(len(harvest.hook_names))
    if harvest.buffer_mb is None:
        return cost
    return cost + sizes.passes(sizes.rows, before=1) + Cost(memory=cost.memory + 1e6 * harvest.buffer_mb)


@stage(
    made_for="all hooks",
    inputs=("corpus", "model", "activations", "sae"),
    cost=_features_cost,
    reduced_by=("harvest.tokens", "sae.d_sae"),
    config={"scan": ScanConfig},
    other_sections=("harvest",),
    opens={"features": (".", _open_features)},
    summary="{latents:,} latents, {dead:,} dead, L0 {mean_l0:.1f}",
)
def features(runs: Sequence[Run], folders: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """statistics, examples, logit effects and label agreement of every latent"""
    from interp.features.scan_features import scan_saes

    placed = list(zip(runs, folders, strict=True))
    if runs[0].config.harvest.buffer_mb is None:
        return [_scan(run, run.sae, run.hook_name, folder, progress) for run, folder in placed]
    dictionaries: dict[str | Path, Any] = {folder: (run.sae, run.hook_name) for run, folder in placed}
    scans = scan_saes(runs[0].stream(), dictionaries, **_scan_options(runs[0]), progress=progress)
    return [_scan_results(scan) for scan in scans]


def _neurons_cost(sizes: Sizes) -> Cost:
    width = sizes.widths[sizes.hooks[-1]]
    if sizes.config.harvest.output_hook:
        return Cost()
    fire = width / 24 if sizes.config.model.is_trained else min(width, NEURONS_AT_ONCE)
    return scan_cost(sizes, width, fire, width=width) + Cost(seconds=5e-9 * sizes.rows * width)


@stage(
    inputs=("corpus", "model", "activations"),
    cost=_neurons_cost,
    reduced_by=("harvest.tokens",),
    other_sections=("harvest", "scan", "model"),
    opens={"neurons": (".", reader_of("features"))},
    summary=lambda r: f"{r['latents']:,} {r.get('basis', 'neurons')}, {r['dead']:,} dead, L0 {r['mean_l0']:.1f}",
)
def neurons(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the same for every neuron of the MLP, for comparison, or for the coordinates if there is none; for a pretrained
    model only the strongest at each token"""
    from interp.evaluation.baselines import NeuronDictionary

    if run.output_hook is not None:
        return {LEFT_OUT: OF_AUTOENCODERS}
    basis, hook_name = run.baseline
    d = run.store.d(hook_name)
    are_neurons = basis == "neurons"
    k = None if are_neurons and run.config.model.is_trained else min(d, NEURONS_AT_ONCE)
    scan = _scan(run, NeuronDictionary(d, k, signed=not are_neurons), hook_name, folder, progress)
    return {**scan, "basis": basis}


def effects_summary(results: Mapping[str, Any]) -> str:
    """Summarise the number of ablated latents, the share with an effect, and the median cost."""
    tested, firing, sequences = (results[name] for name in ("latents", "firing", "sequences"))
    return NEXT_LINE.join([
        f"{tested:,} of {firing:,} latents that fire, ablated in at most {sequences} sequences each: "
        f"{results['helps']:.0%} surely cost more than their null, {results['idles']:.0%} less",
        f"loss {results['loss_change']:+.4f} nats (median), null {results['null_loss_change']:+.4f}; gradient × "
        f"activation agrees on the same sequences, Spearman {results['gradient_agreement']:.2f}",
    ])  # fmt: skip


def _effects_cost(sizes: Sizes) -> Cost:
    """Estimate the cost for latents that all fire equally often, at two tokens of each sequence in which they fire, and
    at most the configured minutes; and of choosing these sequences, for which all codes are read. Of each row 16 bytes
    are held: its token, and copies while the distinct ones are found."""
    import torch

    from interp.effects.ablation_plan import OPERATIONS_PER_SECOND, ablation_operations, latents_at_once

    config = sizes.config.effects
    n_all = max(1.0, sizes.rows / sizes.n_ctx)
    n_latents = min(sizes.d_sae, config.latents or sizes.d_sae)
    n_active = sizes.firings / sizes.d_sae
    n_sequences = n_all * -math.expm1(-n_active / 2 / n_all)
    at_once = min(n_latents, latents_at_once(sizes.model.d_model, config.sequences))
    downstream = sizes.passes(1, after=1).operations / 2
    operations = ablation_operations(
        torch.full((at_once,), n_sequences).double(),
        torch.full((at_once,), n_active).double(),
        config.sequences,
        n_all=round(n_all),
        n_ctx=sizes.n_ctx,
        at_once=at_once,
        by_position=downstream < 1.1 * sizes.model.d_model * sizes.d_vocab,  # no block is left
        reading=sizes.passes(1, before=1).operations / 2 + sizes.d_in * sizes.d_sae,
        downstream=downstream,
        d_vocab=sizes.d_vocab,
    )
    passes = sizes.passes(1, after=1)
    unit = "float32_operations" if passes.float32_operations else "bfloat16_operations"
    allowed = min(operations * n_latents / at_once, 60 * config.minutes * OPERATIONS_PER_SECOND)
    memory = passes.memory + 4 * sizes.model.d_model * sizes.d_vocab + 16 * sizes.rows
    choosing = 4e-8 * sizes.firings + 5e-8 * sizes.rows
    return Cost(disk=400 * sizes.d_sae, memory=memory, seconds=choosing, **{unit: allowed})


@stage(
    inputs=("model", "sae", "features"),
    cost=_effects_cost,
    reduced_by=("effects.minutes",),
    config={"effects": EffectsConfig},
    other_sections=("harvest",),
    opens={"effects": (EFFECTS_FILE, read_table)},
    summary=effects_summary,
)
def effects(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the model's output without each latent: loss, KL, and the tokens that it makes more or less likely"""
    from interp.activations.next_tokens import NoNextTokens, check_predicts_next

    features = run.features
    try:
        check_predicts_next(run.model, features.tokens)
    except NoNextTokens as reason:
        return {LEFT_OUT: str(reason)}
    table = ablate_latents(run.model, run.hook_name, run.sae, features, run.config.effects, progress)
    write_parquet(folder / EFFECTS_FILE, table)
    return effects_results(table, features)


def ablate_latents(
    model: Any,
    hook: str,
    dictionary: "Dictionary",
    features: "FeatureStore",
    config: EffectsConfig,
    progress: Progress,
    part: tuple[int, int] = (0, 1),
) -> "pd.DataFrame":
    """Return the table of effects, or a part of it, of all latents or of as many as are configured."""
    from interp.effects import feature_effects
    from interp.effects.ablation_plan import draw_latents

    return feature_effects(
        model,
        hook,
        dictionary,
        features,
        latents=None if config.latents is None else draw_latents(features, config.latents, config.seed),
        part=part,
        progress=progress,
        **values_of(AblationConfig, config),
    )


def effects_results(table: "pd.DataFrame", features: "FeatureStore") -> dict[str, Any]:
    """Return what the summary of a table of effects says."""
    known = table.dropna(subset=["loss_change"])
    return {
        "latents": len(known),
        "firing": int((features.column("n_active") > 0).sum()),
        "sequences": table.attrs["sequences"],
        "rerun_part": table.attrs["rerun_part"],
        "loss_change": float(known["loss_change"].median()),
        "null_loss_change": float(known["null_loss_change"].median()),
        "helps": float((known["beyond_null_low"] > 0).mean()),
        "idles": float((known["beyond_null_high"] < 0).mean()),
        "gradient_agreement": table.attrs["gradient_agreement"],
    }


def _scan(run: Run, dictionary: "Dictionary", hook_name: str, folder: Path, progress: Progress) -> dict[str, Any]:
    from interp.features.scan_features import scan_features

    options = _scan_options(run)
    return _scan_results(scan_features(dictionary, run.store, hook_name, folder, **options, progress=progress))


def _scan_options(run: Run) -> dict[str, Any]:
    labels = run.harvested.labels
    return {"model": run.model, "vocab": run.tokenizer.display(), "labels": labels, "config": run.config.scan}


def _scan_results(scan: "FeatureStore") -> dict[str, Any]:
    table = scan.table()
    return {"latents": len(table), "dead": int((table.n_active == 0).sum()), "mean_l0": float(table.density.sum())}
