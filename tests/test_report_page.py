"""What a reader of the page sees and does, tried in Chromium on a store whose latents are planted for it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from interp import figures
from interp.features.feature_store import FeatureStore
from interp.report import write_report

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
BEST = 16
"""The one latent said to fire on many tokens."""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """Latent j fires on token j, more strongly the later in the text."""
    folder = tmp_path_factory.mktemp("page")
    tokens = np.random.default_rng(0).integers(14, len(VOCAB), (N_SEQ, N_CTX))
    tokens[:, :14] = np.arange(14)
    at = np.flatnonzero(tokens.reshape(-1) < D_SAE)
    values = 1 + at / at.max()
    z = scipy.sparse.csr_matrix((values, (at, tokens.reshape(-1)[at])), (N_SEQ * N_CTX, D_SAE), dtype=np.float32)
    labels = {"python": torch.from_numpy(tokens == 3), "latex": torch.from_numpy(tokens % 2 == 0)}
    g = torch.Generator().manual_seed(0)
    weights = {"W_dec": torch.randn(D_SAE, 8, generator=g), "W_U": torch.randn(8, len(VOCAB), generator=g)}
    store = FeatureStore.from_codes(
        torch.from_numpy(tokens).int(), z, folder / "store", vocab=VOCAB, labels=labels, **weights
    )
    return write_report(store, folder / "page", ranking=planted_ranking()).as_uri()


def planted_ranking() -> pd.DataFrame:
    table = pd.DataFrame({"latent": np.arange(D_SAE), "monosemanticity": 0.999, "ci_low": 0.99, "ci_high": 0.999})
    table["verdict"], table["sure"], table["n_senses"] = "monosemantic", True, 1
    table.loc[20:, "verdict"] = "lexical"
    table["explanation"] = [f'"{VOCAB[j].strip()}"' for j in range(D_SAE)]
    table["explanation_f1"], table["token_share"] = 0.5, 0.9
    table.loc[BEST, ["explanation_f1", "token_share"]] = 0.6, 0.4
    return table


@pytest.fixture
def browser(chromium):
    chromium.size(1400, 900)
    return chromium


def modebar(browser) -> str:
    browser.wait("document.querySelectorAll('.modebar-btn').length")
    return " ".join(browser.evaluate("Array.from(document.querySelectorAll('.modebar-btn'), (e) => e.dataset.title)"))


@pytest.mark.parametrize("view", ["summary", "map"])
def test_no_figure_of_the_page_offers_to_upload_itself(browser, address, view):
    browser.open(f"{address}#{view}")
    assert "Download plot" in modebar(browser) and "Share" not in modebar(browser)


def test_a_saved_figure_offers_no_upload_whoever_draws_it(browser, tmp_path: Path):
    figure = figures.density_histogram(pd.DataFrame({"density": [0.1, 0.01]}))
    (tmp_path / "figure.html").write_text(figure.to_html(), encoding="utf-8")
    browser.send("Page.navigate", url=(tmp_path / "figure.html").as_uri())
    assert "Download plot" in modebar(browser) and "Share" not in modebar(browser)


def latents(browser) -> list[int]:
    """Those of the table's rows in sight, in order."""
    return browser.evaluate("Array.from(document.querySelectorAll('tr[data-latent]'), (e) => Number(e.dataset.latent))")


def test_enter_opens_the_row_that_the_keys_have_reached_whatever_was_clicked_before(browser, address):
    browser.open(f"{address}#features")
    browser.click(".chip[data-verdict=lexical]")
    second = latents(browser)[1]
    browser.press("j")
    assert browser.evaluate("document.activeElement.closest('tr')?.dataset.latent") == str(second)
    browser.press("Enter")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{second}'")
    browser.press("Escape")
    browser.wait("Boolean(document.activeElement.closest('tr.at'))")
    assert browser.evaluate("document.activeElement.textContent") == str(second), "the focus comes back to its row"
    assert browser.evaluate("document.querySelector('.chip[data-verdict=lexical]').ariaPressed") == "true"
    browser.click("th[data-key=density] button")
    before, order = browser.evaluate("document.querySelector('th[data-key=density]').ariaSort"), latents(browser)
    for key in ("ArrowDown", "j", "k", "Enter"):
        browser.press(key)
    browser.wait(f"document.getElementById('feature').dataset.latent === '{order[1]}'")
    assert browser.evaluate("document.querySelector('th[data-key=density]').ariaSort") == before


def test_the_recommended_order_breaks_ties_and_can_be_returned_to(browser, address):
    browser.open(f"{address}#features")
    assert "Recommended order" in browser.text(".ordered")[0]
    order = latents(browser)
    assert order[0] == BEST
    browser.click("th[data-key=monosemanticity] button")
    assert latents(browser) == order, "all are equally monosemantic"
    browser.click("th[data-key=latent] button")
    assert latents(browser)[0] == 0
    browser.click(".ordered button")
    assert latents(browser) == order and "Recommended order" in browser.text(".ordered")[0]
