/* The text around an example, each token shaded by its activation: on one line with the firing token at a fixed place,
 * or in the text's own lines. */

import { page } from "../data/files.js";
import { inputElement } from "../data/inputs.js";
import { tokensOfSequence } from "../data/sequences.js";
import { word } from "../data/vocabulary.js";
import { h, textsOf } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { activationsIn, labelsOf, placeOf, sequenceOf, textOfPieces, valueOf } from "./examples.js";
import { joinBytes } from "../text/bytes.js";
import { visible } from "../text/tokens.js";

const { n_ctx, has_text: hasText } = page;
export const NARROW = matchMedia("(max-width: 640px)");
export const AROUND = {
  line: [48, 40],
  passage: NARROW.matches ? [20, 14] : [64, 40],
  snippet: [24, 24], // as payloads.py stores them for a row
  whole: [n_ctx, n_ctx],
};
// The shade of an activation is its share of the largest, to this power: peaks stand out where many tokens fire.
const SPREAD = 2.4;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/gu,
  LETTERS = /\p{L}/gu,
  STRAY_BYTES = /⟨[0-9a-f]{2}⟩/g,
  IS_STRAY = /^(?:⟨[0-9a-f]{2}⟩)+$/,
  IS_SPECIAL = /^<\|.*\|>$/,
  IS_MARK = /^\p{M}/u, // a combining mark, which takes no room of its own
  IS_BEARER = /\p{L}\p{M}*$/u, // the letter that bears it
  NO_TEXT = /⟨[0-9a-f]{2}⟩|<\|.*\|>/; // a stray byte or a special token, which keep their own direction
/* The end and the beginning of two texts that Arabic writes as one stroke: letters that join the next one, with their
 * marks, and any letter. */
const JOINS_NEXT = /[\u0626\u0628\u062a-\u062e\u0633-\u063f\u0641-\u0647\u0649\u064a]\p{M}*$/u,
  IS_JOINED = /^\p{M}*[\u0620-\u064a]/u;
const MOST_LINES = NARROW.matches ? 0 : 2; // of a passage, before and after the line of its firing token
const SHORT = 10; // tokens of a passage below which it takes another line on either side
const OPPOSITE = { ltr: "rtl", rtl: "ltr" };
const FAR = 1e6; // times as readily is each further part of a row cut off, so that those nearer stay whole
const UNBROKEN = /[!-~]{40}/; // text without spaces, as of DNA, whose lines are parted at the column
const HANGING = 2; // letters by which what does not fit into a line stands further in than the line
const FRAGMENT = 8; // tokens of a cut line from which on it is worth a line of its passage

/* The pieces of some tokens (bytes.js). Those of the firing one are one piece: a token that ends one character and
 * begins the next fires once, in one box. A combining mark on which the latent fires, told by isOn, takes the letter
 * that bears it into its box, or stands in that of the letter: of the firing token, or of a token that is this letter
 * alone and fires too. parts: [text, the token of each of its bytes], … */
export function piecesOf(tokens, firing, isOn = (token) => token === firing) {
  const pieces = [];
  for (const { text, tokens: places } of joinBytes(Array.from(tokens, word))) {
    const before = pieces.at(-1);
    const [bearer] = (before && IS_MARK.test(text) && places.some(isOn) && IS_BEARER.exec(before.text)) || [""];
    const isAfterFiring = before?.tokens.includes(firing);
    const isOneBox = bearer ? isAfterFiring || (bearer === before.text && before.tokens.some(isOn))
      : isAfterFiring && places.includes(firing);
    if (isOneBox) {
      before.text += text;
      before.tokens = [...before.tokens, ...places];
      before.parts.push([text, places]);
    } else {
      if (bearer) {
        before.text = before.text.slice(0, -bearer.length);
        const last = before.parts.at(-1);
        last[0] = last[0].slice(0, -bearer.length);
      }
      pieces.push({ text: bearer + text, tokens: places, parts: [[bearer + text, places]] });
    }
  }
  return pieces;
}

/* How much of a piece is coloured where only some of its tokens fire, which may hold a part of a character: the style
 * of its element; null for all of it. */
function partOf({ text, parts }, isOn) {
  const length = (/** @type {string} */ of) => Array.from(of).length;
  let at = 0, from = null, to = 0;
  for (const [own, places] of parts) {
    const step = length(own) / places.length;
    for (const place of places) {
      if (isOn(place)) [from, to] = [from ?? at, at + step];
      at += step;
    }
  }
  const inPercent = (x) => `${Math.round((100 * x) / length(text))}%`;
  if (from === null || /\n/.test(text) || (inPercent(from) === "0%" && inPercent(to) === "100%")) return null;
  return { "--from": inPercent(from), "--to": inPercent(to), "--way": isRightToLeft(text) ? "to left" : "to right" };
}

/** The pieces of an example between two positions of its sequence, as elements, and which of them fires. Unless each
 * token must be separate, those between firings are one piece for each line, and the bytes of a character that is cut
 * in two at either end are left out. isBroken: lines end where they do in the text.
 * @type {(one: Example, from: number, to: number, most: number, isEach: boolean, isBroken: boolean,
 *   beside?: any) => { elements: HTMLElement[], firing: number, pieces: { text: string }[] }} */
function shaded(one, from, to, most, isEach, isBroken, beside) {
  const firing = placeOf(one) - from;
  const active = new Map(Array.from(activationsIn(one, [one], valueOf(one)), ([place, z]) => [place - from, z]));
  const others = beside?.activationsOf?.(one) ?? new Map();
  const isOn = (token) => active.has(token) || others.has(token + from);
  const strongest = (places, among) => places.map((token) => among.get(token)).filter(Boolean)
    .sort((a, b) => Math.abs(b) - Math.abs(a))[0];
  const shareOf = (z, largest) =>
    (z === undefined ? null : (Math.min(Math.abs(z) / largest, 1) ** SPREAD).toFixed(3));
  const tokens = tokensOfSequence(sequenceOf(one)).subarray(from, to);
  let pieces = [];
  for (const { text, tokens: places, parts } of piecesOf(tokens, firing, isOn)) {
    const isPlain = !isEach && !places.some(isOn) && !NO_TEXT.test(text);
    const last = pieces.at(-1);
    if (isPlain && last?.isPlain) last.text += text;
    else pieces.push({ text, places, parts, isPlain });
  }
  const isCut = (piece) => piece && IS_STRAY.test(piece.text) && !piece.places.includes(firing);
  while (!isEach && isCut(pieces[0])) pieces.shift();
  while (!isEach && isCut(pieces.at(-1))) pieces.pop();
  const perLine = (piece) => piece.text.split(/(?<=\n)/).map((text) => ({ ...piece, text }));
  pieces = pieces.flatMap((piece) => (piece.isPlain && piece.text ? perLine(piece) : [piece]));
  const elements = pieces.flatMap(({ text, places, parts, isPlain }) => {
    if (isPlain) return h("span.token", null, isBroken ? inLines(text) : visible(text, 3, true));
    const at = strongest(places, active);
    const other = strongest(places.map((token) => token + from), others);
    const isActive = at !== undefined || other !== undefined;
    const inPart = isActive ? partOf({ text, parts }, isOn) : null;
    const kind = [NO_TEXT.test(text) ? "bdi.token" : "span.token", isActive && ".on",
      places.includes(firing) && ".firing", isActive && IS_MARK.test(text) && ".combining", inPart && ".in-part"]
      .filter(Boolean)
      .join("");
    const known = { "data-value": at, "data-place": from + places.at(-1), "--shade": shareOf(at, most) };
    const attributes = { ...inPart, ...known };
    if (other !== undefined) {
      attributes["--other"] = shareOf(other, beside.most);
      attributes["data-tip"] = `${beside.name}: ${format.significant(other)}`;
    }
    if (!isBroken) return h(kind, attributes, visible(text, 3, !isActive));
    // a box for each of its lines, and one without signs for an indent after a line end
    const lines = text.split(/(?<=\n)/);
    const nBoxed = lines.length - Number(lines.length > 1 && !lines.at(-1).trim() && !lines.at(-1).endsWith("\n"));
    return lines.map((part, k) => (k >= nBoxed ? h(isActive ? "span.token.indent" : "span.token", known, part)
      : h(kind, attributes, inLines(part, !places.includes(firing)))));
  });
  return { elements, firing: pieces.findIndex(({ places }) => places.includes(firing)), pieces };
}

/* Elements of a text in its lines, each a block; what does not fit goes on further in than the line's own indent. An
 * empty line on which the latent fires is the second sign at the end of the line above, and not a line of its own. */
function inRows(elements) {
  const ends = elements.flatMap((element, k) => (element.textContent.endsWith("\n") ? [k + 1] : []));
  const rows = [0, ...ends].map((from, k) => elements.slice(from, ends[k]));
  const isEmpty = (row) => row.every((element) => !element.textContent.trim());
  cutIndents(rows.filter((row) => !isEmpty(row)));
  const shown = [];
  for (const row of rows.filter((each) => each.length)) {
    shown.push(row);
    if (!isEmpty(row) || !row.some((element) => element.matches(".on, .firing"))) continue;
    const above = Math.max(shown.findLastIndex((each) => !isEmpty(each)), 0);
    shown.push(shown.splice(above).flat());
  }
  return shown.map((row) => {
    const text = row.map((element) => element.textContent).join("");
    const indent = text.slice(0, text.search(/[^ \t]|$/));
    const isBlank = isEmpty(row) && !row.some((element) => element.matches(".on, .firing"));
    const hang = indent.replaceAll("\t", "    ").length + HANGING;
    const kind = isBlank ? "span.row.blank" : UNBROKEN.test(text) ? "span.row.unbroken" : "span.row";
    return h(kind, { dir: "auto", "--hang": hang }, row);
  });
}

/* Cut the spaces with which all of some rows of elements begin, but those of tokens on which the latent fires; the
 * first row may begin within its line. */
function cutIndents(rows) {
  const textsBefore = (row) => {
    const k = row.findIndex((element) => element.matches(".on, .firing, .indent"));
    return row.slice(0, k < 0 ? row.length : k).flatMap(textsOf);
  };
  const indentOf = (row) => textsBefore(row).map(({ data }) => data).join("").search(/[^ ]|$/);
  const isWhole = (row) => !/^[…⊢]/.test(row[0]?.textContent ?? "");
  const all = rows.filter(isWhole);
  const most = Math.min(...all.map(indentOf));
  if (!Number.isFinite(most)) return;
  for (const row of all) {
    let left = most;
    for (const text of textsBefore(row)) {
      const n = Math.min(left, text.data.length);
      text.deleteData(0, n);
      left -= n;
    }
  }
}

/* A text in its own lines, with a sign where each ends and, unless isText, on each space. */
const inLines = (text, isText = true) =>
  text.split(/(\n)/).map((part) =>
    (part === "\n" ? [h("span.line-end", null), h("span.end", null, part)]
      : visible(part, Infinity, isText)));
const isRightToLeft = (text) => 2 * (text.match(RIGHT_TO_LEFT)?.length ?? 0) > (text.match(LETTERS)?.length ?? 0);
const directionOf = (text) => (isRightToLeft(text) ? "rtl" : "ltr");

/** Pieces on one line with the firing one at a fixed place; elements: of the pieces. The line runs as the letters
 * at the firing do, so that what stands beside it is what is read before and after it; the other lines and texts
 * keep their own direction. The firing token begins at the same place whichever way it runs. isStart: the first piece
 * begins its sequence.
 * @type {(pieces: { text: string }[], elements: HTMLElement[], firing: number, isStart?: boolean) => HTMLElement} */
export function textLine(pieces, elements, firing, isStart = false) {
  const first = (text) => text.replace(STRAY_BYTES, "").match(LETTERS);
  const [near] = first(pieces[firing]?.text ?? "") ?? first(textOfPieces(pieces.slice(0, firing)))?.slice(-1)
    ?? first(textOfPieces(pieces.slice(firing))) ?? [""];
  const direction = directionOf(near);
  const ends = pieces.flatMap(({ text }, k) => (/\n|^<\|.*\|>$/.test(text) ? [k + 1] : []));
  const [begin, end] = [ends.filter((k) => k <= firing).at(-1) ?? 0, ends.find((k) => k > firing) ?? pieces.length];
  /* The direction of the line between two places; that of one without a letter is the firing's. */
  const runsAt = (from, to) => (from >= begin && to <= end ? direction
    : directionOf(first(textOfPieces(pieces.slice(from, to)))?.[0] ?? near));
  /* Elements on one side of the firing in stretches of lines that run the same way: the farthest is cut off first,
   * and each at its end away from the firing, which depends on the direction in which it runs itself. */
  const stretches = (from, to, isBefore) => {
    const cuts = [from, ...ends.filter((k) => k > from && k < to), to];
    const parts = [];
    for (const [k, stop] of cuts.slice(1).entries()) {
      const runs = runsAt(cuts[k], stop);
      const last = parts.at(-1);
      if (last?.runs === runs) last.stop = stop;
      else parts.push({ runs, start: cuts[k], stop });
    }
    return parts.map(({ runs, start, stop }, k) => {
      const shrink = FAR ** (isBefore ? parts.length - 1 - k : k);
      const kind = isStart && isBefore && !k ? "span.begins" : "span";
      return h(runs === direction ? "span.stretch" : "span.stretch.turned",
        { dir: isBefore ? OPPOSITE[runs] : runs, "--shrink": shrink },
        h(kind, { dir: runs }, elements.slice(start, stop)));
    });
  };
  const middle = direction === "rtl" ? firing + 1 : firing;
  const isJoined = JOINS_NEXT.test(textOfPieces(pieces.slice(0, middle)))
    && IS_JOINED.test(textOfPieces(pieces.slice(middle)));
  return h(isJoined ? "div.line.text.joined" : "div.line.text", { dir: direction },
    h("span.before", null, stretches(0, middle, true)),
    h("span.after", null, stretches(middle, elements.length, false)));
}

/** Two places around a firing, moved nearer to it where more than a few lines lie between, where a line is cut to a
 * few tokens, and where only empty lines stand at either end. It does not go on in another text, nor past an empty
 * line once it is long enough.
 * @type {(one: Example, ends: number[], most?: number) => number[]} */
function withinLines(one, [from, to], most = MOST_LINES) {
  const tokens = tokensOfSequence(sequenceOf(one));
  const place = placeOf(one);
  const isEnd = (at) => word(tokens[at]).includes("\n");
  const isBlank = (at) => /\n\s*\n/.test(word(tokens[at]) + word(tokens[at + 1]));
  const reached = (at, step, last) => {
    for (let lines = 0; at !== last; at += step) {
      const isLong = Math.abs(at - place) > SHORT;
      if (IS_SPECIAL.test(word(tokens[at])) || (isLong && isBlank(Math.min(at, at - step)))) break;
      const isOfEmpty = word(tokens[at + 1]).startsWith("\n"); // which is no line of its own (inRows)
      if (isEnd(at) && !isOfEmpty && ++lines > most) break;
    }
    return at;
  };
  let start = reached(place - 1, -1, from - 1) + 1;
  let stop = reached(place + 1, 1, to);
  if (!most && stop - start < SHORT) return withinLines(one, [from, to], 1);
  const isCut = start > 0 && start === from && !isEnd(start - 1);
  for (let at = start; isCut && at < Math.min(start + FRAGMENT, place); at++) if (isEnd(at)) start = at + 1;
  for (let at = stop - 1; stop === to && at > Math.max(to - FRAGMENT, place); at--) {
    if (!isEnd(at)) continue;
    stop = /\n$/.test(word(tokens[at])) ? at + 1 : at; // without the next line's indent
    break;
  }
  while (start < place && !word(tokens[start]).trim() && isEnd(start)) start++;
  while (stop - 2 > place && !word(tokens[stop - 1]).trim() && isEnd(stop - 2)) stop--;
  return [start, stop];
}

/** Tokens on one line, the firing one at the fixed place; without the shades of a feature and without the bytes of a
 * character that is cut in two at either end.
 * @type {(tokens: ArrayLike<number>, firing: number) => HTMLElement} */
export function plainLine(tokens, firing) {
  const all = piecesOf(tokens, firing);
  const isWhole = ({ text, tokens: places }) => !IS_STRAY.test(text) || places.includes(firing);
  const pieces = all.slice(all.findIndex(isWhole), all.findLastIndex(isWhole) + 1);
  const at = pieces.findIndex(({ tokens: places }) => places.includes(firing));
  const parts = pieces.map((piece, k) => {
    const { text } = piece;
    const part = k === at ? partOf(piece, (token) => token === firing) : null;
    const kind = k !== at ? "" : `.firing${IS_MARK.test(text) ? ".combining" : ""}${part ? ".in-part" : ""}`;
    return h(`span.token${kind}`, part, visible(text, 3, k !== at));
  });
  return textLine(pieces, parts, at, firing < AROUND.snippet[0]);
}

/** A few tokens around the firing of an example, so.
 * @type {(one: Example) => HTMLElement} */
export function exampleSnippet(one) {
  const [before, after] = AROUND.snippet;
  const from = Math.max(placeOf(one) - before, 0);
  const tokens = tokensOfSequence(sequenceOf(one)).subarray(from, placeOf(one) + after + 1);
  return plainLine(tokens, placeOf(one) - from);
}
export const tagsOf = (one) => labelsOf(one).map((label) => h("span.tag", null, format.words(label)));

/** The text of an example as wide as is chosen. Tokens are not isolated, so that Hebrew and Arabic read as they are
 * written.
 * @type {(one: Example, most: number, how: string, beside?: any) => HTMLElement} */
export function exampleText(one, most, how, beside) {
  if (!hasText) return h("div.text", null, inputElement(one[1]), tagsOf(one));
  const [before, after] = AROUND[how],
    place = placeOf(one);
  const isBroken = how === "passage" || how === "whole";
  const ends = [Math.max(place - before, 0), Math.min(place + after + 1, n_ctx)];
  const [from, to] = how === "passage" ? withinLines(one, ends) : ends;
  const { elements, firing, pieces } = shaded(one, from, to, most, how === "whole", isBroken, beside);
  if (how === "line") return textLine(pieces, elements, firing, from === 0);
  const tokens = tokensOfSequence(sequenceOf(one));
  // a text or a line ends or begins between two tokens
  const isEdge = (at) =>
    /\n$|^<\|.*\|>$/.test(word(tokens[Math.max(at - 1, 0)])) || /^\n|^<\|.*\|>$/.test(word(tokens[at]));
  const dots = (is, text) => (is ? [h("span.muted", null, text)] : []);
  const all = [...dots(!isEdge(from), from ? "…\u00a0" : "⊢\u00a0"), ...elements, ...dots(!isEdge(to), "\u00a0…")];
  if (isBroken) return h("div.text.broken", null, inRows(all));
  return h("div.text", { dir: directionOf(textOfPieces(pieces)) }, all);
}
