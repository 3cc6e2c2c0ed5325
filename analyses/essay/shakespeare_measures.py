"""Measures of a character model: whether answers leak, how samples read, how well units tell tokens apart.

Over the positions i of a text, with the token t_i and the activation a_i of a unit,

    η² = Σ_t n_t (ā_t − ā)² / Σ_i (a_i − ā)²                (between tokens, of the total; Fisher's correlation ratio)
    kurtosis = mean (a_i − ā)⁴ / (mean (a_i − ā)²)²           (3 for a normal distribution; large for a unit that is
                                                              silent except at a few positions)

For a unit that does not depend on the token, η² is about (T − 1) / (N − 1), with T tokens and N positions, not zero.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.essay.shakespeare_models import Corpus
from analyses.essay.texts.generated import ngram_distance, word_share
from interp.evaluation.baselines import shuffled_model
from models.transformer import Transformer

MEASURES = ("character share", "kurtosis", "added by the character before", "spread")


class Generated(NamedTuple):
    distance: float
    """Distance of the bigrams to the training corpus's, the root of the Jensen–Shannon divergence."""
    word_share: float
    """Share of words of three letters or more that are in the training corpus."""
    texts: list[str]


@torch.no_grad()
def leak(model: Transformer, tokens: Int[Tensor, "1 pos"]) -> Float[np.ndarray, "changed pos"]:
    """Return the largest change of a logit at each place when the token of another is exchanged, for each that can
    be."""
    n, d_vocab = tokens.shape[1], model.config.d_vocab
    same = tokens.repeat(n, 1)  # as many rows: the last bits of a product hang on its shape
    changed = same.clone()
    changed[range(n), range(n)] = (tokens[0] - 1) % (d_vocab - 2) + 2  # ids 0 and 1 are not characters
    return (model(changed) - model(same)).abs().amax(2).numpy()


def generated(
    model: Transformer, prompts: Int[Tensor, "seq pos"], length: int, corpus: Corpus, *, temperature: float, seed: int
) -> Generated:
    """Return samples after the prompts, which are not measured. A model sees as much as a row of its training held."""
    window = model.config.n_ctx - 1
    rows = model.generate(prompts, length, temperature=temperature, seed=seed, window=window)[:, prompts.shape[1] :]
    return judged(rows, corpus)


def judged(rows: Int[Tensor, "seq pos"], corpus: Corpus) -> Generated:
    texts = [corpus.tokenizer.decode(row) for row in rows.tolist()]
    distance = ngram_distance(rows, corpus.rows(128), corpus.tokenizer.vocab_size)
    return Generated(distance, word_share(texts, corpus.words), texts)


@torch.no_grad()
def unit_activations(model: Transformer, tokens: Int[Tensor, "seq pos"]) -> Float[Tensor, "row unit"]:
    """Return the activations of all MLP units after their activation function, the units of one layer after those of
    the other."""
    names = [f"blocks.{layer}.mlp.hook_post" for layer in range(model.config.n_layers)]
    _, cache = model.run_with_cache(tokens, return_type=None, names_filter=names, return_cache_object=False)
    return torch.cat([cache[name] for name in names], 2).flatten(0, 1)


def contrast(model: Transformer, tokens: Int[Tensor, "seq pos"]) -> Float[np.ndarray, " measure"]:
    """Return the contrast of the units that fire at all, over the places that have one before them: η² of the
    character, mean; kurtosis, median (its mean is that of the rarest unit); by how much η² of the pair with the
    character before exceeds that of the character, mean; standard deviation, mean."""
    acts = unit_activations(model, tokens).unflatten(0, tokens.shape)[:, 1:].flatten(0, 1)
    pairs = tokens[:, :-1].long() * model.config.d_vocab + tokens[:, 1:]
    share, pair_share = (token_variance_share(acts, group.flatten()) for group in (tokens[:, 1:], pairs))
    added = float((pair_share - share).nanmean())
    return np.array([float(share.nanmean()), float(kurtosis(acts).nanmedian()), added, float(acts.std(0).mean())])


def shuffled_contrast(
    model: Transformer, tokens: Int[Tensor, "seq pos"], shuffles: int
) -> Float[np.ndarray, "shuffle measure"]:
    """Return the contrast of models whose weight matrices have their entries permuted."""
    return np.stack([contrast(shuffled_model(model, seed=seed), tokens) for seed in range(shuffles)])


def token_variance_share(acts: Float[Tensor, "row unit"], tokens: Int[Tensor, " row"]) -> Float[Tensor, " unit"]:
    """Return η² of each unit, in [0, 1]. It is NaN for a unit that never changes."""
    if len(acts) != len(tokens) or acts.ndim != 2:
        raise ValueError(
            f"acts of shape {tuple(acts.shape)} must be [row, unit] with a row for each {len(tokens)} tokens"
        )
    deviations = acts.double() - acts.double().mean(0)
    _, group, counts = tokens.unique(return_inverse=True, return_counts=True)
    sums = deviations.new_zeros(len(counts), acts.shape[1]).index_add_(0, group, deviations)
    between = (sums.square() / counts[:, None]).sum(0)
    return between / deviations.square().sum(0)


def kurtosis(acts: Float[Tensor, "row unit"]) -> Float[Tensor, " unit"]:
    """Return the kurtosis of each unit over the rows; NaN for a unit that never changes."""
    squares = (acts.double() - acts.double().mean(0)).square()
    return squares.square().mean(0) / squares.mean(0).square()
