"""The map of features, tried in Chromium."""

import json
import math
import re
import shutil
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest

from interp.report.json_text import encode
from interp.report.writing import _script
from tests.report.planted_page import D_SAE, SPLIT, latents, question

MAP = ".plot.map canvas"


def corners(path: str) -> list[tuple[float, float]]:
    """The points of a path's curves."""
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_point_of_the_map_names_itself_and_opens_its_feature_by_key_or_click(browser, address):
    browser.open(f"{address}#map")
    browser.evaluate("document.querySelector('.plot.map').focus()")
    for key in ("+", "ArrowRight"):
        browser.press(key)
    [said] = browser.text(".hovercard b")
    latent = said.removeprefix("Feature ")
    assert browser.evaluate(f"report.textOfRule(report.columns.rule[{latent}])") in browser.text(".hovercard")[0]
    place = "(({x, y}) => [x, y])(document.querySelector('.ring').getBoundingClientRect())"
    x, y = browser.evaluate(place)
    browser.press("Enter")
    browser.wait("document.activeElement.closest('.mapped .card') !== null")
    assert browser.text(".mapped .card h3 a") == [said] and len(browser.text(".mapped .card .example")) == 4
    browser.evaluate("document.querySelector('.mapped .card').remove()")
    browser.click_at(x, y)
    browser.wait("document.querySelector('.mapped .card') !== null")
    assert browser.text(".mapped .card h3 a") == [said] and browser.evaluate("location.hash") == f"#map/{latent}"
    browser.click(".listed li:nth-child(2) button")
    second = browser.text(".listed li:nth-child(2) button")[0].split()[0]
    browser.wait(f"document.querySelector('.mapped .card h3 a').textContent === 'Feature {second}'")
    assert browser.evaluate("document.querySelector('.ring').hidden") is False
    browser.press("Enter")
    browser.wait(f"document.getElementById('feature').dataset.latent === '{second}'")


def test_what_a_point_is_stands_beside_it_within_the_map(browser, address):
    browser.open(f"{address}#map")
    side = "({left, right, top, bottom}) => [left, right, top, bottom]"
    box = f"({side})(document.querySelector('%s').getBoundingClientRect())"
    left, right, top, bottom = browser.evaluate(box % MAP)
    points = browser.evaluate("""report.loadData("map").then(({ x, y }) => {
        const matrix = document.querySelector(".plot.map svg g").getScreenCTM();
        return x.map((_, k) => new DOMPoint(x[k], y[k]).matrixTransform(matrix)).map((at) => [at.x, at.y]);
    })""")
    edges = [end(points, key=lambda at: at[axis]) for end in (min, max) for axis in (0, 1)]
    for x, y in edges:
        browser.evaluate(
            f"void document.querySelector('{MAP}').dispatchEvent(new PointerEvent('pointermove',"
            f" {{ clientX: {x}, clientY: {y} }}))"
        )
        assert browser.evaluate("document.querySelector('.hovercard').hidden") is False
        begin, end, upper, lower = browser.evaluate(box % ".hovercard")
        assert left < begin < end < right and top < upper < lower < bottom
        assert not (begin < x < end and upper < y < lower), "it leaves the point free"


def test_a_phone_names_the_nearest_by_what_they_fire_on(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#map/3")
    shown = browser.text(".names .own[style*=visible]")
    nearest = browser.evaluate("report.loadFeature(3).then(({neighbours}) => neighbours.map(([other]) => other))")
    rules = browser.evaluate(f"{nearest}.map((latent) => report.nameAtPoint(latent, true).textContent)")
    browser.size(1400, 900)
    assert set(rules) & set(shown)


def test_each_kind_has_one_tint_with_its_name_within(browser, address):
    browser.open(f"{address}#map")
    tinted = browser.evaluate("""Array.from(document.querySelectorAll(".regions path:not(.core)"), (e) => {
        const { left, right, top, bottom } = e.getBoundingClientRect();
        return [e.dataset.name, left, right, top, bottom];
    })""")
    named = browser.evaluate("""Array.from(document.querySelectorAll(".names .region[style*=visible]"), (e) => {
        const { x, y, width, height } = e.getBoundingClientRect();
        return [e.dataset.kind, x + width / 2, y + height / 2];
    })""")
    places = {kind: place for kind, *place in named}
    assert tinted and len({kind for kind, *_ in tinted}) == len(tinted), "one each"
    for kind, left, right, top, bottom in tinted:
        x, y = places[kind]
        assert left < x < right and top < y < bottom


def test_a_kind_whose_features_are_found_keeps_its_name(browser, address):
    browser.open(f"{address}#map")
    browser.evaluate("report.select({ kind: 'latex' })")
    browser.wait("document.querySelectorAll('.hits .rim').length > 0")
    assert browser.text(".names [data-kind=latex][style*=visible]")


def test_the_legend_and_the_map_keep_their_places_while_one_searches(browser, address):
    browser.open(f"{address}#map")
    widths = "Array.from(document.querySelectorAll('#map .legend .number'), (e) => e.offsetWidth)"
    of_all = browser.evaluate(widths)
    lasso = "document.querySelector('.maphead [aria-pressed]').getBoundingClientRect().left"
    at = browser.evaluate(lasso)
    browser.evaluate("report.select({ query: '#3' })")
    assert sorted(browser.evaluate(widths)) == sorted(of_all)
    browser.evaluate("report.select({ query: 'python' })")
    assert browser.text("#map .otherwise button") and browser.evaluate(lasso) == at


def test_the_view_comes_no_closer_than_a_few_points(browser, address):
    browser.open(f"{address}#map")
    for _ in range(12):
        browser.click(".zooms button[title='zoom in']")
    browser.wait("document.querySelector('.inset i').getBoundingClientRect().width > 0")
    inset, frame = (browser.evaluate(f"document.querySelector('.inset{e}').clientWidth") for e in ("", " i"))
    assert inset / 9 < frame + 4
    browser.wait("document.querySelector('.list h3').textContent.endsWith(' in view')")
    assert len(browser.text(".listed li")) >= D_SAE / 4


def test_names_go_with_the_map_while_it_is_dragged_and_are_placed_anew_once_it_rests(browser, address):
    browser.open(f"{address}#map")
    layer = "document.querySelector('.names').style.transform"
    left = "Array.from(document.querySelectorAll('.names [style*=visible]'), (e) => e.getBoundingClientRect().left)"
    before = browser.evaluate(left)
    moved = browser.evaluate(f"""(async () => {{
        const canvas = document.querySelector("{MAP}");
        const {{ x, y, width, height }} = canvas.getBoundingClientRect();
        canvas.setPointerCapture = () => {{}};
        for (const [name, at] of [["pointerdown", 0], ["pointermove", 30], ["pointermove", 50]]) {{
            const place = {{ clientX: x + width / 2 + at, clientY: y + height / 2 }};
            canvas.dispatchEvent(new PointerEvent(name, {{ ...place, pointerId: 1 }}));
        }}
        await new Promise(requestAnimationFrame);
        await new Promise((done) => setTimeout(done, 400));
        return {left};
    }})()""")
    assert len(before) > 1 and moved == pytest.approx([x + 50 for x in before], abs=0.5), "as long as it is held"
    browser.evaluate(
        f"void document.querySelector('{MAP}').dispatchEvent(new PointerEvent('pointerup', {{ pointerId: 1 }}))"
    )
    browser.wait(f"{layer} === ''")


def test_few_features_in_view_each_have_a_name_and_fewer_also_a_piece_of_text(browser, address):
    browser.open(f"{address}#map")
    own = "Array.from(document.querySelectorAll('.names .own[style*=visible]'), (e) => %s)"
    for _ in range(2):
        browser.click(".zooms button[title='zoom in']")
    browser.wait("document.querySelector('.list h3').textContent.endsWith(' in view')")
    in_view = "parseInt(document.querySelector('.list h3').textContent)"
    browser.wait(f"document.querySelectorAll('.names .own[style*=visible]').length === {in_view}")
    browser.wait(own % "e.querySelector('.snippet .firing') !== null" + ".some(Boolean)")


def test_features_of_no_kind_of_text_are_told_from_those_of_rare_kinds(browser, address):
    browser.open(f"{address}#overview")
    kinds = browser.evaluate("report.columns.kind")
    browser.evaluate("location.hash = '#map'")
    browser.wait("document.querySelector('#map .legend li') !== null")
    [mixed] = [said for said in browser.text("#map .legend li") if said.startswith("mixed kinds")]
    assert mixed == f"mixed kinds {kinds.count(None)}"
    assert not any("other" in said for said in browser.text("#map .legend li"))


def test_an_address_rings_a_feature_on_the_map_and_shows_it_beside(browser, address):
    browser.open(f"{address}#map/3")
    assert browser.text(".mapped .card h3 a") == ["Feature 3"]
    assert browser.evaluate("document.querySelector('.ring').hidden") is False and question(browser) == "#map/3"
    nearest = browser.evaluate("report.loadFeature(3).then(({ neighbours }) => neighbours)")
    said = browser.evaluate(
        "Array.from(document.querySelectorAll('.card .listed .muted:last-child'), (e) => "
        "e.textContent.replace('−', '-'))"
    )
    assert said == [f"{cosine:.2f}" for _, cosine in nearest] and browser.evaluate(
        "document.querySelector('.list').hidden"
    )
    dots = "Array.from(document.querySelectorAll('.card .dot'), (e) => e.title)"
    by_kind = browser.evaluate(dots)
    browser.evaluate("""const ways = document.querySelector("#map label select");
        ways.value = "verdict"; ways.dispatchEvent(new Event("change"))""")
    by_verdict = browser.evaluate(dots)
    assert len(by_verdict) == len(by_kind) and by_verdict != by_kind, "the dots have the colours chosen"
    browser.press("Escape")
    assert question(browser) == "#map" and browser.evaluate("document.querySelector('.mapped .card') === null")
    assert browser.evaluate("document.querySelector('.list').hidden") is False
    browser.open(f"{address}#map?q=%23{SPLIT}")
    browser.wait("document.querySelectorAll('.listed .rule .sense').length === 2")
    listed = browser.text(".listed .rule .of-lead")
    top = "document.querySelector('.listed %s').getBoundingClientRect().top"
    assert browser.evaluate(f"{top % '.sense'} >= {top % '.rule'}"), "so that none is seen above a line that is cut off"
    browser.open(f"{address}#features?q=%23{SPLIT}")
    browser.wait("document.querySelectorAll('.of-sense').length === 2")
    assert browser.text(".of-sense > div > span:first-child") == listed, "in the words of the table"
    browser.open(f"{address}#map/{SPLIT}")
    assert browser.text(".mapped .card .rule .sense") == ["A", "B"]
    senses = "Array.from(document.querySelectorAll('.mapped .card .example'), (e) => e.dataset.sense)"
    assert browser.evaluate(senses) == ["0", "0", "1"], "of each sense, in their order"


SQUARE = """(left, bottom = 0) => {
    const side = Array.from({ length: 30 }, (_, k) => k / 30);
    return side.flatMap((x) => side.map((y) => [left + x, bottom + y]));
}"""


def contours(browser, levels: list[float], *groups: str, every: str | None = None) -> list[list[list]]:
    """For each group and level, the corners of each line; the groups are expressions of lists of points."""
    of = "(points) => ({ x: points.map(([x]) => x), y: points.map(([, y]) => y) })"
    among = every or f"[...{', ...'.join(groups)}]"
    drawn = browser.evaluate(f"""(() => {{
        const square = {SQUARE}, of = {of};
        return report.contours([{", ".join(f"of({group})" for group in groups)}], {levels}, of({among}));
    }})()""")
    assert all(path.count("M") == path.count("Z") == 1 for group in drawn for level in group for path in level)
    return [[[corners(path) for path in level] for level in group] for group in drawn]


def test_contours_are_closed_lines_around_what_is_not_small(browser, address):
    """Two crowds and one lonely point, about which no line is drawn."""
    browser.open_once(address)
    crowds = "[...square(0, 0), ...square(3, 1), [1.9, 3.9], [4, 4]]"
    [[wide, dense]] = contours(browser, [0.03, 0.5], crowds)
    assert len(dense) == 2
    for line, (cx, cy) in zip(sorted(dense), ((0.5, 0.5), (3.5, 1.5)), strict=True):
        xs, ys = zip(*line, strict=True)
        assert min(xs) < cx < max(xs) and min(ys) < cy < max(ys) and max(xs) - min(xs) < 1.6
    assert len(wide) == 2, "none about a point alone"


def test_of_two_groups_that_lie_over_each_other_each_has_the_places_that_are_more_its_own(browser, address):
    browser.open_once(address)
    groups = "[...square(0), ...square(0.5)]", "[...square(1), ...square(1.5)]"
    [[[left]], [[right]]] = contours(browser, [0.1], *groups)
    [[[alone]]] = contours(browser, [0.1], groups[0])
    assert max(x for x, _ in left) - min(x for x, _ in right) < 0.1 < max(x for x, _ in alone) - 1.35


def test_a_click_and_the_address_of_a_feature_show_the_same_picture(browser, address):
    browser.open(f"{address}#map")
    browser.click(".listed li:first-child button")
    browser.wait("document.querySelector('.mapped .card') !== null")
    drawn = """["svg > g", ".links", ".ring"].map((name) => document.querySelector(`.plot.map ${name}`)).map((e) =>
        [e.getAttribute("transform"), e.getAttribute("d"), e.getAttribute("style")])"""
    clicked = browser.evaluate(drawn)
    browser.open(f"{address}{question(browser)}")
    assert browser.evaluate(drawn) == clicked and clicked[1][1]
    larger = browser.evaluate("document.querySelectorAll('.hits path:not(.rim)').length")
    assert larger == 1 + len(browser.text(".card > .listed li")) > 1, "it and its nearest are drawn larger"
    spots = "Array.from(document.querySelectorAll('.hits path:not(.rim), .links'), (e) => e.getAttribute('d'))"
    line, *_, last = browser.evaluate(spots)
    assert line.startswith(last.removesuffix("h0") + "L"), "and it over the others"
    browser.click(".to-nearest .link")
    browser.wait("!document.querySelector('.inset').hidden")  # it is closer than the whole


def test_the_whole_map_holds_its_tints(browser, address):
    browser.open(f"{address}#map")
    sides = "({left, right, top, bottom}) => [left, right, top, bottom]"
    box = f"({sides})(document.querySelector('%s').getBoundingClientRect())"
    browser.wait("document.querySelector('.regions').getBoundingClientRect().width > 0")
    (left, right, top, bottom), frame = browser.evaluate(box % ".regions"), browser.evaluate(box % MAP)
    assert frame[0] + 14 < left < right < frame[1] - 14 and frame[2] + 14 < top < bottom < frame[3] - 14


def test_a_kind_that_is_pointed_at_in_the_legend_stands_out(browser, address):
    browser.open(f"{address}#map")
    aside = "Array.from(document.querySelectorAll('.regions path:not(.aside)'), (e) => e.dataset.name)"
    everything = set(browser.evaluate(aside))
    point = "document.querySelector('.legend button').dispatchEvent(new PointerEvent('pointer%s'))"
    browser.evaluate(point % "enter")
    assert set(browser.evaluate(aside)) == {"latex"} < everything and question(browser) == "#map"
    browser.evaluate(point % "leave")
    assert set(browser.evaluate(aside)) == everything


def test_a_map_of_tsne_is_stretched_to_its_frame_and_a_lasso_keeps_its_own_coordinates(browser, address):
    browser.size(390, 844)
    browser.open(address)
    browser.evaluate("void report.loadData('map').then((points) => { points.way = 't-SNE'; location.hash = '#map'; })")
    browser.wait("document.getElementById('map').dataset.ready === 'true'")
    browser.click(".maphead button[aria-pressed]")
    browser.drag(MAP, (0.02, 0.02), (0.98, 0.02), (0.98, 0.4), (0.02, 0.4))
    browser.wait("location.hash.includes('part=')")
    corners = json.loads(f"[{question(browser).split('part=')[1]}]")
    points = browser.evaluate("report.loadData('map')")
    n = sum(y > corners[-1] for y in points["y"])
    assert 0 < n < D_SAE and browser.text(".list h3") == [f"{n} selected"]
    moved = browser.evaluate("document.querySelector('.plot.map svg > g:not(.regions)').getAttribute('transform')")
    _, top, scale, _ = (float(number) for number in re.findall(r"-?[\d.]+", moved))
    height = browser.evaluate("document.querySelector('.plot.map').clientHeight")
    assert corners[1] * scale < 0.6 * (top - 0.02 * height), "heights are drawn larger"


def test_a_search_on_the_map_fills_the_list_and_the_address(browser, address):
    browser.open(f"{address}#map?q=return")
    assert browser.evaluate("document.querySelector('.maphead input').value") == "return"
    listed = browser.text(".listed .number")
    assert listed[:2] == ["1", "2"] and "null" not in browser.text(".list")[0]
    assert browser.text(".list > .listed li:first-child small.muted") == ["100 % on  return"], "as in the table"
    assert set(browser.text(".listed li:nth-child(-n + 2) .rule mark")) == {"return"}
    assert browser.text(".list > summary") == [f"{len(listed)} found best matches first"]
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


def test_a_search_in_a_closer_view_moves_it_to_what_is_found(browser, address):
    browser.open(f"{address}#map")
    for _ in range(4):
        browser.click(".zooms button[title='zoom in']")
    browser.wait("document.querySelector('.list h3').textContent.endsWith(' in view')")
    inside = browser.text(".listed .number")
    away = next(str(latent) for latent in range(D_SAE) if str(latent) not in inside)
    search = f"Object.assign(document.querySelector('.maphead input'), {{value: '#{away}'}})"
    browser.evaluate(f"{search}.dispatchEvent(new Event('input'))")
    browser.wait("document.querySelector('.list h3').textContent === '1 found in view'")
    assert browser.text(".listed .number") == [away]


def test_the_part_of_an_outline_that_is_in_view_has_its_kinds_name(browser, address):
    """A square around the view but for its left quarter, and one that is out of sight."""
    browser.open(f"{address}#map")
    clipped = "report.clipped([1, -9, 9, -9, 9, 9, 1, 9], [0, 4, 0, 2])"
    corners = browser.evaluate(clipped)
    assert {tuple(corners[k : k + 2]) for k in range(0, len(corners), 2)} == {(1, 0), (4, 0), (4, 2), (1, 2)}
    assert browser.evaluate(f"report.centre({clipped})") == [2.5, 1]
    assert browser.evaluate("report.centre(report.clipped([5, 0, 6, 0, 6, 1], [0, 4, 0, 2])) === undefined")
    sides = "(({x, y, width, height}) => [x, y, width, height])"
    box = browser.evaluate(f"{sides}(document.querySelector('.regions [data-name=latex]').getBoundingClientRect())")
    wheel = f"{{deltaY: -600, clientX: {box[0] + 8}, clientY: {box[1] + box[3] / 2}, cancelable: true}}"
    browser.evaluate(f"document.querySelector('{MAP}').dispatchEvent(new WheelEvent('wheel', {wheel}))")
    shown = "Array.from(document.querySelectorAll('.names .region')).filter((e) => e.style.visibility === 'visible')"
    browser.wait(f"{shown}.some((e) => e.dataset.kind === 'latex')")
    inside = f"""{shown}.filter((e) => e.dataset.kind === 'latex').every((e) => {{
        const [name, map] = [e, document.querySelector('.plot.map')].map((each) => each.getBoundingClientRect());
        return name.left >= map.left && name.right <= map.right && name.top >= map.top && name.bottom <= map.bottom;
    }})"""
    assert browser.evaluate(inside)


def test_the_name_of_a_feature_covers_no_point(browser, address):
    browser.open(f"{address}#map")
    browser.evaluate("document.querySelector('.plot.map').focus()")
    for _ in range(3):
        browser.press("+")
    browser.wait("document.querySelector('.names .own[style*=visible]') !== null")
    covered = """report.loadData("map").then(({ x, y, latents }) => {
        const frame = document.querySelector(".plot.map svg > g:not(:empty)").getScreenCTM();
        const dots = latents.map((_, k) => new DOMPoint(x[k], y[k]).matrixTransform(frame));
        const isOn = (box) => ({ x, y }) => x > box.left && x < box.right && y > box.top && y < box.bottom;
        return Array.from(document.querySelectorAll(".names .own[style*=visible]"), (e) => e.getBoundingClientRect())
            .filter((box) => dots.some(isOn(box))).length;
    })"""
    assert browser.evaluate(covered) == 0


def test_matches_outside_a_zoomed_view_are_counted_and_shown_on_demand(browser, address):
    browser.open(f"{address}#map")
    for _ in range(4):
        browser.click(".zooms button[title='zoom in']")
    browser.wait("document.querySelector('.list h3').textContent.endsWith(' in view')")
    inside = browser.text(".listed .number")
    away = next(str(latent) for latent in range(D_SAE) if str(latent) not in inside)
    browser.evaluate(f"report.select({{ query: '#{away}' }})")
    assert browser.text(".list h3") == ["0 found in view"]
    assert browser.text(".list .outside") == ["1 outside the view: Zoom to these"]
    browser.click(".list .outside button")
    browser.wait("document.querySelector('.list h3').textContent === '1 found in view'")
    assert browser.text(".listed .number") == [away] and browser.text(".list .outside") == []


@pytest.mark.parametrize("width", [1400, 390])
def test_a_kind_is_named_within_its_own_outlines_and_never_within_that_of_another(browser, address, width):
    browser.size(width, 844)
    browser.open(f"{address}#map")
    strays = """(() => {
        const frame = document.querySelector(".regions").getScreenCTM().inverse();
        const tints = Array.from(document.querySelectorAll(".regions path"));
        const isIn = (tint, e) => {
            const box = e.getBoundingClientRect();
            const at = new DOMPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2).matrixTransform(frame);
            return tint.isPointInFill(at);
        };
        const named = Array.from(document.querySelectorAll(".names .region"))
            .filter((e) => e.style.visibility === "visible");
        const within = (e) => tints.filter((tint) => isIn(tint, e)).map((tint) => tint.dataset.name);
        return named.map((e) => [e.dataset.kind, within(e)]);
    })()"""
    within = browser.evaluate(strays)
    outlined = set(browser.evaluate("Array.from(document.querySelectorAll('.regions path'), (e) => e.dataset.name)"))
    assert outlined & {name for name, _ in within}
    assert all(name in names if name in outlined else not names for name, names in within)


def test_map_lasso_selects_for_the_table_and_can_be_removed(browser, address):
    browser.open(f"{address}#map")
    browser.click(".maphead button[aria-pressed]")
    browser.drag(MAP, (0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98))
    browser.wait("location.hash.includes('part=')")
    asked = question(browser)
    corners = json.loads(f"[{asked.split('part=')[1]}]")
    points = browser.evaluate("report.loadData('map')")
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


def test_map_colours_by_the_chosen_property_with_a_legend(browser, address):
    browser.open(f"{address}#map")
    assert "python 1" in browser.text(".legend")[0], "by the kind of text, where that is known"
    assert browser.evaluate("document.querySelectorAll('.regions path').length")
    field = "document.querySelector('.maphead select')"
    for way, said in (
        ("density", "density≤ "),
        ("decides", "the token alone"),
        ("verdict", "single-token 5"),
        ("monosemanticity", "0.01.0"),
    ):
        browser.evaluate(f"{field}.value = '{way}'; {field}.dispatchEvent(new Event('change'))")
        assert said in browser.text(".legend")[0]
    assert not browser.complaints


def test_a_legend_lists_the_commonest_groups_first_or_those_with_most_of_what_is_found(browser, address):
    browser.open(f"{address}#map")
    names = [f"way {k}" for k in range(11)]
    points = {"latents": [*range(11), 11], "deciders": names, "decides": [*range(11), 10]}
    put = "((legend) => (document.querySelector('#map .legend').replaceWith(legend), legend.className))"
    browser.evaluate(f"{put}(report.coloursOf({json.dumps(points)}, 'decides', () => null).legend)")
    listed = "Array.from(document.querySelectorAll('#map .legend .verdict'), (e) => e.textContent)"
    assert browser.evaluate(listed) == ["way 10", *names[:10]]
    browser.evaluate("report.select({ query: '#7' })")
    browser.evaluate(f"{put}(report.coloursOf({json.dumps(points)}, 'decides', () => null).legend)")
    assert browser.evaluate(listed)[:2] == ["way 7", "way 10"]


def test_the_colours_of_densities_are_not_spent_on_the_few_that_are_far_rarer(browser, address):
    browser.open(f"{address}#map")
    drawn = """(() => {
        report.columns.density.splice(0, 100, 1e-7, ...Array.from({ length: 99 }, (_, k) => 0.001 * 1.03 ** k));
        const { legend, hueOf } = report.coloursOf({ latents: [...Array(100).keys()] }, "density", () => null);
        return [legend.textContent, hueOf(0), hueOf(2), hueOf(50)];
    })()"""
    said, rarest, second, middle = browser.evaluate(drawn)
    assert said.startswith("density≤ 0.10 %") and rarest == second != middle


def test_a_region_is_where_a_group_is_at_home_not_where_all_are_dense(browser, address):
    """A group spread evenly, of which half lies in a crowd of others, is at home outside the crowd."""
    browser.open_once(address)
    own = "[...square(0), ...square(3)]"
    [[[line]]] = contours(browser, [0.5], own, every=f"[...{own}, ...square(3), ...square(3), ...square(3)]")
    xs = [x for x, _ in line]
    assert -0.5 < min(xs) < max(xs) < 1.5


def test_a_corner_shows_where_the_view_lies_once_it_is_not_the_whole(browser, address):
    browser.open(f"{address}#map")
    assert browser.evaluate("document.querySelector('.inset').hidden")
    browser.click(".zooms button[title='zoom in']")
    browser.wait("!document.querySelector('.inset').hidden")
    box = "(({width, height}) => [width, height])(document.querySelector('.inset %s').getBoundingClientRect())"
    (width, _), (frame, _) = browser.evaluate(box % "canvas"), browser.evaluate(box % "i")
    assert 80 < width <= 90 and abs(frame - width / 1.6) < 3
    browser.click(".zooms button[title^=Fit]")
    browser.wait("document.querySelector('.inset').hidden")


def test_names_on_the_map_are_short_lie_apart_and_are_of_two_kinds(browser, address):
    browser.open(f"{address}#map")
    for _ in range(4):
        browser.click(".zooms button[title='zoom in']")
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown = browser.evaluate("""Array.from(document.querySelectorAll(".names span:is(.name, .own)"))
        .filter((e) => e.style.visibility === "visible")
        .map((e) => [e.textContent, e.matches(".region"), getComputedStyle(e).fontFamily.includes("mono"),
            ...["left", "right", "top", "bottom"].map((side) => e.getBoundingClientRect()[side])])""")
    assert shown and all(not (is_region and is_mono) for _, is_region, is_mono, *_ in shown)
    boxes = [sides for _, _, _, *sides in shown]
    assert all(right - left <= 250 for left, right, _, _ in boxes)
    for k, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[:k]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_what_a_point_is_goes_with_the_view_in_which_it_was_pointed_at(browser, address):
    browser.open(f"{address}#map")
    show = """report.select({ query: "" }), document.querySelector(".plot.map").focus(),
        document.querySelector(".plot.map").dispatchEvent(new KeyboardEvent("keydown", { key: "+" })),
        document.querySelector(".hovercard").hidden"""
    gone = "document.querySelector('.hovercard').hidden"
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    for change in (
        "document.querySelector('.zooms button').click()",
        "report.select({ query: '#3' })",
        f"document.querySelector('{MAP}').dispatchEvent(new WheelEvent('wheel', {{ deltaY: 60, cancelable: true }}))",
    ):
        assert browser.evaluate(show) is False
        browser.evaluate(frames)
        assert browser.evaluate(gone) is False, "a key shows it in the view that it makes"
        browser.evaluate(f"void {change}")
        browser.wait(gone)
    assert browser.evaluate(show) is False
    browser.size(390, 844)
    browser.wait(gone)  # it would hang over the edge
    assert browser.evaluate(show) is False
    browser.evaluate("location.hash = '#features'")
    browser.wait("document.body.dataset.view === 'features'")
    browser.evaluate("location.hash = '#map'")
    browser.wait(f"document.body.dataset.view === 'map' && {gone}")


def test_a_kind_is_named_at_one_place_whichever_colours_are_chosen(browser, address):
    browser.open(f"{address}#map")
    placed = """(async () => {
        const read = () => JSON.stringify(Array.from(document.querySelectorAll(".names .region[style*=visible]"),
            (e) => [e.textContent, ...e.style.transform.match(/[\\d.]+/g).slice(0, 2).map(Number)]));
        let before = read();
        for (let frames = 0; frames < 10; frames++) {
            await new Promise(requestAnimationFrame);
            if (read() !== before) [before, frames] = [read(), 0];
        }
        return JSON.parse(before);
    })()"""  # once they rest, as they find other places when the map gets its size
    of_kinds = browser.evaluate(placed)
    field = "document.querySelector('.maphead select')"
    browser.evaluate(f"{field}.value = 'density'; {field}.dispatchEvent(new Event('change'))")
    now = browser.evaluate(placed)
    assert len(of_kinds) > 1 and [name for name, *_ in now] == [name for name, *_ in of_kinds]
    for (_, *place), (_, *before) in zip(now, of_kinds, strict=True):
        assert np.abs(np.subtract(place, before)).max() < 2


def test_a_name_that_has_no_room_at_its_point_stands_at_the_end_of_a_line_from_it(browser, address):
    """The points lie so close in a row that their names have no room side by side."""
    browser.open(address)
    row = "points.x.forEach((_, k) => { points.x[k] = k / 8; points.y[k] = 0; })"
    browser.evaluate("report.loadTable().then(() => report.columns.rule.forEach((rule) => rule.push(' in t')))")
    browser.evaluate(f"void report.loadData('map').then((points) => {{ {row}; location.hash = '#map?q=t'; }})")
    # The legend takes its rows when it is filled, and the frame what is left: then all is drawn again.
    starts = "(document.querySelector('.leaders')?.getAttribute('d') ?? '').match(/^M\\S+ (\\S+)L/)?.[1]"
    middle = "document.querySelector('.plot.map')?.getBoundingClientRect().height / 2"
    browser.wait(f"Math.abs({starts} - {middle}) < 3")
    named, n, drawn, boxes, height = browser.evaluate("""(() => {
        const side = document.querySelector(".plot.map").getBoundingClientRect();
        const boxes = Array.from(document.querySelectorAll(".names .own[style*=visible]"), (name) => {
            const box = name.getBoundingClientRect();
            const [x, y] = [side.left + 1, side.top + 1];
            return [box.left - x, box.top - y, box.right - x, box.bottom - y];
        });
        const textOf = (selector) => document.querySelector(selector).textContent;
        const drawn = document.querySelector(".leaders").getAttribute("d");
        return [boxes.length, parseInt(textOf(".list h3")), drawn, boxes, side.height];
    })()""")  # at once, as names find other places while further ones are written
    assert 0 < named < n
    lines = drawn.split("M")[1:]
    for line in lines:
        (x0, y0), (x1, y1) = (map(float, end.split()) for end in line.split("L"))
        assert abs(y0 - height / 2) < 3, "it begins at its point"
        ended = [1 for left, top, right, bottom in boxes if left - 3 < x1 < right + 3 and top - 3 < y1 < bottom + 3]
        assert len(ended) == 1, "and ends at its name"
        assert abs(x1 - x0) + abs(y1 - y0) > 10


def test_the_names_of_a_small_selection_cover_none_of_it_and_say_different_things(browser, address):
    """The points lie in a row, ever closer towards its left end."""
    browser.open(address)
    row = "points.x.forEach((_, k) => Object.assign(points.x, { [k]: k * k })), points.y.fill(0)"
    browser.evaluate(f"void report.loadData('map').then((points) => {{ {row}; location.hash = '#map?q=t'; }})")
    browser.wait("document.querySelector('.names .own[style*=visible]') !== null")
    own = "Array.from(document.querySelectorAll('.names .own[style*=visible]'), (e) => %s)"
    boxes = browser.evaluate(
        own % "(({ left, right, top, bottom }) => [left, right, top, bottom])(e.getBoundingClientRect())"
    )
    dots = browser.evaluate("""Array.from(document.querySelectorAll(".hits path:not(.rim)"), (dot) => {
        const { x, y } = dot.getPointAtLength(0).matrixTransform(dot.getScreenCTM());
        return [x, y];
    })""")
    assert len(dots) > 1 and boxes
    for left, right, top, bottom in boxes:
        assert not [1 for x, y in dots if left - 3 < x < right + 3 and top - 3 < y < bottom + 3]
    said = browser.evaluate(own % "e.textContent")
    assert len(set(said)) == len(said)


def test_on_a_phone_a_tapped_feature_lies_over_the_bottom_and_is_closed_again(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#map/3")
    box = "document.querySelector('.chosen-one').getBoundingClientRect().toJSON()"
    card = browser.evaluate(box)
    assert card["bottom"] == 844 and card["width"] == 390 and card["height"] < 0.5 * 844
    ring = browser.evaluate("document.querySelector('.ring').getBoundingClientRect().bottom")
    assert ring < card["top"], "it does not cover the point"
    browser.click(".card .close")
    assert browser.evaluate("document.querySelector('.chosen-one .card') === null")
    assert browser.evaluate("document.querySelector('.ring').hidden")
    browser.open(f"{address}#map/{SPLIT}")
    marks = "Array.from(document.querySelectorAll('.card .example .sense'), (e) => e.getBoundingClientRect().width)"
    assert min(browser.evaluate(marks)) > 14, "the letter of a sense is whole"


def test_points_are_discs_in_their_colours_the_later_over_the_earlier(browser, address):
    browser.open_once(address)
    drawn = """(() => {
        const canvas = report.h("canvas", { width: 40, height: 20 });
        const points = report.pointPainter(canvas, Float32Array.of(-1, 0, 1, 0.5, 5, 5));
        points.paint(Uint8Array.of(255, 0, 0, 255, 0, 0, 255, 51, 1, 1, 1, 255), [255, 255, 255]);
        points.draw({ x: 0, y: 0, scale: 10, diameter: 6 }, 0, 2);
        points.draw({ x: 0, y: 0, scale: 10, diameter: 6 }, 2, 3);
        const at = ([x, y]) => Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data);
        return [[10, 10], [30, 5], [20, 10], [10, 16], [12, 11]].map(at);
    })()"""
    *inside, rim = browser.evaluate(drawn)
    assert inside == [
        [255, 0, 0, 255], [204, 204, 255, 255], [255, 255, 255, 255], [255, 255, 255, 255],
    ]  # fmt: skip
    assert 0 < rim[1] < 255, "a pixel that a disc covers in part"


def test_a_small_selection_is_drawn_larger_and_the_starred_have_a_star(browser, address):
    browser.open(f"{address}#map?q=%233")
    hits = "document.querySelectorAll('.hits path:not(.rim)').length"
    assert browser.evaluate(hits) == 1 and browser.text(".names .star") == []
    browser.wait("document.querySelector('.names .own[style*=visible]') !== null")
    assert browser.text(".names .own[style*=visible]") == ["3 python"], "what the list says of it, with its number"
    assert browser.text("#map .legend li:not(.none)") == ["python 1"], "the kinds of the others are pale"
    none = "getComputedStyle(document.querySelector('#map .legend .none .verdict'))"
    assert browser.evaluate(f"document.querySelector('#map .legend .none') === null || {none}.opacity === '1'")
    assert not browser.faint() and browser.text("#map .applied") == [""], "the field has what is searched"
    dimmed = "[...document.querySelectorAll('.regions path, .names .name')].every((e) => e.matches('.aside'))"
    assert browser.evaluate(dimmed), "names of tokens too"
    assert browser.text(".maphead output") == ["1 foundZoom to themList in the table"]
    browser.click(".maphead output button")
    browser.wait("!document.querySelector('.inset').hidden")  # it is closer than the whole
    browser.evaluate("report.setNote(3, { star: true })")
    browser.open(f"{address}#map")
    hits = "document.querySelectorAll('.hits:not(.knobs) path').length"
    assert browser.evaluate(hits) == 0 and browser.text(".names .star") == ["★"]
    browser.evaluate("report.setNote(3, { star: false })")


def test_the_whole_map_names_features_apart_from_each_other_where_no_kind_of_text_is_at_home(browser, address):
    browser.open(f"{address}#overview")
    browser.wait("report.columns.f1")
    browser.evaluate("report.columns.f1.fill(0.9).fill(0.1, 20); location.hash = '#map'")
    shown = "Array.from(document.querySelectorAll('.names .own[style*=visible]'), (e) => e.textContent)"
    names = browser.wait(f"{shown}.length > 1 && {shown}")
    assert max(map(len, names)) <= 24
    assert "python" not in names, "the name of a label would look like that of an area"
    unsure = browser.evaluate("report.columns.text.slice(20)")
    assert not set(names) & set(unsure) and not any(", " in name or " or " in name for name in names)
    points = """Array.from(document.querySelectorAll(".hits.knobs path:not(.rim)"), (e) => {
        const { x, y, width, height } = e.getBoundingClientRect();
        return [x + width / 2, y + height / 2];
    })"""
    places = browser.evaluate(points)
    assert len(places) == len(names)
    assert all(math.dist(one, other) >= 99 for k, one in enumerate(places) for other in places[:k])
    browser.evaluate("location.hash = '#map?q=w1'")
    browser.wait("document.querySelector('.names mark') !== null")
    assert all(re.match(r"\d+ ", name) for name in browser.evaluate(shown)), "of a search only what it has found"


def test_the_name_of_a_feature_is_in_one_line_and_told_by_its_first_sense(browser, address):
    """Also on a phone, where a few features that are found are named on the whole map."""
    browser.size(390, 844)
    own = "document.querySelector('.names .own[style*=visible]')"
    browser.open(f"{address}#map?q=%23{SPLIT}")
    browser.wait(f"{own}?.textContent === '{SPLIT} A\\u00a0a rule that holds; +1 sense'")
    browser.evaluate("location.hash = '#map?q=%235'")
    browser.wait(f"{own}?.textContent === '5 \"1233\"' && {own}.getClientRects().length === 1")
    assert browser.evaluate(f"{own}.offsetHeight") < 24


def test_a_search_that_only_the_rule_of_all_senses_fits_shows_that_rule(browser, address):
    browser.open(f"{address}#overview")
    browser.evaluate(f"""report.columns.rule[{SPLIT}] = [["a"], ", ", ["b"], ", ", ["zebra"], " or ", ["c"]];
        report.setNote({SPLIT}, {{ note: 'zebra' }}); location.hash = '#map?q=zebra';""")
    browser.wait("document.querySelector('.listed mark')?.textContent === 'zebra'")
    browser.evaluate(f"report.setNote({SPLIT}, {{ note: '' }})")


def test_all_features_that_are_found_are_named_with_their_numbers(browser, address):
    browser.open(f"{address}#map?q=t")
    browser.wait("document.querySelectorAll('.names .own[style*=visible]').length > 2")
    assert all(re.match(r"\d+( |$)", name) for name in browser.text(".names .own[style*=visible]"))


def test_weak_matches_are_small_points_without_a_name_that_the_list_folds(browser, address):
    """One feature fires on the word, another on it at 4 % of its firings, a third on a word of which it is a part."""
    browser.open(f"{address}#overview")
    browser.evaluate("""const some = { 3: [["thou"], [0.9]], 4: [["x", "thou"], [0.9, 0.04]], 5: [["although"], [1]] };
        Object.entries(some).forEach(([latent, [tokens, shares]]) => {
            Object.assign(report.columns.tokens, { [latent]: tokens });
            Object.assign(report.columns.token_shares, { [latent]: shares });
            Object.assign(report.columns.rule, { [latent]: [[tokens[0]]] });
            Object.assign(report.columns.brief, { [latent]: null });
            Object.assign(report.columns.text, { [latent]: `"${tokens[0]}"` });
            Object.assign(report.columns.short, { [latent]: [[tokens[0]]] });
        });
        location.hash = '#map?q=thou';""")
    browser.wait("document.querySelector('.names .own[style*=visible]') !== null")
    assert browser.text(".names .own[style*=visible]") == ['3 "thou"']
    assert browser.evaluate("document.querySelectorAll('.hits path:not(.rim)').length") == 1
    assert browser.text(".list h3") == ["3 found"] and browser.text(".weaker summary") == ["and 2 weaker"]
    assert browser.text(".list > .listed .number") == ["3"] and browser.text(".weaker .number") == ["4", "5"]
    browser.evaluate("report.select({ query: 'altho' })")
    assert browser.text(".list > .listed .number") == ["5"], "where all are weak, none is left out"


def test_of_parts_of_characters_a_name_has_the_box_and_the_list_the_words_too(browser, address):
    browser.open(f"{address}#map?q=%236")
    browser.evaluate("""((latent) => {
        const pieces = [["…פ", "the last byte of the Hebrew letter פ"]];
        report.columns.short[latent] = report.columns.rule[latent] = [["⟨a4⟩", pieces]];
        report.columns.brief[latent] = null;
        report.select({ query: "#6 " });
    })(6)""")
    told = "Array.from(document.querySelectorAll('%s'), (e) => e.innerText).join()"
    browser.wait("document.querySelector('.names .own[style*=visible] .byte')?.dataset.known === '…פ'")
    assert "the last byte of" in browser.evaluate(told % ".listed .rule")
    assert "the last byte of" not in browser.evaluate(told % ".names .own")


def test_a_name_has_what_a_search_has_found_or_else_the_token_with_its_share(browser, address):
    browser.open(f"{address}#map?q=1233")
    names = """(rules) => rules.map((rule) => {
        report.columns.short[5] = rule;
        report.columns.token_shares[5] = [0.4];
        return report.nameAtPoint(5, true).outerHTML.replace(/<(?!.?mark)[^>]*>/g, "");
    })"""
    rules = json.dumps([["in 1233 script after ", ["x"]], [["1233"]], [["y"], " +1"]])
    assert browser.evaluate(f"({names})({rules})") == [
        '5 in <mark>1233</mark> script after "x"', '5 "<mark>1233</mark>"', "5 <mark>40 % on 1233</mark>"
    ]  # fmt: skip


def test_a_kind_of_text_has_one_hue_on_both_grounds_and_is_told_from_black():
    """In OKLab (Ottosson 2020)."""
    source = (files("interp.report") / "page/map/colours.js").read_text()
    pairs = re.findall(r'\["#(\w{6})", "#(\w{6})"\]', source)
    channels = np.array([[[int(hue[k : k + 2], 16) for k in (0, 2, 4)] for hue in pair] for pair in pairs]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    light, dark = np.moveaxis(np.cbrt(linear @ np.transpose(cones)) @ np.transpose(lab), 1, 0)
    angles = [np.arctan2(ground[:, 2], ground[:, 1]) for ground in (light, dark)]
    assert len(pairs) == 14 and np.cos(angles[0] - angles[1]).min() > 0.995
    assert light[:, 0].min() > 0.48 and light[:, 0].max() < 0.76
    for ground in (light, dark):
        apart = np.linalg.norm(ground[1:, None] - ground[None, 1:], axis=2)
        assert apart[~np.eye(len(apart), dtype=bool)].min() > 0.12


def test_a_map_of_131072_latents_is_drawn(browser, address, tmp_path):
    n = 1 << 17
    page = Path(shutil.copytree(Path(urlparse(address).path).parent, tmp_path / "page"))
    places = [k / n for k in range(n)]
    many = {"latents": [k % D_SAE for k in range(n)], "x": places, "y": places, "way": "PCA", "names": []}
    (page / "data/map.js").write_bytes(_script("map", encode(many)))
    browser.open((page / "index.html").as_uri())
    browser.wait("document.querySelector('.smallmap canvas, #trouble:not([hidden])') !== null")
    assert browser.text("#trouble span") == [""]


def test_a_name_that_fails_keeps_no_other_from_being_shown(browser, address):
    browser.open(f"{address}#map")
    n = len(browser.text(".listed li"))
    browser.evaluate("""(() => {
        const get = () => {
            if (!window.isMended) throw new Error("3 has no name");
            return null;
        };
        for (const name of ['brief', 'short']) Object.defineProperty(report.columns[name], 3, { get });
        report.select({ query: "" });
    })()""")
    browser.wait("document.querySelector('#trouble span').textContent.endsWith('3 has no name')")
    rows = browser.text(".listed li")
    assert len(rows) == n and rows.count("3") == 1
    assert browser.complaints
    browser.evaluate("window.isMended = true")  # what is drawn later would complain again
    browser.complaints.clear()
    browser.click("#trouble button")
    assert browser.evaluate("document.getElementById('trouble').hidden")


def test_a_line_crosses_a_box_only_where_it_enters_it(browser, address):
    browser.open_once(address)
    crosses = "report.crosses([[0, 0], {}], {})"
    for to, box, is_crossed in [
        ([10, 10], [4, 4, 6, 6], True),
        ([10, 10], [4, 6, 5, 9], False),
        ([5, 0], [4, -1, 6, 1], True),
        ([3, 0], [4, -1, 6, 1], False),
        ([0, 9], [1, 0, 2, 9], False),
        ([0, 9], [-1, 2, 1, 3], True),
    ]:
        assert browser.evaluate(crosses.format(to, box)) is is_crossed, (to, box)


def test_a_phone_has_the_buttons_the_legend_in_a_line_and_the_list_below_the_map(browser, address):
    browser.size(390, 844)
    browser.open(f"{address}#map")
    box = "document.querySelector('{}').getBoundingClientRect()"
    below = f"{box.format('.zooms')}.top >= {box.format('.plot.map')}.bottom"
    assert browser.evaluate(below) and browser.text(".how summary") == ["How to read it"]
    browser.evaluate("report.select({ query: '#3' })")
    assert browser.evaluate(f"{box.format('.maphead output')}.bottom <= {box.format('.plot.map')}.top"), "what is found"
    browser.evaluate("report.select({ query: '' })")
    assert browser.evaluate(f"{box.format('#map ul.legend')}.height < 50 && {box.format('.how')}.right <= 390")
    assert browser.evaluate(
        f"{box.format('.listed')}.top < 844 && {box.format('.listed')}.top < {box.format('.how')}.top"
    )
    browser.size(1400, 900)
    assert not browser.evaluate(below), "a wide window has them beside the map"
