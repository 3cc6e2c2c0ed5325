"""The columns of a ranking that are no measures, which `interp.verdict.ranking` describes."""

from interp.verdict.similarity import STATISTIC_NAMES

RULE_SCORES = ("f1", "precision", "recall", "n_examples", "f1_by_interval", "json")
BEFORE_MEASURES = (
    *("latent", "monosemanticity", "ci_low", "ci_high", "verdict", "n_senses"),
    *("explanation", *(f"explanation_{name}" for name in RULE_SCORES)),
    *("senses", "sure", "learnt", "shared", "shared_kind", *STATISTIC_NAMES),
)
AFTER_MEASURES = ("n_active", "n_sequences", "evidence")
