"""How the text of rules and examples is drawn and copied, tried in Chromium."""

import json
import re

from interp.display.segments import name_of_letter
from interp.report.byte_words import readings
from tests.report.planted_page import (
    N_SEQ,
    SPLIT,
)


def test_spaces_in_the_quotes_of_a_rule_are_drawn_and_stay_spaces(browser, address):
    browser.open(f"{address}#feature/2")
    spaces = "document.querySelectorAll('.title .quoting .space')"
    drawn = f"Array.from({spaces}, (e) => getComputedStyle(e, '::before').content)"
    assert browser.evaluate(drawn) == ['"␣"'] * 2 and 'after " return" or " +"' in browser.text(".title .quoting")[0]
    browser.open(f"{address}#features?q=rule:return")
    assert 'after " return" or " +"' in browser.text("tr[data-latent='2'] .explanation")[0]
    assert browser.text("tr[data-latent='2'] .quoting mark") == ["return"]


def test_a_run_of_white_space_is_one_numbered_sign_and_is_copied_unchanged(browser, address):
    browser.open(f"{address}#feature/2")
    put = "document.querySelector('#feature .title').replaceChildren({}); document.querySelector('#feature .title')"
    signs = ".querySelectorAll('#feature .title .run')].map((e) => getComputedStyle(e, '::before').content)"
    blank, latex = "\n" + 7 * " ", r"\nabla"
    rule = json.dumps([[blank], ", ", [latex], " or ", ["   "]])
    copied = browser.evaluate(f"{put.format(f'report.ruleElement({rule})')}.textContent")
    assert copied == f'"{blank}", "{latex}" or "   "'
    drawn = ['"↵"', '"␣×7"', '"␣×3"']
    assert browser.evaluate("[...document" + signs) == drawn, "a command of LaTeX is no line end"
    two = put.format('report.ruleElement([["\\n\\n   "]])')
    assert browser.evaluate(f"{two} && [...document{signs}") == ['"↵↵"', '"␣×3"'], "as in a text"
    browser.evaluate(f"void {put.format(f'report.ruleElement({rule})')}")
    blanks = "Array.from(document.querySelectorAll('#feature .title .blank'), (e) =>"
    quotes = "[e.previousElementSibling, e.nextElementSibling].map((one) => getComputedStyle(one).fontSize)"
    assert browser.evaluate(f"{blanks} [e.textContent, ...{quotes}])") == [
        [blank, "0px", "0px"],
        ["   ", "0px", "0px"],
    ], "white space alone has its quotes only in what is copied"
    rule = json.dumps(["tokens like ", ['":'], ", ", ['",'], " or ", ["s"], " after ", [' "']])
    copied = browser.evaluate(f"{put.format(f'report.ruleElement({rule})')}.innerText")
    assert copied == 'tokens like "":", ""," or "s" after " ""'
    assert browser.text("#feature .title .token") == ['":', '",', ' "'], "what has quotes itself stands in a box"
    token = "x\n\n\n\n" + 12 * " " + "x  y"
    browser.evaluate(put.format(f"report.h('span.token', null, report.visible({json.dumps(token)}))"))
    assert browser.evaluate("[...document" + signs) == ['"↵×4"', '"␣×12"']
    browser.evaluate("getSelection().selectAllChildren(document.querySelector('#feature .title'))")
    assert browser.evaluate("getSelection().toString()") == token
    assert browser.evaluate("document.querySelector('#feature .title').getBoundingClientRect().height") < 40


def test_shading_separates_strong_from_weak_activations_on_a_dark_screen(browser, address):
    browser.size(1400, 900, dark=True)
    browser.open(f"{address}#feature/3")
    token = "(at, k) => report.h(k > 4 ? 'span.token.on.firing' : 'span.token.on', {'--shade': at}, 'x')"
    strengths = f"[0.1, 0.3, 0.5, 0.7, 0.9, 0.9].map({token})"
    browser.evaluate(f"document.querySelector('.example .text').replaceChildren(...{strengths})")
    colours = browser.evaluate(
        "Array.from(document.querySelectorAll('.example:first-child .on'), (e) => getComputedStyle(e).backgroundColor)"
    )
    depths = [float(re.findall(r"[\d.]+", colour)[3]) for colour in colours]
    steps = [more - less for less, more in zip(depths[:-1], depths[1:], strict=True)]
    assert 0.28 < depths[0] < 0.32 and min(steps[:4]) > 0.05 and steps[1] > 0.4, (
        "the peaks stand out, the weak ones are seen"
    )
    assert steps[4] == 0, "the ring tells the firing token, not another shade"
    assert browser.faint() == []


def test_letters_that_look_latin_name_their_script_and_stray_bytes_their_characters(browser, address):
    browser.open_once(address)
    script = "Array.from(%s.querySelectorAll('[data-script]'), (e) => e.dataset.script)"
    rule = json.dumps([["в"], ", ", ["β"], " or ", ["ا"]])
    assert browser.evaluate(script % f"report.ruleElement({rule})") == ["Cyrillic", "Arabic alef"]
    assert browser.evaluate("report.tokenElement(' в').dataset.script") == "Cyrillic"
    letters = [
        chr(code)
        for code in (*range(0x5D0, 0x5EB), *range(0x621, 0x63B), *range(0x641, 0x653))
        if name_of_letter(chr(code))
    ]
    assert browser.evaluate(f"{json.dumps(letters)}.map(report.scriptOf)") == [name_of_letter(one) for one in letters]
    signs = "[' ', ' a'].map((token) => report.tokenElement(token).querySelectorAll('.run.space').length)"
    assert browser.evaluate(signs) == [1, 0], "a space alone has a sign of its own"
    assert browser.evaluate("report.tokenElement('\\u0651').dataset.script") == "shadda"


def test_parts_of_characters_are_drawn_as_python_tells_them_and_copied_as_their_bytes(browser, address):
    browser.open(f"{address}#feature/3")
    vocab = [" ⟨88⟩", "⟨95⟩⟨88⟩⟨e6⟩", "מ⟨d7⟩", "⟨a9⟩⟨d7⟩"]
    characters = {" ⟨88⟩": (["么 览 …", "ш"], []), "⟨95⟩⟨88⟩⟨e6⟩": (["授"], ["来 提 …"]), "⟨a9⟩⟨d7⟩": (["ש"], [])}
    told = json.dumps(readings(vocab, characters))
    browser.evaluate(f"void Object.assign(report.readings, {told})")
    drawn = "(e) => Array.from(e.querySelectorAll('.byte'), (one) => one.dataset.known)"
    for token, script, direction, labels, said in (
        (" ⟨88⟩", None, "ltr", ["…么 览"], "⟨88⟩: a later byte of 么, 览 …"),
        (" ⟨88⟩", "Cyrillic letter", "ltr", ["…ш"], "⟨88⟩: the last byte of the Cyrillic letter ш"),
        (" ⟨88⟩", "Hebrew letter", "ltr", ["…么 览"], "⟨88⟩: a later byte of 么, 览 …"),  # not seen so
        ("⟨95⟩⟨88⟩⟨e6⟩", None, "ltr", ["…授", "来 提…"],
         "⟨95⟩⟨88⟩ ⟨e6⟩: two later bytes of 授 and the first byte of 来, 提 …"),
        ("מ⟨d7⟩", None, "rtl", ["א–ת…"], "⟨d7⟩: the first byte of a Hebrew letter"),
        ("⟨a9⟩⟨d7⟩", None, "rtl", ["…ש", "א–ת…"],
         "⟨a9⟩ ⟨d7⟩: a later byte of the Hebrew letter ש and the first byte of a Hebrew letter"),
    ):  # fmt: skip
        made = f"report.tokenElement({json.dumps(token)}, {json.dumps(script)})"
        assert browser.evaluate(f"({drawn})({made})") == labels
        assert browser.evaluate(f"{made}.dataset.tip") == said and browser.evaluate(f"{made}.dir") == direction
        assert browser.evaluate(f"{made}.textContent") == token
        parts = f"report.partsOf({json.dumps(token)}, {json.dumps(script)})"
        plain = browser.evaluate(f"report.partsInLetters({json.dumps(token)}, {parts})")
        assert plain == re.sub("(⟨..⟩)+", "".join(f"⟨{label}⟩" for label in labels), token)
    unknown = "report.h('p', null, report.visible('x⟨88⟩⟨9f⟩⟨d7⟩'))"
    assert browser.evaluate(f"({drawn})({unknown})") == ["…88 9f", "d7…"], "of which nothing else is known"
    first, last = "the first byte of a Hebrew letter", "the last byte of ש"
    pieces = ["ק", ["…ש", last], ["א–ת…", first]]
    rule = json.dumps([["ק⟨a9⟩⟨d7⟩", pieces], " or ", ["⟨d7⟩", [["א–ת…", first]]]])
    assert browser.evaluate(f"({drawn})(report.ruleElement({rule}))") == ["…ש", "א–ת…", "א–ת…"], (
        "as its caption has them"
    )
    told = f"((e) => [e.textContent, e.querySelector('.in-words .token').dataset.tip])(report.ruleElement({rule}))"
    assert browser.evaluate(told) == [f"ק with {last} and {first} or {first}", f"⟨a9⟩ ⟨d7⟩: {last} and {first}"]
    browser.size(390, 844)
    tab = f"document.querySelector('#feature').appendChild(report.h('button.tab', null, report.ruleElement({rule})))"
    assert browser.evaluate(f"{tab}.querySelector('.in-words').checkVisibility()"), "on a phone, in a tab"
    browser.size(1400, 900)
    raised = "{ logits: { counts: [], bottom: [], top: [[0, 4], [1, 3], [2, 2], [3, 1]] }, examples: [], tokens: [], "
    raised += "script: 'Han character' }"
    said = f"report.h('p', null, report.raisedTokens({raised})).textContent.trim()"
    alike = browser.evaluate("report.vocabulary.splice(0, 5, '⟨bf⟩', '⟨be⟩', 'a', ' A', '告'); " + said)
    assert alike == "⟨bf⟩ ⟨be⟩ a", "bytes that differ are told apart, letters that differ in case are not"


def test_each_line_of_an_example_keeps_its_own_direction(browser, address):
    browser.open(f"{address}#feature/3")
    one = r"report.ruleElement(['after ', ['\n ']]).querySelectorAll('.mark.line').length"
    assert browser.evaluate(one) == 1, "a line end before one space is drawn, too"
    tokens = ["in", " Rome", ".\n", "שלום", " לך", "\n", "It", " works", "."]
    put = f"report.vocabulary.splice(0, Infinity, ...{json.dumps(tokens)});"
    put += " document.querySelector('#panel-0').replaceChildren({})"
    lines = "report.plainLine({0}, {1})"
    example = "((line) => report.h('li.example', null, report.h('button.value'), report.h('div.place', null, line)))"
    both = ", ".join(f"{example}({lines.format(*shown)})" for shown in (([*range(9)], 4), ([0, 1], 1)))
    browser.evaluate(put.format(both))
    at = (
        "(text) => { const e = Array.from(document.querySelectorAll('#panel-0 .token'))"
        ".find((e) => e.textContent === text);"
        " return e.getBoundingClientRect().toJSON(); }"
    )
    rome, stop, hello, to_you, works = (
        browser.evaluate(f"({at})({json.dumps(text)})") for text in (" Rome", ".\n", "שלום", " לך", " works")
    )
    assert browser.evaluate("document.querySelector('#panel-0 .line').dir") == "rtl"
    assert stop["left"] >= rome["right"] - 1 > hello["right"], "English before Hebrew: on its right, its full stop last"
    assert works["right"] <= to_you["left"] < hello["left"], "and English after it on its left"
    lefts = browser.evaluate(
        "Array.from(document.querySelectorAll('#panel-0 .firing'), (e) => e.getBoundingClientRect().left)"
    )
    assert max(lefts) - min(lefts) < 1.5, "both ways in one column"
    english, hebrew = [f" word{k}" for k in range(60)], [f" {chr(0x5D0 + k % 20)}{k}" for k in range(4)]
    for before, after in ((english, ["\n", " one"]), ([" one"], ["\n", *english])):
        vocabulary = [*before, "\n", *hebrew, *after]
        firing = len(before) + 2
        line = lines.format(list(range(len(vocabulary))), firing)
        made = f"report.h('li.example', null, report.h('button.value', null), report.h('div.place', null, {line}))"
        browser.evaluate(
            f"report.vocabulary.splice(0, Infinity, ...{json.dumps(vocabulary)});"
            f" document.querySelector('#panel-0').replaceChildren({made})"
        )
        seen = """Array.from(document.querySelectorAll('#panel-0 .token')).filter((e) => {
            const box = e.getBoundingClientRect();
            const within = e.closest('.stretch').getBoundingClientRect();
            return box.right <= within.right + 1 && box.left >= within.left - 1 && box.width;
        }).map((e) => e.textContent)"""
        kept = browser.evaluate(seen)
        assert set(hebrew) <= set(kept) and len(kept) < len(vocabulary), "the line of the firing is whole"
        nearest, farthest = (" word59", " word0") if before is english else (" word0", " word59")
        assert nearest in kept and farthest not in kept, "what is farther from the firing is cut off"
    browser.open(f"{address}#feature/9")
    browser.click(".widths [value=whole]")
    put_bytes = "report.vocabulary.splice(0, 3, '⟨ce⟩', 'a', '⟨b2⟩'); report.plainLine({}, {}).textContent"
    assert browser.evaluate(put_bytes.format("[0, 1, 2, 1, 0]", 1)) == "a⟨b2⟩a", "what the ends cut is left out"
    assert browser.evaluate(put_bytes.format("[0, 1, 0]", 2)) == "a⟨ce⟩", "unless it fires"
    two = """report.vocabulary.splice(0, 3, '⟨d7⟩', '⟨97⟩⟨d7⟩', '⟨9c⟩');
        report.plainLine([0, 1, 2], 1).querySelector('.firing').textContent"""
    assert browser.evaluate(two) == "חל", "a token that ends one character and begins the next marks both"
    bidi = "getComputedStyle(document.querySelector('.text.broken')).unicodeBidi"
    assert browser.evaluate(bidi) == "plaintext"


def test_a_list_is_drawn_in_groups_and_whole_at_a_press(browser, address):
    browser.open(f"{address}#feature/3")
    groups = [["Greek letters", [["ν"], ["β"], ["γ"], ["δ"]], 2], ["", [["x"]], 1]]
    rule = json.dumps(["after ", {"groups": groups, "like": 1}])
    drawn = f"report.h('p', null, report.ruleElement({rule}, {{ isButton: true }}))"
    browser.evaluate(f"document.querySelector('#feature .title').replaceChildren({drawn})")
    assert browser.text("#feature .title p") == ['after Greek letters "ν", "β" +2 or "x"']
    assert browser.evaluate("document.querySelectorAll('.title .of-script [data-script]').length") == 1, (
        "without a name"
    )
    whole = 'after tokens like "ν", "β", "γ", "δ" or "x"'
    assert browser.evaluate("document.querySelector('.title .shortened').title") == whole
    browser.click(".title .shortened button")
    assert browser.text("#feature .title p")[0].replace(" (Greek)", "") == whole


def test_the_strongest_firings_of_each_sense_stand_in_the_order_of_the_senses(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    senses = f"""report.loadFeature({SPLIT}).then(async (feature) => {{
        const some = await report.tellingExamples({SPLIT}, feature, 3);
        return some.map((one) => [report.senseOf(one, feature.senses), report.valueOf(one)]);
    }})"""
    found = browser.evaluate(senses)
    assert [sense for sense, _ in found] == [0, 0, 1] and found[0][1] >= found[1][1]


def test_the_firings_of_a_card_are_on_different_tokens_and_the_strongest_first(browser, address):
    browser.open(f"{address}#feature/3")
    examples = [[-1, row, None, value, []] for row, value in ((7, 4), (5, 9), (21, 8), (37, 7), (3, 2))]
    told = """report.loadFeature(3).then((feature) => report.tellingExamples(3, {{ ...feature, examples: {} }}, {}))
        .then((some) => some.map(([, row]) => row % 16))"""
    assert browser.evaluate(told.format(json.dumps(examples), 3)) == [5, 7, 3], "one on the token of its rule, 3"
    assert browser.evaluate(told.format(json.dumps(examples), 2)) == [5, 3]
    assert browser.evaluate(told.format(json.dumps(examples), 4)) == [5, 5, 7, 3], "and others where too few differ"


def test_a_rule_that_a_line_may_cut_has_a_tip_with_all_of_it(browser, address):
    browser.open_once(address)
    tip = "report.ruleElement({}).getAttribute('title')"
    long = "lower-case tokens in Latin script within 8 tokens after "
    assert browser.evaluate(tip.format(json.dumps([long, ["x"]]))) == f'{long}"x"'
    assert browser.evaluate(tip.format(json.dumps(["tokens after ", ["x"]]))) is None


def test_what_a_feature_fires_with_is_whole(browser, address):
    browser.open(f"{address}#feature/3")
    ends = """(() => {
        const rule = (text) => report.h("span.near", null, report.h("span.rule", null, text));
        const line = report.h("dd", null, rule("short"), rule("some ".repeat(80)));
        const named = report.h("div.nearby", null, report.h("dt", null, "Fires with"), line);
        document.querySelector("#feature").append(report.h("dl.lead", null, named));
        return [line.lastChild.getBoundingClientRect().bottom, line.getBoundingClientRect().bottom,
            line.scrollWidth, line.clientWidth];
    })()"""
    bottom, edge, needed, width = browser.evaluate(ends)
    assert bottom <= edge + 4 and needed <= width


def test_a_token_whose_quotes_would_be_hard_to_tell_stands_in_a_box(browser, address):
    browser.open_once(address)
    boxed = "Array.from(report.ruleElement({}).querySelectorAll('.short.token'), (e) => e.textContent)"
    rule = [["'s"], ", ", ["don't"], ", ", ["a'"], " or ", ['b"']]
    assert browser.evaluate(boxed.format(json.dumps(rule))) == ['b"'], "beside which quotes are hard to tell"


def test_hebrew_reads_from_right_to_left(browser, address):
    browser.open(f"{address}#feature/9")
    browser.click(".widths [value=whole]")
    tokens = "Array.from(document.querySelectorAll('.panel:not([hidden]) .example:first-child .token'),"
    lefts = dict(map(tuple, browser.evaluate(f"{tokens} (e) => [e.textContent, e.getBoundingClientRect().left])")))
    assert lefts["β"] < lefts["ל"] < lefts["ש"]


def test_a_firing_token_is_its_own_element_with_its_space_marked_and_the_rest_is_text(browser, address):
    browser.open(f"{address}#feature/1")
    pieces = browser.text(".example:first-child .text .token")
    assert pieces[:3] == ["<|bos|>", " return", " +returned1231233 a\n"] and pieces[3].startswith("\t"), (
        "a piece a line"
    )
    drawn = "getComputedStyle(document.querySelector('.example .text .firing .space'), '::before').content"
    assert browser.evaluate(drawn) == '"␣"' and len(browser.text(".example:first-child .text .space")) == 1


def test_bytes_of_one_character_are_joined_and_share_the_stronger_shade(browser, address):
    """Tokens 9 and 10 are the two bytes of β, 11 to 13 the four of two letters that share a token, whose firing is one
    box."""
    browser.open(address)
    for latent, shown in ((9, "β"), (11, "ש"), (12, "של"), (13, "ל")):
        browser.go(f"feature/{latent}")
        assert browser.text("#feature .example .firing")[0] == shown
    pieces = browser.evaluate(
        "report.joinBytes(['a⟨d7⟩', '⟨a9⟩⟨d7⟩', '⟨9c⟩b', '⟨ce⟩', 'c', '⟨f0⟩⟨9f⟩', '⟨98⟩', '⟨80⟩', ''])"
    )
    assert [(piece["text"], piece["tokens"]) for piece in pieces] == [
        ("a", [0]), ("ש", [0, 1]), ("ל", [1, 2]), ("b", [2]), ("⟨ce⟩", [3]), ("c", [4]),
        ("\U0001f600", [5, 5, 6, 7]), ("", [8]),
    ]  # fmt: skip


def test_examples_align_their_firing_tokens_and_open_to_the_context(browser, address):
    browser.open(f"{address}#feature/{SPLIT}")
    fired = "document.querySelectorAll('.panel:not([hidden]) [data-sense=\"0\"] .firing')"
    firing = f"Array.from({fired}, (e) => e.getBoundingClientRect())"
    assert len(browser.evaluate(firing)) == 1 and browser.text(".alike") == ["+29 alike", "+9 alike"], "after one text"
    browser.click(".alike")
    assert len(browser.evaluate(firing)) == 30 and browser.text(".alike") == ["fold alike", "+9 alike"]
    browser.click(".alike")
    assert len(browser.evaluate(firing)) == 1 and browser.text(".alike") == ["+29 alike", "+9 alike"]
    browser.click(".alike")
    assert browser.evaluate(f"new Set({firing}.map((b) => b.left)).size") == 1
    assert browser.evaluate(f"{firing}.every((b) => b.height < 30)"), "on one line each"
    places = """((texts) => {
        const elements = texts.map((text) => report.h("span.token", null, text));
        const pieces = texts.map((text) => ({ text }));
        document.getElementById("feature").append(report.textLine(pieces, elements, texts.length - 1, true));
        return elements.map((e) => e.getBoundingClientRect().left);
    })(['a', '  ', 'b'])"""
    left = browser.evaluate(places)
    assert left[0] < left[1], "spaces before a firing stay beside it"
    browser.click(".example .value")
    assert browser.text(".whole .text .token") and browser.text(".whole .about")[0].startswith(
        f"sequence {N_SEQ - 1}, position"
    )
    tokens = browser.evaluate("Array.from(report.tokensOfSequence(report.page.latents - 1), report.word).join('')")
    shown = browser.evaluate("document.querySelector('.whole .text').textContent")
    assert len(shown) > 40 and tokens.startswith("<|bos|> return")
    browser.click(".example .value")
    assert not browser.text(".whole")
    for width in ("passage", "whole", "line"):
        browser.click(f".widths [value={width}]")
        assert len(browser.evaluate(firing)) > 3
        if width == "passage":
            covered = """(() => {
                const button = document.querySelector(".panel:not([hidden]) .text.broken + .alike");
                button.previousSibling.replaceChildren("שלום");
                const range = document.createRange();
                range.selectNodeContents(button.previousSibling);
                return [range.getBoundingClientRect().right, button.getBoundingClientRect().left];
            })()"""
            for window in (390, 1400):
                browser.size(window, 900)
                text, alike = browser.evaluate(covered)
                assert alike - 30 < text < alike, "a line that begins at the right is not covered"


def test_what_is_copied_of_an_example_is_its_text(browser, address):
    browser.open(f"{address}#feature/7")
    browser.click(".widths [value=whole]")
    browser.evaluate("getSelection().selectAllChildren(document.querySelector('.example .text'))")
    assert browser.evaluate("getSelection().toString()").startswith("<|bos|> return +returned1231233 a\n\tβשלw")
    drawn = "getComputedStyle(document.querySelector('.example .text .{}'), '::before').content"
    assert [browser.evaluate(drawn.format(kind)) for kind in ("line-end", "tabbed")] == ['"↵"', '"⇥"']
    assert not browser.text(".example .text .space"), "spaces are marked in tokens that fire"
    browser.click(".widths [value=line]")
    assert browser.evaluate("document.querySelector('.example .text').getBoundingClientRect().height") < 40, (
        "on one line"
    )
    browser.evaluate("navigator.clipboard.writeText = async (text) => { window.written = text; }")
    browser.click(".tools .copies button")
    browser.wait("window.written")
    assert browser.evaluate("window.written").startswith("1.98\t<|bos|> return +returned1231233 a⟦↵⟧\tβשלw")
    browser.evaluate("window.written = ''")
    browser.click(".tools .copies button + button")
    first, *_ = json.loads(browser.wait("window.written"))
    assert first["latent"] == 7 and first["token"] == "\n" and first["tokens"][first["position"]] == "\n"


def test_of_a_character_only_the_bytes_of_the_firing_token_are_coloured(browser, address):
    browser.open(f"{address}#feature/3")
    browser.evaluate("report.vocabulary.splice(0, 4, ' ל⟨d7⟩', '⟨a9⟩', '⟨e9⟩⟨94⟩', '⟨80⟩')")
    for tokens, firing, extent in (
        ([0, 1], 0, " לש 0% 83% to left"),  # two letters, and one of the two bytes of the third
        ([0, 1], 1, "ש 50% 100% to left"),
        ([2, 3], 1, "销 67% 100% to right"),
        ([3], 0, "⟨80⟩   "),
    ):
        drawn = f"report.plainLine({tokens}, {firing}).querySelector('.firing')"
        styles = "['--from', '--to', '--way'].map((name) => e.style.getPropertyValue(name)).join(' ')"
        assert browser.evaluate(f"((e) => e.textContent + ' ' + {styles})({drawn})").strip() == extent.strip()


def test_spaces_with_which_all_lines_of_a_passage_begin_are_cut(browser, address):
    browser.open(f"{address}#feature/7")
    browser.click(".widths [value=passage]")
    put = {"returned": "returned\n   p", "123": "123\n   q", "1233": "1233\n     r", "\t": "    "}
    browser.evaluate(f"""Object.entries({json.dumps(put)}).forEach(([text, other]) => {{
        report.vocabulary[report.vocabulary.indexOf(text)] = other; }}); document.querySelector(".example").draw()""")
    assert browser.text(".example:first-child .row")[1:3] == ["q1233\n", "  r a\n"]


def test_a_passage_has_the_lines_of_its_text(browser, address):
    pressed = "document.querySelector('.widths [aria-pressed=true]').value"
    browser.open(f"{address}#feature/7")
    assert browser.evaluate(pressed) == "line", "also where line ends fire"
    browser.click(".widths [value=passage]")
    assert browser.evaluate(pressed) == "passage"
    firing = "document.querySelector('.example .firing')"
    after = f"Array.from({firing}.closest('.text').querySelectorAll('.token')).at(-1).getBoundingClientRect().top"
    assert browser.evaluate(f"{firing}.textContent === '\\n' && {after} > {firing}.getBoundingClientRect().bottom")
    put = "report.vocabulary[report.vocabulary.indexOf('\\n')] = '\\n\\n  '; document.querySelector('.example').draw()"
    browser.evaluate(put)
    rows = browser.text(".example:first-child .row")
    [at] = [k for k, row in enumerate(rows) if row.endswith("\n\n")]
    assert rows[at].strip() and rows[at + 1].startswith("  "), "an empty line is a second sign, and then the indent"
    assert browser.text(".example:first-child .firing") == ["\n", "\n"], "a box for each line end, none for the indent"
    colour = "getComputedStyle(document.querySelector('.example %s')).backgroundColor"
    assert browser.evaluate(colour % ".indent") == browser.evaluate(colour % ".firing"), "which has the same colour"
    tops = f"Array.from({firing}.closest('.row').querySelectorAll('.firing'), (e) => e.getBoundingClientRect().top)"
    assert len(set(browser.evaluate(tops))) == 1, "both signs stand in the line that they end"
    ends = f"Array.from({firing}.closest('.text').querySelectorAll('.line-end'), (e) => e.parentElement.textContent)"
    assert all(text.endswith("\n") for text in browser.evaluate(ends)), "the sign stands where its line ends"
    drawn = f"getComputedStyle({firing}.querySelector('.line-end'), '::before').content"
    assert browser.evaluate(drawn) == '"↵"'
    below = f"document.querySelectorAll('.example:first-child .row')[{at + 1}]"
    hang = browser.evaluate(f"{below}.style.getPropertyValue('--hang')")
    assert hang == "8", "two letters further in than two spaces and a tab"
    blank = ".example:first-child .row.blank"
    assert browser.text(blank) == [], "the latent fires on the empty line"
    browser.evaluate(
        "report.vocabulary[report.vocabulary.indexOf(' a')] = ' a\\n\\nb'; document.querySelector('.example').draw()"
    )
    assert set(browser.text(blank)) == {"\n"}, "and not on these"
    sign = f"getComputedStyle(document.querySelector('{blank} .line-end'), '::before').content"
    assert browser.evaluate(sign) == '""', "which are gaps without a sign"
    indent = "getComputedStyle(document.querySelector('.example .row{}')).paddingInlineStart"
    put = "report.vocabulary[report.vocabulary.indexOf(' a\\n\\nb')] = 'ACGT'.repeat(12);"
    put += " document.querySelector('.example').draw()"
    assert browser.evaluate(indent.format("")) != "0px"
    browser.evaluate(put)
    assert browser.evaluate(indent.format(".unbroken")) == "0px", "text without spaces goes on below its first letter"
    columns = "getComputedStyle(document.querySelector('.examples:has(.unbroken)')).columnCount"
    assert browser.evaluate(columns) == "auto", "and is as wide as the page"
    browser.click(".widths [value=line]")
    browser.press("j")
    browser.wait("document.getElementById('feature').dataset.latent !== '7'")
    assert browser.evaluate(pressed) == "line", "what was chosen holds for all"


def test_a_passage_stays_within_its_text_and_its_firing_token_on_one_line(browser, address):
    browser.open(f"{address}#feature/3")
    drawn = """((words, place) => {
        report.vocabulary.splice(0, Infinity, ...words);
        report.tokensOfSequence(0).forEach((_, k, tokens) => { tokens[k] = k; });
        const feature = { facts: { max: 1 }, examples: [], senses: [] };
        const list = report.exampleList(3, feature, [[-1, place, null, 1, []]], { how: "passage" });
        document.getElementById("feature").replaceChildren(list);
        const firing = Array.from(list.querySelectorAll(".firing"));
        const space = firing.map((e) => [e.textContent, getComputedStyle(e).whiteSpace, getComputedStyle(e).clipPath]);
        return [list.querySelector(".text").textContent, space];
    })(%s, %d)"""
    text, firing = browser.evaluate(drawn % (json.dumps([*"abc", "<|bos|>", *"def", "<|bos|>", *"ghijklmn"]), 5))
    assert text == "def" and firing == [["e", "pre", "none"]], "neither the text before nor the next one"
    text, firing = browser.evaluate(drawn % (json.dumps(["a", "\n", "\n", *"bcdefghijkl", " m", "n"]), 14))
    assert text == "bcdefghijkl mn\u00a0…" and firing == [[" m", "pre", "none"]], "not the paragraph before"
    text, firing = browser.evaluate(drawn % (json.dumps(["a", "\n", "\n", "b", ":\n  ", *"cdefghijklm"]), 4))
    assert "a\n\nb:\n  c" in text, "where little else stands before"
    assert firing == [[":\n", "pre", "none"]], "one box, and none for the indent"
    browser.size(390, 844)
    browser.open(f"{address}#feature/3")
    text, _ = browser.evaluate(drawn % (json.dumps(["z", "\n", *"ab", "\n", "\n", *"cdefghijklmnopq"]), 5))
    assert text.startswith("ab\n\nc"), "an empty line says nothing without the line above it"


def test_a_line_runs_as_the_letters_at_its_firing_do(browser, address):
    browser.open(f"{address}#feature/3")
    drawn = """(texts, firing) => {
        const pieces = texts.map((text) => ({ text }));
        return report.textLine(pieces, texts.map((text) => report.h("span", null, text)), firing).dir;
    }"""
    for texts, firing, said in (
        (["many English words ", "\u05d0", "\u05d1", " and more of them"], 2, "rtl"),
        (["\u05d0\u05d1\u05d2\u05d3", " a", "\u05d0\u05d1"], 1, "ltr"),
        (["English ", "\u05d0\u05d1", ", ", "x"], 2, "rtl"),
        (["\u27e8d7\u27e9", "\u05d0"], 0, "rtl"),
        (["1", "2"], 0, "ltr"),
    ):
        assert browser.evaluate(f"({drawn})({json.dumps(texts)}, {firing})") == said, texts


def test_arabic_letters_that_join_keep_their_shape_on_either_side_of_a_firing_tokens_end(browser, address):
    browser.open(f"{address}#feature/3")
    joined = """(texts) => {
        const pieces = texts.map((text) => ({ text }));
        const line = report.textLine(pieces, texts.map((text) => report.h("span.firing", null, text)), 0);
        document.querySelector(".example .text").replaceWith(line);
        return getComputedStyle(line.querySelector(".firing"), "::after").content;
    }"""
    for texts, content in (
        (["\u0628", "\u0644"], '"\u200d"'),
        (["\u0628\u0651", "\u0644"], '"\u200d"'),
        (["\u062f", "\u0644"], "none"),
        (["\u0628", " \u0644"], "none"),
    ):
        assert browser.evaluate(f"({joined})({json.dumps(texts)})") == content, texts


def test_a_mark_on_which_a_feature_fires_is_drawn_with_the_letter_that_bears_it(browser, address):
    browser.open(f"{address}#feature/1")
    firing = """((tokens, at) => {
        report.vocabulary.push(...tokens);
        const ids = tokens.map((_, k) => report.vocabulary.length - tokens.length + k);
        const line = report.plainLine(ids, at);
        return [line.querySelector(".firing").textContent, line.textContent, line.querySelector(".combining") !== null];
    })"""
    fatha = "\u064e"
    assert browser.evaluate(f"{firing}(['xد', '{fatha}', 'ل'], 1)") == [f"د{fatha}", f"xد{fatha}ل", False]
    assert browser.evaluate(f"{firing}(['د', '{fatha}'], 0)") == ["د", f"د{fatha}", False], "not with the mark"
    assert browser.evaluate(f"{firing}(['{fatha}', 'ل'], 0)")[2], "one without a letter has a circle instead"
    body = f"document.body.append(report.ruleElement([['{fatha}']]))"
    quoted = "getComputedStyle(document.body.lastElementChild.querySelector('.short'), '::before').content"
    assert browser.evaluate(f"({body}, {quoted})") == '"◌"', "so has one in quotes"
    pieces = """((tokens, firing) => {
        const first = report.vocabulary.push(...tokens) - tokens.length;
        const all = report.piecesOf(tokens.map((_, k) => first + k), firing, () => true);
        return all.map(({ text, tokens, parts }) => [text, tokens, parts.map(([part]) => part).join("")]);
    })"""
    word = json.dumps(["x", "أم", fatha, "ا"])
    beside = [["x", [0], "x"], ["أ", [1], "أ"], [f"م{fatha}", [2], f"م{fatha}"], ["ا", [3], "ا"]]
    assert browser.evaluate(f"{pieces}({word}, 0)") == beside, "beside a token that fires too"
    whole = [["x", [0], "x"], [f"أم{fatha}", [1, 2], f"أم{fatha}"], ["ا", [3], "ا"]]
    assert browser.evaluate(f"{pieces}({word}, 1)") == whole, "the firing token stays whole"
    alone = [[f"م{fatha}", [0, 1], f"م{fatha}"]]
    assert browser.evaluate(f"{pieces}({json.dumps(['م', fatha])}, 9)") == alone
