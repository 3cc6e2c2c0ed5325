"""What all views of the page have in common, the overview and the summary, tried in Chromium."""

import base64
import json
import re
import shutil
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import pytest

from interp import figures
from tests.report.planted_page import (
    D_SAE,
    N_CTX,
    N_SEQ,
    SPLIT,
    question,
)


def modebar(browser) -> str:
    browser.wait("document.querySelectorAll('.modebar-btn').length")
    return " ".join(browser.evaluate("Array.from(document.querySelectorAll('.modebar-btn'), (e) => e.dataset.title)"))


VIEWS = ["overview", "features", f"feature/{SPLIT}", "compare/3/4", "map", "summary", "notes"]


def test_a_saved_figure_offers_no_upload_whoever_draws_it(browser, tmp_path: Path):
    figure = figures.density_histogram(pd.DataFrame({"density": [0.1, 0.01]}))
    (tmp_path / "figure.html").write_text(figure.to_html(), encoding="utf-8")
    browser.send("Page.navigate", url=(tmp_path / "figure.html").as_uri())
    assert "Download plot" in modebar(browser) and "Share" not in modebar(browser)


@pytest.mark.parametrize("view", ["overview", "features", "summary"])
def test_an_address_opens_its_view_at_the_top(browser, address, view):
    browser.size(390, 300)
    browser.open(f"{address}#{view}")
    assert browser.evaluate("scrollY") == 0


def test_the_address_of_the_table_or_of_the_notes_opens_them(browser, address):
    browser.size(390, 300)
    browser.open(f"{address}#table?q=w1")
    assert browser.evaluate("document.body.dataset.view") == "features" and question(browser) == "#table?q=w1"
    browser.open(f"{address}#notes")
    assert browser.evaluate("document.body.dataset.view") == "notes" and browser.text("#notes h2") == ["Your notes"]
    assert browser.text("nav a[aria-current]") == ["Notes"]


def test_a_term_says_what_it_means_to_a_pointer_a_key_and_a_finger_until_escape(browser, address):
    browser.open(f"{address}#feature/3")
    said = "(({hidden, textContent}) => hidden ? '' : textContent)(document.getElementById('tip'))"
    term = "document.querySelector('#feature .name .term')"
    meaning = browser.evaluate(f"report.MEANINGS[{term}.textContent]")
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
    placed = f"({term}.blur(), {term}.focus(), {box}.top >= {term}.getBoundingClientRect().bottom)"
    assert browser.evaluate(placed), "the fields above are not covered"
    browser.press("Escape")
    assert browser.evaluate(said) == "" and question(browser) == "#feature/3", "Escape closes the tip alone"
    browser.click("#feature .name .term")
    assert browser.evaluate(said) == meaning


def test_terms_have_one_meaning_each_that_the_glossary_has_too(browser, address):
    browser.open(f"{address}#overview")
    glossary = (Path(__file__).parents[2] / "analyses" / "GLOSSARY.md").read_text().lower()
    verdicts = browser.evaluate("Object.values(report.page.verdicts).map(({ word }) => word)")
    names = set(browser.evaluate("Object.keys(report.MEANINGS)"))
    assert names > set(verdicts) and [name for name in names - {*verdicts} if name.lower() not in glossary] == []


def test_colours_follow_the_system_until_a_scheme_is_chosen_which_is_kept(browser, address):
    theme = "document.documentElement.dataset.theme"
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.size(1400, 900, dark=True)
    browser.open(f"{address}#features")
    dark = browser.evaluate(paper)
    assert browser.evaluate(theme) == "dark" and browser.evaluate("report.preference('theme')") is None
    browser.click("#theme")
    assert browser.evaluate(theme) == "light" and browser.evaluate(paper) != dark
    browser.open(f"{address}#features")
    assert browser.evaluate(theme) == "light", "kept"
    browser.size(1400, 900)
    browser.click("#theme")
    assert browser.evaluate(theme) == "dark" and browser.evaluate(paper) == dark
    browser.click("#theme")
    assert browser.evaluate(theme) == "light" and browser.evaluate("report.preference('theme')") == "system"


def test_the_page_opens_on_an_overview_with_numbers_features_and_words(browser, address):
    browser.open(address)
    assert browser.evaluate("document.body.dataset.view") == "overview"
    assert browser.text("#overview .intro")[0] == (
        f"Scanned on {N_SEQ * N_CTX} tokens: {D_SAE} features are in use, 0 are dead or faint."
    )
    assert browser.text(".share h2") == ["One meaning"]
    assert browser.text(".share p")[0] == f"80 % of {D_SAE} in use"
    assert f"of the {D_SAE} features in use" in browser.evaluate("document.querySelector('.share p .term').dataset.tip")
    assert "No null was run" in browser.text(".share p")[1]
    assert browser.text(".verdicts li a")[:2] == ["monosemantic 19", "polysemantic 6"]
    tips = "Array.from(document.querySelectorAll('.verdicts a'), (a) => a.dataset.tip)"
    assert browser.evaluate(tips)[:2] == ["63 % of all", "20 % of all, 5 of them unsure"]
    browser.wait("document.querySelectorAll('#overview .card .firing').length >= 5")  # their examples are read by then
    cards, [shown, *_] = browser.text("#overview .card h3 a"), browser.evaluate("report.page.worth_showing")
    assert len(set(cards)) == 6 and shown and cards[: len(shown)] == [f"Feature {latent}" for latent, *_ in shown]
    next_ones = ["Next in the table's order"] * (6 - len(shown))
    assert browser.text(".card .why") == [*(why for _, why, _ in shown), *next_ones], "no card lacks its title"
    assert not browser.text(".card h3 > .verdict"), "no gap parts a verdict from how sure it is"
    choices = browser.evaluate("Array.from(document.querySelectorAll('.why .term'), (why) => why.dataset.tip)")
    assert choices[: len(shown)] == [choice for *_, choice in shown]
    assert all(
        browser.evaluate("Array.from(document.querySelectorAll('.card'), (c) => c.querySelector('.firing') !== null)")
    )
    browser.click(".card h3 a")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{shown[0][0]}'")
    browser.press("Escape")
    browser.wait("document.body.dataset.view === 'overview'")
    assert browser.text(".worth .more") == ["6 other features"]
    browser.click(".worth .more")
    browser.wait(f"document.querySelector('.card h3 a').textContent !== '{cards[0]}'")
    assert set(browser.text("#overview .card h3 a")).isdisjoint(cards)


def test_the_share_of_the_dictionary_stands_beside_what_can_be_compared_at_equal_training(browser, address, tmp_path):
    page = Path(shutil.copytree(Path(urlparse(address).path).parent, tmp_path / "page"))
    row = {"means": "…", "judged": 90, "faint": 0, "dead": 0}
    matched = {**row, "title": "after 1M tokens", "kind": "matched", "one": [0.72, 0.67, 0.76]}
    null = {**row, "title": "frozen decoder", "kind": "null", "one": [0.71, 0.65, 0.76]}
    compared = {"matched": matched, "null": null, "difference": [0.01, -0.06, 0.08]}
    script = page / "data" / "page.js"
    script.write_text(script.read_text().replace('"null":null', f'"null":{json.dumps(compared)}', 1))
    browser.open((page / "index.html").as_uri())
    assert browser.text(".share p") == [
        f"80 % of {D_SAE} in use",
        "72 % at equal training, 71 % in the closest null: not told apart",
    ]
    browser.open(f"{(page / 'index.html').as_uri()}#summary")
    browser.wait("document.getElementById('summary').dataset.ready")
    finding = "Its share is not above. So one meaning is not enough. A third sentence."
    said = browser.evaluate(
        f"report.findingElements({json.dumps(finding)}).map((each) => [each.className, each.textContent])"
    )
    assert said == [["conclusion", "Its share is not above."], ["", "So one meaning is not enough. A third sentence."]]
    own, fair = browser.text(".findings tbody tr")[:2]
    assert fair.startswith("at equal training, after 1M tokens72") and fair.endswith("not told apart")
    assert own.startswith(f"have one meaning24 of {D_SAE}80") and "at equal training" in own


def test_an_address_of_no_part_of_the_page_says_so_until_the_reader_goes_on(browser, address):
    browser.open(f"{address}#figures")
    assert browser.text("#trouble span") == ["This page has no part “figures”: its overview is shown."]
    assert browser.evaluate("location.hash") == "#overview"
    browser.evaluate("location.hash = '#notes'")
    browser.wait("document.body.dataset.view === 'notes'")
    assert browser.evaluate("document.querySelector('#trouble').hidden")


def test_what_is_of_one_kind_in_neighbouring_cards_stands_at_one_height(browser, address):
    browser.open(address)
    browser.wait("document.querySelectorAll('#overview .card .firing').length >= 5")
    tops_of = "(e) => [e.parentElement, e].map((each) => each.getClientRects()[0].top)"
    tops = f"Array.from(document.querySelectorAll('.card %s'), {tops_of})"
    for part in ("> .rule", "> .examples"):
        rows: dict[float, set[float]] = {}
        for card, top in browser.evaluate(tops % part):
            rows.setdefault(card, set()).add(top)
        assert len(rows) > 1 and all(len(own) == 1 for own in rows.values())


def test_on_a_phone_the_cards_stand_side_by_side_with_their_rules(browser, address):
    browser.size(390, 844)
    browser.open(address)
    browser.wait("document.querySelectorAll('#overview .card .firing').length >= 5")
    tops = browser.evaluate("Array.from(document.querySelectorAll('.card'), (e) => e.getBoundingClientRect().top)")
    assert len(tops) == 6 and len(set(tops)) == 1
    assert browser.evaluate("document.querySelector('.card .rule').getBoundingClientRect().height") > 10
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390, "the page itself moves up and down alone"


def test_the_search_of_the_overview_lists_matches_as_one_types_and_opens_one_by_key_or_click(browser, address):
    browser.open(address)
    type_in = "Object.assign(document.querySelector('#overview .search input'), {value: '%s'})"
    press = f"{type_in}.dispatchEvent(new Event('input'))"
    browser.evaluate(f"document.querySelector('#overview .search input').focus(); {press % 'return'}")
    assert browser.text(".hits .number") == ["1", "2", "3"] and browser.text(".hits #hit-more") == []
    browser.evaluate(press % "w")
    best = browser.evaluate("report.bestMatches('w', 99)")
    assert browser.text(".hits .number") == [str(latent) for latent in best["first"][:5]]
    assert browser.text(".hits #hit-more") == [f"Enter: all {best['n']} in the table"]
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    chosen = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    assert browser.evaluate(f"{chosen}.querySelector('.number').textContent") == str(best["first"][1])
    browser.press("Enter")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{best['first'][1]}'")
    browser.open(address)
    browser.evaluate(f"document.querySelector('#overview .search input').focus(); {press % 'w'}")
    browser.press("Enter")
    browser.wait("location.hash === '#features?q=w'")
    browser.open(address)
    browser.evaluate(f"document.querySelector('#overview .search input').focus(); {press % 'nowhere'}")
    assert browser.text(".hits") == ["No feature fits."]
    browser.evaluate(press % "#7")
    browser.click(".hits li")
    browser.wait("document.getElementById('feature').dataset.latent === '7'")


def test_a_click_meets_what_has_moved_before_the_press_and_nothing_else(browser, address, monkeypatch):
    browser.open(address)
    browser.evaluate("""document.body.prepend(...["one", "other"].map((id) =>
        report.h("button", { id, onclick: () => { (window.pressed ??= []).push(id); } }, id)))""")
    press, moved = browser.click_at, []

    def move_first(x: float, y: float) -> None:
        if not moved:
            moved.append(browser.evaluate("document.body.prepend(document.getElementById('other'))"))
        press(x, y)

    monkeypatch.setattr(browser, "click_at", move_first)
    browser.click("#one")
    assert moved and browser.evaluate("pressed") == ["one"]


def test_the_overview_leads_to_what_is_starred_or_noted_once_there_is_any(browser, address):
    browser.open(address)
    assert browser.text(".worth .noted a") == []
    browser.evaluate("report.setNote(3, { star: true }); report.setNote(4, { note: 'why' })")
    assert browser.text(".worth .noted a") == ["1 starred", "1 noted"]
    browser.click(".worth .noted a + a")
    browser.wait("document.body.dataset.view === 'features'")
    assert question(browser) == "#features?noted=1"
    browser.evaluate("localStorage.clear()")


def test_a_data_file_that_could_not_be_read_is_read_again_when_it_is_next_asked_for(browser, address):
    browser.open(address)
    fail = "report.loadData('nothing').then(() => '', (error) => error.message)"
    assert [browser.evaluate(fail) for _ in range(2)] == ["data/nothing.js is missing or cannot be read"] * 2
    n_tried = "document.querySelectorAll('script[src=\"data/nothing.js\"]').length"
    assert browser.evaluate(n_tried) == 2
    assert browser.evaluate("report.loadData('map') === report.loadData('map')"), "one that can be read is read once"


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
    assert browser.evaluate(drawn) == 0 and browser.text("#summary .results .main-svg")
    assert browser.evaluate("document.querySelector('#summary .words').checkVisibility()") is False, "so are the terms"
    name = "feature %{customdata}"
    browser.evaluate(f"""report.loadData("summary").then(({{ details }}) => {{
        details.find(({{ figure }}) => figure).figure.data[0].hovertemplate = "{name}"; }})""")
    browser.evaluate("document.querySelector('#summary details:has(.plot)').open = true")
    browser.wait(f"{drawn} > 0")
    told = f"(trace) => trace.hovertemplate === '{name}'"
    plot = f"Array.from(document.querySelectorAll('#summary .js-plotly-plot')).find((e) => e.data.some({told}))"
    browser.wait(f"Boolean({plot})")
    clicked = "{ points: [{ data: plot.data[0], customdata: 3 }] }"
    browser.evaluate(f"(() => {{ const plot = {plot}; plot.emit('plotly_click', {clicked}); }})()")
    browser.wait("document.getElementById('feature').dataset.latent === '3'")
    assert not browser.complaints


def test_figures_write_per_cent_as_the_page_does_and_a_long_note_is_folded(browser, address):
    browser.open(f"{address}#summary")
    browser.wait("document.getElementById('summary').dataset.ready")
    ticks = browser.text("#summary .plot .xtick text")
    assert any("\u00a0%" in tick for tick in ticks) and not any(re.search(r"\d%", tick) for tick in ticks)
    notes = browser.text("#summary .panel > figcaption")
    folded = browser.text("#summary .panel > figcaption details")
    assert len(folded) < len(notes) and all(len(text) > 200 for text in folded)
    shown = [note for note in notes if not any(note.endswith(text[len("How it is measured") :]) for text in folded)]
    assert all(len(note) < 400 for note in shown)


def test_the_summary_is_printed_on_one_page_and_copied_as_text_and_its_figures_offer_no_upload(browser, address):
    browser.open(f"{address}#summary")
    browser.wait("document.getElementById('summary').dataset.ready")
    assert "Download plot" in modebar(browser) and "Share" not in modebar(browser)
    pages = base64.b64decode(browser.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pages)) == 1
    facts = "document.querySelectorAll('#summary [aria-label=\"What was run\"] .facts %s')"
    sides = f"Array.from({facts}, (e) => e.getBoundingClientRect().left)"
    names, values = (set(browser.evaluate(sides % part)) for part in ("dt", "dd"))
    assert len(names) == len(values) == 1 and min(values) > max(names) + 99
    browser.evaluate("navigator.clipboard.writeText = async (text) => { window.written = text; }")
    browser.click("#summary .copies button")
    about, heads, *lines = browser.wait("window.written").split("\n")
    assert about == browser.evaluate("report.page.about.map(([text]) => text).join('')") and heads.startswith(
        "Features that\tshare\t95"
    )
    assert len(lines) == len(browser.text(".findings tbody tr")) > 0
    assert all(len(line.split("\t")) == 4 for line in lines)
    bar = "report.shareBar('a null', [0.77, 0.72, 0.81], 'null')"
    assert browser.evaluate(f"{bar}.lastChild.textContent") == "72 to 81"


SMALL = """(() => {
    const found = [], texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const e = texts.currentNode.parentElement, picture = e.closest("svg");
        if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.matches(".exact, title")) continue;
        const shrunk = picture ? picture.getBoundingClientRect().width / picture.viewBox.baseVal.width : 1;
        const size = parseFloat(getComputedStyle(e).fontSize) * shrunk;
        if (size > 0 && size < 10.95) found.push([size, texts.currentNode.data]);
    }
    return found;
})()"""
"""Texts of less than 11 pixels, in pictures too."""


@pytest.mark.parametrize("width, dark", [(1400, False), (390, True)])
def test_page_buttons_have_names_and_text_has_contrast_and_11_pixels(browser, address, width, dark):
    browser.size(width, 900, dark=dark)
    browser.open(address)
    for view in VIEWS:
        browser.go(view)
        if view == "overview":
            browser.wait("document.querySelectorAll('.card .firing').length >= 5")
            shades = "['0.1', '0.63', '0.65', '1'].map((share, k) => document.querySelectorAll('.card .token')[k].%s)"
            browser.evaluate(shades % "classList.add('on')")
            browser.evaluate(shades % "style.setProperty('--shade', share)")
        assert browser.unnamed() == [] == browser.faint(), view
        browser.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert view == "summary" or browser.evaluate(SMALL) == [], view


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


def test_the_first_view_waits_for_no_table_and_the_others_say_that_they_do(browser, address, tmp_path):
    folder = Path(urlparse(address).path).parent
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "data" / "table.js").unlink()
    browser.send("Page.navigate", url=f"{(tmp_path / 'page' / 'index.html').as_uri()}#overview")
    browser.wait("document.getElementById('trouble')?.hidden === false")
    assert "data/table.js is missing" in browser.text("#trouble")[0]
    verdicts = browser.text("#overview .verdicts .legend .number")
    assert sum(map(int, verdicts)) == D_SAE and browser.text("#overview .intro")[0].startswith("Scanned on")
    assert browser.evaluate("document.getElementById('loading').hidden")
    browser.evaluate("location.hash = '#features'; 0")
    browser.wait("document.body.dataset.view === 'features'")
    assert not browser.evaluate("document.getElementById('loading').hidden")
    assert browser.evaluate("document.getElementById('features').childElementCount") == 0
