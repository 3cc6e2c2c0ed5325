/* Where boxes and strands are drawn: one column per token, one row per layer that has nodes, the next token on top.
 *
 * A strand leaves a box at its top and enters another at its bottom. It crosses to other columns only between two rows:
 * where it passes a row, it goes straight up in its column, or beside that, if boxes stand there. So no strand runs
 * behind a box. */

import { metadata } from "./graph.js";
import { sumOf, visible } from "./words.js";

/** @import { Box, Strand } from "./shown.js" */

const LETTER = 6.3;
const LINE = { wide: 22, narrow: 28, more: 15 }; // of a name: the first, which a finger needs larger, and others
const MOST_LINES = 3; // of a name
const MOST_BROKEN = 3; // names in a box that are broken into lines
const INSIDE = { sides: 17, value: 44 }; // what the sides of a box and a number take of its width
const BOX = { least: 96, eachName: 24, leastOfMany: 250, most: 380, beside: 66, border: 6 };
const NARROWEST = 0.7; // of those least widths, where a frame is too narrow for them
const SPACE = { least: 36, each: 7, most: 80, tightest: 0.6 }; // between two rows, by the strands in it
const STRAND = { least: 1, most: 9, gap: 3 };
const BETWEEN = 14; // two columns
const MOST_UNUSED = 56;
const MARGIN = { left: 84, narrow: 24, right: 10, top: 4, bottom: 6 };

/** Give each box its place and each strand its line, in a frame of this width, with less space between the rows where
 * they would not fit into its height. isNarrow: whether there is one column for all tokens.
 * @param {Box[]} boxes
 * @param {Strand[]} strands
 * @param {{ frameWidth: number, frameHeight: number, isNarrow: boolean }} frame */
export function place(boxes, strands, { frameWidth, frameHeight, isNarrow }) {
  const isBeside = new Set(strands.filter((strand) => isBlocked(strand, boxes)));
  const most = Math.max(1e-30, ...strands.map(({ carries }) => carries));
  for (const strand of strands)
    strand.width = STRAND.least + (STRAND.most - STRAND.least) * Math.sqrt(strand.carries / most);
  const { columns, width } = columnsOf(boxes, isBeside, frameWidth, isNarrow);
  for (const { boxes: own, left, width: boxWidth } of columns) {
    for (const box of own) {
      box.isOfSingleLines = isNarrow || box.row === -1 || box.marks.length > MOST_BROKEN;
      let mostLines = 1;
      for (const mark of box.marks) {
        const { text, lines } = inLines(mark.title, boxWidth, box.isOfSingleLines);
        mark.text = text;
        mostLines = Math.max(mostLines, lines);
      }
      const each = (isNarrow ? LINE.narrow : LINE.wide) + (mostLines - 1) * LINE.more;
      Object.assign(box, { left, width: boxWidth, height: box.marks.length * each + BOX.border });
    }
  }
  const rows = rowsOf(boxes, strands, frameHeight, isNarrow ? LINE.narrow : LINE.wide);
  for (const box of boxes) box.top = rows.get(box.row).bottom - box.height;
  drawStrands(strands, isBeside, rows, columns);
  return { rows: [...rows.values()], columns, width, height: [...rows.values()][0].bottom + MARGIN.bottom };
}

/* A name broken into lines, which go around the number at the right of the first. text: what there is room for; of a
 * single line the style cuts off the rest. */
function inLines(name, width, isSingle) {
  const title = name.replaceAll(" …", "\u00a0…");
  const room = Math.floor((width - INSIDE.sides) / LETTER);
  const first = room - Math.ceil(INSIDE.value / LETTER);
  if (isSingle || title.length <= first) return { text: title, lines: 1 };
  let [text, left, lines] = ["", first, 1];
  for (const word of title.split(/(?<= )/)) {
    if (word.trimEnd().length > left && lines < MOST_LINES) [left, lines] = [room, lines + 1];
    if (word.trimEnd().length > left)
      return { text: `${`${text}${word.slice(0, Math.max(0, left - 2))}`.trimEnd()}…`, lines };
    text += word;
    left -= word.length;
  }
  return { text, lines };
}

/* The rows from the tokens upwards: of each its top, its bottom and its number from below. */
function rowsOf(boxes, strands, frameHeight, line) {
  const names = [...new Set([-1, ...boxes.map(({ row }) => row)])].sort((a, b) => a - b);
  const heights = names.map((name) =>
    Math.max(line + BOX.border, ...boxes.filter(({ row }) => row === name).map(({ height }) => height)));
  const spaces = names.slice(1).map((name) => {
    const n = strands.filter(({ to }) => to.row === name).length;
    return Math.min(SPACE.most, SPACE.least + SPACE.each * n);
  });
  const spare = frameHeight - MARGIN.top - MARGIN.bottom - sumOf(heights) - sumOf(spaces);
  const fit = Math.max(SPACE.tightest, 1 + Math.min(0, spare) / (sumOf(spaces) || 1));
  spaces.forEach((space, k) => {
    spaces[k] = space * fit;
  });
  let bottom = MARGIN.top + sumOf(heights) + sumOf(spaces);
  const rows = new Map();
  for (const [number, name] of names.entries()) {
    rows.set(name, { name, number, bottom, top: bottom - heights[number] });
    bottom -= heights[number] + (spaces[number] ?? 0);
  }
  return rows;
}

const isBlocked = ({ from, to }, boxes) =>
  boxes.some(({ row, column }) => column === from.column && row > from.row && row < to.row);

/* The columns: the tokens with boxes, and between them the others together. Beside each is room for strands. */
function columnsOf(boxes, isBeside, frameWidth, isNarrow) {
  const left = isNarrow ? MARGIN.narrow : MARGIN.left;
  const columns = [];
  for (const [k, token] of (isNarrow ? [""] : metadata.prompt_tokens).entries()) {
    const own = boxes.filter(({ column }) => column === k);
    const letters = own.flatMap(({ marks }) => marks).map(({ title }) => title.length);
    const beside = [...isBeside].filter(({ from }) => from.column === k);
    beside.sort((a, b) => a.to.row - b.to.row || b.from.row - a.from.row);
    const tracks = sumOf(beside, ({ width }) => width + STRAND.gap);
    let column = columns.at(-1);
    if (!column || column.boxes.length || own.length) {
      column = { tokens: [], boxes: own, beside, tracks, lines: letters.length + 1,
        letters: Math.max(0, ...letters), text: "", wished: 0, width: 0, left: 0 };
      columns.push(column);
    }
    column.tokens.push(k);
    column.text += visible(token);
  }
  for (const column of columns) {
    const isUsed = column.boxes.length > 0;
    const wished = isUsed ? column.letters * LETTER + BOX.beside : column.text.length * LETTER + 8;
    column.wished = isNarrow ? frameWidth : Math.min(isUsed ? BOX.most : MOST_UNUSED, wished);
    column.width = Math.min(column.wished, BOX.leastOfMany, BOX.least + BOX.eachName * (column.lines - 1));
  }
  const needed = (column) => column.width + column.tracks + BETWEEN;
  const spare = () => frameWidth - left - MARGIN.right - sumOf(columns, needed);
  const fit = Math.max(NARROWEST, 1 + Math.min(0, spare()) / sumOf(columns, ({ width }) => width));
  for (const column of columns) column.width *= fit;
  const room = () => Math.max(0, spare());
  const wish = ({ wished, width, lines }) => (wished - width) * lines; // the more lines, the more room
  for (let round = 0; round < 3; round++) {
    const part = room() / (sumOf(columns, wish) || 1);
    for (const column of columns) column.width = Math.min(column.wished, column.width + wish(column) * part);
  }
  const gap = BETWEEN + room() / columns.length;
  let start = left;
  for (const column of columns) {
    column.left = start;
    start += column.width + column.tracks + gap;
  }
  return { columns, width: start - gap + BETWEEN + MARGIN.right };
}

function drawStrands(strands, isBeside, rows, columns) {
  const above = (row) => [...rows.values()][row.number + 1];
  const tracks = new Map();
  for (const column of columns) {
    let x = column.left + column.width + BETWEEN / 2;
    for (const strand of column.beside) {
      tracks.set(strand, x + strand.width / 2);
      x += strand.width + STRAND.gap;
    }
  }
  const middle = ({ left, width }) => left + width / 2;
  const isNext = ({ from, to }) => above(rows.get(from.row)) === rows.get(to.row);
  const goesTo = (strand) => tracks.get(strand) ?? (isNext(strand) ? middle(strand.to) : middle(strand.from));
  const starts = portsOf(strands, "from", goesTo);
  const comesFrom = (strand) => tracks.get(strand) ?? starts.get(strand);
  const ends = portsOf(strands, "to", comesFrom);
  for (const strand of strands) {
    const { from, to } = strand;
    const [start, end, track] = [starts.get(strand), ends.get(strand), comesFrom(strand)];
    const row = rows.get(from.row);
    const beforeLast = [...rows.values()][rows.get(to.row).number - 1];
    const aside = track === start ? "" : bend(start, row.top, track, above(row).bottom);
    strand.d = `M${start},${from.top}V${row.top}${aside}V${beforeLast.top}`
      + bend(track, beforeLast.top, end, to.top + to.height);
  }
}

const bend = (x1, y1, x2, y2) => `C${x1},${(y1 + y2) / 2} ${x2},${(y1 + y2) / 2} ${x2},${y2}`;

/* Where strands leave their boxes (end: "from") or enter them ("to"): side by side, in the order of where they lead. */
function portsOf(strands, end, order) {
  const ports = new Map();
  for (const [box, mates] of Map.groupBy(strands, (strand) => strand[end])) {
    const wide = sumOf(mates, ({ width }) => width + STRAND.gap);
    const part = Math.min(1, (box.width - 12) / wide);
    let x = box.left + (box.width - wide * part) / 2;
    for (const strand of mates.sort((a, b) => order(a) - order(b))) {
      ports.set(strand, x + ((strand.width + STRAND.gap) * part) / 2);
      x += (strand.width + STRAND.gap) * part;
    }
  }
  return ports;
}
