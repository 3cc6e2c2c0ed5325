"""Does a dictionary trained from another seed find the same directions?

    python -m analyses.claims.stable_features                    trains the model first; resumes
    python -m analyses.claims.stable_features --run runs/demo    with the model and the text of a run
    python -m analyses.claims.stable_features --quick            a tiny model, for the tests: the numbers mean nothing

TopK and ReLU dictionaries of one model's MLP are trained with several seeds. Each pair of dictionaries of one kind is
matched one to one by the cosine of their decoder rows (`interp.compare.stability`), among latents that fire on the
text. After Paulo & Belrose 2025 (arXiv 2501.16615). Row 15 reports PW-MCC and the share matched at |cosine| ≥ 0.7, next
to those of random directions, and the median of the largest correlation of activations. There is no threshold to pass.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, encoded, options, sized
from analyses.record import Claim, Record, interval
from interp import SAE, ReLUConfig, figures, train_sae
from interp.codes.code_store import CodeStore
from interp.compare import stability, universality
from interp.compare.latent_universality import MIN_FIRED
from interp.features.latent_matches import joint_sums

KINDS = ("TopK", "ReLU")


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents per neuron of a dictionary."""
    l1: float = 3.0
    """The penalty of ReLU at which its L0 is close to TopK's."""


QUICK = Setting(**TINY)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "stable_features", arguments)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    trained: dict[tuple[str, int], Encoded] = {}

    def of(kind: str, seed: int) -> Encoded:
        if (kind, seed) not in trained:
            sae = studied.dictionary(setting.factor, seed) if kind == "TopK" else relu(seed, setting, studied)
            codes = encoded(sae, studied.judged, studied.work / f"codes-{kind}-{seed}")
            trained[kind, seed] = Encoded.of(sae, codes)
        return trained[kind, seed]

    pairs = {
        (kind, a, b): record.piece(f"{kind}-{a}-{b}", lambda kind=kind, a=a, b=b: compare(of(kind, a), of(kind, b)))
        for kind in KINDS
        for a, b in combinations(setting.seeds, 2)
    }
    parts = [
        pd.DataFrame({"kind": kind, "cosine": p["cosine"], "chance": p["chance"]}) for (kind, *_), p in pairs.items()
    ]
    tables = {str(kind): table for kind, table in pd.concat(parts).groupby("kind")}
    results = record.finish([claim(pairs)], {"stability": figures.matched_cosines(tables)})
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def relu(seed: int, setting: Setting, studied: Studied) -> SAE:
    d_sae = setting.factor * studied.d_mlp
    config = ReLUConfig(d_sae=d_sae, l1=setting.l1, tokens=setting.tokens, seed=seed)
    return train_sae(studied.trained, HOOK, config, out=studied.work / f"relu-{seed}")


@dataclass(frozen=True)
class Encoded:
    """A dictionary with its codes, and the latents that fire on enough rows."""

    sae: SAE
    codes: CodeStore
    alive: np.ndarray
    l0: float

    @classmethod
    def of(cls, sae: SAE, codes: CodeStore) -> "Encoded":
        fired = np.concatenate([sums.ours.fired for sums in joint_sums(codes, codes, [])])
        return cls(sae, codes, np.flatnonzero(fired >= MIN_FIRED), float(fired.sum() / codes.n_present))


def compare(ours: Encoded, theirs: Encoded) -> dict[str, Any]:
    rows = [each.sae.W_dec.detach()[torch.from_numpy(each.alive)] for each in (ours, theirs)]
    stable, alike = stability(*rows), universality(ours.codes, theirs.codes)
    return {
        "cosine": stable.table["cosine"].to_numpy(),
        "chance": stable.table["chance"].to_numpy(),
        "mcc": stable.mcc.value,
        "mcc_chance": stable.chance,
        "share": stable.share.value,
        "share_chance": stable.chance_share,
        "r": alike.median.value,
        "r_shifted": alike.null.value,
        "alive": len(ours.alive),
        "l0": ours.l0,
    }


def claim(pairs: Mapping[tuple[str, int, int], dict[str, Any]]) -> Claim:
    numbers, sentences = {}, []
    for kind in KINDS:
        pairs_of_kind = [pair for (kind_of_pair, *_), pair in pairs.items() if kind_of_pair == kind]
        names = ("mcc", "mcc_chance", "share", "share_chance", "r", "r_shifted", "alive", "l0")
        cis = {name: interval([float(pair[name]) for pair in pairs_of_kind]) for name in names}
        numbers |= {f"{kind}_{name}": value for name, value in cis.items()}
        sentences.append(
            f"{kind} (L0 {cis['l0'].mean:.1f}, {cis['alive'].mean:,.0f} fire): matched {cis['share'].percent()}, "
            f"by chance {cis['share_chance'].mean:.1%}; PW-MCC {cis['mcc']}, by chance "
            f"{cis['mcc_chance'].mean:.3f}; median r {cis['r']}, on shifted text {cis['r_shifted'].mean:.3f}"
        )
    return Claim(
        row="15",
        text="The share of latents that another seed's dictionary has too, at |cosine| ≥ 0.7 of a one-to-one matching.",
        holds=None,
        found=f"{'. '.join(sentences)}. {len(pairs) // len(KINDS)} pairs of seeds each.",
        numbers=numbers,
    )


if __name__ == "__main__":
    main()
