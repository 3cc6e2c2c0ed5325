"""A reader's stars, labels and notes, tried in Chromium."""

import json
import re

import pytest

from interp.report.notes import read_notes
from tests.report.planted_page import SPLIT, found, latents, question

HOSTILE = "<img src=x onerror=alert(1)>"


def note(browser, name: str, text: str) -> None:
    field = f"document.querySelector('#feature header {name}')"
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
    assert found(browser, "because") == found(browser, "note:because") == [5] and not found(browser, "label:because")
    assert browser.evaluate("document.querySelector('.chip[data-noted]').checkVisibility()")
    browser.open(f"{address}#features?noted=1")
    assert sorted(latents(browser)) == [3, 5]
    browser.open(f"{address}#features?q=%235")
    assert browser.text("tr[data-latent='5'] .tag.mine")[0].startswith("why?"), "a note alone"
    browser.open(f"{address}#notes")
    [third, fifth] = browser.text(".mine li")
    assert "3monosemantic 1.00python" in third
    assert re.search(r'5monosemantic [01]\.\d\d"1233"', fifth), "its verdict, and how probable one meaning is"
    browser.wait("document.querySelectorAll('.mine .snippet .firing').length === 2")
    fields = "Array.from(document.querySelectorAll('.mine :is(input, textarea)'), ({value}) => value)"
    assert browser.evaluate(fields) == [HOSTILE, "", "", "why?\nbecause"]
    assert browser.evaluate("document.querySelector('.mine img')") is None
    fonts = "new Set(Array.from(document.querySelectorAll('.mine .quoting'), (e) => getComputedStyle(e).fontFamily))"
    assert browser.evaluate(f"{fonts}.size") == 1, "rules are in one typeface, with a label before them or without"
    (tmp_path / "notes.json").write_text(browser.evaluate("report.exportedNotes()"))
    table = read_notes(tmp_path / "notes.json")
    assert table.to_dict("records") == [
        {"latent": 3, "star": True, "label": HOSTILE, "note": ""},
        {"latent": 5, "star": False, "label": "", "note": "why?\nbecause"},
    ]
    browser.evaluate("localStorage.clear()")
    browser.open(f"{address}#notes")
    assert not browser.text(".mine li:not(.unkept)")
    files = browser.send("Runtime.evaluate", expression="document.querySelector('.kept [type=file]')")["result"][
        "objectId"
    ]
    browser.send("DOM.setFileInputFiles", files=[str(tmp_path / "notes.json")], objectId=files)
    browser.wait("document.querySelectorAll('.mine li').length === 2")
    browser.open(f"{address}#feature/3")
    assert browser.evaluate("document.querySelector('#feature .star').ariaPressed") == "true"
    browser.evaluate("localStorage.clear()")


def test_notes_are_written_starred_and_removed_in_their_list(browser, address):
    browser.open(f"{address}#feature/5")
    note(browser, "input", "five")
    browser.open(f"{address}#notes")
    browser.wait("document.readyState === 'complete' && document.querySelector('.mine li') !== null")
    kept = "JSON.parse(report.exportedNotes()).notes"
    field = "document.querySelector('.mine input')"
    browser.evaluate(f"{field}.focus(); {field}.value = ''; {field}.dispatchEvent(new Event('input'))")
    assert browser.evaluate(kept) == {} and len(browser.text(".mine li")) == 1, "it is still being written"
    browser.evaluate(f"{field}.value = 'six'; {field}.dispatchEvent(new Event('input'))")
    browser.click(".mine .star")
    browser.evaluate("report.setNote(3, { star: true })")
    browser.wait("document.querySelectorAll('.mine li').length === 2")
    assert browser.evaluate("Array.from(document.querySelectorAll('.mine li'), (e) => e.dataset.latent)") == ["3", "5"]
    written = {"3": {"star": True, "label": "", "note": ""}, "5": {"star": True, "label": "six", "note": ""}}
    assert browser.evaluate(kept) == written and browser.text(".kept .noted a") == ["2 starred", "1 noted"]
    browser.click(".mine li:last-child .remove")
    assert [*browser.evaluate(kept)] == ["3"] and len(browser.text(".mine li")) == 1
    browser.click(".kept output button")
    assert browser.evaluate(kept) == written and len(browser.text(".mine li")) == 2
    browser.evaluate("localStorage.clear()")
    browser.open(f"{address}#notes")
    assert browser.text(".mine li:not(.unkept)") == []
    assert browser.evaluate("document.querySelector('.files button').disabled")


def test_a_note_shows_each_sense_and_is_copied_with_what_the_page_says(browser, address):
    browser.open(f"{address}#notes")
    browser.evaluate(f"report.setNote({SPLIT}, {{ label: 'two things' }})")
    browser.wait("document.querySelectorAll('.mine .of-sense .firing').length === 2")
    assert browser.text(".mine .of-sense .sense") == ["A", "B"]
    browser.evaluate("navigator.clipboard.writeText = async (text) => { window.written = text; }")
    browser.click(".files button")
    latent, judged, rule, *own = browser.wait("window.written").split("\t")
    assert [latent, *own] == [str(SPLIT), "two things", ""] and "a rule that holds" in rule
    assert judged.startswith(browser.text(".mine .verdict")[0]), "and then the probability"
    [day] = browser.text(".mine time")
    time = browser.evaluate("document.querySelector('.mine time span').dataset.tip")
    assert day.split()[0] == str(browser.evaluate("new Date().getDate()")) and re.fullmatch(r"\d\d:\d\d", time)
    assert browser.text(".kept .heads span")[1:] == ["Feature", "Fires on", "Your label", "Your note", "Changed"]
    left = "Array.from(document.querySelectorAll('{}'), (e) => Math.round(e.getBoundingClientRect().left))"
    columns = ".mine :is(.judged, .fires-on, .labelled, .note, time)"
    assert browser.evaluate(left.format(".kept .heads span"))[1:] == sorted(browser.evaluate(left.format(columns)))
    browser.evaluate("localStorage.clear()")


def test_a_feature_leads_back_to_its_note_and_one_without_a_star_leaves_the_list_with_the_reader(browser, address):
    browser.open(f"{address}#notes")
    browser.wait("document.querySelector('.mine .unkept .star') !== null")
    first = browser.text(".mine .judged > a")[0]
    shown = json.loads(browser.text(".sample pre")[0])
    browser.click(".mine .star")
    assert [*browser.evaluate("JSON.parse(report.exportedNotes()).notes")] == [first]
    assert shown == browser.evaluate("JSON.parse(report.exportedNotes())"), "what an export will be"
    assert browser.evaluate("document.querySelector('.sample').checkVisibility()") is False
    browser.evaluate(f"report.setNote({first}, {{ label: 'mine' }})")
    browser.click(".mine li a")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{first}'")
    assert browser.text("#feature .path a")[:2] == ["Your notes", "All features"]
    browser.click("#feature .path a")
    browser.wait("document.body.dataset.view === 'notes'")
    assert question(browser) == f"#notes/{first}"
    assert browser.evaluate("document.querySelector('.mine input').value") == "mine"
    browser.evaluate(f"report.setNote({first}, {{ label: '' }})")
    unkept = "document.querySelector('.mine li').matches('.unkept')"
    assert browser.evaluate(unkept) is False
    browser.click(".mine .star")
    assert browser.evaluate(unkept) is True and browser.text(".mine .judged > a") == [first], (
        "it may have its star back"
    )
    for view in ("features", "notes"):
        browser.evaluate(f"location.hash = '#{view}'")
        browser.wait(f"document.body.dataset.view === '{view}'")
    assert browser.text(".mine li:not(.unkept)") == [], "all that is listed is offered"
    browser.open(f"{address}#feature/{first}")
    assert browser.text("#feature .path a")[0] == "All features", "where the reader does not come from"


def test_notes_of_two_tabs_are_all_kept(browser, address):
    browser.open(f"{address}#feature/3")
    note(browser, "input", "mine")
    other_tab = """((notes, isTold) => {
        const key = Object.keys(localStorage).find((name) => name.startsWith("interp-notes/"));
        localStorage.setItem(key, JSON.stringify(notes));
        if (isTold) dispatchEvent(new StorageEvent("storage", { key }));
    })"""
    theirs = {"3": {"star": True, "label": "mine", "note": ""}, "5": {"star": False, "label": "theirs", "note": ""}}
    browser.evaluate(f"{other_tab}({json.dumps(theirs)}, false)")
    note(browser, "textarea", "why?")
    browser.open(f"{address}#feature/3")
    kept = "JSON.parse(report.exportedNotes()).notes"
    theirs["3"]["note"] = "why?"
    assert browser.evaluate(kept) == theirs, "a change leaves what another tab stored"
    browser.evaluate(f"{other_tab}({{}}, true)")
    assert browser.evaluate(kept) == {}, "and what it stores is shown at once"
    assert browser.evaluate("document.querySelector('#feature header input').value") == ""
    browser.evaluate("localStorage.clear()")


@pytest.mark.parametrize("width", [1400, 390])
def test_a_label_is_the_title_and_all_of_a_note_is_seen(browser, address, width):
    browser.size(width, 900)
    browser.open(f"{address}#feature/3")
    fields = "#feature :is(.notes input, .note)"
    fields = f"Array.from(document.querySelectorAll('{fields}'), (e) => e.checkVisibility())"
    assert browser.evaluate(fields) == [False, False], "a button opens them"
    browser.click("#feature .write")
    assert browser.evaluate(fields) == [True, True]
    places = """Array.from(document.querySelectorAll("#feature .toolbar a, #feature .notes > *"), (e) => {
        const { x, y } = e.getBoundingClientRect();
        return [e.className, Math.round(x), Math.round(y)];
    })"""
    before = browser.evaluate(places)
    [rule] = browser.text("#feature .title")
    field = "document.querySelector('#feature header {}')"
    assert browser.evaluate(f"{field.format('input')}.checkVisibility()"), "without a star first"
    browser.evaluate(f"{field.format('textarea')}.focus()")
    note(browser, "textarea", "why?\n" * 5)
    assert browser.text("#feature .note output") == ["saved"]
    grown = browser.evaluate(places)
    tall = f"{field.format('textarea')}.offsetHeight"
    assert grown == before and browser.evaluate(tall) > 80, "beside the other fields, which stay"
    is_whole = f"{field.format('textarea')}.scrollHeight <= {field.format('textarea')}.clientHeight"
    below = "document.querySelector('#feature .split').getBoundingClientRect().top"
    assert browser.evaluate(f"{is_whole} && {field.format('textarea')}.getBoundingClientRect().bottom < {below}")
    browser.evaluate("document.activeElement.blur()")
    assert browser.evaluate(is_whole), "also when it is not being written"
    browser.evaluate("localStorage.clear()")
    note(browser, "input", HOSTILE)
    assert browser.text("#feature .notes output") == ["saved"] and browser.text("#feature .note output") == [""]
    assert browser.evaluate(places) == before, "nor does a title with a label"
    shown = "getComputedStyle(document.querySelector('#feature .title bdi.mine'), '::before').content"
    assert browser.text("#feature .title") == [HOSTILE + rule], "the rule stands behind the reader's label"
    assert "✎" in browser.evaluate(shown)
    browser.evaluate("localStorage.clear()")


def test_notes_are_sorted_by_number_last_change_or_label_and_grouped_by_that(browser, address):
    browser.open(f"{address}#notes")
    for latent, label in ((5, "pear"), (3, "apple"), (9, "")):
        browser.evaluate(f"report.setNote({latent}, {{ star: true, label: '{label}' }})")
        browser.evaluate("new Promise((later) => setTimeout(later, 3))")
    browser.wait("document.querySelectorAll('.mine li').length === 3")
    listed = "Array.from(document.querySelectorAll('.mine li'), (e) => e.dataset.latent)"
    field = "document.querySelector('.kept label select')"
    for order, expected in (("number", "359"), ("last changed", "935"), ("label", "359"), ("number", "359")):
        browser.evaluate(f"{field}.value = '{order}'; {field}.dispatchEvent(new Event('change'))")
        assert "".join(browser.evaluate(listed)) == expected, order
    browser.evaluate("report.setNote(5, { label: 'a pear' })")
    browser.open(f"{address}#notes")
    for order, expected in (("last changed", "593"), ("label", "539")):
        browser.evaluate(f"{field}.value = '{order}'; {field}.dispatchEvent(new Event('change'))")
        assert "".join(browser.evaluate(listed)) == expected, "what was changed is kept"
    links = "Array.from(document.querySelectorAll('.about-notes a'), (e) => e.getAttribute('href'))"
    assert browser.evaluate(links) == ["#map?starred=1", "#compare/5/3"], "the first two as they are sorted"
    for latent in (9, 3):
        browser.click(f".mine [data-latent='{latent}'] .choose")
    assert browser.evaluate(links)[1] == "#compare/9/3" and browser.text(".about-notes a")[1] == "Compare 9 and 3"
    browser.click(".mine [data-latent='9'] .choose")
    assert browser.text(".about-notes a")[1] == "Compare the first two"
    browser.evaluate("report.setNote(3, { label: 'a pear' })")
    browser.evaluate(f"{field}.dispatchEvent(new Event('change'))")
    groups = "Array.from(document.querySelectorAll('.mine li'), (e) => e.dataset.label ?? '')"
    assert browser.evaluate(groups) == ["a pear, 2", "", "without a label, 1"]
    browser.evaluate(f"{field}.value = 'number'; {field}.dispatchEvent(new Event('change'))")
    assert set(browser.evaluate(groups)) == {""}
    browser.evaluate("localStorage.clear()")


def test_notes_are_filtered_by_their_words_and_by_verdict(browser, address):
    browser.open(f"{address}#notes")
    for latent, label in ((5, "pear"), (3, "apple"), (SPLIT, "pear")):
        browser.evaluate(f"report.setNote({latent}, {{ label: '{label}' }})")
    shown = "Array.from(document.querySelectorAll('.mine li:not([hidden])'), (e) => Number(e.dataset.latent))"
    ask = "(([field, value, event]) => { field.value = value; field.dispatchEvent(new Event(event)); })"
    text, verdict = (f"document.querySelector('.files {field}')" for field in ("[type=search]", "select"))
    for field, value, event, expected in (
        (text, "pear", "input", [SPLIT, 5]),
        (verdict, "polysemantic", "change", [SPLIT]),
        (text, "", "input", [SPLIT]),
        (verdict, "", "change", [SPLIT, 3, 5]),
        (text, "label:apple", "input", [3]),
    ):
        browser.evaluate(f"{ask}([{field}, '{value}', '{event}'])")
        browser.wait(f"String({shown}) === '{','.join(map(str, sorted(expected)))}'")
    browser.evaluate("localStorage.clear()")


def test_what_is_no_export_of_these_features_is_not_imported(browser, address):
    browser.open(f"{address}#notes")
    key = browser.evaluate("JSON.stringify(report.page.key)")
    for text, said in (
        ("{", "JSON"),
        ("{}", "not an export of this page"),
        ('{"format": "interp-notes", "features": "x", "notes": {}}', "belongs to other features"),
        ('{"format": "interp-notes", "features": KEY, "notes": {"999": {"star": true}}}', "feature 999"),
        ('{"format": "interp-notes", "features": KEY, "notes": {"1": {"star": "yes"}}}', "feature 1 is not valid"),
    ):
        browser.evaluate(f"report.importNotes({json.dumps(text.replace('KEY', key))})")
        assert said in browser.text("#trouble")[0] and not browser.text(".mine li:not(.unkept)")


@pytest.mark.parametrize("text", ["{}", '{"format": "interp-notes", "notes": {"1": {"star": 1}}}'])
def test_read_notes_refuses_a_file_without_notes(text, tmp_path):
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(ValueError, match="notes.json"):
        read_notes(tmp_path / "notes.json")
