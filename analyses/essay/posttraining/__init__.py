"""What comes after pre-training: tuning on conversations, a reward model, direct preference optimisation.

The modules:

    turns        a tokenizer with <user>, <bot> and <end>; conversations as rows of tokens with the response marked
    descent      the loop that the three trainings share
    sft          cross-entropy of the responses
    reward       Bradley–Terry on the transformer's trunk
    preference   DPO against a frozen reference; the divergence between two policies
    sampling     responses, drawn with cached keys and values
"""

from analyses.essay.posttraining.descent import PostTrainingConfig
from analyses.essay.posttraining.preference import dpo_loss, policy_kl, tune_on_preferences
from analyses.essay.posttraining.reward import RewardModel, bradley_terry_loss, train_reward_model
from analyses.essay.posttraining.sampling import Responses, respond
from analyses.essay.posttraining.sft import mean_response_loss, response_log_probs, response_loss, tune_on_responses
from analyses.essay.posttraining.turns import ChatTokenizer, Sequences

__all__ = [
    "ChatTokenizer",
    "PostTrainingConfig",
    "Responses",
    "RewardModel",
    "Sequences",
    "bradley_terry_loss",
    "dpo_loss",
    "mean_response_loss",
    "policy_kl",
    "respond",
    "response_log_probs",
    "response_loss",
    "train_reward_model",
    "tune_on_preferences",
    "tune_on_responses",
]
