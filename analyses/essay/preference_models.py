"""Pairs of responses judged by the gold rule, and the policies that DPO makes of them.

What is made:

    pairs       two responses of the SFT model to each prompt; the gold rule says which is better, and some
                labels are flipped
    MODELS/seed-S/dpo-BETA      sft, optimised on the pairs, with its training curve
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyses.essay.chat_models import ChatSetting, World, copy_of, stage, watched_steps
from analyses.essay.posttraining import PostTrainingConfig, Sequences, policy_kl, respond, tune_on_preferences
from analyses.essay.posttraining.preference import log_probs
from analyses.essay.posttraining.sampling import Responses
from analyses.essay.texts.conversations import Turn, courtesy
from models.transformer import Transformer


@dataclass(frozen=True)
class PreferenceSetting:
    prompts: int = 2000
    """Prompts of the conversations that SFT learnt from; one pair each, without ties."""
    noise: float = 0.15
    """Share of the labels that are turned round."""
    asked: int = 200
    """Held-out prompts on which the policies are watched."""
    beta: float = 0.5
    """β of the policy that is judged."""
    betas: tuple[float, ...] = (0.03, 0.1, 0.5)
    dpo_epochs: float = 2.0
    dpo_lr: float = 3e-4
    reward_epochs: float = 2.0
    reward_lr: float = 5e-4
    watched: int = 8


QUICK_PREFERENCE = PreferenceSetting(prompts=100, asked=30, betas=(0.5,), dpo_epochs=1, reward_epochs=1, watched=2)


@dataclass(frozen=True)
class Pairs:
    chosen: Sequences
    rejected: Sequences
    turned: float
    """Share of the pairs whose label was turned round."""


def make_pairs(
    model: Transformer, world: World, asked: Sequence[Turn], chat: ChatSetting, noise: float, seed: int
) -> Pairs:
    """Make pairs of responses. Ties under the gold rule are left out."""
    prompts = world.chat.prompts([turn.prompt for turn in asked])
    one, two = (draw(model, world, asked, chat, seed=2 * seed + i) for i in (0, 1))
    scores = np.stack([gold(world, each) for each in (one, two)])
    rows = np.flatnonzero(scores[0] != scores[1])
    turned = np.random.default_rng([seed, 15]).random(len(rows)) < noise
    first_chosen = (scores[0] > scores[1])[rows] != turned
    ids = [
        [(one if first == better else two).ids[row] for row, first in zip(rows, first_chosen, strict=True)]
        for better in (True, False)
    ]
    kept = [prompts[row] for row in rows]
    return Pairs(world.chat.joined(kept, ids[0]), world.chat.joined(kept, ids[1]), float(turned.mean()))


def draw(
    model: Transformer, world: World, asked: Sequence[Turn], chat: ChatSetting, *, seed: int, temperature: float = 1.0
) -> Responses:
    prompts = world.chat.prompts([turn.prompt for turn in asked])
    limit = chat.response_tokens
    return respond(model, prompts, world.chat.end_id, limit, temperature=temperature, seed=seed)


def gold(world: World, responses: Responses) -> np.ndarray:
    """Return the gold rule of each, less 1 where there is no `<end>`."""
    texts = [world.chat.decode(ids) for ids in responses.ids]
    return np.array([courtesy(t) - (not ended) for t, ended in zip(texts, responses.ended, strict=True)])


def win_rate(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the win rate by gold scores on the same prompts; a tie is half a win."""
    return float(((ours > theirs) + 0.5 * (ours == theirs)).mean())


def preferred_model(
    folder: Path, chat: ChatSetting, setting: PreferenceSetting, seed: int, world: World, sft: Transformer, beta: float
) -> Transformer:
    """Train a policy by DPO with one β. On the way it measures `chosen` and `rejected`, log-probabilities (nats a
    response) of held-out pairs without turned labels; `kl` to SFT (nats a response); `gold`, `wins` over SFT, `right`
    answers, `words`."""
    model = copy_of(sft)

    def train() -> dict[str, Any]:
        pairs = make_pairs(sft, world, world.turns[: setting.prompts], chat, setting.noise, seed)
        asked = world.heldout[: setting.asked]
        clean = make_pairs(sft, world, asked, chat, 0.0, seed + 500)
        theirs = gold(world, draw(sft, world, asked, chat, seed=seed + 900))
        config = PostTrainingConfig(epochs=setting.dpo_epochs, lr=setting.dpo_lr, seed=seed)
        due = watched_steps(config.steps(len(pairs.chosen)), setting.watched)
        curve: list[dict[str, float]] = []

        def watch(step: int, loss: float) -> None:
            if step in due:
                known = {side: float(log_probs(model, getattr(clean, side)).mean()) for side in ("chosen", "rejected")}
                curve.append({"step": step, **known, **conduct(model, sft, world, asked, chat, theirs, seed)})

        tune_on_preferences(model, sft, pairs.chosen, pairs.rejected, config, beta=beta, watch=watch)
        return {"curve": curve, "pairs": len(pairs.chosen), "turned": pairs.turned}

    depends = {**asdict(replace(setting, betas=())), "chat": asdict(chat), "seed": seed, "beta": beta}
    stage(folder / f"seed-{seed}" / f"dpo-{beta:g}", model, depends, train)
    return model


def conduct(
    model: Transformer,
    sft: Transformer,
    world: World,
    asked: Sequence[Turn],
    chat: ChatSetting,
    theirs: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """Return what a policy does on prompts, drawn at temperature 1."""
    drawn = draw(model, world, asked, chat, seed=seed + 700)
    texts = [world.chat.decode(ids) for ids in drawn.ids]
    scores = gold(world, drawn)
    ours = world.chat.joined(world.chat.prompts([turn.prompt for turn in asked]), drawn.ids)
    return {
        "kl": policy_kl(model, sft, ours),
        "gold": float(scores.mean()),
        "wins": win_rate(scores, theirs),
        "right": float(np.mean([turn.is_right(text) for turn, text in zip(asked, texts, strict=True)])),
        "words": float(np.mean([len(text.split()) for text in texts])),
        "ended": float(np.mean(drawn.ended)),
    }
