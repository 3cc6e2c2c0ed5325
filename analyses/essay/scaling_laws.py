"""Does the loss of a language model fall as a power of its size and of its text, so that we can predict a larger one?

    python -m analyses.essay.scaling_laws            about four minutes on two cores
    python -m analyses.essay.scaling_laws --quick    a few seconds

Transformers of seven widths read the same number of tokens, and one of them reads six numbers of tokens. Each token is
read once: the text comes from an endless source whose own loss, the floor, is known exactly (`texts.generator`). Sizes
are weights outside the embeddings: blocks and last LayerNorm. Laws with three parameters are fitted to all but the
largest size and predict the largest.

Claims (row 21):
    21a  L = L∞ + (N_c / N)^α predicts the loss of the largest model, in the mean of the seeds, within 3 %
    21b  it is closer to that loss than a + b e^{−cN} and a + b e^{−c√N}, and has the lower AIC on the sizes fitted
    21c  the same in tokens: L = L∞ + (D_c / D)^α predicts the loss at the most tokens within 3 %
    21d  as 21b, in tokens
    21e  the exponents, with 95 % intervals by a bootstrap over the seeds of each size; measured
    21f  the fitted L∞ next to the source's known floor; measured. With limited text L∞ need not be the floor: it also
         contains what more text would take away

3 % of a loss that is mostly floor is a wide bar. So the error is also given as a share of the part above the floor,
next to the error of expecting no gain at all over the second largest.

Chosen on short runs of one seed: the source's order 2 (at order 3 these models learn too little of it in half a million
tokens to differ), batches of 32 sequences, the learning rate 0.16 / √d_model (from two to six rates at widths 8, 24 and
64), no weight decay, and at least 200,000 tokens: with fewer, the loss hardly falls with more tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.essay import figures
from analyses.essay.scaling_laws_claims import Laws, claims
from analyses.essay.texts.generator import Source, SourceConfig
from analyses.record import Record, options
from models.training import train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig

VAL_SEED = 1_000_000


@dataclass(frozen=True)
class Setting:
    widths: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64)
    tokens: int = 1_000_000
    """Tokens of every width."""
    data_width: int = 32
    data_tokens: tuple[int, ...] = (200_000, 320_000, 500_000, 1_000_000, 2_000_000)
    seeds: tuple[int, ...] = (0, 1, 2)
    n_ctx: int = 32
    batch_size: int = 32
    d_vocab: int = 64
    val_sequences: int = 2000
    bootstrap: int = 500


QUICK = Setting(
    widths=(4, 6, 8, 10, 12),
    tokens=4000,
    data_width=8,
    data_tokens=(2000, 3000, 4000, 6000),
    seeds=(0, 1),
    n_ctx=16,
    batch_size=16,
    d_vocab=8,
    val_sequences=50,
    bootstrap=10,
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "scaling_laws", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    source = Source(SourceConfig(d_vocab=setting.d_vocab))
    sizes = [(width, setting.tokens) for width in setting.widths]
    sizes += [(setting.data_width, tokens) for tokens in setting.data_tokens if tokens != setting.tokens]
    rows = []
    for seed in setting.seeds:
        for width, tokens in sizes:
            name = f"width-{width}-tokens-{tokens}-seed-{seed}"
            work = record.out / "work" / name
            rows.append(
                record.piece(name, lambda w=width, t=tokens, s=seed, f=work: train(source, w, t, s, setting, f))
            )
    runs = pd.DataFrame(rows)
    runs_of_sizes = runs[runs["tokens"] == setting.tokens]
    runs_of_tokens = runs[runs["width"] == setting.data_width]
    n, floor = setting.bootstrap, float(runs["floor"].iloc[0])
    laws = {"parameters": Laws.of(runs_of_sizes, "parameters", n), "data": Laws.of(runs_of_tokens, "tokens", n)}
    return record.finish(claims(laws, floor), drawings(runs, laws, floor, setting), values=values(laws, floor, runs))


def train(source: Source, width: int, tokens: int, seed: int, setting: Setting, work: Path) -> dict[str, Any]:
    """Return one model on fresh text; its loss and that of the source on the same held-out sequences, nats a token."""
    shape = dict(n_layers=2, n_heads=2, d_mlp=4 * width, d_vocab=setting.d_vocab, n_ctx=setting.n_ctx)
    model = Transformer(TransformerConfig(d_model=width, seed=seed, **shape))
    steps = tokens // (setting.batch_size * setting.n_ctx)
    text = source.sample(steps * setting.batch_size, setting.n_ctx, seed=1 + seed)
    val = source.sample(setting.val_sequences, setting.n_ctx, seed=VAL_SEED)
    config = TrainingConfig(
        tokens=tokens,
        batch_size=setting.batch_size,
        lr=0.16 / width**0.5,
        weight_decay=0.0,
        val_every=steps,
        precision="float32",
        seed=seed,
    )
    result = train_model(model, text, val, config, work)
    rows = pd.read_json(work / "metrics.jsonl", lines=True)
    counted = sum(p.numel() for part in (model.blocks, model.ln_final) for p in part.parameters())
    return {
        "width": width,
        "tokens": tokens,
        "seed": seed,
        "parameters": counted,
        "all_parameters": result.parameters,
        "unembedding": model.W_U.numel(),
        "loss": result.val_loss,
        "floor": source.floor(val),
        "curve_tokens": rows["tokens"].tolist(),
        "curve_loss": rows["loss"].tolist(),
    }


def drawings(runs: pd.DataFrame, laws: Mapping[str, Laws], floor: float, setting: Setting) -> dict[str, Any]:
    words = {"parameters": "weights outside the embeddings", "data": "tokens of training text"}
    titles = {"parameters": "Loss above the floor against size", "data": "Loss above the floor against text"}
    symbols = {"parameters": "N", "data": "D"}
    drawn = {
        name: figures.scaling_law(
            law.x, law.loss, law.fits, floor, title=titles[name], x_title=words[name], symbol=symbols[name]
        )
        for name, law in laws.items()
    }
    return {**drawn, "compute": figures.compute_curves(compute(runs, setting.tokens), floor)}


def compute(runs: pd.DataFrame, tokens: int) -> pd.DataFrame:
    """Return the training loss of each width, averaged over seeds, against FLOPs = 6 · (parameters + unembedding) ·
    tokens read.

    Each token is read once, so the loss on it before the step is a held-out loss. Smoothed over a tenth of the run."""
    curves = []
    for (width, parameters), group in runs[runs["tokens"] == tokens].groupby(["width", "parameters"]):
        loss = pd.Series(np.mean(group["curve_loss"].tolist(), axis=0))
        read = np.array(group["curve_tokens"].iloc[0], float)
        window = max(1, len(loss) // 10)
        flops = 6 * (parameters + group["unembedding"].iloc[0]) * read
        smooth = loss.rolling(window, center=True).mean()
        curves.append(pd.DataFrame({"width": width, "parameters": parameters, "flops": flops, "loss": smooth}))
    return pd.concat(curves).dropna()


def values(laws: Mapping[str, Laws], floor: float, runs: pd.DataFrame) -> dict[str, Any]:
    """Return further numbers that a page may show."""
    table = runs.groupby(["width", "parameters", "tokens"])["loss"].agg(["mean", "std"]).reset_index()
    return {
        "floor": floor,
        "losses": table.round(4).to_dict("records"),
        **{
            f"{name}_{shape.replace(' ', '_')}": {
                "floor": fit.floor,
                "rate": fit.rate,
                "predicted": float(fit(law.x[-1])),
                "measured": law.held_out,
                "aic": fit.aic,
            }
            for name, law in laws.items()
            for shape, fit in law.fits.items()
        },
    }


if __name__ == "__main__":
    main()
