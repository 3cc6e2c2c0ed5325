"""A dictionary's features: `scan` gathers statistics, `rank` judges, `report` writes a page."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.console import Bar, verdicts
from interp.cli.files import BOTH, check_writable, is_run, open_features, read_table, write_table
from interp.cli.parsing import command, only_hook

if TYPE_CHECKING:
    from interp.pipeline.run import Run


def add_scan(commands: Any) -> None:
    text = """\
Statistics, examples and logit effects of every latent, as Parquet tables in OUT.
--model adds logit effects and readable tokens, --tokens adds the labels that the text carries."""
    parser = command(commands, "scan", _scan, "SAE + store → feature store", text)
    parser.add_argument("sae", help="the folder of an SAE (ours, SAELens's or sparsify's) or a SAELens release")
    parser.add_argument("--sae-id", help="which SAE of a release")
    parser.add_argument("store", type=Path, help="an activation store, as harvest writes it")
    parser.add_argument("--hook", metavar="NAME", help="needed only where the store holds several")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="the model folder")
    parser.add_argument("--tokenizer", type=Path, help="the tokenizer folder (default: beside the tokens)")
    parser.add_argument("--tokens", type=Path, help="the labelled tokens that were harvested")


def _scan(options: argparse.Namespace) -> None:
    from interp.activations import ActivationStore
    from interp.features.feature_store import scan_features
    from interp.sae import load_sae
    from models.corpus import LabelledTokens
    from models.tokenizer import Tokenizer
    from models.transformer import Transformer

    store = ActivationStore.open(options.store)
    labelled = LabelledTokens.load(options.tokens) if options.tokens else None
    tokenizer = options.tokenizer or (options.tokens.parent / "tokenizer" if options.tokens else None)
    with Bar("scan") as bar:
        features = scan_features(
            load_sae(options.sae, options.sae_id),
            store,
            only_hook(store, options.hook),
            options.out,
            model=Transformer.load(options.model) if options.model else None,
            vocab=Tokenizer.load(tokenizer).display() if tokenizer else None,
            labels=labelled[: len(store.tokens)].labels if labelled and store.tokens is not None else None,
            progress=bar,
        )
    print(f"{features.d_sae:,} features in {options.out}")


def add_rank(commands: Any) -> None:
    text = """\
Rank latents from monosemantic to polysemantic, each score beside its null.
Of a run folder the ranking goes where its stage puts it, RUN/ranking; of a feature store to --out."""
    parser = command(commands, "rank", _rank, "run folder or feature store → ranking", text)
    parser.add_argument("source", type=Path, help="a run folder, or a feature store as scan writes it")
    parser.add_argument("--out", type=Path, help="a .parquet or .csv file; needed for a feature store")
    parser.add_argument("--nulls", type=int, help="shifted texts for the null distributions (default 2)")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--labels",
        action="store_true",
        default=None,
        dest="use_labels",
        help="let explanations name the labels of the run's corpus (verdicts never know them)",
    )
    parser.add_argument(
        "--twin",
        type=Path,
        help="a run or a scan of the same tokens with a dictionary from another seed: is each latent found again?",
    )


def _rank(options: argparse.Namespace) -> None:
    from interp.monosemanticity.ranking import rank_features, verdict_counts
    from interp.pipeline.run import Run
    from interp.pipeline.stages import ranked

    out, given = options.out, {name: getattr(options, name) for name in ("nulls", "seed", "use_labels")}
    given = {name: value for name, value in given.items() if value is not None}
    twin = None if options.twin is None else open_features(options.twin)
    if twin is not None and is_run(options.source):
        given["twin"] = str(twin.path.resolve())
    if out is None:
        if not is_run(options.source):
            raise ValueError(f"{options.source} is not a run folder: name the ranking's file with --out")
        return _rank_run(Run(options.source), given)
    if out.suffix not in BOTH:
        raise ValueError(f"--out {out} must end in {' or '.join(BOTH)}")
    if options.use_labels and not is_run(options.source):
        raise ValueError(f"--labels: {options.source} is no run folder, and a feature store keeps no masks of labels")
    check_writable("--out", out)
    features = open_features(options.source)
    with Bar("rank") as bar:
        if is_run(options.source):
            run = Run(options.source)
            table = ranked(run, dataclasses.replace(run.config.ranking, **given), bar)
        else:
            table = rank_features(features, **given, twin=twin, progress=bar)
    write_table(table, out)
    print(verdicts(verdict_counts(table)))
    print(out)


def _rank_run(run: "Run", given: dict[str, Any]) -> None:
    from interp.pipeline.run import run_alone

    config = dataclasses.replace(run.config, ranking=dataclasses.replace(run.config.ranking, **given))
    with Bar("ranking") as bar:
        manifest = run_alone(run, "ranking", config=config, progress=bar)
    print(verdicts(manifest["results"]))
    print(run.path / "ranking" / "ranking.parquet")
    print(f"interp report {run.path} writes its page anew")


def add_report(commands: Any) -> None:
    text = """\
Write a page that works offline. Of a run folder it goes where its stage puts it, RUN/report/page, or to --out; of a
feature store to --out."""
    parser = command(commands, "report", _report, "run folder or feature store → page", text)
    parser.add_argument("source", type=Path, help="a run folder, or a feature store")
    parser.add_argument("--out", type=Path, help="the page's folder; needed for a feature store")
    parser.add_argument("--ranking", type=Path, help="a .parquet file, as rank writes it (default: the run's)")
    parser.add_argument(
        "--wider", type=Path, help="a dictionary of more latents on the same activations: an SAE, a scan or a run"
    )


def _report(options: argparse.Namespace) -> None:
    from interp.features.feature_store import FeatureStore
    from interp.pipeline.run import Run, run_alone
    from interp.report import write_report

    of_run = is_run(options.source)
    extras = {} if options.wider is None else {"wider": options.wider}
    if options.ranking is not None:
        if options.ranking.suffix != ".parquet":
            raise ValueError(f"--ranking {options.ranking} must end in .parquet: a .csv does not keep the senses")
        extras["ranking"] = read_table("--ranking", options.ranking, [])
    if options.out is not None:
        check_writable("--out", options.out, folder=True)
    elif not of_run:
        raise ValueError(f"{options.source} is not a run folder: name the page's folder with --out")
    with Bar("report") as bar:
        if options.out is None and not extras:
            run = Run(options.source)
            page = run.path / run_alone(run, "report", progress=bar)["results"]["page"]
        else:
            source = options.source if of_run else FeatureStore.open(options.source)
            page = write_report(source, options.out or options.source / "report" / "page", progress=bar, **extras)
    print(page)
