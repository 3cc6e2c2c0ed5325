"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, eq. 7).

    L = − mean log σ( β [ log π(y_w|x)/π_ref(y_w|x) − log π(y_l|x)/π_ref(y_l|x) ] )         nats a pair

β log π/π_ref is the reward that π implies: π is the best policy for it under the price β KL(π ‖ π_ref). L depends only
on the difference of the two log-ratios, so both responses may become less likely while it falls.

    KL(π ‖ π_ref) = E_x E_{y ~ π} Σ_t KL( π(·|x, y_<t) ‖ π_ref(·|x, y_<t) )                 nats a response

is measured on responses drawn from π, with the inner divergence summed over the vocabulary: unbiased, and with less
noise than the mean of log π(y)/π_ref(y).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from analyses.essay.posttraining.descent import PostTrainingConfig, descend
from analyses.essay.posttraining.sft import before_responses, response_log_probs
from analyses.essay.posttraining.turns import Sequences
from models.transformer import Transformer


def dpo_loss(
    chosen: Float[Tensor, " pair"],
    rejected: Float[Tensor, " pair"],
    reference_chosen: Float[Tensor, " pair"],
    reference_rejected: Float[Tensor, " pair"],
    beta: float,
) -> Float[Tensor, ""]:
    """Return L as above, from the log-probabilities of whole responses."""
    return -F.logsigmoid(beta * ((chosen - reference_chosen) - (rejected - reference_rejected))).mean()


def tune_on_preferences(
    policy: Transformer,
    reference: Transformer,
    chosen: Sequences,
    rejected: Sequences,
    config: PostTrainingConfig,
    *,
    beta: float,
    watch: Callable[[int, float], None] | None = None,
) -> None:
    """Tune `policy` in place by DPO. `reference` stays as it is. Row i of `chosen` was preferred to row i of
    `rejected`."""
    if not beta > 0:
        raise ValueError(f"beta={beta} must be above 0")
    fixed = [log_probs(reference, each) for each in (chosen, rejected)]

    def loss_of(rows: Tensor) -> Tensor:
        now = [response_log_probs(policy, each[rows]) for each in (chosen, rejected)]
        return dpo_loss(now[0], now[1], fixed[0][rows], fixed[1][rows], beta)

    descend(policy, len(chosen), config, loss_of, watch)


@torch.no_grad()
def log_probs(model: Transformer, sequences: Sequences, *, batch_size: int = 256) -> Float[Tensor, " seq"]:
    """log π(y|x) of all of them, a batch at a time."""
    starts = range(0, len(sequences), batch_size)
    return torch.cat([response_log_probs(model, sequences[start : start + batch_size]) for start in starts])


@torch.no_grad()
def policy_kl(policy: Transformer, reference: Transformer, drawn: Sequences, *, batch_size: int = 256) -> float:
    """KL(π ‖ π_ref) as above; `drawn` are responses that `policy` gave."""
    total = 0.0
    for start in range(0, len(drawn), batch_size):
        part = drawn[start : start + batch_size]
        now, before = (
            F.log_softmax(F.linear(before_responses(model, part)[0], model.W_U.T, model.b_U), 1)
            for model in (policy, reference)
        )
        total += float((now.exp() * (now - before)).sum())
    return total / len(drawn)
