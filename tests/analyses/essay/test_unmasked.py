"""Without a mask the next token leaks into its own prediction; with one it cannot, hooked or fused."""

import pytest
import torch
import torch.nn.functional as F

from analyses.essay.toys.unmasked import UnmaskedTransformer, honest_loss
from models.loading import to_hooked_transformer
from models.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, d_vocab=11, n_ctx=8, seed=3)
TOKENS = torch.randint(0, 11, (5, 8), generator=torch.Generator().manual_seed(0))


def changed(model, **kwargs):
    """Return which places of the logits change when token 4 does."""
    other = TOKENS.clone()
    other[:, 4] = (other[:, 4] + 1) % 11
    return (model(TOKENS, **kwargs) != model(other, **kwargs)).flatten(2).any(2).any(0).tolist()


def test_a_later_token_changes_nothing_before_it_unless_the_mask_is_off():
    assert changed(Transformer(CONFIG)) == [False] * 4 + [True] * 4
    assert changed(UnmaskedTransformer(CONFIG)) == [True] * 8


@pytest.mark.parametrize("model", [Transformer(CONFIG), UnmaskedTransformer(CONFIG)], ids=["causal", "unmasked"])
def test_the_hooked_path_and_transformer_lens_respect_the_mask(model):
    fused = model(TOKENS)
    hooked, cache = model.run_with_cache(TOKENS, return_cache_object=False)
    torch.testing.assert_close(hooked, fused, atol=1e-5, rtol=1e-5)
    pattern = cache["blocks.0.attn.hook_pattern"]
    assert (pattern.triu(1) > 0).any() == isinstance(model, UnmaskedTransformer)
    torch.testing.assert_close(to_hooked_transformer(model)(TOKENS), fused, atol=1e-4, rtol=1e-4)


def test_the_loss_is_of_the_row_without_its_last_token():
    model = UnmaskedTransformer(CONFIG)
    logits = model(TOKENS[:, :-1]).log_softmax(-1)
    by_hand = torch.stack([-logits[:, t].gather(1, TOKENS[:, t + 1 : t + 2])[:, 0] for t in range(7)], 1)
    torch.testing.assert_close(model(TOKENS, return_type="loss", loss_per_token=True), by_hand)
    torch.testing.assert_close(model(TOKENS, return_type="loss"), by_hand.mean())
    torch.testing.assert_close(model(TOKENS, return_type="both").loss, by_hand.mean())


def test_the_honest_loss_asks_at_the_last_place():
    model = Transformer(CONFIG)
    expected = F.cross_entropy(model(TOKENS)[:, -2], TOKENS[:, -1])
    assert honest_loss(model, TOKENS, batch_size=2) == pytest.approx(expected.item(), rel=1e-5)
    unmasked = UnmaskedTransformer(CONFIG)
    last = unmasked(TOKENS, return_type="loss", loss_per_token=True)[:, -1].mean()
    assert honest_loss(unmasked, TOKENS) == pytest.approx(last.item(), rel=1e-5)


def test_a_generated_token_sees_the_window_and_no_more():
    model, short = Transformer(CONFIG), TOKENS[:, -3:]
    long = model.generate(TOKENS, 1, temperature=0, window=3)
    assert (long[:, -1] == model.generate(short, 1, temperature=0)[:, -1]).all()
