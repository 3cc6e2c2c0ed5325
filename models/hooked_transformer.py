"""Our transformer as TransformerLens's, for tools that ask for one (SAELens, SAEBench)."""

from typing import TYPE_CHECKING, Any

from models.transformer import Transformer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def to_hooked_transformer(model: Transformer, tokenizer: Any = None) -> "HookedTransformer":
    """The same function as a `HookedTransformer`. LayerNorms stay as they are (nothing is folded or centred), so
    activations at every hook agree too. `tokenizer` may be ours or a `transformers` one."""
    from transformer_lens import HookedTransformer

    if hasattr(tokenizer, "to_transformers"):
        tokenizer = tokenizer.to_transformers()
    twin = HookedTransformer(model.cfg, tokenizer=tokenizer)
    buffers = {name: buffer for name, buffer in twin.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    twin.load_state_dict({**model.state_dict(), **buffers})
    return twin
