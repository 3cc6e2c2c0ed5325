"""The table of features and its search, filters and order, tried in Chromium."""

import itertools
import json

import numpy as np
import pytest

from interp.report.json_text import format_percent
from tests.report.planted_page import BEST, D_SAE, GREEK, SPACES, SPLIT, VOCAB, found, latents, question


def bars(browser, name: str) -> list[float]:
    """Heights of the bars of a range's histogram."""
    bins = f"document.querySelectorAll('[data-range={name}] .bin')"
    return browser.evaluate(f"Array.from({bins}, (e) => Number(e.getAttribute('height')))")


def test_enter_opens_the_row_under_the_keyboard_cursor(browser, address):
    browser.open(f"{address}#features")
    browser.click(".chip[data-verdict=single-token]")
    second = latents(browser)[1]
    browser.press("j")
    assert browser.evaluate("document.activeElement.closest('tr')?.dataset.latent") == str(second)
    clips = "getComputedStyle(document.activeElement.parentElement).overflow"
    assert browser.evaluate(clips) == "visible", "the ring of the focus is whole"
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


def test_on_a_phone_all_chips_are_in_sight_in_short_words_and_a_sense_names_its_token(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#features?verdict=polysemantic")
    chips = "Array.from(document.querySelectorAll('.chips .chip'))"
    shown = f"{chips}.every((e) => ((box) => 0 <= box.left && box.right <= 390)(e.getBoundingClientRect()))"
    assert browser.evaluate(f"{chips}.length") > 3 and browser.evaluate(shown)
    full = "getComputedStyle(document.querySelector('.chip[data-verdict=polysemantic] .long')).fontSize"
    assert browser.evaluate(full) == "0px", "as its rows say"
    part = """(() => {
        const rule = report.h("div.of-sense", null, report.ruleElement([["⟨d7⟩", [["א–ת…"]]]]));
        document.querySelector("td.explanation").append(rule);
        return getComputedStyle(rule.querySelector(".byte"), "::before").content;
    })()"""
    assert browser.evaluate(part) == '"א–ת…"', "a part of a character by its letters"


def test_the_recommended_order_breaks_ties_and_any_other_is_chosen_by_a_head_or_in_a_list(browser, address):
    browser.open(f"{address}#features")
    field = "document.querySelector('.ordering select')"
    choose = f"{field}.value = '%s'; {field}.dispatchEvent(new Event('change'))"
    assert browser.evaluate(f"{field}.selectedOptions[0].textContent") == "Recommended"
    assert browser.text(".ordering .term") == ["some of each kind first, then the surest by F1"]
    assert "worth a look" in browser.evaluate("document.querySelector('.ordering .term').dataset.tip")
    order = latents(browser)
    f1 = browser.evaluate("report.columns.f1")
    assert f1[order[0]] > f1[BEST] and BEST in order[:4], "those worth a look, the clearest rule first"
    browser.click("th[data-key=monosemanticity] button")
    assert latents(browser) == order, "all are equally monosemantic"
    browser.click("th[data-key=latent] button")
    assert latents(browser)[0] == 0 and browser.evaluate(f"{field}.value") == "latent"
    browser.click(".ordering .turn")
    assert latents(browser)[0] == D_SAE - 1
    browser.evaluate(choose % "max")
    most = "report.columns.max"
    assert browser.evaluate(f"{most}[{latents(browser)[0]}] === Math.max(...{most})")
    assert browser.evaluate("Array.from(document.querySelectorAll('th'), (e) => e.ariaSort)").count("none") == 4
    shown = "Array.from(document.querySelectorAll('.scroller th'), (e) => e.classList[0])"
    names = ["latent", "monosemanticity", "explanation", "f1", "activations", "density"]
    assert browser.evaluate(shown) == names, "nothing was tested for being learnt or for an effect"
    ends = "(({ right }) => right)(document.querySelector('.scroller %s').getBoundingClientRect())"
    assert abs(browser.evaluate(ends % "th:last-child") - browser.evaluate(ends % "tr")) < 30, (
        "nor is there room for it"
    )
    browser.evaluate(choose % "")
    assert latents(browser) == order and browser.evaluate("document.querySelector('.ordering .turn').hidden")
    heads = browser.evaluate("document.querySelectorAll('.scroller th').length")
    assert heads == browser.evaluate("document.querySelectorAll('tr[data-latent]')[0].children.length"), "one head each"


def test_search_ranks_by_the_match_and_shows_it(browser, address):
    browser.open(f"{address}#features")
    assert found(browser, "return")[:2] == [1, 2], "the token itself, then a word of a rule"
    assert found(browser, "return")[2:] == [3], "then parts of tokens, and not of words in which a rule is told"
    assert browser.text("tr[data-latent='2'] mark") == ["return"] and browser.faint() == []
    weaker = "Array.from(document.querySelectorAll('#features .weaker'), (row) => Number(row.dataset.latent))"
    assert browser.evaluate(weaker) == [3] and "1 weaker" in browser.text(".count")[0]
    browser.wait("document.querySelector('tr[data-latent=\"1\"] .found .firing')?.textContent === ' return'")
    assert browser.text("tr[data-latent='1'] .on-token") == ["100 % on  return"]
    assert browser.text("th.explanation small") == ["and its strongest firing on the token found"]
    assert "Best matches first" in browser.text(".ordering option")
    assert found(browser, "tok:return") == [1, 3] and set(found(browser, "rule:return")[:2]) == {1, 2}
    assert found(browser, 'tok:" return"') == [1] and found(browser, '"line end"') == [7]
    ranges = "Array.from(document.querySelectorAll('.range'), (e) => e.hidden)"
    assert not any(browser.evaluate(ranges))
    reading = "Array.from(document.querySelectorAll('.fitting'), (e) => e.textContent !== '')"
    found(browser, "return")
    assert all(browser.evaluate(reading)), "no example is empty while it is read"
    found(browser, "nowhere")
    assert all(browser.evaluate(ranges)), "of nothing there is no histogram"
    assert found(browser, "end line") == [7] and found(browser, "line return +") == [] and found(browser, "+")[0] == 2
    browser.click("th[data-key=latent] button")
    assert found(browser, "return") == [1, 2, 3], "a column's order holds"
    assert found(browser, "rule:a rule:line") == [7]


def test_effects_are_chosen_by_ranges_over_three_decades_on_both_sides_of_zero(browser, address):
    browser.open(f"{address}#overview")
    browser.evaluate("report.columns.effect = report.columns.max.map((_, i) => [0.03, -0.3, 4, null][i % 4])")
    described = "{ name: 'effect', title: 'Effect', unit: 'nats', means: 'lost', style: 'fixed', scale: 'signed' }"
    edges, counted = browser.evaluate(f"""(() => {{
        const {{ edges, bin }} = report.binned({described});
        return [edges, Array.from(bin.slice(0, 4))];
    }})()""")
    assert edges == [-0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
    assert [edges[k] for k in counted[:3]] == [0.02, -0.5, 2]


def test_effects_none_of_which_raises_the_loss_have_a_histogram(browser, address):
    browser.open_once(address)
    shape = "{ title: 'Effect', edges: [-0.2, -0.1, 0], counts: [1, 2], scale: 'signed' }"
    bars = f"report.drawHistogram({shape}).querySelectorAll('.bin')"
    left, right = browser.evaluate(f"Array.from({bars}, (bar) => Number(bar.getAttribute('x')))")
    assert 0 < left < right


def test_a_match_at_the_head_of_a_rule_comes_first_and_of_equals_that_with_the_larger_f1(browser, address):
    browser.open(f"{address}#features")
    f1 = "report.columns.f1"
    browser.evaluate(f"{f1}[2] = 0.9; {f1}[26] = 0.8")
    assert found(browser, "rule:return")[:2] == [1, 2], "where it fires on it, then where it fires after it"
    assert found(browser, "rule:w1")[:2] == [15, 26], "the word, then of its parts the one with the larger F1"
    rank = "report.matchQuality(report.parseQuery('%s'), %d)"
    head, later, together, apart = (
        browser.evaluate(rank % of) for of in [("rule:α", GREEK), ("rule:ε", GREEK), ("a line", 7), ("line a", 7)]
    )
    assert head - later == pytest.approx(0.5) and together > apart + 4


def test_numbers_are_found_whole(browser, address):
    browser.open(f"{address}#features")
    assert found(browser, "123") == [4] and found(browser, "1233") == [5, 9] and found(browser, "#12") == [12]
    assert set(found(browser, "12")) == {12, 9}, "the feature's own number, and a number of a rule"


def test_a_label_with_a_low_f1_is_left_out_and_an_unsure_verdict_is_marked(browser, address):
    browser.open(f"{address}#features")
    columns = "report.columns"
    assert browser.text("optgroup[label='Detects the label'] option") == ["python"]
    f1 = browser.evaluate(f"{columns}.label.map((at, i) => [at === null, {columns}.label_f1[i]])")
    assert {blank for blank, _ in f1} == {True, False} and all(blank == ((of or 0) < 0.3) for blank, of in f1)
    for latent, blank in ((3, False), (16, True)):
        browser.search(f"#{latent}")
        assert browser.text(".tag.label") == ([] if blank else ["python"])
        shown = browser.evaluate(f"[{columns}.f1[{latent}], {columns}.explanation_f1[{latent}]]")
        assert browser.text("td.f1") == [f"{shown[0]:.2f}"] and (shown[0] == shown[1]) == blank
    browser.search("#26")
    assert browser.text("td.monosemanticity > div > :first-child") == ["poly, unsure"]
    browser.search("#3")
    assert browser.text("td.monosemanticity > div > :first-child") == ["mono"]
    assert browser.evaluate("document.querySelector('td.monosemanticity .verdict').ariaLabel") == "monosemantic"


def test_a_verdict_of_another_tool_is_of_no_group(browser, address):
    browser.open(f"{address}#features")
    browser.evaluate("report.page.names.verdict.push('made_elsewhere')")
    browser.evaluate("report.columns.verdict[3] = report.page.names.verdict.length - 1; 0")
    browser.evaluate("report.columns.sure[3] = false; 0")
    groups = "[(i) => report.isUnsure(i), report.isIdle, report.isInseparable]"
    assert browser.evaluate(f"{groups}.map((isOf) => Boolean(isOf(3)))") == [False, False, False]
    browser.search("#3")
    assert browser.text("td.monosemanticity .verdict") == ["made elsewhere"] and not browser.complaints


def test_chips_count_what_they_would_leave_of_the_result(browser, address):
    browser.open(f"{address}#features")
    chip = "(c) => [c.dataset.verdict ?? 'starred', c.lastChild.textContent]"
    counts = f"Array.from(document.querySelectorAll('.chips .chip:not([hidden])'), {chip})"
    verdicts = browser.evaluate("report.columns.verdict.map((k) => report.page.names.verdict[k])")
    assert dict(browser.evaluate(counts)) == {v: str(verdicts.count(v)) for v in set(verdicts)} | {"starred": "0"}
    shown = found(browser, "w1")
    of_result = dict(browser.evaluate(counts))
    assert of_result == {v: str(sum(verdicts[i] == v for i in shown)) for v in set(verdicts)} | {"starred": "0"}
    browser.click(".chip[data-verdict=single-token]")
    assert dict(browser.evaluate(counts)) == of_result, "a verdict does not narrow the counts of the others"
    browser.evaluate("report.setNote(24, { star: true }); report.setNote(3, { star: true })")
    assert dict(browser.evaluate(counts))["starred"] == "1" and 24 in latents(browser), "one of them is in the result"
    browser.evaluate("report.setNote(24, { star: false }); report.setNote(3, { star: false })")


def test_a_kind_of_text_is_chosen_in_the_table_as_on_the_map(browser, address):
    browser.open(f"{address}#features")
    inside = browser.evaluate("report.columns.kind.flatMap((k, i) => (k === null ? [] : [[k, i]]))")
    kinds = browser.evaluate("report.page.names.kind")
    python = {i for k, i in inside if kinds[k] == "python"}
    quality = "report.columns.kind.map((_, i) => report.matchQuality(report.parseQuery('python'), i))"
    assert python and min(browser.evaluate(quality)[i] for i in python) >= 4, "a search finds them, and first"
    field = "document.querySelector('select[aria-label=\"Label or kind of text\"]')"
    browser.evaluate(f"{field}.value = 'kind:python'; {field}.dispatchEvent(new Event('change'))")
    assert set(latents(browser)) == python and question(browser) == "#features?in=python"
    browser.open(f"{address}#features?q=python")
    assert browser.text(".otherwise") == [f"{len(python)} fire mostly in python"]
    browser.click(".otherwise button")
    assert set(latents(browser)) == python and question(browser) == "#features?in=python"
    assert browser.evaluate("document.querySelector('.otherwise').hidden")
    browser.open(f"{address}#map?in=python")
    pressed = "document.querySelector('#map .legend [aria-pressed=true]').textContent"
    assert browser.evaluate(pressed) == f"python {len(python)}" and browser.text(".list h3") == [
        f"{len(python)} selected"
    ]
    other = set(range(browser.evaluate("report.page.latents"))) - {i for _, i in inside}
    browser.click("#map .legend li:last-child button")
    assert question(browser) == "#map?in=mixed_kinds" and browser.evaluate(pressed).startswith("mixed kinds ")
    browser.open(f"{address}#features?in=mixed_kinds")
    assert set(latents(browser)) <= other and latents(browser), "those of no kind, where all kinds have a colour"


def test_a_row_of_several_senses_shows_each_with_its_own_example(browser, address):
    browser.open(f"{address}#features?q=%23{SPLIT}")
    browser.wait("document.querySelectorAll('.of-sense .firing').length === 2")
    assert browser.text(".of-sense .sense") == ["A", "B"]
    rules = browser.evaluate("Array.from(document.querySelectorAll('.of-sense .sense'), (e) => e.parentElement.title)")
    assert rules == ["a rule that holds", "most strongly the last byte of the Hebrew letter ל"], (
        "a rule that does not hold is not shown"
    )
    assert SPLIT in found(browser, "rule:byte")
    assert browser.text(f"tr[data-latent='{SPLIT}'] mark") == ["byte"], "why it is found"
    assert browser.text(f"tr[data-latent='{SPLIT}'] .of-sense .sense") == ["A", "B"], "its title stays"


def test_on_a_phone_a_card_is_as_high_as_its_lines_and_has_an_example_of_each_sense(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#features")
    browser.wait(f"document.querySelectorAll('tr[data-latent=\"{SPLIT}\"] .snippet .firing').length === 2")
    rows = browser.evaluate("""Array.from(document.querySelectorAll("tr[data-latent]"), (row) => {
        const { top, bottom } = row.getBoundingClientRect();
        const snippets = Array.from(row.querySelectorAll(".snippet"), (e) => e.getBoundingClientRect());
        return [row.dataset.latent, top, bottom, snippets.every((e) => e.height > 0 && e.bottom <= bottom)];
    })""")
    heights = {int(latent): bottom - top for latent, top, bottom, _ in rows}
    assert all(is_within for *_, is_within in rows) and heights[SPLIT] > max(
        height for latent, height in heights.items() if latent != SPLIT
    )
    assert all(12 > later[1] - row[2] > 4 for row, later in itertools.pairwise(rows)), "one below the other"
    end = "document.querySelector('.scroller').scrollTop = 1e6, document.querySelector('.scroller').scrollTop"
    scrolled = browser.evaluate(end)
    expected = sum(heights.values()) + 8 * len(heights)
    assert abs(scrolled + browser.evaluate("document.querySelector('.scroller').clientHeight") - expected) < 12


def test_a_search_shows_the_sense_in_which_it_has_found_something(browser, address):
    browser.open(f"{address}#features")
    third = "{ more_senses: [[['the third'], 0.1, 0.7]] }"
    browser.evaluate(f"report.columns.brief[{SPLIT}].push({third}); report.columns.rule[{SPLIT}].push(' the third')")
    browser.evaluate(f"report.loadRows().then(({{ senses: {{ {SPLIT}: some }} }}) => some.push(some[1]))")
    assert found(browser, "rule:third") == [SPLIT]
    assert browser.text(".of-sense span > .sense") == ["A", "C"] and browser.text("td.f1 > div") == ["A 0.80", "C 0.70"]


def test_a_search_for_a_label_leaves_the_senses_of_a_row(browser, address):
    browser.open(f"{address}#features?q=%23{SPLIT}")
    browser.wait("document.querySelectorAll('.of-sense .firing').length === 2")
    label = browser.evaluate(f"(report.columns.label[{SPLIT}] = 0, report.format.words(report.page.names.label[0]))")
    assert SPLIT in found(browser, f"label:{label}")
    row = f"tr[data-latent='{SPLIT}']"
    assert browser.text(f"{row} .of-sense .sense") == ["A", "B"] and browser.text(f"{row} .tag.label mark") == [label]
    assert [said[0] for said in browser.text(f"{row} td.f1 > div")] == ["A", "B"]


def test_a_row_leads_with_the_tokens_that_are_the_title_of_its_page(browser, address):
    browser.open(f"{address}#features?q=%232")
    lead = "tr[data-latent='2'] td.explanation > div"
    rule = 'tokens after " return" or " +"'
    assert browser.text(lead)[0] == rule
    tokens = json.dumps([{"rule": [[" +"]]}, {"small": [" 80 %"]}])
    browser.evaluate(f"report.columns.brief[2] = {tokens}; report.select({{}}); null")
    assert browser.text(lead)[0] == '" +" 80 %', "and not with its rule"
    browser.search("after")
    assert browser.text(lead)[0] == f'" +" 80 % in words: {rule}', "and beside it the rule, if it is found there"
    assert browser.text(f"{lead} mark") == ["after"]
    browser.evaluate("report.columns.f1[2] = 0.125; report.select({}); null")
    assert browser.text("tr[data-latent='2'] .f1") == ["0.13"], "of the name, found or not"


def test_a_token_without_a_stored_example_is_told(browser, address):
    browser.open(f"{address}#features")
    stored = "report.columns.stored"
    assert browser.evaluate(f"{stored}.every((bits) => bits & 1)"), "each has an example of its commonest token"
    token = browser.evaluate(f"report.columns.tokens[{SPLIT}][1].trim()")
    rank = "report.matchQuality(report.parseQuery('tok:%s'), %d)"
    before = browser.evaluate(rank % (token, SPLIT))
    share = browser.evaluate(f"report.columns.token_shares[{SPLIT}]")
    assert 1 >= share[0] >= share[1] > 0 and before == pytest.approx(2 + 3 * share[1], abs=1e-3)
    browser.evaluate(f"report.columns.token_shares[{SPLIT}][1] = 0.01")
    assert browser.evaluate(rank % (token, SPLIT)) == pytest.approx(2.03, abs=1e-3), "the rarer its firings, the lower"
    browser.evaluate(f"{stored}[{SPLIT}] = 1; report.columns.brief[{SPLIT}] = null")
    found(browser, f"tok:{token}")
    assert browser.text(f"tr[data-latent='{SPLIT}'] .on-token") == [f"1.0 % on {token}, no example"]


def test_shares_have_two_digits_in_the_page_and_in_what_it_is_given(browser, address):
    browser.open_once(address)
    shares = [0.35, 0.0999, 0.07, 0.001, 0.00044, 0.0625, 8.7e-7, 1, 0]
    said = ["35 %", "10 %", "7.0 %", "0.10 %", "0.044 %", "6.3 %", "8.7e−5 %", "100 %", "0 %"]
    assert (
        browser.evaluate(f"{shares}.map(report.format.percent)") == said == [format_percent(share) for share in shares]
    )
    seconds = [0.04, 59.94, 59.96, 60, 119.6]
    assert browser.evaluate(f"{seconds}.map(report.format.duration)") == [
        "0.0 s", "59.9 s", "1 min 0 s", "1 min 0 s", "2 min 0 s",
    ]  # fmt: skip
    many = [k / n for n in (40, 80, 400, 4037, 3e6) for k in range(40)]
    many += (10 ** np.random.default_rng(0).uniform(-7, 0, 2000)).tolist()
    assert browser.evaluate(f"{many}.map(report.format.percent)") == [format_percent(share) for share in many]
    assert browser.evaluate("[0.0000004, 0].map(report.format.share)") == ["4.0e−5 %", "–"]


def test_a_column_of_numbers_needs_only_its_description(browser, address):
    browser.open(f"{address}#overview")
    described = {
        "name": "planted", "title": "Planted", "unit": "of all", "hint": "a number", "style": "share", "scale": "log",
        "widths": {"wide": "6rem", "narrow": None},
    }  # fmt: skip
    browser.evaluate(f"report.tableColumns.push({json.dumps(described)}); 0")
    browser.evaluate("report.columns.planted = report.columns.density.map((_, i) => (i === 3 ? null : 0.25)); 0")
    browser.go("features")
    head, *cells = browser.text(".planted")
    assert head == "Plantedof all" and set(cells) == {"25 %", "–"}
    assert browser.text("tr[data-latent='3'] .planted") == ["–"]
    tracks = "getComputedStyle(document.querySelector('tr[data-latent]')).gridTemplateColumns.split(' ').at(-1)"
    assert browser.evaluate(tracks) == browser.evaluate(
        "`${6 * parseFloat(getComputedStyle(document.documentElement).fontSize)}px`"
    )
    assert browser.evaluate("document.querySelector('th.planted button')") is None, "it is not sorted by"
    assert not browser.complaints and browser.unnamed() == []


def test_a_column_of_text_needs_only_its_description(browser, address):
    browser.open(f"{address}#overview")
    described = {
        "name": "planted", "title": "Planted", "unit": "", "hint": "a word", "sorts": "word", "style": "text",
        "scale": "", "widths": {"wide": "6rem", "narrow": None},
    }  # fmt: skip
    browser.evaluate(f"report.tableColumns.push({json.dumps(described)}); 0")
    browser.evaluate("report.columns.planted = report.columns.density.map((_, i) => (i === 3 ? null : '<b>word')); 0")
    browser.go("features")
    assert browser.text("tr[data-latent='1'] .planted") == ["<b>word"]
    assert browser.text("tr[data-latent='3'] .planted") == ["–"]
    assert browser.text("th.planted button") == ["Planted"] and browser.text(".numeric.planted") == []
    assert not browser.complaints and browser.unnamed() == []


@pytest.mark.parametrize("width", [1024, 1440])
def test_the_probability_of_an_unsure_feature_is_whole_and_a_share_stands_below_its_token(browser, address, width):
    browser.size(width, 900)
    browser.open(f"{address}#features")
    browser.evaluate("report.columns.sure[3] = false")
    assert browser.search("returned") is None
    browser.wait("document.querySelector('.snippet.found .firing') !== null")
    cell = "document.querySelector('tr[data-latent=\"3\"] td.monosemanticity')"
    assert browser.evaluate(f"{cell}.textContent") == "mono, unsure1.00"
    edges = "(e) => Math.round(e.getBoundingClientRect().right)"
    number, end = browser.evaluate(f"[{cell}.querySelector('.number'), {cell}.firstElementChild].map({edges})")
    assert number <= end
    left = (
        "(e) => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect().left; }"
    )
    found = "['.firing', '.on-token'].map((part) => document.querySelector(`.snippet.found ${part}`))"
    token, share = browser.evaluate(f"{found}.map({left})")
    assert abs(token - share) < 4


def test_table_rows_have_evidence_and_several_verdicts_can_be_chosen(browser, address):
    browser.open(f"{address}#features")
    browser.wait("document.querySelector('.snippet .firing') !== null")
    assert browser.text(f"tr[data-latent='{BEST}'] .snippet .firing") == [VOCAB[BEST]]
    bars = browser.evaluate("document.querySelector('td.activations path').getAttribute('d')")
    assert bars.count("M") > 1
    edges = browser.evaluate(f"report.loadFeature({BEST}).then(({{ histogram }}) => histogram.edges)")
    ends = [float(text) for text in browser.text(f"tr[data-latent='{BEST}'] .ends span")]
    assert ends[0] == float(f"{edges[0]:.1g}") and edges[-2] <= ends[1] <= edges[-1]
    browser.click(".chip[data-verdict=single-token]")
    browser.click(".chip[data-verdict=polysemantic]")
    assert set(latents(browser)) == {SPLIT, *range(20, D_SAE)} and question(browser).endswith(
        "verdict=single-token,polysemantic"
    )
    browser.open(f"{address}{question(browser)}")
    assert set(latents(browser)) == {SPLIT, *range(20, D_SAE)}
    browser.click(".chip[data-verdict=polysemantic]")
    assert set(latents(browser)) == set(range(20, 25))


def test_the_senses_of_a_row_are_told_before_their_firings_are_read(browser, address):
    browser.open(f"{address}#features")
    row = f"report.h('div', null, report.sensesOfRow({SPLIT}, null))"
    told = browser.evaluate(f"[{row}.textContent, {row}.querySelectorAll('.snippet:empty').length]")
    assert told[0].startswith("A\u00a0a rule that holds") and "B" in told[0] and told[1] == 2


def test_a_star_is_set_and_taken_away_in_its_row_without_opening_the_feature(browser, address):
    browser.open(f"{address}#features")
    star = f"tr[data-latent='{BEST}'] button.gutter"
    assert browser.text(star) == ["☆"]
    browser.click(star)
    assert browser.text(star) == ["★"] and question(browser) == "#features"
    assert browser.evaluate("document.querySelector('tr.at').dataset.latent") == str(BEST), "the cursor moves there"
    assert browser.evaluate(f"report.noteOf({BEST}).star")
    assert browser.evaluate(f"document.activeElement.ariaLabel === 'Star feature {BEST}'"), "the focus stays"
    browser.evaluate("dispatchEvent(new Event('resize'))")  # draws the rows anew, as evidence that arrives late does
    assert browser.evaluate(f"document.activeElement.ariaLabel === 'Star feature {BEST}'"), "and outlives a new drawing"
    browser.click(star)
    assert browser.text(star) == ["☆"] and not browser.evaluate(f"report.noteOf({BEST}).star")


def test_table_address_keeps_search_filters_and_order(browser, address):
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


def test_an_address_that_asks_for_what_is_not_here_shows_all(browser, address):
    browser.open(
        f"{address}#features?verdict=none&label=%3Cb%3E&density=1&explanation_f1=0.5,0.2&part=1,2,x&sort=constructor&q="
    )
    assert len(latents(browser)) == D_SAE and question(browser) == "#features"
    browser.open(f"{address}#nowhere")
    assert browser.evaluate("document.body.dataset.view") == "overview"


def test_a_range_is_chosen_by_keys_or_by_dragging_and_is_in_the_address(browser, address):
    browser.open(f"{address}#features")
    browser.click(".turn.ranged")
    f1, n = "report.columns.explanation_f1", len(latents(browser))
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


def test_search_reads_the_words_that_the_page_shows_for_a_rule_and_keeps_them(browser, address):
    browser.open(f"{address}#features")
    words = "document.querySelector(\"tr[data-latent='%d'] .explanation .shortened\").textContent"
    brief = "report.columns.brief"
    browser.evaluate(f"{brief}[{GREEK}] = {brief}[{SPACES}] = null; report.select({{}})")  # named by their rules
    before = browser.evaluate(words % GREEK)
    assert before.startswith("Greek letters ") and before.endswith("+2")
    assert found(browser, "Greek letters") == found(browser, 'rule:"greek letters"') == [GREEK]
    assert browser.evaluate(words % GREEK) == before and browser.text(".explanation mark") == ["Greek letters"]
    found(browser, "α")
    assert browser.text(f"tr[data-latent='{GREEK}'] mark") == ["α"] and browser.evaluate(words % GREEK) == before
    assert found(browser, "rule:ε") == [GREEK], "one that is not shown is found in the whole rule, which is shown"
    assert browser.text(".explanation mark") == ["ε"]
    assert browser.text(f"tr[data-latent='{GREEK}'] .explanation > div")[0] == '"α", "β", "γ", "δ" or "ε"'
    assert found(browser, "rule:+2") == [], "the number of tokens left out is no word of the rule"
    assert found(browser, '"2 or 4 spaces"') == [SPACES]
    assert browser.text(".explanation mark") == ["2 or 4 spaces"] and not browser.complaints


def test_a_token_is_found_as_it_is_drawn_and_white_space_by_its_sign(browser, address):
    browser.open(f"{address}#features")
    for written in ("tok:·return", "tok:␣return", "tok: return", 'tok:" return"'):
        assert found(browser, written) == [1], "not 3, whose token is returned"
        assert found(browser, f"w1 {written}") == [], "it is one word of several"
    assert [found(browser, sign) for sign in ("tok:↵", "tok:⇥", "tok:·×7")] == [[7], [8], []]
    assert found(browser, "tok:") == found(browser, "tok: ") == []


def test_a_question_mark_lists_the_keys_and_what_a_search_may_say(browser, address):
    browser.open(f"{address}#features")
    browser.press("?")
    assert browser.evaluate("document.getElementById('help').open") and "tok:␣my" in browser.text("#help")[0]
    browser.press("j")
    assert browser.evaluate("document.querySelector('tr.at')") is None, "the keys wait"
    browser.click("#close-help")
    assert not browser.evaluate("document.getElementById('help').open") and question(browser) == "#features"
    browser.search("")
    browser.evaluate("document.getElementById('search').focus()")
    browser.press("?")
    assert not browser.evaluate("document.getElementById('help').open"), "in a field it is a letter"


def test_a_line_is_cut_at_its_end_and_has_no_gap_before_what_a_feature_raises(browser, address):
    browser.open(f"{address}#overview")
    browser.evaluate("""[["em", 0],
        [`tokens ${"within 8 tokens after a space ".repeat(20)}`, 1]].forEach(([rule, i]) => {
        report.columns.rule[i] = [rule];
        report.columns.brief[i] = [{ rule: 0 }, { apart: [", raises zebra"] }]; });""")
    for latent in (0, 1):
        browser.evaluate(f"location.hash = '#features?q=%23{latent}'")
        browser.wait(f"document.querySelector('tr[data-latent=\"{latent}\"] .apart') !== null")
        gap, over = browser.evaluate(f"""(() => {{
            const apart = document.querySelector('tr[data-latent="{latent}"] .apart');
            const [before, own] = [apart.previousElementSibling, apart].map((e) => e.getBoundingClientRect());
            return [own.left - before.right, own.top - apart.parentElement.getBoundingClientRect().bottom];
        }})()""")
        assert (over > 0) == (latent == 1) and (latent == 1 or abs(gap) < 1), "a long one is cut after two lines"


def test_a_phone_shows_rows_at_once_and_other_filters_by_a_button(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#features")
    top = "document.querySelector('tr[data-latent]').getBoundingClientRect().top"
    chooser = "document.querySelector('#features select').checkVisibility()"
    assert browser.evaluate(top) < 190 and browser.evaluate(chooser) is False
    browser.click(".more-filters")
    assert browser.evaluate(chooser)
    browser.click(".more-filters")
    browser.size(1400, 900)
    assert browser.evaluate(chooser) and not browser.evaluate(
        "document.querySelector('.more-filters').checkVisibility()"
    )


def test_words_in_which_a_rule_is_told_are_found_whole_and_its_tokens_in_part_too(browser, address):
    browser.open(f"{address}#features")
    assert found(browser, "after") == [2] and found(browser, "afte") == [], "a word of a rule"
    assert set(found(browser, "etur")) == {1, 2, 3} and found(browser, "returned") == [3, 7], "tokens, and a word of 7"
    word = json.dumps([{"rule": [["uf"]]}, " in ", {"rule": [["Yusuf"]]}])
    assert browser.evaluate(f"report.tokensOfRule({word})") == [["uf"], ["Yusuf"]], "those of a caption, too"
    rule = json.dumps(["tokens without a space after ", [" thou"], " or ", ["thousand"]])
    marks = "((e) => (report.markMatchesIn(report.parseQuery('{}'), 'rule', e), e.querySelectorAll('mark').length))"
    drawn = f"(report.h('p', null, report.ruleElement({rule})))"
    n_marks = [browser.evaluate(marks.format(text) + drawn) for text in ("thou", "hous", "without", "hout")]
    assert n_marks == [2, 1, 1, 0]


def test_a_search_for_the_name_of_a_verdict_offers_those_that_have_it(browser, address):
    verdict = browser.open(address) or browser.evaluate("report.page.verdict_counts[0][0]")
    browser.go(f"features?q={browser.evaluate(f'report.format.verdict({json.dumps(verdict)})')}")
    assert browser.text("tr.none button") == ["Show those with this verdict", "Clear the filters"]
    browser.click("tr.none button")
    browser.wait("!document.querySelector('tr.none') && document.querySelectorAll('#features tr[data-latent]').length")
    assert browser.evaluate("report.selection.verdict") == [verdict]
    assert browser.evaluate("document.querySelector('#features input[type=search]').value") == ""
