"""What a run ends with: `words`, its model rewritten in its explanations, and `report`."""

from pathlib import Path
from typing import Any

from interp.files import Progress, write_parquet
from interp.pipeline.run_folder import Run
from interp.pipeline.stage import stage


@stage(
    inputs=("corpus", "model", "activations", "sae", "features", "ranking"),
    shared=("harvest", "quality"),
    opens={
        "words": ("words.parquet", "pandas:read_parquet"),
        "words_shares": ("shares.parquet", "pandas:read_parquet"),
    },
    summary=lambda results: (
        "CE recovered by " + ", ".join(f"{name} {r:.3f}" for name, r in results["recovered"].items())
    ),
)
def words(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the explanations alone spliced into the model, beside a lookup by token and permuted rules: cross-entropy kept"""
    from interp.rewriting import rewrite_in_words

    config = run.config
    held_out = run.val_tokens[: max(1, config.quality.tokens // run.val_tokens.n_ctx)]
    found = rewrite_in_words(
        run.features,
        run.ranking,
        run.sae,
        run.store,
        run.model,
        held_out.tokens,
        labels=(run.harvested.labels, held_out.labels) if config.ranking.use_labels else None,
        batch_size=config.quality.batch_size,
        exclude=run.tokenizer.special_ids,
        seed=config.ranking.seed,
        progress=progress,
    )
    write_parquet(folder / "words.parquet", found.losses)
    write_parquet(folder / "shares.parquet", found.shares)
    recovered = found.losses.set_index("reconstruction")["ce_recovered_mean"]
    return {"recovered": recovered.to_dict(), "median_share": float(found.shares["words_share"].median())}


@stage(
    inputs=("features",),
    optional=("model", "sae", "effects", "quality", "concepts", "ranking", "nulls", "words", "wider"),
    opens={"page": ("page/index.html", "pathlib:Path")},
    summary=lambda results: f"{results['bytes'] / 1e6:.1f} MB",
)
def report(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a page that works offline, from file://"""
    from interp.report import write_report

    page = write_report(run.path, folder / "page", progress=progress)
    files = [file for file in page.parent.rglob("*") if file.is_file()]
    return {"page": f"report/{page.relative_to(folder)}", "bytes": sum(file.stat().st_size for file in files)}
