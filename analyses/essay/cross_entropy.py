"""What is the number that a language model's training makes smaller?

    python -m analyses.essay.cross_entropy            seconds after analyses.essay.shakespeare, else a minute or two
    python -m analyses.essay.cross_entropy --quick    a few seconds

The essay gives the loss as

    L = −1/(N·T) Σ_i Σ_t Σ_c y_{i,t,c} ln ŷ_{i,t,c}

with N sequences in the batch, T positions to predict in each, C classes (here the characters), y = 1 for the character
at the position and 0 for all others, and ŷ the predicted probabilities. Only one term of the sum over c is not zero:
the loss is the mean of −ln ŷ of the character that came next. Divided by ln 2 it is bits a character.

Both models are those of `analyses.essay.shakespeare`, read from its folder next to this one or trained into it.

Claims (row 5):
    5a  on a batch of held-out text, the loss that training uses (slabs of logits, `models.training_recipe`), the
        library's (`F.cross_entropy`) and the formula, written out with all N·T·C terms in float64, agree within 1e-6
        nats
    5b  an untrained model costs about ln C (within 0.1 nats), and the trained one less than the character bigrams
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.essay import figures
from analyses.essay.shakespeare import QUICK as QUICK_SHAKESPEARE
from analyses.essay.shakespeare import Setting as Shakespeare
from analyses.essay.shakespeare_models import PROMPT, Recipe, Trained, curve, curve_table, read_corpus, train_or_open
from analyses.record import Claim, Record, options
from models.transformer import Transformer


@dataclass(frozen=True)
class Setting:
    deep: Recipe = Shakespeare().deep
    essay: Recipe = Shakespeare().twin(0, masked=True)
    batch: int = 64


QUICK = Setting(deep=QUICK_SHAKESPEARE.deep, essay=QUICK_SHAKESPEARE.twin(0, masked=True), batch=4)


def written_out(logits: Float[Tensor, "N T C"], targets: Int[Tensor, "N T"]) -> float:
    """Return −1/(N·T) Σ_i Σ_t Σ_c y ln ŷ with every term of the sum, in float64."""
    N, T, C = logits.shape
    exponentials = (logits.double() - logits.double().amax(2, keepdim=True)).exp()
    predicted = exponentials / exponentials.sum(2, keepdim=True)
    y = torch.zeros(N, T, C, dtype=torch.double)
    y[torch.arange(N)[:, None], torch.arange(T)[None], targets.long()] = 1
    return float(-(y * predicted.log()).sum() / (N * T))


@torch.no_grad()
def three_ways(model: Transformer, batch: Int[Tensor, "N T_plus_1"]) -> dict[str, float]:
    by_library = model(batch, return_type="loss", loss_per_token=True).double().mean()
    return {
        "training": float(model(batch, return_type="loss")),
        "library": float(by_library),
        "formula": written_out(model(batch)[:, :-1], batch[:, 1:]),
    }


def deep(setting: Setting, work: Path) -> dict[str, Any]:
    run = train_or_open(setting.deep, work)
    corpus = read_corpus(setting.deep.play_characters)
    batch = corpus.rows(setting.deep.n_ctx, held_out=True)[: setting.batch]
    untrained = Transformer(run.model.config)
    return {
        **{f"loss, {name}": value for name, value in three_ways(run.model, batch).items()},
        "shape": [len(batch), batch.shape[1] - 1, run.model.config.d_vocab],
        "loss, untrained": three_ways(untrained, batch)["formula"],
        "val_loss": run.result.val_loss,
        "unigram": run.result.unigram_cross_entropy,
        "bigram": run.result.bigram_cross_entropy,
        "character bits": np.stack([character_bits(model, corpus.prompt()) for model in (untrained, run.model)]),
        **curve(run.metrics),
    }


@torch.no_grad()
def character_bits(model: Transformer, tokens: Int[Tensor, "1 pos"]) -> Float[np.ndarray, " pos"]:
    """NaN for the first character: nothing predicts it."""
    losses = model(tokens, return_type="loss", loss_per_token=True)[0].numpy() / np.log(2)
    return np.concatenate([[np.nan], losses])


def essay(setting: Setting, work: Path) -> dict[str, Any]:
    run: Trained = train_or_open(setting.essay, work)
    return {"val_loss": run.result.val_loss, **curve(run.metrics)}


def claims(run: dict[str, Any]) -> list[Claim]:
    losses = [run[f"loss, {name}"] for name in ("training", "library", "formula")]
    apart, n, t, c = max(losses) - min(losses), *run["shape"]
    uniform = float(np.log(c))
    return [
        Claim(
            row="5a",
            text="The loss that training uses equals the essay's formula, written out term by term, within 0.000001.",
            holds=apart <= 1e-6,
            found=f"{losses[2]:.7f} nats on a batch of N = {n}, T = {t}, C = {c}; three ways of computing it lie "
            f"within {apart:.1g}.",
            numbers={"losses": losses, "apart": apart, "N": n, "T": t, "C": c},
        ),
        Claim(
            row="5b",
            text="Untrained, the loss is about ln C, a guess among all characters; trained, it is below the bigrams.",
            holds=abs(run["loss, untrained"] - uniform) <= 0.1 and run["val_loss"] < run["bigram"],
            found=f"Untrained {run['loss, untrained']:.2f} nats (ln C = {uniform:.2f}); trained {run['val_loss']:.2f}, "
            f"bigrams {run['bigram']:.2f}, unigrams {run['unigram']:.2f}, all on held-out plays.",
            numbers={"untrained": run["loss, untrained"], "ln C": uniform}
            | {name: run[name] for name in ("val_loss", "bigram", "unigram")},
        ),
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "cross_entropy", arguments)
    setting = QUICK if o.quick else Setting()
    record, work = Record(o.out, setting, svg=not o.quick), o.out.parent / "shakespeare" / "work"
    run = record.piece("deep", lambda: deep(setting, work))
    small = record.piece("essay", lambda: essay(setting, work))
    curves = {"4 layers of 128": curve_table(run), "2 layers of 64": curve_table(small)}
    levels = {"uniform": np.log2(run["shape"][2]), **{name: run[name] / np.log(2) for name in ("unigram", "bigram")}}
    bits = dict(zip(("before training", "after training"), run["character bits"], strict=True))
    drawn = {
        "loss_curve": figures.loss_curves(
            curves, levels, title="Cross-entropy of two character models as they train", unit="bits a character"
        ),
        "character_losses": figures.character_losses(PROMPT, bits),
    }
    mean = [float(np.nanmean(row)) for row in run["character bits"]]
    return record.finish(claims(run), drawn, {"prompt": PROMPT, "bits on the prompt, before and after": mean})


if __name__ == "__main__":
    main()
