"""What does tuning on a few thousand conversations teach a pre-trained model, and what does it make it forget?

    python -m analyses.essay.instruction_tuning            about 4 minutes
    python -m analyses.essay.instruction_tuning --quick    a few seconds

A transformer of two layers is pre-trained on 1.0 million tokens of plain statements: facts, lists of words repeated and
reversed, sentences about nothing. Then it is tuned on 3,000 conversations of one turn, with the loss on the responses
only (`posttraining`). The test prompts ask for facts that the statements held but no conversation asked for, and for
lists of words that no conversation held. The models stay in OUT/models, where the analyses `preference` and
`model_diffs` find them.

Claims (row 23):
    23a  the tuned model says <end> within 32 tokens on ≥ 95 % of held-out prompts, the pre-trained one on < 5 %, in
         every seed (drawn at temperature 1)
    23b  exactly right answers, at temperature 0, before and after: measured; next to them, what the pre-trained
         model knows of the same facts when it only has to finish their sentence
    23c  the loss on pre-training text rises: measured

Nothing was chosen for these numbers. After the full run, a wider model was tried on one seed: at a third of the tuning
rate as many prompts are answered, and less of the plain text is forgotten (1.80 instead of 2.21 nats).
"""

from collections import defaultdict
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
    standing,
    tuned_model,
)
from analyses.essay.posttraining import Responses, respond
from analyses.essay.texts.conversations import ASKED_FACTS, KEPT_FACTS
from analyses.record import Claim, Record, interval
from models.evaluation import evaluate_loss
from models.transformer import Transformer

FACT_TASKS = frozenset(fact.task for fact in KEPT_FACTS)
SHOWN = 6


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = (0, 1, 2)
    models: ChatSetting = field(default_factory=ChatSetting)


QUICK = Setting(seeds=(0, 1), models=QUICK_MODELS)


def run_seed(folder: Path, setting: ChatSetting, seed: int) -> dict[str, Any]:
    world = make_world(setting, seed)
    base = base_model(folder, setting, seed, world)
    tuned = tuned_model(folder, setting, seed, world, base)
    results: dict[str, Any] = {"curve": read_stage(folder / f"seed-{seed}" / "sft")["curve"]}
    for name, model in (("base", base), ("sft", tuned)):
        results[name] = standing(model, world, world.heldout, setting)
        results[name]["plain_loss"] = evaluate_loss(model, world.val, precision="float32")
        results[name]["finished"] = finished_sentences(model, world)
    results["tasks"], results["samples"] = answers(base, tuned, world, setting)
    return results


def finished_sentences(model: Transformer, world: World) -> dict[str, float]:
    """Return share of the facts whose sentence the model finishes rightly ("The opposite of hot is" → "cold."), of
    those that the conversations ask for and of the others."""
    shares = {}
    for name, facts in (("asked", ASKED_FACTS), ("kept", KEPT_FACTS)):
        starts = [f" {fact.statements[0].removesuffix(f' {fact.answer}.')}" for fact in facts]
        prompts = [[world.chat.bos_id, *each.ids] for each in world.chat.text.encode_batch(starts)]
        drawn = respond(model, prompts, world.chat.end_id, 6, temperature=0)
        texts = [world.chat.decode(ids) for ids in drawn.ids]
        right = [text.split(".")[0] == fact.answer for text, fact in zip(texts, facts, strict=True)]
        shares[name] = sum(right) / len(right)
    return shares


def answers(
    base: Transformer, tuned: Transformer, world: World, setting: ChatSetting
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the share of right answers of the tuned model by task, and the first conversations with both models (at
    temperature 1)."""
    prompts = world.chat.prompts([turn.prompt for turn in world.heldout])
    end, limit = world.chat.end_id, setting.response_tokens
    answers_of_task = defaultdict(list)
    for turn, ids in zip(world.heldout, respond(tuned, prompts, end, limit, temperature=0).ids, strict=True):
        answers_of_task[turn.task].append(turn.is_right(world.chat.decode(ids)))
    responses = {
        name: respond(model, prompts[:SHOWN], end, limit) for name, model in (("Before", base), ("After", tuned))
    }
    shown = {name: _conversations(world, drawn) for name, drawn in responses.items()}
    return {task: float(np.mean(right)) for task, right in answers_of_task.items()}, shown


def _conversations(world: World, drawn: Responses) -> str:
    marks = [" <end>" if ended else " …" for ended in drawn.ended]
    texts = [world.chat.decode(ids) + mark for ids, mark in zip(drawn.ids, marks, strict=True)]
    return "\n\n".join(f"{turn.prompt}\n→ {text}" for turn, text in zip(world.heldout, texts, strict=False))


def claims(runs: list[dict[str, Any]]) -> list[Claim]:
    column = {
        (name, what): [run[name][what] for run in runs]
        for name in ("base", "sft")
        for what in ("ended", "right", "plain_loss", "response_loss")
    }
    risen = [
        after - before for before, after in zip(column["base", "plain_loss"], column["sft", "plain_loss"], strict=True)
    ]
    base, sft, rise = interval(column["base", "ended"]), interval(column["sft", "ended"]), interval(risen)
    return [
        Claim(
            row="23a",
            text="After tuning the model ends its answers to ≥ 95 % of held-out prompts; before, < 5 %.",
            holds=min(column["sft", "ended"]) >= 0.95 and max(column["base", "ended"]) < 0.05,
            found=f"Ended within the limit: {sft.percent()} after tuning, {base.percent()} before, {len(runs)} seeds.",
            numbers={"base": base, "sft": sft},
        ),
        _answers_claim(column["base", "right"], column["sft", "right"], runs),
        Claim(
            row="23c",
            text="Tuning makes the model forget: its loss on pre-training text rises.",
            holds=None,
            found=f"From {np.mean(column['base', 'plain_loss']):.2f} nats a token to "
            f"{np.mean(column['sft', 'plain_loss']):.2f}, by {rise}.",
            numbers={"rise": rise, "base": column["base", "plain_loss"], "sft": column["sft", "plain_loss"]},
        ),
    ]


def _answers_claim(before: list[float], after: list[float], runs: list[dict[str, Any]]) -> Claim:
    kept = [run["base"]["finished"]["kept"] for run in runs]
    facts = [float(np.mean([share for task, share in run["tasks"].items() if task in FACT_TASKS])) for run in runs]
    lists = [float(np.mean([share for task, share in run["tasks"].items() if task not in FACT_TASKS])) for run in runs]
    return Claim(
        row="23b",
        text="Right answers to prompts that no conversation held, before and after tuning.",
        holds=None,
        found=f"Before {interval(before).percent()}, after {interval(after).percent()}; of the facts among them "
        f"{np.mean(facts):.0%}, of which the pre-trained model can finish the sentence for {np.mean(kept):.0%}.",
        numbers={"base": before, "sft": after, "facts": facts, "lists": lists, "finished": kept},
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o, folder = models_folder(__doc__, "instruction_tuning", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = [
        record.piece(f"seed-{seed}", lambda seed=seed: run_seed(folder, setting.models, seed)) for seed in setting.seeds
    ]
    curves = pd.DataFrame(
        [{"seed": s, **row} for s, run in zip(setting.seeds, runs, strict=True) for row in run["curve"]]
    )
    shares = pd.DataFrame(
        [
            {"seed": s, "task": task, "right": right, "held": "facts" if task in FACT_TASKS else "word lists"}
            for s, run in zip(setting.seeds, runs, strict=True)
            for task, right in run["tasks"].items()
        ]
    )
    made = {"stages": figures.tuning_curves(curves), "task_bars": figures.task_bars(shares)}
    return record.finish(claims(runs), made, {"conversations": runs[0]["samples"]})


if __name__ == "__main__":
    main()
