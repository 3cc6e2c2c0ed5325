"""Small models, dictionaries of their hooks, and scans of these, for tests of what a feature does."""

import torch
from torch import nn

from interp import FeatureStore
from interp.activations.hooks import capture, module_of, resolve_hooks
from interp.evaluation.baselines import FixedDictionary
from interp.sae import SAE, TopK, Transcoder
from models.transformer import Transformer, TransformerConfig

D, V, N_CTX = 16, 40, 9
POST = "blocks.0.hook_resid_post"


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def ours(n_layers=2, **options):
    config = TransformerConfig(n_layers=n_layers, d_model=D, n_heads=2, d_mlp=24, d_vocab=V, n_ctx=N_CTX, **options)
    model = Transformer(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded(1)))
    return model


def transcoder(d_in=D, d_out=D, d_sae=12):
    draw = seeded(5)
    W_enc, W_dec = torch.randn(d_in, d_sae, generator=draw), torch.randn(d_sae, d_out, generator=draw)
    weights = dict(W_enc=W_enc, W_dec=W_dec, b_enc=torch.zeros(d_sae), b_dec=torch.zeros(d_out))
    return Transcoder(**weights, encoder=TopK(3), metadata={"hook_name_out": "blocks.1.hook_mlp_out"})


def sae():
    draw = seeded(6)
    W = torch.randn(D, 20, generator=draw)
    return SAE(W_enc=W, W_dec=W.T / 4, b_enc=torch.zeros(20), b_dec=0.1 * torch.ones(D), encoder=TopK(4))


def planted():
    """Token 3 writes u, which the unembedding reads as token 7; the mean of a row is taken off by the norm."""
    model = ours(1)
    u = nn.functional.normalize(torch.randn(D, generator=seeded(3), dtype=torch.float64), dim=0)
    u = nn.functional.normalize(u - u.mean(), dim=0)
    with torch.no_grad():
        for weight in (model.blocks[0].attn.W_O, model.blocks[0].mlp.W_out, model.W_pos, model.W_U, model.b_U):
            weight.zero_()
        for weight in (model.blocks[0].attn.b_O, model.blocks[0].mlp.b_out, model.ln_final.b):
            weight.zero_()
        model.ln_final.w.fill_(1)
        model.W_E.sub_(torch.outer(model.W_E @ u, u))
        model.W_E[3] += 5 * u
        model.W_U[:, 7] = 4 * u
    ones = torch.ones(D, dtype=torch.float64) / D**0.5
    rows = torch.stack([u, ones])
    dictionary = FixedDictionary(rows.T, rows, u / 10, None)  # fires along u from 0.1 on
    return model, dictionary


def scanned(model, hook, dictionary, tokens, folder):
    acts = capture(module_of(model), tokens, resolve_hooks(model, [hook]))[hook].detach()
    return FeatureStore.from_codes(tokens, dictionary.codes(acts.flatten(0, 1).flatten(1)), folder)
