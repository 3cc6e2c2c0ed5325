"""Models from elsewhere through `load_model`: the four families of `tests.foreign_models`."""

import copy
import json
import re
import struct
from itertools import product
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.modeling_outputs import CausalLMOutput

from interp.activations.harvesting import harvest
from interp.activations.hooks import Hook, check_trained_hook, hooks_of, mlp_hooks, resolve_hooks
from interp.activations.model_passes import weights_digest
from interp.activations.stream import ActivationStream
from interp.checks.errors import InterpError
from interp.evaluation.baselines import FixedDictionary
from interp.evaluation.quality import evaluate_dictionary
from models import load_model, load_tokenizer, loading
from models.from_transformers import _check_finite
from models.language_model import LanguageModel
from models.transformer import Transformer, TransformerConfig
from tests.foreign_models import (
    D_MLP,
    D_MODEL,
    FAMILIES,
    N_CTX,
    N_LAYERS,
    TEXTS,
    foreign_model,
    foreign_tokenizer,
    write_foreign,
    write_gguf,
)
from tests.forked import run_python
from tests.stored_rows import rows_of

NATIVE = {"gpt2": "transformer.h.{}", "neox": "gpt_neox.layers.{}"}
DOWN = {"gpt2": "mlp.c_proj", "neox": "mlp.dense_4h_to_h"}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return write_foreign(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def tokens(model):
    ids = [i for text in TEXTS for i in model.tokenizer.encode(text, add_special_tokens=False)]
    return torch.tensor(ids[: 6 * 20]).view(6, 20)


def test_a_foreign_model_gives_its_own_logits(model, tokens):
    with torch.no_grad():
        assert torch.equal(model(tokens), model.inner(tokens, use_cache=False).logits)
    assert (model.d_model, model.n_layers, model.d_vocab) == (D_MODEL, N_LAYERS, model(tokens).shape[-1])
    assert model.W_U.shape == (D_MODEL, model.d_vocab) and not model.training


def test_aliases_native_names_and_hidden_states_are_one(model, family, tokens, tmp_path):
    native = NATIVE.get(family, "model.layers.{}").format(1)
    hooks = ["blocks.1.hook_resid_post", native, "model.layers.1", "blocks.2.hook_resid_pre"]
    hooks += [f"{native}.input", "blocks.1.hook_resid_pre"]
    store = harvest(model, tokens, hooks, tmp_path, dtype="float32", batch_size=len(tokens))
    with torch.no_grad():
        hidden = model.inner(tokens, output_hidden_states=True).hidden_states
    assert store.hook_names == ("blocks.1.hook_resid_post", "blocks.2.hook_resid_pre", "blocks.1.hook_resid_pre")
    assert [store.name_of(hook) for hook in hooks[1:3]] == ["blocks.1.hook_resid_post"] * 2
    assert ActivationStream(model, tokens, [native]).name_of("model.layers.1") == "blocks.1.hook_resid_post"
    for n, hook in enumerate(hooks):
        rows = rows_of(store, hook)
        expected = hidden[2 if n < 4 else 1].flatten(0, 1)
        assert all(torch.equal(x, expected[i]) for i, x in rows.items()) and len(rows) == tokens.numel(), hook


def test_inputs_of_matrices_are_the_neurons_and_the_heads(model, family, tokens):
    """The inputs follow from the module's input by its formula, and its output matrix maps them to its output."""
    block = model.get_submodule("inner." + NATIVE.get(family, "model.layers.{}").format(1))
    seen = {}
    handle = block.mlp.register_forward_hook(lambda _, args, output: seen.update(into=args[0], out=output))
    with torch.no_grad():
        model(tokens)
        handle.remove()
        x, mlp = seen["into"], block.mlp
        if family == "gpt2":
            neurons = mlp.act(mlp.c_fc(x))
        elif family == "neox":
            neurons = torch.nn.functional.gelu(mlp.dense_h_to_4h(x))
        else:
            neurons = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
    native = f"{NATIVE.get(family, 'model.layers.{}').format(1)}.{DOWN.get(family, 'mlp.down_proj')}.input"
    found = capture_all(model, tokens, ["blocks.1.mlp.hook_post", native, "blocks.1.attn.hook_z"])
    torch.testing.assert_close(found["blocks.1.mlp.hook_post"], neurons)
    assert torch.equal(found[native], found["blocks.1.mlp.hook_post"]) and neurons.shape[-1] == D_MLP
    place = resolve_hooks(model, ["blocks.1.attn.hook_z"])["blocks.1.attn.hook_z"]
    assert place.side == "input" and place.module(found["blocks.1.attn.hook_z"]).shape[-1] == D_MODEL


def capture_all(model, tokens, names):
    from interp.activations.hooks import capture

    with torch.no_grad():
        return capture(model, tokens, resolve_hooks(model, names))


def test_what_blocks_write_adds_up(model, family, tokens):
    names = [f"blocks.1.hook_{kind}" for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    pre, attn_out, mlp_out, post = capture_all(model, tokens, names).values()
    torch.testing.assert_close(pre + attn_out + mlp_out, post)
    assert min(attn_out.norm(), mlp_out.norm()) > 0.01 * pre.norm()
    if family == "neox":  # attention and MLP side by side: there is no place between them
        assert "blocks.1.hook_resid_mid" not in model.hook_dict
    else:
        mid = capture_all(model, tokens, ["blocks.1.hook_resid_mid"])["blocks.1.hook_resid_mid"]
        torch.testing.assert_close(mid, pre + attn_out)


def test_a_model_and_its_hooks_are_shown_in_a_few_lines(model):
    assert len(repr(model)) < 240 and f"{len(model.hooks())} hooks" in repr(model)
    lines = repr(model.hooks()).splitlines()
    assert lines[0] == f"{len(model.hooks())} hooks:" and "  blocks.N.hook_resid_post    N = 0 to 2" in lines
    assert model.hooks() == list(model.hooks()) and len(lines) < 0.8 * len(model.hooks())


def test_every_hook_that_is_listed_can_be_harvested(model, tokens, tmp_path):
    store = harvest(model, tokens[:1, :4], model.hooks(), tmp_path)
    assert store.hook_names == tuple(model.hooks()) and store.hook_names[0] == "hook_embed"


def test_a_copy_is_a_model_of_its_own(model, tokens):
    twin = copy.deepcopy(model)
    assert weights_digest(twin) == weights_digest(model) == weights_digest(model.inner)
    inside = set(twin.modules())
    assert all(place.module in inside for place in resolve_hooks(twin, list(twin.hook_dict)).values())
    with torch.no_grad():
        next(twin.inner.parameters()).add_(1)
    assert weights_digest(twin) != weights_digest(model) and twin.tokenizer is model.tokenizer


def test_a_vocabulary_can_be_read_and_joins_to_the_text(model, family):
    strings = model.tokenizer.display()
    assert len(strings) == model.d_vocab and not any("�" in string for string in strings)
    for text in TEXTS[:5]:
        encoding = model.tokenizer.encode_batch([text])[0]
        shown = "".join(strings[i] for i in encoding.ids if "⟨" not in strings[i])
        assert shown.strip() == text.replace("水", "").strip() if family in ("llama", "gemma2") else shown == text
        assert model.tokenizer.decode(encoding.ids) == text
        assert not set(encoding.ids) & set(model.special_ids)
        starts, ends = encoding.offsets.T
        assert (starts[1:] >= starts[:-1]).all() and (ends[1:] >= ends[:-1]).all() and ends[-1] == len(text)
        for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            letters = strings[i].strip()  # a space that is put before a text covers what follows it
            assert "⟨" in letters or not letters or letters == text[start:end].strip()


def test_a_model_is_saved_and_read_back(model, tokens, tmp_path):
    model.save(tmp_path)
    again = load_model(tmp_path)
    assert weights_digest(again) == weights_digest(model) and again.tokenizer.digest == model.tokenizer.digest
    half = load_model(tmp_path, dtype="bfloat16")
    assert half.W_U.dtype == torch.bfloat16 and half.hooks() == model.hooks()
    with torch.no_grad():
        torch.testing.assert_close(half(tokens).float(), model(tokens), rtol=0.1, atol=0.3)


def test_bfloat16_is_warned_of_where_the_processor_emulates_it(tmp_path, monkeypatch, caplog):
    write_foreign("gpt2", tmp_path)
    loading._warn_of_emulation.cache_clear()
    monkeypatch.setattr(loading, "multiplies_bfloat16", lambda device: True)
    load_model(tmp_path, dtype="bfloat16")
    assert not caplog.records
    monkeypatch.setattr(loading, "multiplies_bfloat16", lambda device: False)
    load_model(tmp_path, dtype="float32")
    assert not caplog.records
    load_model(tmp_path, dtype="bfloat16")
    assert "dtype='float32'" in caplog.text
    caplog.clear()
    load_model(tmp_path, dtype="bfloat16")
    assert not caplog.records, "once in a process"


def test_a_gguf_file(tmp_path):
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    tokenizer = foreign_tokenizer("gpt2")
    written = foreign_model("llama", len(tokenizer), head_dim=8)
    write_gguf(written, tokenizer, tmp_path / "tiny.gguf")
    model = load_model(tmp_path / "tiny.gguf")
    ids = model.tokenizer.encode(TEXTS[0], add_special_tokens=False)
    assert ids == tokenizer(TEXTS[0])["input_ids"] and model.name == "tiny.gguf" and model.n_ctx == N_CTX
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor([ids])), written(torch.tensor([ids])).logits)
    model.save(tmp_path / "folder")
    assert weights_digest(load_model(tmp_path / "folder")) == weights_digest(model)


def test_a_revision_reaches_the_hub_or_is_refused(monkeypatch):
    from transformer_lens.model_bridge import TransformerBridge

    asked = {}
    monkeypatch.setattr(TransformerBridge, "boot_transformers", lambda name, **options: asked.update(options))
    monkeypatch.setattr("models.pretrained.from_object", lambda bridge, tokenizer: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="'transformer_lens' gave a Linear without hook_dict"):
        load_model("transformer_lens:gpt2", revision="step1000")
    assert asked == {"revision": "step1000"}
    with pytest.raises(ValueError, match="revision='step1000' is for a model on the Hugging Face hub"):
        load_model(torch.nn.Linear(2, 2), revision="step1000")


def test_a_name_is_refused_at_once_where_the_hub_is_out_of_reach(monkeypatch):
    """`transformers` asks again and again for half a minute, and prints each time."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def model_info(*_, **__):
        raise OSError("no route to it")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("it was asked"))
    with pytest.raises(InterpError, match=r"nobody/nothing cannot be loaded as a language model \(no route to it\)"):
        load_model("nobody/nothing")


def test_model_objects_of_both_libraries(model, family, folder, tokens):
    from transformer_lens.model_bridge import TransformerBridge

    raw = load_model(model.inner, tokenizer=model.tokenizer.inner)
    assert raw.hooks() == model.hooks() and raw.tokenizer.display() == model.tokenizer.display()
    inner = copy.deepcopy(model.inner)
    tokenizer = copy.deepcopy(model.tokenizer.inner)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    bridge = load_model(TransformerBridge.boot_transformers(str(folder), hf_model=inner, tokenizer=tokenizer))
    assert (bridge.d_model, bridge.n_layers, bridge.d_vocab) == (model.d_model, model.n_layers, model.d_vocab)
    names = [f"blocks.1.{kind}" for kind in ("hook_resid_post", "mlp.hook_post", "attn.hook_z", "hook_mlp_out")]
    theirs, ours = capture_all(bridge, tokens, names), capture_all(model, tokens, names)
    for name in names:  # what the two libraries call by one name is one thing
        torch.testing.assert_close(theirs[name].reshape(ours[name].shape), ours[name], rtol=1e-4, atol=1e-5)
    assert resolve_hooks(bridge, ["model.layers.1"])["model.layers.1"].module is bridge.hook_dict[names[0]]


@pytest.mark.parametrize(
    "hook, message",
    [
        ("blocks.1.hook_resid_pos", "no hook 'blocks.1.hook_resid_pos'; did you mean blocks.1.hook_resid_pos"),
        ("model.layers.1.mlp.down_proj.inputs", "did you mean .*model.layers.1.mlp.down_proj"),
        (
            "model.layers",
            "never reaches 'model.layers': choose a hook that fires; there are hook_embed, .*model.layers.0",
        ),
        ("model", r"hook 'model' \(LlamaModel\) returns a BaseModelOutputWithPast .*; there are hook_embed, .* …"),
        ("model.embed_tokens.input", r"\(Embedding\) is given \(1, 20\) for tokens \(1, 20\)"),
    ],
)
def test_errors_name_the_hook_and_the_nearest(tmp_path, hook, message):
    model = load_model(foreign_model("llama", 99))
    with pytest.raises(ValueError, match=message):
        harvest(model, torch.randint(99, (3, 20)), hook, tmp_path)


def test_tokens_beyond_the_model_are_named(tmp_path):
    raw = foreign_model("llama", 99)
    for model in (raw, load_model(raw)):
        with pytest.raises(ValueError, match="vocabulary has 99 tokens, but token id 99 occurs"):
            harvest(model, torch.arange(100).view(5, 20), "model.layers.1", tmp_path)
        with pytest.raises(ValueError, match=f"sequences of 65 tokens are longer than the model's context of {N_CTX}"):
            harvest(model, torch.zeros(1, 65, dtype=torch.int64), "model.layers.1", tmp_path)


def test_load_model_names_what_it_cannot_load_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + bytes(40))
    model = foreign_model("gpt2", 50)
    model.transformer.save_pretrained(tmp_path / "headless")
    cases = {
        "no/such-model": "no/such-model cannot be loaded as a language model",
        tmp_path / "nothing.gguf": "nothing.gguf does not exist",
        tmp_path / "nothing": "nothing does not exist: name a folder",
        "./nothing/here": "nothing/here does not exist: name a folder",
        tmp_path / "damaged.gguf": "damaged.gguf cannot be loaded",
        tmp_path / "empty": "config.json does not exist: name a folder that holds a model",
        tmp_path / "config": "config cannot be loaded as a language model",
        tmp_path / "headless": "headless has no tokenizer that can be read",
        torch.nn.Linear(2, 2): "Linear is not a model of Hugging Face or TransformerLens",
    }
    for source, message in cases.items():
        with pytest.raises((ValueError, OSError), match=message) as raised:
            load_model(source)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="device='cuda:99' does not exist on this machine"):
        load_model(model, device="cuda:99")
    with pytest.raises(ValueError, match="dtype='int8' must be 'auto', 'float32'"):
        load_model(model, dtype="int8")


def test_load_model_names_weights_that_are_not_finite(tmp_path):
    folder = write_foreign("gpt2", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "ln_1.weight" in name)
    tensors[name][3] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"model holds values that are not finite in .*{name}: fetch it again"):
        load_model(folder)


def test_weights_of_eight_bits_are_loaded_unchecked():
    eight = torch.nn.Parameter(torch.zeros(3).to(torch.float8_e4m3fn), requires_grad=False)
    _check_finite("model", torch.nn.ParameterList([eight]))


def test_load_model_names_a_folder_that_may_be_meant(tmp_path, monkeypatch):
    (tmp_path / "gpt2-tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"gpt2-tinny cannot be loaded .*: did you mean gpt2-tiny\?"):
        load_model("gpt2-tinny")


def test_load_model_refuses_a_config_larger_than_its_files_before_allocating(tmp_path, monkeypatch):
    """A GGUF file of a name alone is read with the sizes of a model of seven billion."""
    name = b"general.architecture"
    header = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", len(name)) + name
    (tmp_path / "none.gguf").write_bytes(header + struct.pack("<IQ", 8, 5) + b"llama")
    folder = write_foreign("gpt2", tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 1 << 15, "n_head": 4}))
    monkeypatch.setattr("torch.nn.Module.to_empty", lambda *_: pytest.fail("memory is taken"))
    for place in (tmp_path / "none.gguf", folder):
        with pytest.raises(ValueError, match=r"describes [\d,]+ weights, but its files have [\d,]+ bytes: fetch it"):
            load_model(place)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    folder = write_foreign("gpt2", tmp_path / "small")
    n_weights = sum(weight.numel() for weight in load_model(folder).parameters())
    monkeypatch.setattr("interp.checks.free_memory.free_memory", lambda: 3 * n_weights)
    assert load_model(folder, dtype="bfloat16").d_vocab
    with pytest.raises(ValueError, match=f"small with {n_weights:,} weights needs .* GB of memory, but only .* free"):
        load_model(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_load_model_names_a_damaged_file_in_one_line(tmp_path, file):
    folder = write_foreign("gpt2", tmp_path / "model")
    whole = (folder / file).read_bytes()
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    zeros = re.sub(rb": \d+", b": 0", whole) if file.endswith(".json") else bytes(len(whole))
    words = re.sub(rb": \d+", b': "x"', whole) if file.endswith(".json") else b"x" * 100
    for damaged in (b"", flipped, whole[: len(whole) // 2], b"null", b"[]", zeros, words):
        (folder / file).write_bytes(damaged)
        try:
            load_model(folder)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and folder.name in str(error), damaged[:9]


def test_a_model_without_a_longest_text_has_no_n_ctx():
    from transformers import XLNetConfig, XLNetModel

    config = XLNetConfig(d_model=8, n_layer=1, n_head=2, d_inner=8, vocab_size=20)
    assert config.max_position_embeddings == -1 and load_model(XLNetModel(config)).n_ctx is None


def test_the_first_positions_of_roberta_are_no_context(tmp_path):
    from transformers import RobertaConfig, RobertaForMaskedLM

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    inner = RobertaForMaskedLM(RobertaConfig(vocab_size=20, max_position_embeddings=12, **sizes))
    assert load_model(inner).n_ctx == 10  # it counts from 2, the padding's id and one
    for model, hook in ((load_model(inner), "blocks.0.hook_resid_post"), (inner, "roberta.encoder.layer.0")):
        assert len(harvest(model, torch.full((2, 10), 5), hook, tmp_path / hook)) == 20
        with pytest.raises(ValueError, match="sequences of 11 tokens are longer than the model's context of 10"):
            harvest(model, torch.full((2, 11), 5), hook, tmp_path / "other")


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Llama"])
def test_a_classifier_is_loaded_without_its_head(family, tmp_path):
    import transformers

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8} if family == "DistilBert" else sizes
    tokenizer = foreign_tokenizer("gpt2")
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **sizes)
    classifier = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    classifier.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, tokens = load_model(tmp_path), torch.arange(12).view(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[0], classifier.base_model(tokens)[0])


def test_a_bert_that_names_no_class_is_no_decoder(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = foreign_tokenizer("gpt2")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert type(load_model(tmp_path).inner) is BertForMaskedLM


def test_an_mlp_without_a_module_of_its_own_is_read_before_it():
    from transformers import BioGptConfig, BioGptForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = load_model(BioGptForCausalLM(BioGptConfig(vocab_size=20, **sizes)))
    assert mlp_hooks(model) == {f"blocks.{n}.hook_resid_mid": f"blocks.{n}.hook_mlp_out" for n in (0, 1)}
    assert "blocks.0.mlp.hook_post" in model.hook_dict and "blocks.0.mlp.hook_in" not in model.hook_dict


def test_a_text_that_begins_with_padding_is_refused_where_the_model_would_read_it(tmp_path):
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8, "word_embed_proj_dim": 8}
    inner = OPTForCausalLM(OPTConfig(vocab_size=20, pad_token_id=1, bos_token_id=2, eos_token_id=2, **sizes))
    text = torch.tensor([[2, 5, 6, 7, 8], [2, 9, 4, 1, 1], [1, 9, 4, 5, 1], [1, 1, 1, 1, 1]])
    left = torch.cat([text, torch.tensor([[1, 1, 5, 6, 7]])])
    for model, hook in ((load_model(inner), "blocks.0.hook_resid_post"), (inner, "model.decoder.layers.0")):
        assert len(harvest(model, text, hook, tmp_path / hook)) == 20
        with pytest.raises(ValueError, match=r"sequence 4 begins with padding \(id 1\), .* pad at the end"):
            harvest(model, left, hook, tmp_path / "left")
    inner.config.pad_token_id = 2  # as where the token that ends a text pads it too: it may divide two texts
    assert len(harvest(inner, left, "model.decoder.layers.0", tmp_path / "packed")) == 25


def test_a_model_of_hugging_face_is_loaded_without_transformer_lens():
    code = """
import sys
from transformers import GPT2Config, GPT2LMHeadModel
from models import load_model
load_model(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20)))
assert "transformer_lens" not in sys.modules
import models.transformer
assert "transformer_lens" in sys.modules
"""
    run_python(code, check=True, anew=("interp", "models", "transformer_lens"))


def test_the_longest_text_is_that_of_the_table_of_positions(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel, MptConfig, MptForCausalLM

    gpt2 = GPT2LMHeadModel(GPT2Config(n_ctx=8, n_positions=16, n_embd=8, n_layer=1, n_head=2, vocab_size=20))
    mpt = MptForCausalLM(MptConfig(d_model=8, n_heads=2, n_layers=1, max_seq_len=16, vocab_size=20))
    for inner, hook in ((gpt2, "transformer.h.0"), (mpt, "transformer.blocks.0")):
        assert load_model(inner).n_ctx == 16
        with pytest.raises(ValueError, match="sequences of 17 tokens are longer than the model's context of 16"):
            harvest(inner, torch.full((2, 17), 5), hook, tmp_path)


@pytest.mark.parametrize(
    ("family", "factor"), [("Cohere", {"logit_scale": 0.25}), ("Granite", {"logits_scaling": 4.0})]
)
def test_logit_effects_have_the_factor_by_which_the_model_multiplies_its_logits(family, factor):
    import transformers

    from interp.features.logit_path import logit_path

    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = getattr(transformers, f"{family}Config")(vocab_size=20, **sizes, **factor)
    inner = transformers.AutoModelForCausalLM.from_config(config)
    model = load_model(inner)
    tokens = torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(0))
    path = logit_path(torch.eye(16), model, "blocks.0.hook_resid_post", tokens)
    inner.logit_scale = inner.config.logits_scaling = 1.0
    unscaled = logit_path(torch.eye(16), model, "blocks.0.hook_resid_post", tokens)
    torch.testing.assert_close(path.directions, unscaled.directions / 4)
    assert "the model's factor 0.25" in path.note and "factor" not in unscaled.note


@pytest.mark.parametrize("is_loaded", [True, False])
def test_an_encoder_does_not_read_padding(tmp_path, is_loaded):
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForMaskedLM(BertConfig(vocab_size=20, initializer_range=1.0, pad_token_id=0, **sizes))
    hook = "bert.encoder.layer.1"
    if is_loaded:
        model = load_model(model)
        model.tokenizer = SimpleNamespace(pad_id=0, bos_id=None, eos_id=None)
        hook = "blocks.1.hook_resid_post"
    text = torch.randint(5, 20, (3, 6), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([text, torch.zeros(3, 4, dtype=torch.int64)], 1)
    alone = rows_of(harvest(model, text, hook, tmp_path / "text", dtype="float32"), hook)
    rows = rows_of(harvest(model, padded, hook, tmp_path / "padded", dtype="float32", exclude=[0]), hook)
    for seq, position in product(range(3), range(6)):
        torch.testing.assert_close(rows[10 * seq + position], alone[6 * seq + position], rtol=1e-4, atol=1e-4)


def test_a_tokenizer_of_another_library_needs_only_its_file(tmp_path):
    tokenizer = foreign_tokenizer("gpt2")
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert load_tokenizer(tmp_path).encode(TEXTS[0], add_special_tokens=False) == ids


def test_a_dictionary_may_call_its_hook_by_any_of_its_names():
    model = load_model(foreign_model("llama", 99))
    dictionary = SimpleNamespace(metadata={"hook_name": "blocks.1.mlp.hook_post"})
    known = hooks_of(model)
    check_trained_hook(dictionary, "model.layers.1.mlp.down_proj.input", known, "the model")
    with pytest.raises(ValueError, match="trained on blocks.1.mlp.hook_post, which the model has too"):
        check_trained_hook(dictionary, "blocks.1.hook_mlp_out", known, "the model")


def test_inputs_of_modules_are_spliced(model, family, tokens):
    """Replacing the neurons by 0 is replacing what the MLP writes by its output matrix's bias."""
    halves = torch.cat([torch.eye(D_MLP), -torch.eye(D_MLP)])
    whole = FixedDictionary(halves.T.contiguous(), halves, torch.zeros(D_MLP), None)
    neurons = evaluate_dictionary(model, "blocks.1.mlp.hook_post", whole, tokens)
    assert neurons.ce_spliced == pytest.approx(neurons.ce_clean, abs=1e-4) and neurons.fvu < 1e-9
    twin = copy.deepcopy(model)
    matrix = resolve_hooks(twin, ["blocks.1.mlp.hook_post"])["blocks.1.mlp.hook_post"].module
    with torch.no_grad():
        matrix.weight.zero_()
        logits = twin(tokens)[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
    assert neurons.ce_zero_ablated == pytest.approx(float(expected), abs=1e-5)
    assert abs(neurons.ce_zero_ablated - neurons.ce_clean) > 1e-4


def test_the_small_transformer_has_the_same_hook_names(tmp_path):
    from models.tokenizer import Tokenizer

    tokenizer = Tokenizer.train_characters(TEXTS)
    config = TransformerConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, d_vocab=tokenizer.vocab_size, n_ctx=16)
    Transformer(config).save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer")
    model = load_model(tmp_path)
    assert (model.n_ctx, model.d_model, model.d_vocab, model.n_layers) == (16, 8, tokenizer.vocab_size, 2)
    assert model.tokenizer.digest == tokenizer.digest and model.special_ids == (tokenizer.bos_id,)
    hooks = resolve_hooks(model, ["model.layers.1", "blocks.1.hook_resid_post", "final_norm.input"])
    assert hooks["model.layers.1"] == hooks["blocks.1.hook_resid_post"]
    assert hooks["final_norm.input"] == Hook(model.final_norm, "input")
    assert copy.deepcopy(model).tokenizer is model.tokenizer


@pytest.mark.parametrize(
    "hook",
    ["blocks.1.hook_resid_post", "blocks.2.hook_resid_pre", "native", "blocks.2.mlp.hook_post", "blocks.1.attn.hook_z"],
)
def test_logit_effects_are_gradients_through_the_frozen_final_norm(model, family, tokens, hook):
    """Against autograd, in a model without the blocks after the hook and whose norm's scale is a constant."""
    from interp.features.logit_path import logit_path

    if hook == "native":
        hook = NATIVE.get(family, "model.layers.{}").format(1)
    place = resolve_hooks(model, [hook])[hook]
    d_in = capture_all(model, tokens, [hook])[hook].flatten(2).shape[-1]
    W_dec = torch.randn(5, d_in, generator=torch.Generator().manual_seed(0))
    path = logit_path(W_dec, model, hook, tokens)
    if family == "gemma2" and "hook_resid" not in hook and place.side == "input":
        assert path.directions is None and f"no direct path from {hook}" in path.note
        return
    assert "final norm's mean scale" in path.note
    effects = path.directions @ path.W_U
    x = capture_all(model, tokens, ["final_norm.input"])["final_norm.input"]
    fixed = frozen(model.final_norm, x, centres=family in ("gpt2", "neox"))
    matrix = place.module if place.side == "input" and "hook_resid" not in hook else None
    for row, effect in zip(W_dec, effects, strict=True):
        added = row if matrix is None else matrix(row[None])[0] - matrix(torch.zeros_like(row[None]))[0]
        epsilon = torch.zeros((), requires_grad=True)
        logits = (fixed(x + epsilon * added.detach()) @ model.W_U.detach()).mean((0, 1))
        slopes = torch.stack([torch.autograd.grad(each, epsilon, retain_graph=True)[0] for each in logits[:40]])
        torch.testing.assert_close(effect[:40], slopes, rtol=1e-3, atol=1e-4)


def test_a_model_that_does_not_call_its_unembedding_is_opened_without_a_final_norm():
    class Multiplied(transformers.GPT2LMHeadModel):
        def forward(self, input_ids, **options):
            return CausalLMOutput(logits=self.transformer(input_ids)[0] @ self.lm_head.weight.T)

    model = LanguageModel(Multiplied(foreign_model("gpt2", 40).config))
    assert "blocks.0.hook_resid_post" in model.hook_dict and model.final_norm is None


def frozen(norm, x, *, centres):
    """Return the norm, its scale that of x."""
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    centred = x - x.mean(-1, keepdim=True) if centres else x
    scale = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    weight = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight

    def run(y):
        y = y - y.mean(-1, keepdim=True) if centres else y
        return y / scale * weight

    return run
