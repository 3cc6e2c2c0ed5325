"""Rows that dictionaries learn from, a config of every architecture, and what is read of their trainings."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from interp.activations import ActivationStore, JoinedStore, join_stores
from interp.sae import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)

shared = {"d_sae": 48, "tokens": 6400, "batch_size": 256, "device": "cpu", "lr": 4e-3}
OCTOBER_2023: dict[str, Any] = {"unit_norm": True, "clip": None, "l1_warmup": 0.0, "aux_coefficient": 0.0}
OCTOBER_2023 |= {"resample_at": (0.125, 0.25, 0.375, 0.5)}
"""The recipe of Towards Monosemanticity."""
CONFIGS: dict[str, SAEConfig] = {
    "topk": TopKConfig(**shared, k=4, k_start=12, k_anneal=0.5, dead_after=256),
    "batchtopk": BatchTopKConfig(**shared, k=4),
    "batchtopk, clipped": BatchTopKConfig(**shared, k=4, clip=1.0),
    "matryoshka": MatryoshkaConfig(**shared, k=4, groups=(0.25, 0.75)),
    "relu, April 2024": ReLUConfig(**shared, l1=0.5),
    "relu, October 2023": ReLUConfig(**OCTOBER_2023, **shared, l1=0.5, dead_after=512),
    "gated": GatedConfig(**shared, l1=0.5, resample_at=(0.4,), dead_after=512),
    "jumprelu": JumpReLUConfig(**shared, target_l0=4, threshold=0.5, bandwidth=0.3, dead_after=512),
    "matching pursuit": MatchingPursuitConfig(**shared, k=4),
    "frozen decoder": TopKConfig(**shared, k=4, freeze="decoder"),
}


def planted(rows: int = 3000, d: int = 16, seed: int = 0) -> torch.Tensor:
    """Sparse sums of 32 directions, off the origin; the same sums for every width."""
    firing = torch.Generator().manual_seed(1)
    strengths = torch.rand(rows, 32, generator=firing) * (torch.rand(rows, 32, generator=firing) < 0.08)
    directions = torch.randn(32, d, generator=torch.Generator().manual_seed(seed))
    return strengths @ torch.nn.functional.normalize(directions, dim=1) * 5 + 2


def steps(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]


A, B = "a/activations", "b/activations"


def opened(folder: Path) -> JoinedStore:
    return join_stores({name: ActivationStore.open(folder / name) for name in "ab"})


def checkpoints(out: Path) -> list[int]:
    """Return the steps at which the members of a sweep would go on."""
    found = []
    for file in sorted(out.glob("*.unfinished/new/checkpoint.safetensors")):
        with safe_open(file, "pt") as tensors:
            found.append(json.loads(tensors.metadata()["state"])["learner"]["steps_done"])
    return found
