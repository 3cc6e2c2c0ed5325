"""Small files and slips that would take much memory, or be mistaken for something else, are refused by name."""

import json

import numpy as np
import pytest
import torch

from interp import ActivationStore, FeatureStore, ScanConfig, SparseCodes, TopKConfig, load_sae, rank_codes, train_sae
from interp.checks.arguments import check_latents
from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.storage.files import digest_json, read_json, write_tensors
from models.checkpoints import drop_rows_after
from models.corpus import CorpusConfig, load_documents
from models.layers import TransformerConfig
from models.text_files import matching_files
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.tokens import LabelledTokens
from models.transformer import Transformer

SMALL = TransformerConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=8, d_vocab=20, n_ctx=8)
TOKENS = torch.randint(20, (8, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def store(tmp_path):
    return ActivationStore.from_batches(torch.randn(64, 8), tmp_path / "store")


def codes_of(tokens, d_sae=4):
    return SparseCodes.from_dense(torch.rand(tokens.numel(), d_sae))


@pytest.mark.parametrize(
    "place, value, said",
    [
        ("n_rows", 10**15, "n_rows = 1000000000000000, but its shards have 64 rows"),
        ("n_rows", 64.5, "n_rows=64.5 must be a whole number"),
        ("n_ctx", 7, "n_ids = 64 is not a multiple of n_ctx = 7"),
        ("dtype", "int8", "dtype = 'int8' is none of"),
        ("hooks.activations.d", 10**9, "shard-00000.safetensors is listed with"),
        ("hooks.activations.d", -1, "hooks.activations.d"),
        ("hooks.activations.variance", float("nan"), "hooks.activations.variance"),
        ("hooks", {}, "hooks"),
        ("shards.0.file", "../../x", "shards.0.file"),
        ("shards.0.sha256", {}, "sums of"),
        ("files", {}, "it lists no statistics.safetensors"),
        ("excluded", None, "excluded"),
    ],
)
def test_a_manifest_that_does_not_fit_its_store_is_refused(store, place, value, said):
    file = store.path / "manifest.json"
    manifest = json.loads(file.read_text())
    *outer, last = place.split(".")
    inner = manifest
    for key in outer:
        inner = inner[int(key)] if key.isdigit() else inner[key]
    inner[last] = value
    del manifest["sha256"]
    file.write_text(json.dumps({**manifest, "sha256": digest_json(manifest)}))
    with pytest.raises(ValueError, match="manifest.json is damaged, .*harvest the store again") as error:
        ActivationStore.open(store.path)
    assert said in str(error.value)


def test_ids_beyond_any_vocabulary_are_refused_before_they_are_counted(tmp_path):
    tokens = TOKENS.clone()
    tokens[3, 5] = 2**30
    with pytest.raises(ValueError, match="token id 1073741824 occurs, which is larger than any vocabulary: pass vocab"):
        FeatureStore.from_codes(tokens, codes_of(tokens), tmp_path / "features")
    with pytest.raises(ValueError, match="token id 1073741824 occurs, which is larger than any vocabulary"):
        rank_codes(tokens, codes_of(tokens))
    for wrong, said in ((TOKENS.float(), "torch.float32 must be integers"), (TOKENS - 5, "token id -5 occurs")):
        with pytest.raises(ValueError, match=said):
            FeatureStore.from_codes(wrong, codes_of(wrong), tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_a_decoder_that_is_not_finite_is_refused(tmp_path):
    W_dec = torch.randn(4, 8)
    W_dec[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"W_dec \(4, 8\) contains NaN or infinity"):
        FeatureStore.from_codes(TOKENS, codes_of(TOKENS), tmp_path / "features", W_dec=W_dec)


@pytest.mark.parametrize("name", ["d_sae", "n_ctx"])
@pytest.mark.parametrize("value", [0, 10**15, "x"])
def test_numbers_of_a_scan_are_checked_when_it_is_opened(tmp_path, name, value):
    path = FeatureStore.from_codes(TOKENS, codes_of(TOKENS), tmp_path / "features").path
    meta = json.loads((path / "meta.json").read_text())
    for file in path.glob("manifest.json"):
        file.unlink()
    (path / "meta.json").write_text(json.dumps(meta | {name: value}))
    with pytest.raises(ValueError, match=rf"meta.json is damaged, {name}|by meta.json of {value}"):
        assert FeatureStore(path).tokens.shape[1] == FeatureStore(path).n_ctx


def test_counts_of_what_is_kept_and_of_nulls_have_an_end():
    with pytest.raises(ValueError, match="n_coactivations=2147483648 must be at most 10000"):
        ScanConfig(n_coactivations=2**31)
    with pytest.raises(ValueError, match="n_top=2.5 must be a whole number"):
        ScanConfig(n_top=2.5)
    for given in ({"n_shifts": 10**7}, {"seed": 2**64}, {"n_shifts": 1.5}, {"seed": True}):
        with pytest.raises(ValueError, match="must be (a whole number|at most|below)"):
            rank_codes(TOKENS, codes_of(TOKENS), **given)


@pytest.mark.parametrize("name, value", [("d_vocab", 10**12), ("n_layers", 10**9), ("d_mlp", 10**9)])
def test_a_model_larger_than_its_weights_is_refused_before_it_is_made(tmp_path, name, value):
    Transformer(SMALL).save(tmp_path)
    assert SMALL.n_parameters == sum(weight.numel() for weight in Transformer(SMALL).parameters())
    config = json.loads((tmp_path / "config.json").read_text()) | {name: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="config.json describes .* parameters, weights.safetensors holds 2,252"):
        Transformer.load(tmp_path)
    with pytest.raises(ValueError, match="a model of .* parameters needs .* GB of memory"):
        Transformer(TransformerConfig(**config))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = Transformer(SMALL)
    with torch.no_grad():
        model.W_E[3, 4] = torch.inf
    model.save(tmp_path)
    with pytest.raises(ValueError, match=r"embed.W_E of .*weights.safetensors holds values that are not finite"):
        Transformer.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"n": ' + "9" * 5000 + "}", "[" * 10**5, "\x00"])
def test_json_that_is_none_names_the_file_and_the_remedy(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json is damaged: it is not (valid JSON|a JSON object).*: do"):
        read_json(tmp_path / "config.json", "do this")
    (tmp_path / "metrics.jsonl").write_text(f"{text}\n")
    with pytest.raises(ValueError, match="metrics.jsonl is damaged"):
        drop_rows_after(tmp_path / "metrics.jsonl", 5)


def test_a_tokenizer_that_is_none_names_its_file(tmp_path):
    tokenizer = Tokenizer.train_bpe(["the cat sat on the mat"], 260)
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    good = json.loads(file.read_text())
    good["padding"] = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None}
    good["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
    file.write_text(json.dumps(good))
    assert len(Tokenizer.load(tmp_path).encode("cat", add_special_tokens=False)) <= 3, (
        "a padded text would take memory without end"
    )
    vocab = good["model"]["vocab"]
    for damage in ({"x y": 5}, {"a": -1}, {"zz": 10**6}, {"\u4e00": vocab.pop("z")}):
        file.write_text(json.dumps(good | {"model": good["model"] | {"vocab": vocab | damage}}))
        with pytest.raises(ValueError, match="tokenizer.json"):
            Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "name, change",
    [
        ("tokens", lambda x: x.float()),
        ("tokens", lambda x: x - 5),
        ("tokens", lambda x: x[0]),
        ("label_bits", lambda x: x[:1]),
        ("document_ids", lambda x: x + 7),
        ("row_characters", lambda x: x[:1]),
    ],
)
def test_tokens_whose_parts_do_not_fit_are_refused(tmp_path, name, change):
    documents = load_documents(CorpusConfig(source="dna", characters=5000))
    labelled = tokenize(documents, Tokenizer.train_characters(d.text for d in documents), 16)
    labelled.save(tmp_path / "whole")
    assert len(LabelledTokens.load(tmp_path / "whole")) == len(labelled)
    tensors = {key: getattr(labelled, key) for key in ("tokens", "label_bits", "document_ids", "row_characters")}
    kept = ("label_names", "document_names", "tokenizer")
    names = json.dumps({name: getattr(labelled, name) for name in kept})
    write_tensors(tmp_path / "train", tensors | {name: change(tensors[name])}, {"names": names})
    with pytest.raises(ValueError, match="train holds no labelled tokens .*tokenize the corpus again"):
        LabelledTokens.load(tmp_path / "train")


def test_files_have_the_umasks_mode_and_no_link_is_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    (tmp_path / "weights.safetensors.tmp").symlink_to(victim)
    Transformer(SMALL).save(tmp_path)
    Tokenizer.train_bpe(["the cat"], 260).save(tmp_path)
    (tmp_path / "plain").touch()
    modes = {file.name: file.stat().st_mode for file in tmp_path.iterdir()}
    assert set(modes.values()) == {modes["plain"]} and victim.read_text() == "years of work"
    assert not list(tmp_path.glob("*.tmp"))


def test_devices_are_no_text(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text("text")
    assert [path.name for path in matching_files(f"{tmp_path}/[0-2].txt")] == ["0.txt", "1.txt", "2.txt"]
    assert matching_files("/dev/zero") == []


def test_a_damaged_result_of_a_training_is_named(store, tmp_path):
    config = TopKConfig(d_sae=8, k=2, tokens=64, batch_size=64, device="cpu")
    train_sae(store, "activations", config, tmp_path / "sae")
    for damage in (b"\xd5noise", b"[1, 2"):
        (tmp_path / "sae/results.json").write_bytes(damage)
        with pytest.raises(ValueError, match="results.json is damaged"):
            train_sae(store, "activations", config, tmp_path / "sae")


@pytest.mark.parametrize("n_windows", [float("nan"), 8.0, True, "3"])
def test_what_is_no_whole_number_is_not_at_least_anything(n_windows):
    with pytest.raises(ValueError, match=f"n_windows={n_windows!r} must be a whole number"):
        check_at_least(1, n_windows=n_windows)


def test_latents_are_named_by_their_numbers_in_a_list_an_array_or_a_tensor_and_not_by_a_mask():
    for latents in ([3, 1, 3], np.array([3, 1, 3]), torch.tensor([3, 1, 3])):
        assert check_latents(latents, 4) == [3, 1]
    for mask in (np.array([True, False]), torch.tensor([True, False])):
        with pytest.raises(ValueError, match="latents is a mask: give the numbers of its latents"):
            check_latents(mask, 4)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/y"])
def test_the_name_of_a_dictionary_that_is_too_long_for_a_file_is_one_line(name):
    with pytest.raises(InterpError, match="x… can be neither a folder nor a name: File name too long"):
        load_sae(name)
