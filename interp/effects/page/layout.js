/* Where marks stand: one column per token, one row per layer, next tokens on top. In the columns with the most
 * influence latents are boxes with their titles, as far as the width reaches; in the others they are dots. */

import { logits, metadata, nodes, rowOf } from "./graph.js";
import { sumOf, visible } from "./words.js";

/** @import { Mark } from "./shown.js" */

export const BOX = { height: 32, least: 76, beside: 88, most: 176 };
export const WORD = { width: 64, height: 42, box: 34 };
export const LETTER = 6.2;
export const MOST_LETTERS = 14; // of a token

const LINE = { box: 40, dot: 20 };
const FEW_LINES = 2; // of marks below one another, which are parted only where there is much room
const GAP = 10; // between two columns
const EMPTY = 26; // the height of a row without marks
const SPACE = 44; // between two rows
const TALL = 18; // the width of a token that is written upwards
const MARGIN = { left: 88, narrow: 26, right: 14, top: 10, bottom: 40 };

/** Place marks in a frame of this width, which is to be at least this high.
 * @param {Mark[]} marks
 * @param {number} frameWidth
 * @param {number} leastHeight */
export function placesOf(marks, frameWidth, leastHeight) {
  const isNarrow = frameWidth < 560;
  const left = isNarrow ? MARGIN.narrow : MARGIN.left;
  const inside = frameWidth - left - MARGIN.right;
  const cells = Map.groupBy(marks.filter(({ kind }) => isInside(kind)), ({ row, column }) => `${row} ${column}`);
  const { columns, isTall } = columnsIn(cells, left, inside);
  const width = columns.at(-1).left + columns.at(-1).width + MARGIN.right;
  const rows = [...new Set(nodes.map(rowOf))].sort((a, b) => a - b);
  const perLine = Math.max(1, Math.floor(inside / WORD.width));
  const top = MARGIN.top + Math.ceil(logits.length / perLine) * WORD.height;
  const letters = isTall ? Math.max(...metadata.prompt_tokens.map((token) => visible(token).length)) : 0;
  const bottom = MARGIN.bottom + Math.min(letters, MOST_LETTERS) * LETTER;
  const heightIn = (row) => Math.max(EMPTY, ...columns.map(({ across, line }, column) =>
    Math.ceil((cells.get(`${row} ${column}`)?.length ?? 0) / across) * line));
  const heights = rows.map((row) => (Number.isFinite(row) && row >= 0 ? heightIn(row) : 0));
  const steps = heights.slice(1).map((each, k) => (each + heights[k]) / 2 + (each && heights[k] ? SPACE / 2 : SPACE));
  const spare = Math.max(0, leastHeight - top - bottom - sumOf(steps)) / Math.max(1, steps.length);
  const height = top + bottom + sumOf(steps) + spare * steps.length;
  const ys = rows.map((_, k) => height - bottom - sumOf(steps.slice(0, k)) - spare * k);

  const at = new Map();
  for (const mates of cells.values()) {
    const { column, row } = mates[0];
    const { across, line, middle, box } = columns[column];
    const lines = Math.ceil(mates.length / across);
    mates.sort((a, b) => b.influence - a.influence).forEach((mark, k) => {
      const inLine = Math.min(across, mates.length - Math.floor(k / across) * across);
      const right = (k % across) - (inLine - 1) / 2;
      const down = Math.floor(k / across) - (lines - 1) / 2;
      const x = middle + right * ((box || LINE.dot) + (box ? GAP : 0));
      at.set(mark.id, { x, y: ys[rows.indexOf(row)] + down * line, box });
    });
  }
  for (const { id, kind, column } of marks)
    if (kind === "embedding") at.set(id, { x: columns[column].middle, y: height - bottom, box: 0 });
  const first = logits.length > perLine ? left : width - MARGIN.right - logits.length * WORD.width;
  logits.forEach((node, k) => {
    const y = top - (Math.ceil(logits.length / perLine) - 1 - Math.floor(k / perLine)) * WORD.height - WORD.box / 2;
    at.set(node.node_id, { x: first + ((k % perLine) + 0.5) * WORD.width, y, box: 0 });
  });
  return { at, rows, ys, columns, width, height, bottom, isNarrow, isTall };
}

const isInside = (kind) => kind === "latent" || kind === "error";

/* The columns: of each its left side, its width, the middle of its marks, the width of a box (0 for dots), how many
 * marks stand beside one another, and the height of a line of them. Tokens are written upwards (isTall) where they do
 * not fit, or where that makes the stacks of marks lower. */
function columnsIn(cells, left, inside) {
  const tokens = metadata.prompt_tokens.map(visible);
  const counts = tokens.map(() => 0);
  const influence = tokens.map(() => 0);
  for (const mates of cells.values()) {
    const { column } = mates[0];
    counts[column] = Math.max(counts[column], mates.length);
    influence[column] += sumOf(mates, (mark) => mark.influence);
  }
  const words = tokens.map((token) => Math.min(token.length, MOST_LETTERS) * 7.4 + 14);
  const flat = columnsOf(words, counts, influence, left, inside);
  if (flat.isWhole && flat.isLow) return { columns: flat.columns, isTall: false };
  const tall = columnsOf(tokens.map(() => TALL), counts, influence, left, inside);
  const isTall = !flat.isWhole || tall.lines < flat.lines;
  return { columns: (isTall ? tall : flat).columns, isTall };
}

/* The columns of tokens of these widths. lines: how many marks stand below one another, in all columns. isWhole:
 * whether the columns fit, all with boxes. isLow: whether no stack needs more room. */
function columnsOf(tokenWidths, counts, influence, left, inside) {
  const widths = [...tokenWidths];
  const across = counts.map(() => 1);
  const withMarks = [...counts.keys()].filter((k) => counts[k]).sort((a, b) => influence[b] - influence[a]);
  const widen = (k, wanted) => {
    const more = Math.max(0, wanted - widths[k]);
    if (sumOf(widths) + more > inside) return false;
    widths[k] += more;
    return true;
  };
  const boxed = withMarks.filter((k) => widen(k, BOX.least + GAP));
  const isWhole = boxed.length === withMarks.length && sumOf(widths) <= inside;
  const linesIn = (k) => Math.ceil(counts[k] / across[k]);
  for (const growing = new Set(boxed); growing.size;) {
    const highest = [...growing].reduce((a, b) => (linesIn(b) > linesIn(a) ? b : a));
    const lines = linesIn(highest);
    const room = (across[highest] + 1) * ((lines > FEW_LINES ? BOX.beside : BOX.most) + GAP);
    if (lines > 1 && widen(highest, room)) across[highest] += 1;
    else growing.delete(highest);
  }
  const wished = counts.map((_, k) => (boxed.includes(k) ? Math.max(0, across[k] * (BOX.most + GAP) - widths[k]) : 0));
  const part = Math.min(1, Math.max(0, inside - sumOf(widths)) / (sumOf(wished) || 1));
  wished.forEach((more, k) => {
    widths[k] += more * part;
  });
  const rest = Math.max(0, inside - sumOf(widths)) / widths.length;
  const isLow = withMarks.every((k) => linesIn(k) <= FEW_LINES);
  let start = left;
  const columns = widths.map((own, k) => {
    const box = boxed.includes(k) ? Math.min(BOX.most, own / across[k] - GAP) : 0;
    const width = own + rest;
    const column = { left: start, width, middle: start + width / 2, box, across: across[k],
      line: box ? LINE.box : LINE.dot };
    start += width;
    return column;
  });
  return { columns, lines: sumOf(withMarks, linesIn), isWhole, isLow };
}
