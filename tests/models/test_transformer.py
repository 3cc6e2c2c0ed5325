import json
import math

import pytest
import torch
import torch.nn.functional as F

from models import training_recipe
from models.layers import PRESETS
from models.loading import to_hooked_transformer
from models.training_recipe import token_loss
from models.transformer import Transformer, TransformerConfig

SMALL = dict(n_layers=2, d_model=16, n_heads=2, d_mlp=24, d_vocab=23, n_ctx=10)
# These exist in a HookedTransformer but fire only with use_attn_result, use_split_qkv_input and the like.
SILENT = ("hook_result", "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")


def trained_like(**overrides) -> Transformer:
    """Return a model whose biases, gains and logits are as far from their first values as after training."""
    model = Transformer(TransformerConfig(**{**SMALL, **overrides}))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def random_tokens(n_sequences: int = 3, n_pos: int = 10, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 23, (n_sequences, n_pos), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)


def naive_logits(weights: dict[str, torch.Tensor], tokens: torch.Tensor, n_layers: int, n_heads: int) -> torch.Tensor:
    """Return the transformer's equations, one sequence, one head and one position at a time."""

    def norm(x, prefix):
        x = x - x.mean()
        return x / ((x**2).mean() + 1e-5).sqrt() * weights[f"{prefix}.w"] + weights[f"{prefix}.b"]

    def logits_of(sequence):
        resid = [weights["embed.W_E"][t] + weights["pos_embed.W_pos"][i] for i, t in enumerate(sequence.tolist())]
        for layer in range(n_layers):
            w = {k.removeprefix(f"blocks.{layer}."): v for k, v in weights.items() if k.startswith(f"blocks.{layer}.")}
            x = [norm(r, f"blocks.{layer}.ln1") for r in resid]
            for h in range(n_heads):
                q, k, v = ([r @ w[f"attn.W_{n}"][h] + w[f"attn.b_{n}"][h] for r in x] for n in "QKV")
                for i in range(len(x)):
                    scores = torch.stack([q[i] @ k[j] / math.sqrt(len(q[i])) for j in range(i + 1)])
                    pattern = scores.exp() / scores.exp().sum()
                    z = sum(pattern[j] * v[j] for j in range(i + 1))
                    resid[i] = resid[i] + z @ w["attn.W_O"][h]
            resid = [r + w["attn.b_O"] for r in resid]
            for i, r in enumerate(resid):
                hidden = (norm(r, f"blocks.{layer}.ln2") @ w["mlp.W_in"] + w["mlp.b_in"]).clamp(min=0)
                resid[i] = r + hidden @ w["mlp.W_out"] + w["mlp.b_out"]
        return torch.stack([norm(r, "ln_final") @ weights["unembed.W_U"] + weights["unembed.b_U"] for r in resid])

    return torch.stack([logits_of(sequence) for sequence in tokens])


def naive_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    terms = [
        logits[s, i].exp().sum().log() - logits[s, i, tokens[s, i + 1]]
        for s in range(len(tokens))
        for i in range(tokens.shape[1] - 1)
    ]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("overrides", [{}, {"act_fn": "relu"}])
@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")
def test_equals_hooked_transformer_at_every_hook(overrides):
    model = trained_like(**overrides)
    hooked, tokens = to_hooked_transformer(model), random_tokens()
    logits, cache = model.run_with_cache(tokens)
    expected, expected_cache = hooked.run_with_cache(tokens.long())
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=0)
    assert set(model.hook_dict) == {name for name in hooked.hook_dict if not name.endswith(SILENT)}
    assert list(cache) == list(expected_cache)
    for name in cache:
        torch.testing.assert_close(cache[name], expected_cache[name], atol=1e-4, rtol=0, msg=name)
    assert cache["resid_post", -1] is cache["blocks.1.hook_resid_post"]


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")
def test_an_edit_at_any_hook_acts_as_in_hooked_transformer():
    model, tokens = trained_like(act_fn="relu"), random_tokens()
    hooked = to_hooked_transformer(model)
    untouched = model(tokens)

    def edit(activation, hook):
        return activation * torch.linspace(0.2, 1, activation.shape[-1]) + 0.1

    for name in model.hook_dict:
        edited = model.run_with_hooks(tokens, fwd_hooks=[(name, edit)])
        expected = hooked.run_with_hooks(tokens.long(), fwd_hooks=[(name, edit)])
        torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0, msg=name)
        assert not torch.allclose(edited, untouched, atol=1e-3), name
    assert torch.equal(model(tokens), untouched)


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")
def test_gradients_reach_backward_hooks():
    model, tokens = trained_like(), random_tokens()
    hooked = to_hooked_transformer(model)
    names = ["blocks.0.mlp.hook_post", "blocks.1.attn.hook_pattern", "blocks.1.hook_resid_post", "unembed.hook_out"]
    _, cache = model.run_with_cache(tokens, return_type="loss", incl_bwd=True, names_filter=names)
    _, expected = hooked.run_with_cache(tokens.long(), return_type="loss", incl_bwd=True, names_filter=names)
    for name in names:
        torch.testing.assert_close(cache[f"{name}_grad"], expected[f"{name}_grad"], atol=1e-5, rtol=1e-4, msg=name)


def test_a_plain_torch_hook_is_noticed():
    model, seen = trained_like(), []
    handle = model.blocks[0].attn.hook_pattern.register_forward_hook(lambda module, args, out: seen.append(out))
    model(random_tokens())
    handle.remove()
    assert seen[0].shape == (3, 2, 10, 10)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(3, 2, 10))
    assert (seen[0].triu(1) == 0).all()


def test_loss_is_the_formula_and_its_gradient_the_naive_one():
    model, tokens = trained_like(act_fn="relu"), random_tokens(2, 7)
    doubles = {name: weight.detach().double().requires_grad_() for name, weight in model.state_dict().items()}
    naive = naive_logits(doubles, tokens, n_layers=2, n_heads=2)
    expected = naive_loss(naive, tokens)
    expected.backward()
    loss = model(tokens, return_type="loss")
    loss.backward()
    torch.testing.assert_close(model(tokens).double(), naive, atol=1e-4, rtol=0)
    torch.testing.assert_close(loss.double(), expected, atol=1e-6, rtol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.double(), doubles[name].grad, atol=1e-5, rtol=1e-3, msg=name)


def test_return_types_agree():
    model, tokens = trained_like(), random_tokens()
    logits, loss = model(tokens, return_type="both")
    per_token = model(tokens, return_type="loss", loss_per_token=True)
    assert per_token.shape == (3, 9)
    picked = logits.log_softmax(-1)[:, :-1].gather(2, tokens[:, 1:, None].long())[..., 0]
    torch.testing.assert_close(per_token, -picked)
    torch.testing.assert_close(per_token.mean(), loss)
    torch.testing.assert_close(model(tokens, return_type="loss"), loss)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, return_type="loss"), loss)
    assert model(tokens, return_type=None) is None
    with pytest.raises(ValueError, match="return_type='text'"):
        model(tokens, return_type="text")


def test_later_tokens_change_nothing_before_them():
    model, tokens = trained_like(), random_tokens()
    before = model(tokens)
    for t in range(9):
        changed = tokens.clone()
        changed[:, t + 1] = (changed[:, t + 1] + 1) % 23
        after = model(changed)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        assert not torch.equal(after[:, t + 1], before[:, t + 1])


def test_stop_at_layer_gives_the_residual_stream_that_enters_it():
    model, tokens = trained_like(), random_tokens()
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: "resid" in name)
    for layer in range(2):
        assert torch.equal(model(tokens, stop_at_layer=layer), cache["resid_pre", layer])
    assert torch.equal(model(tokens, stop_at_layer=2), cache["resid_post", 1])
    assert torch.equal(model(tokens, stop_at_layer=-1), model(tokens, stop_at_layer=1))


@pytest.mark.parametrize("slab_rows", [1, 3, 64])
@pytest.mark.parametrize("transposed", [False, True])
def test_token_loss_is_cross_entropy_whatever_the_slab(monkeypatch, slab_rows, transposed):
    monkeypatch.setattr(training_recipe, "SLAB_BYTES", slab_rows * 13 * 8)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    W = torch.randn(13, 5, generator=generator, dtype=torch.float64)
    W = W.T if transposed else W.T.contiguous()
    b = torch.randn(13, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 12, 3, 3, 7, 1, 5], dtype=torch.int32)
    ours, expected = ([t.clone().requires_grad_() for t in (x, W, b)] for _ in range(2))
    (3 * token_loss(*ours, targets)).backward()
    (3 * F.cross_entropy(expected[0] @ expected[1] + expected[2], targets.long())).backward()
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_token_loss_stays_finite_on_extreme_logits():
    x, W = torch.tensor([[1000.0]], requires_grad=True), torch.tensor([[1.0, -1.0]], requires_grad=True)
    loss = token_loss(x, W, torch.zeros(2), torch.tensor([1]))
    loss.backward()
    assert loss.item() == 2000
    assert x.grad.item() == 2 and W.grad.tolist() == [[1000.0, -1000.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_a_half_precision_model_is_not_summed_in_half_precision(dtype):
    model = Transformer(TransformerConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=16, d_vocab=1024, n_ctx=64))
    tokens = torch.randint(1024, (16, 64), generator=torch.Generator().manual_seed(0))
    model.to(dtype)
    with torch.no_grad():
        of_logits = model(tokens, return_type="both").loss
        assert model(tokens, return_type="loss").item() == pytest.approx(of_logits.item(), abs=1e-4)


def test_autocast_changes_the_loss_by_rounding_alone():
    model, tokens = trained_like(), random_tokens()
    exact = model(tokens, return_type="loss")
    exact.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(tokens, return_type="loss")
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() != exact.item()
    torch.testing.assert_close(loss, exact, atol=0.05, rtol=0)
    for name in ("unembed.W_U", "blocks.0.mlp.W_in"):
        rounded, full = dict(model.named_parameters())[name].grad, gradients[name]
        assert F.cosine_similarity(rounded.flatten(), full.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("preset", PRESETS)
def test_a_new_model_predicts_nearly_uniformly_and_is_its_seed(preset):
    config = TransformerConfig.preset(preset, d_vocab=50)
    model, tokens = Transformer(config), random_tokens(4)
    assert abs(model(tokens, return_type="loss").item() - math.log(50)) < 0.15
    same, other = Transformer(config), Transformer(TransformerConfig.preset(preset, d_vocab=50, seed=1))
    assert torch.equal(same.W_E, model.W_E) and torch.equal(same.blocks[0].mlp.W_in, model.blocks[0].mlp.W_in)
    assert not torch.equal(other.blocks[0].mlp.W_in, model.blocks[0].mlp.W_in)


def test_generate_is_greedy_at_zero_and_its_seed_above():
    model, start = trained_like(), random_tokens(2, 3)
    greedy = model.generate(start, 12, temperature=0)
    assert greedy.shape == (2, 15) and greedy.dtype == start.dtype and torch.equal(greedy[:, :3], start)
    for i in range(3, 15):
        assert torch.equal(model(greedy[:, max(0, i - 10) : i])[:, -1].argmax(-1), greedy[:, i].long())
    sampled = model.generate(start, 12, temperature=2.0, seed=5)
    assert torch.equal(sampled, model.generate(start, 12, temperature=2.0, seed=5))
    assert not torch.equal(sampled, model.generate(start, 12, temperature=2.0, seed=6))


def test_generate_is_greedy_at_the_lowest_temperature():
    model, start = trained_like(), random_tokens(2, 3)
    assert torch.equal(model.generate(start, 3, temperature=1e-45), model.generate(start, 3, temperature=0))


def test_generate_samples_the_tempered_distribution():
    model = trained_like()
    start = random_tokens(1, 4).repeat(4000, 1)
    drawn = model.generate(start, 1, temperature=1.5)[:, -1]
    expected = (model(start[:1])[0, -1] / 1.5).softmax(0)
    observed = torch.bincount(drawn.long(), minlength=23) / 4000
    assert (observed - expected).abs().max() < 5 * math.sqrt(0.25 / 4000)


def test_generate_is_steered_by_hooks():
    model = trained_like()

    def only_token_7(logits, hook):
        return torch.full_like(logits, -torch.inf).index_fill_(-1, torch.tensor([7]), 0.0)

    with model.hooks(fwd_hooks=[("unembed.hook_out", only_token_7)]):
        assert (model.generate(random_tokens(2, 3), 5)[:, 3:] == 7).all()


def test_save_and_load(tmp_path):
    model, tokens = trained_like(), random_tokens()
    model.save(tmp_path)
    loaded = Transformer.load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(tokens), model(tokens))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tied_embeddings": True}))
    with pytest.raises(ValueError, match="tied_embeddings"):
        Transformer.load(tmp_path)


def test_load_names_what_does_not_fit(tmp_path):
    trained_like().save(tmp_path)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace('"d_mlp": 24', '"d_mlp": 32'))
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.W_in of .*weights.safetensors is \[16, 24\], .*\[16, 32\]"):
        Transformer.load(tmp_path)
    (tmp_path / "config.json").write_text('{"d_model": 16, "width": 3}')
    with pytest.raises(ValueError, match="config.json .*width"):
        Transformer.load(tmp_path)
    trained_like().save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="weights.safetensors"):
        Transformer.load(tmp_path)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"n_heads": 3}, "d_model=16 must be a multiple of n_heads=3"),
        ({"d_mlp": 0}, "d_mlp=0 must be at least 1"),
        ({"act_fn": "swish"}, "act_fn='swish' must be 'gelu' or 'relu'"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**{**SMALL, **overrides})


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="preset 'huge' must be one of"):
        TransformerConfig.preset("huge", d_vocab=5)
    with pytest.raises(ValueError, match="11 tokens is longer than the model's n_ctx=10"):
        trained_like()(random_tokens(1, 11))
    with pytest.raises(ValueError, match="temperature=-1"):
        trained_like().generate(random_tokens(1, 3), 1, temperature=-1)


def test_cfg_says_what_transformer_lens_asks_for():
    cfg = trained_like().cfg
    facts = (cfg.n_layers, cfg.d_model, cfg.d_head, cfg.d_vocab, cfg.n_ctx, cfg.device, cfg.dtype)
    assert facts == (2, 16, 8, 23, 10, "cpu", torch.float32)
