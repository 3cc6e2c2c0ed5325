/* Where each common kind of text is at home on the map: tints, within whose outlines the name of the kind stands. */

import { REST, commonKindOf } from "../data/latents.js";
import { svg } from "../elements/elements.js";
import { isDark } from "../elements/theme.js";
import { hueOfKind } from "./colours.js";
import { centre, clipped, contours, inside, squares } from "./plane.js";

/** @import { Squares } from "./plane.js" */
/** Where a kind of text is at home on the map.
 * @typedef {{
 *   path: string,
 *   corners: number[],
 *   box: [left: number, right: number, bottom: number, top: number],
 *   size: number,
 * }} Outline */

/** Where each common kind of text is at home: the largest area where its points lie dense among all, so that each tint
 * has a name. If `isOfKinds` is false, as for colours that lie mixed, all areas where all points are dense. Returns for
 * each [kind, "" for all; its outlines; the paths in them where it is densest].
 * @type {(points: DecoderMap, isOfKinds: boolean) => [kind: string, outlines: Outline[], cores: string[]][]} */
export function homesOf({ latents, x, y }, isOfKinds) {
  const LEVELS = [0.2, 0.55]; // as shares of the largest density
  const groups = Map.groupBy(latents.keys(), (k) => (isOfKinds ? commonKindOf(latents[k]) : ""));
  for (const kind of REST) groups.delete(kind);
  const some = Array.from(groups.values(), (places) => ({ x: places.map((k) => x[k]), y: places.map((k) => y[k]) }));
  const drawn = contours(some, LEVELS, { x, y });
  return [...groups.keys()].map((kind, k) => {
    const [areas, cores] = drawn[k].map((paths) => paths.map(outlineOf).sort((a, b) => b.size - a.size));
    const outlines = isOfKinds ? areas.slice(0, 1) : areas;
    const isIn = (/** @type {Outline} */ { corners: [x0, y0] }) =>
      outlines.some(({ corners }) => inside(corners, [x0], [y0]).length > 0);
    return [kind, outlines, cores.filter(isIn).map(({ path }) => path)];
  });
}

/** An outline: its path, its corners as x, y, x, y, …, their box [left, right, bottom, top], and its area.
 * @type {(path: string) => Outline} */
function outlineOf(path) {
  const corners = (path.match(/-?[\d.]+/g) ?? []).map(Number);
  const [left, right, bottom, top] = squaresOf(corners).box;
  return { path, corners, box: [left, right, bottom, top], size: (right - left) * (top - bottom) };
}

/** The squares of corners x, y, x, y, ….
 * @type {(corners: number[]) => Squares} */
function squaresOf(corners) {
  const [x, y] = [0, 1].map((axis) => corners.filter((_, k) => k % 2 === axis));
  return squares(x, y);
}

/* The tints in a layer of the map, a group of SVG in the coordinates of its points. Names stand where kinds of text are
 * at home, whichever tints are drawn. */
export function mapRegions(layer, points) {
  const ABROAD = 4, // what it costs that a ninth of a name lies on the tint of another kind of text alone
    OUTSIDE = 8; // or outside that of its own
  const [ofAll, ofKinds] = [false, true].map((isOfKinds) => homesOf(points, isOfKinds));
  const named = ofKinds.filter(([, outlines]) => outlines.length);
  const homes = new Map(named.map(([kind, [outline]]) => [kind, outline]));
  const edges = squaresOf([...homes.values()].flatMap(({ corners }) => corners));
  const around = squaresOf([...ofAll, ...ofKinds].flatMap(([, outlines]) => outlines)
    .flatMap(({ corners }) => corners));
  let drawn = "";

  /* Draw the tints of kinds of text or, for other colours, of all points. */
  function draw(isOfKinds) {
    if (drawn === `${isOfKinds} ${isDark()}`) return;
    drawn = `${isOfKinds} ${isDark()}`;
    layer.classList.toggle("of-all", !isOfKinds);
    layer.replaceChildren(...(isOfKinds ? ofKinds : ofAll).flatMap(([kind, outlines, cores]) => {
      const fill = hueOfKind(kind) ?? "var(--muted)";
      const tint = (d, name) => svg("path", { d, fill, stroke: fill, "data-name": kind, class: name });
      return [...outlines.map(({ path }) => tint(path, "")), ...cores.map((path) => tint(path, "core"))];
    }));
  }

  const isOver = ([left, right, bottom, top], [from, low, to, high]) =>
    left < to && right > from && bottom < high && top > low;

  /* Whether a name at a place may be that of this kind of text: one that has an outline is named within it, and any
   * other outside all of them. */
  function isAtHome(kind, x, y) {
    const isIn = ({ corners, box }) => isOver(box, [x, y, x, y]) && inside(corners, [x], [y]).length > 0;
    const home = homes.get(kind);
    return home ? isIn(home) : ![...homes.values()].some(isIn);
  }

  /* What it costs that a name of a kind of text, or null of none, takes a box [left, bottom, right, top]: the outlines
   * that it crosses, and of a kind as far as it lies outside its tint or on other tints alone. */
  function costOf(kind, [left, bottom, right, top]) {
    const crossed = edges.inBox(left, bottom, right, top);
    if (kind === null) return crossed;
    const xs = [0, 1, 2, 0, 1, 2, 0, 1, 2].map((k) => left + ((right - left) * k) / 2);
    const ys = [0, 0, 0, 1, 1, 1, 2, 2, 2].map((k) => bottom + ((top - bottom) * k) / 2);
    const under = (some) => new Set(some.filter(({ box }) => isOver(box, [left, bottom, right, top]))
      .flatMap(({ corners }) => Array.from(inside(corners, xs, ys))));
    const atHome = under(homes.has(kind) ? [homes.get(kind)] : []);
    const others = [...homes].flatMap(([other, outline]) => (other === kind ? [] : [outline]));
    return crossed + ABROAD * [...under(others)].filter((k) => !atHome.has(k)).length
      + (homes.has(kind) ? OUTSIDE * (xs.length - atHome.size) : 0);
  }

  /* Places for the name of an outline: the middle of its part in a view [left, right, bottom, top], and the place where
   * its kind of text is densest (home), if they lie in that part. */
  function placesOf({ corners }, home, view) {
    const part = clipped(corners, view);
    return [centre(part), home].filter(([x, y] = []) => inside(part, [x], [y]).length > 0);
  }

  return {
    draw,
    box: around.box, // of the tints of either
    has: (kind) => homes.has(kind),
    outlineOf: (kind) => homes.get(kind),
    some: () => homes.size > 0,
    isAtHome, costOf, placesOf,
  };
}
