"""The stage `report`: the page of a run."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.run import Run
from interp.pipeline.run_folder import run_folders
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress


def _other_pages(run: Run) -> dict[str, str]:
    """Return the addresses of the pages of the run's other hooks, seen from this one. A hook that is being added has no
    run folder yet."""
    page = run.path_to("page").relative_to(run.path)
    folders = zip(run.hooks, run_folders(run.root.path, run.root.config), strict=True)
    others = {name: folder / page for name, folder in folders if name != run.config.harvest.hook_name}
    return {name: quote(os.path.relpath(other, run.path / page.parent)) for name, other in others.items()}


def _report_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Each latent is described. Each token is written, with its labels looked up; and each firing is
    read five times: for the examples, positions, pairs of latents and senses (counts and tokens)."""
    return Cost(
        disk=1.1e6 + 2300 * sizes.d_sae + 1.13 * sizes.rows,
        memory=sizes.weight_bytes + sizes.corpus_bytes + 30 * sizes.rows,
        seconds=timings.PAGE
        + timings.SHOWN_LATENT * sizes.d_sae
        + timings.SHOWN_ROW * sizes.rows
        + timings.SHOWN_FIRING * sizes.firings,
    )


@stage(
    version=16,
    inputs=("features",),
    cost=_report_cost,
    extended_by=("figure",),
    outside_inputs=lambda run: {"pages": pages} if (pages := _other_pages(run)) else {},
    opens={"page": ("page/index.html", Path)},
    summary=lambda results: f"{results['bytes'] / 1e6:.1f} MB",
)
def report(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a page that works offline, from file://"""
    from interp.report import write_report

    page = write_report(run, folder / "page", pages=_other_pages(run), progress=progress)
    files = [file for file in page.parent.rglob("*") if file.is_file()]
    return {"page": f"report/{page.relative_to(folder)}", "bytes": sum(file.stat().st_size for file in files)}
