"""The comparison of two features, tried in Chromium."""

import re

from tests.report.planted_page import SPLIT


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
    shares = "Array.from(document.querySelector('#compare .mirror').querySelectorAll('td small'), (e) => e.textContent)"
    assert browser.evaluate(shares) == ["100 %", "0", "0", "100 %"], "both lists are whole"
    below = browser.text("#compare .below")
    assert "not listed" not in below[0] and below[1].endswith("no number: not listed") and not browser.complaints
    names = "document.querySelectorAll('#compare .mirror:has(.byte) tbody th')"
    assert browser.evaluate(f"Array.from({names}).every((e) => e.scrollWidth <= e.clientWidth)"), "none is cut"
    assert browser.evaluate("document.title").startswith(f"Features 3 and {other} ")
    browser.click("#compare .choice a[href^='#compare']")
    browser.wait(f"document.getElementById('compare').dataset.latent === '{other}'")
    assert browser.text("#compare .heads h2") == [f"Feature {other}", "Feature 3"]
    browser.press("Escape")
    browser.wait("document.body.dataset.view === 'features'")
    browser.open(f"{address}#compare/3")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    nearest = browser.evaluate("report.loadFeature(3).then(({ neighbours }) => neighbours[0][0])")
    assert browser.text("#compare .heads h2") == ["Feature 3", f"Feature {nearest}"]


def test_firings_of_a_feature_with_senses_have_their_letters(browser, address):
    browser.open(f"{address}#compare/{SPLIT}/3")
    marks = "Array.from(document.querySelectorAll('#compare .where .a .sense'), (e) => e.textContent)"
    assert set(browser.evaluate(marks)) == {"A", "B"} and not browser.text("#compare .where .b .sense")


def test_numbers_of_two_features_stand_on_one_scale_each_and_those_that_differ_are_marked(browser, address):
    browser.open(f"{address}#overview")
    of_four = "{ monosemanticity: 0.4, monosemanticity_low: 0.3, monosemanticity_high: 0.5 }"
    browser.evaluate(f"Object.entries({of_four}).forEach(([name, x]) => {{ report.columns[name][4] = x; }})")
    browser.evaluate("location.hash = '#compare/3/4'")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    assert browser.text("#compare .differs th") == ["one meaning differs"]
    cells = "Array.from(document.querySelectorAll('#compare .differs td'), (e) => [e.textContent, e.style.cssText])"
    assert browser.evaluate(cells) == [["1.00", "--share: 0.999;"], ["0.40", "--share: 0.4;"]]
    alike = browser.text("#compare .numbers tr:not(.differs) th[scope=row]")
    assert alike == ["F1", "density", "largest activation"], "what the run has not measured is left out"


def test_effects_of_two_features_stand_on_one_scale_around_zero(browser, address):
    browser.open(f"{address}#overview")
    of_both = "{ effect: [0.01, -0.03], effect_low: [-0.02, -0.05], effect_high: [0.03, -0.01] }"
    browser.evaluate(
        f"Object.entries({of_both}).forEach(([name, both]) => both.forEach((x, k) => {{"
        " report.columns[name][3 + k] = x; }))"
    )
    described = "{ name: 'effect', title: 'Effect', unit: 'nats', style: 'fixed', scale: 'signed', is_compared: true }"
    browser.evaluate(f"report.numberColumns.push({described})")
    browser.evaluate("location.hash = '#compare/3/4'")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    places = (
        "Array.from(document.querySelectorAll('#compare .numbers .gauge :is(.zero, .point)'),"
        " (e) => Number(e.style.getPropertyValue('--at')))"
    )
    assert browser.evaluate(places) == [0.625, 0.75, 0.625, 0.25], "from −0.05 to 0.03"
    widths = "Array.from(document.querySelectorAll('#compare .gauge .point'), (e) => e.offsetWidth)"
    assert browser.evaluate(widths) == [3, 3] and "tick is 0" in browser.text("#compare .below")[-1]


def test_words_find_the_features_to_compare_and_the_way_back(browser, address):
    browser.open(f"{address}#compare/3/2")
    browser.evaluate("document.querySelectorAll('#compare input')[1].focus()")
    typed = "(() => {{ const e = document.activeElement; e.value = {}; e.dispatchEvent(new Event('input')); }})()"
    browser.evaluate(typed.format("'w1'"))
    hits = "#compare .hits:not([hidden])"
    found = browser.evaluate(f"Array.from(document.querySelectorAll('{hits} a'), (e) => e.getAttribute('href'))")
    assert found and all(address.startswith("#compare/3/") for address in found)
    assert "w1" in browser.text(f"{hits} .rule")[0]
    browser.press("ArrowDown")
    assert browser.evaluate("document.activeElement.getAttribute('href')") == found[0]
    browser.evaluate("document.querySelectorAll('#compare input')[1].focus()")
    browser.evaluate(typed.format("'no such words'"))
    assert browser.text(f"{hits} li") == ["no feature matches"]
    browser.evaluate("document.activeElement.blur()")
    assert not browser.text(hits)
    back = "Array.from(document.querySelectorAll('#compare :is(.choice > a, h2 a)'), (e) => e.getAttribute('href'))"
    assert browser.evaluate(back) == ["#features", "#compare/2/3", "#feature/3", "#feature/2"]


def test_where_both_fire_each_token_is_underlined_by_both(browser, address):
    browser.open(f"{address}#compare/3/2")
    shown = """(() => {
        const one = [-1, 19, null, 2, [3, 2, 5, 1]], own = [[0, 16, null, 1, [0, 1, 4, 0.5]], [0, 40, null, 1, [8, 1]]];
        const activations = Array.from(report.activationsIn(one, own, 0.8));
        const beside = { valueOf: () => 0.8, name: 7, most: 1, activationsOf: () => new Map(activations) };
        const feature = { facts: { max: 2 }, examples: [] };
        const list = report.exampleList(3, feature, [one], { how: "line", beside });
        document.querySelector("#compare .where section").replaceChildren(list);
        const on = Array.from(list.querySelectorAll(".on"), ({ dataset, style }) =>
            [Number(dataset.place), style.getPropertyValue("--shade"), style.getPropertyValue("--other"),
             dataset.tip ?? ""]);
        return [activations, on];
    })()"""
    activations, on = browser.evaluate(shown)
    assert activations == [[0, 1], [4, 0.5], [3, 0.8]], "of its own example in this sequence, and where both fire"
    assert on == [
        [0, "", "1.000", "7: 1"],
        [3, "1.000", f"{0.8**2.4:.3f}", "7: 0.8"],
        [4, "", f"{0.5**2.4:.3f}", "7: 0.5"],
        [5, f"{0.5**2.4:.3f}", "", ""],
    ]


def test_a_pair_without_counts_is_not_said_to_have_nothing_in_common(browser, address):
    nearest = "[...one.neighbours, ...one.coactivations].map(([other]) => other)"
    far = f"""(async () => {{
        const one = await report.loadFeature(3), held = (one.pairs ?? []).map(([other]) => other);
        for (let k = 4; k < 30; k++) {{
            const other = await report.loadFeature(k), theirs = [...other.neighbours, ...other.coactivations];
            if (![...held, ...{nearest}].includes(k) && !theirs.some(([latent]) => latent === 3)) return k;
        }}
    }})()"""
    browser.open(f"{address}#compare/3")
    browser.open(f"{address}#compare/3/{browser.evaluate(far)}")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    other = browser.evaluate("location.hash").split("/")[2]
    [answer] = browser.text("#compare .answer")
    assert answer.startswith(f"No overlap of features 3 and {other} is known: their decoder cosine is below 0.")
    assert "3 fires m" in answer, "what differs"
    assert len(browser.text("#compare .where section")) == 2 and not browser.complaints
    assert browser.text("#compare .overlap") == [], "no bars that seem to overlap"


def test_of_a_pair_of_the_lists_of_the_nearest_alone_the_cosine_is_told(browser, address):
    browser.open(f"{address}#compare/3")
    listed = """(async () => {
        for (let k = 0; k < 30; k++) {
            const { neighbours, pairs } = await report.loadFeature(k);
            for (const [other, cosine] of neighbours) {
                const theirs = (await report.loadFeature(other)).pairs ?? [];
                if (![...(pairs ?? []).map(([one]) => one)].includes(other) && !theirs.some(([one]) => one === k))
                    return [k, other, cosine.toFixed(2).replace("-", "−")];
            }
        }
    })()"""
    one, other, cosine = browser.evaluate(listed)
    browser.open(f"{address}#compare/{one}/{other}")
    browser.wait(f"document.getElementById('compare').dataset.latent === '{one}'")
    assert browser.text("#compare .answer")[0].startswith(
        f"No overlap of features {one} and {other} is known: their decoder cosine is {cosine}"
    )


def test_a_comparison_of_what_is_not_there_says_so(browser, address):
    browser.open(address)
    for asked, said in (
        ("/3/3", "Name two"),
        ("/99", "no feature 99"),
        ("/x/1", "no feature x"),
        ("/3/99", "no feature 99"),
    ):
        browser.evaluate(f"location.hash = '#compare{asked}'")
        browser.wait(f"document.querySelector('#compare .missing')?.textContent.includes('{said}')")
    field = "document.querySelectorAll('#compare input')"
    browser.evaluate(f"{field}[0].value = 4; {field}[1].value = 'rule:1233'")
    browser.click("#compare button")
    browser.wait("location.hash === '#compare/4/5'")
    browser.wait("document.getElementById('compare').dataset.latent === '4'")
    browser.evaluate(f"{field}[0].value = 4; {field}[1].value = 7")
    browser.click("#compare button")
    browser.wait("document.getElementById('compare').dataset.latent === '4'")
    browser.size(390, 844, dark=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390 and browser.faint() == []


def test_a_line_says_that_one_never_fires_alone(browser, address):
    browser.open(f"{address}#compare/3/4")
    other = browser.evaluate("""(async () => {
        const held = new Set((await report.loadFeature(3)).pairs.map(([latent]) => latent));
        const lacks = async (latent) => !(await report.loadFeature(latent)).pairs.some(([each]) => each === 3);
        for (let latent = 5; ; latent++) if (!held.has(latent) && await lacks(latent)) return latent;
    })()""")
    browser.evaluate("""report.model.common = async (latent) => {
        const at = (await report.loadFeature(latent)).examples.map((_, k) => k);
        return [at.length, 1, 1, at, [], at.map(() => 1)];
    }""")
    browser.evaluate(f"location.hash = '#compare/3/{other}'")
    n = browser.evaluate("report.loadFeature(3).then(({ examples }) => examples.length)")
    line = f"Feature {other} fires in each of the {n} examples of 3."
    browser.wait(f"document.querySelector('#compare .where > p')?.textContent === {line!r}")
    places = "Array.from(document.querySelectorAll('#compare :is(.where, .beside)'), (e) => e.className)"
    assert browser.evaluate(places) == ["where", "beside"], "what is read comes before what is counted"
    heads = [f"{other} fires, 3 does not", "Both fire"]
    assert sorted(browser.text("#compare .where h3")) == heads, "rather than an empty column"
    places = "Array.from(document.querySelectorAll('.agreement circle'), ({ cy }) => cy.baseVal.value)"
    assert len(browser.evaluate(places)) == n and len(set(browser.evaluate(places))) == 1, "the other's is 1 in all"
    tips = browser.evaluate("Array.from(document.querySelectorAll('.agreement circle'), (e) => e.dataset.tip)")
    known = rf"3: [\d.]+, {other}: [\d.]+, on “\S+”"
    assert len(set(tips)) > 1 and all(re.fullmatch(known, tip) for tip in tips), tips
    told = "document.querySelector('section:has(> .agreement) h3').textContent"
    assert f"the {n} of " in browser.evaluate(told), "and not all of these are drawn"


def test_the_answer_names_the_kinds_of_text_or_else_the_tokens_on_which_one_alone_fires_often(browser, address):
    browser.open(f"{address}#compare/3/4")
    browser.wait("document.getElementById('compare').dataset.latent === '3'")
    assert browser.text("#compare .answer")[0].endswith(" 3 fires mostly in python, and 4 in latex.")
    browser.evaluate("report.columns.kind[3] = null, location.hash = '#compare/4/3'")
    browser.wait("document.getElementById('compare').dataset.latent === '4'")
    fired = "report.loadFeature({}).then(({{ tokens }}) => report.word(tokens.find(([offset]) => offset === 0)[1]))"
    on = [browser.evaluate(fired.format(latent)) for latent in (4, 3)]
    assert browser.text("#compare .answer .token") == on
    assert f"4 fires more often on {on[0]}. 3 fires more often on {on[1]}." in browser.text("#compare .answer")[0]
    browser.evaluate("location.hash = '#compare/3/3'")
    browser.wait("location.hash === '#compare/3/3' && !document.querySelector('#compare .answer .token')")


def test_a_feature_is_not_compared_with_itself(browser, address):
    browser.open(f"{address}#compare/3/3")
    assert browser.text("#compare .missing") == ["Name two different features."]
    assert browser.text("#compare .answer") == []
