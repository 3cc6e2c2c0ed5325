"""Crosscoders over two stages of one model, and the latent that stands for the end of a response.

The functions, in the order of their use:

    harvest_stages     activations of every stage at one hook, over the same conversations and plain text
    train_crosscoders  BatchTopK and ReLU with an L1 penalty, over the same rows of two stages
    find_end           the latent that fires where <end> comes next, judged on conversations not used to pick it
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from analyses.essay.chat_models import QUICK_MODELS, ChatSetting, World
from analyses.essay.preference_models import QUICK_PREFERENCE, PreferenceSetting
from analyses.essay.texts.conversations import turns
from interp import ActivationStore, BatchTopKConfig, Crosscoder, ReLUConfig, harvest, join_stores, train_sweep
from models.transformer import Transformer

KINDS = ("BatchTopK", "L1")


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = (0, 1, 2)
    hook: str = "blocks.1.hook_resid_post"
    turns: int = 3000
    plain_rows: int = 900
    """Rows of 64 tokens, as many as the conversations have."""
    d_sae: int = 1024
    k: int = 16
    l1: float = 0.8
    """Chosen on a short run so that the two crosscoders have about the same L0."""
    tokens: int = 600_000
    scaling_rows: int = 32_768
    expected: float = 0.25
    """Probability of <end> from which on the second stage is said to expect it."""
    models: ChatSetting = field(default_factory=ChatSetting)
    preference: PreferenceSetting = field(default_factory=PreferenceSetting)


QUICK = Setting(
    seeds=(0, 1),
    turns=200,
    plain_rows=60,
    d_sae=64,
    k=8,
    tokens=5_000,
    scaling_rows=2000,
    models=QUICK_MODELS,
    preference=QUICK_PREFERENCE,
)


def harvest_stages(
    stages: Mapping[str, Transformer], world: World, setting: Setting, out: Path, seed: int
) -> dict[str, ActivationStore]:
    """Harvest half conversations (new ones of the kind that SFT learnt from), half plain text, without <|bos|>."""
    sequences = world.sequences(turns(Random(seed + 40_000), setting.turns))
    width = max(sequences.tokens.shape[1], world.train.shape[1])
    rows = [F.pad(sequences.tokens, (0, width - sequences.tokens.shape[1]), value=world.chat.bos_id)]
    plain = world.train[: setting.plain_rows].long()
    rows.append(F.pad(plain, (0, width - plain.shape[1]), value=world.chat.bos_id))
    tokens = torch.cat(rows)
    return {
        name: harvest(model, tokens, [setting.hook], out / name, exclude=[world.chat.bos_id], seed=seed)
        for name, model in stages.items()
    }


def train_crosscoders(
    first: ActivationStore, second: ActivationStore, setting: Setting, seed: int
) -> tuple[dict[str, Crosscoder], Iterator[Float[Tensor, "row d_in"]]]:
    """Train both kinds of crosscoder. Also returns an iterator over the rows for latent scaling."""
    both = join_stores({"first": first, "second": second})
    hooks = [f"first/{setting.hook}", f"second/{setting.hook}"]
    shared: dict[str, Any] = dict(d_sae=setting.d_sae, tokens=setting.tokens, batch_size=1024, seed=seed)
    coders = train_sweep(
        both, hooks, [BatchTopKConfig(**shared, k=setting.k), ReLUConfig(**shared, l1=setting.l1, aux_coefficient=0.0)]
    )
    batches = both.batches(hooks, 4096, seed=seed + 1, epochs=1)
    return dict(zip(KINDS, coders, strict=True)), islice(iter(batches), math.ceil(setting.scaling_rows / 4096))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Conversations:
    """Held-out conversations, read by two stages."""

    x: Float[Tensor, "token d_in"]
    """Activations of both stages side by side."""
    expects: Bool[Tensor, " token"]
    """Return where the second model expects <end> next."""
    response: Bool[Tensor, " token"]
    """Return where a token of a response comes next."""
    fit: Bool[Tensor, " token"]
    """Tokens of the first half of the conversations, for choosing; the others judge."""
    conversation: Tensor
    text: list[str]


@torch.no_grad()
def read_conversations(first: Transformer, second: Transformer, world: World, setting: Setting) -> Conversations:
    sequences = world.sequences(world.heldout)
    acts = []
    for model in (first, second):
        _, cache = model.run_with_cache(sequences.tokens, names_filter=setting.hook, return_type=None)
        acts.append(cache[setting.hook])
    following = torch.zeros_like(sequences.response)
    following[:, :-1] = sequences.response[:, 1:]
    expects = second(sequences.tokens).softmax(2)[:, :, world.chat.end_id] >= setting.expected
    places = torch.arange(sequences.tokens.shape[1])
    real = (places <= sequences.last[:, None]) & (places > 0)
    conversation = torch.arange(len(expects))[:, None].expand_as(expects)[real]
    names = world.chat.display()
    return Conversations(
        x=torch.cat(acts, 2)[real],
        expects=expects[real],
        response=following[real],
        fit=conversation < len(expects) // 2,
        conversation=conversation,
        text=[names[i] for i in sequences.tokens[real].tolist()],
    )


def best_f1(
    scores: Float[Tensor, "token unit"], wanted: Bool[Tensor, " token"], fit: Bool[Tensor, " token"]
) -> tuple[Float[Tensor, " unit"], Float[Tensor, " unit"]]:
    """Return the F1 of each unit on both halves, at the threshold that is best on the fit half."""
    ordered, order = scores[fit].sort(0, descending=True)
    hits = wanted[fit][order].double().cumsum(0)
    called = torch.arange(1, len(ordered) + 1)[:, None]
    f1 = 2 * hits / (called + wanted[fit].sum())
    # Equal scores are on one side of a threshold: only their last place counts.
    tied = torch.zeros_like(f1, dtype=torch.bool)
    tied[:-1] = ordered[1:] == ordered[:-1]
    best, place = f1.masked_fill(tied | (ordered <= 0), 0).max(0)
    fires = scores[~fit] >= ordered[place, torch.arange(scores.shape[1])]
    both = (fires & wanted[~fit, None]).sum(0)
    return best, 2 * both / (fires.sum(0) + wanted[~fit].sum()).clamp(min=1)


@torch.no_grad()
def find_end(coder: Crosscoder, read: Conversations) -> dict[str, float]:
    """Return the latent of the best F1 for where <end> is expected, on the fit half; its F1 on the other half."""
    z = coder.encode(read.x)
    fitted, judged = best_f1(z, read.expects, read.fit)
    latent = int(fitted.argmax())
    return {"latent": latent, "f1": float(judged[latent])}


@torch.no_grad()
def end_probabilities(
    coder: Crosscoder, latent: int, read: Conversations, model: Transformer, end_id: int
) -> dict[str, list[float]]:
    """P(<end>) of the second stage where it is expected and elsewhere in responses: as it is, without what the latent
    writes, and, as a control, without what the latent writes that is the strongest there of the others. The hook must
    be the last one."""
    z = coder.encode(read.x)
    second = coder.parts(read.x)[1]
    rows = coder.parts(coder.W_dec)[1]
    power = (z * rows.norm(dim=1))[read.expects].mean(0)
    power[latent] = -1
    other = int(power.argmax())
    means = {}
    for name, removed in (("as it is", None), ("without the latent", latent), ("without the strongest other", other)):
        resid = second if removed is None else second - z[:, removed, None] * rows[removed]
        p = model.unembed(model.ln_final(resid)).softmax(1)[:, end_id]
        means[name] = [_mean(p[read.expects]), _mean(p[read.response & ~read.expects])]
    return means


def _mean(values: Float[Tensor, " token"]) -> float:
    """Return the mean, which is 0 if there are no values."""
    return float(values.sum()) / max(1, len(values))
