/* Where each common kind of text is at home on the map: tints, within whose outlines the name of the kind stands. */

import { columns } from "../data/features.js";
import { REST, commonKindOf } from "../data/latents.js";
import { svg } from "../elements/elements.js";
import { isDark } from "../elements/theme.js";
import { hueOfKind } from "./colours.js";
import { centre, clipped, contours, inside, squares } from "./plane.js";
import { tokensOfRule } from "../text/segments.js";

/** @import { Squares } from "./plane.js" */
/** Where a kind of text is at home on the map.
 * @typedef {{
 *   path: string,
 *   corners: number[],
 *   box: [left: number, right: number, bottom: number, top: number],
 *   size: number,
 * }} Outline */

/** Where each common kind of text is at home: where its points lie dense among all. If `isOfKinds` is false, as for
 * colours that lie mixed, where all points are dense. Returns for each [kind, null for all; its outlines, the largest
 * first; the paths where it is densest].
 * @type {(points: DecoderMap, isOfKinds: boolean) => [kind: string, outlines: Outline[], cores: string[]][]} */
export function homesOf({ latents, x, y }, isOfKinds) {
  const LEVELS = [0.2, 0.55]; // as shares of the largest density
  const groups = Map.groupBy(latents.keys(), (k) => (isOfKinds ? commonKindOf(latents[k]) : null));
  for (const kind of REST) groups.delete(kind);
  const some = Array.from(groups.values(), (places) => ({ x: places.map((k) => x[k]), y: places.map((k) => y[k]) }));
  const drawn = contours(some, LEVELS, { x, y });
  return [...groups.keys()].map((kind, k) =>
    [kind, drawn[k][0].map(outlineOf).sort((a, b) => b.size - a.size), drawn[k][1]]);
}

/** An outline: its path, its corners as x, y, x, y, …, their box [left, right, bottom, top], and its area.
 * @type {(path: string) => Outline} */
function outlineOf(path) {
  const corners = path.match(/-?[\d.]+/g).map(Number);
  const [left, right, bottom, top] = squaresOf(corners).box;
  return { path, corners, box: [left, right, bottom, top], size: (right - left) * (top - bottom) };
}

/** The squares of corners x, y, x, y, ….
 * @type {(corners: number[]) => Squares} */
function squaresOf(corners) {
  const [x, y] = [0, 1].map((axis) => corners.filter((_, k) => k % 2 === axis));
  return squares(x, y);
}

/** Tokens that tell the outlines of one kind of text apart: of each those that the rules of most of its features name,
 * less those of the other outlines; none where it has one outline.
 * @type {(kind: string, outlines: Outline[], points: DecoderMap) => RuleToken[][]} */
export function tellingTokens(kind, outlines, { latents, x, y }) {
  const MOST = 2;
  if (outlines.length < 2) return outlines.map(() => []);
  const named = outlines.map(({ corners }) => inside(corners, x, y).map((k) => latents[k])
    .filter((latent) => commonKindOf(latent) === kind)
    .flatMap((latent) => tokensOfRule(columns.rule[latent])));
  const counts = named.map((tokens) => Map.groupBy(tokens, ([text]) => text));
  const numberIn = (n, text) => counts[n].get(text)?.length ?? 0;
  const lead = (n, text) => numberIn(n, text) - Math.max(...counts.map((_, k) => (k === n ? 0 : numberIn(k, text))));
  return counts.map((groups, n) => {
    const first = [...groups.keys()].filter((text) => text.trim() && lead(n, text) > 0)
      .sort((a, b) => lead(n, b) - lead(n, a));
    const unlike = Map.groupBy(first, (text) => text.trim().toLowerCase());
    return [...unlike.values()].slice(0, MOST).map(([text]) => groups.get(text)[0]);
  });
}

/* The tints in a layer of the map, a group of SVG in the coordinates of its points. Names stand where kinds of text are
 * at home, whichever tints are drawn. */
export function mapRegions(layer, points) {
  const ABROAD = 4; // what it costs that a ninth of a name lies on the tint of another kind of text
  const [ofAll, ofKinds] = [false, true].map((isOfKinds) => homesOf(points, isOfKinds));
  const named = ofKinds.filter(([, outlines]) => outlines.length);
  const homes = new Map(named.map(([kind, outlines]) => [kind, outlines])); // the largest outline first
  const edges = squaresOf([...homes.values()].flat().flatMap(({ corners }) => corners));
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
      const tint = (d, name) => svg("path", { d, fill, stroke: fill, "data-name": kind ?? "", class: name });
      return [...outlines.map(({ path }) => tint(path, "")), ...cores.map((path) => tint(path, "core"))];
    }));
  }

  const isOver = ([left, right, bottom, top], [from, low, to, high]) =>
    left < to && right > from && bottom < high && top > low;

  /* Whether a name at a place may be that of this kind of text: one that has outlines is named within them, and any
   * other outside all of them. */
  function isAtHome(kind, x, y) {
    const isIn = (some) => some.some(({ corners, box }) =>
      isOver(box, [x, y, x, y]) && inside(corners, [x], [y]).length > 0);
    return homes.has(kind) ? isIn(homes.get(kind)) : !isIn([...homes.values()].flat());
  }

  /* What it costs that a name of a kind of text, or null of none, takes a box [left, bottom, right, top]: the outlines
   * that it crosses, and of a kind as far as it lies on other tints alone. */
  function costOf(kind, [left, bottom, right, top]) {
    const crossed = edges.inBox(left, bottom, right, top);
    if (kind === null) return crossed;
    const xs = [0, 1, 2, 0, 1, 2, 0, 1, 2].map((k) => left + ((right - left) * k) / 2);
    const ys = [0, 0, 0, 1, 1, 1, 2, 2, 2].map((k) => bottom + ((top - bottom) * k) / 2);
    const under = (some) => new Set(some.filter(({ box }) => isOver(box, [left, bottom, right, top]))
      .flatMap(({ corners }) => Array.from(inside(corners, xs, ys))));
    const atHome = under(homes.get(kind) ?? []);
    const others = [...homes].flatMap(([other, some]) => (other === kind ? [] : some));
    return crossed + ABROAD * [...under(others)].filter((k) => !atHome.has(k)).length;
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
    outlinesOf: (kind) => homes.get(kind) ?? [],
    some: () => homes.size > 0,
    isAtHome, costOf, placesOf,
  };
}
