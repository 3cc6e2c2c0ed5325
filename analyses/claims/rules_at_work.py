"""Do latents fire where their own rules say, on text that the rules generate; and if not, did another latent take over?

    python -m analyses.claims.rules_at_work                    trains the model first; resumes
    python -m analyses.claims.rules_at_work --run runs/demo    with the model and the text of a run
    python -m analyses.claims.rules_at_work --quick            a tiny model, for the tests: the numbers mean nothing

The dictionaries are TopK, on one model's MLP, with several seeds. Latents are drawn at random, and those whose rule in
words has a held-out F1 of at least ½ are kept (`interp.verdict`). Reported, each next to its null, with no bar to pass
    sensitivity  on windows that the rule generates, next to the same windows before (`rule_measures.sensitivity`)
    absorption   share of the rows of the rule at which another latent took the latent's place, next to shifted codes
                 (`rule_measures.absorption`; without labels)
    communities  modularity of the graph of co-activating latents, next to graphs of the same degrees
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, options, sized
from analyses.claims.effect_figures import rules_at_work
from analyses.claims.neighbourhoods import communities
from analyses.claims.rule_measures import absorption, sensitivity
from analyses.record import Claim, Record, interval
from interp import FeatureStore, ScanConfig, scan_features
from interp.compare.latent_universality import MIN_FIRED
from interp.text.predicates import Predicates
from interp.text.rules import Rule
from interp.verdict.coded_text import CodedText
from interp.verdict.explanations import explain
from interp.verdict.rule_search import FitFirings

PAIRS = ScanConfig(n_top=0, n_per_interval=0, n_neighbours=0)
SHARES = ("sensitivity", "unchanged", "fires", "absorbed", "by_chance")


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents of a dictionary a neuron."""
    latents: int = 200
    """Drawn, of which rules are looked for."""
    windows: int = 32
    min_f1: float = 0.5


QUICK = Setting(**TINY, latents=20, min_f1=0.1)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "rules_at_work", arguments)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    results_of_seeds = [
        record.piece(f"seed-{seed}", lambda seed=seed: of_seed(seed, setting, studied)) for seed in setting.seeds
    ]
    shown = pd.DataFrame({name: np.concatenate([each[name] for each in results_of_seeds]) for name in SHARES})
    results = record.finish(claims(results_of_seeds), {"rules_at_work": rules_at_work(shown)})
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, studied: Studied) -> dict[str, Any]:
    sae = studied.dictionary(setting.factor, seed)
    vocab, out = studied.run.tokenizer.display(), studied.work / f"features-{seed}"
    features = scan_features(sae, studied.judged, HOOK, out, vocab=vocab, config=PAIRS)
    text = Predicates.count(features.tokens.numpy(), len(vocab), vocab)
    rules = rules_of(features, setting, seed)
    absorbed = absorption(features, text, rules, seed=seed)
    fresh = sensitivity(features, studied.run.model, HOOK, sae, rules, windows=setting.windows, seed=seed)
    both, grouped = absorbed.merge(fresh, on="latent"), communities(features, seed=seed)
    return {
        **{name: both[name].to_numpy(float) for name in SHARES},
        "modularity": grouped.modularity,
        "null": grouped.null,
        "communities": int(grouped.table["community"].nunique()),
        "largest": int((grouped.table["community"] == 0).sum()),
    }


def rules_of(features: FeatureStore, setting: Setting, seed: int) -> dict[int, Rule]:
    """Return the rules of latents that are drawn among those that fire enough: those rules that are good enough."""
    often = np.flatnonzero(features.column("n_active") >= MIN_FIRED)
    chosen = np.zeros(features.d_sae, bool)
    chosen[np.random.default_rng(seed).permutation(often)[: setting.latents]] = True
    text = CodedText.from_features(features)
    words = explain(text, FitFirings.read(text, features.fit_half().numpy(), seed), chosen=chosen).latents
    good = np.flatnonzero(chosen & (np.nan_to_num(words.f1) >= setting.min_f1))
    return {int(latent): words.rules[latent] for latent in good}


def claims(results: Sequence[dict[str, Any]]) -> list[Claim]:
    shares = {name: interval([float(np.nanmean(each[name])) for each in results]) for name in SHARES}
    modularity, null = (interval([each[name] for each in results]) for name in ("modularity", "null"))
    n = " and ".join(str(len(each["fires"])) for each in results)
    return [
        Claim(
            row="sensitivity",
            text="How often a latent fires where its rule says, on text that the rule generates.",
            holds=None,
            found=f"{shares['sensitivity'].percent()}, on these windows before {shares['unchanged'].percent()}; where "
            f"the rule holds in the text {shares['fires'].percent()}; {n} latents by seed.",
            numbers={name: shares[name] for name in ("sensitivity", "unchanged", "fires")},
        ),
        Claim(
            row="absorption",
            text="Of the rows where a latent's rule holds, the share at which another latent took its place.",
            holds=None,
            found=f"{shares['absorbed'].percent()}, on shifted codes {shares['by_chance'].percent()}.",
            numbers={name: shares[name] for name in ("absorbed", "by_chance")},
        ),
        Claim(
            row="communities",
            text="How far the graph of latents that fire together falls into communities: its modularity.",
            holds=None,
            found=f"{modularity}, of graphs of the same degrees {null}; {results[0]['communities']} communities, the "
            f"largest of {results[0]['largest']} latents.",
            numbers={"modularity": modularity, "null": null},
        ),
    ]


if __name__ == "__main__":
    main()
