"""Hold latents at multiples of their maximum while the model writes, and measure the benefit and the cost.

    steer(model, hook, sae, features, {476: 4}, "Once upon a time", n_tokens=50)      tokens of the steered model
    dose_response(model, hook, sae, features, 476)                           one row per multiple

A multiple is a multiple of the latent's largest activation in the scan. Special tokens, tokens excluded from the
dictionary's training and rows above its norm limit are not steered. A Hugging Face model caches the keys and values of
earlier tokens, and reads each token once while the text fits in its context; any other model rereads the whole text for
each token.
"""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Model, evaluating, module_of, to_model
from interp.activations.next_tokens import check_predicts_next, logits_of
from interp.checks.arguments import check_latents, check_token_ids
from interp.checks.errors import InterpError
from interp.checks.limits import NonNegative, Seed, check_at_least, check_value
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import DictionaryHooks, dictionary_hooks
from interp.codes.training_exclusions import has_trained_token, is_included
from interp.effects.ablation_batch import NUMBERS_AT_ONCE
from interp.effects.interventions import Action, columns_of_latents, intervene, pin
from interp.evaluation.hook_passes import mark_next_tokens
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_dictionary_of_scan
from interp.features.text_features import tokens_of
from interp.runtime.model_sizes import size_of
from interp.runtime.text_sampling import sample_tokens

MULTIPLES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
CACHE_ARGUMENTS = ("cache", "past_key_values")
"""Names that Hugging Face's models give their cache of earlier tokens, the newer name first."""


def steer(
    model: Model,
    hook: str,
    dictionary: Dictionary,
    features: FeatureStore,
    multiples: Mapping[int, float],
    prompt: str | Int[Tensor, "*batch pos"],
    *,
    n_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    output_hook: str | None = None,
) -> Int[Tensor, "batch pos_plus_n"]:
    """Return the prompt and `n_tokens` more tokens, drawn from softmax(logits / temperature). At temperature 0 they are
    the likeliest tokens. A text is read after the token that opens a sequence, as in a corpus
    (`features.text_features.tokens_of`).
    output_hook: the hook that a transcoder writes.

    Raises ValueError for a latent that never fires, for a text if the model has no tokenizer, for the scan of another
    dictionary, for tokens that the model does not have, and for a model that predicts no next tokens.

    Example:

        ids = steer(model, hook, sae, features, {476: 2.0}, "Once upon", n_tokens=30)  # at twice its maximum
        print(model.tokenizer.decode(ids[0].tolist()))
    """
    dictionary_hooks(model, hook, dictionary, output_hook)  # first, as the arguments may be in another order
    check_dictionary_of_scan(features, dictionary, model, hook)
    prompt = tokens_of(model, prompt)
    prompt = prompt[None] if prompt.ndim == 1 else prompt
    if prompt.ndim != 2 or prompt.numel() == 0:
        raise InterpError(f"the prompt is {tuple(prompt.shape)}: [batch, pos] with at least one token is needed")
    check_at_least(1, n_tokens=n_tokens)
    check_value("seed", seed, Seed)
    temperature = check_value("temperature", temperature, NonNegative)
    check_predicts_next(model, features.tokens)
    check_token_ids(prompt, size_of(module_of(model), "d_vocab"))
    steered = Steered(model, hook, dictionary, pins(features, multiples), output_hook)
    return steered.sample(prompt, n_tokens, temperature, seed)


def dose_response(
    model: Model,
    hook: str,
    dictionary: Dictionary,
    features: FeatureStore,
    latent: int,
    *,
    multiples: Sequence[float] = MULTIPLES,
    sequences: int = 16,
    n_tokens: int = 16,
    concept: Sequence[int] = (),
    seed: int = 0,
    output_hook: str | None = None,
) -> pd.DataFrame:
    """Measure the cost of each multiple on the scan's text, and its effect in the text that the model then writes after
    the first half of each sequence, without its padding.

    The first row, with the multiple NaN, is the unchanged model. The columns are `multiple` and

        loss        mean next-token loss on sampled sequences, nats, over all tokens but padding: excluded tokens that
                    follow an excluded token (as in `evaluation.quality`)
        kl          mean KL(unchanged ‖ steered) on the same, nats
        fires       share of the sampled continuations' tokens on which the latent fires when the unchanged model
                    reads them
        activation  its mean on those tokens, as a multiple of the maximum
        concept     mean probability on the sequences that the next token is one of `concept`, such as the latent's
                    likelier_tokens of `feature_effects`; NaN without

    output_hook: the hook that a transcoder writes.
    Raises ValueError as `steer` does, and for a concept of tokens that the model does not have.
    """
    hooks = dictionary_hooks(model, hook, dictionary, output_hook)
    check_dictionary_of_scan(features, dictionary, model, hook)
    check_at_least(1, sequences=sequences, n_tokens=n_tokens)
    check_value("seed", seed, Seed)
    concept = list(dict.fromkeys(concept))
    multiples = [check_value("multiple", multiple, float) for multiple in multiples]
    if len(concept):
        check_token_ids(torch.tensor([concept]), size_of(module_of(model), "d_vocab"))
    check_predicts_next(model, features.tokens)
    generator = torch.Generator().manual_seed(seed)
    tokens = features.tokens[torch.randperm(len(features.tokens), generator=generator)[:sequences]]
    prompts = _prompts(tokens, module_of(model), dictionary)
    maximum = pins(features, {latent: 1.0})[latent].plus
    models = [Steered(model, hook, dictionary, {})]
    models += [
        Steered(model, hook, dictionary, {latent: pin(multiple * maximum)}, output_hook) for multiple in multiples
    ]
    rows = []
    for multiple, steered, costs in zip(
        (float("nan"), *multiples), models, _costs(models, tokens, concept), strict=True
    ):
        written = [steered.sample(prompt, n_tokens, 1.0, seed) for prompt in prompts]
        z = torch.cat([latent_activations(model, hooks, dictionary, latent, text)[:, -n_tokens:] for text in written])
        fires = {"fires": float((z > 0).double().mean()), "activation": float(z.double().mean()) / maximum}
        rows.append({"multiple": multiple, **costs, **fires})
    return pd.DataFrame(rows)


def _costs(
    models: Sequence["Steered"], tokens: Int[Tensor, "seq pos"], concept: Sequence[int]
) -> list[dict[str, float]]:
    """Return the columns of `dose_response` that each model has on the tokens; the first model is the unchanged one. A
    batch of sequences has at most NUMBERS_AT_ONCE log-probabilities, or is a single sequence."""
    d_vocab = models[0].logits(tokens[:1]).shape[-1]
    counted = _mark_predicted(tokens, models[0].module, models[0].dictionary)
    n = max(int(counted.sum()), 1)
    n_targets = max(int(counted[:, :-1].sum()), 1)
    costs = [{"loss": 0.0, "kl": 0.0, "concept": 0.0 if len(concept) else float("nan")} for _ in models]
    together = max(1, NUMBERS_AT_ONCE // (tokens.shape[1] * d_vocab))
    for batch, counts in zip(tokens.split(together), counted.split(together), strict=True):
        clean = models[0].logits(batch).log_softmax(-1)
        targets = to_model(models[0].module, batch)[:, 1:]
        counts = counts.to(clean.device)
        for steered, cost in zip(models, costs, strict=True):
            log_p = clean if steered is models[0] else steered.logits(batch).log_softmax(-1)
            losses = F.nll_loss(log_p[:, :-1].transpose(1, 2), targets, reduction="none")
            cost["loss"] += float(losses[counts[:, :-1]].double().sum()) / n_targets
            p = clean.exp()
            divergence = torch.where(p > 0, p * (clean - log_p), 0.0).sum(-1)  # logits of -inf have no part in it
            cost["kl"] += float(divergence[counts].double().sum()) / n
            if len(concept):
                cost["concept"] += float(log_p[..., list(concept)].exp().sum(-1)[counts].double().sum()) / n
    return costs


def _mark_predicted(
    tokens: Int[Tensor, "seq pos"], module: nn.Module, dictionary: Dictionary
) -> Bool[Tensor, "seq pos"]:
    """Mark the positions whose next token counts. That of the last position is not known: it counts if the last token
    does."""
    is_counted = has_trained_token(tokens, module, dictionary)
    return torch.cat([mark_next_tokens(is_counted), is_counted[:, -1:]], 1)


def _prompts(
    tokens: Int[Tensor, "seq pos"], module: nn.Module, dictionary: Dictionary
) -> list[Int[Tensor, "seq prompt"]]:
    """Return the first half of each sequence without its padding, those at the same positions together."""
    counted = _mark_predicted(tokens, module, dictionary)
    n_ctx = tokens.shape[1]
    starts = counted.int().argmax(1)
    ends = (counted * torch.arange(2, n_ctx + 2, device=tokens.device).clamp(max=n_ctx)).amax(1)
    halves = torch.stack([starts, starts + ((ends - starts) // 2).clamp(min=1)], 1)
    return [tokens[(halves == half).all(1), slice(*half)] for half in halves.unique(dim=0)]


class Steered:
    """A model whose latents are held, or the unchanged model."""

    def __init__(
        self,
        model: Model,
        hook: str,
        dictionary: Dictionary,
        actions: Mapping[int, Action],
        output_hook: str | None = None,
    ):
        self.model = model
        self.hook = hook
        self.dictionary = dictionary
        self.actions = actions
        self.output_hook = output_hook
        self.module = module_of(model)

    def logits(self, tokens: Int[Tensor, "seq pos"]) -> Float[Tensor, "seq pos d_vocab"]:
        tokens = to_model(self.module, tokens)
        with evaluating(self.module), self._pinned(tokens, tokens.shape[1]):
            return logits_of(self.module(tokens))

    def sample(
        self, tokens: Int[Tensor, "seq pos"], n: int, temperature: float, seed: int
    ) -> Int[Tensor, "seq pos_plus_n"]:
        tokens = to_model(self.module, tokens)
        n_ctx = size_of(self.module, "n_ctx") or tokens.shape[1] + n
        cache = None

        def next_logits(tokens: Int[Tensor, "seq pos"]) -> Float[Tensor, "seq d_vocab"]:
            nonlocal cache
            logits, cache = self._next(tokens[:, -n_ctx:], cache if tokens.shape[1] <= n_ctx else None)
            return logits

        return sample_tokens(next_logits, tokens, n, temperature=temperature, seed=seed)

    def _next(self, tokens: Int[Tensor, "seq pos"], cache: Any) -> tuple[Float[Tensor, "seq d_vocab"], Any]:
        """Return the logits after the last token, and the model's cache of all tokens, or None if it has no cache.
        cache: the cache of all tokens except the last."""
        reader = getattr(self.module, "cache_reader", self.module)
        takes = inspect.signature(reader.forward).parameters
        name = next((name for name in CACHE_ARGUMENTS if name in takes and "use_cache" in takes), None)
        if name is None:
            return self.logits(tokens)[:, -1], None
        unread = tokens if cache is None else tokens[:, -1:]
        with evaluating(self.module), self._pinned(tokens, unread.shape[1]):
            output = reader(unread, use_cache=True, **{} if cache is None else {name: cache})
        return logits_of(output)[:, -1], getattr(output, name, None)

    def _pinned(self, tokens: Int[Tensor, "seq pos"], n_unread: int) -> Any:
        """Hold the latents in a pass that reads the last n_unread of the tokens."""
        if not self.actions:
            return nullcontext()
        usable = is_included(tokens, self.module, self.dictionary)[:, -n_unread:]
        return intervene(
            self.model, self.hook, self.dictionary, self.actions, positions=usable, output_hook=self.output_hook
        )


def pins(features: FeatureStore, multiples: Mapping[int, float]) -> dict[int, Action]:
    if not isinstance(multiples, Mapping):
        raise InterpError(f"{multiples!r} must be latents with multiples of their maxima, such as {{476: 2.0}}")
    maxima = features.column("max")
    latents = check_latents(multiples, features.d_sae) if multiples else []
    if never := [latent for latent in latents if not maxima[latent] > 0]:
        raise InterpError(f"latents {never} never fire in {features.path}, so they have no maximum: choose others")
    return {
        latent: pin(check_value("multiple", multiples[latent], float) * float(maxima[latent])) for latent in latents
    }


def latent_activations(
    model: Model, hooks: DictionaryHooks, dictionary: Dictionary, latent: int, tokens: Int[Tensor, "seq pos"]
) -> Float[Tensor, "seq pos"]:
    """Return the activations of a latent when the unchanged model reads tokens. They are 0 above the norm limit, and at
    tokens that were not included in the dictionary's training. Longer texts are truncated to their last tokens.
    """
    module = module_of(model)
    tokens = tokens[:, -(size_of(module, "n_ctx") or tokens.shape[1]) :]
    with evaluating(module):
        codes, counted = hooks.codes_of_text(module, dictionary, tokens)
    z = columns_of_latents(codes, torch.tensor([latent], device=counted.device))[:, 0]
    return (z * counted).view(tokens.shape)
