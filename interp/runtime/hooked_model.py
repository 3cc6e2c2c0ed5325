"""What a language model offers, whichever source it comes from (`models.sources`)."""

from collections.abc import Mapping
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn


class HookedLanguageModel(Protocol):
    """A torch module that a source of models returns. Harvests, scans, effects and graphs read these members of it.

    The following are optional; `models.LanguageModel` has them all, and so has interp's own transformer, except that it
    needs no `cache_reader`:

        hooks()          the names of the hooks that carry one vector per token, for lists and messages
        hook_aliases     further names of hooks, as `hook_dict` has them
        name             the model's name, which a store records
        untrained(seed)  a model of the same shape with random weights, a null of the verdicts; None if there is none
        cache_reader     the module that continues a text from cached keys and values, which makes steering faster
        save(folder)     writes weights that `load_model` reads, for a source that is slow

    A module without these members can be harvested too (`interp.activations.hooks`), but not given to a run.
    """

    def __call__(self, tokens: Int[Tensor, "seq pos"], /) -> Float[Tensor, "seq pos d_vocab"]:
        """Return the logits or, for a text encoder, the output of the last layer."""

    @property
    def hook_dict(self) -> Mapping[str, Any]:
        """The names of hooks, each with its module, or with a pair (module, "input" | "output"). Names of
        TransformerLens mean what they mean there."""

    @property
    def tokenizer(self) -> Any:
        """A tokenizer with the members of `models.Tokenizer`; None if there is none."""

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that are not text, such as that of BOS."""

    @property
    def n_ctx(self) -> int | None:
        """The most tokens of a sequence; None if there is no limit."""

    @property
    def n_layers(self) -> int: ...

    @property
    def d_model(self) -> int: ...

    @property
    def d_vocab(self) -> int: ...

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"] | None:
        """The unembedding; None if it is not known, and latents then have no logit effects."""

    @property
    def final_norm(self) -> nn.Module | None:
        """The module between the last block and the unembedding; None if it is not a single one."""


def missing_members(model: object) -> list[str]:
    """Return the members of a `HookedLanguageModel` that a model lacks."""
    return [name for name in vars(HookedLanguageModel) if not name.startswith("_") and not hasattr(model, name)]
