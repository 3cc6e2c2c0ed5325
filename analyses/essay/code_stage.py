"""At which training stage does code help? Two by two: code in pre-training or not, code in tuning or not.

    python -m analyses.essay.code_stage             # five seeds, four arms each
    python -m analyses.essay.code_stage --quick     # for the tests

After Ma et al. 2023 (arXiv:2309.16298), in miniature. A character transformer is pre-trained on Shakespeare, or on half
Shakespeare and half code-like text (brackets closed in the order of a stack, names that are used again). Then it is
tuned on small problems (close the open brackets, copy a word, what is left on a stack) mixed with a share of filler,
which is Shakespeare or the code. Within a seed all arms start from the same weights, see the same number of tokens at
each stage, and see the same problems in the same steps: code only ever replaces prose. The test problems are new and of
sizes that tuning left out: one between the trained sizes, one beyond them.

    y_ps = share of problems answered without a mistake, p: code in pre-training, s: code in tuning
    pre-training effect = ½ [(y_10 + y_11) − (y_00 + y_01)]
    tuning effect       = ½ [(y_01 + y_11) − (y_00 + y_10)]
    interaction         = (y_11 − y_01) − (y_10 − y_00)

Claim
27   The effect of code at each stage, whatever it is: measured, no bar. 95 % intervals are over seeds.

A model's answer is free of mistakes if and only if each of its characters is the likeliest after the true ones before
it, so one pass judges what greedy decoding would give. Rates, context and token counts were chosen on short runs of a
seed that is not measured, so that the problems are neither all missed nor all solved (with 300 000 tuning tokens no arm
copies anything).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analyses.essay import figures
from analyses.essay.code_stage_texts import Texts
from analyses.essay.texts.brackets import TASKS
from analyses.record import Claim, Interval, Record, interval, options
from models.evaluation import evaluate_loss
from models.training import train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig

ARMS = {"neither": (0, 0), "tuning": (0, 1), "pre-training": (1, 0), "both": (1, 1)}
"""The arms of the experiment: whether code is in pre-training, and whether it is in tuning."""
EFFECTS = ("pre-training", "tuning", "interaction")
TITLES = {"all": "all three", "close": "close brackets", "copy": "copy a word", "stack": "read off a stack"}


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_ctx: int = 32
    pretraining_tokens: int = 500_000
    tuning_tokens: int = 650_000
    code_share: float = 0.5
    """Share of code in the pre-training tokens, in the arms with code there."""
    filler_share: float = 0.3
    """Share of filler in the tuning tokens: code in the arms with code there, prose in the others."""
    sizes: tuple[int, ...] = (2, 3, 4, 6, 7)
    """Sizes of the problems in tuning."""
    asked: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    problems: int = 80
    """Asked of each task and size."""
    batch_size: int = 16
    pretraining_lr: float = 6e-3
    tuning_lr: float = 6e-3
    looks: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    """After these fractions of tuning the model is asked."""

    @property
    def held_out(self) -> tuple[int, ...]:
        return tuple(size for size in self.asked if size not in self.sizes)

    def look_steps(self) -> tuple[int, ...]:
        steps = self.tuning_tokens // (self.batch_size * self.n_ctx)
        return tuple(round(look * steps) for look in self.looks)


QUICK = Setting(
    seeds=(0, 1),
    d_model=16,
    pretraining_tokens=4_000,
    tuning_tokens=4_000,
    asked=(2, 5, 8),
    problems=4,
    batch_size=8,
    looks=(0.5, 1.0),
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "code_stage", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = [record.piece(f"seed-{seed}", partial(run, record, setting, seed)) for seed in setting.seeds]
    right = np.stack([one["right"] for one in runs])  # [seed, arm, look, task, size]
    sizes = [setting.asked.index(size) for size in setting.held_out]
    share_right = right[..., sizes].mean(-1)  # [seed, arm, look, task]
    share_right = np.concatenate([share_right.mean(-1, keepdims=True), share_right], -1)
    effects = effect_table(share_right[:, :, -1])
    shown = {
        "code_stage_effects": figures.stage_effects(effects),
        "code_stage_sizes": figures.stage_sizes(size_table(right[:, :, -1], setting), setting.held_out),
        "code_stage_tuning": figures.stage_curves(curve_table(share_right[..., 0], setting)),
    }
    losses = np.stack([one["losses"] for one in runs])  # [seed, arm, text]
    values = {
        "effects": effects.round(4).to_dict("records"),
        "right": {arm: dict(zip(TITLES, share_right[:, a, -1].mean(0), strict=True)) for a, arm in enumerate(ARMS)},
        "loss_after": {
            arm: dict(zip(("prose", "code"), losses[:, a].mean(0), strict=True)) for a, arm in enumerate(ARMS)
        },
    }
    return record.finish([claim(share_right[:, :, -1], effects)], shown, values)


def run(record: Record, setting: Setting, seed: int) -> dict[str, Any]:
    """Run two pre-trainings and two tunings of each. Return the shares of right answers [arm, look, task, size], and
    the losses [arm, text] in nats a character at the end. The first look is before tuning."""
    texts = Texts(setting, seed)
    sizes = dict(n_layers=setting.n_layers, d_model=setting.d_model, n_heads=setting.n_heads, n_ctx=setting.n_ctx)
    config = TransformerConfig(**sizes, d_mlp=4 * setting.d_model, d_vocab=texts.tokenizer.vocab_size, seed=seed)
    recipe = partial(TrainingConfig, batch_size=setting.batch_size, seed=seed)
    first = recipe(tokens=setting.pretraining_tokens, lr=setting.pretraining_lr)
    steps = setting.look_steps()
    second = recipe(tokens=setting.tuning_tokens, lr=setting.tuning_lr, snapshot_steps=steps)
    right, losses = [], []
    for arm, (before, after) in ARMS.items():
        folder = record.out / "work" / f"seed-{seed}"
        model = Transformer(config)
        # An arm's pre-training is read back where another arm has made it.
        train_model(model, texts.pretraining(bool(before)), texts.val["prose"], first, folder / f"pretraining-{before}")
        answers = [texts.right(model)]
        train_model(model, texts.tuning(bool(after)), texts.val["prose"], second, folder / arm)
        for step in steps:
            answers.append(texts.right(Transformer.load(folder / arm, f"snapshots/step-{step}.safetensors")))
        right.append(np.stack(answers))
        losses.append([evaluate_loss(model, tokens) for tokens in texts.val.values()])
    return {"right": np.stack(right), "losses": np.array(losses)}


def effects_of(y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the two main effects and the interaction of y [..., arm], arms in the order of `ARMS`."""
    arm = {places: y[..., i] for i, places in enumerate(ARMS.values())}
    return {
        "pre-training": (arm[1, 0] + arm[1, 1] - arm[0, 0] - arm[0, 1]) / 2,
        "tuning": (arm[0, 1] + arm[1, 1] - arm[0, 0] - arm[1, 0]) / 2,
        "interaction": (arm[1, 1] - arm[0, 1]) - (arm[1, 0] - arm[0, 0]),
    }


def effect_table(end: np.ndarray) -> pd.DataFrame:
    """Return one row per task and effect, with its 95 % interval over the seeds of end [seed, arm, task]."""
    rows = []
    for t, task in enumerate(TITLES.values()):
        changes = effects_of(end[..., t])
        rows += [{"task": task, "effect": name, **interval(changes[name].tolist())._asdict()} for name in EFFECTS]
    return pd.DataFrame(rows)


def size_table(end: np.ndarray, setting: Setting) -> pd.DataFrame:
    """Return one row per arm, task and size, over the seeds of end [seed, arm, task, size]."""
    return pd.DataFrame(
        {"arm": arm, "task": TITLES[task], "size": size, **interval(end[:, a, t, s].tolist())._asdict()}
        for a, arm in enumerate(ARMS)
        for t, task in enumerate(TASKS)
        for s, size in enumerate(setting.asked)
    )


def curve_table(share_right: np.ndarray, setting: Setting) -> pd.DataFrame:
    """Return one row per arm and look, over the seeds of held [seed, arm, look]."""
    tokens = [0, *(step * setting.batch_size * setting.n_ctx for step in setting.look_steps())]
    return pd.DataFrame(
        {"arm": arm, "tokens": tokens[k], **interval(share_right[:, a, k].tolist())._asdict()}
        for a, arm in enumerate(ARMS)
        for k in range(len(tokens))
    )


def claim(end: np.ndarray, effects: pd.DataFrame) -> Claim:
    overall = effects[effects["task"] == TITLES["all"]].set_index("effect")
    intervals = {effect: Interval(*overall.loc[effect, ["mean", "low", "high"]].tolist()) for effect in EFFECTS}
    points = "; ".join(
        f"{effect} {100 * i.mean:+.1f} ({100 * i.low:+.1f} to {100 * i.high:+.1f})" for effect, i in intervals.items()
    )
    return Claim(
        row="27",
        text="Share of problems of held-out sizes solved: the effect of code instead of prose at pre-training and at "
        "tuning.",
        holds=None,
        found=f"Percentage points: {points}. Without code {100 * end[:, 0, 0].mean():.0f} % are solved.",
        numbers={**intervals, "right": {arm: interval(end[:, a, 0].tolist()) for a, arm in enumerate(ARMS)}},
    )


if __name__ == "__main__":
    main()
