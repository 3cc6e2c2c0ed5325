"""What did each stage of training change, and how much of what a crosscoder says about it is an artefact?

    python -m analyses.essay.model_diffs            about 4 minutes, after `preference`
    python -m analyses.essay.model_diffs --quick    under half a minute

The models are those of `instruction_tuning` and `preference` (made first if --models holds none): pre-trained, tuned on
conversations, optimised for a preference. Two crosscoders are trained over the last residual stream of two stages, on
the same conversations and plain text: BatchTopK, and ReLU with an L1 penalty of about the same L0. A latent whose
decoder writes to only one stage is called exclusive (`interp.compare`); latent scaling says which of them are genuine.

Claims (row 25):
    25a  from pre-trained to tuned, BatchTopK calls at most half as many latents exclusive as L1, in every seed
    25b  for a model compared with itself, at most 1 % of the living latents are exclusive, in either, in every seed
    25c  a BatchTopK latent fires where the tuned model expects <end> (p ≥ ¼; F1 ≥ 0.8 on conversations that were not
         used to pick it) and writes more to the tuned model (relative norm > 0.6), in every seed
    25d  exclusive latents that latent scaling keeps (ν_ε < 0.2, ν_r < 0.5): measured
    25e  the mean difference as a baseline: its share of the change, and its F1 for <end>: measured
    25f  what preference optimisation changed: measured

Chosen on short runs of one seed: the coefficient of L1, for an L0 near BatchTopK's; 1,024 latents rather than 512. The
position before <end> itself cannot be predicted: after an answer's full stop a closing phrase is as likely (5 in 8
responses).
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.essay.chat_models import base_model, make_world, models_folder, tuned_model
from analyses.essay.figures import crosscoders
from analyses.essay.figures.crosscoders import ablated_end, exclusive_counts, latent_on_turns
from analyses.essay.model_diffing import diff_table, latent_scaling, mean_difference, relative_norms
from analyses.essay.model_diffs_measures import (
    KINDS,
    QUICK,
    Conversations,
    Setting,
    best_f1,
    end_probabilities,
    find_end,
    harvest_stages,
    read_conversations,
    train_crosscoders,
)
from analyses.essay.preference_models import preferred_model
from analyses.record import Claim, Record, interval
from interp import Crosscoder

PAIRS = {
    "pre-trained → tuned": ("base", "sft"),
    "tuned → preferred": ("sft", "dpo"),
    "pre-trained → itself": ("base", "base"),
}
TUNING, PREFERRING, SELF = PAIRS
SHOWN = 6


def run_seed(models: Path, work: Path, setting: Setting, seed: int) -> dict[str, Any]:
    """Return the tables of all crosscoders, and what their <end> latents do."""
    world = make_world(setting.models, seed)
    base = base_model(models, setting.models, seed, world)
    sft = tuned_model(models, setting.models, seed, world, base)
    dpo = preferred_model(models, setting.models, setting.preference, seed, world, sft, setting.preference.beta)
    stages = {"base": base, "sft": sft, "dpo": dpo}
    stores = harvest_stages(stages, world, setting, work, seed)
    tables, quality, numbers_of_pair = [], [], {}
    for pair, (first, second) in PAIRS.items():
        coders, batches = train_crosscoders(stores[first], stores[second], setting, seed)
        rows = list(batches)
        for kind, coder in coders.items():
            scaling = latent_scaling(coder, rows)
            tables.append(diff_table(coder, scaling).assign(pair=pair, crosscoder=kind, seed=seed))
            facts = {"pair": pair, "crosscoder": kind, "seed": seed, "l0": scaling.l0, "fvu": list(scaling.fvu)}
            quality.append(facts | {"living": len(tables[-1])})
        if pair == SELF:
            continue
        read = read_conversations(stages[first], stages[second], world, setting)
        numbers_of_pair[pair] = {"baseline": _baseline(rows, read)} | {
            kind: _end_latent(coder, tables[i - 2], read, stages[second], world.chat.end_id)
            for i, (kind, coder) in enumerate(coders.items())
        }
    shutil.rmtree(work)
    table = pd.concat(tables, ignore_index=True)
    return {"table": table.to_dict("list"), "quality": quality, "found": numbers_of_pair}


def _baseline(rows: list[torch.Tensor], read: Conversations) -> dict[str, float]:
    """Return the mean difference, and the F1 with which the change along it tells that <end> is expected."""
    mean = mean_difference(rows)
    first, second = read.x.chunk(2, dim=1)
    along = ((second - first) @ mean.direction)[:, None]
    judged = [best_f1(sign * along + along.abs().max(), read.expects, read.fit) for sign in (1, -1)]
    fitted, f1 = max(((float(fit), float(f1_held_out)) for fit, f1_held_out in judged), key=lambda pair: pair[0])
    return {"explained": mean.explained, "f1": f1}


def _end_latent(coder: Crosscoder, table: pd.DataFrame, read: Conversations, model: Any, end_id: int) -> dict[str, Any]:
    end: dict[str, Any] = find_end(coder, read)
    latent = int(end["latent"])
    end["relative_norm"] = float(relative_norms(coder.decoder_norms())[latent])
    end |= table[table["latent"] == latent][["nu_error", "nu_reconstruction", "fired"]].squeeze().to_dict()
    end["probabilities"] = end_probabilities(coder, latent, read, model, end_id)
    value = coder.encode(read.x)[:, latent]
    shown = [(read.conversation == i).nonzero()[:, 0].tolist() for i in range(len(read.conversation.unique()))][-SHOWN:]
    end["turns"] = [[read.text[i] for i in rows] for rows in shown]
    end["values"] = [[round(float(value[i]), 4) for i in rows] for rows in shown]
    return end


def count_exclusives(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row of counts of latents: pair, crosscoder, seed, exclusive, genuine, living."""
    table = table.assign(exclusive=table["kind"].isin(["first", "second"]))
    grouped = table.groupby(["pair", "crosscoder", "seed"], sort=False)
    return grouped.agg(
        exclusive=("exclusive", "sum"), genuine=("genuine", "sum"), living=("latent", "size")
    ).reset_index()


def claims(counts: pd.DataFrame, runs: list[dict[str, Any]]) -> list[Claim]:
    exclusive, genuine = _by_kind(counts, TUNING, "exclusive"), _by_kind(counts, TUNING, "genuine")
    later, called = _by_kind(counts, PREFERRING, "exclusive"), _by_kind(counts, SELF, "exclusive")
    alone = {kind: called[kind] / living for kind, living in _by_kind(counts, SELF, "living").items()}
    kept = "; ".join(f"{kind} {genuine[kind].sum():.0f} of {exclusive[kind].sum():.0f}" for kind in KINDS)
    return [
        Claim(
            row="25a",
            text="From pre-trained to tuned, BatchTopK calls at most half as many latents exclusive as L1.",
            holds=bool((exclusive["BatchTopK"] <= 0.5 * exclusive["L1"]).all() and exclusive["L1"].min() > 0),
            found=f"{_means(exclusive)}, {len(runs)} seeds.",
            numbers=exclusive,
        ),
        Claim(
            row="25b",
            text="For a model compared with itself, at most 1 % of latents are called exclusive.",
            holds=bool(max(share.max() for share in alone.values()) <= 0.01),
            found="; ".join(f"{kind} {share.mean():.1%} (at most {share.max():.1%})" for kind, share in alone.items())
            + ".",
            numbers=alone,
        ),
        _end_claim(runs),
        Claim(
            row="25d",
            text="Exclusive latents that latent scaling keeps as genuine.",
            holds=None,
            found=f"{kept}, {len(runs)} seeds.",
            numbers=genuine,
        ),
        _baseline_claim(runs),
        Claim(
            row="25f",
            text="Latents called exclusive between the tuned and the preferred model.",
            holds=None,
            found=f"{_means(later)}, {len(runs)} seeds.",
            numbers=later,
        ),
    ]


def _by_kind(counts: pd.DataFrame, pair: str, column: str) -> dict[str, np.ndarray]:
    """Return the values of a column for each kind of crosscoder, one per seed."""
    rows = counts[counts["pair"] == pair]
    return {kind: rows.loc[rows["crosscoder"] == kind, column].to_numpy(dtype=float) for kind in KINDS}


def _means(values_of_kind: dict[str, np.ndarray]) -> str:
    return "; ".join(f"{kind} {interval(list(values))}" for kind, values in values_of_kind.items())


def _end_claim(runs: list[dict[str, Any]]) -> Claim:
    ends = [run["found"][TUNING]["BatchTopK"] for run in runs]
    f1, norm = [end["f1"] for end in ends], [end["relative_norm"] for end in ends]
    probability = [
        np.mean([end["probabilities"][name][0] for end in ends]) for name in ("as it is", "without the latent")
    ]
    return Claim(
        row="25c",
        text="One latent fires where <end> is expected (F1 ≥ 0.8) and writes more to the tuned model (norm > 0.6).",
        holds=min(f1) >= 0.8 and min(norm) > 0.6,
        found=f"F1 {interval(f1)}, relative norm {interval(norm)}; P(<end>) there is {probability[0]:.2f}, without the "
        f"latent {probability[1]:.2f}.",
        numbers={"f1": f1, "relative_norm": norm, "p_end": probability},
    )


def _baseline_claim(runs: list[dict[str, Any]]) -> Claim:
    baselines = [run["found"][TUNING]["baseline"] for run in runs]
    share, f1 = ([each[name] for each in baselines] for name in ("explained", "f1"))
    return Claim(
        row="25e",
        text="The mean difference, one direction without a dictionary.",
        holds=None,
        found=f"It holds {np.mean(share):.0%} of the squared change and finds <end> with F1 {interval(f1)}.",
        numbers={"explained": share, "f1": f1},
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o, folder = models_folder(__doc__, "model_diffs", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = [
        record.piece(f"seed-{s}", lambda s=s: run_seed(folder, o.out / "work" / f"seed-{s}", setting, s))
        for s in setting.seeds
    ]
    table = pd.concat([pd.DataFrame(run["table"]) for run in runs], ignore_index=True)
    table[["nu_error", "nu_reconstruction"]] = table[["nu_error", "nu_reconstruction"]].astype(float)
    counts = count_exclusives(table)
    end = runs[0]["found"][TUNING]["BatchTopK"]
    title = "The latent of the end of a response, on held-out conversations"
    made = {
        "relative_norms": crosscoders.relative_norms(table),
        "exclusive_counts": exclusive_counts(counts),
        "latent_scaling": crosscoders.latent_scaling(table[table["pair"] == TUNING]),
        "end_latent": latent_on_turns(end["turns"], end["values"], title),
        "end_ablated": ablated_end(end["probabilities"]),
    }
    quality = [row for run in runs for row in run["quality"]]
    ends = {pair: [{k: run["found"][pair][k] for k in KINDS} for run in runs] for pair in (TUNING, PREFERRING)}
    for each in (latents[kind] for rows in ends.values() for latents in rows for kind in KINDS):
        each.pop("turns"), each.pop("values")
    return record.finish(claims(counts, runs), made, {"crosscoders": quality, "end_latents": ends})


if __name__ == "__main__":
    main()
