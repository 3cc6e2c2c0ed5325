"""Which figures does a write-up of a run need, and how do they look in print?

    python analyses/make_figures.py runs/demo --width column --out runs/demo-figures
    python analyses/make_figures.py runs/demo --latents 476 12 --formats pdf

Every figure that a finished run has the results for, at the width of a column (84.5 mm), of ICML's (82.6), of a page
(139.7) or of any millimetres: PDF, SVG and PNG where there is a Chrome or Chromium, HTML everywhere; beside each its
manifest, and `index.html`, a gallery of them all. The quality table is written as LaTeX.
"""

import argparse
import html
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from analyses.record import check_run
from interp import Run, figures
from interp.features.feature_store import FeatureStore
from interp.figures.print_layout import WIDTHS, for_print
from interp.figures.saving import provenance, write_images
from interp.report import decoder_layout
from interp.storage.files import write_json, write_text

FORMATS = ["pdf", "svg", "png", "html"]
N_LATENTS = 3
"""Latents drawn on their own, where none is named."""
Drawn = Iterator[tuple[str, go.Figure]]


def main(arguments: list[str] | None = None) -> Path:
    options = parse(arguments)
    run = Run(options.run)
    figures_of_run = drawn(run, options.latents, options.width)
    out: Path = options.out or Path(f"{options.run}-figures")
    out.mkdir(parents=True, exist_ok=True)
    written = {out / f"{name}.{ending}": fig for name, fig in figures_of_run.items() for ending in options.formats}
    images = {path: for_print(fig, options.width) for path, fig in written.items() if path.suffix != ".html"}
    write_images(images)
    for path, fig in written.items():
        if path.suffix == ".html":
            fig.write_html(path, include_plotlyjs="directory")
        write_json(path.with_name(f"{path.name}.json"), provenance(fig, path, options.width, run))
    if run.manifest("quality"):
        write_text(out / "quality.tex", figures.quality_latex(run.quality))
    write_text(out / "index.html", gallery(figures_of_run, options.formats, run))
    print(f"{len(figures_of_run)} figures: {out / 'index.html'}")
    return out


def drawn(run: Run, latents: list[int], width: str | float) -> dict[str, go.Figure]:
    """By name, all that the run has the results for; `latents` on their own."""
    return dict(chain(of_training(run), of_latents(run), of_ranking(run), of_one(run, latents, width)))


def of_training(run: Run) -> Drawn:
    """What the model and the dictionary learnt, and what the dictionary keeps."""
    for stage in ("model", "sae"):
        if (run.path / stage / "metrics.jsonl").is_file():
            yield f"training_{stage}", figures.training(run.path / stage)
    if run.manifest("quality"):
        yield "quality", figures.quality(run.quality)


def of_latents(run: Run) -> Drawn:
    """All latents, by what the scan counted."""
    store, table = run.features, run.features.table()
    yield "density", figures.density_histogram(table)
    neurons = {"neurons": run.neurons.table()} if run.manifest("neurons") else {}
    if neurons:
        yield "density_beside_neurons", figures.density_histogram({"latents": table, **neurons})
    if table["enc_dec_cosine"].notna().any():
        cosines = {"encoder and decoder": table["enc_dec_cosine"]}
        yield "encoder_decoder", figures.cosine_histogram(cosines, title="Encoder against decoder")
    if store.W_dec is not None:
        nearest = store.table("neighbours").query("rank == 0")["cosine"]
        cosines = {"nearest latent": nearest, "random directions": by_chance(*store.W_dec.shape)}
        yield "nearest_latent", figures.cosine_histogram(cosines, null="random directions")
    if run.manifest("nulls"):
        twins = run.nulls.twins
        cosines = {"twin seed": twins["cosine"], "frozen decoder": twins["frozen_cosine"]}
        title = "Nearest latent of another seed"
        yield "twin_seed", figures.cosine_histogram(cosines, null="frozen decoder", title=title)
    yield "coactivation", figures.coactivation_heatmap(store.table("coactivations"))
    if run.manifest("concepts") and len(run.concepts):
        yield "concept_scatter", figures.concept_scatter(run.concepts)
        yield "concept_dots", figures.concept_dots(run.concepts)
        scanned = int(store.meta.get("n_tokens", store.tokens.numel()))
        yield "concept_frequency", figures.concept_frequency(run.concepts, n_tokens=scanned)


def of_ranking(run: Run) -> Drawn:
    """Verdicts and scores, beside their nulls where the run has them."""
    if not run.manifest("ranking"):
        return
    facts = run.features.table()[["latent", "max"]]
    table = run.ranking.drop(columns="max", errors="ignore").merge(facts, on="latent")
    yield "scores", figures.score_distributions(table)
    yield "coherence_density", figures.coherence_density(table)
    yield "max_density", figures.coherence_density(table, score="max")
    yield "rules", figures.precision_recall(table)
    if run.manifest("nulls"):
        yield "verdicts", figures.verdict_shares(run.nulls.shares)
        yield "scores_beside_nulls", figures.scores_beside_nulls(run.nulls.verdicts)
    W_dec = run.features.W_dec
    if W_dec is not None:
        fires = table[table["n_active"] > 0].sort_values("latent", ignore_index=True)
        points = decoder_layout(np.asarray(W_dec, np.float32)[fires["latent"]])
        fires = fires.assign(x=points[:, 0], y=points[:, 1])
        yield "decoder_map", figures.decoder_map(fires)
        yield "decoder_map_density", figures.decoder_map(fires, colour="density")


def of_one(run: Run, latents: list[int], width: str | float) -> Drawn:
    """Single latents: how strongly they fire, what they write, where they fire."""
    store: FeatureStore = run.features
    if not latents:
        latents = run.ranking["latent"].head(N_LATENTS).tolist() if run.manifest("ranking") else [0]
    histograms, intervals, examples = (store.table(name) for name in ("histograms", "intervals", "examples"))
    for latent in latents:
        feature = store[latent]
        if not feature.facts.n_active:
            continue
        yield (
            f"latent_{latent}_activations",
            figures.activation_histogram(histograms, latent=latent, intervals=intervals[intervals["latent"] == latent]),
        )
        if feature.facts.top_logit_tokens is not None:
            yield f"latent_{latent}_logits", figures.logit_bars(feature.facts, store.vocab)
        own = examples[(examples["latent"] == latent) & (examples["kind"] == "top")].sort_values("rank")
        yield f"latent_{latent}_text", figures.example_text(own, store.vocab, width=width, latent=latent)


def by_chance(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Cosine of each of n random directions with its nearest."""
    rows = np.random.default_rng(seed).standard_normal((n, d), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = np.empty(n, np.float32)
    for start in range(0, n, 1024):
        cosines = rows[start : start + 1024] @ rows.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        nearest[start : start + 1024] = cosines.max(1)
    return nearest


def gallery(named: dict[str, go.Figure], formats: list[str], run: Run) -> str:
    """A page of all figures, with links to their files. It opens offline."""
    cards = []
    for name, fig in named.items():
        links = " ".join(f'<a href="{name}.{ending}">{ending}</a>' for ending in formats)
        shown = next((ending for ending in ("svg", "png") if ending in formats), None)
        image = f'<img src="{name}.{shown}" alt="{html.escape(str(fig.layout.title.text))}">' if shown else ""
        cards.append(f"<figure>{image}<figcaption>{fig.layout.title.text} <small>{links}</small></figcaption></figure>")
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1400px;margin:2em auto;padding:0 1em}"
        "body{color-scheme:light dark}main{columns:420px;column-gap:2em}figure{break-inside:avoid;margin:0 0 2em}"
        "img{background:white;max-width:100%}figcaption{margin-top:.4em}"
    )
    title = html.escape(f"Figures of {run.path.resolve().name}")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return f"{head}<h1>{title}</h1><main>{''.join(cards)}</main></html>\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--out", type=Path, help="where the figures go (default RUN-figures)")
    parser.add_argument("--width", type=millimetres, default="column", help=f"{', '.join(WIDTHS)}, or millimetres")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS, help=", ".join(FORMATS))
    parser.add_argument("--latents", nargs="+", type=int, default=[], help="latents to draw on their own")
    options = parser.parse_args(arguments)
    check_run(parser, "RUN", options.run, ["features"])
    return options


def millimetres(text: str) -> str | float:
    return text if text in WIDTHS else float(text)


if __name__ == "__main__":
    main()
