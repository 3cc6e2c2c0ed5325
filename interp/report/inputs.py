"""Gather the inputs of a report. All except the features may be missing.

A feature store alone has a page. A run adds the tables that its stages wrote. `ReportInputs` has the inputs of either.
`ReadableRun` is what this package, and packages above it, read of a run, so that they need not know how a run is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from interp.checks.errors import InterpError
from interp.compare.null_dictionaries import Nulls
from interp.display.verdict_names import DEAD, UNRANKED
from interp.evaluation.quality import decoder_digest
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_table
from interp.report.contexts import Labels
from interp.report.verdict_evidence import EVIDENCE_COLUMNS
from interp.verdict.ranking_tables import ranking_evidence

if TYPE_CHECKING:
    from interp.features.feature import Feature

COLUMN_DEFAULTS: Mapping[str, float | str | None] = {
    **dict.fromkeys(("monosemanticity", "ci_low", "ci_high", "sure", "learnt", "token_share"), np.nan),
    **dict.fromkeys(("concentration", "shared_share", "n_senses", "explanation_f1", "explanation_precision"), np.nan),
    **dict.fromkeys(("explanation_recall", "explanation_n_examples", "explanation_f1_by_interval"), np.nan),
    **dict.fromkeys(("explanation", "explanation_json", "shared", "shared_json"), ""),
    "senses": None,
}
"""Columns of a ranking that the page reads besides `latent`, `verdict` and `evidence`, with the value that replaces an
absent column. The ranking may come from another producer."""
LIST_COLUMNS = ("senses", "evidence", "explanation_f1_by_interval")
"""Columns of a ranking whose cells are lists, which a .csv file does not keep."""


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """The inputs of a page: a feature store, and optional tables and facts about it.

    Raises ValueError if a table belongs to other features than `features`, or the ranking has a latent twice.
    """

    features: FeatureStore
    title: str = "Features"
    ranking: pd.DataFrame | None = None
    """One row per ranked latent, as `rank_features` returns it."""
    quality: pd.DataFrame | None = None
    """One row per dictionary, as `quality_table` returns it."""
    nulls: Nulls | None = None
    effects: pd.DataFrame | None = None
    """One row per latent that was ablated (`interp.effects.feature_effects`)."""
    names: pd.DataFrame | None = None
    """One row per latent (`names.name_latents`), of this ranking and these labels. Without it the page makes them."""
    labels: Labels = field(default_factory=dict)
    """Facts about the scanned tokens, such as the kind of their text, each as a mask."""
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Rows of metrics of the trainings: "model", "sae"."""
    model_results: Mapping[str, Any] = field(default_factory=dict)
    """The results of training or measuring the model, such as val_loss in nats per token."""
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sections of the run's configuration that its stages were made with: "corpus", "model", "sae"."""
    stages: Sequence[tuple[str, float]] = ()
    """Stages of the run in their order, with their wall time in seconds."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Names and versions of the software that made the run."""
    panels: Sequence[Mapping[str, Any]] = ()
    """Payloads of further panels (`panels.Panel`), in the order in which they are shown."""

    def __post_init__(self) -> None:
        if self.ranking is not None:
            check_table(self.features, self.ranking, "the ranking")
            if self.ranking["latent"].duplicated().any():
                raise InterpError("the ranking has latents more than once; give one row per latent")
            for name in LIST_COLUMNS:
                if name in self.ranking and self.ranking[name].map(lambda cell: isinstance(cell, str)).any():
                    raise InterpError(f"the ranking's {name} are text, as in a .csv: read a .parquet instead")
        if self.nulls is not None:
            check_table(self.features, self.nulls.twins, "the table of nulls", "`interp run` makes theirs")
        if self.names is not None:
            check_table(self.features, self.names, "the table of names", "`interp run` makes theirs")
        decoders = {} if self.quality is None else self.quality.attrs.get("decoders", {})
        W_dec = self.features.W_dec
        if decoders and W_dec is not None and decoder_digest(W_dec) not in decoders.values():
            raise InterpError(
                f"the quality table belongs to other dictionaries ({', '.join(decoders)}) "
                f"than the features in {self.features.path}: evaluate the one that was scanned"
            )

    @cached_property
    def table(self) -> pd.DataFrame:
        """The features, one row for each latent (dead ones too), in the order of the latents."""
        table = self.features.table().set_index("latent", drop=False).reindex(range(self.features.d_sae))
        table["latent"] = table.index
        table["n_active"] = table["n_active"].fillna(0).astype(int)
        return table

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The ranking, with one row for each latent in the same order, and all columns that the page reads. Columns
        that the ranking lacks are empty. Without a ranking, the verdict of each latent is `dead` or `unranked`."""
        if self.ranking is None:
            table = self.table[["latent"]].copy()
        else:
            table = self.ranking.set_index("latent", drop=False).reindex(self.table.index)
            table["latent"] = self.table["latent"]
        fallback = self.table["n_active"].eq(0).map({True: DEAD, False: UNRANKED})
        table["verdict"] = table["verdict"].fillna(fallback) if "verdict" in table else fallback
        return table.assign(**{name: value for name, value in COLUMN_DEFAULTS.items() if name not in table})

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """The evidence, with one row for each latent and measure: latent, measure, value, z, null_low, null_high.

        It adds `nearest_twin` to the measures of the ranking: the cosine with the nearest latent of the run's twin. Its
        null comes from the random directions of a frozen decoder.
        """
        table = pd.DataFrame(columns=[*EVIDENCE_COLUMNS])
        if self.ranking is not None and "evidence" in self.ranking:
            table = ranking_evidence(self.ranking)
        if self.nulls is None:
            return table
        twins = self.nulls.twins
        low, high = twins["frozen_cosine"].quantile([0.025, 0.975])
        nearest = twins[["latent"]].assign(measure="nearest_twin", value=twins["cosine"], z=np.nan)
        return pd.concat([table, nearest.assign(null_low=low, null_high=high)], ignore_index=True)


class ReadableRun(Protocol):
    """A run whose results can be read, such as `interp.Run`. Reading a result raises AttributeError if its stage has
    not run yet, and ValueError if it was made from other inputs than the run has now."""

    @property
    def path(self) -> Path: ...
    @property
    def title(self) -> str: ...
    @property
    def hook_name(self) -> str: ...
    @property
    def hooks(self) -> tuple[str, ...]: ...
    @property
    def features(self) -> FeatureStore: ...
    @property
    def sae(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def ranking(self) -> pd.DataFrame: ...
    @property
    def quality(self) -> pd.DataFrame: ...
    @property
    def nulls(self) -> Nulls: ...
    @property
    def page(self) -> Path: ...
    def manifest(self, stage: str) -> Mapping[str, Any] | None: ...
    def has(self, stage: str) -> bool: ...
    def path_to(self, name: str) -> Path: ...
    def feature(self, latent: int) -> "Feature": ...
    def at(self, hook_name: str) -> "ReadableRun": ...
    def summaries(self) -> Mapping[str, str]: ...
    def provenance(self) -> Mapping[str, Any]: ...


def report_inputs(run_or_features: Any) -> ReportInputs:
    """Return the inputs of the page of a run or a feature store. Raises ValueError for anything else. A path must be
    opened first, by `Run` or `FeatureStore.open`."""
    if isinstance(run_or_features, ReportInputs):
        return run_or_features
    if isinstance(run_or_features, FeatureStore):
        return ReportInputs(features=run_or_features)
    if hasattr(run_or_features, "report_inputs"):
        return run_or_features.report_inputs()
    raise InterpError(
        f"{run_or_features!r} is neither a run nor a feature store: open it with Run or FeatureStore.open"
    )
