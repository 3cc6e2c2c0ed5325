"""Judge the claims on grokking by what was recorded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.essay.toys.modular_addition import n_frequencies
from analyses.record import Claim, interval

GAP, MAX_FREQUENCIES = 5000, 6


def addition_claims(table: pd.DataFrame, power: np.ndarray, kept: Mapping[str, Any]) -> list[Claim]:
    """Judge claims 22a to 22d. Instances of the largest decay come first.
    table: the records, with one row per step, decay and seed.
    power: [record, instance, frequency].
    kept: held-out accuracies of the instances at the end."""
    n = table["seed"].nunique()
    needed = [n_frequencies(torch.from_numpy(power[record])).tolist() for record in (0, -1)]
    return [
        _delayed(table[table["decay"] == table["decay"].max()]),
        _fails(table[table["decay"] == table["decay"].min()]),
        Claim(
            row="22c",
            text=f"With decay, at most {MAX_FREQUENCIES} frequencies end up holding 90 % of the first layer's power.",
            holds=max(needed[1][:n]) <= MAX_FREQUENCIES,
            found=f"{_listed(needed[1][:n])} of {power.shape[2]}; {_listed(needed[0][:n])} at the start, "
            f"{_listed(needed[1][-n:])} without decay.",
            numbers={"start": needed[0][:n], "decay": needed[1][:n], "no_decay": needed[1][-n:]},
        ),
        Claim(
            row="22d",
            text="It adds with those frequencies: alone they keep 95 % of unseen sums right, without them at most "
            "10 % are.",
            holds=bool(kept["alone"][:n].min() >= 0.95 and kept["without"][:n].max() <= 0.1),
            found=f"alone {_percent(kept['alone'][:n])}, without them {_percent(kept['without'][:n])}, whole "
            f"{_percent(kept['whole'][:n])}.",
            numbers={name: kept[name][:n].tolist() for name in ("alone", "without", "whole")},
        ),
    ]


def parity_claims(parity: Mapping[str, Any]) -> list[Claim]:
    """Judge claims 22e and 22f.
    parity: curves [record, instance]. The seeds with L1 come first, then as many without it."""
    share, test = parity["distractor_share"][-1], parity["test_accuracy"][-1]
    n = len(share) // 2
    l1_runs, plain_runs = slice(0, n), slice(n, 2 * n)
    left, right = (interval(values[plain_runs].tolist()) for values in (share, test))
    return [
        Claim(
            row="22e",
            text="Parity under L1: under 1 % of the first layer's weight on other bits, 99 % of unseen cases right.",
            holds=bool(share[l1_runs].max() < 0.01 and test[l1_runs].min() >= 0.99),
            found=f"at most {share[l1_runs].max():.2%} of the weight, at least {test[l1_runs].min():.1%} right, "
            f"{n} seeds.",
            numbers={"share": share[l1_runs].tolist(), "test": test[l1_runs].tolist()},
        ),
        Claim(
            row="22f",
            text="Without L1 more weight stays on the other bits, and fewer unseen cases are right, in every seed.",
            holds=bool((share[plain_runs] > share[l1_runs]).all() and (test[plain_runs] < test[l1_runs]).all()),
            found=f"{left.percent()} of the weight, {right.percent()} right, with "
            f"all training cases right in {int((parity['train_accuracy'][-1][plain_runs] == 1).sum())} of {n} seeds.",
            numbers={"share": left, "test": right},
        ),
    ]


def _delayed(decayed: pd.DataFrame) -> Claim:
    learnt = _first(decayed, decayed["train_accuracy"] == 1)
    general = _first(decayed, decayed["test_accuracy"] >= 0.95)
    gaps = [b - a if a is not None and b is not None else None for a, b in zip(learnt, general, strict=True)]
    reached = [gap for gap in gaps if gap is not None]
    sentence = "held-out 95 % was not reached in every seed"
    if len(reached) == len(gaps):
        sentence = f"the gap is {', '.join(f'{gap:,}' for gap in reached)} steps"
    return Claim(
        row="22a",
        text="With weight decay 1, all training sums are right at least 5,000 steps before 95 % of the unseen are.",
        holds=len(reached) == len(gaps) and min(reached) >= GAP,
        found=f"by heart at {_listed(learnt)}, unseen 95 % at {_listed(general)}: {sentence}.",
        numbers={"train": learnt, "test": general, "gap": gaps},
    )


def _fails(undecayed: pd.DataFrame) -> Claim:
    best = undecayed.groupby("seed")["test_accuracy"].max().to_numpy()
    last = undecayed[undecayed["record"] == undecayed["record"].max()]
    return Claim(
        row="22b",
        text="Without weight decay, from the same starts, unseen sums stay under 10 % right in as many steps.",
        holds=bool(best.max() < 0.1),
        found=f"at best {_percent(best)} at any of {undecayed['step'].max():,} steps, with "
        f"{last['train_accuracy'].min():.0%} of the training sums right.",
        numbers={"best": best.tolist(), "train": last["train_accuracy"].tolist()},
    )


def _first(part: pd.DataFrame, reached: pd.Series) -> list[int | None]:
    """Return the first recorded step of each seed at which it is reached, None if it never is."""
    first = part[reached].groupby("seed")["step"].min()
    return [int(first[seed]) if seed in first else None for seed in part["seed"].unique()]


def _listed(values: list[Any]) -> str:
    return ", ".join("never" if value is None else f"{value:,}" for value in values)


def _percent(values: np.ndarray) -> str:
    return ", ".join(f"{value:.1%}" for value in values)
