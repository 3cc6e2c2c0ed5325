"""Models of other makers at the one door: the four families of `tests.foreign_models`."""

import copy

import pytest
import torch

from interp.harvest import _fingerprint, harvest
from interp.hooks import Hook, resolve_hooks
from models import load_model, vocab_strings
from models.transformer import Transformer, TransformerConfig
from tests.foreign_models import D_MLP, D_MODEL, FAMILIES, N_LAYERS, TEXTS, write_foreign
from tests.test_harvest import rows_of

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
    ids = [i for text in TEXTS for i in model.tokenizer.encode(text).ids]
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
    for n, hook in enumerate(hooks):
        rows = rows_of(store, hook)
        expected = hidden[2 if n < 4 else 1].flatten(0, 1)
        assert all(torch.equal(x, expected[i]) for i, x in rows.items()) and len(rows) == tokens.numel(), hook


def test_inputs_of_matrices_are_the_neurons_and_the_heads(model, family, tokens):
    """From the module's own input by its own formula, and through its own output matrix to what it puts out."""
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
    assert place.reads == "input" and place.module(found["blocks.1.attn.hook_z"]).shape[-1] == D_MODEL


def capture_all(model, tokens, names):
    from interp.hooks import capture

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


def test_every_hook_that_is_listed_can_be_harvested(model, tokens, tmp_path):
    store = harvest(model, tokens[:1, :4], model.hooks(), tmp_path)
    assert store.hook_names == tuple(model.hooks()) and store.hook_names[0] == "hook_embed"


def test_a_copy_is_a_model_of_its_own(model, tokens):
    twin = copy.deepcopy(model)
    assert _fingerprint(twin) == _fingerprint(model) == _fingerprint(model.inner)
    inside = set(twin.modules())
    assert all(place.module in inside for place in resolve_hooks(twin, list(twin.hook_dict)).values())
    with torch.no_grad():
        next(twin.inner.parameters()).add_(1)
    assert _fingerprint(twin) != _fingerprint(model) and twin.tokenizer is model.tokenizer


def test_a_vocabulary_can_be_read_and_joins_to_the_text(model, family):
    strings = vocab_strings(model.tokenizer)
    assert len(strings) == model.d_vocab and not any("�" in string for string in strings)
    for text in TEXTS[:5]:
        encoding = model.tokenizer.encode(text)
        shown = "".join(strings[i] for i in encoding.ids if "⟨" not in strings[i])
        assert shown.strip() == text.replace("水", "").strip() if family in ("llama", "gemma2") else shown == text
        assert model.tokenizer.decode(encoding.ids) == text
        assert not set(encoding.ids) & set(model.special_ids)
        starts, ends = encoding.offsets.T
        assert (starts[1:] >= starts[:-1]).all() and (ends[1:] >= ends[:-1]).all() and ends[-1] == len(text)
        for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            letters = strings[i].strip()  # a space that is put before a text covers what follows it
            assert "⟨" in letters or not letters or letters == text[start:end].strip()


def test_our_own_model_answers_to_the_same_names(tmp_path):
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
    """Against autograd, in a model whose blocks behind the hook are taken away and whose norm's scale is a constant."""
    from interp.features.logit_path import logit_path

    if hook == "native":
        hook = NATIVE.get(family, "model.layers.{}").format(1)
    place = resolve_hooks(model, [hook])[hook]
    d_in = capture_all(model, tokens, [hook])[hook].flatten(2).shape[-1]
    W_dec = torch.randn(5, d_in, generator=torch.Generator().manual_seed(0))
    path = logit_path(W_dec, model, hook, tokens)
    if family == "gemma2" and "hook_resid" not in hook and place.reads == "input":
        assert path.directions is None and f"no direct path from {hook}" in path.note
        return
    assert "final norm's mean scale" in path.note
    effects = path.directions @ path.W_U
    x = capture_all(model, tokens, ["final_norm.input"])["final_norm.input"]
    fixed = frozen(model.final_norm, x, centres=family in ("gpt2", "neox"))
    matrix = place.module if place.reads == "input" and "hook_resid" not in hook else None
    for row, effect in zip(W_dec, effects, strict=True):
        added = row if matrix is None else matrix(row[None])[0] - matrix(torch.zeros_like(row[None]))[0]
        epsilon = torch.zeros((), requires_grad=True)
        logits = (fixed(x + epsilon * added.detach()) @ model.W_U.detach()).mean((0, 1))
        slopes = torch.stack([torch.autograd.grad(each, epsilon, retain_graph=True)[0] for each in logits[:40]])
        torch.testing.assert_close(effect[:40], slopes, rtol=1e-3, atol=1e-4)


def frozen(norm, x, *, centres):
    """The norm, its scale that of x."""
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    centred = x - x.mean(-1, keepdim=True) if centres else x
    scale = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    weight = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight

    def run(y):
        y = y - y.mean(-1, keepdim=True) if centres else y
        return y / scale * weight

    return run
