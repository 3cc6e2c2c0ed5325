"""Judge rows 2, 3 and 4 by what was measured; the bars are in `analyses.essay.shakespeare`."""

from typing import Any

import numpy as np

from analyses.essay.shakespeare_measures import MEASURES
from analyses.record import Claim, interval

MAX_LOSS = 1.95


def claims(runs: dict[str, Any], setting: Any) -> list[Claim]:
    rounds = list(setting.rounds)
    shown = [rounds.index(number) for number in (0, 10, 50)]
    return [
        _causal(runs),
        _deep(runs["deep"]),
        _leaking(runs["unmasked"]),
        *_twins(runs["causal"], runs["unmasked"]),
        *_generations(runs["rounds"], runs["real"], shown),
        *_contrasts(runs["units"]),
    ]


def _causal(runs: dict[str, Any]) -> Claim:
    before = _before([*runs["causal"], runs["deep"]])
    return Claim(
        row="2a",
        text="With the causal mask, exchanging a character changes no earlier prediction, not by a bit.",
        holds=max(before) == 0,
        found=f"Largest change of an earlier logit in {len(before)} trained models: {max(before):.3g}.",
        numbers={"largest change": before},
    )


def _leaking(unmasked: list[dict[str, Any]]) -> Claim:
    before = _before(unmasked)
    return Claim(
        row="2c",
        text="Without the mask, as in the essay's code, exchanging a character changes predictions before it.",
        holds=min(before) > 0,
        found=f"Largest change of an earlier logit: {', '.join(f'{change:.1f}' for change in before)} in the seeds.",
        numbers={"largest change": before},
    )


def _before(runs: list[dict[str, Any]]) -> list[float]:
    """Return the largest change before the exchanged character: the left of the diagonal of [changed place, place]."""
    return [float(np.tril(run["leak"], -1).max()) for run in runs]


def _deep(run: dict[str, Any]) -> Claim:
    return Claim(
        row="2b",
        text=f"Four causal layers of width 128 reach at most {MAX_LOSS} nats a character on held-out plays.",
        holds=run["val_loss"] <= MAX_LOSS,
        found=f"{run['val_loss']:.3f} nats ({run['val_loss'] / np.log(2):.2f} bits) in one run; character bigrams "
        f"{run['bigram']:.2f}, unigrams {run['unigram']:.2f} nats.",
        numbers={name: run[name] for name in ("val_loss", "bigram", "unigram", "parameters")},
    )


def _twins(causal: list[dict[str, Any]], unmasked: list[dict[str, Any]]) -> list[Claim]:
    def column(name: str) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.array([run[name] for run in several]) for several in (causal, unmasked))  # type: ignore

    (masked_loss, leaked_loss), (masked_honest, honest) = column("val_loss"), column("honest_loss")
    ratio = interval((leaked_loss / masked_loss).tolist())
    distances, words = column("distance"), column("word_share")
    further, fewer = interval((distances[1] - distances[0]).tolist()), interval((words[0] - words[1]).tolist())
    return [
        Claim(
            row="2d",
            text="Without the mask the loss on shifted targets is below half that of the causal twin.",
            holds=ratio.high < 0.5,
            found=f"{leaked_loss.mean():.3f} against {masked_loss.mean():.2f} nats, ratio {ratio}; asked without the "
            f"answer in the input, {honest.mean():.2f} against {masked_honest.mean():.2f}.",
            numbers={"ratio": ratio, "unmasked": leaked_loss, "causal": masked_loss, "honest, unmasked": honest}
            | {"honest, causal": masked_honest},
        ),
        Claim(
            row="2e",
            text="Without the mask samples are worse: bigrams further from Shakespeare's, and fewer real words.",
            holds=further.low > 0 and fewer.low > 0,
            found=f"Bigram distance {distances[1].mean():.2f} against {distances[0].mean():.2f}, further by {further}; "
            f"real words {words[1].mean():.0%} against {words[0].mean():.0%}, fewer by {fewer}.",
            numbers={"further": further, "fewer": fewer, "distance": distances, "word share": words},
        ),
    ]


def _generations(rounds: list[dict[str, Any]], real: dict[str, Any], shown: list[int]) -> list[Claim]:
    distance, words = (np.array([run[name] for run in rounds])[:, shown] for name in ("distance", "word_share"))
    steps = {name: [interval(step) for step in np.diff(table, axis=1).T.tolist()] for name, table in
             (("distance", distance), ("word share", words))}  # fmt: skip
    return [
        Claim(
            row="3a",
            text="After the prompt, bigrams come closer to Shakespeare's from 0 to 10 to 50 rounds, in every seed.",
            holds=bool((np.diff(distance, axis=1) < 0).all()),
            found=f"Distance {', '.join(f'{value:.3f}' for value in distance.mean(0))}; real text of that length "
            f"{real['distance']:.3f}. From 10 to 50 rounds {steps['distance'][1]}.",
            numbers={"distance": distance, "steps": steps["distance"], "real text": real["distance"]},
        ),
        Claim(
            row="3b",
            text="The share of real words rises from 0 to 10 to 50 rounds, in every seed.",
            holds=bool((np.diff(words, axis=1) > 0).all()),
            found=f"Share {', '.join(f'{value:.0%}' for value in words.mean(0))}; real text {real['word_share']:.0%}. "
            f"From 10 to 50 rounds {steps['word share'][1]}.",
            numbers={"word share": words, "steps": steps["word share"], "real text": real["word_share"]},
        ),
    ]


def _contrasts(units: list[dict[str, Any]]) -> list[Claim]:
    """Return whether each measure ends above where it began and above the 99th percentile of the shuffles, in every
    seed."""
    measured = np.stack([run["contrast"] for run in units])  # [seed, round, measure]
    prompted = np.stack([run["prompt_contrast"] for run in units])
    null = np.stack([np.quantile(run["null"], 0.99, axis=0) for run in units])  # [seed, measure]
    bar = "after 50 rounds is above that before training and the 99th percentile of shuffled weights."
    texts = (
        f"The share of MLP units' variance between characters {bar}",
        f"The kurtosis of MLP units {bar}",
        "Also measured, with no bar: the share of variance that the character before adds.",
        "Also measured, with no bar: the standard deviation of MLP units over the text.",
    )
    claims = []
    for i, (row, text) in enumerate(zip(("4a", "4b", "4c", "4d"), texts, strict=True)):
        start, end = measured[:, 0, i], measured[:, -1, i]
        rise = interval((end - start).tolist())
        above = bool((end > start).all() and (end > null[:, i]).all())
        claims.append(
            Claim(
                row=row,
                text=text,
                holds=above if row in ("4a", "4b") else None,
                found=f"{start.mean():.3g} before, {end.mean():.3g} after 50 rounds (rise {rise}); "
                f"shuffled, 99th percentile {null[:, i].mean():.3g}.",
                numbers={"measure": MEASURES[i], "before": start, "after": end, "rise": rise, "null": null[:, i]}
                | {"on the prompt": prompted[:, [0, -1], i]},
            )
        )
    return claims
