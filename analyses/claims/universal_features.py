"""Are the features of two models, trained from two seeds, more alike than their neurons?

    python -m analyses.claims.universal_features                    trains three models first; resumes
    python -m analyses.claims.universal_features --run runs/demo    with the model and the text of a run as the first
    python -m analyses.claims.universal_features --quick            tiny models, for the tests: the numbers mean nothing

After Towards Monosemanticity (Bricken et al. 2023), "Universality": one-layer models of other seeds, and a TopK
dictionary of the MLP of each. Each latent gets the largest activation correlation that it has with any latent of
another model on the same text (`interp.compare.universality`); likewise neurons with neurons.

Claim tested (row 14): the median feature's r exceeds the median neuron's by more than 0.1 on average over pairs of
models, and the lower end of its interval is above 0.1. Both are shown next to the same function on shifted text,
because a wide dictionary has more latents to be correlated with by chance.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims.compared_dictionaries import (
    HOOK,
    TINY,
    Sizes,
    activations,
    encoded,
    model_of_seed,
    options,
    sized,
    studied_run,
)
from analyses.record import Claim, Record, interval
from interp import NeuronDictionary, Run, TopKConfig, figures, train_sae
from interp.codes.code_store import CodeStore
from interp.compare import universality

KINDS = ("features", "neurons")


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents per neuron of a dictionary."""


QUICK = Setting(**TINY)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "universal_features", arguments)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    run = studied_run(setting, o.out)
    codes: dict[int, dict[str, CodeStore]] = {}

    def of(seed: int) -> dict[str, CodeStore]:
        if seed not in codes:
            codes[seed] = codes_of_model(seed, run, setting, o.out)
            record.say(f"model {seed} encoded")
        return codes[seed]

    pairs = {
        (kind, a, b): record.piece(f"{kind}-{a}-{b}", lambda kind=kind, a=a, b=b: compare(of(a)[kind], of(b)[kind]))
        for kind in KINDS
        for a, b in permutations(setting.seeds, 2)
    }
    columns = ("correlation", "null")
    parts = [pd.DataFrame({"kind": kind} | {name: p[name] for name in columns}) for (kind, *_), p in pairs.items()]
    tables = {str(kind): table for kind, table in pd.concat(parts).groupby("kind")}
    results = record.finish([claim(pairs)], {"universality": figures.universality(tables)})
    shutil.rmtree(o.out / "work", ignore_errors=True)
    return results


def codes_of_model(seed: int, run: Run, setting: Setting, out: Path) -> dict[str, CodeStore]:
    """Return the codes of a dictionary of the model's MLP, and of its neurons, on the tokens that are compared."""
    model, work = model_of_seed(run, seed, setting, out), out / "work"
    store = activations(model, run, setting.tokens, work / f"trained-{seed}")
    judged = activations(model, run, setting.compared, work / f"judged-{seed}")
    config = TopKConfig(d_sae=setting.factor * store.d(HOOK), k=setting.k, tokens=setting.tokens, seed=seed)
    sae = train_sae(store, HOOK, config, out=out / f"sae-{seed}")
    dictionaries = {"features": sae, "neurons": NeuronDictionary(store.d(HOOK))}
    return {kind: encoded(each, judged, work / f"codes-{kind}-{seed}") for kind, each in dictionaries.items()}


def compare(ours: CodeStore, theirs: CodeStore) -> dict[str, Any]:
    matches = universality(ours, theirs)
    arrays = {name: matches.table[name].to_numpy() for name in ("correlation", "null")}
    return {**arrays, "median": matches.median.value, "median_null": matches.null.value}


def claim(pairs: Mapping[tuple[str, int, int], dict[str, Any]]) -> Claim:
    """Judge the claim. The two directions of a pair of models count as one value, their mean."""
    numbers, values = {}, {}
    for kind in KINDS:
        for end in ("", "_null"):
            medians = {key[1:]: pair[f"median{end}"] for key, pair in pairs.items() if key[0] == kind}
            values[f"{kind}{end}"] = [(medians[a, b] + medians[b, a]) / 2 for a, b in medians if a < b]
            numbers[f"{kind}{end}"] = interval(values[f"{kind}{end}"])
    gain = interval(np.subtract(values["features"], values["neurons"]).tolist())
    sentence = "; ".join(
        f"{kind} {numbers[kind]}, on shifted text {numbers[f'{kind}_null'].mean:.3f}" for kind in KINDS
    )
    return Claim(
        row="14",
        text="The median feature's largest correlation with a feature of another model exceeds the neurons' by > 0.1.",
        holds=gain.low > 0.1,
        found=f"r of {sentence}; difference {gain}; {len(values['features'])} pairs of models.",
        numbers={**numbers, "difference": gain},
    )


if __name__ == "__main__":
    main()
