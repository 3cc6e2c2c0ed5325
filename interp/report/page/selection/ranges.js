/* Ranges of the numbers of features: the bins between which a range of a column may begin and end, and how a range is
 * written in an address. */

import { numberColumns } from "../data/columns.js";
import { columns } from "../data/features.js";
import { lazily } from "../data/files.js";

const TWENTIETHS = Array.from({ length: 21 }, (_, k) => k / 20);

/* Quarters of a decade up to the largest value, over eight decades at most. */
function quarters(values) {
  let least = Infinity, most = 0;
  for (const x of values) if (x > 0) [least, most] = [Math.min(least, x), Math.max(most, x)];
  if (!most) return [];
  const last = Math.ceil(4 * Math.log10(most) + 1e-6);
  const first = Math.max(last - 32, Math.min(last - 4, Math.floor(4 * Math.log10(least))));
  return Array.from({ length: last - first + 1 }, (_, k) => Number((10 ** ((first + k) / 4)).toPrecision(2)));
}

/* 0, and 1, 2 and 5 times the powers of ten in the three decades up to the largest value, with either sign. */
function aroundZero(values) {
  let least = 0, most = 0;
  for (const x of values) [least, most] = [Math.min(least, x), Math.max(most, x)];
  const largest = Math.max(-least, most);
  if (!largest) return [];
  const last = Math.ceil(Math.log10(largest) - 1e-9);
  const steps = [-3, -2, -1, 0].flatMap((k) => [1, 2, 5].map((digit) => Number(`${digit}e${last + k}`)));
  const upTo = (end) => (end > 0 ? steps.slice(0, steps.findIndex((step) => step >= end) + 1) : []);
  return [...upTo(-least).map((step) => -step).reverse(), 0, ...upTo(most)];
}

const EDGES = { share: () => TWENTIETHS, signed: aroundZero, log: quarters };

/** The bins of a column of numbers.
 * @type {(column: Column) => any} */
export function binned({ name, title, unit, means, scale }) {
  const values = columns[name];
  const edges = values.some((x) => x !== null) ? EDGES[scale](values) : [];
  const place = (x) => {
    let k = 0;
    while (k < edges.length - 2 && x >= edges[k + 1]) k++;
    return k;
  };
  const bin = Int16Array.from(values, (x, i) => (x === null || columns.max[i] === null ? -1 : place(x)));
  const isOpen = values.some((x) => x > edges.at(-1));
  return { title, hint: [unit, means], edges, isOpen, scale, bin };
}

export const allRanges = lazily(() => {
  const ranged = numberColumns.filter(({ means }) => means);
  const every = ranged.map((column) => /** @type {const} */ ([column.name, binned(column)]));
  return Object.fromEntries(every.filter(([, { edges }]) => edges.length));
});

/* "0.1,0.5" for an address; an end that is open is left out. */
export const rangeInAddress = (name, [from, to], { edges } = allRanges()[name]) =>
  [from ? edges[from] : "", to < edges.length - 1 ? edges[to] : ""].join(",");

/* The range that a text describes, with its ends at the nearest edges; null if it describes none. */
export function rangeFromAddress(name, text) {
  const { edges } = allRanges()[name], ends = (text ?? "").split(",");
  if (ends.length !== 2 || ends.some((end) => !Number.isFinite(Number(end)))) return null;
  const distance = (x, k) => Math.abs(edges[k] - x);
  const nearest = (x) => edges.reduce((best, _, k) => (distance(x, k) < distance(x, best) ? k : best), 0);
  const at = (end, open) => (end.trim() ? nearest(Number(end)) : open);
  const range = [at(ends[0], 0), at(ends[1], edges.length - 1)];
  return range[0] < range[1] && (range[0] || range[1] < edges.length - 1) ? range : null;
}
