/* Parts of characters: a token may hold some bytes of a character alone, which the vocabulary writes as ⟨d7⟩.
 * Neighbours that make up a character are joined to it. What the parts in a token are comes with the vocabulary
 * (byte_words.py), by the script around them: "…么 览", "the last byte of 么, 览 …". */

import { readings, word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";

/** A part of a character: what is drawn of it, and what it is in words.
 * @typedef {[label: string, words: string]} Part */

/* A byte with those that go on with its character. */
const PART = /(⟨[0-9a-f]{2}⟩(?:⟨(?:[89ab][0-9a-f]|c[01]|f[5-f])⟩)*)/;
const BYTE = /⟨([0-9a-f]{2})⟩/;
const RIGHT_TO_LEFT = /\p{Script=Hebrew}|\p{Script=Arabic}/u;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const lengthOf = (byte) => (byte >= 0xf5 ? 0 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0);

/** The parts in a token, in order. script: that of the tokens around it.
 * @type {(token: string, script?: string | null) => Part[]} */
export const partsOf = (token, script = null) =>
  (readings[token]?.find(([other]) => other === script) ?? readings[token]?.[0])?.[1] ?? [];

/** @type {(token: number) => boolean} */
export const hasParts = (token) => word(token) in readings;

/** Whether a token has parts of characters although none are around the firings of a feature: it tells little.
 * @type {(token: number, feature: Feature) => boolean} */
export const isStray = (token, { script }) => script === null && hasParts(token);

/** What is drawn of a part, in a box; sign: its bytes, which are there to be copied.
 * @type {(part: Part, sign?: string) => HTMLElement} */
export const partElement = ([label, words], sign = "") =>
  h("span.byte", { role: "img", "aria-label": words, "data-known": label, dir: directionOf(label) },
    h("span.exact", null, sign));

/** A part of which nothing but its bytes is known.
 * @type {(sign: string) => Part} */
function bareBytes(sign) {
  const bytes = sign.replace(/[⟨⟩]+/g, " ").trim();
  return [lengthOf(parseInt(bytes, 16)) ? `${bytes}…` : `…${bytes}`, `part of a character, ${bytes}`];
}

/** A text with its parts drawn. parts: what they are, in order, of which those that are drawn are taken away.
 * @type {(text: string, parts: Part[]) => Child[]} */
export const drawParts = (text, parts) => text.split(PART).map((piece, k) =>
  (k % 2 ? partElement(parts.shift() ?? bareBytes(piece), piece) : piece));

/** A text with the labels of its parts in brackets, for a picture.
 * @type {(text: string, parts: Part[]) => string} */
export const partsInLetters = (text, parts) => text.split(PART).map((piece, k) =>
  (k % 2 ? `⟨${(parts[(k - 1) / 2] ?? bareBytes(piece))[0]}⟩` : piece)).join("");

/** The bytes of the parts in a token, and what these are in words; null if it has none.
 * @type {(token: string, parts: Part[]) => string | null} */
export const meaningOf = (token, parts) => (parts.length
  ? `${token.match(new RegExp(PART, "g"))?.join(" ")}: ${parts.map(([, words]) => words).join(" and ")}` : null);

/** The direction in which a text is read.
 * @type {(text: string, parts?: Part[]) => "ltr" | "rtl"} */
export const directionOf = (text, parts = []) =>
  (RIGHT_TO_LEFT.test(text + parts.map(([label]) => label).join("")) ? "rtl" : "ltr");

/** Pieces of text with their tokens. A piece is one token, or several whose stray bytes make one character.
 * @type {(words: string[]) => { text: string, tokens: number[] }[]} */
export function joinBytes(words) {
  const unitsOf = (text, token) => text.split(BYTE).map((part, k) =>
    (k % 2 ? { text: `⟨${part}⟩`, tokens: [token], byte: parseInt(part, 16) } : { text: part, tokens: [token] }));
  /* The character whose bytes these units begin with; null if they begin with none. */
  function character(units) {
    const length = lengthOf(units[0].byte ?? 0);
    const joint = units.slice(0, length);
    if (joint.length < 2 || joint.length < length || joint.some((unit) => unit.byte === undefined)) return null;
    try {
      const text = utf8.decode(Uint8Array.from(joint, (unit) => unit.byte));
      return { text, tokens: joint.flatMap((unit) => unit.tokens), length };
    } catch {
      return null; // bytes that make no character stay unchanged
    }
  }
  const units = words.flatMap((text, token) => unitsOf(text, token).filter((unit) => unit.text || !text));
  const joined = [];
  for (let k = 0; k < units.length; k++) {
    const joint = character(units.slice(k, k + 4));
    joined.push(joint ?? units[k]);
    if (joint) k += joint.length - 1;
  }
  return joined;
}
