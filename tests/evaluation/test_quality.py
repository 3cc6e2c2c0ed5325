import math

import numpy as np
import pandas as pd
import pytest
import torch

from interp.activations.next_tokens import NoNextTokens, check_predicts_next
from interp.evaluation.baselines import FixedDictionary, NeuronDictionary, RandomDictionary
from interp.evaluation.downstream import Readout, cross_entropies
from interp.evaluation.quality import (
    evaluate_dictionary,
    evaluate_reconstruction,
    quality_table,
    with_mean_of_draws,
    worse_than_unigrams,
)
from interp.evaluation.splice import ratio_error
from interp.pipeline.stages.quality import quality_summary
from interp.sae import TopK
from interp.sae.model import Crosscoder, Transcoder
from models.transformer import Transformer, TransformerConfig

HOOK, MLP, BOS = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post", 0


@pytest.fixture(scope="module")
def model():
    config = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24, d_vocab=30, n_ctx=10, act_fn="relu")
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():  # far enough from the initialisation for ablations to matter
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.fixture(scope="module")
def tokens():
    tokens = torch.randint(1, 30, (13, 10), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[3, 4] = BOS, BOS
    return tokens


def slow_cross_entropy(model, tokens, hook=None, replace=None):
    """Return one sequence at a time, through TransformerLens's own hooks."""
    losses = []
    for row in tokens:
        kept = row != BOS

        def put(acts, hook, kept=kept):
            return torch.stack([replace(a) if keep else a for a, keep in zip(acts[0], kept, strict=True)])[None]

        logits = model.run_with_hooks(row[None], fwd_hooks=[(hook, put)] if hook else [])
        losses += [-logits[0, i].log_softmax(-1)[row[i + 1]] for i in range(len(row) - 1)]
    return float(torch.stack(losses).mean())


def kept_acts(model, tokens, hook=HOOK):
    _, cache = model.run_with_cache(tokens)
    return cache[hook][tokens != BOS].detach()


def test_a_reconstruction_without_a_model_is_that_within_it(model, tokens):
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    whole = evaluate_dictionary(model, HOOK, dictionary, tokens, exclude=[BOS])
    alone = evaluate_reconstruction(dictionary, kept_acts(model, tokens))
    assert alone._asdict() == pytest.approx({name: getattr(whole, name) for name in alone._fields})


def test_equals_the_naive_formulas(model, tokens):
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    quality = evaluate_dictionary(model, HOOK, dictionary, tokens, batch_size=4, exclude=[BOS])
    acts = kept_acts(model, tokens)
    mean, z, recons = acts.mean(0), dictionary.encode(acts), dictionary(acts)
    with torch.no_grad():
        clean = slow_cross_entropy(model, tokens)
        spliced = slow_cross_entropy(model, tokens, HOOK, lambda x: dictionary(x[None])[0])
        mean_ablated = slow_cross_entropy(model, tokens, HOOK, lambda x: mean)
        zero_ablated = slow_cross_entropy(model, tokens, HOOK, torch.zeros_like)
    _, counts = tokens[:, 1:].unique(return_counts=True)
    unigram = float(-sum(n / counts.sum() * (n / counts.sum()).log() for n in counts))
    nothing = min(zero_ablated, unigram)
    assert nothing == unigram
    lost, costs = losses_of_sequences(model, tokens, dictionary, unigram)
    residual = lost - lost.mean() / costs.mean() * costs
    expected = {
        "l0": float((z > 0).sum(1).float().mean()),
        "fvu": float((acts - recons).square().sum() / (acts - mean).square().sum()),
        "fvu_all": float((acts - recons).square().sum() / (acts - mean).square().sum()),
        "ce_clean": clean,
        "ce_spliced": spliced,
        "ce_mean_ablated": mean_ablated,
        "ce_zero_ablated": zero_ablated,
        "ce_unigram": unigram,
        "ce_recovered": (nothing - spliced) / (nothing - clean),
        "ce_recovered_se": float(residual.std() / len(tokens) ** 0.5 / costs.mean().abs()),
        "ce_recovered_mean": (mean_ablated - spliced) / (mean_ablated - clean),
        "ce_recovered_zero": (zero_ablated - spliced) / (zero_ablated - clean),
        "dead_share": float(((z > 0).sum(0) == 0).float().mean()),
        "faint_share": float((z.amax(0) < 0.25 * z.amax(0)[z.amax(0) > 0].median())[z.amax(0) > 0].sum() / 40),
        "ultra_low_share": 0.0,
        "n_tokens": len(acts),
        "n_spliced": len(acts),
        "outlier_share": 0.0,
    }
    assert vars(quality) == pytest.approx(expected, rel=1e-3)
    assert abs(clean - spliced) > 0.01, "the splice must change something for this test to mean anything"


def losses_of_sequences(model, tokens, dictionary, unigram):
    """Return what the splice loses on each sequence, and what it would lose if only unigrams were left."""
    with torch.no_grad():
        clean = [slow_cross_entropy(model, row[None]) for row in tokens]
        spliced = [slow_cross_entropy(model, row[None], HOOK, lambda x: dictionary(x[None])[0]) for row in tokens]
    return torch.tensor(spliced) - torch.tensor(clean), unigram - torch.tensor(clean)


def test_of_many_tokens_the_ablations_get_a_part(model, tokens, monkeypatch):
    dictionary, reports = RandomDictionary(16, 40, 5, seed=3), []
    whole = evaluate_dictionary(model, HOOK, dictionary, tokens, batch_size=4, exclude=[BOS])
    monkeypatch.setattr("interp.evaluation.splice.PART_TOKENS", 40)
    asked = {"batch_size": 4, "exclude": [BOS], "progress": lambda *report: reports.append(report)}
    part = evaluate_dictionary(model, HOOK, dictionary, tokens, unigram_loss=100.0, **asked)
    assert reports[-1][:2] == (3 * 13 + 2 * 5, 3 * 13 + 2 * 5)  # sequences 0, 3, 6, 9 and 12
    with torch.no_grad():
        zeros = slow_cross_entropy(model, tokens[::3], HOOK, torch.zeros_like)
        added = zeros - slow_cross_entropy(model, tokens[::3])
    assert part.ce_zero_ablated == pytest.approx(whole.ce_clean + added, rel=1e-4)
    assert part.ce_spliced == pytest.approx(whole.ce_spliced, rel=1e-6)
    assert part.ce_recovered == pytest.approx(1 - (whole.ce_spliced - whole.ce_clean) / added, rel=1e-3)
    assert 0 < part.ce_recovered_se < 1


def test_baselines_get_a_part_on_which_they_are_held_against_the_clean_model(model, tokens, monkeypatch):
    dictionaries = {"SAE": RandomDictionary(16, 40, 5, seed=3), "PCA": NeuronDictionary(16, 5, signed=True)}
    asked, baselines = {"batch_size": 4, "exclude": [BOS]}, {"baselines": ["PCA"]}
    whole = quality_table(model, HOOK, dictionaries, tokens, **asked).set_index("dictionary")
    few = quality_table(model, HOOK, dictionaries, tokens, **asked, **baselines).set_index("dictionary")
    pd.testing.assert_frame_equal(few, whole, check_exact=True)  # of so few tokens all are taken
    monkeypatch.setattr("interp.evaluation.splice.PART_TOKENS", 40)
    reports = []
    report = {"progress": lambda *told: reports.append(told[:2])}
    part = quality_table(model, HOOK, dictionaries, tokens, **asked, **baselines, **report).set_index("dictionary")
    assert reports[-1] == (3 * 13 + 3 * 5,) * 2  # the hook, clean and SAE on all; two ablations and PCA on 5
    pca, of_all = part.loc["PCA"], whole.loc["PCA"]
    assert pca.n_tokens == of_all.n_tokens and pca.n_spliced == int((tokens[::3] != BOS).sum())
    kept = ["l0", "fvu", "fvu_all", "dead_share", "faint_share", "ce_clean"]
    assert pca[kept].tolist() == of_all[kept].tolist()
    lost, costs = losses_of_sequences(model, tokens, dictionaries["PCA"], pca.ce_unigram)
    assert pca.ce_unigram < pca.ce_zero_ablated  # so that costs are known of all, and what is lost of a part
    ratio = float(lost[::3].mean() / costs[::3].mean())
    assert pca.ce_recovered == pytest.approx(1 - ratio, rel=1e-3)
    assert pca.ce_spliced == pytest.approx(pca.ce_clean + ratio * float(costs.mean()), rel=1e-4)
    residual = lost[::3] - ratio * costs[::3]
    assert pca.ce_recovered_se == pytest.approx(float(residual.std() / 5**0.5 / costs[::3].mean().abs()), rel=1e-3)
    assert part.loc["SAE", "ce_spliced"] == whole.loc["SAE", "ce_spliced"]
    assert part.loc["SAE", "n_spliced"] == whole.loc["SAE", "n_tokens"]
    with pytest.raises(ValueError, match="baselines ICA are not among the dictionaries SAE, PCA"):
        quality_table(model, HOOK, dictionaries, tokens, baselines=["ICA"])


@pytest.mark.parametrize(("lost_step", "costs_step"), [(1, 1), (1, 4), (4, 4)])
def test_the_standard_error_is_how_much_the_share_differs_between_draws(lost_step, costs_step):
    """Of sequences of which one or both are known of a part only; and the truth is within two of it as often as it
    should be."""
    generator = torch.Generator().manual_seed(0)
    common, noise = (torch.randn(2000, 120, generator=generator) for _ in range(2))
    costs, lost = 5 + common, 2 + 0.5 * common + 0.3 * noise
    shares = lost[:, ::lost_step].mean(1) / costs[:, ::costs_step].mean(1)
    rest = torch.arange(120)
    lost[:, rest % lost_step > 0], costs[:, rest % costs_step > 0] = torch.nan, torch.nan
    told = torch.tensor([ratio_error(a, b) for a, b in zip(lost[:500], costs, strict=False)])
    assert float(told.mean()) == pytest.approx(float(shares.std()), rel=0.05)
    assert 0.9 < float(((shares[:500] - 2 / 5).abs() < 2 * told).double().mean()) < 0.98
    assert np.isnan(ratio_error(lost[0, :1], costs[0, :1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cross_entropies_in_blocks_are_those_of_torch(dtype, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = (50 * torch.randn(23, 17, generator=generator)).to(dtype)
    following = torch.randint(17, (23,), generator=generator)
    monkeypatch.setattr("interp.evaluation.downstream._TERMS_AT_ONCE", 3 * 17)
    before = logits.clone()
    expected = torch.nn.functional.cross_entropy(logits.double(), following, reduction="none")
    assert cross_entropies(logits, following).double() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("has_W", [True, False])
@pytest.mark.parametrize("has_b", [True, False])
def test_a_readout_is_a_linear_map_of_which_either_part_may_be_absent(has_W, has_b):
    y, W, b = torch.randn(3, 4), torch.randn(4, 4), torch.randn(4)
    readout = Readout(4, W if has_W else None, b if has_b else None)
    expected = y @ (W if has_W else torch.eye(4)) + (b if has_b else 0)
    torch.testing.assert_close(readout.logits(y), expected)
    torch.testing.assert_close(readout.logits(2 * y) - readout.logits(y), readout.differences(y))


def test_identity_recovers_everything_and_the_mean_nothing(model, tokens):
    identity = NeuronDictionary(16, 16, signed=True)
    quality = evaluate_dictionary(model, HOOK, identity, tokens, exclude=[BOS])
    assert quality.ce_recovered_mean == pytest.approx(1, abs=1e-6)
    assert quality.ce_recovered_zero == pytest.approx(1, abs=1e-6)
    assert quality.fvu == pytest.approx(0, abs=1e-9)
    nothing = torch.zeros(16, 4)
    only_mean = FixedDictionary(nothing, nothing.T, kept_acts(model, tokens).mean(0), None)
    quality = evaluate_dictionary(model, HOOK, only_mean, tokens, exclude=[BOS])
    assert quality.ce_recovered_mean == pytest.approx(0, abs=1e-4)
    assert quality.fvu == pytest.approx(1, abs=1e-5)
    assert (quality.l0, quality.dead_share) == (0, 1)


class Signed(NeuronDictionary):
    """A dictionary whose codes are the activations themselves, including negative ones."""

    def _positive(self, x):
        return x


def test_codes_below_0_are_decoded_and_do_not_fire(model, tokens):
    quality = evaluate_dictionary(model, HOOK, Signed(16), tokens, exclude=[BOS])
    acts = kept_acts(model, tokens)
    assert (acts < 0).any() and quality.fvu == pytest.approx(0, abs=1e-9)
    assert quality.l0 == pytest.approx(float((acts > 0).sum(1).float().mean()))


def test_positions_that_training_left_out_are_left_out(model, tokens):
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    dictionary.metadata = {"exclude_positions": [0, 1, 2000]}  # the last is beyond these sequences
    other = RandomDictionary(16, 40, 5, seed=4)
    kept = (tokens != BOS) & (torch.arange(10) > 1)
    _, cache = model.run_with_cache(tokens)
    expected = evaluate_reconstruction(dictionary, cache[HOOK][kept].detach())
    quality = evaluate_dictionary(model, HOOK, dictionary, tokens, exclude=[BOS])
    assert quality.n_tokens == kept.sum() and quality.fvu == pytest.approx(expected.fvu)
    table = quality_table(model, HOOK, {"ours": dictionary, "other": other}, tokens, exclude=[BOS])
    assert (table["n_tokens"] == int(kept.sum())).all() and table["fvu"][0] == pytest.approx(expected.fvu)
    dictionary.metadata = {"exclude_positions": list(range(10))}
    with pytest.raises(ValueError, match=r"and positions \[0, 1, .* leave nothing to evaluate"):
        evaluate_dictionary(model, HOOK, dictionary, tokens)


def test_tokens_that_training_left_out_are_left_out(model, tokens):
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    expected = evaluate_dictionary(model, HOOK, dictionary, tokens, exclude=[BOS, 7])
    dictionary.metadata = {"exclude_special_tokens": [BOS, 7]}
    assert evaluate_dictionary(model, HOOK, dictionary, tokens) == expected


def test_padding_is_no_token_to_predict(model, tokens, monkeypatch):
    """The losses of padded sequences are those of the sequences alone, each token counting the same."""
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    lengths = 2 + torch.arange(13) % 9
    padded = tokens.masked_fill(torch.arange(10) >= lengths[:, None], BOS)
    padded[3, 4] = 7
    quality = evaluate_dictionary(model, HOOK, dictionary, padded, exclude=[BOS], batch_size=4, unigram_loss=4.0)
    replacements = {
        "ce_clean": None,
        "ce_spliced": lambda x: dictionary(x[None])[0],
        "ce_zero_ablated": torch.zeros_like,
    }
    each = [row[: min(length + 1, 10)] for row, length in zip(padded, lengths.tolist(), strict=True)]
    for name, replace in replacements.items():
        with torch.no_grad():
            nats = [(len(row) - 1) * slow_cross_entropy(model, row[None], replace and HOOK, replace) for row in each]
        assert getattr(quality, name) == pytest.approx(sum(nats) / sum(len(row) - 1 for row in each), rel=1e-4)
    monkeypatch.setattr("interp.evaluation.splice.PART_TOKENS", 40)
    part = evaluate_dictionary(model, HOOK, dictionary, padded, exclude=[BOS], batch_size=4)
    with torch.no_grad():
        added = [
            (len(row) - 1)
            * (slow_cross_entropy(model, row[None], HOOK, torch.zeros_like) - slow_cross_entropy(model, row[None]))
            for row in each[::3]
        ]
    assert part.ce_zero_ablated - part.ce_clean == pytest.approx(
        sum(added) / sum(len(row) - 1 for row in each[::3]), rel=1e-3
    )
    followed = torch.cat([row[1:] for row in each])
    counts = followed.bincount()[followed.unique()] / len(followed)
    assert part.ce_unigram == pytest.approx(float(-(counts * counts.log()).sum()), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_ids_of_any_width_give_the_same_quality(model, tokens, dtype):
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    exclude = [BOS, 3 + 2**16]
    expected = evaluate_dictionary(model, HOOK, dictionary, tokens, exclude=exclude)
    assert evaluate_dictionary(model, HOOK, dictionary, tokens.numpy().astype(dtype), exclude=exclude) == expected


def test_a_reconstruction_of_half_precision_rows_is_not_rounded():
    acts = (100 + torch.randn(200, 8, generator=torch.Generator().manual_seed(0))).bfloat16()
    dictionary = FixedDictionary(torch.eye(8), torch.eye(8) * 0.999, torch.zeros(8), None)
    exact = evaluate_reconstruction(dictionary, acts.float())
    assert evaluate_reconstruction(dictionary, acts) == exact


def test_the_zero_of_ce_recovered_is_the_better_of_zero_ablation_and_unigrams():
    """Two tokens in turn, each after the other: the logit of the next token is a, and that of token 0 has b more. With
    b < 0 the mean activation is worse than zero, and zero worse than unigrams."""
    a, b = 4.0, -3.0
    head = torch.nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(a * torch.eye(2).flip(0))
        head.bias.copy_(torch.tensor([b, 0.0]))
    body = torch.nn.Sequential(torch.nn.Embedding.from_pretrained(torch.eye(2)), torch.nn.Identity(), head)
    tokens = torch.tensor([[0, 1, 0, 1, 0]])  # their mean activation is (0.6, 0.4); half of those predicted are 0

    def loss(behind_1: tuple[float, float], behind_0: tuple[float, float]) -> float:
        """Return the loss for these logits of 0 and 1, when each follows the other."""
        return float(np.logaddexp(*behind_1) - behind_1[0] + np.logaddexp(*behind_0) - behind_0[1]) / 2

    clean, halved = (loss((x + b, 0), (b, x)) for x in (a, a / 2))
    zero, mean = loss((b, 0), (b, 0)), loss((0.4 * a + b, 0.6 * a), (0.4 * a + b, 0.6 * a))
    unigram = np.log(2)
    assert clean < halved < unigram < zero < mean
    halves = FixedDictionary(torch.eye(2) / 2, torch.eye(2), torch.zeros(2), None)
    given = (body, {"middle": body[1]}), "middle", halves, tokens
    quality = evaluate_dictionary(*given)
    measured = [quality.ce_clean, quality.ce_spliced, quality.ce_unigram, quality.ce_zero_ablated]
    assert measured == pytest.approx([clean, halved, unigram, zero], rel=1e-5)
    assert quality.ce_recovered == pytest.approx((unigram - halved) / (unigram - clean), rel=1e-4)
    assert quality.ce_recovered_mean == pytest.approx((mean - halved) / (mean - clean), rel=1e-4)
    assert quality.ce_recovered < 0.1 < 0.7 < quality.ce_recovered_mean
    other = evaluate_dictionary(*given, unigram_loss=5.0)
    assert other.ce_unigram == 5 and other.ce_recovered == pytest.approx((zero - halved) / (zero - clean), rel=1e-4)


def test_a_table_has_a_row_per_dictionary_and_leaves_the_model_unchanged(model, tokens):
    model.train()
    reports = []
    dictionaries = {"neurons": NeuronDictionary(24), "few neurons": NeuronDictionary(24, 2)}
    table = quality_table(
        model, MLP, dictionaries, tokens, batch_size=5, exclude=[BOS], progress=lambda *report: reports.append(report)
    )
    alone = evaluate_dictionary(model, MLP, dictionaries["few neurons"], tokens, batch_size=13, exclude=[BOS])
    assert list(table.dictionary) == ["neurons", "few neurons"]
    row = table.iloc[1].drop("dictionary").to_dict()
    assert row == pytest.approx(vars(alone), rel=1e-4)  # other batches, other sums in float32
    assert table.fvu[0] < 1e-9 < table.fvu[1]
    assert reports[-1][:2] == (78, 78)  # once up to the hook, and for each of clean, mean, zeros and two
    assert model.training and not any(module._forward_hooks for module in model.modules())
    model.eval()


def test_what_memory_does_not_hold_is_run_again(model, tokens, monkeypatch):
    asked = model, HOOK, RandomDictionary(16, 40, 5), tokens
    held = evaluate_dictionary(*asked, batch_size=4)
    monkeypatch.setattr("interp.evaluation.splice._CACHE_BYTES", 6000)
    assert evaluate_dictionary(*asked, batch_size=4) == held


def test_a_plain_torch_module_works_too(tokens):
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Embedding(30, 16), torch.nn.Tanh(), torch.nn.Linear(16, 30))
    quality = evaluate_dictionary((body, {"middle": body[1]}), "middle", NeuronDictionary(16), tokens)
    assert quality.n_tokens == tokens.numel()
    assert quality.ce_recovered_zero < 1


READS, WRITES = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"


def random_weights(d_in, d_sae, d_out, seed=2):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_enc": (d_sae,), "b_dec": (d_out,)}
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("skips", [False, True])
def test_a_transcoder_is_held_against_the_hook_that_it_writes(model, tokens, skips):
    """By hand: what it makes of one hook in the place of the other, errors and ablations there."""
    W_skip = random_weights(16, 16, 16)["W_dec"] if skips else None
    metadata = {"hook_name": READS, "hook_name_out": WRITES}
    transcoder = Transcoder(**random_weights(16, 20, 16), encoder=TopK(4), W_skip=W_skip, metadata=metadata)
    quality = evaluate_dictionary(model, READS, transcoder, tokens, batch_size=4, exclude=[BOS])
    x, y = kept_acts(model, tokens, READS), kept_acts(model, tokens, WRITES)
    with torch.no_grad():
        y_hat, mean = transcoder(x), y.mean(0)
        replaced = iter(y_hat)
        spliced = slow_cross_entropy(model, tokens, WRITES, lambda _: next(replaced))
        by_mean = slow_cross_entropy(model, tokens, WRITES, lambda _: mean)
        by_zero = slow_cross_entropy(model, tokens, WRITES, torch.zeros_like)
    fvu = float((y - y_hat).square().sum() / (y - mean).square().sum())
    measured = [quality.fvu, quality.ce_spliced, quality.ce_mean_ablated, quality.ce_zero_ablated]
    assert measured == pytest.approx([fvu, spliced, by_mean, by_zero], rel=1e-3)
    with pytest.raises(ValueError, match="transcoder does not write the hook that SAE writes: measure them separately"):
        quality_table(model, READS, {"SAE": NeuronDictionary(16), "transcoder": transcoder}, tokens)


def test_a_crosscoder_is_refused_in_words(model, tokens):
    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    weights = random_weights(32, 4, 32)
    crosscoder = Crosscoder(widths=(16, 16), encoder=TopK(2), metadata={"hook_names": names}, **weights)
    with pytest.raises(ValueError, match="the crosscoder reads blocks.0.hook_resid_post and blocks.1.hook_resid_post"):
        evaluate_dictionary(model, names[0], crosscoder, tokens)


class Averaging(torch.nn.Module):
    """Each position reads the mean of those up to it, or as an encoder of all."""

    def __init__(self, causal):
        super().__init__()
        self.causal, self.embed, self.out = causal, torch.nn.Embedding(30, 16), torch.nn.Linear(16, 30)

    def forward(self, tokens):
        x = self.embed(tokens)
        n = torch.arange(1, 1 + x.shape[1], dtype=x.dtype)[:, None]
        return self.out(x + (x.cumsum(1) / n if self.causal else x.mean(1, keepdim=True)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_sees_later_tokens_predicts_no_next_ones(tokens, dtype):
    torch.manual_seed(0)
    check_predicts_next(Averaging(causal=True).to(dtype), tokens)
    with pytest.raises(NoNextTokens, match="depend on later tokens .* predicts no next tokens"):
        check_predicts_next(Averaging(causal=False).to(dtype), tokens)


def test_without_logits_there_are_no_next_tokens(tokens):
    silent = Averaging(causal=True)
    silent.register_forward_hook(lambda *_: {"last_hidden_state": torch.zeros(1)})
    with pytest.raises(NoNextTokens, match="has no logits"):
        check_predicts_next(silent, tokens)


def test_quality_of_an_encoder_has_everything_but_losses(tokens, caplog):
    quality = evaluate_dictionary(Averaging(causal=False), "embed", NeuronDictionary(16, signed=True), tokens)
    assert quality.fvu == pytest.approx(0, abs=1e-9) and quality.l0 == 16
    assert all(np.isnan(value) for name, value in vars(quality).items() if name.startswith("ce_"))
    assert "no cross-entropies are measured: the model's logits depend on later tokens" in caplog.text


def test_a_model_that_is_no_better_than_unigrams_gets_a_remark(model, tokens, caplog):
    dictionary = RandomDictionary(16, 40, 5, seed=3)
    quality = evaluate_dictionary(model, HOOK, dictionary, tokens, exclude=[BOS])
    remark = worse_than_unigrams(quality.ce_clean, quality.ce_unigram)
    assert quality.ce_clean > quality.ce_unigram and caplog.text.count(remark) == 1
    assert remark.startswith(f"the model is no better than unigrams ({quality.ce_clean:.3f} nats a token, unigrams")
    results = {"SAE": vars(quality), "PCA": vars(quality)}
    assert quality_summary(results).count(remark) == 1
    caplog.clear()
    better = evaluate_dictionary(model, HOOK, dictionary, tokens, exclude=[BOS], unigram_loss=100.0)
    assert not caplog.text and worse_than_unigrams(better.ce_clean, better.ce_unigram) == ""
    assert quality_summary({"SAE": vars(better)}).count("\n") == 0
    assert worse_than_unigrams(np.nan, np.nan) == "", "an encoder has neither"


def test_arguments_in_the_wrong_order_are_reported(model, tokens):
    dictionary = NeuronDictionary(16)
    with pytest.raises(ValueError, match=r"hook is a Transformer, .*the order is \(model, hook, dictionary\)"):
        evaluate_dictionary(dictionary, model, tokens, HOOK)
    with pytest.raises(ValueError, match="dictionaries is empty: give at least one"):
        quality_table(model, HOOK, {}, tokens)
    with pytest.raises(ValueError, match=r"dictionaries is a NeuronDictionary: the order is \(model, hook, {name: "):
        quality_table(model, HOOK, dictionary, tokens)


def test_bad_input_is_named(model, tokens):
    with pytest.raises(ValueError, match="reads width 5, but blocks.0.hook_resid_post has width 16"):
        evaluate_dictionary(model, HOOK, NeuronDictionary(5), tokens)
    with pytest.raises(ValueError, match="no hook 'blocks.0.hook_resid'"):
        evaluate_dictionary(model, "blocks.0.hook_resid", NeuronDictionary(16), tokens)
    with pytest.raises(ValueError, match="leave nothing to evaluate"):
        evaluate_dictionary(model, HOOK, NeuronDictionary(16), torch.zeros(2, 4, dtype=torch.long), exclude=[0])


def test_draws_have_one_row_with_their_mean_and_both_errors():
    rows = {"dictionary": ["SAE", "one", "two"], "fvu": [0.1, 0.4, 0.6], "n_tokens": [9, 9, 9]}
    table = pd.DataFrame(rows | {"ce_recovered": [0.9, 0.2, 0.6], "ce_recovered_se": [0.01, 0.03, 0.04]})
    table.attrs["decoders"] = {"SAE": "a", "one": "b", "two": "c"}
    mean = with_mean_of_draws(table, ["one", "two"], "random")
    assert mean.dictionary.tolist() == ["SAE", "random"] and mean.attrs["decoders"] == {"SAE": "a"}
    assert mean.fvu.tolist() == [0.1, 0.5] and mean.n_tokens.tolist() == [9, 9]
    assert mean.ce_recovered[1] == pytest.approx(0.4)
    between = ((0.2 - 0.4) ** 2 + (0.6 - 0.4) ** 2) / 1  # the variance of the two draws
    assert mean.ce_recovered_se[1] == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2 + between / 2))
    assert with_mean_of_draws(table, ["three"], "random").equals(table)
