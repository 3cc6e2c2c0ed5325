"""Do features write the tokens that fire them again, or that fire another feature which writes theirs?

    python -m analyses.claims.feature_automata                    trains the model first; resumes
    python -m analyses.claims.feature_automata --run runs/demo    with the model and the text of a run
    python -m analyses.claims.feature_automata --quick            a tiny model, for the tests: the numbers mean nothing

The dictionaries are TopK, on one model's MLP, with several seeds. After Towards Monosemanticity (Bricken et al. 2023).
Claim tested (row 17): by logit effect (`claims.automata.automaton`), at least one latent's self-loop and at least one
cycle of two latents that alternate exceed the largest of either in any of 20 shuffles of the tokens. In the text, each
of these fires next more often than its frequency predicts (lift > 1). Both hold in every seed.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.claims import circuit_figures
from analyses.claims.automata import automaton
from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, options, sized, telling_tokens
from analyses.claims.neighbouring_features import FEW
from analyses.record import Claim, Record, interval
from interp import scan_features

KINDS = {"loop": ("latent", "effect", "lift"), "cycle": ("latent", "other", "effect", "lift")}


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents of a dictionary a neuron."""
    shuffles: int = 20


QUICK = Setting(**TINY)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "feature_automata", arguments)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    results_of_seeds = [
        record.piece(f"seed-{seed}", lambda seed=seed: of_seed(seed, setting, studied)) for seed in setting.seeds
    ]
    loops, cycles = (table_of(results_of_seeds[0], kind) for kind in KINDS)
    cycles = cycles[~cycles["latent"].duplicated() & ~cycles["other"].duplicated()]  # one of a latent in the figure
    names = {int(latent): name for latent, name in results_of_seeds[0]["names"].items()}
    results = record.finish(
        [claim(results_of_seeds)], {"automaton": circuit_figures.automaton(loops, cycles, names=names)}
    )
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, studied: Studied) -> dict[str, Any]:
    """Return the loops and cycles above the null, and what their latents fire on."""
    sae = studied.dictionary(setting.factor, seed)
    vocab, out = studied.run.tokenizer.display(), studied.work / f"features-{seed}"
    features = scan_features(sae, studied.judged, HOOK, out, vocab=vocab, config=FEW)
    edges = automaton(features, studied.run.model, HOOK, sae, shuffles=setting.shuffles, seed=seed)
    tables = dict(zip(KINDS, edges.above(), strict=True))
    shown = {*tables["loop"]["latent"], *tables["cycle"]["latent"], *tables["cycle"]["other"]}
    names = telling_tokens(features.codes, features.tokens, vocab, shown)
    return {
        **{f"{kind}_{name}": tables[kind][name].to_numpy() for kind, columns in KINDS.items() for name in columns},
        "names": {str(latent): name for latent, name in names.items()},
        "best_loop": float(edges.loops["effect"].max()),
        "best_cycle": float(edges.cycles["effect"].max()) if len(edges.cycles) else 0.0,
        "null_loop": edges.null_loop,
        "null_cycle": edges.null_cycle,
        "latents": len(edges.loops),
        "lift": edges.lift,
    }


def table_of(results: dict[str, Any], kind: str) -> pd.DataFrame:
    return pd.DataFrame({name: results[f"{kind}_{name}"] for name in KINDS[kind]})


def claim(results: Sequence[dict[str, Any]]) -> Claim:
    tables = {kind: [table_of(each, kind) for each in results] for kind in KINDS}
    counts = {kind: [int((table["lift"] > 1).sum()) for table in tables[kind]] for kind in KINDS}
    numbers: dict[str, Any] = {"lift_of_pairs": interval([each["lift"] for each in results])}
    sentences = []
    for kind in KINDS:
        best, null = (interval([each[f"{end}_{kind}"] for each in results]) for end in ("best", "null"))
        lift = [float(table["lift"].median()) for table in tables[kind] if len(table)]
        numbers |= {f"{kind}s": counts[kind], f"best_{kind}": best, f"null_{kind}": null, f"lift_of_{kind}s": lift}
        lifts = f", median lift {min(lift):.1f} to {max(lift):.1f}" if lift else ""
        sentences.append(
            f"{' and '.join(map(str, counts[kind]))} {kind}s by seed, the best {best}, of shuffles {null}{lifts}"
        )
    return Claim(
        row="17",
        text="A self-loop and a two-node cycle of features exceed a token-shuffle null and occur in the text.",
        holds=all(min(each) >= 1 for each in counts.values()),
        found=f"{'; '.join(sentences)}; of {results[0]['latents']:,} latents (the median pair's lift "
        f"{numbers['lift_of_pairs'].mean:.2f}).",
        numbers=numbers,
    )


if __name__ == "__main__":
    main()
