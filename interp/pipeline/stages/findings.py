"""What the features are worth: `quality`, `concepts`, `nulls`, `ranking`, `words` and, where a run ends, `report`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.pipeline.config import RunConfig
from interp.pipeline.run_folder import Run
from interp.pipeline.stages import section, stage
from interp.pipeline.validation import at_least_1
from interp.storage.files import Progress, digest_file, write_parquet

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore
    from models.tokens import LabelledTokens

PARQUET = "pandas:read_parquet"
NEXT_LINE = "\n" + " " * 24
"""Of a summary, behind the name of the stage and its seconds."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    tokens: int = 100_000
    """Validation tokens on which the dictionary is spliced into the model."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        at_least_1(self, "tokens", "batch_size")

    def held_out(self, run: Run) -> "LabelledTokens":
        return run.val_tokens[: max(1, self.tokens // run.val_tokens.n_ctx)]


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    nulls: int = 2
    """Circular shifts of the codes that give the null distribution of each measure."""
    seed: int = 0
    use_labels: bool = False
    """Let explanations name the corpus's labels; verdicts never know them."""
    judge_faint: bool = False
    """Test faint latents too, which do next to nothing, and give them a verdict like any other's."""
    twin: str | None = None
    """The folder (seen from where the command runs) of a run, or of a scan of the same tokens, with a dictionary from
    another seed: how well each latent is found again."""

    def __post_init__(self) -> None:
        if self.nulls < 1:
            raise ValueError(f"nulls={self.nulls} must be at least 1: without a null no score has a scale")
        if self.nulls > 1000:
            raise ValueError(f"nulls={self.nulls} must be at most 1,000: two suffice")
        if not 0 <= self.seed < 2**31:
            how = "must not be negative: take 0 or more" if self.seed < 0 else "must be below 2³¹"
            raise ValueError(f"seed={self.seed} {how}")

    def open_twin(self) -> "FeatureStore | None":
        from interp.features.feature_store import FeatureStore

        return None if self.twin is None else FeatureStore.open(self.twin)


@stage(
    inputs=("corpus", "model", "activations", "sae"),
    own={"quality": QualityConfig},
    shared=("harvest", "sae"),
    opens={"quality": ("quality.parquet", PARQUET)},
    summary=lambda results: NEXT_LINE.join(
        f"{name}: FVU {r['fvu']:.3f}, L0 {r['l0']:.0f}, CE recovered {r['ce_recovered_mean']:.3f}"
        for name, r in results.items()
    ),
)
def quality(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the dictionary spliced into the model: L0, FVU, cross-entropy recovered, beside PCA and random directions"""
    from interp.codes.sparse_codes import Dictionary
    from interp.evaluation.baselines import NeuronDictionary, PCADictionary, RandomDictionary
    from interp.evaluation.quality import quality_table

    config, hook_name = run.config, run.config.harvest.hook_name
    d_in = run.store.d(hook_name)
    k = min(d_in, getattr(config.sae, "k", None) or max(1, round(run.results("sae")["l0"])))
    seed = getattr(config.sae, "seed", 0)
    is_mlp = hook_name == config.harvest.neurons
    dictionaries: dict[str, Dictionary] = {
        "SAE": run.sae,
        "PCA": PCADictionary.fit(run.store, hook_name, k=k),
        "neurons" if is_mlp else "coordinates": NeuronDictionary(d_in, k=k, signed=not is_mlp),
        "random": RandomDictionary.fit(run.store, hook_name, run.sae.d_sae, k=k, seed=seed),
    }
    held_out, options = config.quality.held_out(run), _in_the_model(run, progress)
    table = quality_table(dictionaries, run.model, held_out.tokens, hook_name, **options)
    write_parquet(folder / "quality.parquet", table)
    return _by(table, "dictionary")


def _in_the_model(run: Run, progress: Progress) -> dict[str, Any]:
    return {"batch_size": run.config.quality.batch_size, "exclude": run.tokenizer.special_ids, "progress": progress}


@stage(
    inputs=("features", "neurons"),
    opens={"concepts": ("concepts.parquet", PARQUET)},
    summary=lambda results: (
        f"best feature beats best neuron on {sum(r['f1_feature'] > r['f1_neuron'] for r in results.values())} "
        f"of {len(results)} labels"
    ),
)
def concepts(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the best latent and the best neuron for each label, F1 on held-out text"""
    from interp.metrics.measures import concept_table

    table = concept_table(run.features, run.neurons)
    write_parquet(folder / "concepts.parquet", table)
    return _by(table, "label")


def _by(table: "pd.DataFrame", key: str) -> dict[str, Any]:
    return {str(name): row for name, row in table.set_index(key).to_dict(orient="index").items()}


def by_dictionary(shares: "pd.DataFrame") -> dict[str, Any]:
    """Dictionary → verdict → the shares that a line of the command line tells."""
    columns = ["verdict", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high"]
    firing = shares.dropna(subset=["share"]).groupby("dictionary", sort=False)
    return {str(name): _by(rows[columns], "verdict") for name, rows in firing}


def beside_nulls(results: Mapping[str, Any]) -> str:
    """A line a dictionary: the share of one meaning (95 % interval), and its two parts."""
    return NEXT_LINE.join(
        f"{name + ':':20s} {one['share']:4.0%} one meaning ({one['ci_low']:.0%} to {one['ci_high']:.0%}): "
        f"{of['monosemantic']['share']:4.0%} monosemantic, {of['lexical']['share']:4.0%} single-token"
        for name, of in results["shares"].items()
        for one in [of["one_meaning"]]
    )


@stage(
    inputs=("model", "activations", "sae", "features", "neurons"),
    own={"nulls": section("interp.compare.null_dictionaries:NullsConfig", sae_tokens=1_000_000)},
    shared=("harvest", "sae"),
    opens={"nulls": (".", "interp.compare.null_dictionaries:Nulls.read")},
    summary=beside_nulls,
)
def nulls(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the same verdicts for a twin seed, neurons, frozen dictionaries, and a shuffled and an untrained model"""
    from interp.compare.null_dictionaries import compare_with_nulls

    config = run.config.harvest
    of_run = run.features, run.neurons, run.store, config.hook_name, run.model, run.sae.config, folder
    options: Any = {"settings": run.config.nulls, "batch_size": config.batch_size, "progress": progress}
    nulls = compare_with_nulls(*of_run, **options)
    match, chance = (float(nulls.twins[column].mean()) for column in ("cosine", "frozen_cosine"))
    return {"shares": by_dictionary(nulls.shares), "twin": {"mean_cosine": match, "by_chance": chance}}


def verdicts(counts: Mapping[str, Any]) -> str:
    """One line of what `verdict_counts` counted."""
    said = []
    for verdict, count in counts["verdicts"].items():
        notes = [(counts["unsure"].get(verdict, 0), "unsure")]
        if verdict == "polysemantic":
            notes.append((counts["inseparable"], "without separable senses"))
        note = ", ".join(f"{n:,} {words}" for n, words in notes if n)
        said.append(f"{count:,} {verdict}" + (f" ({note})" if note else ""))
    return ", ".join(said)


def _twin_scan(config: RunConfig) -> dict[str, Any]:
    twin = config.ranking.open_twin()
    return {} if twin is None else {"twin": digest_file(twin.path / "scan.json")}


@stage(
    inputs=("corpus", "features"),
    optional=("effects", "nulls"),
    own={"ranking": RankingConfig},
    outside=_twin_scan,
    opens={"ranking": ("ranking.parquet", "interp.monosemanticity.verdicts:read_ranking")},
    summary=verdicts,
)
def ranking(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the probability that a latent has one meaning, its verdict, senses, evidence beside its nulls, and explanation"""
    from interp.monosemanticity.verdicts import verdict_counts

    table = ranked(run, run.config.ranking, progress)
    write_parquet(folder / "ranking.parquet", table)
    return verdict_counts(table)


def ranked(run: Run, config: RankingConfig, progress: Progress) -> "pd.DataFrame":
    """The ranking of a run's features, with the evidence of its labels, and of its effects and nulls where they are."""
    from interp.monosemanticity.ranking import rank_features

    if config.use_labels and not run.harvested.labels:
        raise ValueError(f"explanations are to name labels, but the corpus of {run.path} has none")
    return rank_features(
        run.features,
        nulls=config.nulls,
        seed=config.seed,
        labels=run.harvested.labels,
        use_labels=config.use_labels,
        twin=config.open_twin(),
        effects=run.effects if run.manifest("effects") else None,
        matches=run.nulls.twins if run.manifest("nulls") else None,
        judge_faint=config.judge_faint,
        progress=progress,
    )


@stage(
    inputs=("corpus", "model", "activations", "sae", "features", "ranking"),
    shared=("harvest", "quality"),
    opens={"words": ("words.parquet", PARQUET), "words_shares": ("shares.parquet", PARQUET)},
    summary=lambda results: (
        "CE recovered by " + ", ".join(f"{name} {r:.3f}" for name, r in results["recovered"].items())
    ),
)
def words(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the explanations alone spliced into the model, beside a lookup by token and permuted rules: cross-entropy kept"""
    from interp.rewriting import rewrite_in_words

    config, held_out = run.config, run.config.quality.held_out(run)
    labels = (run.harvested.labels, held_out.labels) if config.ranking.use_labels else None
    of_run = run.features, run.ranking, run.sae, run.store, run.model, held_out.tokens
    options = _in_the_model(run, progress)
    found = rewrite_in_words(*of_run, labels=labels, seed=config.ranking.seed, **options)
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
