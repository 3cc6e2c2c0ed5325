"""Text that is tokenized as it is read, compared with the same text tokenized in memory."""

import bz2
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFile
from safetensors.torch import load_file

from interp import RunConfig, run_stages
from interp.cli import main
from interp.storage.artifacts import find_artifact
from interp.storage.folders import unfinished_folder
from models.corpus import CorpusConfig, load_documents, stream_documents
from models.documents import Document
from models.streaming import tokenize_stream
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.tokens import LabelledTokens
from tests.foreign_models import TEXTS, write_foreign
from tests.forked import run_python
from tests.tiny import SECTIONS

WORDS = "the cat sat on a mat and saw nothing but rain over hills far away".split()


def texts(n: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(5, 60, (n,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(0, len(WORDS), (k,), generator=generator)) for k in sizes]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train_bpe(texts(50), 300)


@pytest.fixture(scope="module")
def documents():
    return [Document(text, (), "texts", f"work {i // 3}") for i, text in enumerate([*texts(300), *texts(20)])]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr("models.streaming._CHARACTERS_AT_ONCE", 2000)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def assert_same(found: LabelledTokens, expected: LabelledTokens) -> None:
    for name in ("tokens", "document_ids", "row_characters"):
        assert torch.equal(getattr(found, name).long(), getattr(expected, name).long()), name
    assert not found.label_bits.any() and found.label_names == () and found.label_bits.shape == found.tokens.shape
    assert found.document_names == expected.document_names and found.tokenizer == expected.tokenizer


def test_a_stream_gives_the_tokens_of_the_whole(documents, tokenizer, tmp_path):
    sizes = tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "train")
    found, expected = LabelledTokens.load(tmp_path / "train"), tokenize(documents, tokenizer, 16)
    assert_same(found, expected)
    assert sizes["train"] == {
        "documents": len(expected.document_names),
        "tokens": expected.tokens.numel(),
        "characters": expected.characters,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["train"]


def test_files_are_mapped(documents, tokenizer, tmp_path):
    tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "train")
    found, expected = LabelledTokens.load(tmp_path / "train"), tokenize(documents, tokenizer, 16)
    assert load_file(tmp_path / "train" / "tokens.safetensors")["tokens"].equal(found.tokens)
    found.tokens[3] = 7  # in memory alone
    assert LabelledTokens.load(tmp_path / "train").tokens.equal(expected.tokens)
    find_artifact(tmp_path / "train", "tokens")


def cut_off(documents, after: int):
    yield from documents[:after]
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", [40, 140, 279])
def test_a_kill_while_reading_loses_nothing(documents, tokenizer, tmp_path, at):
    options = {"val_fraction": 0.1, "seed": 1}
    with pytest.raises(KeyboardInterrupt):
        tokenize_stream(cut_off(documents, at), tokenizer, 2, tmp_path / "train", tmp_path / "val", **options)
    sizes = tokenize_stream(iter(documents), tokenizer, 2, tmp_path / "train", tmp_path / "val", **options)
    assert sizes == tokenize_stream(iter(documents), tokenizer, 2, tmp_path / "a", tmp_path / "b", **options)
    for path, other in (("train", "a"), ("val", "b")):
        assert files_of(tmp_path / path) == files_of(tmp_path / other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "train", "val"]


@pytest.mark.parametrize("other", ["texts", "names", "shorter"])
def test_an_interrupted_text_never_goes_on_with_another(documents, tokenizer, tmp_path, other):
    """Its first rows would be those of the first text, under the names of the second."""
    others = {
        "texts": [replace(document, text=document.text.upper()) for document in documents],
        "names": [replace(document, name="another work") for document in documents],
        "shorter": documents[:30],
    }[other]
    with pytest.raises(KeyboardInterrupt):
        tokenize_stream(cut_off(documents, 200), tokenizer, 16, tmp_path / "train")
    with pytest.raises(ValueError, match="interrupted in other text.*again"):
        tokenize_stream(iter(others), tokenizer, 16, tmp_path / "train")
    tokenize_stream(iter(others), tokenizer, 16, tmp_path / "train")
    expected = tokenize(others, tokenizer, 16)
    assert_same(LabelledTokens.load(tmp_path / "train"), expected)


def test_the_command_tokenizes_one_field_at_a_time(tmp_path, tiny_run):
    text = tmp_path / "a.jsonl"
    text.write_text("".join(json.dumps({"text": text, "body": text.upper()}) + "\n" for text in texts(40)))
    command = ["tokenize", str(text), "--model", str(tiny_run.path), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main([*command, "--field", "body"]) == 2
    assert main([*command, "--field", "body", "--overwrite"]) == 0


def test_tokens_are_written_and_read_at_an_address(documents, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fsspec.filesystem("memory").store.clear()
    tokenize_stream(iter(documents), tokenizer, 16, "memory://texts/train")
    assert_same(LabelledTokens.load("memory://texts/train"), tokenize(documents, tokenizer, 16))


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("tokens.safetensors", lambda data: data[:-3], "damaged"),
        ("tokens.safetensors", lambda data: b"\0" * len(data), "damaged"),
        ("document_ids.safetensors", lambda data: b"", "damaged"),
        ("row_characters.safetensors", None, "does not exist"),
        ("names.json", lambda data: data.replace(b"work 1", b"\xff"), "damaged"),
        ("names.json", lambda data: data.replace(b"tokenizer", b"tokenizr"), "tokenizer"),
        ("names.json", lambda data: data[:50], "damaged"),
    ],
)
def test_a_damaged_file_is_named(documents, tokenizer, tmp_path, file, change, says):
    tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "train")
    damaged = tmp_path / "train" / file
    data = damaged.read_bytes()
    damaged.unlink()
    if change is not None:
        damaged.write_bytes(change(data))
    with pytest.raises((ValueError, FileNotFoundError), match=f"{says}.*tokenize the corpus again"):
        LabelledTokens.load(tmp_path / "train")


def test_works_are_put_aside_whole_and_on_one_side_only(documents, tokenizer, tmp_path):
    options = {"val_fraction": 0.2, "seed": 1}
    tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "train", tmp_path / "val", **options)
    train, val = (LabelledTokens.load(tmp_path / side) for side in ("train", "val"))
    assert not set(train.document_names) & set(val.document_names)
    share = len(val.document_names) / (len(train.document_names) + len(val.document_names))
    assert 0.1 < share < 0.3
    for side in (train, val):
        own = [document for document in documents if document.name in side.document_names]
        assert_same(side, tokenize(own, tokenizer, 16))
    tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "a", tmp_path / "b", val_fraction=0.2, seed=2)
    assert LabelledTokens.load(tmp_path / "b").document_names != val.document_names


@pytest.mark.parametrize("at", [1, 3])
def test_stream_tokens_resumes_without_tokenizing_again(documents, tokenizer, tmp_path, monkeypatch, at):
    import models.streaming

    encode, encoded = models.streaming.encode_documents, []

    def counted(batch, *arguments):
        encoded.append(len(batch))
        return encode(batch, *arguments)

    def stop(done, total, note):
        if len(encoded) >= 2 * at:
            raise KeyboardInterrupt

    monkeypatch.setattr("models.streaming.encode_documents", counted)
    paths, options = (tmp_path / "train", tmp_path / "val"), {"val_fraction": 0.3}
    tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "a", tmp_path / "b", **options)
    whole, encoded[:] = list(encoded), []
    with pytest.raises(KeyboardInterrupt):
        tokenize_stream(iter(documents), tokenizer, 16, *paths, **options, progress=stop)
    assert not paths[0].exists()
    with open(unfinished_folder(paths[0]) / "new" / "tokens.safetensors", "ab") as file:  # a kill may leave it
        file.write(b"half a row")
    tokenize_stream(iter(documents), tokenizer, 16, *paths, **options)
    assert encoded == whole
    for path, other in zip(paths, "ab", strict=True):
        assert files_of(path) == files_of(tmp_path / other)


def test_a_kill_between_the_sides_loses_one_batch_at_most(documents, tokenizer, tmp_path, monkeypatch):
    from models.streaming import TokenWriter

    paths, append, calls = (tmp_path / "train", tmp_path / "val"), TokenWriter.append, []

    def killed(self, *arguments):
        calls.append(self)
        if len(calls) == 6:
            raise KeyboardInterrupt
        append(self, *arguments)

    monkeypatch.setattr(TokenWriter, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        tokenize_stream(iter(documents), tokenizer, 16, *paths, val_fraction=0.3)
    monkeypatch.setattr(TokenWriter, "append", append)
    tokenize_stream(iter(documents), tokenizer, 16, *paths, val_fraction=0.3)
    tokenize_stream(iter(documents), tokenizer, 16, tmp_path / "a", tmp_path / "b", val_fraction=0.3)
    for path, other in zip(paths, "ab", strict=True):
        assert files_of(path) == files_of(tmp_path / other)


def test_too_little_text_leaves_nothing(tokenizer, tmp_path):
    short = [Document("a cat", (), "texts", "one")]
    with pytest.raises(ValueError, match="the text for train gives less than one row of tokens"):
        tokenize_stream(iter(short), tokenizer, 64, tmp_path / "train")
    with pytest.raises(ValueError, match=r"val_fraction=0.5 must be in \[0, 1\), with a folder"):
        tokenize_stream(iter(short), tokenizer, 64, tmp_path / "train", val_fraction=0.5)
    with pytest.raises(ValueError, match="n_ctx=1"):
        tokenize_stream(iter(short), tokenizer, 1, tmp_path / "train")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def rows():
    return "".join(json.dumps({"text": text}) + "\n" for text in texts(40)).encode()


def jsonl_texts(*paths: object) -> list[str]:
    return [document.text for document in load_documents(CorpusConfig(source="jsonl", paths=tuple(map(str, paths))))]


def test_compressed_files_and_addresses_are_read_as_others(rows, tmp_path):
    for name, data in {"a.jsonl": rows, "a.jsonl.gz": gzip.compress(rows), "a.jsonl.bz2": bz2.compress(rows)}.items():
        (tmp_path / name).write_bytes(data)
    plain = jsonl_texts(tmp_path / "a.jsonl")
    assert plain == texts(40)
    (tmp_path / "a.jsonl.zst").write_bytes(pytest.importorskip("zstandard").compress(rows))
    assert jsonl_texts(tmp_path / "a.jsonl.zst") == plain
    assert jsonl_texts(tmp_path / "a.jsonl.gz") == jsonl_texts(tmp_path / "a.jsonl.bz2") == plain
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {"/texts/0.jsonl": rows, "/texts/1.jsonl.gz": gzip.compress(rows), "/texts/b.txt": b"a text of its own"}
    )
    assert jsonl_texts("memory://texts/0.jsonl") == plain
    assert jsonl_texts("memory://texts/*.jsonl*") == 2 * plain
    read = load_documents(CorpusConfig(source="files", paths=("memory://texts/b.txt",)))
    assert [document.text for document in read] == ["a text of its own"]
    assert read[0].name == "memory:///texts/b.txt"


@pytest.mark.parametrize(
    "address, message",
    [
        ("memory://texts/none.jsonl", "none.jsonl does not exist"),
        ("memory://texts/none-*.jsonl", r"none-\*.jsonl does not exist"),
        ("nothing://bucket/a.jsonl", "nothing"),
    ],
)
def test_an_address_that_cannot_be_read_is_one_line(address, message, tmp_path, capsys, tiny_run):
    command = ["tokenize", address, "--model", str(tiny_run.path), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)
    assert not list(tmp_path.iterdir())


def test_a_read_that_fails_is_named_in_a_line(rows, monkeypatch):
    def fail(*_):
        raise TimeoutError("too slow")

    fsspec.filesystem("memory").pipe({"/texts/c.jsonl.gz": gzip.compress(rows)})
    monkeypatch.setattr(MemoryFile, "read", fail)
    with pytest.raises(OSError, match="c.jsonl.gz cannot be read: TimeoutError: too slow"):
        jsonl_texts("memory://texts/c.jsonl.gz")


def test_half_a_compressed_file_is_named(rows, tmp_path):
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(rows)[:-20])
    with pytest.raises(OSError, match="a.jsonl.gz cannot be read: EOFError"):
        jsonl_texts(file)


def test_stream_tokens_reads_documents_lazily(rows, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(rows + b"no JSON\n")
    documents = stream_documents(CorpusConfig(source="jsonl", paths=(str(tmp_path / "a.jsonl"),)))
    assert [next(documents).text for _ in range(40)] == texts(40)
    with pytest.raises(ValueError, match="a.jsonl:41 is not JSON"):
        next(documents)


def test_memory_does_not_grow_with_the_text(tmp_path):
    """Memory stays flat while 2.5 million tokens are made and when they are opened."""
    script = """
import sys
from pathlib import Path
from models.documents import Document
from models import streaming
from models.streaming import tokenize_stream
from models.tokenizer import Tokenizer
from models.tokens import LabelledTokens

streaming._CHARACTERS_AT_ONCE = 100_000

def documents(n):
    for i in range(n):
        yield Document(f"{i:09d} " * 199 + f"{i}", (), "numbers", f"{i}")

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

tokenizer = Tokenizer.train_characters(["0123456789 "])
highest = []
tokenize_stream(documents(1250), tokenizer, 128, sys.argv[1] + "/second", progress=lambda *a: highest.append(peak()))
tokens = LabelledTokens.load(sys.argv[1] + "/second").tokens
assert tokens.numel() > 2_400_000, tokens.shape
mapped, early, late = peak() - highest[-1], max(highest[:10]), max(highest[10:])
print(late - early, mapped)
"""
    run = run_python(script, tmp_path)
    assert run.returncode == 0, run.stderr
    grown, mapped = map(float, run.stdout.split())
    assert grown < 10 and mapped < 10, "the tokens alone take 10 MB"


def test_a_run_streams_its_text(tmp_path):
    """Through to the scan; its text is read anew where a file of it is another, which its size and time tell."""
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in 6 * TEXTS))
    write_foreign("gpt2", tmp_path / "model")
    sections = {
        "corpus": {"source": "jsonl", "paths": [str(tmp_path / "*.jsonl")], "stream": True, "val_fraction": 0.3},
        "model": {"source": "huggingface", "name": str(tmp_path / "model"), "n_ctx": 16},
        "harvest": {"hook_name": "blocks.1.hook_resid_post", "tokens": 1_000, "batch_size": 16},
        "sae": {"architecture": "topk", "d_sae": 8, "k": 2, "tokens": 1_000, "batch_size": 64},
    }
    run = run_stages(RunConfig.from_dict(sections), tmp_path / "run", until="features")
    assert run.results("corpus")["train"]["tokens"] == run.train_tokens.tokens.numel() > 0
    assert run.val_tokens.tokens.numel() > 0 and not set(run.val_tokens.document_names) & set(
        run.train_tokens.document_names
    )
    assert run.features.meta["n_tokens"] == len(run.store)
    before = run.manifest("corpus")
    assert run_stages(run.config, run.path, until="corpus").manifest("corpus") == before
    (tmp_path / "more.jsonl").write_text(json.dumps({"text": "one more " * 30}) + "\n")
    assert run_stages(run.config, run.path, until="corpus", redo=True).manifest("corpus") != before


def test_a_run_that_streams_nothing_does_not_say_so():
    """Runs that were made before the option was there open as before."""
    assert "stream" not in RunConfig.from_dict(SECTIONS).to_dict()["corpus"]
    streamed = {"corpus": {"source": "jsonl", "paths": ["a.jsonl"], "stream": True}}
    config = RunConfig.from_dict(streamed)
    assert config.to_dict()["corpus"]["stream"] is True and RunConfig.from_dict(config.to_dict()) == config


def test_a_stream_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stream = true is for text of your own"):
        CorpusConfig(stream=True)
    (tmp_path / "a.jsonl").write_text('{"text": "a word"}')
    corpus = {"source": "jsonl", "paths": [str(tmp_path / "a.jsonl")], "stream": True}
    with pytest.raises(ValueError, match="stream = true needs a pretrained model"):
        run_stages(RunConfig.from_dict({**SECTIONS, "corpus": corpus}), tmp_path / "run", until="corpus")
