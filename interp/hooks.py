"""The hooks of any model: which submodule a name stands for, and what it puts out in a forward pass.

In:  a TransformerLens model, a torch module, or a pair (module, {name: submodule}); hook names; tokens [seq, pos].
Out: for each hook the activations as rows [seq · pos, d]. The pass ends when the last hook has fired: a hook raises an
     exception that `capture` expects, so any model can be stopped anywhere. No hook stays on the model.

A name that the model does not have is a ValueError with the nearest ones; so is a hook that never fires.
"""

import difflib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

log = logging.getLogger(__name__)

Model = nn.Module | tuple[nn.Module, Mapping[str, nn.Module]]
"""A torch module, hooked or not, or one with names for some of its submodules."""
UNNAMED = "activations"
"""What the hook of a store is called whose rows come from no model (`ActivationStore.from_batches`)."""


def module_of(model: Model) -> nn.Module:
    return model[0] if isinstance(model, tuple) else model


def hooks_of(model: Model) -> Mapping[str, nn.Module]:
    """All that a model's hooks may be called, each with its submodule.

    A TransformerLens model (HookedRootModule, HookedTransformer, TransformerBridge) is asked for its hook points, a
    pair (module, {name: submodule}) for its map, any other torch module for its submodules' names.
    """
    if isinstance(model, tuple):
        return model[1]
    hook_dict: Any = getattr(model, "hook_dict", None)
    return {name: module for name, module in model.named_modules() if name} if hook_dict is None else hook_dict


def resolve_hooks(model: Model, hook_names: Sequence[str]) -> dict[str, nn.Module]:
    """The submodule whose output each hook name stands for.

    Raises ValueError that names the nearest names if there is no such hook.
    """
    known = hooks_of(model)
    if not hook_names:
        raise ValueError("hook_names is empty: name at least one hook")
    for name in hook_names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or list(known)[:4]
            raise ValueError(f"the model has no hook {name!r}; the nearest are {', '.join(near)}")
    return {name: known[name] for name in hook_names}


def check_own_hook(dictionary: Any, hook_name: str, known: Collection[str], where: object) -> None:
    """For a dictionary that says which hook it was trained on (`metadata["hook_name"]`), and is used on `hook_name`.

    Raises ValueError if its own hook is among those `known` in `where`. If it is not, the two may be one hook under the
    names of two libraries: a warning is logged. `metadata["hook_name"] = hook_name` says that it belongs there.
    """
    own = own_hook(dictionary)
    if own is None or hook_name == UNNAMED or own == hook_name or own.endswith(f"/{hook_name}"):
        return
    if own in known:
        raise ValueError(f"the dictionary was trained on {own}, which {where} has too, not on {hook_name}: name {own}")
    log.warning("the dictionary was trained on %s; %s calls the hook that it is used on %s", own, where, hook_name)


def own_hook(dictionary: Any) -> str | None:
    """The hook that a dictionary says it was trained on; None where it says none, or only that it has no name."""
    own = (getattr(dictionary, "metadata", None) or {}).get("hook_name")
    return own if isinstance(own, str) and own not in ("", UNNAMED) else None


def capture(module: nn.Module, tokens: Int[Tensor, "seq pos"], hooks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What the hooked submodules put out in one forward pass, which ends when the last of them has fired.

    A submodule that runs more than once counts with its first run; of a tuple the first entry counts.
    """
    found: dict[str, Tensor] = {}

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            if name in found:
                return
            acts = output[0] if isinstance(output, tuple) else output
            if len(found) + 1 < len(hooks):  # the model runs on, and may write into it
                acts = acts.clone()
            found[name] = acts
            if len(found) == len(hooks):
                raise _Captured

        return record

    handles = []
    try:
        handles += [submodule.register_forward_hook(hook_for(name)) for name, submodule in hooks.items()]
        module(tokens)
    except _Captured:
        return {name: found[name] for name in hooks}
    finally:
        for handle in handles:
            handle.remove()
    silent = ", ".join(repr(name) for name in hooks if name not in found)
    raise ValueError(f"the model's forward pass never reaches {silent}: choose a hook that fires")


class _Captured(Exception):
    """Ends a forward pass from within."""


def hooked_rows(
    module: nn.Module, tokens: Int[Tensor, "seq pos"], hooks: Mapping[str, nn.Module]
) -> dict[str, Float[Tensor, "row d"]]:
    """Each hook's activations as rows [seq · pos, d], heads side by side."""
    rows = {}
    for name, acts in capture(module, to_model(module, tokens), hooks).items():
        if not isinstance(acts, Tensor) or acts.ndim not in (3, 4) or acts.shape[:2] != tokens.shape:
            shape = tuple(acts.shape) if isinstance(acts, Tensor) else type(acts).__name__
            raise ValueError(
                f"hook {name!r} puts out {shape} for tokens {tuple(tokens.shape)}; "
                "[seq, pos, d] or [seq, pos, heads, d_head] is needed"
            )
        rows[name] = acts.detach().reshape(tokens.numel(), -1)
    return rows


def to_model(module: nn.Module, tokens: Int[Tensor, "seq pos"]) -> Int[Tensor, "seq pos"]:
    """As the model takes them, on its device."""
    parameter = next(module.parameters(), None)
    return tokens.long() if parameter is None else tokens.long().to(parameter.device)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, and every submodule's own mode again afterwards."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule, training in modes:
            submodule.training = training
