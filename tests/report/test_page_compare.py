"""The comparison of two features, tried in Chromium."""

import re

import pytest


def test_two_features_are_compared_at_an_address_of_their_own(browser, address):
    browser.open(f"{address}#feature/3")
    browser.click("#feature .path a[href^='#compare/3/']")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    other = browser.evaluate("location.hash").split("/")[2]
    assert browser.text("#compare .heads h2") == ["Feature 3", f"Feature {other}"]
    assert re.fullmatch(r"0\.\d\d", browser.text("#compare .facts dd")[0]), "the cosine of a neighbour"
    assert browser.text("#compare .venn span") == ["30 only 3", f"30 only {other}"], "each fires on a token of its own"
    assert browser.text("#compare .answer")[0].startswith(f"Features 3 and {other} ")
    assert browser.text("#compare .where > p") == ["Both fire in none of the examples stored."]
    assert len(browser.text("#compare .where section")) == len(browser.text("#compare .examples")) == 2
    assert len(browser.text("#compare .mirror")) == 2 and not browser.complaints
    assert browser.evaluate("document.title").startswith(f"Features 3 and {other} ")
    browser.click("#compare .choice a")
    browser.wait(f"document.getElementById('compare').dataset.latent === '{other}'")
    assert browser.text("#compare .heads h2") == [f"Feature {other}", "Feature 3"]
    browser.press("Escape")
    browser.wait("document.body.dataset.view === 'features'")
    browser.open(f"{address}#compare/3")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    nearest = browser.evaluate("loadFeature(3).then(({ neighbours }) => neighbours[0][0])")
    assert browser.text("#compare .heads h2") == ["Feature 3", f"Feature {nearest}"]


def test_a_pair_without_counts_shows_the_bounds_that_are_known(browser, address):
    nearest = "[...one.neighbours, ...one.coactivations].map(([other]) => other)"
    far = f"""(async () => {{
        const one = await loadFeature(3), held = (one.pairs ?? []).map(([other]) => other);
        for (let k = 4; k < 30; k++) {{
            const other = await loadFeature(k), theirs = [...other.neighbours, ...other.coactivations];
            if (![...held, ...{nearest}].includes(k) && !theirs.some(([latent]) => latent === 3)) return k;
        }}
    }})()"""
    browser.open(f"{address}#compare/3")
    browser.open(f"{address}#compare/3/{browser.evaluate(far)}")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    assert (
        browser.text("#compare .facts dd")[0].startswith("below ") and len(browser.text("#compare .where section")) == 2
    )
    assert "interp explore" in browser.text("#compare .overlap p")[0] and not browser.complaints


@pytest.mark.parametrize(
    "asked, said", [("", "Name two"), ("/99", "no feature 99"), ("/3/99", "no feature 99"), ("/x/1", "x")]
)
def test_a_comparison_of_what_is_not_there_says_so(browser, address, asked, said):
    browser.open(f"{address}#compare{asked}")
    assert said in browser.text("#compare .missing")[0]
    field = "document.querySelectorAll('#compare input')"
    browser.evaluate(f"{field}[0].value = 4; {field}[1].value = 7")
    browser.click("#compare button")
    browser.wait("document.getElementById('compare').dataset.latent === '4'")
    browser.size(390, 844, dark=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390 and browser.faint() == []
