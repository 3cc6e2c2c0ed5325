"""The stage `names`: what each latent is called."""

from pathlib import Path
from typing import Any

from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import lazy_call
from interp.pipeline.run import Run
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress
from interp.storage.files import write_parquet


def _names_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. What may be said of each latent is gathered, and each firing is read twice: for the words of
    which tokens are pieces, and for the senses."""
    return Cost(
        disk=500 * sizes.d_sae,
        memory=sizes.weight_bytes + sizes.corpus_bytes + 30 * sizes.rows,
        seconds=timings.NAMED_LATENT * sizes.d_sae + timings.NAMED_FIRING * sizes.firings,
    )


@stage(
    version=2,
    inputs=("corpus", "features"),
    optional=("ranking",),
    cost=_names_cost,
    extended_by=("kind of predicate",),
    opens={"names": ("names.parquet", lazy_call("interp.report.names:read_names"))},
    summary="{named:,} of {firing:,} latents that fire have a title that holds, of a median F1 of {f1:.2f}",
)
def names(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a title for each latent, in words, with its F1, and a shorter one"""
    from interp.report.inputs import ReportInputs
    from interp.report.latent_words import LatentWords
    from interp.report.names import name_latents

    ranking = run.ranking if run.has("ranking") else None
    inputs = ReportInputs(features=run.features, ranking=ranking, labels=run.harvested.labels)
    table = name_latents(LatentWords(inputs))
    write_parquet(folder / "names.parquet", table)
    n_active = inputs.table["n_active"]
    return {
        "firing": int((n_active > 0).sum()),
        "named": int(table["named_by"].notna().sum()),
        "f1": float(table["f1"].median()) if table["f1"].notna().any() else 0.0,
    }
