"""The dictionaries whose verdicts stand next to those of the ranked one: its nulls, and references.

To add a null, call `register_null` in your own script; or here, and raise the version of the stage `nulls`. Training,
plan, tables, page and figures follow.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from interp.checks.errors import InterpError
from interp.runtime.registry import register

if TYPE_CHECKING:
    from torch import nn

    from interp.sae.architectures.sae_config import Freeze, SAEConfig

Role = Literal["matched", "reference", "null"]
"""The ranked dictionary, trained and judged as its nulls are; another dictionary that shows what the model learnt; one
that cannot show it."""


@dataclass(frozen=True, kw_only=True)
class ComparedDictionary:
    """A dictionary that is judged as the ranked one is. With `config`, it learns from the same activations; with
    `model`, from those of another model. A null has one of the two; the others are there already."""

    role: Role
    meaning: str
    """What it is, for the page."""
    config: "Callable[[SAEConfig], SAEConfig] | None" = None
    """(the config of the ranked dictionary with another seed) → its config."""
    model: "Callable[[Any, int], nn.Module | None] | None" = None
    """(model, seed) → the other model, or None if there is none."""
    needs: str | None = None
    """The attribute of a model without which there is no other model."""
    match_column: str | None = None
    """The column of `Nulls.twins` with each ranked latent's best correlation with this dictionary, and with others that
    have the same column."""

    def __post_init__(self) -> None:
        if self.role == "null" and (self.config is None) == (self.model is None):
            has = "neither config nor model" if self.config is None else "both config and model"
            raise InterpError(f"the null {self.meaning!r} has {has}: give one of them, by which it is trained")

    def has_model(self, model: Any) -> bool:
        """Whether there may be another model for this one."""
        return self.model is not None and (self.needs is None or hasattr(model, self.needs))

    def other_model(self, model: Any, seed: int) -> "nn.Module | None":
        return self.model(model, seed) if self.model is not None and self.has_model(model) else None


def _frozen(part: "Freeze") -> "Callable[[SAEConfig], SAEConfig]":
    return lambda twin: dataclasses.replace(twin, freeze=part)


def _shuffled(model: "nn.Module", seed: int) -> "nn.Module":
    from interp.evaluation.baselines import shuffled_model

    return shuffled_model(model, seed=seed)


MATCHED = "SAE"
TWIN = "twin seed"
FROZEN_DECODER = "frozen decoder"
COMPARED_DICTIONARIES = {
    MATCHED: ComparedDictionary(role="matched", meaning="the same settings, trained on as many tokens as the nulls"),
    TWIN: ComparedDictionary(
        role="reference",
        meaning="the same settings from another seed",
        config=lambda twin: twin,
        match_column="twin_correlation",
    ),
    "neurons": ComparedDictionary(role="reference", meaning="the neurons of the MLP, no dictionary"),
    "coordinates": ComparedDictionary(
        role="reference", meaning="the coordinates of the activations themselves, no dictionary"
    ),
}
"""In the order in which they are trained, by the names that the tables have: these, and then the nulls."""


def register_null(
    name: str,
    meaning: str,
    *,
    config: "Callable[[SAEConfig], SAEConfig] | None" = None,
    model: "Callable[[Any, int], nn.Module | None] | None" = None,
    needs: str | None = None,
    match_column: str | None = None,
) -> None:
    """Add a null, whose arguments are fields of `ComparedDictionary`:

        tenth = lambda twin: dataclasses.replace(twin, tokens=twin.tokens // 10)
        register_null("a tenth of the tokens", "the same settings, from a tenth of the tokens", config=tenth)

    Raises ValueError if another compared dictionary has this name, and without a config or a model."""
    null = ComparedDictionary(
        role="null", meaning=meaning, config=config, model=model, needs=needs, match_column=match_column
    )
    register(COMPARED_DICTIONARIES, name, null, "null", lambda null: null.config or null.model)


# arXiv 2602.14111 has the frozen decoder, and one within a cosine of 0.8; 2501.17727 the shuffled model.
register_null(FROZEN_DECODER, "the same settings, with a decoder that stays random", config=_frozen("decoder"))
register_null("frozen encoder", "the same settings, with an encoder that stays random", config=_frozen("encoder"))
register_null(
    "soft-frozen decoder",
    "the same settings, with decoder rows that stay near their random start",
    config=_frozen("directions"),
)
register_null(
    "shuffled model",
    "the same settings on a model whose weights are shuffled",
    model=_shuffled,
    match_column="random_correlation",
)
register_null(
    "untrained model",
    "the same settings on the model before any training",
    model=lambda model, seed: model.untrained(seed),
    needs="untrained",
    match_column="random_correlation",
)
