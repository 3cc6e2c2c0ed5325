"""The planted page that the tests of its views look at: its text, its ranking, and what they all read of it."""

import numpy as np
import pandas as pd

from interp.text.rules import plain_atom, rule_json
from tests.planted_rules import a_rule, set_rule

VOCAB = [
    "<|bos|>",
    " return",
    " +",
    "returned",
    "123",
    "1233",
    " a",
    "\n",
    "\t",
    "⟨ce⟩",
    "⟨b2⟩",
    "⟨d7⟩",
    "⟨a9⟩⟨d7⟩",
    "⟨9c⟩",
]
VOCAB += [f"w{i}" for i in range(16)]


N_SEQ, N_CTX, D_SAE = 30, 16, 30


SPLIT, BEST, OTHER = 10, 16, 13
"""A latent of two senses, the one said to fire on many tokens, and the token of the second sense of SPLIT."""

GREEK, SPACES = 21, 23
"""Latents whose rules list tokens of one family, which the page names."""


def planted_ranking() -> pd.DataFrame:
    table = pd.DataFrame({"latent": np.arange(D_SAE), "monosemanticity": 0.999, "ci_low": 0.99, "ci_high": 0.999})
    table["verdict"], table["sure"], table["n_senses"] = "monosemantic", True, 1
    table.loc[20:, "verdict"] = "single-token"
    table.loc[25:, ["verdict", "sure"]] = "polysemantic", False
    table["explanation"], table["explanation_json"] = "", ""
    for latent in range(D_SAE):
        set_rule(table, latent, a_rule(token=[VOCAB[latent].strip()]))
    table["explanation_f1"], table["token_share"] = 0.5, 0.9
    table["senses"] = [[] for _ in range(D_SAE)]
    table.at[SPLIT, "senses"] = [
        {
            "share": 0.7,
            "rule": "a rule that holds",
            "f1": 0.8,
            "n": 40,
            "rows": [10, 26],
            "following": [1],
            "common": ['" I"'],
            "common_json": rule_json(a_rule(token=[" I"])),
        },
        {"share": 0.3, "rule": "a rule that does not", "f1": 0.1, "n": 12, "rows": [45]},
    ]
    table.loc[SPLIT, ["verdict", "n_senses", "explanation_f1"]] = "polysemantic", 2, 0.2
    rules = {2: a_rule(previous=[" return", " +"]), 7: (plain_atom("a line end, as in returned"),)}
    rules |= {9: (plain_atom("1233 or 12"),), GREEK: a_rule(token="αβγδε"), SPACES: a_rule(token=["  ", "    "])}
    for latent, rule in rules.items():
        set_rule(table, latent, rule)
    table.loc[BEST, ["explanation_f1", "token_share"]] = 0.6, 0.4
    return table


def latents(browser) -> list[int]:
    """Those of the table's rows in sight, in order."""
    return browser.evaluate("Array.from(document.querySelectorAll('tr[data-latent]'), (e) => Number(e.dataset.latent))")


def found(browser, query: str) -> list[int]:
    browser.search(query)
    return latents(browser)


def question(browser) -> str:
    return browser.evaluate("location.hash")
