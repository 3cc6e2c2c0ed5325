"""interp: a dictionary-learning workbench for language models.

The names below are loaded when they are first used, so that importing the package is quick.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # read by type checkers, and by `_homes`: the one list of what is public
    from interp import effects as effects
    from interp import exchange as exchange
    from interp import figures as figures
    from interp.activations import ActivationStore as ActivationStore
    from interp.activations import join_stores as join_stores
    from interp.baselines import NeuronDictionary as NeuronDictionary
    from interp.baselines import PCADictionary as PCADictionary
    from interp.baselines import RandomDictionary as RandomDictionary
    from interp.codes import SparseCodes as SparseCodes
    from interp.exchange.dictionary_formats import SAETransformer as SAETransformer
    from interp.explorer.live_model import explore as explore
    from interp.features.feature_store import FeatureStore as FeatureStore
    from interp.features.feature_store import ScanConfig as ScanConfig
    from interp.features.feature_store import scan_features as scan_features
    from interp.harvest import harvest as harvest
    from interp.monosemanticity.ranking import rank_codes as rank_codes
    from interp.monosemanticity.ranking import rank_features as rank_features
    from interp.monosemanticity.verdicts import ranking_evidence as ranking_evidence
    from interp.monosemanticity.verdicts import verdict_shares as verdict_shares
    from interp.pipeline.config import RunConfig as RunConfig
    from interp.pipeline.execution import run_stages as run_stages
    from interp.pipeline.run_folder import Run as Run
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
    from interp.sae import check_gradients as check_gradients
    from interp.sae import load_sae as load_sae
    from interp.sae import train_sae as train_sae
    from interp.sae import train_sweep as train_sweep


def _homes() -> dict[str, str]:
    """Of each name imported above, the module it comes from."""
    imports = ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    found = [each for each in imports if isinstance(each, ast.ImportFrom) and str(each.module).startswith("interp")]
    return {each.names[0].name: str(each.module) for each in found}


_HOMES = _homes()
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'interp' has no attribute {name!r}; it has {', '.join(__all__)}")
    if _HOMES[name] == "interp":
        return import_module(f"interp.{name}")
    return getattr(import_module(_HOMES[name]), name)


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
