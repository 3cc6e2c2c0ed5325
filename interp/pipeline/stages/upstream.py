"""The stages from text to activations: `corpus`, `model`, `activations`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.errors import InterpError
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.opening import lazy_call, read_curve, reader_of
from interp.pipeline.pretrained import ModelConfig, model_files
from interp.pipeline.run_folder import Run
from interp.pipeline.sections import HarvestConfig, TokenizerConfig
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress
from interp.storage.addresses import address_of
from interp.storage.files import digest_file, write_json
from models.pretrained import REFERENCE, WEIGHTS_FOLDER

if TYPE_CHECKING:
    from interp.activations import ActivationStore

MAX_EVALUATED = 20_000
"""Validation tokens on which a pretrained model's loss is measured."""


def _text_files(run: Run) -> dict[str, Any]:
    """Return digests of the user's own text and model, so that changed files are read again. For streamed text, return
    sizes and times, which is fast even for many files."""
    from models.own_text import matching_files

    here = [pattern for pattern in run.config.corpus.paths if address_of(pattern) is None]
    matching = {path for pattern in here for path in matching_files(pattern)}
    named = sorted(path for path in matching if path.is_file())
    if run.config.corpus.stream:
        files = {str(path): f"{path.stat().st_size} {path.stat().st_mtime_ns}" for path in named}
    else:
        files = {str(path): digest_file(path) for path in named}
    return {"files": files, "model_files": model_files(run.config.model)}


def _check_model(config: RunConfig) -> None:
    """Check that a pretrained model can be loaded and accepts sequences of this length, before text is read for it."""
    if config.model.is_trained:
        return
    n_ctx = config.model.pretrained().n_ctx
    if n_ctx is not None and n_ctx < config.model.n_ctx:
        raise InterpError(
            f"[model] n_ctx = {config.model.n_ctx} is above the maximum of {config.model.name}, {n_ctx}: lower it"
        )


def _check_corpus(config: RunConfig) -> None:
    """Check that text is held out, and that there is a tokenizer before text is streamed."""
    if config.corpus.val_fraction == 0:
        raise InterpError("[corpus] val_fraction = 0 leaves no text on which the model is measured: raise it")
    if config.corpus.stream and config.model.is_trained:
        raise InterpError(
            "[corpus] stream = true needs a pretrained model ([model] source): training a tokenizer needs all text at "
            "once"
        )


def _check_hooks(config: RunConfig) -> None:
    """Check that the model has the hooks, before it is trained, and that a pretrained one returns a vector for each
    token there."""
    import torch

    from interp.activations.hooks import evaluating, hooked_rows, main_names, resolve_hooks

    model = config.model.hooked()
    main_name = {name: main_names(model, name)[0] for name in config.harvest.hook_names}
    for name, main in main_name.items():
        if same := [other for other in main_name if main_name[other] == main and other != name]:
            raise InterpError(f"[harvest] hook_names has {name} and {same[0]}, which are the same hook: name it once")
    pairs = [config.at(name).harvest.hooks_in(model) for name in main_name]
    if config.harvest.output_hook and (same := [pair[0] for pair in pairs if len(pair) < 2]):
        raise InterpError(f"[harvest] output_hook = {config.harvest.output_hook!r} is {same[0]} itself: leave it out")
    hooks = resolve_hooks(model, list(chain(*pairs)))
    if not config.model.is_trained:
        with evaluating(model):
            hooked_rows(model, torch.zeros(1, 2, dtype=torch.long), hooks)


def _corpus_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Unless it is streamed, all text is held at once, with each label of each character in 2.5
    bytes (fitted to the mixture), and then all tokens."""
    memory = 0 if sizes.config.corpus.stream else (1 + 2.5 * sizes.labels) * sizes.characters
    disk = sizes.corpus_bytes
    return Cost(disk=disk, memory=memory, seconds=1.5 + sizes.characters / 1.7e6)


@stage(
    made_for="run",
    cost=_corpus_cost,
    reduced_by=("corpus.characters",),
    config={"corpus": lazy_call("models.corpus:CorpusConfig", characters=8_000_000), "tokenizer": TokenizerConfig},
    other_sections=("model",),
    check=_check_corpus,
    outside=_text_files,
    opens={
        "tokenizer": ("tokenizer", reader_of("tokenizer")),
        "train_tokens": ("train", reader_of("tokens")),
        "val_tokens": ("val", reader_of("tokens")),
    },
    summary="{train[tokens]:,} + {val[tokens]:,} tokens, vocabulary {vocab_size}",
)
def corpus(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """labelled text, split into training and validation; a tokenizer trained on it, or the pretrained model's"""
    from models.corpus import load_documents, split_documents, stream_documents
    from models.streaming import tokenize_stream
    from models.tokenizer import Tokenizer
    from models.tokenizing import tokenize

    config = run.config
    if config.corpus.stream:
        tokenizer = config.model.pretrained().tokenizer
        tokenizer.save(folder / "tokenizer")
        fraction = config.corpus.val_fraction
        seed = config.corpus.seed
        sides = tokenize_stream(
            stream_documents(config.corpus),
            tokenizer,
            config.model.n_ctx,
            folder / "train",
            folder / "val",
            val_fraction=fraction,
            seed=seed,
            progress=progress,
        )
        return {"vocab_size": tokenizer.vocab_size, **sides}
    progress(0, 1, "reading documents")
    split = split_documents(load_documents(config.corpus), config.corpus.val_fraction, config.corpus.seed)
    progress(0, 1, "the tokenizer")
    texts = (document.text for document in split.train)
    if not config.model.is_trained:
        tokenizer = config.model.pretrained().tokenizer
    elif config.tokenizer.kind == "bpe":
        tokenizer = Tokenizer.train_bpe(texts, config.tokenizer.vocab_size)
    else:
        tokenizer = Tokenizer.train_characters(texts)
    tokenizer.save(folder / "tokenizer")
    deduplicate = not config.model.is_trained  # the mixture may repeat what it used up
    n_ctx = config.model.n_ctx
    train = tokenize(split.train, tokenizer, n_ctx, deduplicate=deduplicate, progress=progress)
    try:
        val = tokenize(
            split.val, tokenizer, n_ctx, labels=train.label_names, deduplicate=deduplicate, progress=progress
        )
    except InterpError as error:
        held_out = f"[corpus] val_fraction = {config.corpus.val_fraction} holds out too little"
        raise InterpError(f"{held_out} ({error}); or raise it") from None
    results: dict[str, Any] = {"vocab_size": tokenizer.vocab_size}
    for name, documents, tokens in (("train", split.train, train), ("val", split.val, val)):
        tokens.save(folder / name, overwrite=True)  # left by a killed process
        results[name] = {"documents": len(documents), "tokens": tokens.tokens.numel(), "characters": tokens.characters}
    return results


def _model_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Training is three passes (forward, and backward to inputs and to weights) and AdamW, which
    reads and writes seven numbers per weight; a pretrained model's loss is measured."""
    config = sizes.config.model
    training = sizes.config.training
    if not config.is_trained:
        measured = sizes.passes(min(MAX_EVALUATED, sizes.held_out), before=1, after=1)
        return measured + Cost(disk=sizes.weight_bytes * config.is_slow, seconds=2e-8 * sizes.weight_bytes)
    passes = sizes.passes(3 * training.tokens, before=1, after=1)
    steps = training.steps(sizes.n_ctx)
    optimizer = Cost(disk=sizes.weight_bytes, moved=28 * sizes.weights * steps, seconds=6e-3 * steps)
    memory = 4 * sizes.weight_bytes + 100 * training.batch_size * sizes.n_ctx * sizes.model.d_model
    is_half = training.precision != "float32"
    return optimizer + Cost(memory=memory, **{f"{'bfloat16' if is_half else 'float32'}_operations": passes.operations})


@stage(
    made_for="run",
    cost=_model_cost,
    reduced_by=("training.tokens", "training.batch_size"),
    inputs=("corpus",),
    config={"model": ModelConfig, "training": lazy_call("models.recipe:TrainingConfig", tokens=3_500_000)},
    check=_check_model,
    opens={"model": (".", reader_of("model")), "model_curve": ("metrics.jsonl", read_curve)},
    summary=lambda r: (
        f"no loss: {r['no_loss']}"
        if "no_loss" in r
        else f"validation {r['val_loss']:.3f} nats a token ({r['bits_per_character']:.3f} bits a character); "
        f"unigram {r['unigram_cross_entropy']:.3f}, bigram {r['bigram_cross_entropy']:.3f}"
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
        named = {key: getattr(config, key) for key in ("source", "name", "revision", "dtype")}
        if Path(config.name).exists():  # so that the run opens from wherever it is named
            named["name"] = str(Path(config.name).resolve())
        write_json(folder / REFERENCE, named)
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


def harvest_cost(sizes: Sizes, rows: float, widths: Mapping[str, int]) -> Cost:
    """Estimate the cost of one pass up to the hooks, and of a store of these widths, whose bytes are written and
    digested."""
    from interp.activations.shards import ShardLayout, columns_of

    disk = ShardLayout(round(rows), columns_of(round(rows), widths, sizes.config.harvest.dtype)).size
    shown = sizes.config.harvest.batch_size * sizes.n_ctx * sum(widths.values())
    passes = sizes.passes(rows, before=1)
    return passes + Cost(disk=disk, memory=passes.memory + 4 * shown, seconds=disk / 1e9)


def _activations_cost(sizes: Sizes) -> Cost:
    if sizes.config.harvest.buffer_mb is not None:
        return sizes.passes(0)
    return harvest_cost(sizes, sizes.rows, sizes.widths)


def _open_store(folder: Path) -> "ActivationStore":
    if not folder.is_dir():
        raise InterpError(
            f"{folder.parent.parent} keeps no activations ([harvest] buffer_mb): `Run.stream` gives them from the model"
        )
    return reader_of("activations")(folder)


@stage(
    made_for="all hooks",
    cost=_activations_cost,
    reduced_by=("harvest.tokens",),
    inputs=("corpus", "model"),
    config={"harvest": HarvestConfig},
    check=_check_hooks,
    opens={"store": ("store", _open_store)},
    summary=lambda r: (
        f"{r['rows']:,} rows, "
        + (f"{r['bytes_per_value']:.3f} bytes a value: " if "bytes_per_value" in r else "none kept: ")
        + ", ".join(f"{name} ({d})" for name, d in r["d"].items())
    ),
)
def activations(runs: Sequence[Run], folders: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """the activations of the training text at the dictionary's hook and the neurons' one, rows shuffled"""
    from interp.activations.harvesting import harvest_stores

    run = runs[0]
    hooks = dict[str | Path, list[str]]()
    if run.config.harvest.buffer_mb is not None:
        return [_stream_results(run) for run in runs]
    for run_of_hook, folder in zip(runs, folders, strict=True):
        hooks[folder / "store"] = run_of_hook.config.harvest.hooks_in(run.model)
    stores = harvest_stores(
        run.model,
        run.harvested.tokens,
        hooks,
        exclude=run.tokenizer.special_ids,
        progress=progress,
        **run.config.harvest.options,
    )
    return [_harvest_results(store) for store in stores]


def _stream_results(run: Run) -> dict[str, Any]:
    """Return what the activations at the hooks of a run will be, when the model runs."""
    from interp.activations.hooks import evaluating
    from interp.activations.model_passes import ModelPasses
    from interp.activations.row_options import RowOptions

    config = run.config.harvest
    options = RowOptions(exclude=run.tokenizer.special_ids, **config.row_options)
    passes = ModelPasses.of(run.model, run.harvested.tokens, config.hooks_in(run.model), options)
    with evaluating(passes.module):
        widths = passes.widths()
    return {"rows": passes.n_rows, "excluded": sum(passes.excluded.values()), "d": widths, "aliases": passes.aliases}


def _harvest_results(store: "ActivationStore") -> dict[str, Any]:
    size = sum(file.stat().st_size for file in Path(store.path).iterdir())
    widths = {name: store.d(name) for name in store.hook_names}
    per_value = size / len(store) / sum(widths.values())
    return {"rows": len(store), "excluded": sum(store.excluded.values()), "d": widths, "bytes_per_value": per_value}
