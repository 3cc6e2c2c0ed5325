"""The stage `effects`: the model's output without each latent."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.config_fields import values_of
from interp.effects.ablation_config import AblationConfig
from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import read_table
from interp.pipeline.run import Run
from interp.pipeline.sections import EffectsSection
from interp.pipeline.stages import LEFT_OUT, NEXT_LINE, stage
from interp.runtime.progress import Progress
from interp.storage.files import write_parquet

if TYPE_CHECKING:
    import pandas as pd

    from interp.codes.dictionary import Dictionary
    from interp.features.feature_store import FeatureStore

EFFECTS_FILE = "effects.parquet"


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
    downstream = sizes.forward_cost(1, after=1).operations / 2
    operations = ablation_operations(
        torch.full((at_once,), n_sequences).double(),
        torch.full((at_once,), n_active).double(),
        config.sequences,
        n_all=round(n_all),
        n_ctx=sizes.n_ctx,
        at_once=at_once,
        by_position=downstream < 1.1 * sizes.model.d_model * sizes.d_vocab,  # no block is left
        reading=sizes.forward_cost(1, before=1).operations / 2 + sizes.d_in * sizes.d_sae,
        downstream=downstream,
        d_vocab=sizes.d_vocab,
    )
    passes = sizes.forward_cost(1, after=1)
    unit = "float32_operations" if passes.float32_operations else "bfloat16_operations"
    allowed = min(operations * n_latents / at_once, 60 * config.minutes * OPERATIONS_PER_SECOND)
    memory = passes.memory + 4 * sizes.model.d_model * sizes.d_vocab + 16 * sizes.rows
    choosing = timings.CHOSEN_FIRING * sizes.firings + timings.CHOSEN_ROW * sizes.rows
    return Cost(disk=400 * sizes.d_sae, memory=memory, seconds=choosing, **{unit: allowed})


@stage(
    version=8,
    inputs=("model", "sae", "features"),
    cost=_effects_cost,
    config={"effects": EffectsSection},
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
    table = ablate_latents(run.model, run.hook_name, run.sae, features, run.config.effects, progress=progress)
    write_parquet(folder / EFFECTS_FILE, table)
    return effects_results(table, features)


def ablate_latents(
    model: Any,
    hook: str,
    dictionary: "Dictionary",
    features: "FeatureStore",
    config: EffectsSection,
    *,
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
    measured = table.dropna(subset=["loss_change"])
    return {
        "latents": len(measured),
        "firing": int((features.column("n_active") > 0).sum()),
        "sequences": table.attrs["sequences"],
        "rerun_part": table.attrs["rerun_part"],
        "loss_change": float(measured["loss_change"].median()),
        "null_loss_change": float(measured["null_loss_change"].median()),
        "helps": float((measured["beyond_null_low"] > 0).mean()),
        "idles": float((measured["beyond_null_high"] < 0).mean()),
        "gradient_agreement": table.attrs["gradient_agreement"],
    }
