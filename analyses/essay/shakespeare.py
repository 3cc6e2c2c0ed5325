"""What does a small transformer learn of Shakespeare, what does it write, and what happens to its neurons meanwhile?

    python -m analyses.essay.shakespeare            about 5 minutes on two cores
    python -m analyses.essay.shakespeare --quick    a few seconds

The models learn the characters of 36 plays; Hamlet and Twelfth Night are held out. A round is 40 steps of 512
characters. There are three seeds of the essay's model size with the causal mask that it lacks, three without the mask,
and one deeper causal model.

Claims (rows 2, 3, 4):
    2a  causal: exchanging character t + 1 changes no logit at or before t, not by a bit
    2b  the 4-layer causal model of d_model 128 reaches at most 1.95 nats a character on the held-out plays
    2c  unmasked: the same exchange changes earlier logits, in every seed
    2d  unmasked: its loss on shifted targets is below half the causal twin's (upper end of the interval of the ratio)
    2e  unmasked: samples from held-out contexts are worse, by the distance of their bigrams to the corpus and by the
        share of real words (intervals of the paired differences exclude zero)
    3a  from the essay's prompt, the bigram distance falls from before training to 10 rounds to 50, in every seed
    3b  the share of real words rises in the same way
    4a  η², the share of an MLP unit's variance that lies between characters (held-out text, mean of the units), is
        larger after 50 rounds than before training and than the 99th percentile of 100 shuffles of the weights
    4b  the same for the kurtosis (median of the units)
    4c  and 4d, with no bar: how much η² gains from also knowing the character before, and the standard deviation

Samples are at temperature 1, so that they represent the model's own distribution. Learning rates were chosen on short
runs: the default 6e-3 for the small models; for the deeper one 3e-3, between 2e-3 and 4e-3, which were better than 1e-3
after 150 steps and than 6e-3 in a run of 488.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analyses.essay.shakespeare_claims import claims
from analyses.essay.shakespeare_figures import draw_figures
from analyses.essay.shakespeare_measures import (
    contrast,
    generated,
    judged,
    leak,
    shuffled_contrast,
    unit_activations,
)
from analyses.essay.shakespeare_models import PROMPT, Recipe, curve, read_corpus, train_or_open
from analyses.essay.toys.unmasked import honest_loss
from analyses.record import Record, options

ROUND_STEPS = 40
SHOWN = (0, 10, 50)


@dataclass(frozen=True)
class Setting:
    essay: Recipe = Recipe("essay", True, steps=50 * ROUND_STEPS, n_ctx=64, batch_size=8, lr=6e-3)
    deep: Recipe = Recipe("deep", True, steps=2000, n_ctx=64, batch_size=12, lr=3e-3)
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    round_steps: int = ROUND_STEPS
    deep_characters: int = 400
    """Length of the sample of the deep model."""
    n_samples: int = 32
    sample_characters: int = 256
    temperature: float = 1.0
    contrast_rows: int = 64
    shuffles: int = 100

    def twin(self, seed: int, *, masked: bool) -> Recipe:
        steps = tuple(self.round_steps * number for number in self.rounds)
        return replace(self.essay, seed=seed, masked=masked, snapshot_steps=steps)


QUICK = Setting(
    essay=Recipe("essay", True, steps=50, n_ctx=48, batch_size=2, lr=6e-3, play_characters=1000),
    deep=Recipe("deep", True, steps=3, n_ctx=48, batch_size=2, lr=2e-3, play_characters=1000),
    seeds=(0, 1),
    rounds=SHOWN,
    round_steps=1,
    deep_characters=40,
    n_samples=4,
    sample_characters=15,
    contrast_rows=4,
    shuffles=3,
)


def deep(setting: Setting, work: Path) -> dict[str, Any]:
    run = train_or_open(setting.deep, work)
    corpus = read_corpus(setting.deep.play_characters)
    sample = generated(
        run.model, corpus.prompt(), setting.deep_characters, corpus, temperature=setting.temperature, seed=0
    )
    facts = {"val_loss": run.result.val_loss, "parameters": run.result.parameters, "sample": sample.texts[0]}
    ngrams = {"unigram": run.result.unigram_cross_entropy, "bigram": run.result.bigram_cross_entropy}
    return {**facts, **ngrams, "leak": leak(run.model, corpus.prompt()), **curve(run.metrics)}


def twin(setting: Setting, seed: int, work: Path, *, masked: bool) -> dict[str, Any]:
    """Return a model of the essay's size: its losses, what leaks, and samples after contexts as long as those it learnt
    on."""
    run = train_or_open(setting.twin(seed, masked=masked), work)
    corpus = read_corpus(setting.essay.play_characters)
    held_out = corpus.rows(setting.essay.n_ctx, held_out=True)
    contexts = held_out[_spread(len(held_out), setting.n_samples), :-1]
    sample = _samples(run.model, contexts, setting, seed)
    prompted = generated(run.model, corpus.prompt(), 200, corpus, temperature=setting.temperature, seed=seed)
    return {
        "val_loss": run.result.val_loss,
        "honest_loss": honest_loss(run.model, held_out),
        "distance": sample.distance,
        "word_share": sample.word_share,
        "sample": prompted.texts[0],
        "leak": leak(run.model, corpus.prompt()),
        **curve(run.metrics),
    }


def written(setting: Setting, seed: int, work: Path) -> dict[str, Any]:
    """Return what a causal twin writes after the prompt after each of the rounds."""
    run = train_or_open(setting.twin(seed, masked=True), work)
    prompts = read_corpus(setting.essay.play_characters).prompt().expand(setting.n_samples, -1)
    models = [run.after(setting.round_steps * number) for number in setting.rounds]
    samples = [_samples(model, prompts, setting, seed) for model in models]
    return {
        "distance": [sample.distance for sample in samples],
        "word_share": [sample.word_share for sample in samples],
        "texts": [sample.texts[0] for sample in samples],
    }


def units(setting: Setting, seed: int, work: Path) -> dict[str, Any]:
    """Return the MLP units of a causal twin after each of the rounds, on held-out text and on the prompt."""
    run = train_or_open(setting.twin(seed, masked=True), work)
    corpus = read_corpus(setting.essay.play_characters)
    held_out, prompt = corpus.rows(setting.essay.n_ctx, held_out=True), corpus.prompt()
    held_out = held_out[_spread(len(held_out), setting.contrast_rows)]
    models = [run.after(setting.round_steps * number) for number in setting.rounds]
    return {
        "contrast": np.stack([contrast(model, held_out) for model in models]),
        "prompt_contrast": np.stack([contrast(model, prompt) for model in models]),
        "null": shuffled_contrast(models[-1], held_out, setting.shuffles),
        "acts": torch.stack([unit_activations(model, prompt) for model in models]),
    }


def real(setting: Setting) -> dict[str, Any]:
    """Return the measures of samples, of as much held-out text."""
    corpus = read_corpus(setting.essay.play_characters)
    rows = corpus.rows(setting.sample_characters, held_out=True)
    text = judged(rows[_spread(len(rows), setting.n_samples)], corpus)
    return {"distance": text.distance, "word_share": text.word_share}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "shakespeare", arguments)
    setting = QUICK if o.quick else Setting()
    record, work = Record(o.out, setting, svg=not o.quick), o.out / "work"
    runs: dict[str, Any] = {"deep": record.piece("deep", lambda: deep(setting, work))}
    for name, masked in (("causal", True), ("unmasked", False)):
        runs[name] = [
            record.piece(f"{name}-{seed}", lambda seed=seed, masked=masked: twin(setting, seed, work, masked=masked))
            for seed in setting.seeds
        ]
    for name, measure in (("rounds", written), ("units", units)):
        runs[name] = [
            record.piece(f"{name}-{seed}", lambda seed=seed, measure=measure: measure(setting, seed, work))
            for seed in setting.seeds
        ]
    runs["real"] = record.piece("real", lambda: real(setting))
    return record.finish(claims(runs, setting), draw_figures(runs, setting), values(runs, setting))


def values(runs: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Return the samples as text, each the first of those measured, and how much of everything was seen."""
    texts_of_rounds = dict(zip(setting.rounds, runs["rounds"][0]["texts"], strict=True))
    return {
        "prompt": PROMPT,
        "temperature": setting.temperature,
        "characters a round": setting.essay.batch_size * setting.essay.n_ctx * setting.round_steps,
        "generations": {
            "Before training": texts_of_rounds[0],
            "After 10 rounds": texts_of_rounds[10],
            "After 50 rounds": texts_of_rounds[50],
            "Four layers of 128": runs["deep"]["sample"],
            "Without the mask": runs["unmasked"][0]["sample"],
        },
        "loss without the mask": float(np.mean([run["val_loss"] for run in runs["unmasked"]])),
    }


def _samples(model: Any, prompts: torch.Tensor, setting: Setting, seed: int) -> Any:
    corpus = read_corpus(setting.essay.play_characters)
    return generated(model, prompts, setting.sample_characters, corpus, temperature=setting.temperature, seed=seed)


def _spread(n: int, k: int) -> list[int]:
    """Return k of n rows, evenly spaced."""
    return np.linspace(0, n - 1, min(n, k)).round().astype(int).tolist()


if __name__ == "__main__":
    main()
