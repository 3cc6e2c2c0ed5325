"""The hooks of a model that a dictionary reads and writes."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, Model, capture, check_trained_hook, hooks_of, resolve_hooks, to_model
from interp.activations.outliers import is_within
from interp.checks.arguments import check_finite
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary, check_one_hook
from interp.codes.sparse_codes import SparseCodes
from interp.codes.training_exclusions import is_included, norm_limit


class CountedCodes(NamedTuple):
    """The codes of some rows, and which of these rows count."""

    codes: SparseCodes
    counted: Bool[Tensor, " row"]

    @property
    def firing_matrix(self) -> scipy.sparse.csr_matrix:
        """The activations above 0 of the rows that count, [row, d_sae]."""
        weights = self.counted.numpy(force=True).astype(np.float32)
        z = scipy.sparse.csr_matrix(scipy.sparse.diags(weights) @ self.codes.positive().scipy())
        z.eliminate_zeros()
        return z


class DictionaryHooks(NamedTuple):
    """The hook that a dictionary reads and the hook that it writes; they differ only for a transcoder."""

    input_hook: Hook
    output_hook: Hook
    input_name: str
    """The name of the hook that the dictionary reads, as the caller gave it."""
    output_name: str
    """The name of the hook that it writes."""
    norm_limit: float | None
    """The norm above which rows are not meaningful to the dictionary."""

    def codes(self, dictionary: Dictionary, acts: Float[Tensor, "seq pos ..."]) -> CountedCodes:
        """Return the codes of each row [seq · pos]. The rows within the limit count."""
        rows = acts.detach().flatten(0, 1).flatten(1).to(dictionary.W_dec)
        if rows.shape[1] != dictionary.d_in:
            raise InterpError(f"the dictionary reads width {dictionary.d_in}, but its hook has width {rows.shape[1]}")
        return CountedCodes(dictionary.codes(rows), self.within_limit(rows))

    def codes_of_text(
        self,
        module: nn.Module,
        dictionary: Dictionary,
        tokens: Int[Tensor, "seq pos"],
        acts: Float[Tensor, "seq pos ..."] | None = None,
    ) -> CountedCodes:
        """Return the codes of each row [seq · pos] when a model in evaluation mode reads tokens. The rows within the
        limit whose tokens and positions were included in the dictionary's training count.
        acts: the activations of `input_hook`, if the model has run."""
        if acts is None:
            acts = capture(module, to_model(module, tokens), {"reads": self.input_hook})["reads"]
        codes, within_limit = self.codes(dictionary, acts)
        included = is_included(tokens, module, dictionary).flatten().to(within_limit.device)
        return CountedCodes(codes, within_limit & included)

    def within_limit(self, rows: Float[Tensor, "row d_in"]) -> Bool[Tensor, " row"]:
        """Mark the rows within the limit."""
        if self.norm_limit is None:
            return rows.new_ones(len(rows), dtype=torch.bool)
        return is_within(rows, self.norm_limit)


def dictionary_hooks(
    model: Model, hook: str, dictionary: Dictionary, output_hook: str | None = None
) -> DictionaryHooks:
    """Return the hooks of a dictionary; `output_hook` names the hook that a transcoder writes; by default its
    metadata does (`hook_name_out`).

    Raises ValueError if the model lacks a hook, if the dictionary was trained on another hook of the same model, and
    for a crosscoder.
    """
    if not isinstance(hook, str) or not hasattr(dictionary, "W_dec"):
        raise InterpError(
            f"hook is a {type(hook).__name__}, dictionary a {type(dictionary).__name__}: "
            "the order is (model, hook, dictionary), with the hook's name"
        )
    check_finite(W_dec=dictionary.W_dec)
    check_one_hook(dictionary)
    check_trained_hook(dictionary, hook, hooks_of(model), "the model")
    output_hook = output_hook or dictionary.metadata.get("hook_name_out") or hook
    if output_hook == hook and dictionary.kind == "transcoder":
        raise InterpError(f"the transcoder reads {hook} and writes another hook: name that hook with output_hook=")
    hooks = resolve_hooks(model, [hook, output_hook])
    return DictionaryHooks(hooks[hook], hooks[output_hook], hook, output_hook, norm_limit(dictionary))
