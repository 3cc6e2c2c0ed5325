"""Return the firings on a text: its tokens, their codes, and the latents that fire, the strongest first.

    read = features_of(model, "blocks.15.hook_resid_post", sae, "Once upon a time")
    read.token_strings, read.codes, read.firings().head()

The token that opens a sequence (BOS or, if the tokenizer adds none, the end of text) is put before the text, as in a
corpus of `models.tokenize`. Every function that takes text does so (`tokens_of`). No latent fires on special tokens, or
on rows above the dictionary's norm limit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.activations.hooks import Model, evaluating, module_of
from interp.activations.model_passes import check_model_takes
from interp.checks.arguments import has_lone_surrogate
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.codes.sparse_codes import SparseCodes
from interp.display.byte_parts import join_pieces
from interp.display.cards import Markup, card, shade_text, show_rule, show_table, show_token
from interp.features.feature import rule_with_f1

_N_SHOWN_LATENTS = 12
_OPENING_TOKENS = ("bos", "eos")


@dataclass(frozen=True)
class TextFeatures:
    """A text, and the codes of its tokens."""

    tokens: Int[Tensor, " pos"]
    token_strings: list[str]
    """The string of each token, or its id if the model has no tokenizer."""
    codes: SparseCodes
    """The codes, one row per token."""
    ranking: pd.DataFrame | None = None
    """The ranking of the dictionary, if there is one: a notebook then shows what each latent fires on elsewhere."""

    def firings(self) -> pd.DataFrame:
        """Return one row per firing, the strongest first: latent, activation, position, token."""
        z = self.codes.scipy().tocoo()
        order = np.lexsort((z.col, z.row, -z.data))
        rows = {"latent": z.col[order], "activation": z.data[order], "position": z.row[order]}
        return pd.DataFrame(rows).assign(token=[self.token_strings[position] for position in z.row[order]])

    def latents(self) -> pd.DataFrame:
        """Return one row per latent that fires, the strongest first: latent, its largest activation, the position and
        token of that firing, n_firings."""
        firings = self.firings()
        counts = firings.groupby("latent").size()
        best = firings.drop_duplicates("latent", ignore_index=True)
        return best.assign(n_firings=counts.reindex(best["latent"]).to_numpy())

    def __repr__(self) -> str:
        n_latents = len(self.codes.latents.unique())
        return f"TextFeatures({len(self.tokens)} tokens, {n_latents} latents fire)"

    def __str__(self) -> str:
        """Return lines for a terminal: the latents that fire most strongly, and where."""
        latents = self.latents()
        return f"{self!r}\n{latents.head(_N_SHOWN_LATENTS).to_string(index=False)}\n{_rest(latents)}".rstrip()

    def _repr_html_(self) -> str:
        latents = self.latents()
        strongest = latents.head(_N_SHOWN_LATENTS)
        rules = self._rules(strongest["latent"])
        rows = (
            (row.latent, *rule, f"{row.activation:.3g}", show_token(str(row.token)), row.n_firings)
            for row, rule in zip(strongest.itertuples(), rules, strict=True)
        )
        z = self.codes.scipy()
        deepest = z.max() if z.nnz else 1.0
        strongest_z = z.max(1).toarray()[:, 0]
        pieces = join_pieces(self.token_strings)
        text = "".join(shade_text(piece, strongest_z[positions].max() / deepest) for piece, positions in pieces)
        head = ("latent", *(() if self.ranking is None else ("explanation",)), "largest activation", "at", "firings")
        table = show_table(head, rows)
        return card(repr(self), Markup(text), table, *filter(None, [_rest(latents)]))

    def _rules(self, latents: "pd.Series[int]") -> list[tuple[Markup, ...]]:
        """Return the cell with the rule of each latent; no cells without a ranking."""
        if self.ranking is None:
            return [()] * len(latents)
        rows = self.ranking.set_index("latent", drop=False).loc[latents].to_dict(orient="records")
        return [(Markup(rule_with_f1(row, show_rule)),) for row in rows]


def _rest(latents: pd.DataFrame) -> str:
    """Say how many latents are not shown; "" if all are."""
    return f"{len(latents) - _N_SHOWN_LATENTS:,} more in `latents()`." if len(latents) > _N_SHOWN_LATENTS else ""


def features_of(
    model: Model, hook: str, dictionary: Dictionary, text: str | Int[Tensor, " pos"], *, tokenizer: Any = None
) -> TextFeatures:
    """Read a text, or token ids.
    tokenizer: the model's own by default.

    Raises ValueError as `dictionary_hooks` does, for a text without a tokenizer, and for a text that the model does not
    accept.
    """
    module = module_of(model)
    hooks = dictionary_hooks(model, hook, dictionary)
    ids = tokens_of(model, text, tokenizer)
    if ids.ndim != 1:
        raise InterpError(f"the token ids are {tuple(ids.shape)}: give those of one text, [position]")
    tokens = ids[None]
    check_model_takes(module, tokens)
    with evaluating(module):
        codes = hooks.codes_of_text(module, dictionary, tokens).firing_matrix
    token_strings = _token_strings(tokenizer or getattr(module, "tokenizer", None), tokens.flatten().tolist())
    return TextFeatures(tokens.flatten(), token_strings, SparseCodes.from_scipy(codes))


def tokens_of(model: Model, text: str | Int[Tensor, "*pos"], tokenizer: Any = None) -> Int[Tensor, "*pos"]:
    """Return the ids of a text by `encode_with_opening_token`, and token ids as they are.
    tokenizer: the model's own by default."""
    if isinstance(text, list | tuple) and any(isinstance(each, str) for each in text):
        raise InterpError("text is a list of strings: give one string")
    if not isinstance(text, str):
        return torch.as_tensor(text)
    return encode_with_opening_token(tokenizer or getattr(module_of(model), "tokenizer", None), text)


def encode_with_opening_token(tokenizer: Any, text: str) -> Int[Tensor, " pos"]:
    """Return the token ids of a text, after the token that opens a sequence.
    tokenizer: interp's or Hugging Face's.

    Raises ValueError for a text without a token or with an unpaired surrogate, and without a tokenizer."""
    if tokenizer is None:
        raise InterpError(f"{text[:40]!r} is text, and the model has no tokenizer: give token ids")
    if has_lone_surrogate(text):
        raise InterpError("the text contains an unpaired surrogate: remove it")
    if not text:
        raise InterpError("there is no text: write some")
    opening = opening_token(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor(ids if opening is None else [opening, *ids])


def opening_token(tokenizer: Any) -> int | None:
    """Return the id of the token that opens a sequence, or None if the tokenizer has none."""
    bos, eos = (
        getattr(tokenizer, f"{name}_id", getattr(tokenizer, f"{name}_token_id", None)) for name in _OPENING_TOKENS
    )
    adds_bos = bos is not None and tokenizer.encode("a")[:1] == [bos]
    return bos if adds_bos else eos


def _token_strings(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return the string of each token. A tokenizer of interp shows it, and one of Hugging Face decodes it."""
    if hasattr(tokenizer, "display"):
        strings = tokenizer.display()
        return [strings[i] for i in ids]
    return [str(i) if tokenizer is None else tokenizer.decode([i]) for i in ids]
