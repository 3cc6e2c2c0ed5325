"""Cross-layer transcoders: a latent reads one layer's MLP and writes the outputs of that MLP and of all later ones.

    z_l = f(x_l W_enc_l + b_l)        y_m = Σ_{l ≤ m} z_l W_dec_lm + b_m        loss = Σ_m ‖y_m − MLP_m(x_m)‖²

One transcoder with the layers side by side as input and output, in which the blocks that a layer may not read or write
stay 0, is the same thing: `CrossLayerConfig` masks it, and `by_layer` takes it apart for an attribution graph. They are
said to rewrite circuits of several steps as shallow sums: a latent of the first layer may write what a later MLP makes
of it by itself. `hops` counts the steps that a graph shows.

Source: Ameisen et al. 2025 (Circuit Tracing).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from interp import BatchTopKConfig, harvest, train_sae
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph
from interp.sae.architectures.thresholds import Threshold
from interp.sae.model import Transcoder
from models.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class CrossLayerConfig(BatchTopKConfig):
    """As many latents for each layer; k of all layers together."""

    architecture: ClassVar[str] = "cross_layer"
    layers: int

    def mask(self, weights: dict[str, Tensor]) -> None:
        for layer in range(self.layers):
            latents = slice(layer * self.d_sae // self.layers, (layer + 1) * self.d_sae // self.layers)
            read, written = (weights[name][latents].chunk(self.layers, 1) for name in ("encoder_rows", "W_dec"))
            for other in range(self.layers):
                if other != layer:
                    read[other].zero_()
                if other < layer:
                    written[other].zero_()

    def check_hooks(self, *, tied: bool, n_hooks: int) -> None:
        if tied or n_hooks != self.layers or self.d_sae % self.layers:
            raise ValueError(f"layers={self.layers} of {self.d_sae} latents need as many hooks to read and to write")


def cross_layer_transcoders(
    model: Transformer, prompts: Int[Tensor, "prompt pos"], *, tokens: int, latents: int = 64, k: int = 4
) -> dict[str, Dictionary]:
    """Train the cross-layer transcoders of a model. Returns them by the hooks that they read.

    latents: number per layer.
    k: number of latents per layer that fire on average.
    """
    n = len(model.blocks)
    reads = [f"blocks.{layer}.ln2.hook_normalized" for layer in range(n)]
    writes = [f"blocks.{layer}.hook_mlp_out" for layer in range(n)]
    config = CrossLayerConfig(layers=n, d_sae=n * latents, k=n * k, tokens=tokens, batch_size=256)
    with tempfile.TemporaryDirectory() as folder:
        store = harvest(model, prompts, [*reads, *writes], Path(folder) / "store", max_norm=None)
        return by_layer(train_sae(store, reads, config, output_hook=writes), reads, writes)


def by_layer(transcoder: Any, reads: list[str], writes: list[str]) -> dict[str, Dictionary]:
    """Take the masked transcoder apart: of each layer the latents, and what they write to it and to later layers."""
    n, latents = len(reads), transcoder.d_sae // len(reads)
    parts: dict[str, Dictionary] = {}
    for layer, name in enumerate(reads):
        layer_latents = slice(layer * latents, (layer + 1) * latents)
        first = layer * transcoder.d_out // n
        parts[name] = Transcoder(
            W_enc=transcoder.W_enc[:, layer_latents].chunk(n, 0)[layer],
            W_dec=transcoder.W_dec[layer_latents, first:],
            b_enc=transcoder.b_enc[layer_latents],
            b_dec=transcoder.b_dec.chunk(n)[layer],
            encoder=Threshold(transcoder.encoder.threshold[layer_latents]),
            metadata={"hook_name": name, "hook_name_out": writes[layer], "hook_names_out": writes[layer:]},
        )
    return parts


def hops(graph: AttributionGraph) -> float:
    """Return the number of latents that a path to the next tokens passes, averaged by influence."""
    return float(graph.nodes["influence"][graph.nodes["type"] == "latent"].sum())
