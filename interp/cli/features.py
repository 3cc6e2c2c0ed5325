"""A dictionary's features: `scan` gathers statistics, `rank` judges, `report` writes a page."""

import argparse
import os
from pathlib import Path
from typing import Any

from interp.cli.parsing import command, only_hook
from interp.console import Bar, verdicts


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
    from interp.features import scan_features
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
    text = "Rank the latents of a feature store from monosemantic to polysemantic, each score beside its null."
    parser = command(commands, "rank", _rank, "feature store → ranking", text)
    parser.add_argument("features", type=Path, help="a feature store, as scan writes it")
    parser.add_argument("--out", type=Path, required=True, help="a .parquet or .csv file")
    parser.add_argument("--nulls", type=int, default=2, help="shifted texts for the null distributions (default 2)")
    parser.add_argument("--seed", type=int, default=0)


def _rank(options: argparse.Namespace) -> None:
    from interp.features import FeatureStore
    from interp.ranking import rank_features

    if options.out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"--out {options.out} must end in .parquet or .csv")
    features = FeatureStore.open(options.features)
    with Bar("rank") as bar:
        table = rank_features(features, nulls=options.nulls, seed=options.seed, progress=bar)
    temporary = options.out.with_name(options.out.name + ".tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(temporary, index=False) if options.out.suffix == ".parquet" else table.to_csv(
        temporary, index=False
    )
    os.replace(temporary, options.out)
    print(verdicts({str(name): int(n) for name, n in table.verdict.value_counts().items()}))


def add_report(commands: Any) -> None:
    text = "Write a page that works offline from a run folder or a feature store."
    parser = command(commands, "report", _report, "run folder or feature store → page", text)
    parser.add_argument("source", type=Path, help="a run folder, or a feature store")
    parser.add_argument("--out", type=Path, required=True, help="the page's folder")


def _report(options: argparse.Namespace) -> None:
    from interp.features import FeatureStore
    from interp.report import write_report

    is_run = (options.source / "run.toml").is_file()
    with Bar("report") as bar:
        page = write_report(options.source if is_run else FeatureStore.open(options.source), options.out, progress=bar)
    print(page)
