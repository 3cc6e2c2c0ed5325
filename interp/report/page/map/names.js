/* The names on the map: of the whole those of common kinds of text, each as large as its kind; in a closer view also
 * those of rare kinds and of clusters, and then of features. Those of features that are selected have their numbers,
 * and of few features in view each has what it fires on and a piece of text. One that has no room waits for a closer
 * view. None lies over another, over a corner of the map that is covered or, but for those of kinds,
 * over a point that is drawn larger. The name of a feature stands at its point, or at the end of a line from it. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { commonKindOf } from "../data/latents.js";
import { h, svg } from "../elements/elements.js";
import { withFallback } from "../elements/errors.js";
import { format } from "../elements/format.js";
import { hueOfKind, inked } from "./colours.js";
import { crosses, meet } from "./plane.js";
import { nameAtPoint, strongestFiring } from "./words.js";
import { hasSenses } from "../views/table_cells.js";
import { selectedLatents } from "../selection/selection.js";
import { isNamedByLabel, labelOrCaptionText } from "../text/captions.js";
import { drawSegments } from "../text/segments.js";

export function mapNames({ points, placeOf, scatter, regions }) {
  const NARROW = matchMedia("(max-width: 860px)");
  const CLOSER = 1.4, // times closer than the whole, from which on rare kinds and clusters are named
    OWN_CLOSE = 2, // and, instead of those of tokens, those of features
    MOST_OWN = 250, // features in view for which a name is tried
    EACH = 150, // features in view, up to which each has a name where there is room
    WITH_TEXT = NARROW.matches ? 8 : 30, // and up to which each has a piece of text
    MOST_TRIED = 100, // of a selection in view, for which a name is tried
    MOST_NAMED = NARROW.matches ? 8 : 15, // and which are named
    LARGER = 30, // points that a name may cover rather than one that is drawn larger
    GAP = 6, // pixels between two names in one line
    BESIDE = 4, // pixels between the edge of a point and its name
    HITS = [8, 6], // pixels, the radius of a point that is drawn larger, and of one of many
    MANY_HITS = 40, // from which on they are many
    MOST_COVERED = 4, // points under the name of a small cluster
    CORE = 40, // pixels around a point within which other points make its place dense
    MOST_LED = 32, // names at the end of a line, where nothing is selected
    BETWEEN = NARROW.matches ? 80 : 100, // pixels between two features that are named on the whole map
    TRIED_EACH = 5, // features of each square of that size, whose names are tried
    MOST_UNDER = 18, // points under such a name
    BRIEF = 24, // letters of such a name at most
    SURE_F1 = 0.8, // F1 of such a feature at least
    LISTS = /, | or |mostly/, // in what names no single thing
    SHORT_LINE = 60, // pixels, the length of that line at most
    CARRIED = 0.4, // of the frame's width or height, how far names go with a map that is dragged, at most
    APART = 60; // pixels on either side of the name of a small kind of text within which points lie
  /* Sides of a point at which its name may stand, from its middle to that of the name. */
  const SIDES = [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 0.6], [1, -0.6], [-1, 0.6], [-1, -0.6], [1, 1], [1, -1], [-1, 1],
    [-1, -1], [0.5, 1], [0.5, -1], [-0.5, 1], [-0.5, -1]];
  /* Ways from a point, in pixels, to a name at the end of a line, the shortest first. */
  const AWAY = [22, 40, 60, 82, 110].flatMap((reach) => Array.from({ length: 12 }, (_, k) =>
    [Math.cos((k * Math.PI) / 6), Math.sin((k * Math.PI) / 6)].map((part) => reach * part)));
  const AWAY_SHORT = AWAY.filter((way) => Math.hypot(...way) < SHORT_LINE);
  const sizes = new WeakMap(); // of names, in pixels
  const ownNames = new Map(); // latent, or what is shown instead of its name → the element
  const ownLayer = h("div");
  let isNumbered = false; // whether they have their numbers
  /** The features whose names are tried on the whole map, at a scale. @type {{ scale: number, latents: number[] }} */
  let tried = { scale: NaN, latents: [] };
  /** The view in which the names were placed, and the size of the frame. */
  let placed = { x: NaN, y: NaN, scale: NaN, size: "" };
  const leading = svg("path", { class: "leaders" });
  const numbers = Map.groupBy(points.latents, commonKindOf);
  /* Names that stay: of clusters, and of kinds of text. */
  const fixed = points.names.map(([x, y, name, level]) => {
    const kind = page.names.kind.find((each) => format.words(each) === name) ?? null;
    if (kind === null) {
      const isToken = typeof name !== "string";
      const element = h(isToken ? "span.name" : "span.name.phrase", null, drawSegments([name]));
      return { x, y, level, kind, element };
    }
    const size = Math.sqrt(numbers.get(kind)?.length ?? 0);
    const element = h("span.name.region", { "data-kind": kind, "--root": size.toFixed(1) }, name);
    return { x, y, kind, outline: regions.outlineOf(kind), element };
  });
  /* The smaller outlines first: larger ones have more places. */
  const sizeOf = ({ outline }) => outline?.size ?? 1e6;
  const kinds = fixed.filter(({ kind }) => kind !== null).sort((one, other) => sizeOf(one) - sizeOf(other));
  const clusters = fixed.filter(({ kind }) => kind === null);

  /* Half the width and half the height of a name. */
  function halvesOf(element) {
    if (!sizes.has(element)) sizes.set(element, [element.offsetWidth / 2, element.offsetHeight / 2]);
    return sizes.get(element);
  }

  /* An element that is made once for a key, and stays on the page, since the browser would measure it again. */
  function kept(key, make) {
    if (!ownNames.has(key)) {
      ownNames.set(key, make());
      ownLayer.append(ownNames.get(key));
    }
    return ownNames.get(key);
  }

  const ownName = (latent) => kept(latent, () =>
    withFallback(() => nameAtPoint(latent, isNumbered), h("span.own", null, String(latent))));

  /* The forms of the name of one of few features, the longest first, each made once it is needed: with a piece of text
   * from `rowData`, unless that is null, its words and, of a selection, its number. */
  function* formsOf(latent, rowData) {
    const words = ownName(latent);
    const copy = (selector, ...more) =>
      h(`span.own${selector}`, null, Array.from(words.cloneNode(true).childNodes), more);
    if (rowData) yield kept(`text of ${latent}`, () => copy(".with-text", strongestFiring(latent, rowData)));
    yield words;
    if (isNumbered) yield kept(`number ${latent}`, () => h("span.own", null, String(latent)));
  }

  /* Names are placed one after another. put: shows a name at the one of some places, [middle, height, cost, from],
   * that is free and covers few points and few lines, at most `most`; of equals, at the first. from: where it is not
   * at its point, the point from which a line leads to it. It returns the place, or null. isCovered: whether something
   * lies over a place, names too if byNames. leaders: the lines, of two ends; radius: that of a point that is drawn
   * larger.
   *
   * covered: boxes of the frame that are covered; dots: points that are drawn larger; lines: of two ends. */
  function placing(covered, dots, lines) {
    const [width, height] = scatter.size();
    const boxes = [...covered];
    /** @type {(box: number[], other: number[]) => boolean} */
    const overlaps = ([left, top, right, bottom], [from, above, to, below]) =>
      left < to + GAP && right > from - GAP && top < below && bottom > above;
    const leaders = [];
    const radius = HITS[Number(dots.length > MANY_HITS)];
    /** @type {(box: number[]) => number} */
    const larger = ([left, top, right, bottom]) => dots.filter(([x, y]) =>
      x > left - radius && x < right + radius && y > top - radius && y < bottom + radius).length;
    const edge = scatter.diameter() / 2 + 2; // of a point that is drawn with a rim
    function costOf(box, kind, isOwn) {
      const [left, top, right, bottom] = box;
      const inData = [...scatter.toData(left, bottom), ...scatter.toData(right, top)];
      const under = isOwn ? [left - edge, top - edge, right + edge, bottom + edge] : box;
      return scatter.covered(...under) + regions.costOf(kind, inData) + LARGER * larger(box);
    }
    /* Whether nothing lies between a name and its point, but what lies over the point. */
    function isClear(line) {
      const [[x, y]] = line;
      const isOver = (box) => overlaps([x, y, x, y], box);
      const isOther = ([dx, dy]) => Math.hypot(dx - x, dy - y) > 1;
      const around = ([dx, dy]) => [dx - radius / 2, dy - radius / 2, dx + radius / 2, dy + radius / 2];
      return !boxes.some((other) => crosses(line, other) && !isOver(other))
        && !leaders.some((other) => meet(line, other))
        && !dots.some((dot) => isOther(dot) && crosses(line, around(dot)));
    }
    /** @type {(from: number[], box: number[]) => number[][]} */
    const leader = ([x, y], [left, top, right, bottom]) =>
      [[x, y], [Math.min(Math.max(x, left), right), Math.min(Math.max(y, top), bottom)]];
    /** Whether points lie on both sides of a name. @type {(box: number[]) => boolean} */
    const isAmong = ([left, top, right, bottom]) =>
      [[left - APART, left], [right, right + APART]].every(([from, to]) => scatter.covered(from, top, to, bottom));
    /* Whether a name may be that of a kind: its middle, or a point `reach` beside that, lies where this is at home. */
    const isOfKind = (kind, px, py, box, reach) => regions.isAtHome(kind, ...scatter.toData(px + reach, py))
      && (regions.has(kind) || isAmong(box));
    function put(element, places, { kind = null, most = Infinity, isOwn = false, reach = 0 } = {}) {
      const [w, tall] = halvesOf(element).map((half) => half + 1);
      const isFree = (px, py, box) => px > w && px < width - w && py > tall && py < height - tall
        && !boxes.some((other) => overlaps(box, other)) && !leaders.some((line) => crosses(line, box))
        && (kind !== null ? isOfKind(kind, px, py, box, reach * w)
          : !larger(box) && !lines.some((line) => crosses(line, box)));
      let best = null, least = Infinity;
      for (const [px, py, cost = 0, from] of places) {
        const box = [px - w, py - tall, px + w, py + tall];
        if (cost >= least || !isFree(px, py, box) || (from && !isClear(leader(from, box)))) continue;
        const all = costOf(box, kind, isOwn) + cost;
        if (all - cost <= most && all < least) [best, least] = [{ px, py, box, from }, all];
      }
      if (!best) return null;
      element.style.visibility = "visible";
      element.style.transform = `translate(${best.px - w + 1}px, ${best.py}px) translate(0, -50%)`;
      boxes.push(best.box);
      if (best.from) leaders.push(leader(best.from, best.box));
      return [best.px, best.py];
    }
    const isCovered = (x, y, byNames) => (byNames ? boxes : covered).some((box) => overlaps([x, y, x, y], box));
    return { put, leaders, radius, isCovered };
  }

  const pixelsOf = (latent) => scatter.toPixels(points.x[placeOf.get(latent)], points.y[placeOf.get(latent)]);
  const around = (x, y) => placesAround(...scatter.toPixels(x, y));

  /* How many points lie around one. */
  function densityAt(latent) {
    const [px, py] = pixelsOf(latent);
    return scatter.covered(px - CORE, py - CORE, px + CORE, py + CORE);
  }

  const isNear = ([px, py], [x, y]) => Math.hypot(x - px, y - py) < BETWEEN;

  /* Whether its name tells one thing: features of several senses, or whose rule is unsure or lists several things, tell
   * little of their place. */
  const isTelling = (latent) => {
    const name = labelOrCaptionText(latent);
    return name.length <= BRIEF && !LISTS.test(name) && (columns.f1[latent] ?? 0) >= SURE_F1 && !hasSenses(latent);
  };

  /* Features whose names stand for those around them on the whole map: of the first TRIED_EACH of each square of it,
   * where no kind of text is at home, the two with most room, of the kind of text that most of the square are of. Those
   * named by kinds of text would look like areas. */
  function spread() {
    const { scale } = scatter.view;
    if (tried.scale === scale) return tried.latents;
    const squareOf = (latent) => [points.x, points.y]
      .map((axis) => Math.floor((axis[placeOf.get(latent)] * scale) / BETWEEN)).join();
    const squares = Map.groupBy(selectedLatents().filter((latent) => placeOf.has(latent)), squareOf);
    const isFree = (k) => regions.isAtHome(null, points.x[k], points.y[k]);
    const ofSquare = (/** @type {number[]} */ some) => {
      const [typical] = Array.from(Map.groupBy(some, commonKindOf).values()).sort((a, b) => b.length - a.length);
      const named = typical.filter((latent) =>
        !isNamedByLabel(latent) && isTelling(latent) && isFree(placeOf.get(latent))).slice(0, TRIED_EACH);
      return named.sort((one, other) => densityAt(one) - densityAt(other)).slice(0, 2);
    };
    tried = { scale, latents: Array.from(squares.values()).flatMap(ofSquare) };
    return tried.latents;
  }

  /* Name features, at most `most`, at their points or at the end of a line. isEach: all are to be named. Of many that
   * are not selected, names stand where they cover nothing, MOST_LED of them at the end of a short line; isOfWhole:
   * where they cover little, and apart from each other. rowData: as of `formsOf`. Returns those that are named. */
  function putOwn({ put, isCovered, leaders, radius }, latents, how) {
    const { colours, isSelected, isOfWhole, isEach, most, rowData } = how;
    const named = [];
    for (const latent of latents) {
      if (named.length === most) break;
      const [px, py] = pixelsOf(latent);
      if (isOfWhole && named.some((other) => isNear([px, py], pixelsOf(other)))) continue;
      const forms = isEach ? formsOf(latent, rowData) : [ownName(latent)];
      const isSpared = !isEach && !isSelected;
      if (isCovered(px, py, isSpared)) continue;
      const beside = Math.max(scatter.diameter() / 2, isSpared ? 0 : radius) + BESIDE;
      for (const each of forms) {
        const [across, down] = halvesOf(each);
        const near = SIDES.map(([x, y], k) => [px + x * (across + beside), py + y * (down + beside), 2 * k]);
        const ways = !isSpared ? AWAY : !isOfWhole && leaders.length < MOST_LED ? AWAY_SHORT : [];
        const far = ways.map(([x, y], k) =>
          [px + x + Math.sign(x) * across, py + y + Math.sign(y) * down, 2 * SIDES.length + k, [px, py]]);
        const spot = put(each, [...near, ...far],
          { isOwn: true, most: isOfWhole ? MOST_UNDER : isSpared ? 0 : Infinity });
        if (!spot) continue;
        each.style.color = `color-mix(in srgb, rgb(${colours.hueOf(latent)}) 40%, var(--ink))`;
        named.push(latent);
        break;
      }
    }
    return named;
  }

  /* Put all names at their places.
   *
   * colours: as `coloursOf` gives them. beside: the feature on the card and those nearest to it in the decoder; near:
   * of these those to which lines lead; enlarged: those whose points are drawn larger; covered: boxes over the map;
   * rowData: what the table shows of each feature beside numbers, null until it is read. Returns the features that are
   * named. */
  function place({ colours, beside, near, enlarged, covered, rowData }) {
    const [width, height] = scatter.size();
    placed = { ...scatter.view, size: String(scatter.size()) };
    layer.style.transform = "";
    const closeness = scatter.closeness();
    const isInView = (latent) => scatter.isInView(placeOf.get(latent));
    const isCloser = closeness >= CLOSER;
    const selected = (beside.length ? beside : enlarged.toReversed()).filter(isInView);
    const isSelected = beside.length > 0 || selected.length > 0;
    const isOfWhole = !isSelected && closeness < OWN_CLOSE;
    const inView = isSelected ? selected : (isOfWhole ? spread() : selectedLatents()).filter(isInView);
    const isEach = beside.length > 0 || (!isOfWhole && inView.length <= (isSelected ? MOST_NAMED : EACH));
    const wanting = isOfWhole ? inView : isSelected ? inView.slice(0, MOST_TRIED)
      : (isEach ? inView : inView.filter(isTelling)).slice(0, MOST_OWN);
    if (!isSelected && !isOfWhole) { // dense places first, as those at the edges have more room
      const density = new Map(wanting.map((latent) => [latent, densityAt(latent)]));
      wanting.sort((one, other) => density.get(other) - density.get(one));
    }
    const dots = (isSelected ? [...beside.slice(0, 1), ...enlarged] : isEach ? inView : []).map(pixelsOf);
    const places = placing(covered, dots, near.map((latent) => [beside[0], latent].map(pixelsOf)));
    for (const element of layer.querySelectorAll("[style*=visible]")) element.style.visibility = "hidden";
    const text = isEach && !isSelected && inView.length <= WITH_TEXT ? rowData : null;
    /* The sizes of all at once, before a place is set. */
    const first = wanting.map((latent) => (isEach ? formsOf(latent, text).next().value : ownName(latent)));
    for (const element of first) halvesOf(element);
    const [[west, south], [east, north]] = [scatter.toData(0, height), scatter.toData(width, 0)];
    for (const { x, y, kind, element, outline } of kinds) {
      if (!outline && !hueOfKind(kind) && !isCloser) continue;
      const homes = outline ? regions.placesOf(outline, [x, y], [west, east, south, north]) : [[x, y]];
      const spots = homes.flatMap(([across, up]) => around(across, up));
      // beside the frame also with one half alone over its kind
      [0, 0.6, -0.6].some((reach) => places.put(element, spots, { kind, reach }));
    }
    for (const { x, y, level, element } of isCloser && closeness < OWN_CLOSE && !isSelected ? clusters : []) {
      places.put(element, around(x, y), { most: level ? MOST_COVERED : Infinity });
    }
    const named = putOwn(places, wanting, { colours, isSelected, isOfWhole, isEach, rowData: text,
      most: !isSelected ? MOST_OWN : beside.length ? Infinity : MOST_NAMED });
    leading.setAttribute("d", places.leaders.map(([from, to]) => `M${from.join(" ")}L${to.join(" ")}`).join(""));
    return named;
  }

  /* Move all names with the map, as far as it has moved since they were placed; false if that is no short drag, so that
   * they are to be placed anew. */
  function carry() {
    const { x, y, scale } = scatter.view;
    const way = [(placed.x - x) * scale, (y - placed.y) * scale];
    const [across, down] = way.map((part, axis) => Math.abs(part) / scatter.size()[axis]);
    if (String(scatter.size()) !== placed.size || scale !== placed.scale || !(across || down)) return false;
    if (Math.max(across, down) > CARRIED) return false;
    layer.style.transform = `translate(${way.map((part) => `${part}px`).join(", ")})`;
    return true;
  }

  /* Write the names of features anew, as after a search or a note. n: of how many that are selected, which have their
   * numbers. */
  function forget(n) {
    isNumbered = n > 0;
    ownLayer.classList.toggle("brief", n > MOST_NAMED);
    ownLayer.replaceChildren();
    ownNames.clear();
    tried = { scale: NaN, latents: [] };
  }

  /* Colour the names of kinds of text as their points are; isOfKinds: whether the colours are of kinds. */
  function paint(isOfKinds) {
    for (const { kind, element } of kinds) {
      const hue = hueOfKind(kind);
      element.style.color = !isOfKinds ? "" : hue ? inked(hue) : "var(--muted)";
      element.classList.toggle("untinted", !hue || (regions.some() && !regions.has(kind)));
    }
  }

  /* Dim the names of those kinds of text, or null for tokens, of which `isDimmed` is true. */
  function dim(isDimmed) {
    for (const { kind, element } of fixed) element.classList.toggle("aside", isDimmed(kind));
  }

  const layer = h("div.names", null, svg("svg", { "aria-hidden": "true" }, leading),
    fixed.map(({ element }) => element), ownLayer);
  return { element: layer, place, carry, forget, paint, dim };
}

/* Places around one, [middle, height, cost], in pixels, with what it costs to stand there. */
export const placesAround = (px, py) => [0, 24, -24, 48, -48].flatMap((across) =>
  [0, 11, -11, 22, -22, 33, -33].map((down) => [px + across, py + down, Math.hypot(across, down) / 16]));
