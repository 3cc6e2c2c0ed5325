"""Compute the features of a run on a text that the user types.

In: a finished run, and text. Out: values for JSON. The model runs one call at a time.

    live = LiveModel(Run("runs/demo"))
    live.read("Once upon a time")                 which latents fire at each token, and which in the text
    live.at("Once upon a time", 3)                the contribution of each latent there to the next token
    live.effects("Once upon a time", 3, 42)       the effect of each firing on the log-probability of token 42
    live.multiple("Once upon", 476)               the multiple at which a latent may be held in a text
    live.steer("Once upon", {476: 2.0})           the text of the unchanged model, and with a latent held
    live.dose(476)                                the cost and benefit of holding a latent at each multiple
    live.without(476, 12)                         the loss of each token of a scanned sequence without a latent
    live.common(476, 12)                          how often two latents fire together in the scan
    live.edges("Once upon", 1, "blocks.1.hook_resid_post")    edges between latents of two hooks of a run

A text begins with the token that opens the run's own texts; of one that is longer than the model reads, that token and
the last ones are read. Special tokens, tokens and positions that the dictionary's training left out, and rows above its
norm limit have no latents, as in the scan. Activations are in the dictionary's unit. A strength is an activation as a
share of the latent's maximum in the scan; for a latent that never fired there, as a share of the median of all maxima.
Probabilities are in [0, 1].
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.hooks import evaluating, module_of, resolve_hooks, to_model
from interp.activations.next_tokens import check_predicts_next
from interp.checks.arguments import check_latents
from interp.checks.errors import InterpError
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.codes.training_exclusions import is_included
from interp.display.segments import to_json
from interp.effects import dose_response, feature_edges, steer
from interp.effects.ablation_batch import NUMBERS_AT_ONCE
from interp.effects.steering import Steered, pins
from interp.evaluation.downstream_finder import downstream_of
from interp.features.text_features import encode_with_opening_token, opening_token
from interp.report.inputs import ReadableRun
from interp.report.latent_pairs import common_properties
from interp.runtime.model_sizes import size_of
from interp.runtime.threads import slices
from interp.text.short_rules import short_rule

MAX_TOKENS = 1024
"""Largest number of tokens of a text, even if the model accepts more, as a call blocks other calls."""
N_LISTED_LATENTS = 10
"""Number of latents that are listed for a token."""
N_NEXT_TOKENS = 10
"""Number of next tokens that are listed."""
N_MOVED = 4
"""Number of tokens that are listed as raised, and as lowered, by a latent."""
DOSES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0)
"""Multiples of a latent's maximum."""
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples from which that of a latent is chosen, if the reader chooses none."""
VISIBLE_KL = 0.35
"""Nats a token by which a chosen multiple moves the predictions at least, so that the text shows what steering does. As
KL about quadruples from one multiple to the next, it is about 0.35 to 1.4."""
FAR_KL = 2.0
"""Nats a token beyond which a small model soon repeats itself."""
N_CONCEPT = 5
N_TARGETS = 8
"""Number of latents of the later hook to which edges are listed."""
N_EDGES = 200
"""Largest number of edges that are listed."""


class LiveModel:
    def __init__(self, run: ReadableRun):
        """Load the model and the dictionary of a run. Raises AttributeError, naming the stage, if it is not
        finished."""
        self.run = run
        self.features = run.features
        self.sae = run.sae
        self.tokenizer = run.tokenizer
        self.model = run.model
        self.hook = run.hook_name
        self.dictionary_hooks = dictionary_hooks(self.model, self.hook, self.sae)
        check_predicts_next(self.model, self.features.tokens)
        self.n_ctx = min(size_of(module_of(self.model), "n_ctx") or MAX_TOKENS, MAX_TOKENS)
        self._table = self.features.table().set_index("latent")
        maxima = self._table["max"].where(self._table["max"] > 0).reindex(range(self.features.d_sae))
        self._full_strengths = maxima.fillna(maxima.median()).fillna(1.0).to_numpy()
        self._lock = threading.Lock()
        with evaluating(self.model):
            self._downstream = downstream_of(self.model, self.dictionary_hooks, self.features.tokens[:2])

    def read(self, text: str) -> dict[str, Any]:
        """Return which latents fire in a text. `tokens` has the token ids. `firing` has, for each token, [latent,
        activation] of the N_LISTED_LATENTS strongest. `features` has, for the text, [latent, largest strength,
        [[position, activation], …]], the strongest first. `left_out` is the number of tokens at the beginning that
        are not read."""
        tokens = self.tokens(text)
        left_out = len(encode_with_opening_token(self.tokenizer, text)) - tokens.shape[1]
        with self._lock, evaluating(self.model):
            z = self._codes(tokens)
        firing = [_strongest_latents(z, row, N_LISTED_LATENTS) for row in range(z.shape[0])]
        features: list[list[Any]] = []
        for latent, firings in _by_latent(z):
            largest = max(value for _, value in firings)
            features.append([latent, self.strength(latent, largest), firings])
        features.sort(key=lambda row: -row[1])
        return {"tokens": tokens[0].tolist(), "firing": firing, "features": features, "left_out": left_out}

    def strength(self, latent: int, z: float) -> float:
        return z / float(self._full_strengths[latent])

    def at(self, text: str, position: int) -> dict[str, Any]:
        """Return the model's prediction after the text up to a position, and its prediction without each latent that
        fires there. For this, the latent's share z_j d_j is subtracted from that row, and the rest of the model is run
        again.

        `next` has [token, p]. `features` has, for each of the strongest latents, its activation, kl = KL(p ‖ p') in
        nats, and the tokens whose probability it raises and lowers most, [token, p, p']. Raises ValueError for a
        position outside the text.
        """
        tokens = self._up_to(text, position)
        with self._lock, evaluating(self.model):
            at_hook = self._downstream.run_to_hook(tokens)
            firing = _strongest_latents(self._codes(tokens, at_hook.acts), position, N_LISTED_LATENTS)
            W_dec = self.sae.W_dec.detach()
            change = W_dec.new_zeros(1 + len(firing), position + 1, W_dec.shape[1])
            for row, (latent, z) in enumerate(firing, 1):
                change[row, -1] = -z * W_dec[latent]
            log_p = torch.cat(list(self._log_p(tokens, at_hook.stream, change)))
        p = log_p.exp()
        top = log_p[0].topk(min(N_NEXT_TOKENS, log_p.shape[1])).indices
        return {
            "next": [[int(token), float(p[0, token])] for token in top],
            "features": [
                {
                    "latent": latent,
                    "activation": z,
                    "kl": float((p[0] * (log_p[0] - log_p[row])).sum()),
                    "raises": _moved_tokens(p[0], p[row]),
                    "lowers": _moved_tokens(p[0], p[row], largest=False),
                }
                for row, (latent, z) in enumerate(firing, 1)
            ],
        }

    def effects(self, text: str, position: int, token: int) -> dict[str, Any]:
        """Return the effect of each firing on the log-probability of a next token, in nats.

        The token is the one after `position`, and an effect is z_j d_j ∂ log p / ∂x, to first order: activation times
        gradient, as in Marks et al. 2024 (arXiv 2403.19647). If the output of a latent reaches only its own position,
        as after the last block, the token is placed after each token in turn (`each` is true), and an effect is
        measured: log p less the log p without z_j d_j, which costs no pass through the blocks.

        `p` has the probability of the token, there or after each token. `features` has [latent, Σ |effect|, [[position,
        effect], …]], the largest first. Raises ValueError for a position outside the text, and for a token that is not
        in the vocabulary.
        """
        by_position, d_vocab = self._downstream.by_position, self._downstream.d_vocab
        tokens = self._up_to(text, position)
        if by_position:
            tokens = to_model(self.model, self.tokens(text))
        if not 0 <= token < d_vocab:
            raise InterpError(f"token {token} is not in 0..{d_vocab - 1}")
        with self._lock, evaluating(self.model):
            at_hook = self._downstream.run_to_hook(tokens)
            z = self._codes(tokens, at_hook.acts)
            effect_of = self._measured_effects if by_position else self._first_order_effects
            log_p, effect = effect_of(tokens, at_hook.stream, token, z.tocoo())
        z.data = effect.float().numpy(force=True)
        features: list[list[Any]] = [
            [latent, sum(abs(x) for _, x in firings), firings] for latent, firings in _by_latent(z)
        ]
        features.sort(key=lambda row: -row[1])
        return {"each": by_position, "p": log_p.exp().tolist(), "features": features}

    def steer(
        self, prompt: str, multiples: Mapping[int, float], *, n_tokens: int = 40, **options: Any
    ) -> dict[str, Any]:
        """Return the model's text, `plain` and `steered`: the ids of the prompt and `n_tokens` more, with the same
        seed. `prompt` is the number of ids of the prompt. `kl` is the mean KL(unchanged ‖ steered) of the predictions
        at its tokens, in nats; `is_far` is whether this is more than FAR_KL.
        options: temperature and seed.

        Raises ValueError as `interp.effects.steer` does."""
        tokens = self.tokens(prompt)
        parts_of_run = (self.model, self.hook, self.sae, self.features)
        with self._lock:
            plain, steered = [
                steer(*parts_of_run, multiples_held, tokens, n_tokens=n_tokens, **options)[0].tolist()
                for multiples_held in ({}, multiples)
            ]
            kl = self._kl(tokens, [multiples])[0]
        return {"prompt": tokens.shape[1], "plain": plain, "steered": steered, "kl": kl, "is_far": kl > FAR_KL}

    def multiple(self, text: str, latent: int) -> float:
        """Return the smallest of MULTIPLES at which a latent, held in a text, moves the predictions there by at least
        VISIBLE_KL nats a token (`steer`), or the largest if none does. Raises ValueError for a latent that never fires.
        """
        tokens = self.tokens(text)
        with self._lock:
            kls = self._kl(tokens, [{latent: multiple} for multiple in MULTIPLES])
        visible = (multiple for multiple, kl in zip(MULTIPLES, kls, strict=True) if kl >= VISIBLE_KL)
        return next(visible, MULTIPLES[-1])

    def _kl(self, tokens: Int[Tensor, "1 pos"], held: list[Mapping[int, float]]) -> list[float]:
        """Return the mean KL(unchanged ‖ steered), in nats, of the predictions at the steered tokens, for each set of
        held latents with their multiples."""
        models = [Steered(self.model, self.hook, self.sae, pins(self.features, multiples)) for multiples in ({}, *held)]
        is_steered = is_included(to_model(self.model, tokens), module_of(self.model), self.sae)[0]
        log_p, *steered = [model.logits(tokens)[0, is_steered].float().log_softmax(-1) for model in models]
        p = log_p.exp()
        divergences = [torch.where(p > 0, p * (log_p - other), 0.0).sum(-1) for other in steered]
        return [float(divergence.mean()) if len(divergence) else 0.0 for divergence in divergences]

    def dose(self, latent: int) -> list[list[float | None]]:
        """Return [multiple, kl, concept] for each of DOSES, and for the unchanged model with the multiple None
        (`interp.effects.dose_response`). The concept consists of the first tokens of the latent's positive logits. It
        is None if these are unknown."""
        top = self._table["top_logit_tokens"].get(latent, ()) if self.features.has_logits else ()
        concept = [int(token) for token in top[:N_CONCEPT]]
        parts_of_run = self.model, self.hook, self.sae, self.features
        with self._lock:
            doses = dose_response(*parts_of_run, latent, multiples=DOSES, sequences=8, n_tokens=1, concept=concept)
        columns = doses[["multiple", "kl", "concept"]].astype(object)
        return columns.where(columns.notna(), None).values.tolist()

    def without(self, latent: int, sequence: int) -> dict[str, Any]:
        """Return `changes`: by how many nats the loss of each token of a scanned sequence rises when the latent's share
        z_j d_j is subtracted from all rows. It is None for the first token, which nothing predicts. Raises ValueError
        for a latent or a sequence that does not exist."""
        check_latents([latent], self.features.d_sae)
        if not 0 <= sequence < len(self.features.tokens):
            raise InterpError(f"sequence {sequence} is not in 0..{len(self.features.tokens) - 1}")
        tokens = to_model(self.model, self.features.tokens[sequence : sequence + 1].long())
        with self._lock, evaluating(self.model):
            at_hook = self._downstream.run_to_hook(tokens)
            z = torch.from_numpy(self._codes(tokens, at_hook.acts)[:, [latent]].toarray()).to(self.sae.W_dec)
            share = -(z * self.sae.W_dec[latent].detach())[None]
            losses = []
            for change in (torch.zeros_like(share), share):
                logits = self._downstream.logits(tokens, at_hook.stream, change)
                losses.append(F.cross_entropy(logits[0, :-1].float(), tokens[0, 1:], reduction="none").cpu())
        return {"changes": [None, *(losses[1] - losses[0]).tolist()]}

    @cached_property
    def hooks(self) -> list[str]:
        """Return all hooks of the run, in the order in which the model runs them. `hook` is the hook of this run."""
        order: list[str] = []

        def passed(name: str, _: Tensor) -> None:
            order.append(name)

        tokens = to_model(self.model, self.features.tokens[:1].long())
        names = [self.run.at(name).hook_name for name in self.run.hooks]
        with self._lock, evaluating(self.model), ExitStack() as stack:
            for name, hook in resolve_hooks(self.model, names).items():
                stack.enter_context(hook.attach(partial(passed, name)))
            self.model(tokens)
        return list(dict.fromkeys(order))

    def edges(self, text: str, position: int, other: str, *, ablate: bool = False) -> dict[str, Any]:
        """Return which latents of the earlier of two hooks feed the N_TARGETS strongest latents of the later hook at a
        position. The hooks are `hook` and another hook of the run (`interp.effects.feature_edges`).

        `targets` has [latent, activation] of the later hook. `edges` has the N_EDGES largest [earlier latent, later
        latent, attribution, ablation], in the unit of the later latent's activations; the ablation is None unless it
        was requested. `rules` has the rule of each latent of the other hook, from its ranking, as segments. Raises
        ValueError for a position outside the text and for a hook that is not another hook of the run, and
        AttributeError if that hook has no dictionary yet."""
        if other == self.hook or other not in self.hooks:
            raise InterpError(f"{other!r} is not another hook of the run; it has {', '.join(self.hooks)}")
        tokens = self._up_to(text, position)
        theirs = self.run.at(other)
        pair = sorted([(self.hook, self.sae), (other, theirs.sae)], key=lambda one: self.hooks.index(one[0]))
        with self._lock:
            table = feature_edges(self.model, tokens, *pair, targets=N_TARGETS, ablate=ablate)
        targets = table.drop_duplicates("downstream").nlargest(N_TARGETS, "activation")
        table = table.reindex(table["attribution"].abs().nlargest(N_EDGES).index)
        columns = table[["upstream", "downstream", "attribution", "ablation"]].astype(object)
        named = targets["downstream"] if pair[1][0] == other else table["upstream"]
        ranked = theirs.ranking.to_dict("records") if theirs.has("ranking") else []
        row_of = {row["latent"]: row for row in ranked}
        return {
            "targets": targets[["downstream", "activation"]].astype(object).values.tolist(),
            "edges": columns.where(columns.notna(), None).values.tolist(),
            "rules": {str(latent): to_json(short_rule(row_of.get(latent, {}))) for latent in named.unique()},
        }

    def common(self, latent: int, other: int) -> list:
        """Return what two latents have in common in the scan (`latent_pairs.common_properties`). Raises ValueError for
        a latent that does not exist."""
        check_latents([latent, other], self.features.d_sae)
        return common_properties(self.features, np.array([[latent, other]]))[0]

    def tokens(self, text: str) -> Int[Tensor, "1 pos"]:
        """Return at most `n_ctx` tokens: the opening token and the end of a text. Raises ValueError for a text without
        tokens."""
        tokens = encode_with_opening_token(self.tokenizer, text)
        n_opening = 0 if opening_token(self.tokenizer) is None else 1
        return torch.cat([tokens[:n_opening], tokens[n_opening:][n_opening - self.n_ctx :]])[None]

    def _up_to(self, text: str, position: int) -> Int[Tensor, "1 pos"]:
        """Return the tokens up to a position, on the model's device. Raises ValueError for a position outside the
        text."""
        tokens = self.tokens(text)
        if not 0 <= position < tokens.shape[1]:
            raise InterpError(f"position {position} is not in 0..{tokens.shape[1] - 1}")
        return to_model(self.model, tokens[:, : position + 1])

    def _first_order_effects(
        self, tokens: Int[Tensor, "1 pos"], stream: Tensor | None, token: int, z: scipy.sparse.coo_matrix
    ) -> tuple[Float[Tensor, "1"], Float[Tensor, " firing"]]:
        """Return the log-probability of the token after the last position, and the effect of each firing on it."""
        W_dec = self.sae.W_dec.detach()
        with torch.enable_grad():
            change = W_dec.new_zeros(*tokens.shape, W_dec.shape[1], requires_grad=True)
            log_p = self._downstream.logits(tokens, stream, change)[:, -1].float().log_softmax(-1)[:, token]
            (gradient,) = torch.autograd.grad(log_p.sum(), change)
        return log_p.detach(), (self._outputs(z) * gradient[0, torch.from_numpy(z.row).long()]).sum(1)

    def _measured_effects(
        self, tokens: Int[Tensor, "1 pos"], stream: Tensor | None, token: int, z: scipy.sparse.coo_matrix
    ) -> tuple[Float[Tensor, " pos"], Float[Tensor, " firing"]]:
        """Return the log-probability of the token after each position, and what it loses without each firing there."""
        n_pos = tokens.shape[1]
        at = torch.cat([torch.arange(n_pos), torch.from_numpy(z.row).long()])
        change = F.pad(-self._outputs(z), (0, 0, n_pos, 0))[:, None]
        own_stream = None if stream is None else stream[0, at][:, None]
        parts = self._log_p(tokens[0, at][:, None], own_stream, change)
        log_p = torch.cat([part[:, token] for part in parts])
        return log_p[:n_pos], (log_p[at] - log_p)[n_pos:]

    def _outputs(self, z: scipy.sparse.coo_matrix) -> Float[Tensor, "firing d_out"]:
        """Return z_j d_j of each firing."""
        W_dec = self.sae.W_dec.detach()
        return torch.from_numpy(z.data).to(W_dec)[:, None] * W_dec[z.col]

    def _codes(self, tokens: Tensor, acts: Float[Tensor, "1 pos ..."] | None = None) -> scipy.sparse.csr_matrix:
        return self.dictionary_hooks.codes_of_text(module_of(self.model), self.sae, tokens, acts).firing_matrix

    def _log_p(
        self, tokens: Int[Tensor, "#row pos"], stream: Tensor | None, change: Float[Tensor, "row pos d_out"]
    ) -> Iterator[Float[Tensor, "row d_vocab"]]:
        """Yield the log-probabilities of the next token after the last position, with each change, in blocks of
        rows."""
        if self._downstream.by_position:
            tokens, change = tokens[:, -1:], change[:, -1:]
            stream = None if stream is None else stream[:, -1:]
        tokens = tokens.expand(len(change), -1)
        stream = None if stream is None else stream.expand(len(change), *stream.shape[1:])
        for rows in slices(len(change), max(1, NUMBERS_AT_ONCE // (tokens.shape[1] * self._downstream.d_vocab))):
            logits = self._downstream.logits(tokens[rows], None if stream is None else stream[rows], change[rows])
            yield logits[:, -1].float().log_softmax(1).cpu()


def _strongest_latents(z: scipy.sparse.csr_matrix, row: int, n: int) -> list[list]:
    entries = slice(*z.indptr[row : row + 2])
    order = np.argsort(-z.data[entries], kind="stable")[:n]
    return [[int(z.indices[entries][i]), float(z.data[entries][i])] for i in order]


def _by_latent(entries: scipy.sparse.csr_matrix) -> list[tuple[int, list[list]]]:
    """Return each latent that has entries, with its entries [position, value]."""
    columns = entries.tocsc()
    latents = []
    for latent in np.flatnonzero(np.diff(columns.indptr)):
        entry_range = slice(*columns.indptr[latent : latent + 2])
        places = zip(columns.indices[entry_range].tolist(), columns.data[entry_range].tolist(), strict=True)
        latents.append((int(latent), [list(place) for place in places]))
    return latents


def _moved_tokens(
    p: Float[Tensor, " d_vocab"], without: Float[Tensor, " d_vocab"], *, largest: bool = True
) -> list[list]:
    change = (p - without).topk(min(N_MOVED, len(p)), largest=largest)
    moved = change.indices[change.values > 0 if largest else change.values < 0]
    return [[int(token), float(p[token]), float(without[token])] for token in moved]
