"""Does `learnt` separate what a model learnt from what random weights show of its text?

    python -m analyses.claims.learnt_latents                judges each corpus by a fit to the others; resumes
    python -m analyses.claims.learnt_latents --calibrate    fits the probability that the package ships, writes it there
    python -m analyses.claims.learnt_latents --quick        tiny, for the tests

Claim: the probability separates latents of trained dictionaries on trained models from those of all nulls of a run,
matched for density and token entropy, with AUROC ≥ 0.95 on corpora that it was not fitted to, and an ECE ≤ 0.05. The
shipped curve is fitted against the models that learnt nothing. A dictionary with a frozen part on a trained model is a
different null, because it reads what the model learnt. It is shown separately, as is a fit against all nulls.

On each corpus a transformer is trained, and a dictionary of each kind: on the model itself; with a frozen decoder, a
frozen encoder or a soft-frozen decoder; on the model with shuffled weights; and on a model before training. Each kind
is judged as a run judges its dictionary: dictionaries of another shuffled and another untrained model are the random
ones. Dead, faint and rare latents are left out. Writes results.json.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from analyses.bench.peers import versions
from analyses.record import parse_with_out
from analyses.scorecard.planted_texts import FAMILIES
from analyses.scorecard.scores import expected_calibration_error, matched_weights
from interp import TopKConfig, harvest, scan_features, train_sweep
from interp.codes.latent_strengths import is_faint
from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES
from interp.evaluation.baselines import shuffled_model
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import best_correlations
from interp.features.scan_config import ScanConfig
from interp.verdict.learnt import LEARNT_INPUTS, LearntFit
from models.corpus import CorpusConfig, load_documents
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.training import train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig

FILE = Path(__file__).parents[2] / "interp" / "verdict" / "learnt.json"
HOOK = "blocks.0.hook_resid_post"
COUNTS = ScanConfig(n_top=0, n_per_interval=0, n_coactivations=0, n_neighbours=0)
MIN_FIRINGS = 100
"""A latent that fires at fewer rows is too rare to be judged."""


class Sizes(NamedTuple):
    n_seq: int = 3072
    scanned: int = 768
    """Sequences that latents are judged on, the first ones."""
    n_ctx: int = 128
    d_sae: int = 256
    d_model: int = 64
    model_tokens: int = 800_000
    sae_tokens: int = 390_000


QUICK = Sizes(256, 128, 64, 32, 32, 10_000, 10_000)
CORPORA: Mapping[str, Mapping[str, float] | str] = {"shakespeare": {"shakespeare": 1.0}, "records": "records"}
"""The corpora: real text as its sources with their shares, and planted text as its family."""
RANDOM = ("shuffled model", "untrained model")
FROZEN = {name: each.config for name, each in COMPARED_DICTIONARIES.items() if each.config and each.role == "null"}
"""Nulls that learnt nothing of the text; a dictionary with a frozen part reads what a trained model learnt."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = _parse(arguments)
    sizes = QUICK if options.quick else Sizes()
    tables = [
        read_or_make(options.out / f"{name}-{seed}", name, seed, sizes)
        for seed in range(options.seeds)
        for name in CORPORA
    ]
    table = pd.concat(tables, ignore_index=True)
    against_random = table[table.is_learnt | table.kind.isin(RANDOM)].reset_index(drop=True)
    if options.calibrate:
        fit(against_random).save(FILE)
        print(f"{len(against_random):,} latents of {table.corpus.nunique()} corpora → {FILE}")
    results = {"sizes": sizes._asdict(), "seeds": options.seeds, "versions": versions()}
    results |= {"held out": held_out(table, RANDOM), "held out, all nulls": held_out(table, [*RANDOM, *FROZEN])}
    results["single"] = singles(against_random)
    (options.out / "results.json").write_text(json.dumps(results, indent=1))
    return results


def read_or_make(folder: Path, name: str, seed: int, sizes: Sizes) -> pd.DataFrame:
    """Return the latents of a corpus, from its file where it already exists."""
    file = folder / "latents.parquet"
    if not file.exists():
        table = corpus_latents(folder, name, seed, sizes)
        table.to_parquet(file, index=False)
        print(f"  {name}, seed {seed}: {len(table):,} latents", flush=True)
    return pd.read_parquet(file)


def corpus_latents(folder: Path, name: str, seed: int, sizes: Sizes) -> pd.DataFrame:
    tokens, d_vocab = corpus(name, seed, sizes)
    config = TransformerConfig.preset(
        "one-layer", d_vocab=d_vocab, n_ctx=sizes.n_ctx, d_model=sizes.d_model, n_heads=4, d_mlp=4 * sizes.d_model,
        seed=seed,
    )  # fmt: skip
    steps, aside = TrainingConfig(tokens=sizes.model_tokens, n_samples=0, seed=seed), len(tokens) // 16
    train_model(Transformer(config), tokens[aside:], tokens[:aside], steps, folder / "model")
    model = Transformer.load(folder / "model")
    dictionary = TopKConfig(d_sae=sizes.d_sae, k=8, tokens=sizes.sae_tokens, seed=10 * seed)
    models = {"trained": model, "shuffled model": shuffled_model(model, seed=seed)}
    models["untrained model"] = model.untrained(seed)
    others = {"other shuffled": shuffled_model(model, seed=seed + 50), "other untrained": model.untrained(seed + 50)}
    scans: dict[str, FeatureStore] = {}
    for place, each in (models | others).items():
        configs = {place: dictionary}
        if place == "trained":
            configs |= {kind: freeze(dictionary) for kind, freeze in FROZEN.items()}
        store, scanned = (
            harvest(each, part, [HOOK], folder / place / kept_as)
            for part, kept_as in ((tokens, "store"), (tokens[: sizes.scanned], "scanned"))
        )
        saes = train_sweep(store, HOOK, list(configs.values()), out=folder / place / "dictionaries")
        for kind, sae in zip(configs, saes, strict=True):
            scans[kind] = scan_features(sae, scanned, HOOK, folder / place / kind, model=each, config=COUNTS)
    random = [scans[name] for name in others]
    parts = [evidence(scan, random).assign(kind=kind) for kind, scan in scans.items() if kind not in others]
    for place in models | others:
        for kept_as in ("store", "scanned"):
            shutil.rmtree(folder / place / kept_as)
    return pd.concat(parts).assign(corpus=name, seed=seed, is_learnt=lambda table: table.kind == "trained")


def corpus(name: str, seed: int, sizes: Sizes) -> tuple[torch.Tensor, int]:
    """Return tokens [seq, pos], and how many kinds there are."""
    source = CORPORA[name]
    if isinstance(source, str):
        text = FAMILIES[source](np.random.default_rng([seed, 99]), sizes.n_seq, sizes.n_ctx, 40, 0.0)
        return torch.from_numpy(text.tokens), len(text.vocab)
    characters = 3 * sizes.n_seq * sizes.n_ctx
    documents = load_documents(CorpusConfig(shares=source, characters=characters, seed=seed))
    tokenizer = Tokenizer.train_bpe((document.text for document in documents), 1024)
    tokens = tokenize(documents, tokenizer, sizes.n_ctx, deduplicate=False).tokens[: sizes.n_seq]
    return tokens, tokenizer.vocab_size


def evidence(judged: FeatureStore, random: Sequence[FeatureStore]) -> pd.DataFrame:
    """Return LEARNT_INPUTS, density and token entropy of all latents that fire and are not faint."""
    table = judged.table().sort_values("latent").reset_index(drop=True)
    table["random_correlation"] = np.fmax(*(best_correlations(judged, each) for each in random))
    faint = is_faint(table["max"].fillna(0).to_numpy(np.float32), table["dec_norm"].to_numpy()).numpy()
    columns = ["latent", "density", "token_entropy", *LEARNT_INPUTS]
    return table.loc[~faint & (table.n_active >= MIN_FIRINGS), columns].dropna()


def fit(table: pd.DataFrame) -> LearntFit:
    """Fit the curve. Every corpus and every kind of null counts the same; latents of one corpus are matched."""
    return fit_learnt(table[list(LEARNT_INPUTS)], table.is_learnt.to_numpy(), matched(table))


def matched(table: pd.DataFrame) -> np.ndarray:
    """Return weights by which, on each corpus, latents that are learnt are like those of each kind of null in density
    and token entropy; all corpora and kinds count the same."""
    weight = pd.Series(0.0, table.index)
    for _, part in table.groupby(["corpus", "seed"]):
        for kind in part.kind[~part.is_learnt].unique():
            two_kinds = part[part.is_learnt | (part.kind == kind)]
            weights = matched_weights(
                two_kinds[["density", "token_entropy"]].to_numpy(), two_kinds.is_learnt.to_numpy()
            )
            weight[two_kinds.index] += weights / max(weights.sum(), 1e-9)
    return weight.to_numpy()


def held_out(table: pd.DataFrame, nulls: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per corpus, judged by a fit to the others, and one for all. The fit, `auroc` and `ece` are against
    these kinds of null together; then the AUROC of the same probability against each kind of null that there is."""
    p, rows, used = pd.Series(0.0, table.index), [], table.is_learnt | table.kind.isin(nulls)
    for corpus, part in table.groupby("corpus", sort=False):
        p[part.index] = fit(table[used & (table.corpus != corpus)]).probability(part[list(LEARNT_INPUTS)])
        rows.append({"corpus": corpus, **quality(part, p[part.index], used[part.index])})
    rows.append({"corpus": "all", **quality(table, p, used)})
    print(
        f"fitted against {', '.join(nulls)}", pd.DataFrame(rows).round(3).to_string(index=False), sep="\n", flush=True
    )
    return rows


def quality(table: pd.DataFrame, p: pd.Series, used: pd.Series) -> dict[str, float]:
    """Return `auroc`, and `ece` at even odds, of the latents used; their number `n`; and `called`, the share of trained
    latents that are called learnt."""
    rows = table[used]
    weight, learnt = matched(rows), rows.is_learnt.to_numpy()
    even = weight / np.where(learnt, weight[learnt].sum(), weight[~learnt].sum())
    scores: dict[str, float] = {"n": len(rows), "called": float((p[rows.index][learnt] >= 0.5).mean())}
    scores["auroc"] = float(roc_auc_score(learnt, p[rows.index], sample_weight=weight))
    scores["ece"] = expected_calibration_error(p[rows.index].to_numpy(), learnt, even)
    for kind in table.kind[~table.is_learnt].unique():
        both = table[table.is_learnt | (table.kind == kind)]
        scores[kind] = float(roc_auc_score(both.is_learnt, p[both.index], sample_weight=matched(both)))
    return scores


def singles(table: pd.DataFrame) -> dict[str, float]:
    """Return AUROC of each kind of evidence alone, or of its opposite, matched likewise."""
    x, weight = LearntFit.predictors(table[list(LEARNT_INPUTS)]), matched(table)
    areas = (roc_auc_score(table.is_learnt, column, sample_weight=weight) for column in x.T)
    return dict(zip(LEARNT_INPUTS, (max(float(a), 1 - float(a)) for a in areas), strict=True))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="models of each corpus (default 1)")
    parser.add_argument("--calibrate", action="store_true", help="fit the probability that the package ships")
    parser.add_argument("--quick", action="store_true")
    return parse_with_out(parser, arguments, Path("runs/learnt_latents"))


def fit_learnt(evidence: Mapping[str, np.ndarray], is_learnt: np.ndarray, weight: np.ndarray) -> LearntFit:
    """Fit to latents of which it is known; both kinds count the same in all."""
    x, counts = LearntFit.predictors(evidence), weight.astype(np.float64)
    totals = np.where(is_learnt, counts[is_learnt].sum(), counts[~is_learnt].sum())
    counts *= len(counts) / 2 / np.maximum(totals, 1e-9)
    mean = np.average(x, axis=0, weights=counts)
    scale = np.average((x - mean) ** 2, axis=0, weights=counts) ** 0.5 + 1e-6
    model = LogisticRegression(max_iter=2000).fit((x - mean) / scale, is_learnt, sample_weight=counts)
    return LearntFit(mean, scale, model.coef_[0], float(model.intercept_[0]))


if __name__ == "__main__":
    main()
