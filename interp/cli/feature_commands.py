"""Features: `scan` gathers statistics, `rank` judges, `report` writes a page."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from interp.cli.console import Bar
from interp.cli.paths import (
    TABLES,
    as_written,
    check_writable,
    hook_to_scan,
    is_run,
    only_hook,
    open_features,
    opened_model,
    read_table,
    write_table,
)
from interp.pipeline.execution import run_alone
from interp.pipeline.run_folder import Run
from interp.pipeline.stages.findings import ranked, verdicts
from interp.storage.folders import check_free, locked

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations import ActivationStore

MIN_KEPT = 0.8
"""Of the tokens of a store that a tokenizer makes again from their text, if it made them."""


def scan_command(
    sae: Annotated[str, "the folder of an SAE (ours, SAELens's or sparsify's), a SAELens release, or `neurons`"],
    store: Annotated[Path, "an activation store, as harvest writes it"],
    *,
    out: Annotated[Path, "the folder of the feature store"],
    sae_id: Annotated[str | None, "which SAE of a release"] = None,
    hook: Annotated[str | None, "(default: the one that the SAE was trained on, or the store's only one)"] = None,
    model: Annotated[str | None, "the model that was harvested: folder, name, .gguf file"] = None,
    tokenizer: Annotated[Path | None, "the tokenizer folder (default: beside the tokens)"] = None,
    tokens: Annotated[Path | None, "the labelled tokens that were harvested"] = None,
    max_neurons: Annotated[int, "of `neurons`: so many, the strongest, fire at a token"] = 32,
) -> None:
    """SAE + store → feature store

    Statistics, examples and logit effects of every latent, as Parquet tables in OUT.
    --model adds logit effects and readable tokens, --tokens adds the labels that the text carries."""
    from interp.activations import ActivationStore
    from interp.evaluation.baselines import NeuronDictionary
    from interp.features.feature_store import scan_features
    from interp.sae import load_sae

    acts = ActivationStore.open(store)
    if sae == "neurons":
        d = acts.d(only_hook(acts, hook))
        dictionary: Any = NeuronDictionary(d, k=min(d, max_neurons))
    else:
        dictionary = load_sae(sae, sae_id)
    opened = opened_model(model) if model else None
    labels, vocab = _text(acts, tokens, tokenizer)
    vocab = vocab or (opened.tokenizer.display() if opened and opened.tokenizer else None)
    if opened is not None and vocab is not None and len(vocab) > opened.d_vocab:
        has = f"--model {model} is of {opened.d_vocab} tokens"
        raise ValueError(f"{has}, the tokenizer of {len(vocab)}: name the model's own with --tokenizer")
    with Bar("scan") as bar:
        given: Any = {"model": opened, "vocab": vocab, "labels": labels, "progress": bar}
        features = scan_features(dictionary, acts, hook_to_scan(acts, hook, dictionary), out, **given)
    print(f"{features.d_sae:,} features in {out}")


def _text(store: "ActivationStore", tokens: Path | None, tokenizer: Path | None) -> tuple[Any, list[str] | None]:
    """Labels and vocabulary. ValueError for tokens that the store was not harvested from, or only in part, and for a
    tokenizer that did not make them."""
    import torch

    from models import load_tokenizer
    from models.tokenizer import share_encoded_again
    from models.tokens import LabelledTokens

    labelled = LabelledTokens.load(as_written(tokens)) if tokens else None
    place = tokenizer or (tokens.parent / "tokenizer" if tokens else None)
    spelt = load_tokenizer(as_written(place)) if place else None
    if labelled is not None and store.tokens is not None:
        labelled = labelled[: len(store.tokens)]
        if not torch.equal(labelled.tokens.int(), store.tokens):
            raise ValueError(f"--tokens {tokens} are not the tokens that {store.path} was harvested from: name those")
    if labelled is not None and spelt is not None and labelled.tokenizer not in ("", spelt.digest):
        raise ValueError(f"the tokenizer {place} did not make --tokens {tokens}: name its own with --tokenizer")
    share = 1.0 if spelt is None or store.tokens is None else share_encoded_again(spelt, store.tokens)
    if share < MIN_KEPT:
        raise ValueError(
            f"the tokenizer {place} did not make the tokens of {store.path}: of their text it makes the same ids for "
            f"{share:.0%}; name their own with --tokenizer"
        )
    return None if labelled is None else labelled.labels, None if spelt is None else spelt.display()


def rank_command(
    source: Annotated[Path, "a run folder, or a feature store as scan writes it"],
    *,
    out: Annotated[Path | None, "a .parquet or .csv file; needed for a feature store"] = None,
    nulls: Annotated[int | None, "circular shifts for the null distributions (default 2)"] = None,
    seed: int | None = None,
    labels: Annotated[bool, "let explanations name the labels of the run's corpus (verdicts never know them)"] = False,
    faint: Annotated[bool, "judge faint latents too"] = False,
    twin: Annotated[Path | None, "a run or scan of the same tokens from another seed: is each latent found?"] = None,
) -> None:
    """run folder or feature store → ranking

    Rank latents from monosemantic to polysemantic, each measure beside its null.
    Of a run folder the ranking goes where its stage puts it, RUN/ranking; of a feature store to --out."""
    if out is None:
        check_free(source)
    from interp.monosemanticity.ranking import rank_features
    from interp.monosemanticity.verdicts import verdict_counts

    asked = {"nulls": nulls, "seed": seed, "judge_faint": faint or None}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    beside = None if twin is None else open_features(twin)
    if out is not None:
        check_writable("--out", out, *TABLES)
    if is_run(source):
        run = Run(source)
        given |= {"use_labels": True} if labels else {}
        given |= {} if beside is None else {"twin": str(beside.path.resolve())}
        config = dataclasses.replace(run.config.ranking, **given)
        if out is None:
            return _rank_in_place(run, config)
        with Bar("rank") as bar:
            table = ranked(run, config, bar)
    elif out is None:
        raise ValueError(f"{source} is not a run folder: name the ranking's file with --out")
    elif labels:
        raise ValueError(f"--labels: {source} is no run folder, and a feature store keeps no masks of labels")
    else:
        with Bar("rank") as bar:
            table = rank_features(open_features(source), twin=beside, progress=bar, **given)
    write_table(table, out)
    print(f"{verdicts(verdict_counts(table))}{_found(table)}\n{out}")


def _found(table: "pd.DataFrame") -> str:
    """Of a ranking beside a twin, the line on it."""
    r = table["twin_correlation"].dropna()
    return f"\ntwin_correlation {r.median():.2f} in the median; ½ or more for {(r >= 0.5).mean():.0%}" if len(r) else ""


def _rank_in_place(run: Run, config: Any) -> None:
    with Bar("ranking") as bar:
        manifest = run_alone(run, "ranking", config=run.config.replace(ranking=config), progress=bar)
    print(verdicts(manifest["results"]) + _found(run.ranking))
    print(run.path / "ranking" / "ranking.parquet")
    print(f"interp report {run.path} writes its page anew")


def report_command(
    source: Annotated[Path, "a run folder, or a feature store"],
    *,
    out: Annotated[Path | None, "the page's folder; needed for a feature store"] = None,
    ranking: Annotated[Path | None, "a .parquet file, as rank writes it (default: the run's)"] = None,
) -> None:
    """run folder or feature store → page

    Write a page that works offline. Of a run folder it goes where its stage puts it, RUN/report/page, or to --out; of a
    feature store to --out."""
    if out is None:
        check_free(source)
    from interp.report import write_report

    extras: dict[str, Any] = {}
    if ranking is not None and ranking.suffix != ".parquet":
        raise ValueError(f"--ranking {ranking} must end in .parquet: a .csv does not keep the senses")
    if out is not None:
        check_writable("--out", out)
    elif not is_run(source):
        raise ValueError(f"{source} is not a run folder: name the page's folder with --out")
    if ranking is not None:
        extras["ranking"] = read_table("--ranking", ranking, [], open_features(source))
    with Bar("report") as bar:
        if out is None and not extras:
            page = source / run_alone(Run(source), "report", progress=bar)["results"]["page"]
        else:
            whole = Run(source) if is_run(source) else open_features(source)
            with nullcontext() if out else locked(source):
                page = write_report(whole, out or source / "report" / "page", progress=bar, **extras)
    print(page)
