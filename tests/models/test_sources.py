"""A source of text or of models is one registered function; configuration, messages and help follow."""

import json
from types import SimpleNamespace

import pytest
import torch

from interp import TopKConfig, effects, harvest, scan_features, train_sae
from interp.cli import main
from interp.pipeline.config import RunConfig
from interp.pipeline.model_section import model_of_folder
from interp.pipeline.stages import STAGES
from interp.runtime.hooked_model import missing_members
from interp.storage.files import digest_file
from models import load_model, load_tokenizer
from models.corpus import CorpusConfig, load_documents, source_of
from models.documents import Document
from models.pretrained import model_source_of, named_model
from models.sources import MODEL_SOURCES, TEXT_SOURCES, model_source, source_help, text_source
from models.tokenizer import Tokenizer
from models.transformer import Transformer, TransformerConfig
from tests.foreign_models import foreign_model, foreign_tokenizer, write_foreign, write_gguf


@pytest.fixture
def registered():
    """Both registries, put back afterwards, with a source of text and one of models that a user might add."""
    texts, models = dict(TEXT_SOURCES), dict(MODEL_SOURCES)

    @text_source(fields=("paths",), takes="at least one diary", owns=lambda place: place.endswith(".diary"))
    def diary(paths, size):
        """Diaries, a day at a time. Blank days are skipped."""
        for path in paths:
            yield Document(f"dear {path}"[:size], (), "diary", path)

    @model_source(takes="a number of layers")
    def layers(name, *, dtype, revision, tokenizer):
        """A model with random weights."""
        sizes = {"d_model": 8, "n_heads": 2, "d_mlp": 16, "d_vocab": 260, "n_ctx": 8}
        model = Transformer(TransformerConfig(n_layers=int(name), **sizes))
        model.tokenizer = tokenizer or Tokenizer.train_bpe(["the cat"], 260)
        return model

    yield
    for registry, before in ((TEXT_SOURCES, texts), (MODEL_SOURCES, models)):
        registry.clear()
        registry.update(before)


def test_a_name_that_another_source_has_is_refused(registered):
    with pytest.raises(ValueError, match="the source of text 'diary' is already registered: choose another name"):

        @text_source(fields=("paths",), takes="at least one diary")
        def diary(paths, size):
            """Other diaries."""


@pytest.mark.parametrize("name", ["json", "french"])
def test_the_name_of_a_generated_source_is_taken(registered, name):
    def read(rng, size):
        """My own."""

    read.__name__ = read.__qualname__ = name
    with pytest.raises(ValueError, match=f"the source of text '{name}' is already registered: choose another name"):
        text_source()(read)


def test_a_name_that_means_something_else_in_a_configuration_is_refused(registered):
    with pytest.raises(ValueError, match="the source of text cannot be called 'mixture'"):

        @text_source(fields=("paths",), takes="a file")
        def mixture(paths, size):
            """My own."""

    with pytest.raises(ValueError, match="the source of models cannot be called 'train'"):

        @model_source("train", takes="a name")
        def mine(name, *, dtype, revision, tokenizer):
            """My own."""

    assert "mixture" not in TEXT_SOURCES and "train" not in MODEL_SOURCES


def test_shares_are_of_the_mixture_alone():
    with pytest.raises(ValueError, match="shares is not read by source = 'python': set source = 'mixture'"):
        CorpusConfig(source="python", shares={"python": 0.5, "json": 0.5})
    assert CorpusConfig(shares={"python": 0.5, "json": 0.5}).mixture == {"python": 0.5, "json": 0.5}


def test_a_registered_text_source_is_read_checked_and_found_by_its_ending(registered):
    documents = load_documents(CorpusConfig(source="diary", paths=("a.diary",)))
    assert [document.text for document in documents] == ["dear a.diary"]
    assert source_of(["a.diary", "b.diary"]) == "diary"
    with pytest.raises(ValueError, match=r"a.diary \(diary\) and b.txt \(files\) are of different kinds"):
        source_of(["a.diary", "b.txt"])
    with pytest.raises(ValueError, match="source 'diary' needs paths: at least one diary"):
        CorpusConfig(source="diary")
    with pytest.raises(ValueError, match="one of mixture, .*, diary"):
        CorpusConfig(source="dairy")


def test_a_run_checks_a_registered_source_and_notices_that_its_files_changed(registered, tmp_path):
    """Those that `paths` names, unless the source names its own."""

    def check(config):
        raise ValueError(f"{config.name} is no archive")

    @text_source(fields=("name",), takes="a folder", files=lambda config: tmp_path.glob("*.box"), check=check)
    def archive(name, size):
        """An archive."""

    (tmp_path / "a.box").write_text("1")
    (tmp_path / "a.diary").write_text("monday")
    shares = {"diary": 0.3, "archive": 0.3, "french": 0.4}
    corpus = {"shares": shares, "paths": [str(tmp_path / "*.diary")], "name": "mine"}
    config = RunConfig.from_dict({"corpus": corpus})
    files = {name: digest_file(tmp_path / name) for name in ("a.box", "a.diary")}
    found = STAGES["corpus"].outside_inputs(SimpleNamespace(config=config))["files"]
    assert found == {str(tmp_path / name): digest for name, digest in files.items()}
    with pytest.raises(ValueError, match="mine is no archive"):
        STAGES["corpus"].check(config)
    gone = RunConfig.from_dict({"corpus": {"source": "diary", "paths": [str(tmp_path / "gone.diary")]}})
    with pytest.raises(FileNotFoundError, match="gone.diary does not exist"):
        STAGES["corpus"].check(gone)


def test_a_source_of_ones_own_has_fields_of_its_own(registered):
    @text_source(fields=("query", "field"), takes="a question")
    def database(query, field, size):
        """Rows."""
        yield Document(f"{query} {field}", (), "database", query)

    corpus = {"source": "database", "options": {"query": "all"}, "field": "body"}
    config = RunConfig.from_dict({"corpus": corpus})
    assert [document.text for document in load_documents(config.corpus)] == ["all body"]
    assert RunConfig.from_dict(config.to_dict()) == config and "options" not in RunConfig().to_dict()["corpus"]
    with pytest.raises(ValueError, match="source 'database' needs options.query: a question"):
        CorpusConfig(source="database")
    for wrong in ("querry", "field"):
        with pytest.raises(ValueError, match=f"options has '{wrong}', which source = 'database' does not read there"):
            CorpusConfig(source="database", options={"query": "all", wrong: "x"})


def test_a_run_whose_models_source_is_not_registered_says_so(tmp_path):
    (tmp_path / "pretrained.json").write_text(
        json.dumps({"source": "mine", "name": "x", "revision": None, "dtype": "auto"})
    )
    for load in (load_model, model_of_folder):
        with pytest.raises(ValueError, match="names a model of the source 'mine', which nothing registered: import"):
            load(tmp_path)
    (tmp_path / "weights").mkdir()
    assert named_model(tmp_path).source == "huggingface", "its weights lie in the run"


def test_a_registered_model_source_is_loaded_and_checked(registered):
    assert load_model("layers:3").n_layers == 3
    config = RunConfig.from_dict({"model": {"source": "layers", "name": "2"}})
    assert config.model.pretrained().n_layers == 2
    with pytest.raises(ValueError, match="source 'layers' needs name: a number of layers"):
        RunConfig.from_dict({"model": {"source": "layers"}})


def from_lens(folder, monkeypatch):
    """Load TransformerLens's form of a model on disk, in place of one that it would fetch by a name."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_foreign("gpt2", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    inner, boot = AutoModelForCausalLM.from_pretrained(folder), TransformerBridge.boot_transformers
    monkeypatch.setattr(
        TransformerBridge,
        "boot_transformers",
        lambda name, revision: boot(str(folder), hf_model=inner, tokenizer=tokenizer),
    )
    return load_model("transformer_lens:gpt2")


def from_gguf_file(folder, monkeypatch):
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    tokenizer = foreign_tokenizer("gpt2")
    write_gguf(foreign_model("llama", len(tokenizer), head_dim=8), tokenizer, folder / "tiny.gguf")
    return load_model(folder / "tiny.gguf")


def from_run(folder, monkeypatch):
    tokenizer = Tokenizer.train_bpe(["the cat"], 260)
    config = TransformerConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=16, d_vocab=tokenizer.vocab_size, n_ctx=8)
    Transformer(config).save(folder)
    tokenizer.save(folder / "tokenizer")
    return load_model(folder)


LOADED = {
    "huggingface": lambda folder, monkeypatch: load_model(write_foreign("llama", folder)),
    "gguf": from_gguf_file,
    "transformer_lens": from_lens,
    "interp": from_run,
}


@pytest.mark.parametrize("source", MODEL_SOURCES)
def test_the_model_of_each_source_offers_what_is_read_of_it(source, tmp_path, monkeypatch):
    model = LOADED[source](tmp_path, monkeypatch)
    assert not missing_members(model)
    ids = torch.arange(12).view(2, 6)
    assert model(ids).shape == (2, 6, model.d_vocab) and model.n_ctx >= 6
    assert model.W_U.shape == (model.d_model, model.d_vocab) and isinstance(model.final_norm, torch.nn.Module)
    assert all(0 <= token < model.d_vocab for token in model.special_ids)
    assert model.tokenizer.decode(model.tokenizer.encode("the cat")).strip() == "the cat"
    hook = f"blocks.{model.n_layers - 1}.hook_resid_post"
    assert hook in model.hook_dict
    store = harvest(model, ids, [hook], tmp_path / "store")
    sae = train_sae(store, hook, TopKConfig(d_sae=4, k=2, tokens=24, batch_size=12))
    features = scan_features(sae, store, hook, tmp_path / "features", model=model)
    assert not features.meta["logit_effects"].startswith("no logit effects") and features.has_vocab
    latent = int(features.column("n_active").argmax())
    assert effects.steer(model, hook, sae, features, {latent: 2.0}, ids[:1], n_tokens=1).shape == (1, 7)


def test_a_model_without_what_is_read_of_it_is_refused(registered):
    @model_source(takes="anything")
    def bare(name, *, dtype, revision, tokenizer):
        """A module alone."""
        return torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="'bare' gave a Linear without hook_dict, tokenizer, special_ids, n_ctx"):
        load_model("bare:x")


def test_help_lists_what_is_registered(registered, capsys):
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "diary            Diaries, a day at a time\n" in shown
    assert "layers           A model with random weights" in shown


def test_source_help_lists_similar_sources_together():
    lines = source_help(TEXT_SOURCES).splitlines()
    assert len(lines) < len(TEXT_SOURCES) and max(map(len, lines)) <= 120
    assert any("dna, " in line and "latex: values in this format" in line for line in lines)


@pytest.mark.parametrize(
    ("paths", "source"),
    [
        (["a.jsonl", "b.jsonl"], "jsonl"),
        (["a.jsonl.gz", "b.jsonl.zst", "c.jsonl.bz2", "d.jsonl.xz"], "jsonl"),
        (["a.txt"], "files"),
        ([], "files"),
    ],
)
def test_files_are_read_by_their_ending(paths, source):
    assert source_of(paths) == source


def test_a_place_is_of_the_source_that_owns_it(tmp_path, monkeypatch):
    Transformer(TransformerConfig(n_layers=1, d_model=8, n_heads=2, d_mlp=8, d_vocab=9)).save(tmp_path / "model")
    (tmp_path / "run.toml").touch()
    write_foreign("gpt2", tmp_path / "foreign")
    for place, source in {
        str(tmp_path): "interp",
        str(tmp_path / "model"): "interp",
        str(tmp_path / "foreign"): "huggingface",
        "gpt2": "huggingface",
        "somewhere/model.gguf": "gguf",
    }.items():
        assert model_source_of(place) == (source, place)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_source_of("~/model") == ("interp", str(tmp_path / "model"))
    assert model_source_of("huggingface:~/foreign") == ("huggingface", str(tmp_path / "foreign"))
    assert model_source_of("transformer_lens:gpt2") == ("transformer_lens", "gpt2")
    assert model_source_of("strange:gpt2") == ("huggingface", "strange:gpt2")


def test_the_tokenizer_of_a_run_of_a_model_and_of_a_folder(tmp_path):
    ours = Tokenizer.train_bpe(["the cat"], 260)
    ours.save(tmp_path / "corpus" / "tokenizer")
    Transformer(TransformerConfig(n_layers=1, d_model=8, n_heads=2, d_mlp=8, d_vocab=260)).save(tmp_path / "model")
    (tmp_path / "run.toml").touch()
    for place in (tmp_path, tmp_path / "model", tmp_path / "corpus" / "tokenizer"):
        assert load_tokenizer(place).digest == ours.digest
    folder = write_foreign("gpt2", tmp_path / "foreign")
    assert load_tokenizer(folder).digest == load_model(folder).tokenizer.digest
    assert load_tokenizer(f"huggingface:{folder}").digest == load_tokenizer(folder).digest
    assert load_tokenizer(f"interp:{tmp_path}").digest == ours.digest
    (tmp_path / "other" / "empty").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="tokenizer.json does not exist"):
        load_tokenizer(tmp_path / "other" / "empty")
