"""What a reader of the page sees and does, tried in Chromium on a store whose latents are planted for it."""

import base64
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from interp import figures
from interp.features.feature_store import FeatureStore
from interp.report import write_report
from interp.report.notes import read_notes

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


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """Latent j fires on token j, more strongly the later in the text; SPLIT fires on OTHER too."""
    folder = tmp_path_factory.mktemp("page")
    tokens = np.random.default_rng(0).integers(14, len(VOCAB), (N_SEQ, N_CTX))
    tokens[:, :14] = np.arange(14)
    at = np.flatnonzero(tokens.reshape(-1) < D_SAE)
    values = 1 + at / at.max()
    other = np.flatnonzero(tokens.reshape(-1) == OTHER)
    places = np.concatenate([at, other]), np.concatenate([tokens.reshape(-1)[at], np.full(len(other), SPLIT)])
    values = np.concatenate([values, np.full(len(other), 0.5)])
    z = scipy.sparse.csr_matrix((values, places), (N_SEQ * N_CTX, D_SAE), dtype=np.float32)
    labels = {"python": torch.from_numpy(tokens == 3), "latex": torch.from_numpy(tokens % 2 == 0)}
    g = torch.Generator().manual_seed(0)
    weights = {"W_dec": torch.randn(D_SAE, 8, generator=g), "W_U": torch.randn(8, len(VOCAB), generator=g)}
    store = FeatureStore.from_codes(
        torch.from_numpy(tokens).int(), z, folder / "store", vocab=VOCAB, labels=labels, **weights
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.report.latent_map.MIN_FOR_UMAP", 99)  # whose compiling takes longer than all the rest
        for module in ("interp.report.writing", "interp.report.payloads"):
            patch.setattr(sys.modules[module], "CHUNK", 8)
        return write_report(store, folder / "page", ranking=planted_ranking()).as_uri()


def planted_ranking() -> pd.DataFrame:
    table = pd.DataFrame({"latent": np.arange(D_SAE), "monosemanticity": 0.999, "ci_low": 0.99, "ci_high": 0.999})
    table["verdict"], table["sure"], table["n_senses"] = "monosemantic", True, 1
    table.loc[20:, "verdict"] = "single-token"
    table.loc[25:, ["verdict", "sure"]] = "polysemantic", False
    table["explanation"] = [f'"{VOCAB[j].strip()}"' for j in range(D_SAE)]
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
        },
        {"share": 0.3, "rule": "a rule that does not", "f1": 0.1, "n": 12, "rows": [45]},
    ]
    table.loc[SPLIT, ["verdict", "n_senses", "explanation_f1"]] = "polysemantic", 2, 0.2
    for latent, rule in {2: 'after " return" or " +"', 7: "a line end, as in returned", 9: "1233 or 12"}.items():
        table.loc[latent, "explanation"] = rule
    table.loc[BEST, ["explanation_f1", "token_share"]] = 0.6, 0.4
    return table


@pytest.fixture
def browser(chromium):
    chromium.size(1400, 900)
    return chromium


def modebar(browser) -> str:
    browser.wait("document.querySelectorAll('.modebar-btn').length")
    return " ".join(browser.evaluate("Array.from(document.querySelectorAll('.modebar-btn'), (e) => e.dataset.title)"))


def test_no_figure_of_the_page_offers_to_upload_itself(browser, address):
    browser.open(f"{address}#summary")
    assert "Download plot" in modebar(browser) and "Share" not in modebar(browser)


def test_a_saved_figure_offers_no_upload_whoever_draws_it(browser, tmp_path: Path):
    figure = figures.density_histogram(pd.DataFrame({"density": [0.1, 0.01]}))
    (tmp_path / "figure.html").write_text(figure.to_html(), encoding="utf-8")
    browser.send("Page.navigate", url=(tmp_path / "figure.html").as_uri())
    assert "Download plot" in modebar(browser) and "Share" not in modebar(browser)


def latents(browser) -> list[int]:
    """Those of the table's rows in sight, in order."""
    return browser.evaluate("Array.from(document.querySelectorAll('tr[data-latent]'), (e) => Number(e.dataset.latent))")


def test_enter_opens_the_row_under_the_keyboard_cursor(browser, address):
    browser.open(f"{address}#features")
    browser.click(".chip[data-verdict=single-token]")
    second = latents(browser)[1]
    browser.press("j")
    assert browser.evaluate("document.activeElement.closest('tr')?.dataset.latent") == str(second)
    browser.press("Enter")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{second}'")
    browser.press("Escape")
    browser.wait("Boolean(document.activeElement.closest('tr.at'))")
    assert browser.evaluate("document.activeElement.textContent") == str(second), "the focus comes back to its row"
    assert browser.evaluate("document.querySelector('.chip[data-verdict=single-token]').ariaPressed") == "true"
    browser.click("th[data-key=density] button")
    before, order = browser.evaluate("document.querySelector('th[data-key=density]').ariaSort"), latents(browser)
    for key in ("ArrowDown", "j", "k", "Enter"):
        browser.press(key)
    browser.wait(f"document.getElementById('feature').dataset.latent === '{order[1]}'")
    assert browser.evaluate("document.querySelector('th[data-key=density]').ariaSort") == before


def test_the_recommended_order_breaks_ties_and_any_other_is_chosen_by_a_head_or_in_a_list(browser, address):
    browser.open(f"{address}#features")
    field = "document.querySelector('.ordering select')"
    choose = f"{field}.value = '%s'; {field}.dispatchEvent(new Event('change'))"
    assert browser.evaluate(f"{field}.selectedOptions[0].textContent") == "Recommended order"
    assert "worth a look" in browser.evaluate("document.querySelector('.ordering .term').dataset.tip")
    order = latents(browser)
    assert order[0] == BEST
    browser.click("th[data-key=monosemanticity] button")
    assert latents(browser) == order, "all are equally monosemantic"
    browser.click("th[data-key=latent] button")
    assert latents(browser)[0] == 0 and browser.evaluate(f"{field}.value") == "latent"
    browser.click(".ordering .turn")
    assert latents(browser)[0] == D_SAE - 1
    browser.evaluate(choose % "max")
    most = "report.data.page.columns.max"
    assert browser.evaluate(f"{most}[{latents(browser)[0]}] === Math.max(...{most})")
    assert browser.evaluate("Array.from(document.querySelectorAll('th'), (e) => e.ariaSort)").count("none") == 5
    browser.evaluate(choose % "")
    assert latents(browser) == order and browser.evaluate("document.querySelector('.turn').hidden")
    heads = browser.evaluate("document.querySelectorAll('.scroller th').length")
    assert heads == browser.evaluate("document.querySelectorAll('tr[data-latent]')[0].children.length"), "one head each"


def found(browser, query: str) -> list[int]:
    browser.search(query)
    return latents(browser)


def test_search_ranks_by_the_match_and_shows_it(browser, address):
    browser.open(f"{address}#features")
    assert found(browser, "return")[:2] == [1, 2], "the token itself, then a word of a rule"
    assert set(found(browser, "return")[2:]) == {3, 7}, "then parts"
    assert browser.text("tr[data-latent='2'] mark") == ["return"]
    assert browser.text("tr[data-latent='1'] mark.top_token") == [" return"]
    assert "Best matches first" in browser.text(".ordering option")
    assert found(browser, "tok:return") == [1, 3] and set(found(browser, "rule:return")[:2]) == {1, 2}
    assert found(browser, 'tok:" return"') == [1] and found(browser, '"line end"') == [7]
    assert found(browser, "end line") == [7] and found(browser, "line return +") == [] and found(browser, "+")[0] == 2
    browser.click("th[data-key=latent] button")
    assert found(browser, "return") == [1, 2, 3, 7], "a column's order holds"
    assert found(browser, "rule:a rule:line") == [7]


def test_numbers_are_found_whole(browser, address):
    browser.open(f"{address}#features")
    assert found(browser, "123") == [4] and found(browser, "1233") == [5, 9] and found(browser, "#12") == [12]
    assert set(found(browser, "12")) == {12, 9}, "the feature's own number, and a number of a rule"


def test_a_label_with_a_low_f1_is_left_out_and_an_unsure_verdict_is_marked(browser, address):
    browser.open(f"{address}#features")
    columns = "report.data.page.columns"
    assert browser.text("select[aria-label='Any label'] option") == ["Any label", "python"]
    f1 = browser.evaluate(f"{columns}.label.map((at, i) => [at === null, {columns}.label_f1[i]])")
    assert {blank for blank, _ in f1} == {True, False} and all(blank == ((of or 0) < 0.3) for blank, of in f1)
    for latent, blank in ((3, False), (16, True)):
        browser.search(f"#{latent}")
        assert browser.text(".tag.label") == ([] if blank else ["python"])
        shown = browser.evaluate(f"[report.lead.f1({latent}), {columns}.explanation_f1[{latent}]]")
        assert browser.text("td.f1") == [f"{shown[0]:.2f}"] and (shown[0] == shown[1]) == blank
    browser.search("#26")
    assert browser.text("td.verdict > div")[0] == "poly, unsure"
    browser.search("#3")
    assert browser.text("td.verdict > div")[0] == "mono"
    assert browser.evaluate("document.querySelector('td.verdict .verdict').ariaLabel") == "monosemantic"


def test_on_a_phone_examples_come_first_then_logits_with_the_evidence_folded(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#feature/3")
    top = "document.querySelector('{}').getBoundingClientRect().top"
    tops = [browser.evaluate(top.format(part)) for part in (".example", ".logits", ".side .missing")]
    assert 0 < tops[0] < 844 and tops == sorted(tops)
    pressed = "#feature :is(button:not(.term), input)"  # a term stands in a line of text
    small = f"Array.from(document.querySelectorAll('{pressed}'), (e) => e.getBoundingClientRect())"
    assert browser.evaluate(f"{small}.filter((b) => b.height && b.height < 40).length") == 0, "a finger is 40 pixels"
    assert not browser.evaluate("Array.from(document.querySelectorAll('details'), (d) => d.open).some(Boolean)")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    browser.evaluate("document.querySelector('details').scrollIntoView()")
    browser.click("details summary")
    assert browser.evaluate("document.querySelector('details').open")
    browser.open(f"{address}#features")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    cards = "Array.from(document.querySelectorAll('tr[data-latent]'), (e) => e.getBoundingClientRect())"
    assert browser.evaluate(f"{cards}.every((b) => b.left >= 0 && b.right <= 390)")
    assert browser.evaluate(f"new Set({cards}.map((b) => b.height)).size") == 1, "what scrolls is counted in rows"


def test_the_examples_stay_in_view_next_to_the_evidence_below_their_histogram(browser, address):
    browser.open(f"{address}#feature/3")
    histogram, example, fires = (
        browser.evaluate(f"document.querySelector('{part}').getBoundingClientRect().toJSON()")
        for part in (".fires .histogram", ".fires .example", ".fires")
    )
    assert 0 < example["top"] - histogram["bottom"] < 100 and fires["height"] <= 900
    folds = "Array.from(document.querySelectorAll('.side h3'), (e) => e.getBoundingClientRect().bottom)"
    assert browser.evaluate(folds)[1] < 900, "logits and the verdict are in the first view"
    browser.evaluate("document.querySelector('.side').style.minHeight = '3000px'")
    browser.evaluate("scrollTo(0, 1500)")
    browser.wait("scrollY === 1500")
    edges = ("'.fires').getBoundingClientRect().top", "'.masthead').getBoundingClientRect().bottom")
    below, above = (browser.evaluate(f"document.querySelector({edge}") for edge in edges)
    assert abs(below - above) < 2, "right below what stays at the top"


@pytest.mark.parametrize("view", ["overview", "features", "map", "summary"])
def test_an_address_opens_its_view_at_the_top(browser, address, view):
    browser.size(390, 300)
    browser.open(f"{address}#{view}")
    assert browser.evaluate("scrollY") == 0


def test_the_lead_uses_a_label_instead_of_a_rule_if_it_fits_better(browser, address):
    browser.open(f"{address}#feature/2")
    assert browser.text("#feature .lead dt") == ["Raises", "Points like"]
    near = browser.evaluate("loadFeature(2).then(({ neighbours }) => neighbours)")
    linked = browser.evaluate("Array.from(document.querySelectorAll('.lead a'), (e) => e.getAttribute('href'))")
    close = [(other, cosine) for other, cosine in near if cosine >= 0.5][:3]
    assert close and linked == [*(f"#feature/{other}" for other, _ in close), "#map/2"]
    assert browser.text("#feature .near small") == [f"{cosine:.2f}" for _, cosine in close]
    far = "report.views.feature.nearby(2, { neighbours: [[3, 0.4]], coactivations: [[4, 0.1, 1], [5, 0.6, 1]] })"
    lines = browser.evaluate(f"{far}.map(([name, said]) => [name, h('p', null, said).textContent])")
    assert [name for name, _ in lines] == ["Fires with", "Points like"] and "no close neighbour" in lines[1][1]
    assert re.match(r"50\.60.*40\.10", lines[0][1]), "the highest Jaccard first, each with its number"
    assert browser.text("#feature .title") == ['after " return" or " +" F1 0.50']
    assert 0 < len(browser.text("#feature .predicts .token")) <= 5
    browser.open(f"{address}#feature/3")
    f1 = browser.evaluate("report.data.page.columns.label_f1[3]")
    lead = 'the token "returned" F1 0.50'
    assert f1 > 0.5 and browser.text("#feature .title") == [f"python F1 {f1:.2f}"]
    assert browser.text("#feature .lead dd")[0] == lead
    browser.evaluate("location.hash = '#compare/3/2'")
    browser.wait("document.querySelectorAll('#compare .lead').length === 2")
    assert browser.text("#compare .lead dd")[0] == lead, "beside another too"
    brief = "h('p', null, report.lead.brief({})).textContent"
    assert browser.evaluate(brief.format(3)) == f"python F1 {f1:.2f}" and browser.evaluate(brief.format(4)).startswith(
        '"'
    )


def test_spaces_in_the_quotes_of_a_rule_are_drawn_and_stay_spaces(browser, address):
    browser.open(f"{address}#feature/2")
    spaces = "document.querySelectorAll('.title .quoting .space')"
    drawn = f"Array.from({spaces}, (e) => getComputedStyle(e, '::before').content)"
    assert browser.evaluate(drawn) == ['"␣"', '"␣"'] and 'after " return" or " +"' in browser.text(".title .quoting")[0]
    browser.open(f"{address}#features?q=rule:return")
    assert 'after " return" or " +"' in browser.text("tr[data-latent='2'] .explanation")[0]
    assert browser.text("tr[data-latent='2'] .quoting mark") == ["return"]


def test_a_run_of_white_space_is_one_numbered_sign_and_is_copied_unchanged(browser, address):
    browser.open(f"{address}#feature/2")
    put = "document.querySelector('#feature .title').replaceChildren({}); document.querySelector('#feature .title')"
    signs = ".querySelectorAll('.run')].map((e) => getComputedStyle(e, '::before').content)"
    rule = '"\\n' + 7 * " " + '", "\\nabla" or "' + 3 * " " + '"'
    assert browser.evaluate(f"{put.format(f'ruleText({json.dumps(rule)})')}.innerText") == rule
    assert browser.evaluate("[...document" + signs) == ['"↵"', '"␣×7"', '"␣×3"'], "a command of LaTeX is no line end"
    token = "x\n\n\n\n" + 12 * " " + "x  y"
    browser.evaluate(put.format(f"h('span.token', null, visible({json.dumps(token)}))"))
    assert browser.evaluate("[...document" + signs) == ['"↵×4"', '"␣×12"']
    browser.evaluate("getSelection().selectAllChildren(document.querySelector('#feature .title'))")
    assert browser.evaluate("getSelection().toString()") == token
    assert browser.evaluate("document.querySelector('#feature .title').getBoundingClientRect().height") < 30


def test_a_term_says_what_it_means_to_a_pointer_a_key_and_a_finger_until_escape(browser, address):
    browser.open(f"{address}#feature/3")
    said = "(({hidden, textContent}) => hidden ? '' : textContent)(document.getElementById('tip'))"
    term = "document.querySelector('#feature .name .term')"
    meaning = browser.evaluate(f"report.words.meanings[{term}.textContent]")
    assert meaning.startswith("The verdict that its firings") and browser.evaluate(said) == ""
    x, y = browser.evaluate(f"(({{x, y, width}}) => [x + width / 2, y + 5])({term}.getBoundingClientRect())")
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert browser.evaluate(said) == meaning
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y + 400)
    assert browser.evaluate(said) == ""
    browser.evaluate(f"{term}.focus()")
    assert browser.evaluate(said) == meaning and browser.evaluate(f"{term}.getAttribute('aria-describedby')") == "tip"
    box = "document.getElementById('tip').getBoundingClientRect()"
    assert browser.evaluate(f"{box}.left >= 0 && {box}.right <= innerWidth && {box}.top >= 0")
    browser.press("Escape")
    assert browser.evaluate(said) == "" and question(browser) == "#feature/3", "Escape closes the tip alone"
    browser.click("#feature .name .term")
    assert browser.evaluate(said) == meaning


def test_terms_have_one_meaning_each_that_the_glossary_has_too(browser, address):
    browser.open(f"{address}#overview")
    glossary = (Path(__file__).parents[2] / "analyses" / "GLOSSARY.md").read_text().lower()
    verdicts = browser.evaluate("Object.values(report.data.page.verdicts).map(({ word }) => word)")
    names = set(browser.evaluate("Object.keys(report.words.meanings)"))
    assert names > set(verdicts) and [name for name in names - {*verdicts} if name.lower() not in glossary] == []


def test_strong_activations_are_told_from_weak_ones_on_a_dark_screen(browser, address):
    browser.size(1400, 900, dark=True)
    browser.open(f"{address}#feature/3")
    token = "(at) => h('span.token.on', {'--shade': at}, 'x')"
    strengths = f"[0.1, 0.3, 0.5, 0.7, 0.9, 1].map({token})"
    browser.evaluate(f"document.querySelector('.example .text').replaceChildren(...{strengths})")
    colours = browser.evaluate(
        "Array.from(document.querySelectorAll('.example:first-child .on'), (e) => getComputedStyle(e).backgroundColor)"
    )
    depths = [float(re.findall(r"[\d.]+", colour)[3]) for colour in colours]
    assert all(more - less > 0.05 for less, more in zip(depths[:-1], depths[1:], strict=True)) and depths[-1] > 0.5
    inks = browser.evaluate(
        "Array.from(document.querySelectorAll('.example:first-child .on'), (e) => getComputedStyle(e).color)"
    )
    turns = sum(one != other for one, other in zip(inks[:-1], inks[1:], strict=True))
    assert turns == 1 and inks[0] != inks[-1], "dark letters on the brightest grounds alone"
    assert browser.faint() == []


def test_a_quote_in_a_token_of_a_rule_does_not_end_its_quotes(browser, address):
    browser.open(f"{address}#features")
    rule = '"(", " {", "="", """" or " a b", then "end" (as in "x")'
    drawn = "Array.from(ruleText(%s).querySelectorAll('bdi'), (e) => e.textContent)"
    tokens = ["(", " {", '="', '""', " a b", "end", "x"]
    assert browser.evaluate(drawn % json.dumps(rule)) == tokens
    found = f"{json.dumps(rule[:7])}, {json.dumps(rule[7:9])}, {json.dumps(rule[9:])}"
    assert browser.evaluate(drawn % found) == ["(", " ", "{", *tokens[2:]], "also where a search found a part of it"


def test_letters_that_look_latin_name_their_script_and_stray_bytes_their_characters(browser, address):
    browser.open(f"{address}#feature/3")
    script = "Array.from(%s.querySelectorAll('[data-script]'), (e) => e.dataset.script)"
    rule = json.dumps('"в", "β" or "ا"')
    assert browser.evaluate(script % f"ruleText({rule})") == ["Cyrillic", "Arabic alef"]
    assert browser.evaluate("tokenElement(' в').dataset.script") == "Cyrillic"
    token = "(({dir, dataset}) => [dir, dataset.tip])(tokenElement('⟨9c⟩⟨d7⟩'))"
    said = "⟨9c⟩: a later byte of a character, ⟨d7⟩: the first byte of a Hebrew letter"
    assert browser.evaluate(token) == ["ltr", said]


def test_a_long_rule_is_cut_where_it_is_one_of_many(browser, address):
    browser.open(f"{address}#feature/3")
    brief = """((rule) => {
        Object.assign(report.data.page.columns, { label: [], explanation: [rule], explanation_f1: [1] });
        return h("p", null, report.lead.brief(0, () => null)).textContent;
    })(%s)"""
    for rule, said in (
        ('tokens like "a", "b", "c", tokens like "d", "e" or "f"', 'tokens like "a", "b", "c", "d" +2'),
        ('"a", "b" or "c"', '"a", "b" or "c"'),
        ('tokens two after "a" before tokens like "b"', 'tokens two after "a" before tokens like "b"'),
        ('"\\n   ", "\\n       " or "\\n  "', "a line end and an indent"),
    ):
        assert browser.evaluate(brief % json.dumps(rule)) == said


def test_hebrew_reads_from_right_to_left(browser, address):
    browser.open(f"{address}#feature/9")
    browser.click(".widths [value=whole]")
    tokens = "Array.from(document.querySelectorAll('.panel:not([hidden]) .example:first-child .token'),"
    lefts = dict(map(tuple, browser.evaluate(f"{tokens} (e) => [e.textContent, e.getBoundingClientRect().left])")))
    assert lefts["β"] < lefts["ל"] < lefts["ש"]


def test_a_firing_token_is_its_own_element_with_its_space_marked_and_the_rest_is_text(browser, address):
    browser.open(f"{address}#feature/1")
    pieces = browser.text(".example:first-child .text .token")
    assert pieces[:2] == ["<|bos|>", " return"] and pieces[2].startswith(" +returned1231233 a\n\t")
    drawn = "getComputedStyle(document.querySelector('.example .text .firing .space'), '::before').content"
    assert browser.evaluate(drawn) == '"·"' and len(browser.text(".example:first-child .text .space")) == 1


def test_bytes_of_one_character_are_joined_and_share_the_stronger_shade(browser, address):
    """Tokens 9 and 10 are the two bytes of β, 11 to 13 the four of two letters that share a token, whose firing is one
    box."""
    for latent, shown in ((9, "β"), (11, "ש"), (12, "של"), (13, "ל")):
        browser.open(f"{address}#feature/{latent}")
        assert browser.text(".example .firing")[0] == shown
    pieces = browser.evaluate(
        "report.pieces(['a⟨d7⟩', '⟨a9⟩⟨d7⟩', '⟨9c⟩b', '⟨ce⟩', 'c', '⟨f0⟩⟨9f⟩', '⟨98⟩', '⟨80⟩', ''])"
    )
    assert [(piece["text"], piece["tokens"]) for piece in pieces] == [
        ("a", [0]), ("ש", [0, 1]), ("ל", [1, 2]), ("b", [2]), ("⟨ce⟩", [3]), ("c", [4]),
        ("\U0001f600", [5, 5, 6, 7]), ("", [8]),
    ]  # fmt: skip


def test_examples_stand_with_their_firing_tokens_in_one_column_and_open_to_the_whole_context(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    fired = "document.querySelectorAll('.panel:not([hidden]) [data-sense=\"0\"] .firing')"
    firing = f"Array.from({fired}, (e) => e.getBoundingClientRect())"
    assert len(browser.evaluate(firing)) == 1 and browser.text(".alike") == ["+28 alike", "+9 alike"], "after one text"
    browser.click(".alike")
    assert len(browser.evaluate(firing)) == 29 and browser.text(".alike") == ["+9 alike"]
    assert browser.evaluate(f"new Set({firing}.map((b) => b.left)).size") == 1
    assert browser.evaluate(f"{firing}.every((b) => b.height < 30)"), "on one line each"
    browser.click(".example .value")
    assert browser.text(".whole .text .token") and browser.text(".whole .about")[0].startswith(
        f"sequence {N_SEQ - 1}, position"
    )
    tokens = browser.evaluate("Array.from(report.text.of(report.data.page.latents - 1), word).join('')")
    shown = browser.evaluate("document.querySelector('.whole .text').textContent")
    assert len(shown) > 40 and tokens.startswith("<|bos|> return")
    browser.click(".example .value")
    assert not browser.text(".whole")
    for width in ("passage", "whole", "line"):
        browser.click(f".widths [value={width}]")
        assert len(browser.evaluate(firing)) > 3


def test_what_is_copied_of_an_example_is_its_text(browser, address):
    browser.open(f"{address}#feature/7")
    browser.click(".widths [value=whole]")
    browser.evaluate("getSelection().selectAllChildren(document.querySelector('.example .text'))")
    assert browser.evaluate("getSelection().toString()").startswith("<|bos|> return +returned1231233 a\n\tβשלw")
    drawn = "getComputedStyle(document.querySelector('.example .text .{}'), '::before').content"
    assert [browser.evaluate(drawn.format(kind)) for kind in ("line-end", "tab")] == ['"↵"', '"⇥"']
    assert not browser.text(".example .text .space"), "spaces are marked in tokens that fire"
    browser.click(".widths [value=line]")
    assert browser.evaluate("document.querySelector('.example .text').getBoundingClientRect().height") < 40, (
        "on one line"
    )
    browser.evaluate("navigator.clipboard.writeText = async (text) => { window.written = text; }")
    browser.click(".tools .copies button")
    browser.wait("window.written")
    assert browser.evaluate("window.written").startswith("1.98\t<|bos|> return +returned1231233 a«↵»\tβשלw")
    browser.evaluate("window.written = ''")
    browser.click(".tools .copies button + button")
    first, *_ = json.loads(browser.wait("window.written"))
    assert first["latent"] == 7 and first["token"] == "\n" and first["tokens"][first["position"]] == "\n"


def test_a_passage_has_the_lines_of_its_text_and_is_shown_first_where_line_ends_fire(browser, address):
    pressed = "document.querySelector('.widths [aria-pressed=true]').value"
    browser.open(f"{address}#feature/1")
    assert browser.evaluate(pressed) == "line"
    browser.open(f"{address}#feature/7")
    assert browser.evaluate(pressed) == "passage"
    firing = "document.querySelector('.example .firing')"
    after = f"Array.from({firing}.parentElement.querySelectorAll('.token')).at(-1).getBoundingClientRect().top"
    assert browser.evaluate(f"{firing}.textContent === '\\n' && {after} > {firing}.getBoundingClientRect().bottom")
    browser.click(".widths [value=line]")
    browser.press("j")
    browser.wait("document.getElementById('feature').dataset.latent !== '7'")
    assert browser.evaluate(pressed) == "line", "what was chosen holds for all"


def test_colours_follow_the_system_until_a_scheme_is_chosen_which_is_kept(browser, address):
    theme = "document.documentElement.dataset.theme"
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.size(1400, 900, dark=True)
    browser.open(f"{address}#features")
    dark = browser.evaluate(paper)
    assert browser.evaluate(theme) == "dark" and browser.evaluate("preferences.get('theme')") is None
    browser.click("#theme")
    assert browser.evaluate(theme) == "light" and browser.evaluate(paper) != dark
    browser.open(f"{address}#features")
    assert browser.evaluate(theme) == "light", "kept"
    browser.size(1400, 900)
    browser.click("#theme")
    assert browser.evaluate(theme) == "dark" and browser.evaluate(paper) == dark
    browser.click("#theme")
    assert browser.evaluate(theme) == "light" and browser.evaluate("preferences.get('theme')") == "system"


def test_compact_rows_are_of_one_line(browser, address):
    browser.open(f"{address}#features")
    height = "document.querySelector('tr[data-latent]').getBoundingClientRect().height"
    tall = browser.evaluate(height)
    browser.click(".turn.compact")
    assert browser.evaluate(height) < 0.6 * tall
    browser.click(".turn.compact")
    assert browser.evaluate(height) == tall


def test_an_example_is_marked_with_the_only_sense_that_fires_on_its_token(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    senses = browser.evaluate(f"loadFeature({SPLIT}).then(({{ senses }}) => senses.map(({{ tokens }}) => tokens))")
    token = "report.text.of(Math.floor(e.dataset.row / 16))[e.dataset.row % 16]"
    fired = f"Array.from(document.querySelectorAll('#panel-{{}} .example'), (e) => {token})"
    for k in (0, 1):
        block = f"#panel-0 [data-sense='{k}']"
        assert browser.text(f"{block} h3 .sense") == ["AB"[k]], "a block of its own"
        at = f'Array.from(document.querySelectorAll("{block} .example"), (e) => {token})'
        assert set(browser.evaluate(at)) <= set(senses[k])
    browser.click("#tab-1")
    marks = browser.text("#panel-1 .of-sense")
    assert marks and set(marks) <= {"A", "B", ""}
    named = [
        next(("AB"[k] for k, tokens in enumerate(senses) if one in tokens), "")
        for one in browser.evaluate(fired.format(1))
    ]
    assert marks == named


def test_the_tab_of_a_sense_shows_the_tokens_around_its_own_firings(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    senses, tokens = browser.evaluate(f"loadFeature({SPLIT}).then((one) => [one.sense_tokens, one.tokens])")
    numbers = "Array.from(document.querySelectorAll('.around .muted'), (e) => Number(e.textContent))"
    assert browser.evaluate(numbers) == [n for *_, n in tokens]
    browser.click("#tab-2")
    assert browser.evaluate(numbers) == [n for *_, n in senses[0]] != [n for *_, n in tokens]
    browser.click("#tab-0")
    assert browser.evaluate(numbers) == [n for *_, n in tokens]


def test_a_line_runs_as_the_letters_at_its_firing_do(browser, address):
    browser.open(f"{address}#feature/3")
    drawn = """(texts, firing) => {
        const pieces = texts.map((text) => ({ text }));
        return report.examples.line(pieces, texts.map((text) => h("span", null, text)), firing).dir;
    }"""
    for texts, firing, said in (
        (["many English words ", "\u05d0", "\u05d1", " and more of them"], 2, "rtl"),
        (["\u05d0\u05d1\u05d2\u05d3", " a", "\u05d0\u05d1"], 1, "ltr"),
        (["English ", "\u05d0\u05d1", ", ", "x"], 2, "rtl"),
        (["\u27e8d7\u27e9", "\u05d0"], 0, "rtl"),
        (["1", "2"], 0, "ltr"),
    ):
        assert browser.evaluate(f"({drawn})({json.dumps(texts)}, {firing})") == said, texts


def test_senses_are_tabs_beside_the_strongest_firings_and_a_weak_rule_says_so(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    rows = "Array.from(document.querySelectorAll('.example'), (e) => e.checkVisibility() && e.dataset.row)"
    visible = f"{rows}.filter(Boolean)"
    assert browser.text("[role=tab]") == ["Strongest", "Each strength", 'A " I" 70 %', "B  30 %"]
    browser.click("#panel-0 .alike")
    strongest = browser.evaluate(visible)
    assert len(strongest) > 3 and int(strongest[0]) == (N_SEQ - 1) * N_CTX + SPLIT
    assert browser.text(".title .of-lead") == ["A a rule that holds 70 %", "B no rule 30 %"]
    browser.click("#tab-2")
    assert browser.evaluate(visible)[:2] == ["10", "26"]
    assert browser.evaluate("document.querySelector('#panel-2 .rule').textContent") == "a rule that holds"
    browser.press("ArrowRight")
    assert browser.evaluate("[location.hash, document.activeElement.id]") == [f"#feature/{SPLIT}", "tab-3"]
    assert browser.text("#panel-3 .rule .weak") == ["No reliable rule was found; the nearest is a rule that does not"]
    weight = "getComputedStyle(document.querySelector('#panel-{} .rule > *')).fontWeight"
    assert browser.evaluate(weight.format(3)) < browser.evaluate(weight.format(2))


def test_the_page_opens_on_an_overview_with_numbers_features_and_words(browser, address):
    browser.open(address)
    assert browser.evaluate("document.body.dataset.view") == "overview"
    assert browser.text("#overview .intro")[0] == (
        f"Scanned on {N_SEQ * N_CTX} tokens: {D_SAE} features are in use, 0 are dead or faint."
    )
    assert browser.text(".share h2") == [f"80 % of {D_SAE} have one meaning"]
    assert f"of the {D_SAE} features in use" in browser.evaluate(
        "document.querySelector('.share .term[data-tip*=use]').dataset.tip"
    )
    assert "No null was run" in browser.text(".share p")[0]
    assert browser.text(".verdicts li")[:2] == ["monosemantic 19 63 %", "polysemantic 6 20 %, 5 unsure"]
    browser.wait("document.querySelectorAll('#overview .card .firing').length >= 5")  # their examples are read by then
    cards, shown = browser.text("#overview .card h3 a"), browser.evaluate("report.data.page.worth_showing")
    assert len(set(cards)) == 6 and shown and cards[: len(shown)] == [f"Feature {latent}" for latent, _ in shown]
    assert browser.text(".card .why") == [why for _, why in shown]
    assert all(
        browser.evaluate("Array.from(document.querySelectorAll('.card'), (c) => c.querySelector('.firing') !== null)")
    )
    browser.click(".card h3 a")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{shown[0][0]}'")
    browser.press("Escape")
    browser.wait("document.body.dataset.view === 'overview'")


def test_table_rows_have_evidence_and_several_verdicts_can_be_chosen(browser, address):
    browser.open(f"{address}#features")
    browser.wait("document.querySelector('.snippet .firing') !== null")
    first = latents(browser)[0]
    assert first == BEST and browser.text(f"tr[data-latent='{first}'] .snippet .firing") == [VOCAB[first]]
    bars = browser.evaluate("document.querySelector('td.activations path').getAttribute('d')")
    assert bars.count("M") > 1
    browser.click(".chip[data-verdict=single-token]")
    browser.click(".chip[data-verdict=polysemantic]")
    assert set(latents(browser)) == {SPLIT, *range(20, D_SAE)} and question(browser).endswith(
        "verdict=single-token,polysemantic"
    )
    browser.open(f"{address}{question(browser)}")
    assert set(latents(browser)) == {SPLIT, *range(20, D_SAE)}
    browser.click(".chip[data-verdict=polysemantic]")
    assert set(latents(browser)) == set(range(20, 25))


def question(browser) -> str:
    return browser.evaluate("location.hash")


def test_the_address_holds_the_search_the_filters_and_the_order(browser, address):
    browser.open(f"{address}#features")
    assert question(browser) == "#features"
    browser.click(".chip[data-verdict=single-token]")
    browser.click("th[data-key=density] button")
    browser.click("th[data-key=density] button")
    found(browser, "w")
    shown, asked = latents(browser), question(browser)
    assert asked == "#features?q=w&verdict=single-token&sort=density&reversed=1" and len(shown) > 1
    browser.press("Enter")
    browser.open(f"{address}{asked}")
    assert latents(browser) == shown and browser.evaluate("document.getElementById('search').value") == "w"
    assert browser.evaluate("document.querySelector('.chip[data-verdict=single-token]').ariaPressed") == "true"
    assert browser.evaluate("document.querySelector('th[data-key=density]').ariaSort") == "ascending"
    browser.open(f"{address}{asked.replace('#features', f'#feature/{shown[0]}')}")
    assert f"1 of {len(shown)} in this order" in browser.text(".path")[0]
    browser.press("j")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{shown[1]}'")
    browser.wait(f"location.hash === '{asked.replace('#features', f'#feature/{shown[1]}')}'")
    browser.press("Escape")
    browser.wait(f"location.hash === '{asked}'")
    assert latents(browser) == shown


def test_what_is_beside_a_feature_is_read_before_it_is_asked_for(browser, address):
    browser.open(f"{address}#features")
    order = browser.evaluate("Array.from({ length: 30 }, (_, j) => report.table.neighbour(j, 1) ?? -1)")
    latent = next(j for j, after in enumerate(order) if after >= 0 and after // 8 != j // 8)
    browser.open(f"{address}#feature/{latent}")
    browser.wait(f"Boolean(document.querySelector('script[src$=\"features-{order[latent] // 8:04d}.js\"]'))")
    assert not browser.complaints


def test_an_address_that_asks_for_what_is_not_here_shows_all(browser, address):
    browser.open(
        f"{address}#features?verdict=none&label=%3Cb%3E&density=1&explanation_f1=0.5,0.2&part=1,2,x&sort=constructor&q="
    )
    assert len(latents(browser)) == D_SAE and question(browser) == "#features"
    browser.open(f"{address}#nowhere")
    assert browser.evaluate("document.body.dataset.view") == "overview"


def bars(browser, name: str) -> list[float]:
    """Heights of the bars of a range's histogram."""
    bins = f"document.querySelectorAll('[data-range={name}] .bin')"
    return browser.evaluate(f"Array.from({bins}, (e) => Number(e.getAttribute('height')))")


def test_a_range_is_chosen_by_keys_or_by_dragging_and_is_in_the_address(browser, address):
    browser.open(f"{address}#features")
    browser.click(".turn.ranged")
    f1, n = "report.data.page.columns.explanation_f1", len(latents(browser))
    browser.evaluate("document.querySelector('[data-range=explanation_f1] .handle').focus()")
    for _ in range(6):
        browser.press("ArrowRight")
    assert question(browser) == "#features?explanation_f1=0.3," and len(latents(browser)) == n - 1
    assert browser.text(".applied") == ["Rule F1 ≥ 0.3 ✕"]
    assert sum(height > 0 for height in bars(browser, "explanation_f1")) == 3, "its own range does not narrow it"
    browser.click(".chip[data-verdict=single-token]")
    assert sum(height > 0 for height in bars(browser, "explanation_f1")) == 1, "another filter does"
    browser.open(f"{address}{question(browser)}")
    assert set(latents(browser)) == {*range(20, 25)}
    browser.click(".applied .chip")
    browser.click(".chip[data-verdict=single-token]")
    assert question(browser) == "#features" and len(latents(browser)) == n and browser.text(".applied") == [""]
    browser.drag("[data-range=explanation_f1] svg", 0.45, 0.6)
    assert set(latents(browser)) == set(browser.evaluate(f"{f1}.flatMap((x, i) => (x < 0.55 && x > 0.4 ? [i] : []))"))
    assert question(browser) == "#features?explanation_f1=0.45,0.6"
    browser.press("Escape")
    browser.evaluate("document.querySelector('[data-range=explanation_f1] .handle').focus()")
    browser.press("Escape")
    assert question(browser) == "#features" and len(latents(browser)) == n and not browser.complaints


def test_a_range_of_the_activations_chooses_among_the_stored_examples(browser, address):
    browser.open(f"{address}#feature/3")
    shown = "Array.from(document.querySelectorAll('.example'), (e) => e.checkVisibility() && e.dataset.row)"
    first = browser.evaluate(f"{shown}.filter(Boolean)")
    browser.evaluate("document.querySelector('[role=group] > .brushed').scrollIntoView({block: 'center'})")
    browser.drag("[role=group] > .brushed", 0.6, 0.98)
    [said] = browser.text(".chosen[role=status]")
    kept = browser.evaluate(f"{shown}.filter(Boolean).map(Number)")
    stored = int(re.search(r"of the (\d+) examples", said)[1])
    assert f" {len(kept)} of the " in said and 0 < len(kept) < stored
    assert kept == [seq * N_CTX + 3 for seq in reversed(range(N_SEQ - len(kept), N_SEQ))], "strongest first"
    browser.click(".chosen button")
    assert browser.evaluate(f"{shown}.filter(Boolean)") == first and question(browser) == "#feature/3"


def test_logit_effects_are_spread_over_the_vocabulary_with_the_outermost_tokens_named(browser, address):
    browser.open(f"{address}#feature/3")
    spread = "document.querySelector('svg[aria-label*=vocabulary]')"
    counts = f"Array.from({spread}.querySelectorAll('title'), (e) => parseInt(e.textContent.split(': ')[1]))"
    assert sum(browser.evaluate(counts)) == len(VOCAB)
    outermost = browser.text(".logits.positive tbody th")[0].strip()
    marks = browser.evaluate(f"Array.from({spread}.querySelectorAll('.mark'), (e) => e.textContent)")
    assert len(marks) == 6 and marks[-1].strip("·") == {"\n": "↵", "\t": "⇥"}.get(outermost, outermost)


MAP = ".plot.map canvas"


def test_a_point_of_the_map_names_itself_and_opens_its_feature_by_key_or_click(browser, address):
    browser.open(f"{address}#map")
    browser.evaluate("document.querySelector('.plot.map').focus()")
    for key in ("+", "ArrowRight"):
        browser.press(key)
    [said] = browser.text(".hovercard b")
    latent = said.removeprefix("Feature ")
    assert browser.evaluate(f"report.selection.columns.explanation[{latent}]") in browser.text(".hovercard")[0]
    place = "(({x, y}) => [x, y])(document.querySelector('.ring').getBoundingClientRect())"
    x, y = browser.evaluate(place)
    browser.press("Enter")
    browser.wait("document.activeElement.closest('.mapped .card') !== null")
    assert browser.text(".mapped .card h3 a") == [said] and len(browser.text(".mapped .card .example")) == 4
    browser.evaluate("document.querySelector('.mapped .card').remove()")
    browser.click_at(x, y)
    browser.wait("document.querySelector('.mapped .card') !== null")
    assert browser.text(".mapped .card h3 a") == [said] and browser.evaluate("location.hash") == "#map"
    browser.click(".listed li:nth-child(2) button")
    second = browser.text(".listed li:nth-child(2) button")[0].split()[0]
    browser.wait(f"document.querySelector('.mapped .card h3 a').textContent === 'Feature {second}'")
    assert browser.evaluate("document.querySelector('.ring').hidden") is False
    browser.press("Enter")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{second}'")


def test_an_address_rings_a_feature_on_the_map_and_shows_it_beside(browser, address):
    browser.open(f"{address}#map/3")
    assert browser.text(".mapped .card h3 a") == ["Feature 3"]
    assert browser.evaluate("document.querySelector('.ring').hidden") is False and question(browser) == "#map/3"


def test_contours_are_closed_lines_around_what_is_not_small(browser, address):
    """Two crowds and one lonely point, about which no line is drawn."""
    browser.open(f"{address}#map")
    drawn = """(() => {
        const side = Array.from({ length: 30 }, (_, k) => k / 30);
        const crowd = (left, bottom) => side.flatMap((x) => side.map((y) => [left + x, bottom + y]));
        const points = [...crowd(0, 0), ...crowd(3, 1), [1.9, 3.9], [4, 4]];
        return report.contours(points.map(([x]) => x), points.map(([, y]) => y), [0.02, 0.5]);
    })()"""
    wide, dense = browser.evaluate(drawn)
    lines = [[tuple(map(float, point.split())) for point in line.strip("MZ").split("L")]
             for line in dense.split("Z") if line]  # fmt: skip
    assert len(lines) == 2 and dense.count("Z") == 2
    for line, (cx, cy) in zip(sorted(lines), ((0.5, 0.5), (3.5, 1.5)), strict=True):
        xs, ys = zip(*line, strict=True)
        assert min(xs) < cx < max(xs) and min(ys) < cy < max(ys) and max(xs) - min(xs) < 1.6
    assert wide.count("Z") == 2, "none about a point alone"


def test_a_search_on_the_map_fills_the_list_and_the_address(browser, address):
    browser.open(f"{address}#map?q=return")
    assert browser.evaluate("document.querySelector('.maphead input').value") == "return"
    listed = browser.text(".listed .number")
    assert listed[:2] == ["1", "2"] and "null" not in browser.text(".list")[0]
    search = "Object.assign(document.querySelector('.maphead input'), {value: '#3'})"
    browser.evaluate(f"{search}.dispatchEvent(new Event('input'))")
    assert browser.text(".listed .number") == ["3"] and question(browser) == "#map?q=%233"
    browser.open(f"{address}#map")
    assert browser.text(".list h3") == [f"All {D_SAE} features"]
    for _ in range(4):
        browser.click(".zooms button[title='zoom in']")
    browser.wait("document.querySelector('.list h3').textContent.endsWith(' in view')")
    inside = len(browser.text(".listed li"))
    assert 0 < inside < D_SAE and browser.text(".list h3") == [f"{inside} in view"]


def test_a_lasso_selects_for_the_table_and_is_taken_off_again(browser, address):
    browser.open(f"{address}#map")
    browser.click(".maphead button[aria-pressed]")
    browser.drag(MAP, (0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98))
    browser.wait("location.hash.includes('part=')")
    asked = question(browser)
    corners = json.loads(f"[{asked.split('part=')[1]}]")
    points = browser.evaluate("loadData('map')")
    within = {latent for latent, x in zip(points["latents"], points["x"], strict=True) if x < corners[2]}
    assert 0 < len(within) < len(points["latents"]) and browser.text("#map .applied") == ["A part of the map ✕"]
    assert browser.text(".mapped .list h3") == [f"{len(within)} selected"] and len(browser.text(".listed li")) == len(
        within
    )
    assert sum(int(text.split()[-1]) for text in browser.text("#map .legend li")) == len(within), "so says the legend"
    browser.click(".maphead output a")
    browser.wait(f"document.querySelectorAll('tr[data-latent]').length === {len(within)}")
    assert set(latents(browser)) == within and question(browser) == asked.replace("#map", "#features")
    browser.open(f"{address}{question(browser)}")
    browser.wait(f"document.querySelectorAll('tr[data-latent]').length === {len(within)}")
    assert set(latents(browser)) == within
    browser.click("#features .applied button")
    browser.wait(f"document.querySelectorAll('tr[data-latent]').length > {len(within)}")
    assert question(browser) == "#features" and not browser.complaints


def test_the_map_is_coloured_by_what_is_asked_with_a_legend(browser, address):
    browser.open(f"{address}#map")
    assert "python 1" in browser.text(".legend")[0], "by the kind of text, where that is known"
    assert (
        len(browser.evaluate("Array.from(document.querySelectorAll('.contours path'), (e) => e.getAttribute('d'))"))
        == 2
    )
    field = "document.querySelector('.maphead select')"
    for way, said in (("density", "density"), ("verdict", "single-token 5"), ("monosemanticity", "0.01.0")):
        browser.evaluate(f"{field}.value = '{way}'; {field}.dispatchEvent(new Event('change'))")
        assert said in browser.text(".legend")[0]
    assert not browser.complaints


def test_the_whole_map_is_fitted_again_as_the_window_changes_and_comes_below_its_controls_on_a_phone(browser, address):
    whole = """loadData("map").then(({ x, y }) => {
        const lies = document.querySelector(".plot.map g").getAttribute("transform") ?? "";
        const [left, top, scale] = (lies.match(/[-\\d.]+/g) ?? []).map(Number);
        const { clientWidth: width, clientHeight: height } = document.querySelector(".plot.map");
        const isInside = (px, py) => px >= 0 && px <= width && py >= 0 && py <= height;
        return x.every((_, k) => isInside(left + scale * x[k], top - scale * y[k]));
    })"""
    browser.size(1400, 900)
    browser.open(f"{address}#map")
    browser.wait(whole)
    browser.size(390, 844)
    browser.wait(f"document.querySelector('.plot.map').clientWidth < 390 && {whole}")
    browser.open(f"{address}#map")
    top = "document.querySelector('{}').getBoundingClientRect().top"
    tops = [browser.evaluate(top.format(part)) for part in (".maphead", ".plot.map", "#map .legend", "#map aside")]
    assert tops == sorted(tops) and not browser.evaluate("document.querySelector('.mapped details').open")


def test_points_are_discs_in_their_colours_the_later_over_the_earlier(browser, address):
    browser.open(f"{address}#map")
    drawn = """(() => {
        const canvas = h("canvas", { width: 40, height: 20 });
        const points = report.points(canvas, Float32Array.of(-1, 0, 1, 0.5, 5, 5));
        points.paint(Uint8Array.of(255, 0, 0, 255, 0, 0, 255, 51, 1, 1, 1, 255), [255, 255, 255]);
        points.draw({ x: 0, y: 0, scale: 10, diameter: 6 }, 0, 2);
        points.draw({ x: 0, y: 0, scale: 10, diameter: 6 }, 2, 3);
        const at = ([x, y]) => Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data);
        return [[10, 10], [30, 5], [20, 10], [10, 16]].map(at);
    })()"""
    assert browser.evaluate(drawn) == [
        [255, 0, 0, 255], [204, 204, 255, 255], [255, 255, 255, 255], [255, 255, 255, 255],
    ]  # fmt: skip


HOSTILE = "<img src=x onerror=alert(1)>"


def note(browser, name: str, text: str) -> None:
    field = f"document.querySelector('#feature .notes {name}')"
    browser.evaluate(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input'))")


def test_stars_labels_and_notes_persist_are_searchable_and_round_trip_as_json(browser, address, tmp_path):
    browser.open(f"{address}#feature/3")
    browser.click("#feature .star")
    note(browser, "input", HOSTILE)
    browser.open(f"{address}#feature/5")
    browser.press("s")
    note(browser, "textarea", "why?\nbecause")
    browser.press("s")
    browser.open(f"{address}#features")
    browser.click(".chip[data-starred]")
    assert latents(browser) == [3] and question(browser) == "#features?starred=1"
    assert browser.text("tr[data-latent='3'] .tag.mine")[0].strip() == HOSTILE
    browser.click(".chip[data-starred]")
    assert 3 in found(browser, "onerror") and found(browser, "label:onerror") == [3]
    assert browser.text("tr[data-latent='3'] .tag.mine mark") == ["onerror"]
    browser.open(address)
    assert browser.text(".mine li") == [f"★ Feature 3 {HOSTILE}", 'Feature 5 "1233" why?\nbecause']
    assert browser.evaluate("document.querySelector('.mine img')") is None
    (tmp_path / "notes.json").write_text(browser.evaluate("report.notes.exported()"))
    table = read_notes(tmp_path / "notes.json")
    assert table.to_dict("records") == [
        {"latent": 3, "star": True, "label": HOSTILE, "note": ""},
        {"latent": 5, "star": False, "label": "", "note": "why?\nbecause"},
    ]
    browser.evaluate("localStorage.clear()")
    browser.open(address)
    assert not browser.text(".mine li")
    files = browser.send("Runtime.evaluate", expression="document.querySelector('.kept input')")["result"]["objectId"]
    browser.send("DOM.setFileInputFiles", files=[str(tmp_path / "notes.json")], objectId=files)
    browser.wait("document.querySelectorAll('.mine li').length === 2")
    browser.open(f"{address}#feature/3")
    assert browser.evaluate("document.querySelector('#feature .star').ariaPressed") == "true"
    browser.evaluate("localStorage.clear()")


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "JSON"),
        ("{}", "not an export of this page"),
        ('{"format": "interp-notes", "features": "x", "notes": {}}', "belongs to other features"),
        ('{"format": "interp-notes", "features": KEY, "notes": {"999": {"star": true}}}', "feature 999"),
        ('{"format": "interp-notes", "features": KEY, "notes": {"1": {"star": "yes"}}}', "feature 1 is not valid"),
    ],
)
def test_what_is_no_export_of_these_features_is_not_imported(browser, address, text, said):
    browser.open(address)
    text = text.replace("KEY", browser.evaluate("JSON.stringify(report.data.page.key)"))
    browser.evaluate(f"report.notes.add({json.dumps(text)})")
    assert said in browser.text("#trouble")[0] and not browser.text(".mine li")


@pytest.mark.parametrize("text", ["{}", '{"format": "interp-notes", "notes": {"1": {"star": 1}}}'])
def test_a_file_that_holds_no_notes_is_refused_by_name(text, tmp_path):
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(ValueError, match="notes.json"):
        read_notes(tmp_path / "notes.json")


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


def test_a_chart_follows_a_window_that_becomes_narrow_while_it_is_out_of_sight(browser, address):
    browser.open(f"{address}#summary")
    browser.wait("document.getElementById('summary').dataset.ready")
    browser.evaluate("location.hash = '#overview'")
    browser.wait("document.body.dataset.view === 'overview'")
    browser.size(390, 900)
    browser.evaluate("new Promise((done) => setTimeout(done, 500))")  # plotly answers a new width after a while
    browser.evaluate("location.hash = '#summary'")
    ends = "Array.from(document.querySelectorAll('#summary .main-svg'), (e) => e.getBoundingClientRect().right)"
    browser.wait(f"{ends}.every((end) => 0 < end && end <= 390)")


def test_what_is_folded_in_the_summary_is_drawn_when_it_is_opened(browser, address):
    browser.open(f"{address}#summary")
    browser.wait("document.getElementById('summary').dataset.ready")
    drawn = "document.querySelectorAll('#summary details .main-svg').length"
    assert browser.evaluate(drawn) == 0 and browser.text("#summary .panels .main-svg")
    browser.evaluate("document.querySelector('#summary details:has(.plot)').open = true")
    browser.wait(f"{drawn} > 0")
    assert not browser.complaints


VIEWS = ["#overview", "#features", f"#feature/{SPLIT}", "#compare/3/4", "#map", "#summary"]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width, dark", [(1400, False), (390, True)])
def test_what_is_pressed_has_a_name_and_what_is_read_stands_out(browser, address, view, width, dark):
    browser.size(width, 900, dark=dark)
    browser.open(f"{address}{view}")
    assert browser.unnamed() == [] and browser.faint() == []


def test_what_has_no_name_is_found(browser, address):
    browser.open(address)
    faults = (
        "<h5>skips</h5><button></button><input><a href='#x'> </a><img><th>",
        "<i tabindex=2 id=main>",
        "<i id=main>",
    )
    browser.evaluate(f"document.getElementById('overview').innerHTML = {json.dumps(''.join(faults))}")
    found = [said.split(":")[0] for said in browser.unnamed()]
    assert found == ["no name", "no name", "no label", "no label", "twice", "out of order", "a heading below h1"]


def test_a_feature_is_printed_on_two_pages(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    printed = base64.b64decode(browser.send("Page.printToPDF", printBackground=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 2
