"""The hooks of any model: the submodule that a name refers to, and its activations in a forward pass.

In:  a TransformerLens model, a torch module, or a pair (module, {name: submodule}); hook names; tokens [seq, pos].
Out: for each hook the activations as rows [seq · pos, d]. The pass ends when the last hook has fired: a hook raises an
     exception that `capture` expects, so any model can be stopped anywhere. No hook stays on the model.

A hook is the output of a submodule or, with `.input` after its name, its input: a Llama's neurons are
`model.layers.3.mlp.down_proj.input`. A name that the model does not have is a ValueError with the nearest ones; a hook
that never fires, or does not carry one vector per token, is a ValueError too.

    resolve_hooks    names that a user gave → hooks          canonical_names  the names that are used in their place
    hooks_of         all names of a model, with their hooks  names_of_hook    all names of one hook
    hook_named       a name among known ones; None if none   trained_hook     the hook that a dictionary was trained on
    layer_of         the block that a name contains
"""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interp.checks.errors import InterpError, did_you_mean
from interp.runtime.padding import padding_mask

log = logging.getLogger(__name__)


class Hook(NamedTuple):
    """The output of a submodule of a model, or its input."""

    module: nn.Module
    side: Literal["output", "input"] = "output"
    """The location of the tensor: the output (of a tuple, its first entry), or the input, which is the first
    argument."""

    def attach(self, act: Callable[[Any], Any]) -> RemovableHandle:
        """Call `act` with the activations of the hook in each forward pass; its result, if not None, replaces them."""
        if self.side == "output":
            return self.module.register_forward_hook(lambda _, __, output: _on_first(output, act))

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                changed = act(args[0])
                return None if changed is None else ((changed, *args[1:]), kwargs)
            name = next(iter(kwargs), None)
            changed = None if name is None else act(kwargs[name])
            return None if changed is None else (args, kwargs | {name: changed})

        return self.module.register_forward_pre_hook(before, with_kwargs=True)


NamedModules = Mapping[str, nn.Module | tuple[nn.Module, str]]
"""Names of submodules, and of pairs (module, "input" | "output")."""
Model = nn.Module | tuple[nn.Module, NamedModules]
"""A torch module, hooked (`runtime.hooked_model.HookedLanguageModel`) or not, or one with names for some of its
submodules."""
_INPUT = ".input"
_ONE_DIMENSIONAL = (
    nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d,
    nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d,
)  # fmt: skip
"""Modules that read and return [seq, d, pos], unlike a transformer's [seq, pos, d]."""
_MLP_READS = ("mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid")
"""Names of the input of a block's MLP, the closest to it first."""
DEFAULT_HOOK_NAME = "activations"
"""Name of the hook in a store whose rows come from no model (`ActivationStore.from_batches`)."""


def module_of(model: Model) -> nn.Module:
    return model[0] if isinstance(model, tuple) else model


def model_name(module: nn.Module) -> str:
    """Return the name that Hugging Face or TransformerLens gives a model; "" if it has none."""
    owners: Any = ((module, "name"), (getattr(module, "cfg", None), "model_name"))
    owners += ((getattr(module, "config", None), "_name_or_path"),)
    return next((name for owner, key in owners if isinstance(name := getattr(owner, key, None), str) and name), "")


def token_strings_of(model: Model) -> list[str] | None:
    """Return the string of each token id, if the model has a tokenizer that shows them (`models.LanguageModel`)."""
    tokenizer: Any = getattr(module_of(model), "tokenizer", None)
    return tokenizer.display() if hasattr(tokenizer, "display") else None


def hooks_of(model: Model) -> dict[str, Hook]:
    """Return all names of a model's hooks, each with its hook.

    A model with a `hook_dict` (HookedRootModule, HookedTransformer, TransformerBridge, `models.LanguageModel`) gives
    that and its `hook_aliases`, a pair (module, {name: submodule}) its map, any other torch module the names of its
    submodules.
    """
    if isinstance(model, tuple):
        module_of: Any = model[1]
    elif (module_of := getattr(model, "hook_dict", None)) is None:
        module_of = {name: module for name, module in model.named_modules() if name}
    else:
        module_of = {**module_of, **getattr(model, "hook_aliases", {})}
    return {name: Hook(*part) if isinstance(part, tuple) else Hook(part) for name, part in module_of.items()}


def hook_named(hooks: Mapping[str, Hook], name: str) -> Hook | None:
    """Return the hook that a name refers to, including names with `.input`; None if there is none."""
    if name in hooks:
        return hooks[name]
    whole = hooks.get(name.removesuffix(_INPUT)) if name.endswith(_INPUT) else None
    return Hook(whole.module, "input") if whole is not None and whole.side == "output" else None


def has_hook(model: Model, name: str) -> bool:
    return hook_named(hooks_of(model), name) is not None


def as_hook_names(hook: str | Sequence[str]) -> tuple[str, ...]:
    """Return the name of one hook, or the names of several, as a tuple. Raises ValueError for none."""
    if not hook:
        raise InterpError(f"hook={hook!r} names no hook: name at least one")
    return (hook,) if isinstance(hook, str) else tuple(hook)


def resolve_hooks(model: Model, hook_names: str | Sequence[str]) -> dict[str, Hook]:
    """Return the hook of the model that each name stands for.

    Raises ValueError that names the nearest names if there is no such hook, and if none is named.
    """
    hooks_of_model = hooks_of(model)
    hooks = {}
    for name in as_hook_names(hook_names):
        hook = hook_named(hooks_of_model, name)
        if hook is None:
            raise InterpError(f"the model has no hook {name!r}; {did_you_mean(name, hooks_of_model)}")
        hooks[name] = hook
    return hooks


def mlp_hooks(model: Model) -> dict[str, str]:
    """Return the input and output hook of each MLP of a model, {reads: writes}, in the order of the blocks. The input
    is the output of the norm before it or, if the model has no hook there, the residual stream. Raises ValueError for a
    model without a hook_mlp_out.
    """
    hooks = hooks_of(model)
    blocks = sorted(int(match[1]) for name in hooks if (match := re.fullmatch(r"blocks\.(\d+)\.hook_mlp_out", name)))
    pairs = {}
    for block in blocks:
        reads = next((name for side in _MLP_READS if (name := f"blocks.{block}.{side}") in hooks), None)
        if reads is not None:
            pairs[reads] = f"blocks.{block}.hook_mlp_out"
    if not pairs:
        raise InterpError(f"the model has no hook_mlp_out of a block; {did_you_mean('hook_mlp_out', hooks)}")
    return pairs


def names_of_hook(model: Model, hook: Hook) -> list[str]:
    """Return all names of a hook in a model; the first is the canonical one."""
    hooks = hooks_of(model)
    names = [name for name, other in hooks.items() if other == hook]
    if hook.side == "input":
        whole = Hook(hook.module)
        names += [name + _INPUT for name, other in hooks.items() if other == whole]
    return names


def canonical_names(model: Model, names: str | Sequence[str]) -> list[str]:
    """Return the canonical names of hooks, from any of their names, each hook once. Raises ValueError for an unknown
    hook, or if none is named."""
    return list(dict.fromkeys(names_of_hook(model, hook)[0] for hook in resolve_hooks(model, names).values()))


def check_trained_hook(dictionary: Any, hook_name: str, known: Collection[str], where: object) -> None:
    """Check that a dictionary is used at the hook that it was trained on, if that is recorded
    (`metadata["hook_name"]`).

    Raises ValueError if its own hook is among those `known` in `where`, and not the same hook under another name
    (by `known`, as `hooks_of` returns it). If it is not among them, the two may be one hook under the names of two
    libraries: a warning is logged. Setting `metadata["hook_name"] = hook_name` confirms that it belongs there.
    """
    trained = trained_hook(dictionary)
    if trained is None or hook_name == DEFAULT_HOOK_NAME or trained == hook_name or trained.endswith(f"/{hook_name}"):
        return
    hooks: Mapping[str, Hook] = known if isinstance(known, Mapping) else {}
    hook = hook_named(hooks, trained)
    if hook is not None and hook == hook_named(hooks, hook_name):
        return
    if hook is not None or trained in known:
        raise InterpError(
            f"the dictionary was trained on {trained}, which {where} has too, not on {hook_name}: name {trained}"
        )
    log.warning("the dictionary was trained on %s; %s calls the hook that it is used on %s", trained, where, hook_name)


def layer_of(hook_name: str) -> int | None:
    """Return the number of the block that the name of a hook contains (`blocks.3.hook_resid_post`, `model.layers.3`;
    `layer 3` in a graph of another tool), or None."""
    match = re.search(r"[. ](\d+)\.", f"{hook_name}.")
    return int(match[1]) if match else None


def trained_hook(dictionary: Any) -> str | None:
    """Return the hook in a dictionary's metadata that it was trained on; None if there is none, or if it has no
    name."""
    name = dictionary.metadata.get("hook_name")
    return name if isinstance(name, str) and name not in ("", DEFAULT_HOOK_NAME) else None


def capture(module: nn.Module, tokens: Int[Tensor, "seq pos"], hooks: Mapping[str, Hook]) -> dict[str, Tensor]:
    """Run a forward pass that ends when the last of the hooks has fired; returns their activations.

    For a submodule that runs more than once, the first run counts.
    """
    acts_of: dict[str, Any] = {}

    def recorder(name: str) -> Callable[[Any], None]:
        def record(acts: Any) -> None:
            if name in acts_of:
                return
            if len(acts_of) + 1 < len(hooks) and isinstance(acts, Tensor):  # the model continues, and may write into it
                acts = acts.clone()
            acts_of[name] = acts
            if len(acts_of) == len(hooks):
                raise _Captured

        return record

    try:
        with ExitStack() as stack:
            for name, hook in hooks.items():
                stack.enter_context(hook.attach(recorder(name)))
            module(tokens, **padding_mask(module, tokens))
    except _Captured:
        return {name: acts_of[name] for name in hooks}
    silent = next(name for name in hooks if name not in acts_of)
    remedy = did_you_mean(silent, _usable_hooks(module, silent))
    raise InterpError(f"the model's forward pass never reaches {silent!r}: choose a hook that fires; {remedy}")


class _Captured(Exception):
    """The exception that ends a forward pass from within."""


def hooked_rows(
    module: nn.Module, tokens: Int[Tensor, "seq pos"] | Float[Tensor, "seq ..."], hooks: Mapping[str, Hook]
) -> dict[str, Float[Tensor, "row d"]]:
    """Return each hook's activations as rows [seq · pos, d], heads side by side.

    On floats (images, audio, rows) a hook may return [seq, d], one position each; [seq, pos, d]; [seq, d, pos], if it
    is a one-dimensional convolution, its norm or pooling, or the input of one; or, for convolutions of images, [seq, d,
    height, width], whose positions are those of the image, line by line. Raises ValueError if the order of three axes
    is ambiguous.
    """
    rows = {}
    for name, acts in capture(module, to_model(module, tokens), hooks).items():
        if not isinstance(acts, Tensor) or not _is_by_position(acts, tokens):
            shape = tuple(acts.shape) if isinstance(acts, Tensor) else f"a {type(acts).__name__}"
            class_name = type(hooks[name].module).__name__
            verb = "returns" if hooks[name].side == "output" else "is given"
            if tokens.is_floating_point():
                raise InterpError(
                    f"hook {name!r} ({class_name}) {verb} {shape} for inputs {tuple(tokens.shape)}; [seq, d], "
                    "[seq, pos, d] or [seq, d, height, width] is needed"
                )
            raise InterpError(
                f"hook {name!r} ({class_name}) {verb} {shape} for tokens {tuple(tokens.shape)}; [seq, pos, d] or "
                f"[seq, pos, heads, d_head] is needed; {did_you_mean(name, _usable_hooks(module, name))}"
            )
        acts = acts.detach()
        if not tokens.is_floating_point():
            rows[name] = acts.reshape(tokens.numel(), -1)
        elif acts.ndim == 4 or (acts.ndim == 3 and _is_channels_first(name, hooks[name].module, module)):
            rows[name] = acts.movedim(1, -1).reshape(-1, acts.shape[1])
        else:
            rows[name] = acts.reshape(-1, acts.shape[-1])
    return rows


def _is_by_position(acts: Tensor, tokens: Tensor) -> bool:
    """Return whether activations have one vector per position."""
    if tokens.is_floating_point():
        return acts.ndim in (2, 3, 4) and len(acts) == len(tokens)
    return acts.ndim in (3, 4) and acts.shape[:2] == tokens.shape


def _is_channels_first(name: str, part: nn.Module, module: nn.Module) -> bool:
    """Return whether three axes are [seq, d, pos], from the type of the module with the hook. Raises ValueError if that
    is ambiguous: a module without weights, or with convolutions inside, in a model that has such convolutions."""
    if isinstance(part, _ONE_DIMENSIONAL):
        return True
    is_clear = next(part.parameters(), None) is not None and not _holds_one_dimensional(part)
    if not is_clear and _holds_one_dimensional(module):
        raise InterpError(
            f"hook {name!r} ({type(part).__name__}) may return [seq, d, pos] or [seq, pos, d]: name a "
            "convolution, its norm or pooling, or the input of the one after it (NAME.input)"
        )
    return False


def _holds_one_dimensional(module: nn.Module) -> bool:
    return any(isinstance(part, _ONE_DIMENSIONAL) for part in module.modules())


def _on_first(output: Any, act: Callable[[Any], Any]) -> Any:
    """Pass an output, or the first entry of a tuple, to `act`; None if that changes nothing."""
    if not isinstance(output, tuple):
        return act(output)
    changed = act(output[0])
    return None if changed is None else (changed, *output[1:])


def _usable_hooks(module: nn.Module, name: str) -> list[str]:
    """List other hooks of a model; only those known to return vectors, if the model records that."""
    list_hooks: Any = getattr(module, "hooks", None)
    names = list_hooks() if callable(list_hooks) else list(hooks_of(module))
    return [other for other in names if other != name]


def to_model(module: nn.Module, tokens: Tensor) -> Tensor:
    """Return the token ids, or floats, in the form that the model accepts: on its device, floats in its precision."""
    parameter = next(module.parameters(), None)
    if tokens.is_floating_point():
        return tokens.float() if parameter is None else tokens.to(parameter.device, parameter.dtype)
    return tokens.long() if parameter is None else tokens.long().to(parameter.device)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run the block in eval mode without gradients, and restore every submodule's mode afterwards."""
    training = [submodule for submodule in module.modules() if submodule.training]
    if training:
        module.eval()  # which sets an attribute of every submodule
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule in training:
            submodule.training = True
