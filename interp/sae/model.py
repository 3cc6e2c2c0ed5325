"""A trained dictionary.

    SAE          pre = (x − b_dec) W_enc + b_enc,    z = f(pre),    x_hat = z W_dec + b_dec
    Crosscoder   the same with the activations of several hooks side by side as x
    Transcoder   pre = x W_enc + b_enc,              z = f(pre),    y_hat = z W_dec + b_dec  [+ x W_skip]

f is the dictionary's `encoder`: TopK, Threshold (ReLU and JumpReLU), or MatchingPursuit, which reads W_dec instead.

`encode`, `decode` and the call are differentiable torch operations over dense latents; `codes` computes the same
latents faster, as `SparseCodes`, without gradients.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.checks.errors import InterpError
from interp.codes.dictionary import Metadata
from interp.codes.sparse_codes import SparseCodes
from interp.display.cards import card, show_facts
from interp.runtime.devices import device_named
from interp.sae.architectures.encoders import Encoder, Weights
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.formats.circuit_tracer import read_transcoders
from interp.sae.formats.dictionary_files import encode_files, read_dictionary
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.sae.kernels.dispatch import kernels
from interp.storage.artifacts import folder_of, looks_like_path
from interp.storage.files import digest, digest_json
from interp.storage.folders import atomic_folder

_SPARSITY_OPTIONS = ("k", "target_l0", "l1")
"""Options that set the number of latents that fire; the repr shows the first one that a dictionary has."""
_ALWAYS_SHOWN = ("batch_size", "seed")


class SAE(nn.Module):
    """A sparse autoencoder.

    encoder: maps rows to latents. config: its training config, None for a dictionary that interp did not train.
    metadata: the model and hook that it belongs to (hook_name, …).

    The parameters require no gradient; gradients with respect to x or z still flow. The tensors of the encoder, such as
    thresholds, are buffers: `to` moves them and `state_dict` has them. Raises ValueError for an encoder with a tensor
    whose name the dictionary uses itself.
    """

    kind: ClassVar[str] = "sae"

    def __init__(
        self,
        *,
        W_enc: Float[Tensor, "d_in d_sae"],
        W_dec: Float[Tensor, "d_sae d_out"],
        b_enc: Float[Tensor, " d_sae"],
        b_dec: Float[Tensor, " d_out"],
        encoder: Encoder,
        config: SAEConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self._encoder_tensors: tuple[str, ...] = ()
        """Names of the buffers that are tensors of the encoder."""
        rows = W_enc.T.contiguous()  # one contiguous row per latent, as the kernels read it
        self.W_enc, self.W_dec = _freeze(rows.T), _freeze(W_dec)
        self.b_enc, self.b_dec = _freeze(b_enc), _freeze(b_dec)
        self.config = config
        self.metadata = cast(Metadata, dict(metadata or {}))
        self.encoder = encoder

    @property
    def encoder(self) -> Encoder:
        encoder = copy(self._encoder_without_tensors)
        vars(encoder).update({name: getattr(self, name) for name in self._encoder_tensors})
        return encoder

    @encoder.setter
    def encoder(self, encoder: Encoder) -> None:
        tensors = {name: value.detach() for name, value in vars(encoder).items() if isinstance(value, Tensor)}
        for name in tensors.keys() - self._encoder_tensors:
            if hasattr(self, name):
                raise InterpError(f"each dictionary has a member {name}: give the encoder's tensor another name")
        for name in self._encoder_tensors:
            delattr(self, name)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.to(self.b_enc.device))
        self._encoder_tensors = tuple(tensors)
        self._encoder_without_tensors = copy(encoder)
        for name in tensors:
            del vars(self._encoder_without_tensors)[name]

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        return self.encoder.encode(self._encoded_rows(x), self._weights)

    @torch.no_grad()
    def codes(self, x: Float[Tensor, "row d_in"]) -> SparseCodes:
        """Encode rows. Raises ValueError for any other number of axes than two, and for NaN or infinity."""
        if x.ndim != 2:
            raise InterpError(
                f"codes are of rows [row, {self.d_in}], not of {list(x.shape)}: join axes by x.flatten(0, -2)"
            )
        rows = self._encoded_rows(x)
        if not bool(rows.isfinite().all()):  # no order has NaN, so that each kernel would pick other latents
            first = int((~rows.isfinite()).any(1).nonzero()[0])
            raise InterpError(f"row {first} of those to encode contains NaN or infinity: leave it out")
        return self.encoder.codes(rows, self._weights)

    def decode(self, z: Float[Tensor, "... d_sae"] | SparseCodes) -> Float[Tensor, "... d_out"]:
        """Reconstruct activations from latents. Raises ValueError for codes with another number of latents, and for
        latent ids out of range."""
        width = z.d_sae if isinstance(z, SparseCodes) else z.shape[-1]
        if width != self.d_sae:
            raise InterpError(f"the codes have {width} latents, but the SAE has d_sae={self.d_sae}")
        if not isinstance(z, SparseCodes):
            return z @ self.W_dec + self.b_dec
        if z.nnz and not 0 <= int(z.latents.min()) <= int(z.latents.max()) < self.d_sae:
            raise InterpError(
                f"the codes contain latents {z.latents.min()} to {z.latents.max()}, not 0 to {self.d_sae - 1}"
            )
        codes = z.with_values(z.values.to(self.W_dec.dtype))  # codes of a dictionary in bfloat16 are in float32
        with torch.no_grad():
            return kernels(self.W_dec).decode(codes, self.W_dec, self.b_dec)

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        return self.decode(self.encode(x))

    def save(self, path: str | Path, format: str | None = None, *, overwrite: bool = False) -> None:
        """Write the folder `path`: `sae_weights.safetensors` and `cfg.json`. `overwrite`: replace another dictionary.

        format: `saelens`, as `sae_lens.SAE.load_from_disk` reads them, which raises ValueError, with the format to use,
        if SAELens has no architecture for the dictionary; `interp`, any dictionary, for `load_sae`; None:
        `preferred_format`.
        """
        files = encode_files(self.stored(), format or self.preferred_format)
        made_of = {"kind": "dictionary", "cfg": digest_json(files.cfg), "weights": digest(*files.tensors.values())}
        with atomic_folder(path, made_of, overwrite=overwrite, editable=True) as new:
            files.write(new)

    @property
    def preferred_format(self) -> str:
        """`saelens` if SAELens can read the dictionary, else `interp`."""
        return self.stored().preferred_format

    def __repr__(self) -> str:
        """Describe the dictionary, as in `TopK(128 → 4096, k=8, blocks.0.hook_resid_post)`: architecture (or the
        encoder, if interp did not train it), widths, sparsity and hooks."""
        source = self.encoder if self.config is None else self.config
        name = type(source).__name__.removesuffix("Config") + ("" if self.kind == "sae" else f" {self.kind}")
        widths = f"{self.d_in} → {self.d_sae}" + ("" if self.d_out == self.d_in else f" → {self.d_out}")
        sparsity = [
            f"{field}={value}" for field in _SPARSITY_OPTIONS if (value := getattr(source, field, None)) is not None
        ]
        hooks: Any = self.metadata.get("hook_names")
        hooks = hooks or [self.metadata.get("hook_name"), self.metadata.get("hook_name_out")]
        hook_names = " → ".join(dict.fromkeys(str(hook) for hook in hooks if hook))
        return f"{name}({', '.join([widths, *sparsity[:1], *([hook_names] if hook_names else [])])})"

    def _repr_html_(self) -> str:
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        facts: dict[str, Any] = {"parameters": f"{n_parameters:,}", "model": self.metadata.get("model_name")}
        facts["context"] = self.metadata.get("context_size")
        config = self.config
        if config is None:
            return card(repr(self), show_facts({**facts, "training": "elsewhere"}))
        options = {field.name: getattr(config, field.name) for field in fields(config) if field.default is not MISSING}
        default = {field.name: field.default for field in fields(config)}
        changed = {name: value for name, value in options.items() if value != default[name] or name in _ALWAYS_SHOWN}
        return card(repr(self), show_facts(facts), show_facts({"trained on": f"{config.tokens:,} tokens", **changed}))

    def stored(self) -> StoredDictionary:
        """Return everything that is stored in its files."""
        return StoredDictionary(
            kind=self.kind,
            W_enc=self.W_enc,
            W_dec=self.W_dec,
            b_enc=self.b_enc,
            b_dec=self.b_dec,
            encoder=self.encoder,
            config=self.config,
            metadata=dict(self.metadata),
        )

    @property
    def _weights(self) -> Weights:
        return Weights(self.W_enc.T, self.b_enc, self.W_dec)

    def _encoded_rows(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        """Return the rows that the encoder gets for x."""
        return self._check_width(x) - self.b_dec

    def _check_width(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        """Return x in the dictionary's type and on its device. Raises ValueError for what is no tensor, and for rows of
        another width."""
        if not isinstance(x, Tensor):
            raise InterpError(f"the rows are a {type(x).__name__}: give a tensor, as torch.as_tensor makes one")
        if x.shape[-1] != self.d_in:
            class_name = type(self).__name__
            raise InterpError(
                f"the rows are {x.shape[-1]} wide, but the {class_name} reads rows of width d_in={self.d_in}"
            )
        return x.to(self.b_dec)


class Transcoder(SAE):
    """A dictionary that reads one hook and writes another. `sae(x)` includes the skip path; `decode` does not, as it
    does not have x."""

    kind = "transcoder"
    W_skip: Float[Tensor, "d_in d_out"] | None

    def __init__(self, *, W_skip: Float[Tensor, "d_in d_out"] | None = None, **shared: Any):
        super().__init__(**shared)
        self.register_parameter("W_skip", None if W_skip is None else _freeze(W_skip))

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        out = super().forward(x)
        return out if self.W_skip is None else out + x.to(out) @ self.W_skip

    def stored(self) -> StoredDictionary:
        return replace(super().stored(), W_skip=self.W_skip)

    def _encoded_rows(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        return self._check_width(x)


class Crosscoder(SAE):
    """A dictionary of several hooks that share its latents: x holds their activations side by side, in the order of
    `hook_names`."""

    kind = "crosscoder"

    def __init__(self, *, widths: tuple[int, ...], scales: tuple[float, ...] | None = None, **shared: Any):
        super().__init__(**shared)
        self.widths = tuple(widths)
        self.scales = tuple(scales) if scales is not None else (1.0,) * len(self.widths)
        """Each hook's activations were multiplied with its scale in training; norms are compared on that scale."""

    @property
    def hook_names(self) -> tuple[str, ...]:
        return tuple(self.metadata.get("hook_names", ()))

    def parts(self, rows: Float[Tensor, "... d_in"]) -> tuple[Float[Tensor, "... d_hook"], ...]:
        """Return activations, reconstructions or W_dec, split by hook."""
        return rows.split(list(self.widths), dim=-1)

    def decoder_norms(self) -> Float[Tensor, "d_sae hook"]:
        """Return norms of the decoder rows, hook by hook, on scales at which all hooks have the same mean norm per
        √d."""
        norms = [part.norm(dim=1) * scale for part, scale in zip(self.parts(self.W_dec), self.scales, strict=True)]
        return torch.stack(norms, dim=1)

    def stored(self) -> StoredDictionary:
        return replace(super().stored(), widths=self.widths, scales=self.scales)


def load_sae(path_or_release: str | Path, sae_id: str | None = None, *, device: str = "cpu") -> SAE:
    """Load a dictionary: from a folder in interp's, SAELens's or sparsify's format, from a run folder, from a folder of
    interp's at an address such as s3://bucket/sae, or from a SAELens release with an id in it.

    A release needs the network, or its files in the Hugging Face cache. Raises ValueError, naming the file, for damaged
    files and for dictionaries that cannot be represented: architectures other than SAELens's standard, topk, jumprelu,
    gated, matching_pursuit and transcoders (and checkpoints of batchtopk), and scalings that differ from row to row. If
    its training architecture is not imported, its `config` is None. `device="auto"` is the GPU if there is one.

    Example:

        sae = load_sae("sae")
        sae.save("for-saelens", format="saelens")
    """
    if path_or_release is None:
        raise InterpError("path_or_release is None: give the folder of a dictionary, or the name of a release")
    on = device_named(device)
    is_folder = sae_id is None and looks_like_path(str(path_or_release))
    stored = read_dictionary(folder_of(path_or_release, "sae") if is_folder else path_or_release, sae_id)
    return _module_of(stored).to(on)


def load_transcoders(folder: str | Path) -> dict[str, Transcoder]:
    """Load the transcoders of a circuit-tracer folder. Returns them by the hook that they read.

    Raises ValueError, naming the file, for a folder without `config.yaml` or a layer, for cross-layer transcoders, and
    for weights that are damaged.
    """
    return {hook: cast(Transcoder, _module_of(stored)) for hook, stored in read_transcoders(folder).items()}


def _module_of(stored: StoredDictionary) -> SAE:
    shared_names = ("W_enc", "W_dec", "b_enc", "b_dec", "encoder", "config", "metadata")
    shared: dict[str, Any] = {name: getattr(stored, name) for name in shared_names}
    if stored.kind == "transcoder":
        return Transcoder(**shared, W_skip=stored.W_skip)
    if stored.kind == "crosscoder":
        return Crosscoder(**shared, widths=stored.widths, scales=stored.scales)
    return SAE(**shared)


def _freeze(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)
