"""How well will a latent steer? Predict it from a forward pass before it is tried, and measure how well it does.

In:  a feature store, its model and dictionary, some latents. Each is held at the multiple of its maximum at which the
     mean KL(p ‖ p') on sampled text is `kl` nats, p the model's next-token probabilities unchanged, p' when steered: so
     all cost the same. For latent j, C(j | t) is the share of the scan's tokens t that stand at a firing of j or
     directly after one (its concept in tokens), and P(j | t) is the share on which it fires

    output       mean over the text of Σ_t (p'(t) − p(t)) C(j | t)           what it puts out belongs to its concept
    self_output  the same with P(j | t): what it puts out fires it again
    input        Σ_t n(t) (P(j | t) − P(j))² / (n P(j) (1 − P(j)))           the current token predicts whether it fires

    success       mean of C(j | t) over the tokens that the steered model writes, minus that of the unchanged model
    self_success  the share of these tokens on which j fires when the unchanged model reads them, minus the same

Source: Arad, Mueller & Belinkov 2025 (arXiv 2505.20063) found that latents which read a concept need not produce it,
and that their output predicts whether they do. Their scores use logit-lens tokens; these measures are our own. Cost:
some six passes over the text per latent for the dose; `n_tokens` short ones for its success. Limits: most latents write
something other than what they read, and self_success is then a small number in the noise of what is written. A concept
of more than a token or two needs several steps, which one step does not show.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.hooks import Model, evaluating, module_of
from interp.codes.code_chunks import read_chunks
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.codes.training_exclusions import is_included
from interp.effects.ablation_batch import AblationBatch
from interp.effects.interventions import columns_of_latents
from interp.effects.steering import Steered, latent_activations, pins
from interp.evaluation.downstream import Downstream
from interp.evaluation.downstream_finder import downstream_of
from interp.features.feature_store import FeatureStore
from interp.runtime.model_sizes import size_of
from interp.statistics.estimates import ratio

MAX_MULTIPLE = 64.0
_TRIES, _TOLERANCE, _STEP = 8, 0.05, 4.0


def steering_scores(
    features: FeatureStore,
    model: Model,
    hook: str,
    dictionary: Dictionary,
    latents: Sequence[int],
    *,
    kl: float = 0.5,
    sequences: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per latent: latent, multiple (its dose, as a multiple of its maximum), kl (nats, at this dose),
    output, self_output and input as above. All but the last are NaN if up to MAX_MULTIPLE no multiple costs `kl` within
    5 %.

    Raises ValueError for a latent that never fires, and as `dictionary_hooks`.
    """
    if not kl > 0 or sequences < 1 or not len(latents):
        raise ValueError(f"kl={kl} must be above 0, sequences={sequences} and latents ({len(latents)}) at least 1")
    module, maxima = module_of(model), pins(features, dict.fromkeys(latents, 1.0))
    generator = torch.Generator().manual_seed(seed)
    tokens = features.tokens[torch.randperm(len(features.tokens), generator=generator)[:sequences]]
    rows = []
    with evaluating(module):
        text = _Text(downstream_of(module, dictionary_hooks(model, hook, dictionary), tokens[:2]), dictionary, tokens)
        firing_by_token, concepts = (FiringByToken.of(features, latents, text.p.shape[1], offset) for offset in (0, 1))
        for place, latent in enumerate(latents):
            multiple, divergence, p = text.dose(latent, maxima[latent].plus, kl)
            rise = (p - text.p).mean(0).double().numpy(force=True) if multiple == multiple else np.nan
            brought = {"output": concepts.share[:, place], "self_output": firing_by_token.share[:, place]}
            outputs = {name: float(np.sum(rise * share)) for name, share in brought.items()}
            rows.append({"latent": latent, "multiple": multiple, "kl": divergence, **outputs})
    return pd.DataFrame(rows).assign(input=firing_by_token.explained())


def steering_success(
    features: FeatureStore,
    model: Model,
    hook: str,
    dictionary: Dictionary,
    multiples: Mapping[int, float],
    *,
    prompts: int = 48,
    prompt_tokens: int = 4,
    n_tokens: int = 12,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per latent, each held alone: latent, success and self_success. `prompts` are the first
    `prompt_tokens` of sequences that the seed draws.

    Raises ValueError for a latent that never fires, and as `dictionary_hooks`.
    """
    if min(prompts, prompt_tokens, n_tokens) < 1:
        sizes = f"prompts={prompts}, prompt_tokens={prompt_tokens} and n_tokens={n_tokens}"
        raise ValueError(f"{sizes} must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(features.tokens), generator=generator)[:prompts]
    begun = features.tokens[chosen, :prompt_tokens]
    hooks = dictionary_hooks(model, hook, dictionary)
    free = Steered(model, hook, dictionary, {}).sample(begun, n_tokens, 1.0, seed)
    concepts = FiringByToken.of(features, list(multiples), size_of(module_of(model), "d_vocab"), 1).share

    def shares(latent: int, written: Tensor, concept: Float[np.ndarray, " d_vocab"]) -> Float[np.ndarray, "2"]:
        z = latent_activations(model, hooks, dictionary, latent, written)[:, -n_tokens:]
        tokens = written[:, -n_tokens:].numpy(force=True)
        return np.array([concept[tokens].mean(), (z > 0).double().mean()])

    rows = []
    for (latent, action), concept in zip(pins(features, multiples).items(), concepts.T, strict=True):
        written = Steered(model, hook, dictionary, {latent: action}).sample(begun, n_tokens, 1.0, seed)
        rows.append((latent, *(shares(latent, written, concept) - shares(latent, free, concept))))
    return pd.DataFrame(rows, columns=["latent", "success", "self_success"])


class FiringByToken(NamedTuple):
    """For each token of the scan, the number of encoded rows with it, and the number of these on which some latents
    fire, or fired up to `behind` tokens before."""

    n: Float[np.ndarray, " d_vocab"]
    fired: Float[np.ndarray, "d_vocab latent"]

    @classmethod
    def of(cls, features: FeatureStore, latents: Sequence[int], d_vocab: int, behind: int = 0) -> "FiringByToken":
        tokens, codes, n_ctx = features.tokens.flatten().numpy(), features.codes, features.n_ctx
        n, fired = np.zeros(d_vocab), np.zeros((d_vocab, len(latents)))
        for chunk in read_chunks(codes, n_ctx):
            rows = np.arange(chunk.start, chunk.stop)
            present = codes.present(chunk.start, chunk.stop).numpy()
            reached = chunk.by_row[:, list(latents)].astype(float)
            reached.data[:] = 1
            inside, back = rows - chunk.start, np.minimum(rows % n_ctx, behind)
            reach = np.concatenate([inside[back >= k] for k in range(behind + 1)])
            before = np.concatenate([inside[back >= k] - k for k in range(behind + 1)])
            reached = (
                scipy.sparse.csr_matrix((np.ones(len(reach)), (reach, before)), (len(inside), len(inside))) @ reached
            )
            reached.data = np.minimum(reached.data, 1)
            firings_by_token = scipy.sparse.csr_matrix(
                (present.astype(float), (tokens[rows], inside)), (d_vocab, len(inside))
            )
            n += np.bincount(tokens[rows][present], minlength=d_vocab)
            fired += (firings_by_token @ reached).toarray()
        return cls(n, fired)

    @property
    def share(self) -> Float[np.ndarray, "d_vocab latent"]:
        """Return P(j | t). It is 0 for a token that does not occur."""
        return ratio(self.fired, self.n[:, None], empty=0.0)

    def explained(self) -> Float[np.ndarray, " latent"]:
        """Return the share of the variance of firing that is between tokens."""
        n, rate = self.n.sum(), self.fired.sum(0) / self.n.sum()
        between = (self.n[:, None] * (self.share - rate) ** 2).sum(0)
        return ratio(between, n * rate * (1 - rate))


class _Text(AblationBatch):
    """Sampled sequences after a clean pass up to the hook, and the next-token probabilities of the unchanged model."""

    def __init__(self, downstream: Downstream, dictionary: Dictionary, tokens: Tensor):
        super().__init__(downstream, dictionary, tokens, is_included(tokens, downstream.module, dictionary))
        self.log_p = self._log_p(torch.zeros(self.tokens.numel(), self.W_dec.shape[1]).to(self.W_dec))
        self.p = self.log_p.exp()

    def dose(self, latent: int, maximum: float, kl: float) -> tuple[float, float, Tensor]:
        """Return the multiple that costs `kl`, its cost, and the probabilities there. The multiple is NaN if there is
        none. For small doses, KL grows about as their square."""
        z = columns_of_latents(self.codes, torch.tensor([latent], device=self.codes.latents.device))[:, 0].to(
            self.W_dec
        )
        multiple, divergence, p = 2.0, np.nan, self.p
        low, high = 0.0, MAX_MULTIPLE
        for _ in range(_TRIES):
            change = (multiple * maximum - z) * self.usable.flatten()
            log_p = self._log_p(change[:, None] * self.W_dec[latent])
            p, divergence = log_p.exp(), float((self.p * (self.log_p - log_p)).sum(1).mean())
            if abs(divergence - kl) <= _TOLERANCE * kl:
                return multiple, divergence, p
            low, high = (multiple, high) if divergence < kl else (low, multiple)
            guess = multiple * float(np.clip((kl / max(divergence, 1e-9)) ** 0.5, 1 / _STEP, _STEP))
            multiple = guess if low < guess < high else (low + high) / 2
        return np.nan, divergence, p

    def _log_p(self, change: Float[Tensor, "row d_out"]) -> Float[Tensor, "row d_vocab"]:
        shaped = change.view(*self.tokens.shape, -1)
        return self.downstream.logits(self.tokens, self.at_hook.stream, shaped).flatten(0, 1).log_softmax(1)
