"""The stage `concepts`: the best latent and the best neuron for each label."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.pipeline import timings
from interp.pipeline.costs import Cost
from interp.pipeline.readers import read_table
from interp.pipeline.run import Run
from interp.pipeline.stages import LEFT_OUT, NOT_FOR_TRANSCODERS, rows_by_name, stage
from interp.runtime.progress import Progress
from interp.storage.files import write_parquet

if TYPE_CHECKING:
    from interp.report.panels import Panel


def _rival(run: Run) -> str:
    """Return what latents are compared with: "neuron" or "coordinate"."""
    return run.results("neurons")["basis"].removesuffix("s")


def _concepts_panel(run: Run) -> "Panel":
    import pandas as pd

    from interp import figures
    from interp.report.panels import Panel

    concepts = run.concepts.sort_values("f1_feature", ascending=False)
    rival = _rival(run)
    if concepts.empty:
        return Panel(note="No concepts: the tokens carry no labels, or the neurons were not scanned.")
    table = pd.DataFrame({
        "Concept": concepts["label"].str.replace("_", " "),
        "Feature": concepts["feature"].map("{:.0f}".format, na_action="ignore"),
        "F1 of the feature": concepts["f1_feature"].map("{:.2f}".format, na_action="ignore"),
        rival.capitalize(): concepts["neuron"].map("{:.0f}".format, na_action="ignore"),
        f"F1 of the {rival}": concepts["f1_neuron"].map("{:.2f}".format, na_action="ignore"),
    })  # fmt: skip
    note = f"How well the best single feature and the best single {rival} detect each concept, on held-out text."
    lost = concepts["label"][concepts["f1_neuron"] > concepts["f1_feature"]].str.replace("_", " ")
    note += f" The {rival} is better on {len(lost)} of {len(concepts)}{': ' if len(lost) else ''}{', '.join(lost)}."
    return Panel(note=note, figure=figures.concept_dots(run.concepts), table=table)


@stage(
    version=8,
    inputs=("features", "neurons"),
    cost=lambda sizes: Cost(disk=1e4, seconds=timings.CONCEPTS),
    opens={"concepts": ("concepts.parquet", read_table)},
    summary=lambda results: (
        "nothing to compare: the text has no labels ([corpus] label_field names those of JSON lines)"
        if not results
        else f"best feature beats best {next(iter(results.values()))['rival']} on "
        f"{sum(r['f1_feature'] > r['f1_neuron'] for r in results.values())} of {len(results)} labels"
    ),
    panel=_concepts_panel,
)
def concepts(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the best latent and the best neuron (or coordinate) for each label, F1 on held-out text"""
    from interp.compare.concepts import concept_table

    if run.output_hook is not None:
        return {LEFT_OUT: NOT_FOR_TRANSCODERS}
    table = concept_table(run.features, run.neurons, rival=_rival(run))
    write_parquet(folder / "concepts.parquet", table)
    return rows_by_name(table, "label")
