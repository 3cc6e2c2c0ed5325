"""How much of a model's predictions remains if each latent is replaced by what its explanation says?

    python -m analyses.claims.rewriting RUN        a finished run; writes RUN-words, or --out

In: the run's features, their ranking with its rules, and held-out text on which no rule was chosen. The activations at
the dictionary's hook are replaced, in turn, by

    dictionary       decode(codes(x))
    words            b_dec + Σ_j ẑ_j W_dec_j, ẑ_j what the rule of latent j says of the text alone (`rule_strengths`)
    token lookup     the mean activation of the training text at the same token: the strongest that knows no context
    permuted rules   as words, with the rules exchanged among latents of about equal density, and fitted again for them

and the cross-entropy recovered is computed as `interp.evaluation.quality` does for a dictionary.

Source: Paulo & Belrose, whose explanations by a language model lost about as much as ablating the layer (arXiv
2501.18838). Cost: four passes over the features' text for its rules, and seven forward passes over the held-out text.
Limits: each latent is predicted by itself, so nothing knows that latents exclude or replace one another.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from analyses.claims.rule_strengths import Strengths, learn_strengths
from analyses.record import check_run
from interp import Run
from interp.activations import ActivationStore
from interp.activations.hooks import Model
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.codes.sparse_codes import SparseCodes
from interp.codes.training_exclusions import norm_limit_on
from interp.evaluation.splice import Losses, Replace, recovered_share, spliced_losses
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_store_of_scan, check_table, scan_identity
from interp.features.scan_digests import dictionary_digest
from interp.figures.theme import BLUE, GREY, INK, check_columns, escape_markup, with_style
from interp.runtime.progress import Progress, no_progress
from interp.statistics.estimates import ratio
from interp.storage.files import write_json, write_parquet
from interp.text.analysed_text import AnalysedText
from interp.text.predicate_kinds import kinds_in
from interp.text.predicates import Predicates
from interp.text.rules import MAX_ATOMS, Rule, read_atoms

BLOCK_LATENTS = 16
"""Number of latents of about equal density, among which rules are exchanged."""
STAGES = ("corpus", "model", "activations", "sae", "features", "ranking")
"""Stages of the run whose results are read."""

Labels = Mapping[str, Bool[Tensor, "seq pos"]]


class InWords(NamedTuple):
    losses: pd.DataFrame
    """A row a reconstruction: reconstruction, fvu, ce_clean, ce_spliced, ce_mean_ablated (which words amount to
    that say nothing), ce_nothing (zero ablation or unigrams, whichever is lower; all in nats a token), ce_recovered,
    n_tokens (replaced)."""
    shares: pd.DataFrame
    """A row a latent: latent, words_share, the share of its variance on the held-out half of the features' text that
    its words explain (`rule_strengths`); 0 without a rule, NaN if it is constant there."""


def main(arguments: list[str] | None = None) -> InWords:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--out", type=Path, help="a folder for the tables and the figure (default: RUN-words)")
    parsed = parser.parse_args(arguments)
    check_run(parser, "run", parsed.run, STAGES)
    run, out = Run(parsed.run), parsed.out or Path(f"{parsed.run}-words")
    rewritten = rewrite_run(run)
    shares = rewritten.losses.set_index("reconstruction")["ce_recovered"]
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(out / "shares.parquet", rewritten.shares)
    losses = rewritten.losses.to_dict(orient="records")
    write_json(out / "results.json", {"losses": losses, **run.provenance()})
    loss_in_words(rewritten.losses).write_html(out / "loss_in_words.html", include_plotlyjs="directory")
    print("cross-entropy recovered by " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    print(out / "loss_in_words.html")
    return rewritten


def rewrite_run(run: Run) -> InWords:
    """Do `rewrite_in_words` for a run, on the text on which its stage `quality` splices the dictionary."""
    held_out, labels = run.held_out, run.harvested.labels
    use_labels = run.config.ranking.use_labels and labels
    return rewrite_in_words(
        run.features,
        run.ranking,
        run.sae,
        run.store,
        run.model,
        held_out.tokens,
        labels=(labels, held_out.labels) if use_labels else None,
        batch_size=run.config.quality.batch_size,
        exclude=run.tokenizer.special_ids,
        unigram_loss=run.results("model")["unigram_cross_entropy"],
        seed=run.config.ranking.seed,
    )


def rewrite_in_words(
    features: FeatureStore,
    ranking: pd.DataFrame,
    dictionary: Dictionary,
    store: ActivationStore,
    model: Model,
    tokens: Int[Tensor, "seq pos"],
    *,
    labels: tuple[Labels, Labels] | None = None,
    batch_size: int = 16,
    exclude: Sequence[int] = (),
    unigram_loss: float | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> InWords:
    """tokens: held-out text, of the same vocabulary; store: the activations that were scanned; labels: of the features'
    text and of `tokens`, where rules name labels; exclude: token ids left as they are; batch_size: sequences a pass;
    unigram_loss: as `quality.evaluate_dictionary` takes it.

    Raises ValueError if features, ranking and store are not of one another, for a ranking without rules, and as
    `quality.evaluate_dictionary`.
    """
    hook_name = _checked_hook(features, ranking, dictionary, store)
    masks, held_out = labels or (None, None)
    vocab = features.vocab if features.has_vocab else None
    predicates = Predicates.count(features.tokens.numpy(), len(features.vocab), vocab).with_labels(masks or {})
    new_predicates = predicates.with_text(tokens.int().numpy(), held_out)
    rules = _rules(ranking, predicates.text, features.d_sae)
    words = learn_strengths(features, predicates, rules, progress)
    exchanged = [rules[j] for j in exchanged_latents(rules, _counts(features), seed)]
    permuted = learn_strengths(features, predicates, exchanged, progress)
    means = _token_means(store, hook_name, dictionary, len(features.vocab))
    replacements: dict[str, Replace] = {
        "dictionary": lambda x, _: dictionary.decode(dictionary.codes(x.to(dictionary.W_dec.device, torch.float32))),
        "words": partial(_in_words, words, new_predicates, dictionary),
        "token lookup": lambda _, rows: means[tokens.reshape(-1)[rows].long()],
        "permuted rules": partial(_in_words, permuted, new_predicates, dictionary),
    }
    spliced = spliced_losses(
        model,
        dictionary_hooks(model, hook_name, dictionary),
        {"dictionary": dictionary},
        tokens,
        replacements,
        batch_size=batch_size,
        exclude=exclude,
        progress=progress,
        unigram_loss=unigram_loss,
    )
    losses = _losses(spliced)
    shares = pd.DataFrame({"latent": np.arange(features.d_sae), "words_share": words.shares})
    for table in (losses, shares):
        table.attrs["features"] = scan_identity(features)
    return InWords(losses, shares)


def _checked_hook(features: FeatureStore, ranking: pd.DataFrame, dictionary: Dictionary, store: ActivationStore) -> str:
    check_table(features, ranking, "the ranking")
    hook_name = features.meta["hook_name"]
    check_store_of_scan(features, store, hook_name)
    if features.inputs.get("dictionary", digest := dictionary_digest(dictionary)) != digest:
        raise ValueError(f"{features.path} is a scan of another dictionary: give the one that was scanned")
    return hook_name


def rule_of_text(written: str, text: AnalysedText) -> Rule:
    """Read a rule of `rule_json`, for the text that it describes.

    Raises ValueError for anything else, and for a rule of kinds or values that this text does not have.
    """
    rule = tuple(read_atoms(written))
    sizes = {name: kind.size(text) for name, kind in kinds_in(text).items()}
    are_known = all(0 <= value < sizes.get(atom.kind, 0) for atom in rule for value in atom.values)
    are_named = all(len(atom.values) == len(atom.names) > 0 for atom in rule)
    if not are_known or not are_named or not 0 < len(rule) <= MAX_ATOMS:
        raise InterpError(
            f"the rule {written[:80]!r} cannot be read here: rank the features again, with this vocabulary and these "
            "labels"
        )
    return rule


def _rules(ranking: pd.DataFrame, text: AnalysedText, d_sae: int) -> list[Rule]:
    """Return the rules of each latent; () for one that was not ranked or has none."""
    if "explanation_json" not in ranking:
        raise ValueError("the ranking has no column explanation_json, by which rules are read: `interp rank` makes one")
    rules: list[Rule] = [()] * d_sae
    for latent, written in zip(ranking["latent"], ranking["explanation_json"].fillna(""), strict=True):
        rules[latent] = rule_of_text(written, text) if written else ()
    return rules


def _counts(features: FeatureStore) -> Int64[np.ndarray, " d_sae"]:
    return features.column("n_active")


def exchanged_latents(rules: Sequence[Rule], density: np.ndarray, seed: int) -> Int64[np.ndarray, " d_sae"]:
    """Return, for each latent that has a rule, another such latent of about equal density. All other latents keep their
    place."""
    rng, out = np.random.default_rng(seed), np.arange(len(rules))
    having = np.array([j for j, rule in enumerate(rules) if rule], np.int64)
    sorted_latents = having[np.argsort(density[having], kind="stable")]
    for block in np.array_split(sorted_latents, max(1, len(having) // BLOCK_LATENTS)):
        if len(block) > 1:
            out[block] = np.roll(block, rng.integers(1, len(block)))
    return out


def _token_means(
    store: ActivationStore, hook_name: str, dictionary: Dictionary, n_vocab: int
) -> Float[Tensor, "d_vocab d_in"]:
    """Return the mean activation at each token id, and of all rows for one that the text has not."""
    assert store.tokens is not None  # it was scanned
    flat, limit = store.tokens.reshape(-1).long(), norm_limit_on(dictionary, store, hook_name)
    sums, counts = torch.zeros(n_vocab, store.d(hook_name)), torch.zeros(n_vocab)
    for i in range(store.n_shards):
        shard = store.shard(i, hook_name).within(limit)
        token = flat[shard.row_ids]
        sums.index_add_(0, token, shard.acts.float())
        counts += torch.bincount(token, minlength=n_vocab)
    overall = sums.sum(0) / counts.sum()
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], overall)


def _in_words(
    strengths: Strengths,
    predicates: Predicates,
    dictionary: Dictionary,
    x: Float[Tensor, "row d_in"],
    rows: Int[Tensor, " row"],
) -> Float[Tensor, "row d_in"]:
    """Return the rows of some neighbouring sequences, from the text alone."""
    n_ctx = predicates.text.tokens.shape[1]
    first, last = int(rows[0]) // n_ctx, int(rows[-1]) // n_ctx
    codes = strengths.rises_on(predicates, slice(first, last + 1)).take(rows - first * n_ctx)
    device = dictionary.W_dec.device
    always = torch.from_numpy(strengths.elsewhere).to(device) @ dictionary.W_dec.detach().float()
    offsets, latents, values = (part.to(device) for part in (codes.offsets, codes.latents, codes.values))
    return dictionary.decode(SparseCodes(offsets, latents, values, codes.d_sae)) + always


def _losses(losses: Losses) -> pd.DataFrame:
    rows = [
        {
            "reconstruction": name,
            "fvu": float(ratio(losses.squared_error[name], losses.within_limit.total_squares)),
            "ce_clean": losses.ce_clean,
            "ce_spliced": ce,
            "ce_mean_ablated": losses.ce_mean_ablated,
            "ce_nothing": losses.ce_nothing,
            "ce_recovered": recovered_share(losses.ce_clean, ce, losses.ce_nothing),
            "n_tokens": losses.within_limit.n,
        }
        for name, ce in losses.ce.items()
    ]
    return pd.DataFrame(rows)


def loss_in_words(losses: pd.DataFrame) -> go.Figure:
    """Draw the cross-entropy that each reconstruction recovers, one dot each, the best on top; the ends are zero
    ablation or unigrams, whichever is better (0), and the model itself (1)."""
    check_columns(losses, "reconstruction", "ce_recovered", "ce_spliced", "ce_clean", "ce_nothing")
    drawn = losses[["reconstruction", "ce_recovered", "ce_spliced"]].to_numpy().tolist()
    first, ends = losses.iloc[0], ("model as it is", "zeros or unigrams")
    drawn += [[ends[0], 1.0, first["ce_clean"]], [ends[1], 0.0, first["ce_nothing"]]]
    drawn.sort(key=lambda row: row[1])
    names, recovered, ce = (
        [escape_markup(row[0]) for row in drawn],
        [row[1] for row in drawn],
        [row[2] for row in drawn],
    )
    places = list(range(len(names)))
    colours = [GREY if name in ends else BLUE if name == "words" else INK for name in names]
    fig = go.Figure()
    fig.add_scatter(
        x=recovered,
        y=places,
        mode="markers+text",
        marker=dict(color=colours, size=9),
        text=[f"{share:.1%}" for share in recovered],
        textposition="top center",
        textfont_size=11,
        customdata=list(zip(names, ce, strict=True)),
        hovertemplate="%{customdata[0]}: %{x:.1%}, %{customdata[1]:.3f} nats a token<extra></extra>",
        showlegend=False,
    )
    fig.add_vline(x=0, line=dict(color=GREY, dash="dot"))
    with_style(
        fig, "What the explanations alone recover", y="in place of the activations", height=130 + 38 * len(names)
    )
    fig.update_yaxes(tickvals=places, ticktext=names, range=[-0.5, len(names) - 0.3], ticks="")
    x, low = "cross-entropy recovered (held out)", min(0.0, *recovered)
    return fig.update_xaxes(title_text=x, tickformat=".0%", range=[1.15 * low - 0.06, 1.08])


if __name__ == "__main__":
    main()
