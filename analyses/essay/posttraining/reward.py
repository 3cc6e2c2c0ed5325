"""A reward model: the transformer's trunk, with a scalar where the logits were (Ouyang et al. 2022, §3.5, eq. 1).

    r(x, y) = w · LN_final(resid at the last token of y) + b
    P(y_w preferred to y_l) = σ(r(x, y_w) − r(x, y_l))                 (Bradley & Terry 1952)
    L = − mean over pairs of log σ(r(x, y_w) − r(x, y_l))              nats a pair

Only differences count, so b is free; it is left out.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from analyses.essay.posttraining.descent import PostTrainingConfig, descend
from analyses.essay.posttraining.turns import Sequences
from models.transformer import Transformer


class RewardModel(nn.Module):
    """Begins as a copy of `policy` that gives every response the reward 0."""

    def __init__(self, policy: Transformer):
        super().__init__()
        self.trunk = Transformer(policy.config)
        self.trunk.load_state_dict(policy.state_dict())
        self.head = nn.Parameter(torch.zeros(policy.config.d_model))

    def forward(self, sequences: Sequences) -> Float[Tensor, " seq"]:
        resid = self.trunk(sequences.tokens, stop_at_layer=self.trunk.config.n_layers)
        last = resid[torch.arange(len(sequences)), sequences.last]
        return self.trunk.ln_final(last) @ self.head

    @torch.no_grad()
    def rewards(self, sequences: Sequences, *, batch_size: int = 256) -> Float[Tensor, " seq"]:
        """r of all of them, a batch at a time."""
        starts = range(0, len(sequences), batch_size)
        return torch.cat([self(sequences[start : start + batch_size]) for start in starts])


def bradley_terry_loss(chosen: Float[Tensor, " pair"], rejected: Float[Tensor, " pair"]) -> Float[Tensor, ""]:
    """Return L as above, from rewards."""
    return -F.logsigmoid(chosen - rejected).mean()


def train_reward_model(
    reward: RewardModel,
    chosen: Sequences,
    rejected: Sequences,
    config: PostTrainingConfig,
    watch: Callable[[int, float], None] | None = None,
) -> None:
    """Train the model in place. Row i of `chosen` was preferred to row i of `rejected`."""

    def loss_of(rows: Tensor) -> Tensor:
        return bradley_terry_loss(reward(chosen[rows]), reward(rejected[rows]))

    descend(reward, len(chosen), config, loss_of, watch)
