"""interp: a dictionary-learning workbench for language models.

Each public name is loaded from its module when it is first used, so that importing the package is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read; `_HOMES` is what runs
    from interp import effects as effects
    from interp import exchange as exchange
    from interp import figures as figures
    from interp.activations import ActivationStore as ActivationStore
    from interp.activations import ActivationStream as ActivationStream
    from interp.activations import join_stores as join_stores
    from interp.activations.harvesting import harvest as harvest
    from interp.codes.sparse_codes import SparseCodes as SparseCodes
    from interp.evaluation.baselines import NeuronDictionary as NeuronDictionary
    from interp.evaluation.baselines import PCADictionary as PCADictionary
    from interp.evaluation.baselines import RandomDictionary as RandomDictionary
    from interp.evaluation.quality import evaluate_dictionary as evaluate_dictionary
    from interp.evaluation.quality import quality_table as quality_table
    from interp.exchange.dictionary_formats import SAETransformer as SAETransformer
    from interp.features.feature_store import FeatureStore as FeatureStore
    from interp.features.feature_store import ScanConfig as ScanConfig
    from interp.features.feature_store import scan_features as scan_features
    from interp.features.of_text import features_of as features_of
    from interp.pipeline.config import RunConfig as RunConfig
    from interp.pipeline.execution import run_stages as run_stages
    from interp.pipeline.opening import open_any as open_any
    from interp.pipeline.run_folder import Run as Run
    from interp.report import write_report as write_report
    from interp.report.live.text_box import explore as explore
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
    from interp.verdict.ranking import rank_codes as rank_codes
    from interp.verdict.ranking import rank_features as rank_features
    from interp.verdict.verdicts import ranking_evidence as ranking_evidence
    from interp.verdict.verdicts import verdict_shares as verdict_shares

_PACKAGES = ("effects", "exchange", "figures")
_NAMES = {
    "interp.activations": ("ActivationStore", "ActivationStream", "join_stores"),
    "interp.activations.harvesting": ("harvest",),
    "interp.codes.sparse_codes": ("SparseCodes",),
    "interp.evaluation.baselines": ("NeuronDictionary", "PCADictionary", "RandomDictionary"),
    "interp.evaluation.quality": ("evaluate_dictionary", "quality_table"),
    "interp.exchange.dictionary_formats": ("SAETransformer",),
    "interp.features.feature_store": ("FeatureStore", "ScanConfig", "scan_features"),
    "interp.features.of_text": ("features_of",),
    "interp.verdict.ranking": ("rank_codes", "rank_features"),
    "interp.verdict.verdicts": ("ranking_evidence", "verdict_shares"),
    "interp.pipeline.config": ("RunConfig",),
    "interp.pipeline.execution": ("run_stages",),
    "interp.pipeline.opening": ("open_any",),
    "interp.pipeline.run_folder": ("Run",),
    "interp.report": ("write_report",),
    "interp.report.live.text_box": ("explore",),
    "interp.sae": (
        "SAE",
        "BatchTopKConfig",
        "Crosscoder",
        "GatedConfig",
        "JumpReLUConfig",
        "MatchingPursuitConfig",
        "MatryoshkaConfig",
        "ReLUConfig",
        "SAEConfig",
        "TopKConfig",
        "Transcoder",
        "check_gradients",
        "load_sae",
        "train_sae",
        "train_sweep",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [*_PACKAGES, *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"interp.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'interp' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
