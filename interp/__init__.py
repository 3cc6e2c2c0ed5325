"""interp: a dictionary-learning workbench for language models.

The names below are loaded when they are first used, so that importing the package is quick.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp import figures as figures
    from interp.activations import ActivationStore as ActivationStore
    from interp.activations import join_stores as join_stores
    from interp.baselines import NeuronDictionary as NeuronDictionary
    from interp.baselines import PCADictionary as PCADictionary
    from interp.baselines import RandomDictionary as RandomDictionary
    from interp.codes import SparseCodes as SparseCodes
    from interp.features.feature_store import FeatureStore as FeatureStore
    from interp.features.feature_store import ScanConfig as ScanConfig
    from interp.features.feature_store import scan_features as scan_features
    from interp.harvest import harvest as harvest
    from interp.monosemanticity.ranking import rank_codes as rank_codes
    from interp.monosemanticity.ranking import rank_features as rank_features
    from interp.monosemanticity.ranking import verdict_shares as verdict_shares
    from interp.pipeline.config import RunConfig as RunConfig
    from interp.pipeline.run import Run as Run
    from interp.pipeline.run import run_stages as run_stages
    from interp.quality import evaluate_dictionary as evaluate_dictionary
    from interp.quality import quality_table as quality_table
    from interp.report import write_report as write_report
    from interp.sae import SAE as SAE
    from interp.sae import BatchTopKConfig as BatchTopKConfig
    from interp.sae import Crosscoder as Crosscoder
    from interp.sae import GatedConfig as GatedConfig
    from interp.sae import JumpReLUConfig as JumpReLUConfig
    from interp.sae import MatchingPursuitConfig as MatchingPursuitConfig
    from interp.sae import MatryoshkaConfig as MatryoshkaConfig
    from interp.sae import ReLUConfig as ReLUConfig
    from interp.sae import SAEConfig as SAEConfig
    from interp.sae import TopKConfig as TopKConfig
    from interp.sae import Transcoder as Transcoder
    from interp.sae import load_sae as load_sae
    from interp.sae import train_sae as train_sae
    from interp.sae import train_sweep as train_sweep

_HOMES = {
    "ActivationStore": "activations",
    "BatchTopKConfig": "sae",
    "Crosscoder": "sae",
    "FeatureStore": "features.feature_store",
    "GatedConfig": "sae",
    "JumpReLUConfig": "sae",
    "MatchingPursuitConfig": "sae",
    "MatryoshkaConfig": "sae",
    "NeuronDictionary": "baselines",
    "PCADictionary": "baselines",
    "RandomDictionary": "baselines",
    "ReLUConfig": "sae",
    "Run": "pipeline.run",
    "RunConfig": "pipeline.config",
    "SAE": "sae",
    "SAEConfig": "sae",
    "ScanConfig": "features.feature_store",
    "SparseCodes": "codes",
    "TopKConfig": "sae",
    "Transcoder": "sae",
    "evaluate_dictionary": "quality",
    "harvest": "harvest",
    "join_stores": "activations",
    "load_sae": "sae",
    "quality_table": "quality",
    "rank_codes": "monosemanticity.ranking",
    "rank_features": "monosemanticity.ranking",
    "run_stages": "pipeline.run",
    "scan_features": "features.feature_store",
    "train_sae": "sae",
    "train_sweep": "sae",
    "verdict_shares": "monosemanticity.ranking",
    "write_report": "report",
}

__all__ = ["figures", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "figures":
        return import_module("interp.figures")
    if name not in _HOMES:
        raise AttributeError(f"module 'interp' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"interp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Importing the module interp.harvest would bind its name here, over the function of the same name."""

    @property
    def harvest(self) -> Any:
        return __getattr__("harvest")

    @harvest.setter
    def harvest(self, module: ModuleType) -> None:
        """The import system sets the submodule; the public name stays the function."""


sys.modules[__name__].__class__ = _Package
