"""The page of one feature: its lead, examples, senses, evidence and logits, tried in Chromium."""

import base64
import json
import re
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from interp.display.segments import Token
from interp.report.rule_reader import RuleReader, senses_in_segments
from interp.report.verdict_evidence import senses_in, senses_of
from interp.text.rules import atoms_json, phrase, rule_json
from tests.planted_rules import a_rule, an_atom, like
from tests.report.planted_page import (
    N_CTX,
    N_SEQ,
    OTHER,
    SPLIT,
    VOCAB,
    question,
)


def test_on_a_phone_examples_come_first_then_logits_with_the_evidence_folded(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#feature/3")
    top = "document.querySelector('{}').getBoundingClientRect().top"
    tops = [browser.evaluate(top.format(part)) for part in (".example", ".side .block", ".side .missing")]
    assert 0 < tops[0] < 450 and tops == sorted(tops)
    pressed = "#feature :is(button:not(.term), input)"  # a term stands in a line of text
    small = f"Array.from(document.querySelectorAll('{pressed}'), (e) => e.getBoundingClientRect())"
    assert browser.evaluate(f"{small}.filter((b) => b.height && b.height < 40).length") == 0, "a finger is 40 pixels"
    assert not browser.evaluate("Array.from(document.querySelectorAll('details'), (d) => d.open).some(Boolean)")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    fold = "Array.from(document.querySelectorAll('details')).find((e) => e.innerText.includes('Its numbers'))"
    assert browser.evaluate(f"{fold}.childElementCount") == 1, "what is folded is made when it is opened"
    browser.evaluate("document.querySelector('details').scrollIntoView()")
    browser.click("details summary")
    assert browser.evaluate("document.querySelector('details').open")
    browser.unfold()
    assert "mean" in browser.evaluate(f"{fold}.textContent"), "what stands beside the histogram elsewhere"
    browser.open(f"{address}#features")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    cards = "Array.from(document.querySelectorAll('tr[data-latent]'), (e) => e.getBoundingClientRect())"
    assert browser.evaluate(f"{cards}.every((b) => b.left >= 0 && b.right <= 390)")
    heights = browser.evaluate(f"new Set({cards}.map((b) => b.height)).size")
    assert heights == 2, "with senses or without, as what scrolls is counted in rows"


def test_the_page_alone_scrolls_and_the_shorter_column_stays_in_view_beside_the_longer(browser, address):
    browser.open(f"{address}#feature/3")
    histogram, example = (
        browser.evaluate(f"document.querySelector('{part}').getBoundingClientRect().toJSON()")
        for part in (".side .histogram", ".fires .example")
    )
    assert example["right"] < histogram["left"] and 0 < example["top"] - histogram["top"] < 100
    scrolls = "Array.from(document.querySelectorAll('#feature *')).filter((e) => e.scrollHeight > e.clientHeight + 1)"
    assert not browser.evaluate(
        f"{scrolls}.map((e) => [getComputedStyle(e).overflowY, e.className])"
        ".filter(([how]) => how === 'auto' || how === 'scroll')"
    )
    folds = "Array.from(document.querySelectorAll('.side h3'), (e) => e.getBoundingClientRect().bottom)"
    assert browser.evaluate(folds)[1] < 900, "logits and the verdict are in the first view"
    for short, long in ((".fires", ".side"), (".side", ".fires")):
        browser.open(f"{address}#feature/3")
        browser.evaluate(f"document.querySelector('{long}').style.minHeight = '4000px'")
        browser.evaluate("scrollTo(0, 2000)")
        browser.wait("scrollY === 2000")
        assert (
            abs(browser.evaluate(f"innerHeight - document.querySelector('{short}').getBoundingClientRect().bottom")) < 2
        )


def test_a_list_shows_some_more_of_its_examples_or_all(browser, address):
    browser.open(f"{address}#feature/3")
    counted = """((feature) => {
        const list = report.exampleList(3, feature, feature.examples.slice(0, 9), { few: 2 });
        const more = () => list.querySelector(".more")?.textContent ?? null;
        const shown = () => [list.querySelectorAll(".example").length, more()];
        return [shown(), list.show(3).length, shown(), list.show(9).length, shown()];
    })"""
    assert browser.evaluate(f"report.loadFeature(3).then({counted})") == [[2, "7 more"], 3, [5, "4 more"], 4, [9, None]]


def test_the_weakest_of_a_sense_are_the_weakest_of_those_listed_of_it(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    listed = browser.evaluate(
        """report.loadFeature(SPLIT).then(async (feature) => {
        const all = Array.from({ length: 12 }, (_, k) => [0, 17 * k + 5, null, 1 + ((5 * k) % 12), []]);
        await report.loadSequences(all.map(report.sequenceOf));
        const sense = { ...feature.senses[0], tokens: all.map(report.tokenOf), named: null, examples: all, n_weak: 4 };
        const { fires } = report.firingsRegion(SPLIT, { ...feature, examples: [], senses: [sense] }, () => null);
        fires.querySelector("#tab-2").click();
        for (const list of fires.querySelectorAll(".panel div")) list.show?.(99);
        const valuesOf = (panel) => Array.from(panel.querySelectorAll("button.value"), (b) => Number(b.textContent));
        return Array.from(fires.querySelectorAll("#panel-0, #panel-2"), (panel) =>
            [valuesOf(panel), panel.textContent.toLowerCase().includes("its weakest")]);
    })""".replace("SPLIT", str(SPLIT))
    )
    assert len(listed) == 2
    for values, has_weakest in listed:
        assert has_weakest and len(values) > 7 and values == sorted(values, reverse=True)


def test_the_strongest_come_first_then_those_on_each_common_token_and_a_few_on_each_other(browser, address):
    browser.open(f"{address}#feature/3")
    rows = list(range(0, N_SEQ * N_CTX, 3))
    browser.evaluate(f"report.loadSequences({list(range(N_SEQ))})")
    made = f"{rows}.map((row, k) => [-1, row, null, 1 + (k * 37) % 101, []])"
    token = "report.tokensOfSequence(Math.floor(row / 16))[row % 16]"
    named = f"(some) => some.map(([, row, , value]) => [row, value, {token}])"
    counted = Counter(browser.evaluate(f"{rows}.map((row) => {token})"))
    (common, _), (second, _) = Counter({one: n for one, n in counted.items() if one >= 14}).most_common(2)
    top, same, others, further, groups, alike = browser.evaluate(
        f"(({{ top, same, groups, others, further, alike }}) => [...[top, same, others, further].map({named}),"
        f" groups.map(([token, some]) => [token, ({named})(some)]),"
        " [...alike.values()].reduce((sum, rest) => sum + rest.length, 0)])"
        f"(report.groupExamples({made}, 5, [{common}, {second}]))"
    )
    parts = [top, same, others, further, *(own for _, own in groups)]
    every = sorted(value for part in parts for _, value, _ in part)[::-1]
    assert len(top) == 5 and top[0][1] == every[0]
    heads = browser.evaluate("Array.from(document.querySelectorAll('#panel-0 .headed'), (e) => e.textContent)")
    assert heads[0].startswith("returned 100 % of its firings"), "the first list has a head, too"
    shares = [0.6, 0.05, 0.01]
    tokens = [[0, token, 100 * share] for token, share in zip((common, second, 0), shares, strict=True)]
    put = f"report.loadFeature(3).then((feature) => ({{ ...feature, tokens: {tokens}, examples: {made} }}))"
    facts = "Object.assign(feature.facts, { n_active: 100 })"
    region = f"{put}.then((feature) => ({facts}, report.firingsRegion(3, feature, () => null).fires))"
    told = browser.evaluate(
        f"{region}.then((e) => Array.from(e.querySelectorAll('#panel-0 h3'), (h) => h.textContent))"
    )
    assert len(told) > 1 and all(" % of its firings" in head for head in told), "each list tells its share"
    whole = """(e) => {
        for (const list of e.querySelectorAll("#panel-0 div")) list.show?.(999);
        const valuesOf = (list) => Array.from(list.querySelectorAll("button.value"), (b) => Number(b.textContent));
        return Array.from(e.querySelectorAll("#panel-0 ol"), valuesOf);
    }"""
    lists = browser.evaluate(f"{region}.then({whole})")
    assert all(values == sorted(values, reverse=True) for values in lists), "each from the strongest"
    if len({token for *_, token in top}) > 1:
        few = list(dict.fromkeys(token for *_, token in top))
        assert told[0].startswith("The strongest ")
        assert (" 60 %" in told[0].split(", in all")[0]) == (common in few and len(few) <= 3)
    for part in parts:
        assert [value for _, value, _ in part] == sorted((value for _, value, _ in part), reverse=True)
    tokens = [token for *_, token in top]
    assert {token for *_, token in same} <= set(tokens), "more on the tokens of the strongest"
    assert {token for token, _ in groups} == {token for token in (common, second) if tokens.count(token) < 3}
    assert [own[0][1] for _, own in groups] == sorted((own[0][1] for _, own in groups), reverse=True)
    assert all({on for *_, on in own} == {token} for token, own in groups)
    on = [token for *_, token in others]
    told = {*tokens, *(token for token, _ in groups)}
    assert on and not set(on) & told and max(on.count(token) for token in on) <= 3
    assert all(on.count(token) == 3 for *_, token in further)
    assert sum(map(len, parts)) + alike == len(rows), "none is lost"


def test_a_token_that_is_chosen_leaves_the_examples_on_it(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    assert all(said.endswith("50 %") for said in browser.text(".tokenbars li"))
    hues = "Array.from(document.querySelectorAll('.tokenbars li'), (e) => e.dataset.sense)"
    assert sorted(browser.evaluate(hues)) == ["0", "1"], "the colour of the sense that fires on it"
    chosen = int(browser.evaluate("document.querySelector('.tokenbars button').value"))
    token = "report.tokensOfSequence(Math.floor(e.dataset.row / 16))[e.dataset.row % 16]"
    shown = f"Array.from(document.querySelectorAll('#panel-0 .example'), (e) => {token})"
    assert set(browser.evaluate(shown)) == {SPLIT, OTHER}
    browser.click(".tokenbars button")
    assert set(browser.evaluate(shown)) == {chosen}
    assert browser.evaluate("document.querySelector('.tokenbars button').ariaPressed") == "true"
    [said] = browser.text(".chosen[role=status]")
    assert said.startswith("on ") and int(re.search(r": (\d+) of the ", said)[1]) >= len(browser.evaluate(shown))
    browser.click(".tokenbars button")
    assert set(browser.evaluate(shown)) == {SPLIT, OTHER} and browser.evaluate(
        "document.querySelector('.chosen').hidden"
    )


def sharing(*atoms):
    return {"common": [atom.words for atom in atoms], "common_json": atoms_json(atoms)}


def ruled(rule):
    return {"rule": phrase(rule), "rule_json": rule_json(rule)}


def test_a_token_that_a_sense_does_not_share_identifies_no_sense():
    store = SimpleNamespace(tokens=torch.tensor([[0, 1, 2, 2]]), vocab=["ble", " t", " a"])
    contexts = SimpleNamespace(features=store, examples=lambda kinds, latents, rows: [])
    of_ble = {**sharing(an_atom("token", "ble")), "rows": [0], "weak_rows": [1]}
    of_a, after_a = an_atom("token", " a"), an_atom("previous", " a")
    for common, tokens, named in ([of_a], [2], [2]), ([after_a], [2], None), ([], [2], None):
        senses = senses_of({5: [of_ble, {**sharing(*common), "rows": [2, 3]}]}, [], contexts)[5]
        assert (senses[0]["tokens"], senses[0]["named"]) == ([0], [0]), '" t" was put into its cluster'
        assert (senses[1]["tokens"], senses[1]["named"]) == (tokens, named)


def test_a_sense_of_tokens_like_some_has_these_and_shows_those_of_its_strongest_firings_first():
    vocab = [*"abcdefg", "x"]
    store = SimpleNamespace(tokens=torch.tensor([[5, 5, 7, 6]]), vocab=vocab, n_ctx=4)
    contexts = SimpleNamespace(features=store, examples=lambda kinds, latents, rows: [])
    of_like, of_x = ruled(a_rule(about_40=[like(*"abcdefg")])), ruled(a_rule(token=["x"]))
    read = RuleReader(SimpleNamespace(vocab=vocab, has_text=False), [], {})
    for stored, token in ({}, "f"), ({5: {3: 1.0}}, "g"):  # of the sampled firings, and of those that are shown
        senses = senses_of({5: [{**of_like, "rows": [0, 1]}, {**of_x, "rows": [2]}]}, [], contexts, stored)
        assert [one["tokens"] for one in senses[5]] == [[0, 1, 2, 3, 4, 5, 6], [7]]
        first, _ = senses_in_segments(senses, read)[5]
        assert json.loads(first["rule"])[0]["groups"][0][1][0] == [token] and "fires_on" not in first


def test_no_sense_is_described_by_its_own_token_around_it():
    store = SimpleNamespace(tokens=torch.tensor([[0, 1, 2, 3]]), vocab=[" arg", " t", " a", "."], n_ctx=4)
    contexts = SimpleNamespace(features=store, examples=lambda kinds, latents, rows: [])
    near, of_arg, of_a = an_atom("around", " arg"), an_atom("token", " arg"), an_atom("token", " a")
    described = {"share": 0.3, "rule": near.words, "rule_json": "", **sharing(near, of_a)}
    senses = [described | {"rows": rows} for rows in ([0, 0, 1], [0, 1, 1], [1, 2])]
    own, other, around = senses_of({5: senses}, [], contexts)[5]
    assert (own["rule"], own["common"]) == (of_arg, [of_a, of_arg])
    assert other["common"] == [of_a, near], "it comes last"
    assert (around["rule"], around["common"]) == (near, [near, of_a])


def test_the_tokens_that_its_rule_names_tell_a_sense_even_if_another_was_seen_to_fire_on_them():
    store = SimpleNamespace(tokens=torch.tensor([[0, 1, 2, 3]]), vocab=["ble", " t", " a", " b"])
    contexts = SimpleNamespace(features=store, examples=lambda kinds, latents, rows: [])
    mixed = {"share": 0.4, **ruled(a_rule(token=["ble", " t"], label=["verse"])), "f1": 0.9, "rows": [2, 2, 0]}
    second = {"share": 0.6, "f1": 0.9, "rows": [2, 3]}
    a_or_word = a_rule(shape=[(Token(" a"),), "numbers"])
    for rule, tokens in (a_rule(token=[" a"]), [2]), (a_rule(token=[" a", " t"]), [2]), (a_or_word, [2, 3]):
        first, other = senses_of({5: [second | ruled(rule), mixed]}, [], contexts)[5]
        assert first["tokens"] == tokens and (first["named"] is None) == (rule is a_or_word)
        is_named_twice = " t" in rule[0].tokens
        assert other["tokens"] == ([0] if is_named_twice else [0, 1]), "a token that two rules name tells neither"
    weak = mixed | {"f1": 0.1}
    first, other = senses_of({5: [second | ruled(a_rule(token=[" a"])), weak]}, [], contexts)[5]
    assert (first["tokens"], other["tokens"], other["named"]) == ([2], [0], None)


def test_a_sense_with_the_rule_of_its_latent_has_the_f1_of_that_if_it_has_one_meaning():
    senses = [[{"rule": "b", "f1": 0.2, "share": 0.1}, {"rule": "a", "f1": 0.7, "share": 0.9}]] * 2
    verdicts = {"verdict": ["single-token", "polysemantic"], "explanation": "a", "explanation_f1": 0.98}
    of_one, of_several = senses_in(pd.DataFrame({**verdicts, "senses": senses})).values()
    assert [(one["rule"], one["f1"]) for one in of_one] == [("a", 0.98), ("b", 0.2)]
    assert [(one["rule"], one["f1"]) for one in of_several] == [("a", 0.7), ("b", 0.2)]


def test_a_page_with_senses_says_what_is_of_none_and_shows_it_in_grey(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    bar = "document.querySelector('.tokenbars li i')"
    colour = f"getComputedStyle({bar}).backgroundImage.match(/rgb.*?[)]/)[0]"
    of_sense = browser.evaluate(colour)
    grey = browser.evaluate(f"(delete document.querySelector('.tokenbars li').dataset.sense, {colour})")
    browser.open(f"{address}#feature/{OTHER}")
    blue = browser.evaluate(colour)
    assert len({of_sense, grey, blue}) > 1 and grey not in (of_sense, blue)


def test_senses_are_listed_in_their_order_whichever_fires_strongest_and_each_share_says_of_what_it_is(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    listed = f"""report.loadFeature({SPLIT}).then((feature) => {{
        const ofStrength = (examples, x) => examples.map(([kind, row, at, , ...more]) => [kind, row, at, x, ...more]);
        const examples = ofStrength(feature.examples, 0.1);
        const senses = feature.senses.map((one, k) => ({{ ...one, examples: ofStrength(one.examples, 1 + k) }}));
        const made = {{ ...feature, examples, senses }};
        const {{ strengths, fires }} = report.firingsRegion({SPLIT}, made, () => null);
        return [Array.from(fires.querySelectorAll("#panel-0 h3 > span > .sense"), (e) => e.textContent),
            strengths.querySelector("figure, svg").textContent,
            Array.from(fires.querySelectorAll(".tab [data-tip]:not(.sense)"), (e) => e.dataset.tip)];
    }})"""
    order, histogram, tips = browser.evaluate(listed)
    assert order[:2] == ["A", "B"]
    assert "grey: tells no sense" in histogram
    assert tips and all("activation" in tip for tip in tips)


@pytest.mark.parametrize("width", [390, 1440])
def test_a_space_in_the_name_of_a_sense_stays_in_its_line(browser, address, width):
    """In a tab. Below a label, a title tells each sense in a line of its own on a phone, and all in one elsewhere."""
    browser.size(width, 844)
    browser.open(f"{address}#feature/{SPLIT}")
    pieces = browser.evaluate(f"""report.loadFeature({SPLIT}).then((feature) => {{
        const rule = [[" x⟨d7⟩", [" x", ["א–ת…", "the first byte of another Hebrew letter"]]]];
        const senses = feature.senses.map((one) => ({{ ...one, holds: true, rule, short: rule }}));
        const element = report.firingsRegion({SPLIT}, {{ ...feature, senses }}, () => null).fires;
        document.querySelector("#feature .fires").replaceWith(element);
        return Array.from(element.querySelectorAll(".tab .named .token"), (e) => e.getClientRects().length);
    }})""")
    assert pieces == [1, 1]
    browser.evaluate(f"report.setNote({SPLIT}, {{ label: 'two things' }})")
    browser.open(f"{address}#feature/{OTHER}")
    browser.open(f"{address}#feature/{SPLIT}")
    tops = browser.evaluate("Array.from(document.querySelectorAll('.title .of-lead'), (e) => e.offsetTop)")
    sides = browser.evaluate(
        "Array.from(document.querySelectorAll('.title .sense'), (e) => e.getBoundingClientRect().right)"
    )
    browser.evaluate(f"report.setNote({SPLIT}, {{ label: '' }})")
    assert len(tops) == len(sides) == 2 and (
        tops[0] < tops[1] and max(sides) < 390 if width == 390 else tops[0] == tops[1]
    )


def test_one_sentence_tells_that_the_predictions_change_and_the_loss_does_not(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    effects = "{ beyond_null: [0.01, LOW, 0.1], kl: [0.3, 0.2, 0.4], null_kl: [NULL, 0, 1], sequences: 8 }"
    feature = f"{{ ...feature, effects: {{ likelier: [], less_likely: [], ...{effects} }} }}"
    drawn = f"report.h('div', null, report.consequences({feature}))"
    made = f"report.loadFeature({SPLIT}).then((feature) => {drawn}.querySelector('.why')?.textContent)"
    told = browser.evaluate(made.replace("LOW", "-0.1").replace("NULL", "0.1"))
    assert told == "Without it the predictions change more than with its null, but not the loss."
    for low, null in (("-0.1", "0.3"), ("0.005", "0.1")):
        assert browser.evaluate(made.replace("LOW", low).replace("NULL", null)) is None, "what its row says is enough"


def test_the_three_answers_stand_with_their_numbers_in_rows_of_one_form(browser, address):
    browser.open(f"{address}#overview")
    known = "{ learnt: 0.2, monosemanticity: 0.6, monosemanticity_low: 0.4, monosemanticity_high: 0.8 }"
    browser.evaluate(
        f"Object.entries({known}).forEach(([name, x]) => {{ (report.columns[name] ??= [])[{OTHER}] = x; }})"
    )
    browser.evaluate(f"location.hash = '#feature/{OTHER}'")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{OTHER}'")
    cells = "Array.from(e.cells, (cell) => cell.textContent).filter(Boolean)"
    told = browser.evaluate(f"Array.from(document.querySelectorAll('.side .effects tr'), (e) => {cells})")
    assert told == [["One meaning", "0.60", "likelier yes"], ["Learnt", "0.20", "no"]], "it was not ablated"
    assert browser.text(".verdict-words") == [], "of a verdict by this probability the row says enough"
    assert browser.evaluate("document.querySelector('.side .effects .range').style.getPropertyValue('--low')") == "0.4"
    effects = "{ likelier: [], less_likely: [], beyond_null: [0.41, -0.017, 0.83], sequences: 8 }"
    browser.open(f"{address}#feature/20")
    assert browser.text(".verdict-words")[0].startswith("single-token: almost all of its activation")
    row = f"Array.from(report.effectRow({{ effects: {effects} }}).cells, (cell) => cell.textContent).filter(Boolean)"
    assert browser.evaluate(row) == ["Effect", "+0.41", "none seen"]


def test_no_effect_is_seen_wherever_the_interval_includes_0_which_its_tip_says(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    answers = "[[0.2, 0.4], [-0.2, -0.1], [-0.01, 0.02], [-4, 3]].map(([low, high]) =>"
    answers += " report.h('p', null, report.effectAnswer(low, high)))"
    assert browser.evaluate(f"{answers}.map((e) => e.textContent)") == ["yes", "loss falls", "none seen", "none seen"]
    tip = browser.evaluate(f"{answers}[2].querySelector('.term').dataset.tip")
    assert tip == "Its 95 % interval, −0.010 to 0.020 nats, includes 0."


def test_a_label_that_has_most_firings_is_told_to_have_few_of_its_tokens_fired_on(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    said = "report.labelsElement([['prose', 0.88, 0.012, 0.9, 0.006, 0.1]]).textContent"
    assert browser.evaluate(said) == (
        "No label predicts its firings. The best, prose, has 88 % of them, but it fires on 0.60 % of the tokens there: "
        "F1 0.01."
    )


def test_a_feature_of_one_meaning_says_what_its_senses_are(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    said = f"""(async () => {{{{
        report.columns.monosemanticity[{SPLIT}] = {{}};
        const section = report.h("div");
        await report.feature.show(section, "{SPLIT}");
        return section.querySelector(".name").textContent;
    }}}})()"""
    assert browser.evaluate(said.format(0.4)).endswith("2 senses")
    browser.evaluate(f"report.columns.sure[{SPLIT}] = false")
    assert browser.evaluate(said.format(0.6)).endswith("2 senses, perhaps parts of one meaning"), "it is unsure"
    browser.evaluate(f"report.columns.sure[{SPLIT}] = true")
    assert browser.evaluate(said.format(0.6)).endswith("2 senses, more likely parts of one meaning")


def test_each_strength_lists_its_firings_from_the_strongest(browser, address):
    browser.open(f"{address}#feature/3")
    browser.click("#tab-1")
    values = browser.evaluate(
        "Array.from(document.querySelectorAll('#panel-1 ol'), (ol) =>"
        " Array.from(ol.querySelectorAll('.value'), (e) => Number(e.textContent)))"
    )
    assert len(values) > 1 and all(some == sorted(some, reverse=True) for some in values)


def test_an_effect_stands_on_a_linear_scale_with_its_ends(browser, address):
    browser.open(f"{address}#feature/3")
    for effect, zero, at, labels in (
        ([0.5, 0.25, 1], 0, 0.5, [None, "0", "1"]),
        ([0.5, -1, 1], 0.5, 0.75, ["0", "−1", "1"]),
    ):
        gauge = f"report.gauge({json.dumps(effect)}, [null, null, null], null, true)"
        places = (
            f"Array.from({gauge}.querySelectorAll('.zero, .point'), (e) => Number(e.style.getPropertyValue('--at')))"
        )
        assert browser.evaluate(places) == [zero, at]
        told = f"Array.from({gauge}.querySelectorAll('.zero, .end'), (e) => e.dataset.label ?? null)"
        assert browser.evaluate(told) == labels, "0 is told once"


def test_an_effect_stands_in_the_head_of_each_feature_that_was_ablated(browser, address):
    browser.open(f"{address}#feature/3")
    for latent, effect, said in ((2, [0.01, -0.1, 0.2], "effect none seen"), (3, [-0.02, -0.03, -0.01], "−0.020 nats")):
        names = zip(("effect", "effect_low", "effect_high"), effect, strict=True)
        put = "; ".join(f"report.columns.{name}[{latent}] = {value}" for name, value in names)
        browser.evaluate(
            f"{put}; location.hash = '#feature/{latent}';"
            f" report.feature.show(document.getElementById('feature'), '{latent}')"
        )
        assert said in browser.text("#feature .name")[0]
    made = "report.effectRow({ effects: { beyond_null: [-0.02, -0.03, -0.01] } })"
    assert browser.evaluate(f"{made}.querySelector('td b').textContent") == "loss falls", (
        "which is no lack of an effect"
    )


def test_the_head_has_the_density_of_a_feature_that_fires(browser, address):
    browser.open(f"{address}#feature/3")
    assert re.fullmatch(r"density [\d.]+ %", browser.text("#feature .name .density")[0])
    dead = "report.loadFeature(3).then(({ facts }) => Object.assign(facts, { n_active: 0, density: null }))"
    browser.evaluate(f"{dead}.then(() => report.feature.show(document.getElementById('feature'), '3'))")
    browser.wait("document.querySelector('#feature .missing')?.textContent.startsWith('This feature fired on none')")
    assert browser.text("#feature .name .density") == []


def test_the_lead_uses_a_label_instead_of_a_rule_if_it_fits_better(browser, address):
    browser.open(f"{address}#feature/2")
    assert browser.text("#feature .lead dt") == ["Points like"], "no token is raised more than by chance"
    near = browser.evaluate("report.loadFeature(2).then(({ neighbours }) => neighbours)")
    linked = browser.evaluate("Array.from(document.querySelectorAll('.lead a'), (e) => e.getAttribute('href'))")
    close = [(other, cosine) for other, cosine in near if cosine >= 0.5][:3]
    assert close and linked == [*(f"#feature/{other}" for other, _ in close), "#map/2"]
    assert browser.text("#feature .near small") == [f"cosine {cosine:.2f}" for _, cosine in close]
    far = "report.nearby(2, { neighbours: [[3, 0.4]], coactivations: [[4, 0.1, 1], [5, 0.6, 1]] })"
    lines = browser.evaluate(f"{far}.map(([name, said]) => [name, report.h('p', null, said).textContent])")
    assert [name for name, _ in lines] == ["Fires with"], "no neighbour is close"
    assert re.match(r"5Jaccard 0\.60.*4Jaccard 0\.10.*on the map", lines[0][1]), "the highest Jaccard first"
    both = "report.nearby(2, { neighbours: [[5, 0.7]], coactivations: [[5, 0.6, 1]] })"
    once = browser.evaluate(f"{both}.map(([, [near]]) => near.querySelector('small').textContent)")
    assert once == ["Jaccard 0.60, cosine 0.70"], "one that fires with it and points like it stands once"
    some = [[[k, 0.9 - k / 100, 1] for k in range(first, first + 4)] for first in (3, 8)]
    many = f"report.nearby(2, {{ neighbours: {some[0]}, coactivations: {some[1]} }})"
    numbers = browser.evaluate(f"{many}.map(([, near]) => near.filter((e) => e.matches('.near')).length)")
    assert numbers == [3, 1], "as many as have room in a line"
    assert browser.text("#feature .title") == ['tokens after " return" or " +" rough, F1 0.50']
    browser.open(f"{address}#feature/3")
    f1 = browser.evaluate("report.columns.label_f1[3]")
    lead = '"returned" rough, F1 0.50'
    assert f1 > 0.5 and browser.text("#feature .title") == [f"python F1 {f1:.2f}"]
    assert browser.text("#feature .lead dd")[0] == lead
    browser.evaluate("location.hash = '#compare/3/2'")
    browser.wait("document.querySelectorAll('#compare .lead').length === 2")
    assert browser.text("#compare .lead dd")[0] == lead, "beside another too"
    brief = "report.h('p', null, report.labelOrCaption({}, true)).textContent"
    assert browser.evaluate(brief.format(3)) == f"python F1 {f1:.2f}"
    assert browser.evaluate(brief.format(4)).startswith('"')


def test_an_example_is_marked_with_the_only_sense_that_fires_on_its_token(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    senses = browser.evaluate(
        f"report.loadFeature({SPLIT}).then(({{ senses }}) => senses.map(({{ tokens }}) => tokens))"
    )
    token = "report.tokensOfSequence(Math.floor(e.dataset.row / 16))[e.dataset.row % 16]"
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
    ringed = browser.evaluate("Array.from(document.querySelectorAll('#panel-1 .example'), (e) => e.dataset.sense)")
    assert ["AB"[int(k)] if k else "" for k in ringed] == named, "their rings have the colour of the sense"


def test_the_tab_of_a_sense_shows_the_tokens_around_its_own_firings(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    senses, tokens = browser.evaluate(f"report.loadFeature({SPLIT}).then((one) => [one.sense_tokens, one.tokens])")
    numbers = "Array.from(document.querySelectorAll('.around .muted'), (e) => Number(e.textContent))"
    around = [n for offset, _, n in tokens if offset]
    assert browser.evaluate(numbers) == around
    browser.click("#tab-2")
    assert browser.evaluate(numbers) == [n for *_, n in senses[0]] != around
    browser.click("#tab-0")
    assert browser.evaluate(numbers) == around


def test_senses_are_tabs_beside_the_strongest_firings_and_a_weak_rule_says_so(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    rows = "Array.from(document.querySelectorAll('.example'), (e) => e.checkVisibility() && e.dataset.row)"
    visible = f"{rows}.filter(Boolean)"
    assert browser.text("[role=tab]") == ["Strongest", "Each strength", "A\u00a0a rule that holds 70 %", "B\u00a0 30 %"]
    browser.click("#panel-0 .alike")
    strongest = browser.evaluate(visible)
    assert len(strongest) > 3 and int(strongest[0]) == (N_SEQ - 1) * N_CTX + SPLIT
    assert browser.text(".title .of-lead") == [
        "A\u00a0a rule that holds\u00a070 % of activation, F1 0.80",
        "B\u00a0most strongly the last byte of the Hebrew letter ל\u00a030 % of activation",  # after the part itself
    ]
    of_three = f"""report.loadFeature({SPLIT}).then((feature) => {{
        const senses = [...feature.senses, feature.senses[0]];
        const element = report.firingsRegion({SPLIT}, {{ ...feature, senses }}, () => null).fires;
        return element.querySelectorAll(".tab .named").length;
    }})"""
    assert browser.evaluate(of_three) == 2, "but for the one without a rule"
    browser.evaluate("document.querySelectorAll('.tab .named').forEach((e) => { e.textContent = 'long '.repeat(40); })")
    side = "document.querySelector('{}').getBoundingClientRect()"
    assert browser.evaluate(f"{side.format('.tabs')}.right <= {side.format('.choices')}.left"), "beside the buttons"
    assert browser.evaluate(f"{side.format('.tabs')}.height < 50")
    browser.open(f"{address}#feature/{SPLIT}")
    browser.click("#tab-2")
    assert browser.evaluate(visible)[:2] == ["26", "10"], "the strongest first"
    assert browser.evaluate("document.querySelector('#panel-2 .rule').textContent") == "a rule that holds"
    browser.press("ArrowRight")
    assert browser.evaluate("[location.hash, document.activeElement.id]") == [f"#feature/{SPLIT}", "tab-3"]
    assert browser.text("#panel-3 .rule .weak") == ["No reliable rule was found; the nearest is a rule that does not"]
    hue = "getComputedStyle(document.querySelector('#panel-{} .rule > *')).color"
    assert browser.evaluate(hue.format(3)) != browser.evaluate(hue.format(2))


def test_feature_page_loads_its_neighbours_ahead(browser, address):
    browser.open(f"{address}#features")
    order = browser.evaluate("Array.from({ length: 30 }, (_, j) => report.neighbour(j, 1) ?? -1)")
    latent = next(j for j, after in enumerate(order) if after >= 0 and after // 8 != j // 8)
    browser.open(f"{address}#feature/{latent}")
    browser.wait(f"Boolean(document.querySelector('script[src$=\"features-{order[latent] // 8:04d}.js\"]'))")
    assert not browser.complaints


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


def test_a_title_has_two_lines_at_most(browser, address):
    browser.open(f"{address}#feature/2")
    cut = """(() => {
        const { style } = document.querySelector("#feature .title");
        style.width = "20rem";
        document.querySelector("#feature .title > div").replaceChildren("word ".repeat(99));
        return document.querySelector("#feature .title").offsetHeight / parseFloat(getComputedStyle(
            document.querySelector("#feature .title")).lineHeight);
    })()"""
    assert browser.evaluate(cut) < 2.5


def test_firings_close_to_each_other_in_one_text_are_one_example(browser, address):
    browser.open(f"{address}#feature/3")
    rows = "[[40, 3], [44, 2], [57, 1]].map(([row, value]) => [-1, row, null, value, []])"
    alike = f"report.loadSequences([0, 1, 2, 3]).then(() => report.groupExamples({rows}).alike)"
    folded = f"{alike}.then((all) => [...all].map(([one, others]) => [one[1], others.map(([, row]) => row)]))"
    assert browser.evaluate(folded) == [[40, [44]], [57, []]]


def test_firings_at_the_start_of_a_sequence_are_alike_if_the_same_tokens_follow(browser, address):
    browser.open(f"{address}#feature/3")
    passages = "[0, 3, 6].map((row) => report.passageOf([-1, row, null, 1, []]))"
    first, fourth, later = browser.evaluate(f"report.loadSequences([0]).then(() => {passages})")
    tokens = browser.evaluate("Array.from(report.tokensOfSequence(0), String)")
    assert first.split(" ") == fourth.split(" ") == tokens[:4], "one token alone tells none from another"
    assert later.split(" ") == tokens[3:7]


def test_an_effect_on_a_token_stands_first_if_it_is_more_than_chance_or_the_token_common_after_it(browser, address):
    browser.open(f"{address}#feature/{OTHER}")
    told = """report.loadFeature(2).then((feature) => {
        const [top, bottom] = [[[3, 5], [4, 0.5], [5, 0.4]], [[6, -4]]];
        const logits = { counts: [0, 10, 30, 30, 10, 0, 0, 0, 0, 1], top, bottom };
        const after = { ...feature, logits, tokens: [[1, 5, 9], [0, 4, 9]] };
        const rows = report.h("div", null, report.logitsElement(after));
        return [[...top, ...bottom].map(report.isBeyondChance(after)), rows.querySelectorAll(".positive th").length,
            report.raisedTokens(after).length, rows.querySelector(".negative td").textContent];
    })"""
    assert browser.evaluate(told) == [[True, False, True, False], 2, 2, "none beyond chance"]


def test_bars_of_tokens_are_shares_of_all_firings(browser, address):
    browser.open(f"{address}#feature/{OTHER}")
    bars = "Array.from(document.querySelectorAll('.tokenbars li'), {})"
    shares = browser.evaluate(bars.format("(e) => Number(e.style.getPropertyValue('--share'))"))
    written = browser.evaluate(bars.format("(e) => parseFloat(e.querySelector('button > :last-child').textContent)"))
    assert shares and [100 * share for share in shares] == pytest.approx(written, rel=0.05)


def test_tokens_that_share_the_firings_evenly_have_no_bars(browser, address):
    browser.open(f"{address}#feature/3")
    bars = """report.loadFeature(3).then((feature) => {{
        const tokens = Array.from({{ length: 9 }}, (_, k) => [0, k + 1, {} - k]);
        Object.assign(feature, {{ tokens }}).facts.n_active = 100;
        const bars = report.firingsRegion(3, feature, () => null).strengths.querySelector(".tokenbars");
        document.querySelector(".tokenbars").replaceWith(bars);
        const shown = Array.from(bars.querySelectorAll("li i"), (e) => e.checkVisibility());
        return [bars.lastChild.textContent, ...new Set(shown)];
    }})"""
    said, is_drawn = browser.evaluate(bars.format(6))
    assert said.startswith("at most 6.0 % of its firings on each") and is_drawn is False
    tokens = browser.text(".tokenbars .token")
    assert tokens[:2] == [" return", " +"], "though pressed as the bars are"
    assert browser.evaluate("document.querySelector('.tokenbars .space').checkVisibility()")
    said, is_drawn = browser.evaluate(bars.format(30))
    assert said.startswith("share of its firings on each token") and is_drawn is True


def test_parts_of_characters_are_no_logits_of_a_feature_with_none_around_its_firings(browser, address):
    browser.open(f"{address}#feature/{OTHER}")
    browser.evaluate("report.vocabulary.splice(0, 9, '⟨88⟩', 'a', 'b', ' ⟨e4⟩', 'c', 'd', 'e', 'f', 'g')")
    browser.evaluate("report.readings['⟨88⟩'] = [[null, [['…88', 'a later byte of a character']]]]")

    def listed(top: list[list[int]], script: str) -> list[str]:
        effects = f"{{ logits: {{ top: {top}, bottom: [[2, -1]], counts: [1, 1] }}, tokens: [], script: {script} }}"
        drawn = f"report.h('div', null, report.logitsElement({effects}))"
        return browser.evaluate(f"""new Promise((done) => {{
            const drawn = {drawn}, fold = drawn.querySelector("details");
            const told = ".positive th, .mark, .below";
            const read = () => done(Array.from(drawn.querySelectorAll(told), (e) => e.textContent));
            fold.addEventListener("toggle", read);
            fold.open = true;
        }})""")

    top = [[0, 9], [1, 8], [2, 7], [4, 6], [5, 5], [6, 4], [7, 3], [8, 2]]
    browser.evaluate("report.page.largest_by_chance = -1")
    without = listed(top, "null")
    assert "".join(without[:7]) == "abcdefg" and not any("88" in each for each in without), "nor in the picture"
    assert without[-1] == "Left out: parts of characters (1), as its firings have none around."
    assert listed(top, "'Han character'")[0] == "⟨88⟩", "its firings have parts of characters"
    assert listed(top[:1], "null")[0] == "⟨88⟩", "there is nothing else"


def test_logit_effects_are_spread_over_the_vocabulary_with_the_outermost_tokens_named(browser, address):
    browser.open(f"{address}#feature/3")
    browser.unfold()
    spread = "document.querySelector('svg[aria-label*=vocabulary]')"
    counts = f"Array.from({spread}.querySelectorAll('.bin'), (bin) => parseInt(bin.dataset.tip.split(': ')[1]))"
    assert sum(browser.evaluate(counts)) == len(VOCAB)
    outermost = browser.text(".logits.positive tbody th")[0].strip()
    browser.evaluate("document.querySelector('.logits th').append(report.h('span.byte', null, '⟨b6⟩'))")
    widths = "Array.from(document.querySelectorAll('.block .pair .bar'), (e) => Math.round(e.clientWidth))"
    assert len(set(browser.evaluate(widths))) == 1, "both tables have one scale"
    marks = browser.evaluate(f"Array.from({spread}.querySelectorAll('.mark'), (e) => e.textContent)")
    assert len(marks) == 6 and marks[-1].strip("␣") == {"\n": "↵", "\t": "⇥"}.get(outermost, outermost)


def test_the_whole_map_is_fitted_again_as_the_window_changes_and_comes_below_its_controls_on_a_phone(browser, address):
    whole = """report.loadData("map").then(({ x, y }) => {
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
    assert tops == sorted(tops) and browser.evaluate("document.querySelector('.mapped details').open")
    assert browser.evaluate(top.format(".listed li")) < 844, "the list begins in the first window"


def test_a_feature_is_printed_on_two_pages(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    printed = base64.b64decode(browser.send("Page.printToPDF", printBackground=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 2


def test_the_kind_of_most_firings_is_told_from_that_of_the_strongest(browser, address):
    browser.open(f"{address}#feature/3")
    put = """(async (strongest) => {
        const chunk = await report.loadChunk(0);
        const sets = report.page.label_sets;
        const [prose, own] = [["prose"], strongest].map((set) => sets.push(set) - 1);
        chunk.labels[3] = [["verse", 0.1, 0.2, 0.1, 0.1, 0], ["prose", 0.8, 0.9, 0.9, 0.9, 0]];
        const [, , ofExamples, values] = chunk.examples[3];
        const last = [...values].sort((a, b) => b - a)[7];
        values.forEach((value, k) => { ofExamples[k] = value >= last ? own : prose; });
        await report.feature.show(document.getElementById("feature"), "3");
    })(%s)"""
    for strongest, said in (
        (["prose"], "80 % of its firings in prose"),
        (["verse", "url"], "80 % of its firings in prose, but most of its strongest in verse"),
        ([], "80 % of its firings in prose, but few of its strongest"),
    ):
        browser.evaluate(put % json.dumps(strongest))
        assert browser.text("header.feature .name span:not([class])")[-1] == said
