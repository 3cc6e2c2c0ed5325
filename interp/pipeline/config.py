"""The configuration of a run: one frozen dataclass a section, read from TOML and written back.

    [corpus] source = "mixture"    [sae] architecture = "topk"    …

Sections and fields that are left out keep their defaults, which are the demo's. TOML has no null: "none" stands for it.
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import re
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.controls import NullsConfig
from interp.features.feature_store import ScanConfig
from interp.sae import ARCHITECTURES, SAEConfig, TopKConfig
from models.corpus import CorpusConfig
from models.training import TrainingConfig
from models.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    kind: str = "bpe"
    """`bpe` (byte-level, trained on the corpus) or `characters`."""
    vocab_size: int = 2048

    def __post_init__(self) -> None:
        if self.kind not in ("bpe", "characters"):
            raise ValueError(f"kind={self.kind!r} must be 'bpe' or 'characters'")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    preset: str = "one-layer"
    """A name in `models.layers.PRESETS`; the fields below change it where they are given."""
    n_ctx: int = 128
    n_layers: int | None = None
    d_model: int | None = None
    n_heads: int | None = None
    d_mlp: int | None = None
    act_fn: str | None = None
    seed: int = 0

    def transformer(self, d_vocab: int) -> TransformerConfig:
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None and k != "preset"}
        return TransformerConfig.preset(self.preset, d_vocab=d_vocab, **given)


@dataclass(frozen=True, kw_only=True)
class HarvestConfig:
    hook_name: str = "blocks.0.hook_resid_post"
    """Where the dictionary is learnt."""
    neuron_hook: str | None = None
    """Where the neurons are that its latents are compared with. None: the MLP of the block that `hook_name` names."""
    tokens: int = 1_200_000
    """Tokens of the training split to harvest, from its start; all of them if there are fewer."""
    batch_size: int = 64
    """Sequences a forward."""
    dtype: str = "bfloat16"
    max_norm: float | None = None
    """Rows whose norm is above this many times the median are excluded."""
    seed: int = 0

    @property
    def neurons(self) -> str:
        block = re.match(r"blocks\.\d+\.", self.hook_name)
        return self.neuron_hook or (f"{block.group()}mlp.hook_post" if block else self.hook_name)


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    tokens: int = 100_000
    """Validation tokens on which the dictionary is spliced into the model."""
    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    nulls: int = 2
    """Shifted texts that give the null distribution of each score."""
    seed: int = 0
    use_labels: bool = False
    """Let explanations name the corpus's labels; verdicts never know them."""
    twin: str | None = None
    """The folder (seen from where the command runs) of a run, or of a scan of the same tokens, with a dictionary from
    another seed: how well each latent is found again."""

    def __post_init__(self) -> None:
        if self.nulls < 1:
            raise ValueError(f"nulls={self.nulls} must be at least 1: without a null no score has a scale")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative: take 0 or more")


@dataclass(frozen=True, kw_only=True)
class WiderConfig:
    factor: int | None = None
    """Learn a second dictionary with so many times the latents, to see which features split; None: none."""

    def __post_init__(self) -> None:
        if self.factor is not None and self.factor < 2:
            raise ValueError(f"factor={self.factor} must be at least 2 (None = no wider dictionary)")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One section a stage; the defaults are the demo."""

    corpus: CorpusConfig = CorpusConfig(characters=8_000_000)
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig(tokens=3_500_000)
    harvest: HarvestConfig = HarvestConfig()
    sae: SAEConfig = TopKConfig(d_sae=4096, k=8, tokens=3_000_000)
    scan: ScanConfig = ScanConfig()
    quality: QualityConfig = QualityConfig()
    ranking: RankingConfig = RankingConfig()
    nulls: NullsConfig = NullsConfig()
    wider: WiderConfig = WiderConfig()

    @classmethod
    def quick(cls) -> "RunConfig":
        """The demo within a minute on two CPU cores: the same stages, a fraction of the tokens and latents."""
        sections = {
            "corpus": {"characters": 1_500_000},
            "tokenizer": {"vocab_size": 1024},
            "training": {"tokens": 300_000},
            "harvest": {"tokens": 200_000},
            "sae": {"d_sae": 512, "tokens": 300_000},
            "quality": {"tokens": 20_000},
            "nulls": {"tokens": 100_000, "sae_tokens": 100_000, "latents": 256},
        }
        return cls.from_dict(sections)

    @classmethod
    def tiny(cls) -> "RunConfig":
        """Every stage in seconds, for tests and for `interp warm-up`: what it finds means nothing."""
        sections = {
            "corpus": {"characters": 160_000, "val_fraction": 0.2},
            "tokenizer": {"vocab_size": 512},
            "model": {"n_ctx": 64, "d_model": 32, "n_heads": 2, "d_mlp": 64},
            "training": {"tokens": 60_000, "batch_size": 16},
            "harvest": {"tokens": 40_000, "batch_size": 16},
            "sae": {"d_sae": 128, "k": 8, "tokens": 60_000, "batch_size": 512},
            "quality": {"tokens": 8_000, "batch_size": 16},
            "nulls": {"tokens": 20_000, "sae_tokens": 20_000, "latents": 64},
            "wider": {"factor": 2},
        }
        return cls.from_dict(sections)

    @classmethod
    def from_toml(cls, path: str | Path) -> "RunConfig":
        """Read a configuration; sections and fields that are left out keep their defaults.

        Raises ValueError for TOML that cannot be parsed and for a section or field that does not exist.
        """
        try:
            sections = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path} is not valid TOML: {error}") from error
        return cls.from_dict(sections, where=str(path))

    @classmethod
    def from_dict(cls, sections: Mapping[str, Any], *, where: str = "the configuration") -> "RunConfig":
        default = cls()
        _known(sections, [f.name for f in dataclasses.fields(cls)], f"{where}: section")
        given = {}
        for name, values in sections.items():
            if not isinstance(values, Mapping):
                raise ValueError(f"{where}: {name} must be a section, [{name}], not {values!r}")
            kind, base = type(getattr(default, name)), dataclasses.asdict(getattr(default, name))
            if name == "sae" and "architecture" in values:
                kind = _architecture(values["architecture"], f"{where}: sae.architecture")
                base = {k: v for k, v in base.items() if k in ("d_sae", "k", "tokens") and k in _hints(kind)}
                values = {k: v for k, v in values.items() if k != "architecture"}
            try:
                given[name] = kind(**(base | typed_fields(kind, values)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: [{name}] {error}") from error
        return dataclasses.replace(default, **given)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """What `from_dict` reads."""
        sections = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        sections["sae"] = {"architecture": self.sae.architecture} | sections["sae"]
        return sections


def sae_config(architecture: str, given: Mapping[str, Any]) -> SAEConfig:
    """A dictionary's config from TOML values.

    Raises ValueError for an architecture or a field that does not exist (it names the nearest), a field that is missing
    and a value that cannot be.
    """
    kind = _architecture(architecture, "architecture")
    fields = typed_fields(kind, given, architecture)
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in fields]:
        raise ValueError(f"{architecture} needs {' and '.join(missing)}")
    return kind(**fields)


def typed_fields(kind: type, values: Mapping[str, Any], whose: str = "") -> dict[str, Any]:
    """TOML values as the types of the fields of the dataclass `kind`. Raises ValueError, naming field and remedy."""
    hints = _hints(kind)
    _known(values, list(hints), f"{whose} field".strip())
    return {name: _typed(value, hints[name], name) for name, value in values.items()}


def toml_value(text: str) -> Any:
    """`text` as TOML reads it, and words without quotes as a string: 32, 1e-3, true, [0.5, 0.5], cosine.

    Raises ValueError for what begins like a list, a table or a quoted string and is none.
    """
    text = text.strip()
    try:
        return _parsed(f"{'0' if text.startswith('.') else ''}{text}")
    except tomllib.TOMLDecodeError:
        if text.startswith(("[", "{", '"', "'")):
            raise ValueError(f'{text} is no TOML value: write it like [1, 2], {{key = 1}} or "text"') from None
        return text


def toml_values(text: str) -> list[Any]:
    """Several, with commas between: 16,32 or [0.5, 0.5],[0.25, 0.75] or linear,cosine."""
    try:
        return _parsed(f"[{text}]")
    except tomllib.TOMLDecodeError:
        return [toml_value(each) for each in text.split(",")]


def _parsed(text: str) -> Any:
    return tomllib.loads(f"value = {text}")["value"]


def sae_fields(architecture: str) -> list[str]:
    """Of each field a line with its name, type and default, and what its docstring says."""
    kind = _architecture(architecture, "architecture")
    defaults, said = {f.name: f.default for f in dataclasses.fields(kind)}, _field_docstrings(kind)
    lines = []
    for name, hint in _hints(kind).items():
        default = "needed" if defaults[name] is dataclasses.MISSING else f"default {_plain_value(defaults[name])}"
        lines.append(f"{name:22s} {' or '.join(map(_type_name, _kinds(hint)[1])):16s} {default}")
        lines += textwrap.wrap(
            " ".join(said.get(name, "").split()), 100, initial_indent="    ", subsequent_indent="    "
        )
    return lines


def _field_docstrings(kind: type) -> dict[str, str]:
    """The string below each field, in the source of the class and of those it comes from."""
    said: dict[str, str] = {}
    for each in reversed([each for each in kind.__mro__ if dataclasses.is_dataclass(each)]):
        body = ast.parse(inspect.getsource(each)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in itertools.pairwise(body.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    said[name] = text
    return said


def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _architecture(name: Any, where: str) -> type[SAEConfig]:
    _known([name], list(ARCHITECTURES), where)
    return ARCHITECTURES[name]


def _known(names: Iterable[Any], known: list[str], where: str) -> None:
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
            remedy = f"did you mean {', '.join(nearest)}?" if nearest else f"there are {', '.join(known)}"
            raise ValueError(f"{where} {name!r} does not exist; {remedy}")


def _typed(value: Any, hint: Any, name: str) -> Any:
    """A TOML value as the field's type; ValueError where it is of another."""
    options, kinds = _kinds(hint)
    if value == "none" and types.NoneType in kinds:
        return None
    if isinstance(value, list) and tuple in kinds:
        elements = typing.get_args(options[kinds.index(tuple)])
        return tuple(_typed(each, elements[0], name) for each in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} = {value} must be a finite number")
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        return float(value)
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    matches = any(isinstance(value, kind) and not (isinstance(value, bool) and kind is int) for kind in kinds)
    if not matches:
        raise ValueError(f"{name} = {value!r} must be of type {' or '.join(map(_type_name, kinds))}")
    return value


def _kinds(hint: Any) -> tuple[tuple[Any, ...], tuple[type, ...]]:
    """The alternatives of a type, and the class of each."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    return options, tuple(str if typing.get_origin(o) is typing.Literal else typing.get_origin(o) or o for o in options)


def _type_name(kind: type) -> str:
    return {types.NoneType: '"none"', tuple: "list"}.get(kind, kind.__name__)


def _plain(config: Any) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in dataclasses.asdict(config).items()}


def _plain_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else "none" if value is None else value
