"""The stage `corpus`: the text of a run, as tokens."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.errors import InterpError
from interp.pipeline import timings
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.model_section import model_files
from interp.pipeline.readers import lazy_call, reader_of
from interp.pipeline.run import Run
from interp.pipeline.sections import TokenizerSection
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress
from interp.storage.files import digest_file

if TYPE_CHECKING:
    from models.corpus import CorpusConfig
    from models.documents import Document

log = logging.getLogger(__name__)


def _text_files(run: Run) -> dict[str, Any]:
    """Return digests of the user's own text and model, so that changed files are noticed. For streamed text, and for
    a source of which a run may read little, return sizes and times, which is fast even for many files."""
    from models.sources import TEXT_SOURCES

    corpus = run.config.corpus
    files: dict[str, str] = {}
    for source in map(TEXT_SOURCES.__getitem__, corpus.sources):
        identify = _size_and_time if corpus.stream or source.endless else digest_file
        files |= {str(path): identify(path) for path in source.files(corpus)}
    return {"files": files, "model_files": model_files(run.config.model)}


def _size_and_time(path: Path) -> str:
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}"


def _check_corpus(config: RunConfig) -> None:
    """Check what the sources of text need, that some of it is held out, and that there is a tokenizer before text is
    streamed."""
    from models.sources import TEXT_SOURCES

    for name in config.corpus.sources:
        TEXT_SOURCES[name].check(config.corpus)
    if config.corpus.val_fraction == 0:
        raise InterpError("[corpus] val_fraction = 0 leaves no text on which the model is measured: raise it")
    if config.corpus.stream and config.model.is_trained:
        raise InterpError(
            "[corpus] stream = true needs a pretrained model ([model] source): training a tokenizer needs all text at "
            "once"
        )


def _documents(corpus: "CorpusConfig") -> Iterator["Document"]:
    """Yield the documents of a run, and say so if its number of characters ends a text of the user's own."""
    from models.corpus import TEXT_SOURCES, stream_documents

    characters = 0
    for document in stream_documents(corpus):
        characters += len(document.text)
        yield document
    is_own = corpus.source != "mixture" and TEXT_SOURCES[corpus.source].fields
    if is_own and corpus.characters is not None and characters >= corpus.characters:
        log.warning(
            "the run reads the first %s characters of the text: raise [corpus] characters if it has more",
            f"{characters:,}",
        )


def _corpus_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Unless it is streamed, all text is held at once, with each label of each character in 2.5
    bytes (fitted to the mixture), and then all tokens."""
    memory = 0 if sizes.config.corpus.stream else (1 + 2.5 * sizes.labels) * sizes.characters
    disk = sizes.corpus_bytes
    return Cost(disk=disk, memory=memory, seconds=timings.READING_TEXT + timings.TEXT_CHARACTER * sizes.characters)


@stage(
    version=8,
    made_for="run",
    cost=_corpus_cost,
    reduced_by=("corpus.characters",),
    config={"corpus": lazy_call("models.corpus:CorpusConfig", characters=8_000_000), "tokenizer": TokenizerSection},
    other_sections=("model",),
    extended_by=("source of text", "source of models"),
    check=_check_corpus,
    outside_inputs=_text_files,
    outside_words={"files": "files of text", "model_files": "files of the model"},
    opens={
        "tokenizer": ("tokenizer", reader_of("tokenizer")),
        "train_tokens": ("train", reader_of("tokens")),
        "val_tokens": ("val", reader_of("tokens")),
    },
    summary="{train[tokens]:,} + {val[tokens]:,} tokens, vocabulary {vocab_size}",
)
def corpus(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """labelled text, split into training and validation; a tokenizer trained on it, or the pretrained model's"""
    from models.corpus import split_documents
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
            _documents(config.corpus),
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
    split = split_documents(list(_documents(config.corpus)), config.corpus.val_fraction, config.corpus.seed)
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
