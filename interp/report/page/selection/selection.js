/* The selected latents and their order: by a search, filters, ranges of numbers and a part of the map. The address
 * holds all of it as its query. */

import { allColumns } from "../data/columns.js";
import { columns, order as recommended } from "../data/features.js";
import { lazily, loadData, page } from "../data/files.js";
import { REST, commonKindOf, isIdle, kindOf, labelOf, verdictOf } from "../data/latents.js";
import { isNoted, noteOf, onNote } from "../data/notes.js";
import { inside } from "../map/plane.js";
import { allRanges, rangeFromAddress, rangeInAddress } from "./ranges.js";
import { matchQuality, parseQuery } from "./search.js";
import { textOfRule } from "../text/segments.js";

/** @import { Term } from "./search.js" */

const { latents, names, verdicts } = page;

/* What is sorted by that is no number: name → its value of a feature. */
const OTHERS = {
  latent: (i) => i,
  verdict: verdictOf,
  explanation: (i) => textOfRule(columns.rule[i]) || null,
  label: labelOf,
  top_token: (i) => columns.tokens[i][0] ?? null,
  mine: (i) => noteOf(i).label || null,
};
export const SORTS = Object.fromEntries(allColumns.filter(({ sorts }) => sorts).map(({ name, sorts, ascends }) =>
  [name, { title: sorts, up: ascends, value: OTHERS[name] ?? ((i) => columns[name][i]) }]));
const ASKED = {
  q: "query", verdict: "verdict", starred: "starred", noted: "noted", label: "label", in: "kind", part: "part",
  sort: "sort",
};
/** The state of a selection. part: the corners of a polygon on the map; inside: whether each latent lies in it, null
 * until the map is read.
 * @typedef {{
 *   query: string, verdict: string[], starred: string, noted: string, label: string, kind: string, part: string,
 *   ranges: Record<string, [from: number, to: number]>, sort: string | null, up: boolean, terms: Term[],
 *   inside: Uint8Array | null,
 * }} Selection */
const NOTHING = { query: "", verdict: [], starred: "", noted: "", label: "", kind: "", part: "", ranges: {} };
export const selectsAll = () =>
  Object.keys(NOTHING).every((key) => !(key === "ranges" ? Object.keys(selection.ranges) : selection[key]).length);
/** @type {Selection} */
export const selection = { ...NOTHING, sort: null, up: false, terms: [], inside: null };
const listeners = [];
let order = null, has = new Uint8Array(latents), counts = /** @type {Record<string, number[]>} */ ({});

const matches = (i) =>
  (!selection.label || labelOf(i) === selection.label) && (!selection.inside || Boolean(selection.inside[i]));

/* What the counted filters and ranges divide the latents into: for each its parts, the part of a latent (−1 or null
 * if it is in none), whether it may leave any out, and whether it lets a latent through. */
const FACETS = {
  verdict: {
    parts: names.verdict.length,
    of: (i) => columns.verdict[i],
    isOn: () => selection.verdict.length > 0 || !selection.terms.length,
    lets: (i) => (selection.verdict.length ? selection.verdict.includes(verdictOf(i)) : !isIdle(i)),
  },
  kind: {
    parts: names.kind.length + 1,
    of: (i) => columns.kind[i] ?? names.kind.length,
    isOn: () => selection.kind !== "",
    lets: (i) => [kindOf(i), commonKindOf(i)].includes(selection.kind),
  },
  starred: {
    parts: 1,
    of: (i) => (noteOf(i).star ? 0 : -1),
    isOn: () => selection.starred !== "",
    lets: (i) => noteOf(i).star,
  },
  noted: {
    parts: 1,
    of: (i) => (isNoted(i) ? 0 : -1),
    isOn: () => selection.noted !== "",
    lets: (i) => isNoted(i),
  },
};
const ofRange = ([name, { edges, bin }]) => {
  const lets = (i) => bin[i] >= selection.ranges[name][0] && bin[i] < selection.ranges[name][1];
  return [name, { parts: edges.length - 1, of: (i) => bin[i], isOn: () => name in selection.ranges, lets }];
};
const facets = lazily(() => ({ ...FACETS, ...Object.fromEntries(Object.entries(allRanges()).map(ofRange)) }));

/* Select, count in each facet's parts what all other filters leave, and sort; of equals, those first that come first
 * in the recommended order. */
function arrange() {
  selection.terms = parseQuery(selection.query);
  const all = facets(), everyName = Object.keys(all);
  counts = Object.fromEntries(everyName.map((name) => [name, new Array(all[name].parts).fill(0)]));
  has = new Uint8Array(latents);
  const value = SORTS[selection.sort ?? ""]?.value, kept = [];
  const active = everyName.filter((name) => all[name].isOn());
  for (const i of recommended) {
    const fit = !matches(i) ? 0 : selection.terms.length ? matchQuality(selection.terms, i) : 1;
    if (!fit) continue;
    const out = active.filter((name) => !all[name].lets(i));
    if (out.length > 1) continue;
    for (const name of out.length ? out : everyName) {
      const part = all[name].of(i);
      if (part >= 0) counts[name][part]++;
    }
    if (out.length) continue;
    has[i] = 1;
    kept.push([value ? value(i) : fit, i]);
  }
  const sign = selection.up ? 1 : -1;
  const hasValue = (x) => x !== null && x !== undefined;
  const compare = (/** @type {any[]} */ [a], /** @type {any[]} */ [b]) => {
    if (hasValue(a) !== hasValue(b)) return hasValue(a) ? -1 : 1; // those without a value are last either way
    return !hasValue(a) || a === b ? 0 : a < b ? -sign : sign;
  };
  if (value || selection.terms.length) kept.sort(compare);
  order = kept.map(([, i]) => i);
}

function apply(isMoving = false) {
  arrange();
  for (const listener of listeners) listener();
  if (!isMoving) writeAddress();
}

/** Set some of the state; isMoving: more changes follow, so the address need not hold this one.
 * @type {(changed: Record<string, any>, isMoving?: boolean) => void} */
export function select(changed, isMoving) {
  const isPart = "part" in changed && changed.part !== selection.part;
  Object.assign(selection, changed);
  if (isPart) enclose();
  apply(isMoving);
}

/** @type {(name: string, range: [from: number, to: number] | null, isMoving?: boolean) => void} */
export function selectRange(name, range, isMoving) {
  const others = Object.entries(selection.ranges).filter(([other]) => other !== name);
  select({ ranges: Object.fromEntries([...others, ...(range ? [[name, range]] : [])]) }, isMoving);
}

/** Add a verdict to the selection, or remove it.
 * @type {(verdict: string) => void} */
export function toggleVerdict(verdict) {
  const others = selection.verdict.filter((name) => name !== verdict);
  select({ verdict: others.length < selection.verdict.length ? others : [...others, verdict] });
}

/** Sort by a number of the latents, by the same again the other way round; by none in the recommended order.
 * @type {(key: string | null) => void} */
export function sortBy(key) {
  const isSame = selection.sort === key && key !== null;
  select({ sort: key, up: isSame ? !selection.up : Boolean(SORTS[key ?? ""]?.up) });
}

export const clearSelection = () => select({ ...NOTHING });

/* Find the latents in the polygon; read the map first if necessary. */
async function enclose() {
  const { part } = selection;
  selection.inside = null;
  if (!part) return;
  const points = await loadData("map");
  if (selection.part !== part || points.missing) return;
  selection.inside = new Uint8Array(latents);
  for (const k of inside(part.split(",").map(Number), points.x, points.y)) selection.inside[points.latents[k]] = 1;
  apply();
}

/* The search, the filters and the order as the question of an address; "" where all is as at first. */
function question() {
  const asked = new URLSearchParams();
  for (const [name, key] of Object.entries(ASKED)) if (selection[key]?.length) asked.set(name, selection[key]);
  for (const [name, range] of Object.entries(selection.ranges)) asked.set(name, rangeInAddress(name, range));
  if (selection.sort !== null && selection.up !== Boolean(SORTS[selection.sort].up)) asked.set("reversed", "1");
  return String(asked).replaceAll("%2C", ",");
}

/** Apply a query; unknown names are ignored.
 * @type {(text: string) => void} */
export function selectByAddress(text) {
  if (text === question()) return;
  const asked = new URLSearchParams(text);
  const known = (name, values) => (values.includes(asked.get(name)) ? asked.get(name) : null);
  const sort = known("sort", Object.keys(SORTS));
  const corners = asked.get("part") ?? "";
  const isPolygon = /^-?[\d.]+(,-?[\d.]+){5,}$/.test(corners) && corners.split(",").length % 2 === 0;
  const wanted = asked.get("verdict")?.split(",") ?? [];
  const read = Object.keys(allRanges()).map((name) => [name, rangeFromAddress(name, asked.get(name))]);
  select({
    query: asked.get("q") ?? "",
    verdict: names.verdict.filter((name) => wanted.includes(name)),
    starred: known("starred", ["1"]) ?? "",
    noted: known("noted", ["1"]) ?? "",
    label: known("label", names.label) ?? "",
    kind: known("in", [...names.kind, ...REST]) ?? "",
    part: isPolygon ? corners : "",
    ranges: Object.fromEntries(read.filter(([, range]) => range)),
    sort,
    up: sort !== null && Boolean(SORTS[sort].up) !== asked.has("reversed"),
  }, true);
}

/* How many faint and dead latents are left out only because they are. */
export const nIdleLeftOut = () =>
  (selection.verdict.length || selection.terms.length ? 0
    : names.verdict.reduce((n, name, k) => (verdicts[name]?.idle ? n + counts.verdict[k] : n), 0));

/* Write the question into the address, so that a copied link and a reload show the same. */
export function writeAddress() {
  const path = location.hash.split("?")[0];
  if (!/^#(features?|table|map)(\/|$)/.test(path)) return;
  const asked = question();
  history.replaceState(null, "", asked ? `${path}?${asked}` : path);
}

/* Stars and labels may change the selection. */
onNote(() => { order = null; });

export const selectedLatents = () => {
  if (!order) arrange();
  return order;
};
export const isSelected = (i) => Boolean(selectedLatents() && has[i]);
/* For each part of a facet, how many latents all other filters leave of it. */
export const countsOf = (name) => selectedLatents() && counts[name];
export const onSelect = (listener) => listeners.push(listener);

/** The latent `step` places from this one among those selected; one that is not selected counts as the start.
 * @type {(latent: number, step: number) => number} */
export function neighbour(latent, step) {
  const selected = selectedLatents();
  const place = selected.indexOf(latent);
  return place < 0 ? selected[0] : selected[place + step];
}
