"""The stage `model`: the language model of a run, trained or pretrained."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from interp.checks.errors import InterpError
from interp.pipeline import timings
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.model_section import ModelSection
from interp.pipeline.readers import lazy_call, read_curve, reader_of
from interp.pipeline.run import Run
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress
from interp.storage.files import write_json
from models.pretrained import REFERENCE, WEIGHTS_FOLDER

MAX_EVALUATED = 20_000
"""Validation tokens on which a pretrained model's loss is measured."""


def _check_model(config: RunConfig) -> None:
    """Check that a pretrained model can be loaded and accepts sequences of this length, before text is read for it."""
    if config.model.is_trained:
        return
    n_ctx = config.model.pretrained().n_ctx
    if n_ctx is not None and n_ctx < config.model.n_ctx:
        raise InterpError(
            f"[model] n_ctx = {config.model.n_ctx} is above the maximum of {config.model.name}, {n_ctx}: lower it"
        )


def _model_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Training is three passes (forward, and backward to inputs and to weights) and AdamW, which
    reads and writes seven numbers per weight; a pretrained model's loss is measured."""
    config = sizes.config.model
    training = sizes.config.training
    if not config.is_trained:
        measured = sizes.forward_cost(min(MAX_EVALUATED, sizes.held_out), before=1, after=1)
        return measured + Cost(
            disk=sizes.weight_bytes * config.is_slow, seconds=timings.LOADED_BYTE * sizes.weight_bytes
        )
    passes = sizes.forward_cost(3 * training.tokens, before=1, after=1)
    steps = training.steps(sizes.n_ctx)
    optimizer = Cost(disk=sizes.weight_bytes, moved=28 * sizes.weights * steps, seconds=timings.TRAINING_STEP * steps)
    memory = 4 * sizes.weight_bytes + 100 * training.batch_size * sizes.n_ctx * sizes.model.d_model
    is_half = training.precision != "float32"
    return optimizer + Cost(memory=memory, **{f"{'bfloat16' if is_half else 'float32'}_operations": passes.operations})


@stage(
    version=8,
    made_for="run",
    cost=_model_cost,
    reduced_by=("training.batch_size",),
    inputs=("corpus",),
    config={"model": ModelSection, "training": lazy_call("models.training_recipe:TrainingConfig", tokens=3_500_000)},
    extended_by=("source of models",),
    check=_check_model,
    opens={"model": (".", reader_of("model")), "model_curve": ("metrics.jsonl", read_curve)},
    summary=lambda r: (
        f"no loss: {r['no_loss']}"
        if "no_loss" in r
        else f"validation {r['val_loss']:.3f} nats a token ({r['bits_per_character']:.3f} bits a character); "
        f"unigram {r['unigram_cross_entropy']:.3f}, bigram {r['bigram_cross_entropy']:.3f}"
        + (": it is no better than unigrams" if r["val_loss"] >= r["unigram_cross_entropy"] else "")
    ),
)
def model(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a transformer trained on the corpus, or a pretrained one, measured against the corpus's unigrams and bigrams"""
    from interp.activations.next_tokens import NoNextTokens, check_predicts_next
    from models.evaluation import measure_losses
    from models.training import train_model
    from models.transformer import Transformer

    config = run.config.model
    texts = run.train_tokens.tokens, run.val_tokens.tokens
    if not config.is_trained:
        rows = max(1, MAX_EVALUATED // run.val_tokens.n_ctx)
        val = run.val_tokens[:rows]
        results: dict[str, Any]
        try:
            check_predicts_next(config.pretrained(), val.tokens)
            results = measure_losses(
                config.pretrained(),
                texts[0],
                val.tokens,
                val.characters,
                batch_size=8,
                precision="float32",
                progress=progress,
            )
        except NoNextTokens as reason:
            n_parameters = sum(parameter.numel() for parameter in config.pretrained().parameters())
            results = {"no_loss": str(reason), "parameters": n_parameters}
        loaded_from = {key: getattr(config, key) for key in ("source", "name", "revision", "dtype")}
        if (path := Path(config.name).expanduser()).exists():  # so that the run opens from wherever it is named
            loaded_from["name"] = str(path.resolve())
        write_json(folder / REFERENCE, loaded_from)
        if config.is_slow:  # de-quantized once, so that whatever opens the run later need not wait for it
            config.pretrained().save(folder / WEIGHTS_FOLDER)
        write_json(folder / "results.json", results)
        return results
    new = Transformer(config.transformer(run.tokenizer.vocab_size))
    trained = train_model(
        new,
        *texts,
        run.config.training,
        folder,
        tokenizer=run.tokenizer,
        val_characters=run.val_tokens.characters,
        progress=progress,
    )
    return asdict(trained)
