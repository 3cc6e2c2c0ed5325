"""Interventions against ablation by hand, and effects of every latent against one forward pass at a time."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr, t
from torch import nn

from interp import FeatureStore
from interp.activations.hooks import capture, module_of, resolve_hooks
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.effects import (
    ABLATE,
    ablation_batch,
    ablation_plan,
    add,
    dose_response,
    effect_tables,
    feature_effects,
    intervene,
    pin,
    steer,
    steering,
)
from interp.effects.effect_tables import ratio_interval
from interp.evaluation.baselines import NeuronDictionary, PCADictionary, RandomDictionary
from models import load_model, tokenize
from tests.foreign_models import foreign_model, foreign_tokenizer, write_foreign
from tests.small_models import N_CTX, POST, D, V, ours, planted, sae, scanned, seeded, transcoder


def lens():
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    sizes = dict(n_layers=2, d_model=D, n_heads=2, d_head=8, d_vocab=V, n_ctx=N_CTX, act_fn="relu")
    with pytest.warns(DeprecationWarning):
        return HookedTransformer(HookedTransformerConfig(**sizes, device="cpu", seed=0)).double().eval()


class Recurrent(nn.Module):
    """Layers that nobody calls blocks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.first, self.out = nn.Embedding(V, D), nn.Linear(D, D), nn.Linear(D, V)
        self.second = nn.GRU(D, D, batch_first=True)
        self.double()

    def forward(self, tokens):
        return self.out(self.second(self.first(self.embed(tokens)).tanh())[0])


class Tuples(Recurrent):
    """Blocks that return tuples, as older libraries' do, and a module after them that mixes positions."""

    class Block(nn.Linear):
        def forward(self, x):
            return (x + super().forward(x).tanh(),)

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([self.Block(D, D), self.Block(D, D)])
        self.double()

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)[0]
        return self.out(self.second(x)[0])


class Past(Tuples):
    """A little of the first block's output bypasses the second."""

    def forward(self, tokens):
        first = self.layers[0](self.embed(tokens))[0]
        return self.out(self.layers[1](first)[0] + first / 100)


@pytest.fixture
def tokens():
    return torch.randint(0, V, (7, N_CTX), generator=seeded(0))


def doubled(dictionary):
    if isinstance(dictionary, nn.Module):
        return dictionary.double()
    for name in ("W_enc", "W_dec", "b_dec"):
        setattr(dictionary, name, getattr(dictionary, name).double())
    return dictionary


CASES = {  # the model, the hook, the dictionary, what is run again
    "random directions before a layer": (ours, POST, lambda: RandomDictionary(D, 20, 4), "from block 1 on"),
    "an SAE at the end": (lambda: ours(1), POST, sae, "after the last block, for changed positions only"),
    "neurons": (ours, "blocks.1.mlp.hook_post", lambda: NeuronDictionary(24, 5), "from block 1 on"),
    "neurons of the first layer": (ours, "blocks.0.mlp.hook_post", lambda: NeuronDictionary(24, 5), "by whole forward"),
    "PCA where the stream enters": (
        ours,
        "blocks.1.hook_resid_pre",
        lambda: PCADictionary(torch.linalg.qr(torch.randn(D, D, generator=seeded(2)))[0], torch.zeros(D), 4),
        "from block 1 on",
    ),
    "a transcoder": (ours, "blocks.1.hook_resid_mid", transcoder, "from block 1 on"),
    "the last norm": (
        ours,
        "ln_final.hook_normalized",
        lambda: RandomDictionary(D, 20, 4),
        "after the last block, for",
    ),
    "TransformerLens": (lens, POST, lambda: RandomDictionary(D, 20, 4), "from block 1 on"),
    "heads side by side": (lens, "blocks.1.attn.hook_z", lambda: RandomDictionary(D, 20, 4), "from block 1 on"),
    "blocks that put out tuples": (Tuples, "layers.0", lambda: RandomDictionary(D, 20, 4), "from block 1 on"),
    "positions mixed at the end": (Tuples, "layers.1", lambda: RandomDictionary(D, 20, 4), "from block 2 on"),
    "a little that goes past a block": (
        Past,
        "layers.1",
        lambda: RandomDictionary(D, 20, 4),
        "from block 1 on",
    ),
    "a module and its hooks": (
        lambda: (module := Recurrent(), {"middle": module.first}),
        "middle",
        lambda: RandomDictionary(D, 20, 4),
        "by whole forward passes",
    ),
}
LAST = "blocks.2.hook_resid_post"
for family, hook, way in (
    ("gpt2", POST, "from block 1 on"),
    ("llama", LAST, "after the last block, for"),
    ("gemma2", POST, "from block 1 on"),
    ("neox", LAST, "after the last block, for"),
):
    CASES[f"{family}, {hook}"] = (
        lambda family=family: load_model(foreign_model(family, V)).double(),
        hook,
        lambda: RandomDictionary(32, 20, 4),
        way,
    )


def losses_and_logs(module, place, row, change):
    """Return losses and log-probabilities of one sequence, with a change added at the written hook."""
    handle = place.output_hook.attach(lambda acts: acts + change.view(acts[0].shape)[None])
    log_p = module(row)[0].log_softmax(-1)
    handle.remove()
    return -log_p[:-1].gather(1, row[0, 1:, None])[:, 0], log_p


def by_hand(model, hook, dictionary, tokens, latent):
    """Return the columns of a latent, sequence by sequence, from the definitions; and some of each sequence."""
    place, module = dictionary_hooks(model, hook, dictionary), module_of(model)
    total = dict.fromkeys(("n", "targets", "loss", "later", "n_later", "kl", "gradient", "sequences"), 0.0)
    logs = torch.zeros(V + 30, dtype=torch.float64)
    each: dict[str, list[tuple[float, int]]] = {"loss_change": [], "kl": []}
    for row in tokens[:, None]:
        acts = capture(module, row, {"reads": place.input_hook})["reads"].detach()[0]
        z = dictionary.encode(acts.flatten(1))[:, latent]
        fires = z > 0
        if not fires.any():
            continue
        change = -z[:, None] * dictionary.W_dec[latent]

        here = torch.zeros_like(change).requires_grad_(True)
        clean, log_p = losses_and_logs(module, place, row, here)
        gradient = torch.autograd.grad(clean.sum(), here)[0]
        with torch.no_grad():
            ablated, log_q = losses_and_logs(module, place, row, change)
            first = int(fires.nonzero()[0])
            losses = ablated - clean
            later = ~fires & (torch.arange(len(z)) > first)
            total["n"] += int(fires.sum())
            total["targets"] += int(fires[:-1].sum())
            total["loss"] += float(losses[fires[:-1]].sum())
            total["later"] += float(losses[later[:-1]].sum())
            total["n_later"] += int(later[:-1].sum())
            kl = float((log_p.exp() * (log_p - log_q)).sum(1)[fires].sum())
            total["kl"] += kl
            each["kl"].append((kl, int(fires.sum())))
            each["loss_change"].append((float(losses[fires[:-1]].sum()), int(fires[:-1].sum())))
            total["gradient"] += float((gradient * change).sum())
            total["sequences"] += 1
            logs[: log_p.shape[1]] += (log_p - log_q)[fires].sum(0)
    return total, logs[: log_p.shape[1]] / total["n"], each


def jackknife(each, squared):
    """Return the jackknife of a ratio of sums, or of its root, with each part left out in turn."""

    def ratio(parts):
        of, n = np.sum(parts, axis=0)
        return (max(of / n, 0) ** 0.5 if squared else of / n) if n else np.nan

    n = len(each)
    if n == 1:
        return [np.nan, np.nan]
    without = [ratio(each[:k] + each[k + 1 :]) for k in range(n)]
    error = ((n - 1) / n * sum((value - np.mean(without)) ** 2 for value in without)) ** 0.5
    low, high = (ratio(each) + side * t.ppf(0.975, n - 1) * error for side in (-1, 1))
    return [max(low, 0) ** 2, high**2] if squared else [low, high]


@pytest.mark.parametrize("case", CASES)
def test_effects_equal_ablation_by_hand(case, tokens, tmp_path):
    build, hook, make, way = CASES[case]
    model, dictionary = build(), doubled(make())
    features = scanned(model, hook, dictionary, tokens, tmp_path)
    asked = [int(latent) for latent in features.sql("select latent from features where n_active > 0").latent[:2]]
    table = feature_effects(model, hook, dictionary, features, latents=asked, sequences=len(tokens), n_tokens=3)
    assert table.attrs["rerun_part"].startswith(way)
    assert list(table.latent) == asked
    for row in table.itertuples():
        total, logs, each = by_hand(model, hook, dictionary, tokens, row.latent)
        assert row.n_firings == total["n"] and row.n_sequences == total["sequences"]
        found = [row.loss_change, row.later_loss_change, row.kl, row.gradient_effect]
        expected = [
            total["loss"] / total["targets"],
            total["later"] / total["n_later"] if total["n_later"] else np.nan,
            total["kl"] / total["n"],
            total["gradient"] / total["n"],
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
        assert row.total_change == pytest.approx((total["loss"] + total["later"]) / total["n"], rel=1e-6, abs=1e-9)
        order = torch.tensor([token for token in logs.argsort(descending=True) if (tokens == token).any()])
        assert list(row.likelier_tokens) == order[:3].tolist()
        assert list(row.less_likely_tokens) == order.flip(0)[:3].tolist()
        np.testing.assert_allclose(row.likelier, logs[order[:3]], rtol=1e-4)
        for name, parts in each.items():
            ends = [getattr(row, f"{name}_{end}") for end in ("low", "high")]
            np.testing.assert_allclose(ends, jackknife(parts, name == "kl"), rtol=1e-4, atol=1e-9)
    assert table.loss_change.abs().max() > 1e-4, "ablation must change something for this to mean anything"
    module = module_of(model)
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())
    assert not any("forward" in vars(each) for each in module.modules())


def test_a_bridge_of_transformer_lens_gives_what_the_model_does(tokens, tmp_path):
    from transformer_lens.model_bridge import TransformerBridge

    folder = write_foreign("gpt2", tmp_path / "model")
    model = load_model(folder)
    tokenizer = model.tokenizer.inner
    tokenizer.pad_token = tokenizer.eos_token
    bridge = TransformerBridge.boot_transformers(str(folder), hf_model=load_model(folder).inner, tokenizer=tokenizer)
    for hook in (POST, "blocks.2.hook_resid_post"):
        dictionary = RandomDictionary(32, 20, 4)
        features = scanned(model, hook, dictionary, tokens, tmp_path / hook)
        ours, theirs = (feature_effects(each, hook, dictionary, features) for each in (model, bridge))
        assert ours.attrs["rerun_part"] == theirs.attrs["rerun_part"] != "by whole forward passes"
        for column in ("loss_change", "later_loss_change", "kl", "gradient_effect"):
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-3, atol=1e-5)
    assert not any("forward" in vars(each) for each in bridge.modules() if "Block" in type(each).__name__)


def test_a_planted_direction_has_the_effect_it_was_given(tmp_path):
    model, dictionary = planted()
    tokens = torch.randint(8, V, (12, N_CTX), generator=seeded(4))
    tokens[:, 2], tokens[:, 3], tokens[6:, 5], tokens[6:, 6] = 3, 7, 3, 7
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    table = feature_effects(model, POST, dictionary, features, sequences=12)
    assert "likelier_strings" not in table, "the scan knows no strings of tokens"
    seven, mean = table.itertuples()
    assert seven.n_firings == 18 and seven.mean_activation == pytest.approx(4.9)
    assert seven.likelier_tokens[0] == 7 and 7 not in seven.less_likely_tokens
    assert seven.likelier[0] > 1 > 0 > seven.less_likely[0] and seven.loss_change_low > 0.5 < seven.kl_low
    assert mean.n_firings > 20 and max(abs(mean.loss_change), mean.kl, abs(mean.gradient_effect)) < 1e-9
    with intervene(model, POST, dictionary, {0: pin(10)}), torch.no_grad():
        assert (model(tokens).argmax(-1) == 7).all()


def test_an_interval_covers_as_often_as_it_says():
    draw = np.random.default_rng(0)
    for n, squared in ((3, False), (16, False), (16, True)):
        counts = draw.integers(1, 4, (20_000, n))
        of = draw.normal(1.0, 0.3, counts.shape) ** (2 if squared else 1)
        low, high = ratio_interval(of * counts, counts, counts > 0, squared)
        truth = 1 + 0.3**2 if squared else 1.0
        assert 0.93 < ((low <= truth) & (truth <= high)).mean() < 0.965


def test_the_null_is_as_long_a_change_along_another_latent_that_fires(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    dictionary.b_enc[2:] = -1e6  # of twenty, two that fire: each is the other's null
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    place, acts = dictionary_hooks(model, POST, dictionary), capture(model, tokens, resolve_hooks(model, [POST]))[POST]
    table = feature_effects(model, POST, dictionary, features, latents=[0, 1], sequences=7)
    for row in table.itertuples():
        own, other = dictionary.W_dec[[row.latent, 1 - row.latent]]
        loss, kl, n = 0.0, 0.0, np.zeros(2)
        for sequence, x in zip(tokens, acts.detach(), strict=True):
            z = dictionary.encode(x)[:, row.latent]
            change = -z[:, None] * other / other.norm() * own.norm()
            (clean, log_p), (losses, log_q) = (
                map(torch.Tensor.detach, losses_and_logs(model, place, sequence[None], each))
                for each in (0 * change, change)
            )
            loss += float((losses - clean)[z[:-1] > 0].sum())
            kl += float((log_p.exp() * (log_p - log_q)).sum(1)[z > 0].sum())
            n += [int((z[:-1] > 0).sum()), int((z > 0).sum())]
        np.testing.assert_allclose([row.null_loss_change, row.null_kl], [loss, kl] / n, rtol=1e-6)
        assert row.beyond_null == pytest.approx(row.loss_change - row.null_loss_change, rel=1e-9)
        assert row.beyond_null_low < row.beyond_null < row.beyond_null_high
        assert row.null_kl_low < row.null_kl < row.null_kl_high and row.null_kl != row.kl


def test_a_latent_that_fires_alone_has_an_effect_and_no_null(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    dictionary.b_enc[1:] = -1e6
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    (row,) = feature_effects(model, POST, dictionary, features, latents=[0], sequences=7).itertuples()
    assert (
        row.kl > 0 and row.kl_low > 0 and row.likelier[0] > row.less_likely[0] and row.loss_change_low < row.loss_change
    )
    assert np.isnan([row.null_kl, row.null_kl_low, row.null_loss_change, row.beyond_null, row.beyond_null_low]).all()


ACTIONS = {3: ABLATE, 5: pin(2.0), 7: add(0.5)}


def changed(z, actions):
    z = z.clone()
    for latent, (times, plus) in actions.items():
        z[..., latent] = times * z[..., latent] + plus
    return z


@pytest.mark.parametrize("positions", [None, [1, -1], "mask"])
def test_an_intervention_equals_one_by_hand(tokens, positions):
    model, dictionary = ours(), sae().double()
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    mask[:, [1, -1]] = True
    if positions == "mask":
        mask[3], positions = True, mask
    at = torch.ones_like(mask) if positions is None else mask
    seen = {}

    def put(x, hook):
        z = dictionary.encode(x)
        after = changed(z, ACTIONS)
        new = x + (after - z) @ dictionary.W_dec
        seen.update(new=torch.where(at[..., None], new, x), error=x - dictionary.decode(z), after=after)
        return seen["new"]

    with torch.no_grad():
        expected = model.run_with_hooks(tokens, fwd_hooks=[(POST, put)])
        with intervene(model, POST, dictionary, ACTIONS, positions=positions) as module:
            x = capture(module, tokens, resolve_hooks(model, [POST]))[POST]
            torch.testing.assert_close(module(tokens), expected)
    torch.testing.assert_close(x, seen["new"])
    # what is not a chosen latent's, the error and every other latent's share, is there to the last bit
    torch.testing.assert_close((x - dictionary.decode(seen["after"]))[at], seen["error"][at])


def test_a_dictionary_in_half_precision_intervenes_as_it_does_in_single(tokens):
    model, dictionary = ours(), sae()
    logits = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.no_grad(), intervene(model, POST, dictionary.to(dtype), {3: add(2)}) as module:
            logits.append(module(tokens))
    torch.testing.assert_close(*logits, atol=0.1, rtol=0.02)


def test_an_intervention_ends_with_the_block_after_an_error_too(tokens):
    model, dictionary = ours(), sae().double()
    clean = model(tokens)
    with pytest.raises(KeyError), intervene(model, POST, dictionary, ACTIONS):
        assert not torch.allclose(model(tokens), clean)
        raise KeyError
    with pytest.raises(ValueError, match="positions \\[9\\] must be in 0..8"):
        with intervene(model, POST, dictionary, ACTIONS, positions=[9]):
            model(tokens)
    for action in (0.0, pin(float("nan")), add(float("inf"))):
        with pytest.raises(ValueError, match=r"actions\[3\]=.* must be ABLATE, or pin\(value\) or add\(value\)"):
            with intervene(model, POST, dictionary, {3: action}):
                model(tokens)
    assert torch.equal(model(tokens), clean)
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())


def test_effects_leave_the_model_as_it_was_after_an_error(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features, clean = scanned(model, POST, dictionary, tokens, tmp_path), model(tokens)
    model.train()

    def stop(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_effects(model, POST, dictionary, features, progress=stop)
    assert torch.equal(model(tokens), clean) and all(module.training for module in model.modules())
    assert not any(each._forward_hooks or "forward" in vars(each) for each in model.modules())


def test_a_transcoder_writes_to_another_hook(tokens):
    model, dictionary = ours(), transcoder().double()
    _, cache = model.run_with_cache(tokens)
    x, y = cache["blocks.1.hook_resid_mid"], cache["blocks.1.hook_mlp_out"]
    z = dictionary.encode(x)
    new = y + (changed(z, ACTIONS) - z) @ dictionary.W_dec
    with intervene(model, "blocks.1.hook_resid_mid", dictionary, ACTIONS):
        _, found = model.run_with_cache(tokens)
    torch.testing.assert_close(found["blocks.1.hook_mlp_out"], new)
    torch.testing.assert_close(found["blocks.1.hook_resid_mid"], x)
    del dictionary.metadata["hook_name_out"]
    with pytest.raises(ValueError, match="the transcoder reads .* and writes another hook: .* output_hook="):
        dictionary_hooks(model, "blocks.1.hook_resid_mid", dictionary)


def test_rows_above_the_norm_limit_are_left_alone(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    x = model.run_with_cache(tokens)[1][POST].detach()
    dictionary.metadata["norm_limit"] = float(x.norm(dim=-1).median())
    ordinary = x.norm(dim=-1) <= dictionary.metadata["norm_limit"]
    with intervene(model, POST, dictionary, {n: add(1) for n in range(20)}):
        new = model.run_with_cache(tokens)[1][POST]
    assert torch.equal(new[~ordinary], x[~ordinary]) and not (new == x)[ordinary].any()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    table = feature_effects(model, POST, dictionary, features, sequences=7)
    fires = dictionary.encode(x) > 0
    assert (table.n_firings.to_numpy() == (fires & ordinary[..., None]).flatten(0, 1).sum(0).numpy()).all()


def test_a_sample_of_sequences_is_seeded_and_dead_latents_are_unknown(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    dictionary.b_enc[4] = -1e6
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    reports = []
    tables = [
        feature_effects(
            model, POST, dictionary, features, sequences=2, seed=seed, progress=lambda *r: reports.append(r)
        )
        for seed in (0, 0, 1)
    ]
    assert tables[0].equals(tables[1]) and not tables[0].equals(tables[2])
    assert tables[0].n_sequences.max() == 2 and reports[-1][0] == reports[-1][1]
    dead = tables[0].iloc[4]
    assert dead.n_sequences == dead.n_firings == 0 and np.isnan([dead.loss_change, dead.kl, dead.kl_low]).all()
    alone = feature_effects(model, POST, dictionary, features, latents=[int(dead.latent)])
    assert alone.n_firings[0] == 0 and np.isnan([alone.loss_change[0], alone.kl[0], alone.ce_rise[0]]).all()


def test_sampled_sequences_are_the_first_of_one_order_in_which_a_latent_fires(tokens, tmp_path, monkeypatch):
    model, dictionary = ours(), sae().double()
    dictionary.b_enc[4] = -1e6
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 2 * N_CTX)
    order = torch.randperm(len(tokens), generator=seeded(5)).tolist()
    for at_once in (ablation_batch._KEYS_AT_ONCE, 0):  # with what is kept on the way cut down again and again
        monkeypatch.setattr(ablation_batch, "_KEYS_AT_ONCE", at_once)
        sampled = ablation_batch.sampled_sequences(features, torch.tensor([7, 4, 0]), 3, seed=5)
        fires = features.codes[:].dense().view(len(tokens), N_CTX, -1)[..., [7, 4, 0]].gt(0).any(1)
        for row, where in zip(sampled.tolist(), fires.T, strict=True):
            expected = [seq for seq in order if where[seq]][:3]
            assert row == expected + [-1] * (3 - len(expected))


def test_effects_are_the_same_in_parts_and_by_more_sequences_than_there_are(tokens, tmp_path, monkeypatch):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    whole = feature_effects(model, POST, dictionary, features, sequences=len(tokens))
    endless = feature_effects(model, POST, dictionary, features, sequences=10**9)  # would not fit in memory
    assert endless.equals(whole) and endless.attrs["sequences"] <= len(tokens)
    for module in (ablation_batch, ablation_plan, effect_tables):
        monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 8 * 7 * 3)  # sums of three latents at a time
    parted = feature_effects(model, POST, dictionary, features, sequences=len(tokens))
    for name in ("loss_change", "loss_change_low", "later_loss_change", "kl", "null_kl", "gradient_effect"):
        np.testing.assert_allclose(parted[name], whole[name], rtol=1e-6, atol=1e-12)
    assert (parted.likelier_tokens.map(list) == whole.likelier_tokens.map(list)).all()
    assert parted.attrs["minutes"] > 1.2 * whole.attrs["minutes"], "the text is read again for each part"


def test_too_long_ablations_take_fewer_sequences_and_then_fewer_latents_drawn_by_chance(tmp_path, monkeypatch):
    model, dictionary = ours(), sae().double()
    dictionary.b_enc[:3] = -1e6
    tokens = torch.randint(0, V, (40, N_CTX), generator=seeded(0))
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    firing = features.table().query("n_active > 0").sort_values("latent")

    def effects(minutes, seed=0, sequences=32):
        return feature_effects(model, POST, dictionary, features, sequences=sequences, minutes=minutes, seed=seed)

    def pairs(n):
        return firing.n_sequences.clip(upper=n).sum()

    whole = effects(None)
    assert len(whole) == 20 and whole.attrs["firing"] == len(firing) and whole.n_sequences.sum() == pairs(32)
    fewer = effects(whole.attrs["minutes"] * 0.8)
    assert len(fewer) == 20 and ablation_plan.MIN_SEQUENCES < fewer.attrs["sequences"] < 32
    assert fewer.n_sequences.sum() == pairs(fewer.attrs["sequences"])
    least = effects(whole.attrs["minutes"] * 0.8, sequences=16).attrs["minutes"]
    drawn = [effects(least / 3, seed) for seed in (0, 0, 1)]
    assert drawn[0].equals(drawn[1]) and set(drawn[0].latent) != set(drawn[2].latent)
    for table in drawn:
        assert 2 <= len(table) < len(firing) and table.latent.isin(firing.latent).all()
        assert table.attrs["sequences"] == ablation_plan.MIN_SEQUENCES and table.attrs["firing"] == len(firing)
        assert table.attrs["minutes"] <= least / 3
    assert len(effects(1e-12)) == 1, "one at least"
    counts = np.zeros(20)
    for seed in range(80):
        counts[ablation_plan.draw_latents(features, 5, seed)] += 1
    assert (counts[:3] == 0).all() and spearmanr(counts[firing.latent], firing.n_active).pvalue > 0.01


def test_distinct_estimates_the_sequences_that_are_read(tmp_path):
    fires = torch.rand(300, 12, generator=seeded(1)) < torch.linspace(0.01, 0.6, 12)
    order = torch.randperm(300, generator=seeded(2))
    for n in (4, 16, 300):
        taken = {int(seq) for latent in range(12) for seq in order[fires[order, latent]][:n]}
        told = ablation_plan._count_distinct(fires.sum(0).double(), n, 300)
        assert told == pytest.approx(len(taken), rel=0.15)


def test_steering_brings_what_the_direction_predicts_and_costs_more_at_higher_doses(tmp_path, monkeypatch):
    model, dictionary = planted()
    tokens = torch.randint(8, V, (12, N_CTX), generator=seeded(4))
    tokens[:, 2], tokens[:, 3] = 3, 7
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    written = steer(model, POST, dictionary, features, {0: 4}, tokens[:, :4], n_tokens=12)
    assert torch.equal(written[:, :4], tokens[:, :4]) and (written[:, 4:] == 7).double().mean() > 0.95
    assert torch.equal(written, steer(model, POST, dictionary, features, {0: 4}, tokens[:, :4], n_tokens=12))
    free = steer(model, POST, dictionary, features, {0: 0}, tokens[:, :4], n_tokens=12)
    assert (free[:, 4:] == 7).double().mean() < 0.2
    greedy = steer(model, POST, dictionary, features, {0: 1}, tokens[:2, :4], n_tokens=3, temperature=0)
    assert (greedy[:, 4:] == 7).all()

    dose = dose_response(
        model, POST, dictionary, features, 0, multiples=[0, 1, 2], sequences=12, n_tokens=5, concept=[7]
    )
    with monkeypatch.context() as patched:
        patched.setattr(steering, "NUMBERS_AT_ONCE", 5 * N_CTX * V)  # batches of 5, 5 and 2 sequences
        again = dose_response(
            model, POST, dictionary, features, 0, multiples=[0, 1, 2], sequences=12, n_tokens=5, concept=[7]
        )
    pd.testing.assert_frame_equal(again, dose)
    with pytest.raises(ValueError, match="sequences=0 must be at least 1"):
        dose_response(model, POST, dictionary, features, 0, sequences=0)
    with torch.no_grad():
        clean = model(tokens).log_softmax(-1)
        with intervene(model, POST, dictionary, {0: pin(2 * 4.9)}):
            steered = model(tokens).log_softmax(-1)
    loss = nn.functional.nll_loss(steered[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert dose.loss[3] == pytest.approx(float(loss), rel=1e-4)
    assert dose.kl[3] == pytest.approx(float((clean.exp() * (clean - steered)).sum(-1).mean()), rel=1e-4)
    assert dose.concept[3] == pytest.approx(float(steered[..., 7].exp().mean())) and dose.concept[0] < 0.3
    assert dose.kl[0] == 0 < dose.kl[1] < dose.kl[2] < dose.kl[3] and np.isnan(dose.multiple[0])
    with pytest.raises(ValueError, match="the model has no tokenizer: give token ids"):
        steer(model, POST, dictionary, features, {0: 4}, "seven", n_tokens=3)
    with pytest.raises(ValueError, match="multiples of their maxima, such as {476: 2.0}"):
        steer(model, POST, dictionary, features, [0], tokens[:, :4], n_tokens=3)
    with pytest.raises(ValueError, match=f"is a scan of {features.d_sae} latents of another dictionary"):
        steer(model, POST, RandomDictionary(D, 3, k=2, seed=0), features, {0: 4}, tokens, n_tokens=3)


def test_a_special_token_that_the_model_writes_is_no_firing(tmp_path):
    model, dictionary = planted()
    tokens = torch.randint(8, V, (6, N_CTX), generator=seeded(4))
    tokens[:, 2] = 3
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    with torch.no_grad():
        model.b_U[3] = 100  # the model always writes the token of latent 0
    written = [dose_response(model, POST, dictionary, features, 0, multiples=[], sequences=6, n_tokens=4)]
    model.tokenizer = SimpleNamespace(special_ids=(3,))
    written += [dose_response(model, POST, dictionary, features, 0, multiples=[], sequences=6, n_tokens=4)]
    assert [dose.fires[0] for dose in written] == [1, 0] and written[1].activation[0] == 0 < written[0].activation[0]


def test_what_is_not_of_the_scan_or_of_the_model_is_refused_in_a_line(tmp_path):
    model, tokens = ours(), torch.randint(0, V, (6, N_CTX), generator=seeded(5))
    dictionary = RandomDictionary(D, 8, k=2, seed=0)
    acts = capture(model, tokens, resolve_hooks(model, [POST]))[POST].float().flatten(0, 1)
    known = {"W_dec": dictionary.W_dec, "hook_name": POST}
    features = FeatureStore.from_codes(tokens, dictionary.codes(acts), tmp_path / "features", **known)
    null, fires = RandomDictionary(D, 8, k=2, seed=1), int(features.table()["latent"].iloc[0])
    other = "is a scan of 8 latents of another dictionary"
    for call in (
        lambda: feature_effects(model, POST, null, features, latents=[fires]),
        lambda: steer(model, POST, null, features, {fires: 1}, tokens, n_tokens=1),
        lambda: dose_response(model, POST, null, features, fires),
    ):
        with pytest.raises(ValueError, match=other):
            call()
    with pytest.raises(ValueError, match=f"is a scan of {POST}, not of blocks.1"):
        steer(model, "blocks.1.hook_resid_post", dictionary, features, {fires: 1}, tokens, n_tokens=1)
    for latents in ([1.5], [True], ["1"]):
        with pytest.raises(ValueError, match=f"latent {latents[0]!r} must be a whole number in 0"):
            feature_effects(model, POST, dictionary, features, latents=latents)
    with pytest.raises(ValueError, match=r"part=\(0,\) must be"):
        feature_effects(model, POST, dictionary, features, part=(0,))
    with pytest.raises(ValueError, match=f"token id {V} occurs"):
        steer(model, POST, dictionary, features, {fires: 1}, torch.tensor([[V]]), n_tokens=1)
    cold, greedy = (steer(model, POST, dictionary, features, {}, tokens, n_tokens=3, temperature=t) for t in (1e-45, 0))
    assert torch.equal(cold, greedy)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_prompt_may_be_text_and_is_opened_as_the_corpus_is(family, tmp_path):
    tokenizer, dictionary = foreign_tokenizer(family), RandomDictionary(32, 20, 4)
    model = load_model(foreign_model(family, len(tokenizer)), tokenizer=tokenizer)
    ids = tokenize(["The river runs under the old trees"], tokenizer, 8).tokens[:1]
    assert ids[0, 0] == tokenizer.bos_token_id, "gpt2's is its end of text"
    features = scanned(model, POST, dictionary, ids, tmp_path)
    latent = int(features.table()["max"].idxmax())
    text = tokenizer.decode(ids[0, 1:])
    written = [steer(model, POST, dictionary, features, {latent: 2}, each, n_tokens=3) for each in (ids, text)]
    assert written[0].shape == (1, ids.shape[1] + 3) and torch.equal(*written)


def test_what_the_steered_model_writes_is_read_by_the_model_as_it_is(tmp_path):
    """A latent that fires on the token that it brings: the more it is held up, the more it fires later."""
    model, dictionary = planted()
    u = dictionary.W_dec[0]
    with torch.no_grad():
        model.W_E[7] += 5 * u
        model.W_E[3] -= 5 * u
    tokens = torch.randint(8, V, (12, N_CTX), generator=seeded(4))
    tokens[:, 2] = 7
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    dose = dose_response(model, POST, dictionary, features, 0, multiples=[0, 2], sequences=12, n_tokens=5)
    assert dose.fires[1] < 0.2 < 0.95 < dose.fires[2] <= 1 and dose.activation[2] == pytest.approx(dose.fires[2])


def test_arguments_in_the_wrong_order_are_reported(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features, order = scanned(model, POST, dictionary, tokens, tmp_path), r"the order is \(model, hook, dictionary\)"
    for swapped in ((features, model, POST, dictionary), (model, dictionary, POST, features)):
        for call in (
            lambda *given: feature_effects(*given),
            lambda *given: steer(*given, {0: 1.0}, "text", n_tokens=3),
            lambda *given: dose_response(*given, 0),
        ):
            with pytest.raises(ValueError, match=order):
                call(*swapped)


def test_feature_effects_refuse_the_scan_of_another_dictionary(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    with (
        pytest.raises(ValueError, match="no hook 'blocks.0.hook_resid_pos'"),
        intervene(model, "blocks.0.hook_resid_pos", dictionary, ACTIONS),
    ):
        pass
    with (
        pytest.raises(ValueError, match="latent 20 must be a whole number in 0..19"),
        intervene(model, POST, dictionary, {20: ABLATE}),
    ):
        pass
    with pytest.raises(ValueError, match="reads width 5, but its hook has width 16"):
        with intervene(model, POST, NeuronDictionary(5), {0: ABLATE}):
            model(tokens)
    with pytest.raises(ValueError, match="latent 20 must be a whole number in 0..19"):
        feature_effects(model, POST, dictionary, features, latents=[1, 20])
    with pytest.raises(ValueError, match="cases a latent does not fire where the scan says: give the model"):
        other = RandomDictionary(D, 20, 1, seed=9)
        feature_effects(model, POST, other, features)
