"""Can a preference be learnt from noisy comparisons, and what else changes when a model is optimised for it?

    python -m analyses.essay.preference            about 4 minutes, after `instruction_tuning`
    python -m analyses.essay.preference --quick    a few seconds

The gold rule likes courtesy and brevity: 1 for a response that ends courteously, minus 0.05 per word
(`texts.conversations.courtesy`). It does not ask whether the answer is right. The tuned model of `instruction_tuning`
(made first if --models holds none) gives two responses to each prompt. The rule says which is better, and 15 % of the
labels are flipped. From these pairs a reward model is trained (Bradley–Terry) and the policy is optimised directly
(DPO), with three prices β on leaving the tuned model. Everything is judged on held-out prompts.

Claims (row 24):
    24a  the reward model agrees with the gold rule on ≥ 90 % of held-out pairs without noise, in every seed
    24b  the DPO policy (β = 0.5) is preferred to the tuned model by the gold rule in ≥ 75 % of prompts, in every seed
    24c  log-probability of chosen and rejected responses, and the divergence: measured (both may fall)
    24d  right answers, which the rule does not reward: measured
    24e  gold reward against divergence: measured, next to best-of-n by the reward model

Rates, epochs and β were chosen on seeds 0 to 2; other seeds are reported. With β = 0.03 and 0.1 the policy overshoots:
it wins 0.8 of the prompts half-way and 0.0 to 0.7 at the end.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.essay import figures
from analyses.essay.chat_models import (
    QUICK_MODELS,
    ChatSetting,
    World,
    base_model,
    make_world,
    models_folder,
    read_stage,
    tuned_model,
)
from analyses.essay.posttraining import PostTrainingConfig, RewardModel, train_reward_model
from analyses.essay.preference_models import (
    QUICK_PREFERENCE,
    PreferenceSetting,
    draw,
    gold,
    make_pairs,
    preferred_model,
)
from analyses.record import Claim, Record, interval
from models.transformer import Transformer

SHOWN = 6


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = (3, 4, 5)
    best_of: tuple[int, ...] = (1, 2, 4, 8, 16)
    models: ChatSetting = field(default_factory=ChatSetting)
    preference: PreferenceSetting = field(default_factory=PreferenceSetting)


QUICK = Setting(seeds=(0, 1), best_of=(1, 2), models=QUICK_MODELS, preference=QUICK_PREFERENCE)


def run_seed(folder: Path, setting: Setting, seed: int) -> dict[str, Any]:
    world = make_world(setting.models, seed)
    sft = tuned_model(folder, setting.models, seed, world, base_model(folder, setting.models, seed, world))
    results: dict[str, Any] = reward_model(sft, world, setting, seed)
    results["policies"] = []
    for beta in setting.preference.betas:
        policy = preferred_model(folder, setting.models, setting.preference, seed, world, sft, beta)
        facts = read_stage(folder / f"seed-{seed}" / f"dpo-{beta:g}")
        results["policies"] += [{"beta": beta, "seed": seed, **row} for row in facts["curve"]]
        if beta == setting.preference.beta:
            results["conversations"] = conversations(sft, policy, world, setting, seed)
    return results


def reward_model(sft: Transformer, world: World, setting: Setting, seed: int) -> dict[str, Any]:
    """Train a reward model on noisy pairs. Returns its agreement with the gold rule on clean pairs, and the best of n
    that it picks."""
    sizes = setting.preference
    pairs = make_pairs(sft, world, world.turns[: sizes.prompts], setting.models, sizes.noise, seed)
    clean = make_pairs(sft, world, world.heldout, setting.models, 0.0, seed + 500)
    reward = RewardModel(sft)
    config = PostTrainingConfig(epochs=sizes.reward_epochs, lr=sizes.reward_lr, seed=seed)
    train_reward_model(reward, pairs.chosen, pairs.rejected, config)
    agrees = (reward.rewards(clean.chosen) > reward.rewards(clean.rejected)).double().mean()
    scores = gold(world, draw(sft, world, world.turns[: sizes.prompts], setting.models, seed=2 * seed))
    counts = {"pairs": len(pairs.chosen), "clean_pairs": len(clean.chosen), "turned": pairs.turned}
    best = best_of_n(sft, reward, world, setting, seed)
    return {**counts, "agrees": float(agrees), "satisfied": float((scores > 0.5).mean()), "best_of_n": best}


def best_of_n(
    sft: Transformer, reward: RewardModel, world: World, setting: Setting, seed: int
) -> list[dict[str, float]]:
    """Return, for each n, the gold reward of the response with the highest reward among the first n drawn, and the
    bound on its divergence, KL ≤ ln n − (n − 1)/n (Stiennon et al. 2020)."""
    asked, most = world.heldout[: setting.preference.asked], max(setting.best_of)
    drawn = draw(sft, world, asked * most, setting.models, seed=seed + 300)
    prompts = world.chat.prompts([turn.prompt for turn in asked * most])
    liked = reward.rewards(world.chat.joined(prompts, drawn.ids)).view(most, len(asked)).numpy()
    scores = gold(world, drawn).reshape(most, len(asked))
    rows = []
    for n in setting.best_of:
        best = liked[:n].argmax(0)
        kl = math.log(n) - (n - 1) / n
        rows.append({"n": n, "seed": seed, "kl": kl, "gold": float(scores[best, np.arange(len(asked))].mean())})
    return rows


def conversations(sft: Transformer, policy: Transformer, world: World, setting: Setting, seed: int) -> dict[str, str]:
    """Return the first held-out prompts with what both models say."""
    asked, shown = world.heldout[:SHOWN], {}
    for name, model in (("Tuned", sft), ("Preferred", policy)):
        drawn = draw(model, world, asked, setting.models, seed=seed)
        lines = [f"{turn.prompt}\n→ {world.chat.decode(ids)}" for turn, ids in zip(asked, drawn.ids, strict=True)]
        shown[name] = "\n\n".join(lines)
    return shown


def same_steps(policies: pd.DataFrame) -> pd.DataFrame:
    """Put each watched point at its mean step over the seeds, which differ in pairs and so in steps."""
    point = policies.groupby(["beta", "seed"]).cumcount()
    return policies.assign(step=policies.groupby(["beta", point])["step"].transform("mean").round().astype(int))


def claims(runs: list[dict[str, Any]], policies: pd.DataFrame, best: pd.DataFrame, setting: Setting) -> list[Claim]:
    judged = policies[policies["beta"] == setting.preference.beta]
    start, end = (judged[judged["step"] == step].set_index("seed") for step in (0, judged["step"].max()))
    agrees, wins = interval([run["agrees"] for run in runs]), interval(end["wins"].tolist())
    moved = {side: interval((end[side] - start[side]).tolist()) for side in ("chosen", "rejected")}
    right = {name: interval(rows["right"].tolist()) for name, rows in (("before", start), ("after", end))}
    n = len(runs)
    return [
        Claim(
            row="24a",
            text="From labels with 15 % noise, a reward model agrees with the rule on ≥ 90 % of clean held-out pairs.",
            holds=min(run["agrees"] for run in runs) >= 0.9,
            found=f"Agreement {agrees.percent()}, {n} seeds.",
            numbers={"agrees": agrees, "pairs": [run["pairs"] for run in runs], "turned": [r["turned"] for r in runs]},
        ),
        Claim(
            row="24b",
            text="Optimised on the same pairs, the policy beats the tuned model by the rule in ≥ 75 % of prompts.",
            holds=bool(end["wins"].min() >= 0.75),
            found=f"Preferred in {wins.percent()}, {n} seeds; before training {start['wins'].mean():.0%}.",
            numbers={"wins": wins},
        ),
        Claim(
            row="24c",
            text="What happens to the log-probability of chosen and rejected responses.",
            holds=None,
            found=f"Chosen changes by {moved['chosen']} nats, rejected by {moved['rejected']}, "
            f"at a divergence of {end['kl'].mean():.2f} nats a response.",
            numbers={**moved, "kl": end["kl"].tolist()},
        ),
        Claim(
            row="24d",
            text="Right answers, which the rule does not reward.",
            holds=None,
            found=f"{right['before'].percent()} before, {right['after'].percent()} after; "
            f"{start['words'].mean():.1f} words a response become {end['words'].mean():.1f}.",
            numbers=right,
        ),
        _against_divergence(policies, best),
    ]


def _against_divergence(policies: pd.DataFrame, best: pd.DataFrame) -> Claim:
    last = policies[policies["step"] == policies["step"].max()].groupby("beta")
    parts = [f"β = {beta:g}: {rows['gold'].mean():.2f} at {rows['kl'].mean():.1f}" for beta, rows in last]
    most = best[best["n"] == best["n"].max()]
    parts.append(f"best of {int(most['n'].iloc[0])}: {most['gold'].mean():.2f} at ≤ {most['kl'].mean():.1f}")
    peak = {f"{beta:g}": float(rows.groupby("step")["gold"].mean().max()) for beta, rows in policies.groupby("beta")}
    return Claim(
        row="24e",
        text="Gold reward at the end against the divergence (nats a response) that it cost.",
        holds=None,
        found=f"{'; '.join(parts)}.",
        numbers={
            "gold": {f"{b:g}": r["gold"].tolist() for b, r in last},
            "peak": peak,
            "best_of_n": most["gold"].tolist(),
        },
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o, folder = models_folder(__doc__, "preference", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = [record.piece(f"seed-{seed}", lambda seed=seed: run_seed(folder, setting, seed)) for seed in setting.seeds]
    policies = same_steps(pd.DataFrame([row for run in runs for row in run["policies"]]))
    best = pd.DataFrame([row for run in runs for row in run["best_of_n"]])
    made = {
        "training": figures.preference_curves(policies[policies["beta"] == setting.preference.beta]),
        "gold_against_divergence": figures.gold_against_divergence(policies, best),
    }
    values = {"conversations": runs[0]["conversations"], "satisfied": [run["satisfied"] for run in runs]}
    return record.finish(claims(runs, policies, best, setting), made, values)


if __name__ == "__main__":
    main()
