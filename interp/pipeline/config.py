"""The configuration of a run: converts TOML into one frozen dataclass per section, and back.

    [corpus] source = "mixture"    [sae] architecture = "topk"    …

The stages define the sections. Omitted sections and fields keep their defaults, which are the demo's. TOML has no null,
so "none" stands for it. `plugins = ["mine.py"]` above the sections names the user's own code.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from interp.checks.config_fields import check_names, field_types, read_fields, to_toml_value
from interp.checks.errors import InterpError, did_you_mean
from interp.checks.limits import shortened_repr
from interp.pipeline.model_section import ModelSection
from interp.pipeline.plugins import import_plugin, plugin_digest
from interp.pipeline.sections import ALL_MLPS, LoadedSAESection
from interp.pipeline.stages import NO_SECTIONS, STAGES
from interp.storage.addresses import as_local_path

if TYPE_CHECKING:
    from interp.compare.nulls_config import NullsConfig
    from interp.features.scan_config import ScanConfig
    from interp.pipeline.sections import (
        EffectsSection,
        HarvestSection,
        QualitySection,
        RankingSection,
        TokenizerSection,
    )
    from interp.sae import SAEConfig
    from models.corpus import CorpusConfig
    from models.sources import ModelDtype
    from models.training_recipe import TrainingConfig

_PRESETS = Path(__file__).parent / "presets"

_RARE_FIELDS = {"harvest": ("output_hook", "buffer_mb"), "corpus": ("stream", "label_field", "options")}
"""Fields that few runs need, by section: a run's file names them only where they are not the default."""


def _section(name: str) -> Any:
    """Return the field of a section, with the default of the stage that defines it."""
    return dataclasses.field(default_factory=lambda: _defaults()[name]())


def _defaults() -> dict[str, Callable[[], Any]]:
    return {name: make for stage in STAGES.values() for name, make in stage.config.items()}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration, one attribute per section. `RunConfig()` is the demo; `replace` gives one with other
    sections."""

    corpus: "CorpusConfig" = _section("corpus")
    tokenizer: "TokenizerSection" = _section("tokenizer")
    model: ModelSection = _section("model")
    training: "TrainingConfig" = _section("training")
    harvest: "HarvestSection" = _section("harvest")
    sae: "SAEConfig | LoadedSAESection" = _section("sae")
    scan: "ScanConfig" = _section("scan")
    quality: "QualitySection" = _section("quality")
    ranking: "RankingSection" = _section("ranking")
    nulls: "NullsConfig" = _section("nulls")
    effects: "EffectsSection" = _section("effects")
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The sections that have no field above, such as those of users' stages, by name; each is an attribute too."""
    plugins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Files of the user's own code, each with its digest. If there are any, a section that only they can read becomes
    a namespace of its TOML values."""

    def __post_init__(self) -> None:
        makers = {name: make for name, make in _defaults().items() if name not in _names_of_fields()}
        for name in () if self.plugins else self.extra:
            if name not in makers:
                raise InterpError(f"section {name!r} does not exist; {did_you_mean(name, _defaults())}")
        left_out = {name: make() for name, make in makers.items() if name not in self.extra}
        object.__setattr__(self, "extra", {**left_out, **self.extra})

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})  # a copy is asked for its methods before it has fields
        if name in extra:
            return extra[name]
        sections = ", ".join(dict.fromkeys([*_defaults(), *extra]))
        raise AttributeError(f"a configuration has no {name!r}; its sections are {sections}")

    def sections(self) -> dict[str, Any]:
        """Return all sections, those in `extra` last."""
        names = [name for name in _names_of_fields() if name not in ("extra", "plugins")]
        return {name: getattr(self, name) for name in names} | dict(self.extra)

    def replace(self, **sections: Any) -> "RunConfig":
        of_fields = {name: sections.pop(name) for name in _names_of_fields() if name in sections}
        return dataclasses.replace(self, **of_fields, extra={**self.extra, **sections})

    def with_named_hooks(self) -> "RunConfig":
        """Return the configuration with "all mlps" replaced by the model's own names."""
        if self.harvest.hook_names != (ALL_MLPS,):
            return self
        from interp.activations.hooks import mlp_hooks

        pairs = mlp_hooks(self.model.hooked())
        [output_hook] = {name.split(".", 2)[2] for name in pairs.values()}
        return self.replace(harvest=dataclasses.replace(self.harvest, hook_names=tuple(pairs), output_hook=output_hook))

    def at(self, hook_name: str) -> "RunConfig":
        """Return the configuration with only this hook."""
        return self.replace(harvest=dataclasses.replace(self.harvest, hook_names=(hook_name,)))

    @classmethod
    def quick(cls) -> "RunConfig":
        """Return the demo in some two minutes on two CPU cores: the same stages, a fraction of the tokens and
        latents."""
        return cls.from_toml(_PRESETS / "quick.toml")

    @classmethod
    def circuits(cls) -> "RunConfig":
        """Return a model of four layers and transcoders of its MLPs, for attribution graphs (`interp graph`)."""
        return cls.from_toml(_PRESETS / "circuits.toml")

    @classmethod
    def smollm2(cls) -> "RunConfig":
        """Return the demo on a real language model, SmolLM2 of 135 million parameters, within 40 minutes on two CPU
        cores. Its weights are in bfloat16 if this machine multiplies that fast, and in float32 otherwise.

        Raises ValueError if its weights are not installed."""
        from interp.runtime.devices import device_named, multiplies_bfloat16
        from models.loading import smollm2_file

        dtype: ModelDtype = "bfloat16" if multiplies_bfloat16(device_named("auto")) else "float32"
        model = ModelSection(source="gguf", name=str(smollm2_file()), dtype=dtype)
        return cls.from_toml(_PRESETS / "smollm2.toml").replace(model=model)

    @classmethod
    def tiny(cls) -> "RunConfig":
        """Return a configuration that runs every stage in seconds, for tests and for `interp warm-up`; its results are
        meaningless."""
        return cls.from_toml(_PRESETS / "tiny.toml")

    @classmethod
    def from_toml(cls, path: str | Path, *, import_plugins: bool = False) -> "RunConfig":
        """Read a configuration.
        import_plugins: run the files named under `plugins` (relative to its folder), as `interp run` does; otherwise no
        code is run, and plugins must be imported before their sections can be read.

        Raises ValueError for TOML that cannot be parsed, for a plugin that is not a Python file, and as `from_dict`,
        naming the file."""
        path = as_local_path(path)
        if not path.is_file():  # a device may never end
            raise InterpError(f"{path} is not a file: name a .toml file")
        try:
            sections = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise InterpError(
                f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as such"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise InterpError(f"{path} is not valid TOML: {error}") from error
        plugins = sections.get("plugins", [])
        is_record = isinstance(plugins, dict)  # as a run.toml has them
        if not is_record and not (isinstance(plugins, list) and all(isinstance(file, str) for file in plugins)):
            raise InterpError(
                f'{path}: plugins = {shortened_repr(plugins)} must be a list of files, such as ["mine.py"]'
            )
        if import_plugins or not is_record:
            digest = import_plugin if import_plugins else plugin_digest
            files = [(path.parent / Path(file).expanduser()).resolve() for file in plugins]
            sections["plugins"] = {str(file): digest(file) for file in files}
        return cls.from_dict(sections, where=str(path), keep_unread=is_record and not import_plugins)

    @classmethod
    def from_dict(
        cls, sections: Mapping[str, Any], *, where: str = "the configuration", keep_unread: bool = False
    ) -> "RunConfig":
        """Read sections as `to_dict` returns them.
        keep_unread: keep sections that only a plugin can read as they are.

        Raises ValueError for an invalid section, field or value, with its place and the remedy."""
        default = cls()
        if not keep_unread:
            check_names(sections, [*default.sections(), "plugins"], f"{where}: section")
        replaced: dict[str, Any] = {}
        for name, values in sections.items():
            if not isinstance(values, Mapping):
                raise InterpError(f"{where}: {name} must be a section, [{name}], not {values!r}")
            if name == "plugins":
                replaced[name] = values
                continue
            section: Any = getattr(default, name, None)
            try:
                if name == "sae":
                    replaced[name] = _sae(section, dict(values))
                else:
                    fields = _with_hook_names(values) if name == "harvest" else values
                    replaced[name] = dataclasses.replace(section, **read_fields(type(section), fields))
            except (TypeError, ValueError) as error:
                if not keep_unread:
                    raise InterpError(f"{where}: [{name}] {error}") from error
                replaced[name] = SimpleNamespace(**values)
        return default.replace(**replaced)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the sections as `from_dict` reads them."""
        sections = {
            name: dict(vars(section))
            if isinstance(section, SimpleNamespace)
            else to_toml_value(dataclasses.asdict(section))
            for name, section in self.sections().items()
        }
        sections |= {"plugins": dict(self.plugins)} if self.plugins else {}
        for name, fields in _RARE_FIELDS.items():
            for field in fields:
                if sections[name].get(field) == to_toml_value(getattr(type(getattr(self, name)), field, None)):
                    del sections[name][field]
        if hook_names := sections["harvest"].pop("hook_names", None):
            hooks = {"hook_name": hook_names[0]} if len(hook_names) == 1 else {"hook_names": hook_names}
            sections["harvest"] = hooks | sections["harvest"]
        if hasattr(self.sae, "architecture"):
            sections["sae"] = {"architecture": self.sae.architecture} | sections["sae"]
        return sections


def _names_of_fields() -> list[str]:
    return [field.name for field in dataclasses.fields(RunConfig)]


NO_SECTIONS.update(dir(RunConfig), ("extra", "plugins"))


def _sae(default: "SAEConfig", values: dict[str, Any]) -> "SAEConfig | LoadedSAESection":
    if "load" in values:
        return LoadedSAESection(**read_fields(LoadedSAESection, values))
    from interp.sae.architectures.sae_config import architecture_named, config_from_dict

    architecture = values.get("architecture", default.architecture)
    fields = field_types(architecture_named(architecture))
    of_demo = [field.name for field in dataclasses.fields(default) if getattr(default, field.name) != field.default]
    demo_values = {name: getattr(default, name) for name in of_demo if name in fields}
    return config_from_dict({"architecture": architecture, **demo_values, **values})


def _with_hook_names(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of [harvest], after converting a single `hook_name` and hook_names = "all mlps"."""
    if values.get("hook_names") == ALL_MLPS:
        values = {**values, "hook_names": [ALL_MLPS]}
    if "hook_name" not in values:
        return values
    hook_name = values["hook_name"]
    if "hook_names" in values:
        raise InterpError(
            f"has both hook_name={shortened_repr(hook_name)} and hook_names: name all hooks in hook_names"
        )
    if not isinstance(hook_name, str):
        raise InterpError(f"hook_name={shortened_repr(hook_name)} must be text; several are hook_names = […]")
    return {name: value for name, value in values.items() if name != "hook_name"} | {"hook_names": [hook_name]}
