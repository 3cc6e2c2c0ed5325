"""Which figures does a write-up of a run need, and how do they look in print?

    python -m analyses.make_figures runs/demo --width column --out runs/demo-figures
    python -m analyses.make_figures runs/demo --latents 476 12 --formats pdf

It draws every figure for which a finished run has the results. The width is that of a column (84.5 mm), of one of
ICML's columns (82.6 mm), of a page (139.7 mm), or any number of millimetres. The formats are PDF, SVG and PNG if Chrome
or Chromium is installed, and always HTML. Each figure gets a manifest. `index.html` is a gallery of all figures with
their captions, and `figures.tex` has both for LaTeX, as `quality.tex` has the quality table.
"""

import argparse
import html
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.record import check_run
from interp import Run, figures
from interp.codes.code_chunks import read_chunks
from interp.compare.compared_dictionaries import MATCHED
from interp.display.verdict_names import ONE_MEANING_ROW, ONE_MEANING_VERDICTS, WITHOUT_SCORES
from interp.effects import AttributionGraph, attribution_graph
from interp.features.feature_store import FeatureStore
from interp.figures.dictionaries import N_COACTIVE, chained_order, escape_latex, pairs_of
from interp.figures.graphs import with_few_latents
from interp.figures.print_layout import WIDTHS, with_print_layout
from interp.figures.saving import provenance, write_images
from interp.figures.theme import visible_token
from interp.report.names import LatentName, names_at_nodes, names_in
from interp.report.payloads import N_CONTEXT_TOKENS
from interp.storage.files import write_json, write_text
from interp.verdict.measure_nulls import random_directions, second_moments
from interp.verdict.measures import largest_cosines

FORMATS = ["pdf", "svg", "png", "html"]
N_LATENTS = 3
"""Number of latents that are drawn one by one, unless `--latents` names them."""


N_PROMPTS = 24
"""Number of prompts of which the graph is made that explains most, unless `--prompt` names one."""


@dataclass(frozen=True)
class Results:
    """The results from which figures are drawn. A figure is drawn if all of its required parameters are among the names
    here."""

    named: Mapping[str, Any]
    suffix: str = ""
    """The suffix of the figures' names."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments. Only figures that take all of them are drawn."""
    note: str = ""
    """What a caption says about these results."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What it says instead, by the names of figures whose results are others."""


def main(arguments: list[str] | None = None) -> Path:
    options = parse(arguments)
    run = Run(options.run)
    figures_of_run = draw_figures(run, options.latents, options.width, options.prompt)
    out: Path = options.out or Path(f"{options.run}-figures")
    out.mkdir(parents=True, exist_ok=True)
    written = {out / f"{name}.{ending}": fig for name, fig in figures_of_run.items() for ending in options.formats}
    images = {path: with_print_layout(fig, options.width) for path, fig in written.items() if path.suffix != ".html"}
    write_images(images)
    for path, fig in written.items():
        if path.suffix == ".html":
            fig.write_html(path, include_plotlyjs="directory")
        write_json(path.with_name(f"{path.name}.json"), provenance(fig, path, options.width, run))
    if run.has("quality"):
        write_text(out / "quality.tex", quality_table(run))
    write_text(out / "figures.tex", latex_figures(figures_of_run))
    write_text(out / "index.html", gallery(figures_of_run, options.formats, run))
    print(f"{len(figures_of_run)} figures: {out / 'index.html'}")
    return out


def draw_figures(run: Run, latents: list[int], width: str | float, prompt: str = "") -> dict[str, go.Figure]:
    """Return, by name, every figure for which the run has the results, with its caption in `layout.meta`. `latents`
    also get figures one by one, and `prompt` gets an attribution graph."""
    figures_by_name = {}
    for results in results_of(run, latents, width, prompt):
        for noun, draw in figures.all_figures().items():
            parameters = inspect.signature(draw).parameters
            required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
            if required <= results.named.keys() and results.options.keys() <= parameters.keys():
                named = {name: value for name, value in results.named.items() if name in parameters}
                fig = draw(**named, **results.options)
                fig.layout.meta = (fig.layout.meta or {}) | {"caption": caption_of(fig, draw, results)}
                figures_by_name[f"{noun}_{results.suffix}".rstrip("_")] = fig
    return figures_by_name


def caption_of(fig: go.Figure, draw: Callable[..., go.Figure], results: Results) -> str:
    """Return what a figure draws, in its own words or else in the first paragraph of its docstring, and a note on its
    results."""
    paragraph = (inspect.getdoc(draw) or "").partition("\n\n")[0].replace("\n", " ")
    words = (fig.layout.meta or {}).get("caption") or paragraph.removeprefix("Draw ").replace("`", "")
    note = results.notes.get(draw.__name__, results.note)
    return f"{words[:1].upper()}{words[1:]} {note}".strip()


def results_of(run: Run, latents: list[int], width: str | float, prompt: str = "") -> Iterator[Results]:
    """Return the results of a run, by the names of the figures' parameters."""
    if (run.path / "model" / "metrics.jsonl").is_file():
        levels = {name: run.results("model").get(f"{name}_cross_entropy") for name in ("unigram", "bigram")}
        finite_levels = {name: loss for name, loss in levels.items() if loss is not None}
        yield Results({"run": run.path / "model"}, "model", {"levels": finite_levels}, note_on_model(run))
    if (run.path / "sae" / "metrics.jsonl").is_file():
        yield Results({"run": run.path / "sae"}, "sae", note=note_on_dictionary(run))
    store, table = run.features, run.features.table()
    results: dict[str, Any] = {"features": table, "coactivations": coactivations_of(store)}
    results["names"] = {latent: without_ends(name.short) for latent, name in enumerate(names_of(run))}
    n_tokens = int(store.meta.get("n_tokens", store.tokens.numel()))
    notes = {}
    if run.has("quality"):
        results["quality_table"] = quality_of(run)
        notes["quality"] = note_on_quality(run.quality)
    if run.has("concepts") and len(run.concepts):
        results |= {"concepts": run.concepts, "n_tokens": n_tokens}
        if run.has("neurons"):
            units = f"{len(table):,} latents and of {len(run.neurons.table()):,} units without a dictionary"
            notes["concept_dots"] = f"Each is the best of {units}, on {n_tokens:,} tokens."
    if run.has("ranking"):
        results["ranking"] = run.ranking
    if run.has("nulls"):
        results |= {"shares": run.nulls.shares, "verdicts": run.nulls.verdicts}
        notes |= dict.fromkeys(("verdict_shares", "scores_beside_nulls"), note_on_nulls(run))
    yield Results(
        results, note=f"The dictionary has {len(table):,} latents; the text has {n_tokens:,} tokens.", notes=notes
    )
    yield from graph_of(run, prompt, width)
    if run.has("neurons"):
        neurons = run.neurons.table()
        note = f"These are {len(table):,} latents and {len(neurons):,} neurons on {n_tokens:,} tokens."
        yield Results({"features": {"latents": table, "neurons": neurons}}, "beside_neurons", note=note)
    yield from cosines_of(run)
    for latent in latents or shown_latents(run):
        note = f"Latent {latent} fires on {store[latent].facts.n_active:,} of {n_tokens:,} tokens."
        yield Results(results_of_latent(store, latent, width), f"latent_{latent}", note=note)


def graph_of(run: Run, prompt: str, width: str | float) -> Iterator[Results]:
    """Yield the attribution graph of a prompt, by default of that of N_PROMPTS starts of validation sequences which the
    drawn latents explain most; nothing for a model that predicts no next tokens."""
    model = run.model
    if getattr(model, "W_U", None) is None or getattr(model, "final_norm", None) is None:
        return
    dictionaries = {hook: run.at(hook).sae for hook in run.hooks}
    prompts = [prompt] if prompt else wordy_prompts(run.val_tokens.tokens, run.features.vocab)
    graph = max((attribution_graph(model, each, dictionaries) for each in prompts), key=drawn_explanation)
    text = "".join(graph.tokens).strip()
    names = names_at_nodes(graph, {hook: of_hook for hook in run.hooks if (of_hook := names_of(run.at(hook)))})
    names = {
        node: f"{node.split('_')[1]} " + re.sub('"[^"]*"', lambda quoted: visible_token(quoted[0]), without_ends(name))
        for node, name in names.items()
    }
    yield Results({"graph": graph, "names": names, "width": width}, note=f"The prompt is “{text}”.")


def drawn_explanation(graph: AttributionGraph) -> tuple[bool, float]:
    """Return whether the drawn latent of the largest effect raises the likeliest next token; and how many nats all
    drawn latents add to its log probability, times the share of the influence on it that the drawn nodes hold, times
    its probability."""
    nodes, kept = with_few_latents(graph)
    effects = kept.nodes["effect"][kept.nodes["type"] == "latent"]
    probability = float(graph.nodes["activation"].iat[graph.likeliest])
    return bool(effects.max() >= effects.abs().max()), float(effects.sum()) * nodes * probability


def names_of(run: Run) -> list[LatentName]:
    """Return the name of each latent, if the run has them."""
    return names_in(run.names) if run.has("names") else []


def without_ends(name: str) -> str:
    """Return a name in short without the ends that stand for more senses ("+2")."""
    return "; ".join(filter(None, (re.sub(r"( |^)\+\d+$", "", part) for part in name.split("; "))))


def coactivations_of(store: FeatureStore) -> pd.DataFrame:
    """Return the co-activations of the latents that are drawn, of every pair: the table of the store has only the
    closest ones of each latent."""
    latents = chained_order(pairs_of(store.table("coactivations")), N_COACTIVE)
    chosen = np.isin(np.arange(store.codes.d_sae), latents)
    both = np.zeros((len(latents), len(latents)))
    for chunk in read_chunks(store.codes):
        fires = (chunk.of_latents(chosen).by_row[:, latents] > 0).astype(np.int64)
        both += (fires.T @ fires).toarray()
    n = both.diagonal()
    jaccard = both / np.maximum(n[:, None] + n - both, 1)
    pairs = [(a, b, jaccard[i, j]) for i, a in enumerate(latents) for j, b in enumerate(latents) if i != j]
    return pd.DataFrame(pairs, columns=["latent", "other", "jaccard"])


def note_on_model(run: Run) -> str:
    config = run.config.training
    return (
        f"Trained on {config.tokens:,} tokens, with {config.batch_size} sequences of {run.config.model.n_ctx} a step."
    )


def note_on_dictionary(run: Run) -> str:
    """Return the tokens of the training, and what the steps and teeth of its curves are."""
    config: Any = run.config.sae
    notes = [f"{config.d_sae:,} latents trained on {config.tokens:,} tokens."]
    if getattr(config, "k_anneal", 0) and getattr(config, "k", None):
        notes.append(
            f"The steps of L0 are k, which falls to {config.k} in the first {config.k_anneal:.0%} of the training."
        )
    if times := getattr(config, "resample_at", ()):
        notes.append(
            f"The teeth of the shares are resamplings: {len(times)} times, from {times[0]:.0%} to {times[-1]:.0%} of "
            "the training, dead and faint latents get a new start at activations that are reconstructed badly."
        )
    return " ".join(notes)


def quality_of(run: Run) -> pd.DataFrame:
    """Return the quality table, in which a dictionary that is no SAE is called what it is."""
    return run.quality if run.sae.kind == "sae" else run.quality.replace({"dictionary": {MATCHED: run.sae.kind}})


def note_on_quality(quality: pd.DataFrame) -> str:
    """Return on which tokens quality was measured, and what intervals leave out."""
    own, others = quality.iloc[0], quality.iloc[1:]
    n_all, n_own = own["n_tokens"], own["n_spliced"]
    spliced = "" if n_own == n_all else f"; the cross-entropy on {n_own:,} of them"
    if len(others) and (n_others := others["n_spliced"].iloc[0]) != n_own:
        spliced += f"; below the first row, the cross-entropy on {n_others:,}"
    note = f"Measured on {n_all:,} held-out tokens{spliced}."
    if not len(others):
        note += (
            " Nothing stands beside it: PCA and random directions reconstruct what they read, not what an MLP writes."
        )
    rows = others.set_index("dictionary")
    if "random" not in rows.index:
        return note
    note += " Random directions: the mean of five draws."
    kept = rows["ce_recovered"]
    explained = 1 - rows["fvu"]
    if "PCA" in rows.index and kept["random"] > kept["PCA"] - 0.05 and explained["random"] < 0.8 * explained["PCA"]:
        note += (
            f" They recover about as much of the cross-entropy as PCA ({kept['random']:.0%} and {kept['PCA']:.0%}), "
            f"though they explain less of the variance ({explained['random']:.0%} and {explained['PCA']:.0%})."
        )
    return note


def quality_table(run: Run) -> str:
    """Return the table of quality in LaTeX, with a caption that says what counts as dead there."""
    features = run.features.table()
    n_tokens = int(run.features.meta.get("n_tokens", run.features.tokens.numel()))
    dead = float((features["n_active"] == 0).mean())
    caption = (
        f"Quality of the dictionaries on {run.quality['n_tokens'].iloc[0]:,} held-out tokens. Dead latents fire on "
        f"none of these; of the first dictionary, {dead:.1%} fire on none of the {n_tokens:,} tokens of the scan."
    )
    head = [r"\begin{table}", rf"\caption{{{escape_latex(caption)}}}", r"\label{tab:quality}"]
    return "\n".join([*head, figures.quality_latex(quality_of(run)) + r"\end{table}"]) + "\n"


def note_on_nulls(run: Run) -> str:
    """Return from how many tokens the compared dictionaries learnt, on how many they were judged, and how the ranked
    dictionary differs from the one beside them."""
    shares, config = run.nulls.shares, run.config.nulls
    one = shares[shares["verdict"] == ONE_MEANING_ROW].set_index("dictionary")
    learnt, trained = int(one["trained_tokens"].max()), getattr(run.config.sae, "tokens", None)
    note = (
        f"All learnt from {learnt:,} tokens; {int(one['latents'].max()):,} latents of each were judged on the same "
        f"{config.tokens:,} tokens. Dead and faint ones are not counted."
    )
    if trained and trained > learnt and run.has("ranking"):
        verdicts = run.ranking["verdict"]
        tested = verdicts[~verdicts.isin(WITHOUT_SCORES)]
        note += (
            f" The run's own SAE, which learnt from {trained:,} tokens, is another: of its {len(tested):,} tested "
            f"latents, {tested.isin(ONE_MEANING_VERDICTS).mean():.0%} have one meaning."
        )
    return note


def wordy_prompts(tokens: Int[Tensor, "sequence pos"], vocab: Sequence[str], n: int = 8) -> list[Int[Tensor, " pos"]]:
    """Return the first `n` tokens of the N_PROMPTS sequences that begin with the most whole words of English letters,
    those first in which the n-th and the next token are such words, so that the prompt ends where a word does."""
    starts = tokens[:, : n + 1]
    is_word = torch.tensor([re.fullmatch(" [A-Za-z]+", text) is not None for text in vocab])[starts]
    score = is_word.sum(1) + n * is_word[:, -2:].all(1)
    return list(starts[score.argsort(descending=True, stable=True)[:N_PROMPTS], :n])


def cosines_of(run: Run) -> Iterator[Results]:
    """Yield cosines of directions, with those of random directions if there are any."""
    store, table = run.features, run.features.table()
    if table["enc_dec_cosine"].notna().any():
        encoders, decoders = run.sae.W_enc.detach().T.float(), run.sae.W_dec.detach().float()
        others = torch.nn.functional.cosine_similarity(encoders, decoders.roll(1, 0)).cpu().numpy()
        cosines = {"own decoder": table["enc_dec_cosine"], "another's decoder": others}
        words = {
            "null": "another's decoder",
            "title": "Encoder against decoder",
            "axis": "cosine with the encoder of the latent",
        }
        note = f"Each of {len(table):,} encoders is compared with its own decoder, and with that of the latent before."
        yield Results({"cosines": cosines}, "encoder_decoder", words, note)
    if store.W_dec is not None:
        nearest = store.table("neighbours").query("rank == 0")["cosine"]
        cosines = {"nearest latent": nearest, "random directions": by_chance(store.W_dec)}
        words = {"null": "random directions", "axis": "cosine with the nearest other latent"}
        note = f"The decoder has {len(nearest):,} directions; the random ones are as unevenly spread."
        yield Results({"cosines": cosines}, "nearest_latent", words, note)
    if run.has("nulls"):
        twins = run.nulls.twins
        cosines = {"twin seed": twins["cosine"], "frozen decoder": twins["frozen_cosine"]}
        words = {"null": "frozen decoder", "title": "Nearest latent of another seed"}
        words["axis"] = "cosine with the nearest of the other's latents"
        note = (
            f"Each of {len(twins):,} latents is compared with the nearest latent of the same training from another "
            "seed (twin seed, a positive control), and of a dictionary whose decoder stayed random."
        )
        yield Results(
            {"cosines": cosines},
            "twin_seed",
            words,
            note,
        )


def shown_latents(run: Run) -> list[int]:
    return run.ranking["latent"].head(N_LATENTS).tolist() if run.has("ranking") else [0]


def results_of_latent(store: FeatureStore, latent: int, width: str | float) -> dict[str, Any]:
    """Return the results of one latent: how strongly it fires, what it writes, and where it fires. There are none for a
    latent that never fires."""
    feature = store[latent]
    if not feature.facts.n_active:
        return {}
    histogram, examples = (rows[rows["latent"] == latent] for rows in map(store.table, ("histograms", "examples")))
    strongest = examples[examples["kind"] == "top"].sort_values("rank")
    results = dict(latent=latent, histogram=histogram, examples=strongest, width=width)
    results |= {"vocab": store.vocab, "following": following(store, latent)}
    return results | {"feature": feature.facts} if feature.has_logits else results


def following(store: FeatureStore, latent: int) -> list[int]:
    """Return the ids of the tokens that follow a latent's firings most often, as many as the page shows."""
    after = store.table("tokens").query("latent == @latent and offset == 1")
    return after.nlargest(N_CONTEXT_TOKENS, "n")["token"].tolist()


def by_chance(W_dec: Float[Tensor, "n d"], seed: int = 0) -> np.ndarray:
    """Return the cosine of each of n random directions, as unevenly spread as the decoder's, with its nearest
    neighbour."""
    return largest_cosines(random_directions(second_moments(W_dec), len(W_dec), seed))


def gallery(named: dict[str, go.Figure], formats: list[str], run: Run) -> str:
    """Return a page of all figures with their captions, and with links to their files. It works offline."""
    cards = []
    for name, fig in named.items():
        links = " ".join(f'<a href="{name}.{ending}">{ending}</a>' for ending in formats)
        shown = next((ending for ending in ("svg", "png") if ending in formats), None)
        title = fig.layout.title.text
        image = f'<img src="{name}.{shown}" alt="{html.escape(str(title))}">' if shown else ""
        words = f"<b>{title}</b>. {html.escape(fig.layout.meta['caption'])} <small>{links}</small>"
        cards.append(f"<figure>{image}<figcaption>{words}</figcaption></figure>")
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1400px;margin:2em auto;padding:0 1em}"
        "body{color-scheme:light dark}main{columns:420px;column-gap:2em}figure{break-inside:avoid;margin:0 0 2em}"
        "img{background:white;max-width:100%}figcaption{margin-top:.4em}"
    )
    title = html.escape(f"Figures of {run.path.resolve().name}")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return f"{head}<h1>{title}</h1><main>{''.join(cards)}</main></html>\n"


def latex_figures(named: dict[str, go.Figure]) -> str:
    """Return each figure with its caption in LaTeX, to be copied from."""
    parts = []
    for name, fig in named.items():
        caption = escape_latex(f"{html.unescape(fig.layout.title.text)}. {fig.layout.meta['caption']}")
        lines = (rf"\includegraphics{{{name}}}", rf"\caption{{{caption}}}")
        parts.append("\n".join([r"\begin{figure}", *lines, rf"\label{{fig:{name}}}", r"\end{figure}"]))
    return "\n\n".join(parts) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--out", type=Path, help="where the figures go (default RUN-figures)")
    parser.add_argument("--width", type=millimetres, default="column", help=f"{', '.join(WIDTHS)}, or millimetres")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS, help=", ".join(FORMATS))
    parser.add_argument("--latents", nargs="+", type=int, default=[], help="latents to draw on their own")
    parser.add_argument(
        "--prompt", default="", help="whose graph is drawn (default: of some validation texts, the one best explained)"
    )
    options = parser.parse_args(arguments)
    check_run(parser, "RUN", options.run, ["features"])
    return options


def millimetres(text: str) -> str | float:
    return text if text in WIDTHS else float(text)


if __name__ == "__main__":
    main()
