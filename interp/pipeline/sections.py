"""The sections of a run's configuration that only a run has, each a frozen dataclass that checks its values.

A section inherits the fields that are also keywords of a function, such as `n_shifts` of `rank_features`, from the
config of that function (`RankingSection(RankingConfig)`). [model] is in `model_section`. The other sections are configs
that functions of `models` and of the lower packages take (`interp.pipeline.config` lists all).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from interp.activations.harvest_options import RowConfig, RowOptions
from interp.checks.config_fields import values_of
from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, Positive, PositiveInt, Seed, at_least, between
from interp.effects.ablation_config import AblationConfig
from interp.verdict.ranking_config import RankingConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerSection(CheckedFields):
    kind: Literal["bpe", "characters"] = "bpe"
    """`bpe` (byte-level, trained on the corpus, with a token for each common character) or `characters`."""
    vocab_size: Annotated[int, between(1, 1 << 22)] = 2048


ALL_MLPS = "all mlps"
MLP_NEURONS = "mlp.hook_post"
"""TransformerLens's name for the neurons of a block's MLP."""
_BLOCK = re.compile(r"blocks\.\d+\.")


@dataclass(frozen=True, kw_only=True)
class HarvestSection(RowConfig):
    hook_names: tuple[str, ...] = ("blocks.0.hook_resid_post",)
    """The hooks at which dictionaries are learnt, one at each, from one pass of the model. `hook_name = "…"` names a
    single hook, and `hook_names = "all mlps"` means the inputs of all MLPs, with `output_hook = "hook_mlp_out"`."""
    output_hook: str | None = None
    """For transcoders, the hook of the same block that each predicts from its input. None: autoencoders."""
    neuron_hook: str | None = None
    """The hook of the neurons with which latents are compared. None: the MLP of the block of their hook or, if the
    model has no such hook (a mixture of experts, a state space), the coordinates at their own hook."""
    exclude_positions: tuple[Annotated[int, at_least(0)], ...] = ()
    """Positions of a sequence that are left out, and counted."""
    tokens: PositiveInt = 1_200_000
    """Tokens of the training split to harvest, from its start; all if there are fewer."""
    buffer_mb: PositiveInt | None = None
    """For transcoders: keep no activations on disk, and at most this many megabytes in memory. The model then runs once
    in each epoch of the training of all transcoders, and once for their scans. None: activations are kept on disk."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(self.hook_names):
            raise InterpError("hook_names has an empty name: leave it out")
        if not self.hook_names:
            raise InterpError("hook_names is empty: name at least one hook")
        if twice := [name for name in self.hook_names if self.hook_names.count(name) > 1]:
            raise InterpError(f"hook_names has {twice[0]} twice: a hook has one dictionary in a run")
        if ALL_MLPS in self.hook_names and (len(self.hook_names) > 1 or self.output_hook):
            raise InterpError(f"hook_names = {ALL_MLPS!r} names all hooks and what they write: leave out the rest")
        if self.buffer_mb is not None and self.output_hook is None and self.hook_names != (ALL_MLPS,):
            raise InterpError(
                f"buffer_mb={self.buffer_mb} is for transcoders: an autoencoder is compared with baselines, which read "
                "activations on disk; leave it out"
            )
        if self.output_hook and (outside := [name for name in self.hook_names if not _BLOCK.match(name)]):
            raise InterpError(
                f"output_hook = {self.output_hook!r} is a hook of the same block, and {outside[0]} is in none"
            )

    @property
    def hook_name(self) -> str:
        """The first, or only, one."""
        return self.hook_names[0]

    @property
    def output_hook_name(self) -> str | None:
        """The hook that the first one's transcoder writes; None for an autoencoder."""
        block = _BLOCK.match(self.hook_name)
        return f"{block.group()}{self.output_hook}" if block and self.output_hook else None

    def hooks_in(self, model: Any) -> list[str]:
        """Return the hooks of the first dictionary in the store: the hook that it reads, and for a transcoder the one
        that it writes, otherwise the neurons' hook if the model has it; one if they are the same."""
        from interp.activations.hooks import canonical_names, has_hook

        [hook_name] = canonical_names(model, self.hook_name)
        if self.output_hook_name is not None:
            return canonical_names(model, [hook_name, self.output_hook_name])
        if self.neuron_hook is not None:
            return canonical_names(model, [hook_name, self.neuron_hook])
        block = _BLOCK.match(hook_name)
        neurons = f"{block.group()}{MLP_NEURONS}" if block else hook_name
        return list(dict.fromkeys((hook_name, neurons))) if has_hook(model, neurons) else [hook_name]

    def rows(self, exclude: Sequence[int]) -> RowOptions:
        """Return the options of the rows. `exclude`: the tokens that are left out, which the tokenizer knows."""
        return RowOptions(exclude=exclude, **values_of(RowConfig, self))


@dataclass(frozen=True, kw_only=True)
class LoadedSAESection(CheckedFields):
    """The section [sae] for a dictionary that someone else trained."""

    load: str
    """A folder (ours, SAELens's or sparsify's), or a SAELens release."""
    sae_id: str | None = None
    """The id of a dictionary in a release."""


@dataclass(frozen=True, kw_only=True)
class EffectsSection(AblationConfig):
    minutes: Positive = 5.0
    latents: PositiveInt | None = None
    """At most this many latents, drawn at random; "none": all."""


@dataclass(frozen=True, kw_only=True)
class QualitySection(CheckedFields):
    tokens: PositiveInt = 100_000
    """Validation tokens on which the dictionary is spliced into the model."""
    batch_size: PositiveInt = 64


@dataclass(frozen=True, kw_only=True)
class RankingSection(RankingConfig):
    use_labels: bool = True
    """Let explanations name the corpus's labels, if it has any; verdicts never use them."""
    twin: str | None = None
    """The folder (relative to the working directory) of a run, or of a scan of the same tokens, with a dictionary from
    another seed, which is searched for each latent. In a run with several hooks, the scan at the same hook is used."""
