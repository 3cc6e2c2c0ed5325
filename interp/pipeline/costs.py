"""The cost of a stage before it runs: the sizes that follow from a configuration, the cost computed from them, and the
speed of the machine.

    seconds = float32 operations / rate + bfloat16 operations / rate + bytes moved / rate + overhead × pace

The rates and the pace are measured in about a second (`Speed.measure`), each as the best of many tries, as if the
machine were otherwise idle. Each stage declares the operations and bytes that it needs (`Stage.cost`). Operations of
the model are counted on one sequence at the run's hooks. The file `timings` has the seconds of sorting, counting
and writing.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from interp.pipeline.sections import LoadedSAESection
from interp.storage.addresses import address_of

USUAL_L0 = 32
"""Assumed latents per token, for an architecture whose configuration has no `expected_l0`."""
_CHARACTERS_A_TOKEN = 0.28, -0.94
"""Characters per token, as slope and intercept in log₂ of the vocabulary; fitted to vocabularies of 1,024 to 49,152
entries."""
_UNPACKED = 6
"""Bytes of text per byte of a compressed file, at most, in what people write."""
REACHED_FRACTION = 0.5
"""The fraction, in [0, 1], of a matrix product's speed that the stages of the demo and of SmolLM2's run reach. The
product is measured alone, in its thread's cache."""
_PEAKS = ("memory", "scratch")
"""The fields of a cost that do not add up."""
_SECONDS_OF_TRIES = 0.25
_LOOP_STEPS = 20_000
"""Steps of a loop over a Python dictionary."""
_LOOP_SECONDS = 1.2e-3
"""The seconds of this loop on the machine of the overhead constants."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a stage. Costs add up, except memory and scratch, of which the larger counts."""

    disk: float = 0
    """Bytes that it leaves."""
    scratch: float = 0
    """Further bytes on disk while it runs."""
    memory: float = 0
    """Bytes of the tensors that it must hold at once, without the memory of the libraries."""
    float32_operations: float = 0
    """Multiplications and additions in float32, each one operation."""
    bfloat16_operations: float = 0
    """Multiplications and additions in bfloat16, if the hardware supports it."""
    moved: float = 0
    """Bytes that go through memory, not the cache."""
    seconds: float = 0
    """Overhead, on the machine of the constants."""

    @property
    def operations(self) -> float:
        return self.float32_operations + self.bfloat16_operations

    def __add__(self, other: "Cost") -> "Cost":
        names = [field.name for field in fields(self)]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return Cost(**{name: max(pair) if name in _PEAKS else sum(pair) for name, pair in pairs.items()})

    def times(self, n: float) -> "Cost":
        names = [field.name for field in fields(self)]
        return Cost(**{name: getattr(self, name) * (1 if name in _PEAKS else n) for name in names})

    def seconds_on(self, speed: "Speed") -> float:
        """Return the seconds that it takes at this speed."""
        multiplying = self.float32_operations / speed.float32_rate + self.bfloat16_operations / speed.bfloat16_rate
        return multiplying + self.moved / speed.memory + self.seconds * speed.pace


class Speed(NamedTuple):
    float32_rate: float
    """Operations a second that float32 matrix products of a stage reach."""
    bfloat16_rate: float
    """The rate in bfloat16, or in float32 if bfloat16 is not faster."""
    memory: float
    """Bytes per second that a copy by one thread reads and writes. More threads would wait for the same memory."""
    pace: float
    """Time for overhead, as a multiple of the time on the machine of the constants."""

    @classmethod
    def measure(cls) -> "Speed":
        """Measure the speed of this machine's processor, in about a second.

        One thread is measured in CPU time, which other jobs disturb least. This is multiplied by the number of threads,
        and by the fraction that stages reach."""
        import torch

        from interp.sae.encode_rows import has_fast_bfloat16

        x = torch.randn(512, 512)
        W = torch.randn(2048, 512)
        block = torch.zeros(1 << 24)
        x_half = x.bfloat16()
        W_half = W.bfloat16()
        copy = block.clone()
        n_operations = 2 * len(x) * W.numel()
        n_threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            single = n_operations / _fastest_seconds(lambda: x @ W.T)
            half = n_operations / _fastest_seconds(lambda: x_half @ W_half.T) if has_fast_bfloat16(x) else single
            memory = 2 * block.nbytes / _fastest_seconds(lambda: copy.copy_(block))
            pace = _fastest_seconds(_loop) / _LOOP_SECONDS
        finally:
            torch.set_num_threads(n_threads)
        share = REACHED_FRACTION * n_threads
        return cls(share * single, share * half, memory, pace)


class Sizes:
    """The sizes that follow from a configuration. A pretrained model is loaded; a model to be trained is made without
    weights."""

    def __init__(self, config: Any, models: "_Models | None" = None):
        """Describe a run. config: a `RunConfig`. models: those of another configuration with the same models."""
        self.config = config.with_named_hooks()
        self._models = models or _Models(self.config)

    @property
    def model(self) -> Any:
        return self._models.model

    @property
    def d_vocab(self) -> int:
        return int(self.model.d_vocab)

    @property
    def n_ctx(self) -> int:
        return self.config.model.n_ctx

    @property
    def characters(self) -> int:
        """Characters of the corpus, at most: a source may hold fewer. Raises OSError for a path of [corpus] that is a
        folder or matches no file."""
        from models.corpus import ENDLESS_CHARACTERS
        from models.text_files import is_compressed, named_files

        corpus = self.config.corpus
        if not corpus.paths or any(map(address_of, corpus.paths)):
            return corpus.characters or ENDLESS_CHARACTERS
        files = [file for path in corpus.paths for file in named_files(path)]
        n_bytes = sum(Path(file).stat().st_size * (_UNPACKED if is_compressed(file) else 1) for file in files)
        return min(corpus.characters or n_bytes, n_bytes)

    @property
    def all_tokens(self) -> float:
        is_spelt = self.config.model.is_trained and self.config.tokenizer.kind == "characters"
        slope, intercept = _CHARACTERS_A_TOKEN
        return self.characters / (1 if is_spelt else max(1.0, slope * math.log2(self.d_vocab) + intercept))

    @property
    def held_out(self) -> float:
        return min(self.config.quality.tokens, self.all_tokens * self.config.corpus.val_fraction)

    @property
    def rows(self) -> float:
        """Tokens whose activations are kept."""
        return min(self.config.harvest.tokens, self.all_tokens * (1 - self.config.corpus.val_fraction))

    @cached_property
    def weights(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())

    @cached_property
    def weight_bytes(self) -> int:
        return sum(weight.nbytes for weight in self.model.parameters())

    @cached_property
    def widths(self) -> dict[str, int]:
        """The width of each hook of the run."""
        return self._models.traced[0]

    @property
    def hooks(self) -> list[str]:
        """The hooks that the first dictionary reads, and the hooks that are harvested with them."""
        return self.config.harvest.hooks_in(self.model)

    @property
    def d_in(self) -> int:
        return self.widths[self.hooks[0]]

    @property
    def d_out(self) -> int:
        return self.widths[self.hooks[-1]] if self.config.harvest.output_hook else self.d_in

    @property
    def d_sae(self) -> int:
        sae = self.config.sae
        return int(self._models.loaded.d_sae if isinstance(sae, LoadedSAESection) else sae.d_sae)

    @property
    def firings(self) -> float:
        """Firings of the dictionary on all kept rows."""
        return self.rows * self.l0

    @property
    def corpus_bytes(self) -> float:
        """The bytes of all tokens, which the stages that read labels hold: an id of 4 bytes each, and a byte for each
        label (the mixture has about twelve) or, of text that is streamed, the 4 bytes of its document."""
        return (4 + (4 if self.config.corpus.stream else self.labels)) * self.all_tokens

    @property
    def labels(self) -> int:
        return 12 if self.config.corpus.source == "mixture" else 1

    @property
    def l0(self) -> int:
        return math.ceil(getattr(self.config.sae, "expected_l0", None) or USUAL_L0)

    def forward_cost(self, tokens: float, *, before: float = 0, after: float = 0) -> Cost:
        """Return the cost of forward passes over `tokens` tokens: `before` passes of the part up to the hooks, and
        `after` passes of the part downstream."""
        _, to_hooks, whole = self._models.traced
        operations = tokens * (before * to_hooks + after * (whole - to_hooks))
        is_single = next(self.model.parameters()).element_size() > 2
        return Cost(memory=self.weight_bytes, **{f"{'float32' if is_single else 'bfloat16'}_operations": operations})

    def encoding_cost(self, rows: float) -> Cost:
        return Cost(bfloat16_operations=2 * rows * self.d_in * self.d_sae)

    def with_config(self, config: Any) -> "Sizes":
        """Return the sizes of another configuration of the same model, which is not loaded or traced again."""
        return Sizes(config, self._models)


class _Models:
    """The models of a run, each loaded and traced once, when it is first needed."""

    def __init__(self, config: Any):
        self._config = config

    @cached_property
    def model(self) -> Any:
        return self._config.model.hooked(self._config.tokenizer.vocab_size)

    @cached_property
    def loaded(self) -> Any:
        """The dictionary that is loaded."""
        from interp.sae import load_sae

        sae = self._config.sae
        assert isinstance(sae, LoadedSAESection)
        return load_sae(sae.load, sae.sae_id)

    @cached_property
    def traced(self) -> tuple[dict[str, int], float, float]:
        """Widths of the hooks; operations per token up to the last hook, and in the whole model."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from interp.activations.hooks import evaluating, hooked_rows, resolve_hooks

        harvest, model = self._config.harvest, self.model
        n_ctx = self._config.model.n_ctx
        names = [name for hook in harvest.hook_names for name in self._config.at(hook).harvest.hooks_in(model)]
        tokens = torch.zeros(1, n_ctx, dtype=torch.long, device=next(model.parameters()).device)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        try:
            # The counter follows gradients, and a position's weights have none of their own.
            model.requires_grad_(False)
            with evaluating(model):
                with FlopCounterMode(display=False) as to_hooks:
                    rows = hooked_rows(model, tokens, resolve_hooks(model, list(dict.fromkeys(names))))
                with FlopCounterMode(display=False) as whole:
                    model(tokens)
        finally:
            for weight in trained:
                weight.requires_grad_(True)
        widths = {name: x.shape[1] for name, x in rows.items()}
        return widths, to_hooks.get_total_flops() / n_ctx, whole.get_total_flops() / n_ctx


def _fastest_seconds(task: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest try. There are as many tries as fit into _SECONDS_OF_TRIES, and at least
    three."""
    durations: list[float] = []
    end = time.perf_counter() + _SECONDS_OF_TRIES
    while len(durations) < 3 or time.perf_counter() < end:
        begin = time.thread_time()
        task()
        durations.append(time.thread_time() - begin)
    return min(durations)


def _loop() -> None:
    counts: dict[int, int] = {}
    for i in range(_LOOP_STEPS):
        counts[i % 997] = counts.get(i % 997, 0) + 1
