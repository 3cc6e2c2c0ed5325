"""The stage `quality`: what the dictionary preserves of the model, compared with baselines."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import read_table
from interp.pipeline.run import Run
from interp.pipeline.sections import QualitySection
from interp.pipeline.stages import NEXT_LINE, rows_by_name, stage
from interp.pipeline.stages.neurons import basis_of
from interp.runtime.progress import Progress
from interp.storage.files import write_parquet

N_DRAWS = 5
"""Draws of random directions. What they recover differs from draw to draw; the table has their mean."""


def _quality_cost(sizes: Sizes) -> Cost:
    """Estimate the cost: one pass of all tokens up to the hook, and two downstream, unchanged and with the SAE; for a
    part of the tokens also with baselines and ablations."""
    from interp.evaluation.splice import PART_TOKENS

    part = sizes.held_out / max(1, sizes.held_out // PART_TOKENS)
    passes = sizes.forward_cost(sizes.held_out, before=1, after=2) + sizes.forward_cost(part, after=4 + N_DRAWS)
    directions = N_DRAWS * 2 * sizes.held_out * sizes.d_in * sizes.d_sae
    picking = Cost(
        memory=passes.memory + N_DRAWS * 4 * sizes.d_in * sizes.d_sae,
        seconds=N_DRAWS * timings.COMPARED_VALUE * sizes.held_out * sizes.d_sae,
    )
    return passes + sizes.encoding_cost(sizes.held_out) + picking + Cost(float32_operations=directions)


def quality_summary(results: Mapping[str, Mapping[str, float]]) -> str:
    """Return a line per dictionary, and a remark if the model is no better than unigrams."""
    from interp.evaluation.quality import worse_than_unigrams

    lines = [
        f"{name}: FVU {r['fvu']:.3f}, L0 {r['l0']:.0f}, "
        + ("no loss of next tokens" if math.isnan(r["ce_clean"]) else f"CE recovered {r['ce_recovered']:.3f}")
        for name, r in results.items()
    ]
    remarks = {worse_than_unigrams(r["ce_clean"], r["ce_unigram"]): None for r in results.values()}
    return NEXT_LINE.join([*lines, *filter(None, remarks)])


@stage(
    version=9,
    inputs=("corpus", "model", "activations", "sae"),
    cost=_quality_cost,
    config={"quality": QualitySection},
    other_sections=("harvest", "sae"),
    opens={"quality": ("quality.parquet", read_table)},
    summary=quality_summary,
)
def quality(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the dictionary spliced into the model: L0, FVU, cross-entropy recovered, compared with PCA and random
    directions"""
    from interp.codes.dictionary import Dictionary
    from interp.evaluation.baselines import NeuronDictionary, PCADictionary, RandomDictionary
    from interp.evaluation.quality import quality_table, with_mean_of_draws

    config, hook_name = run.config, run.hook_name
    d_in = run.sae.d_in
    k = min(d_in, getattr(config.sae, "k", None) or max(1, round(run.results("sae")["l0"])))
    seed = getattr(config.sae, "seed", 0)
    is_mlp = basis_of(run) == ("neurons", hook_name)
    dictionaries: dict[str, Dictionary] = {"SAE": run.sae}
    draws = [f"random {i}" for i in range(N_DRAWS)]
    if run.sae.kind == "sae":  # the baselines reconstruct the hook that they read
        dictionaries |= {
            "PCA": PCADictionary.fit(run.store, hook_name, k=k),
            "neurons" if is_mlp else "coordinates": NeuronDictionary(d_in, k=k, signed=not is_mlp),
        }
        for i, name in enumerate(draws):
            dictionaries[name] = RandomDictionary.fit(run.store, hook_name, run.sae.d_sae, k=k, seed=seed + i)
    table = quality_table(
        run.model,
        hook_name,
        dictionaries,
        run.held_out.tokens,
        baselines=[name for name in dictionaries if name != "SAE"],
        batch_size=config.quality.batch_size,
        exclude=run.tokenizer.special_ids,
        unigram_loss=run.results("model").get("unigram_cross_entropy"),
        progress=progress,
    )
    table = with_mean_of_draws(table, draws, "random")
    write_parquet(folder / "quality.parquet", table)
    return rows_by_name(table, "dictionary")
