"""Cross-layer transcoders, and the graphs through their parts."""

import copy
from contextlib import ExitStack

import torch
import torch.nn.functional as F

from analyses.claims.cross_layer import CrossLayerConfig, by_layer
from interp import train_sae
from interp.activations import ActivationStream
from interp.activations.hooks import resolve_hooks
from interp.effects.attribution import attribution_graph
from interp.effects.graph_checks import changed_next_tokens
from models.transformer import Transformer
from tests.effects.test_attribution_graph import D_MODEL, IDS, N_LAYERS, model

__all__ = ["model"]


def test_latents_that_write_several_layers_are_learnt_and_followed(model: Transformer) -> None:
    """Cross-layer transcoders: what they may not read or write is 0, the parts make the whole, and ablating a latent is
    taking what it writes out of each layer."""
    reads, writes = (
        [f"blocks.{n}.{hook}" for n in range(N_LAYERS)] for hook in ("ln2.hook_normalized", "hook_mlp_out")
    )
    config = CrossLayerConfig(layers=N_LAYERS, d_sae=N_LAYERS * 16, k=12, tokens=512, batch_size=64, device="cpu")
    single, tokens = (
        copy.deepcopy(model).float(),
        torch.randint(50, (16, 8), generator=torch.Generator().manual_seed(0)),
    )
    stream = ActivationStream(single, tokens, reads + writes)
    whole = train_sae(stream, reads, config, output_hook=writes).double()
    parts = by_layer(whole, reads, writes)
    for n, part in enumerate(whole.W_enc.T.chunk(N_LAYERS)):
        assert [bool(block.any()) for block in part.chunk(N_LAYERS, 1)] == [n == other for other in range(N_LAYERS)]
    for n, part in enumerate(whole.W_dec.chunk(N_LAYERS)):
        assert [bool(block.any()) for block in part.chunk(N_LAYERS, 1)] == [n <= other for other in range(N_LAYERS)]
    x = torch.randn(20, whole.d_in, dtype=torch.double)
    shares = zip(parts.values(), x.chunk(N_LAYERS, 1), range(N_LAYERS), strict=True)
    handed = [F.pad(part.encode(own) @ part.W_dec, (n * D_MODEL, 0)) for part, own, n in shares]
    torch.testing.assert_close(sum(handed) + whole.b_dec, whole(x))

    graph = attribution_graph(model, IDS, parts, batch_size=16)
    assert graph.unexplained < 1e-12 and set(graph.nodes["dictionary"]) == {-1, *range(N_LAYERS + 1)}
    first = graph.nodes[(graph.nodes["type"] == "latent") & (graph.nodes["dictionary"] == 0)]
    node = first["activation"].idxmax()
    less = -first["activation"][node] * parts[reads[0]].W_dec[int(first["latent"][node])]
    with ExitStack() as stack, torch.no_grad():
        for hook, block in zip(resolve_hooks(model, writes).values(), less.chunk(N_LAYERS), strict=True):
            change = F.one_hot(torch.tensor(int(first["position"][node])), len(IDS))[:, None] * block
            stack.enter_context(hook.attach(lambda y, change=change: y + change))
        without = model(IDS[None])[0, -1].softmax(0)
    torch.testing.assert_close(changed_next_tokens(graph, model, parts, {node: 0.0}), without.float())
