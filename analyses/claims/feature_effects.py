"""Does the model need a feature in the feature's context, and does it write that context when the feature is held high?

    python -m analyses.claims.feature_effects                    trains the model first; resumes
    python -m analyses.claims.feature_effects --run runs/demo    with the model and the text of a run of the mixture
    python -m analyses.claims.feature_effects --quick            a tiny model, for the tests: the numbers mean nothing

The dictionaries are TopK, on one model's MLP, with several seeds. The feature of a label is the latent with the best F1
on the fit half of the text. After Towards Monosemanticity (Bricken et al. 2023), and Scaling Monosemanticity (Templeton
et al. 2024), whose clamping leaves the dictionary's error as it is.

Claims tested, of Arabic, Hebrew, DNA and base64
    13a  without its feature, the loss on a label's tokens rises by at least 5 times as much as it changes on text
         without the label, on average over seeds, for each label
    13b  with the feature held at its maximum, at least 80 % of what the model writes is in the label, for each label
    19a  held at multiples of its maximum, the probability of the label's tokens rises over a range of two multiples or
         more at which the loss stays below the unigram loss, for each label and seed

A text counts as being in a label if the log odds of its tokens, in the label against the rest, sum to more than 0. The
accuracy of this test is measured on validation text.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, options, sized
from analyses.claims.effect_figures import context_effects
from analyses.claims.neighbouring_features import FEW
from analyses.claims.proxies import log_likelihood_ratio
from analyses.record import Claim, Record, interval
from interp import SAE, FeatureStore, figures, scan_features
from interp.effects import ABLATE, dose_response, intervene, steer
from models.transformer import Transformer

LABELS = ("arabic", "hebrew", "dna", "base64")
PINNED = (0.0, 1.0, 2.0, 4.0)
"""Times its maximum, at which a label's feature is held while the model writes; the claim is of 1."""
MIN_RATIO = 5


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents of a dictionary a neuron."""
    sequences: int = 64
    """Number of sequences with a label, and of as many without, on which losses are compared."""
    written: tuple[int, int, int] = (40, 4, 24)
    """Texts, tokens of each that are given, and tokens that are written."""
    multiples: tuple[float, ...] = (0, 0.25, 0.5, 1, 2, 4, 8)


QUICK = Setting(**TINY | dict(tokens=30_000, compared=30_000), sequences=4, written=(2, 2, 4), multiples=(0, 1, 4))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "feature_effects", arguments, labels=LABELS)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    results_of_seeds = [
        record.piece(f"seed-{seed}", lambda seed=seed: of_seed(seed, setting, studied)) for seed in setting.seeds
    ]
    results = record.finish(claims(results_of_seeds), label_rows(results_of_seeds))
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, studied: Studied) -> dict[str, Any]:
    sae = studied.dictionary(setting.factor, seed)
    n = len(studied.judged.tokens)
    labels = {label: studied.run.train_tokens.labels[label][:n] for label in LABELS}
    out = studied.work / f"features-{seed}"
    features = scan_features(sae, studied.judged, HOOK, out, labels=labels, config=FEW)
    model, most_loss = studied.run.model, studied.run.results("model")["unigram_cross_entropy"]
    results_of_labels = {
        label: of_label(label, mask, features, model, sae, studied, setting, seed) for label, mask in labels.items()
    }
    return {"labels": results_of_labels, "most_loss": most_loss}


def of_label(
    label: str,
    mask: Bool[Tensor, "seq pos"],
    features: FeatureStore,
    model: Transformer,
    sae: SAE,
    studied: Studied,
    setting: Setting,
    seed: int,
) -> dict[str, Any]:
    """Return what the label's feature does: losses without it, what is written with it held, and its dose–response."""
    best = features.sql(f"select latent, f1 from labels where label = '{label}' order by f1_fit desc, latent limit 1")
    latent = int(best["latent"][0])
    inside, off = loss_rises(latent, mask, features.tokens, model, sae, setting.sequences)
    log_odds = LogOdds(features.tokens, mask, model.d_vocab)
    val_tokens, shares = studied.run.val_tokens, {}
    texts, prompt_length, n_written = setting.written
    prompts = features.tokens[~mask.any(1)][:texts, :prompt_length]
    for multiple in PINNED:
        actions = {latent: multiple}
        written = steer(model, HOOK, sae, features, actions, prompts, n_tokens=n_written, seed=seed)[:, prompt_length:]
        shares[f"{multiple:g}"] = float(log_odds.inside(written).float().mean())
    free = model.generate(prompts, n_written, seed=seed)[:, prompt_length:]
    concept = np.flatnonzero(log_odds.odds > np.log(4)).tolist()
    doses = dose_response(
        model, HOOK, sae, features, latent, multiples=setting.multiples, sequences=8, concept=concept, seed=seed
    )
    return {
        "latent": latent,
        "f1": float(best["f1"][0]),
        "inside": inside,
        "off": off,
        "pinned": shares,
        "free": float(log_odds.inside(free).float().mean()),
        "right": log_odds.accuracy(val_tokens.tokens, val_tokens.labels[label], n_written),
        "doses": doses.to_dict(orient="list"),
    }


@torch.no_grad()
def loss_rises(
    latent: int, mask: Bool[Tensor, "seq pos"], tokens: Int[Tensor, "seq pos"], model: Transformer, sae: SAE, n: int
) -> tuple[float, float]:
    """Return mean rise of the next-token loss without the latent, nats: from a token of the label to the next that has
    it too, in the sequences with most of it; and in sequences without it."""
    marked, without = mask.sum(1).argsort(descending=True)[:n], (~mask.any(1)).nonzero()[:n, 0]
    rises = []
    for rows in (marked, without):
        clean = model(tokens[rows].long(), return_type="loss", loss_per_token=True)
        with intervene(model, HOOK, sae, {latent: ABLATE}):
            rises.append(model(tokens[rows].long(), return_type="loss", loss_per_token=True) - clean)
    both = mask[marked][:, :-1] & mask[marked][:, 1:]
    return float(rises[0][both].mean()), float(rises[1].mean())


class LogOdds:
    """Which label a text is in, judged by its tokens: Σ log P(t | label) − log P(t | not the label) > 0."""

    def __init__(self, tokens: Int[Tensor, "seq pos"], mask: Bool[Tensor, "seq pos"], d_vocab: int):
        flat, label = tokens.flatten().numpy(), mask.flatten().numpy()
        inside, outside = (log_likelihood_ratio(flat, which, d_vocab) for which in (label, ~label))
        self.odds: Float[np.ndarray, " d_vocab"] = inside - outside

    def inside(self, texts: Int[Tensor, "text pos"]) -> Bool[Tensor, " text"]:
        return torch.from_numpy(self.odds[texts.numpy()].sum(1) > 0)

    def accuracy(self, tokens: Int[Tensor, "seq pos"], mask: Bool[Tensor, "seq pos"], n: int) -> list[float | None]:
        """Return the accuracy on texts of n tokens: the share classified right of those that have the label on at least
        half, and of those that have it nowhere; None if there are none."""
        keep = tokens.shape[1] // n * n
        texts, share = tokens[:, :keep].reshape(-1, n), mask[:, :keep].reshape(-1, n).float().mean(1)
        told_inside = self.inside(texts)
        right = (told_inside[share >= 0.5], ~told_inside[share == 0])
        return [float(each.float().mean()) if len(each) else None for each in right]


def claims(results: Sequence[dict[str, Any]]) -> list[Claim]:
    results_of_label = {label: [each["labels"][label] for each in results] for label in LABELS}
    return [ablated(results_of_label), claim_held(results_of_label), dosed(results_of_label, results[0]["most_loss"])]


ByLabel = Mapping[str, Sequence[Mapping[str, Any]]]
"""Results for each label, one per seed."""


def ablated(results_of_label: ByLabel) -> Claim:
    ends = {
        end: {label: interval([each[end] for each in results_of_label[label]]) for label in results_of_label}
        for end in ("inside", "off")
    }
    inside, off = ends["inside"], ends["off"]
    sentence = "; ".join(f"{label} {inside[label]} against {off[label]}" for label in results_of_label)
    return Claim(
        row="13a",
        text=f"Without a label's feature the loss rises ≥ {MIN_RATIO} × as much in its context as outside it.",
        holds=all(inside[label].mean > MIN_RATIO * abs(off[label].mean) for label in results_of_label),
        found=f"Nats a token: {sentence}; {len(results_of_label[LABELS[0]])} seeds.",
        numbers=ends,
    )


def claim_held(results_of_label: ByLabel) -> Claim:
    at = {
        f"{m:g}": {label: [each["pinned"][f"{m:g}"] for each in results_of_label[label]] for label in results_of_label}
        for m in PINNED
    }
    once, free = {label: interval(at["1"][label]) for label in results_of_label}, {}
    sentences = []
    for label in results_of_label:
        free[label] = float(np.mean([each["free"] for each in results_of_label[label]]))
        higher = " and ".join(f"{np.mean(at[m][label]):.0%}" for m in at if float(m) > 1)
        right = "/".join("–" if each is None else f"{each:.0%}" for each in results_of_label[label][0]["right"])
        sentences.append(
            f"{label} {once[label].percent()}, held higher {higher}, free {free[label]:.0%} (classified right {right})"
        )
    return Claim(
        row="13b",
        text="With a label's feature held at its maximum, ≥ 80 % of what the model writes is in the label.",
        holds=all(each.mean >= 0.8 for each in once.values()),
        found=f"{'; '.join(sentences)}; held higher: {' and '.join(f'{m:g}' for m in PINNED if m > 1)} times it.",
        numbers={
            "at": at,
            "free": free,
            "told_right": {label: results_of_label[label][0]["right"] for label in results_of_label},
        },
    )


def dosed(results_of_label: ByLabel, most_loss: float) -> Claim:
    ranges = {
        label: [useful_range(doses_of(each), most_loss) for each in results_of_label[label]]
        for label in results_of_label
    }
    sentence = "; ".join(
        f"{label} {', '.join('none' if each is None else f'{each[0]:g} to {each[1]:g}' for each in ranges[label])}"
        for label in results_of_label
    )
    return Claim(
        row="19a",
        text="The probability of the label's tokens rises over a range of multiples before the loss breaks.",
        holds=all(useful is not None for each in ranges.values() for useful in each),
        found=f"Useful range, times the maximum, by seed: {sentence}; breaks at {most_loss:.2f} nats a token.",
        numbers={"ranges": ranges},
    )


def useful_range(doses: pd.DataFrame, most_loss: float) -> tuple[float, float] | None:
    """Return the ends of the longest run of multiples over which `concept` rises at each step and exceeds that of the
    unchanged model, while the loss is at most `most_loss` nats. Returns None if the run has fewer than two multiples.

    doses: the result of `dose_response` with a concept."""
    free = doses[doses["multiple"].isna()]
    rows = doses.dropna(subset=["multiple"]).sort_values("multiple")
    best: list[float] = []
    run: list[float] = []
    before = float(free["concept"].iloc[0])
    for multiple, concept, loss in rows[["multiple", "concept", "loss"]].itertuples(index=False):
        rises = concept > before and loss <= most_loss
        run = [*run, multiple] if rises else []
        before = max(concept, float(free["concept"].iloc[0]))
        best = max(best, run, key=len)
    return (best[0], best[-1]) if len(best) > 1 else None


def doses_of(results: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(results["doses"]).astype(float)


def label_rows(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labels = results[0]["labels"]
    rows = [
        {"label": label, **{key: each["labels"][label][key] for key in ("inside", "off", "free", "pinned")}}
        for each in results
        for label in LABELS
    ]
    doses = {label: doses_of(labels[label]) for label in LABELS}
    return {
        "context_effects": context_effects(pd.DataFrame(rows)),
        "steering": figures.steering(doses),
    }


if __name__ == "__main__":
    main()
