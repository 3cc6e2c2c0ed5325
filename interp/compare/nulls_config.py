"""The budget of the nulls, and the work that it means."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from interp.checks.limits import CheckedFields, PositiveInt, Seed
from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES

DEFAULT_NULL_TOKENS = 500_000
"""The tokens that the nulls of a foreign dictionary learn from, as it is not known how many that had."""


@dataclass(frozen=True, kw_only=True)
class NullsConfig(CheckedFields):
    """The budget of the nulls. The verdicts of the dictionary itself do not depend on it."""

    tokens: PositiveInt = 300_000
    """Number of tokens on which all dictionaries are judged. They are the first harvested ones."""
    sae_tokens: PositiveInt | None = None
    """Tokens on which each dictionary is trained, and the ranked one again. With None, or more tokens than the
    ranked dictionary had, each trains on as many as that had, and it is not trained again."""
    latents: PositiveInt = 384
    """Number of latents judged per dictionary, drawn at random. If a dictionary has fewer, all are judged."""
    seed: Seed = 0
    """Seed of the dictionaries and of the drawn latents."""

    def tokens_to_train(self, had: int | None) -> int:
        """Return the tokens that each dictionary learns from.
        had: the tokens that the ranked dictionary learnt from, or None if unknown."""
        if had is None:
            return self.sae_tokens or DEFAULT_NULL_TOKENS
        return min(self.sae_tokens or had, had)


class NullsWork(NamedTuple):
    """The amount of training and harvesting for the nulls."""

    tokens: int
    """Number of tokens from which each dictionary learns."""
    from_store: int
    """Number of dictionaries that learn from the store, together. One takes the place of the ranked dictionary if that
    had more tokens."""
    other_models: int
    """Largest number of models that are harvested. A dictionary learns from each."""

    @classmethod
    def of(cls, nulls_config: NullsConfig, config: Any, model: Any) -> "NullsWork":
        """Return the work.
        config: the training config of the ranked dictionary. That of a foreign dictionary has no `tokens`."""
        had = getattr(config, "tokens", None)
        tokens = nulls_config.tokens_to_train(had)
        from_store = sum(each.config is not None for each in COMPARED_DICTIONARIES.values())
        other_models = sum(each.has_model(model) for each in COMPARED_DICTIONARIES.values())
        return cls(tokens, from_store + (had is not None and tokens < had), other_models)

    @property
    def dictionaries(self) -> int:
        return self.from_store + self.other_models
