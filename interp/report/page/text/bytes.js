/* Parts of characters: a token may hold some bytes of a character alone, which the vocabulary writes as ⟨d7⟩.
 * Neighbours that make up a character are joined to it; of an incomplete one its bytes are drawn, with … where others
 * are missing, and then what is known of it: the commonest characters of which the token was seen to be a part,
 * "…88 么 览 …" (characters.py), else the letters that it begins, "d7… א–ת", the letter that it ends, "…a9 ש", or its
 * script, "e6 8e… Han". */

import { page } from "../data/files.js";
import { charactersOf } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { scriptOf } from "./letters.js";

const { first_bytes: TABLE } = page;
const RUN = /((?:⟨[0-9a-f]{2}⟩)+)/;
const ANY = /⟨([0-9a-f]{2})⟩/g;
const ANY_BYTE = /⟨[0-9a-f]{2}⟩/;
const FIRST = 0xc2;
const LATER = 0x80;
const RIGHT_TO_LEFT = /\p{Script=Hebrew}|\p{Script=Arabic}/u;
const MOST_LATER = 3; // bytes of a character behind its first one
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const lengthOf = (byte) => (byte >= 0xf5 ? 0 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0);
/** @type {(lead: number) => string} */
export const nameOfLead = (lead) => TABLE[lead - FIRST]?.[0] ?? "character";
const hexOf = (byte) => byte.toString(16).padStart(2, "0");
const isLater = (byte) => byte < 0xc0; // and follows another byte of a character
const bytesOf = (text) => Array.from(text.matchAll(ANY), ([, hex]) => parseInt(hex, 16));
const an = (name) => `${/^[AEIOU]/i.test(name) ? "an" : "a"} ${name}`;

/** The direction in which a text with stray bytes is read; null for any other text.
 * @type {(text: string, lead?: number) => "ltr" | "rtl"} */
export function directionOfBytes(text, lead = null) {
  const first = leadOf(text) ?? leadOfLetters(text) ?? lead;
  if (!ANY_BYTE.test(text)) return null;
  return first !== null && /Hebrew|Arabic/.test(nameOfLead(first)) ? "rtl" : "ltr";
}

/* The character of some bytes; null if they make none. */
function decoded(bytes) {
  try {
    return utf8.decode(Uint8Array.from(bytes));
  } catch {
    return null; // bytes that make no character stay unchanged
  }
}

/* The last word for a script in a name, else the first word: "Hebrew", "sign". */
const scriptIn = (name) => name.match(/[A-Z]\w+/g)?.at(-1) ?? name.split(" ")[0];

/** The first byte of a character of which some text holds a part; null if it holds none.
 * @type {(text: string) => number} */
export const leadOf = (text) => bytesOf(text).find(lengthOf) ?? null;

/** The same of a whole letter that is not a Latin one.
 * @type {(text: string) => number} */
export const leadOfLetters = (text) => {
  const [letter] = text.match(/(?![\p{Script=Latin}])\p{L}/u) ?? [];
  return letter ? new TextEncoder().encode(letter)[0] : null;
};

/* The common letters that begin with a byte. */
const lettersOf = (lead) => Array.from(TABLE[lead - FIRST]?.[1].replaceAll(" ", "") ?? "");

/* The letter that a later byte ends, in the script of some first byte; null if that is not known. */
function letterOf(byte, lead) {
  if (lead === null || lengthOf(lead) !== 2) return null;
  return TABLE.filter(([name]) => name === nameOfLead(lead)).map(([, letters]) => letters[byte - LATER]?.trim())
    .find(Boolean) ?? null;
}

/* The range of the letters that some first bytes may become; or the script, if more than one byte is missing. */
function lettersOrScript(bytes) {
  const [lead] = bytes;
  const ended = () => Array.from({ length: 0x40 }, (_, k) => decoded([...bytes, LATER + k]));
  const letters = bytes.length === 1 ? lettersOf(lead) : ended().filter((letter) => /^\p{L}$/u.test(letter ?? ""));
  return letters.length ? `${letters[0]}–${letters.at(-1)}` : scriptIn(nameOfLead(lead));
}

/* The characters of which a token was seen to be a part: those that it ends and those that it begins, in the script
 * around it, or in the commonest one if none is known; undefined where there are none. */
const seenWith = (token, lead) => (charactersOf[token] ?? []).map((byScript) => (lead === null ? byScript[0]
  : byScript.find((characters) => nameOfLead(new TextEncoder().encode(characters)[0]) === nameOfLead(lead))));

/* Characters that were seen, without the sign for others. */
const alone = (characters) => characters.replace(/ …$/, "");

/** The parts of characters in a run of stray bytes; lead: a first byte of the script around it, if it has none
 * itself; ended and begun: as above; endedElsewhere: in the commonest script; isBeside: whole letters of its script
 * stand beside it, which tell more than all that may begin with a byte.
 * known: the letters alone, as it is drawn; "" where there are none.
 * @type {(run: string, lead: number, seen: string[], elsewhere: string[], isBeside: boolean)
 *   => [sign: string, label: string, meaning: string, known: string][]} */
function parts(run, lead, [ended, begun], [endedElsewhere], isBeside) {
  const bytes = bytesOf(run);
  const script = bytes.find(lengthOf) ?? lead;
  /** @type {ReturnType<typeof parts>} */
  const listed = [];
  for (let k = 0; k < bytes.length; k++) {
    const length = lengthOf(bytes[k]);
    const letter = length ? null : letterOf(bytes[k], script);
    const seen = length ? begun : ended ?? (letter ? undefined : endedElsewhere);
    const most = length ? length - 1 : seen ? MOST_LATER : 1;
    let n = 1;
    while (n < most && k + n < bytes.length && !lengthOf(bytes[k + n])) n++;
    const piece = bytes.slice(k, k + n);
    const sign = piece.map((byte) => `⟨${hexOf(byte)}⟩`).join("");
    const hex = piece.map(hexOf).join(" ");
    const ofSeen = seen?.replace(" …", " or others").replace(/^(.) (.)( |$)/u, "$1, $2$3");
    if (length) {
      const name = nameOfLead(bytes[k]);
      const which = n === 1 ? "the first byte" : `the first ${n} bytes`;
      const letters = lettersOf(bytes[k]);
      const range = letters.length ? `, ${letters[0]} to ${letters.at(-1)}` : "";
      const known = letters.length ? lettersOrScript(piece) // one range in all tokens
        : seen ?? lettersOrScript(piece);
      const label = isBeside && letters.length ? `${hex}…` : `${hex}… ${known}`;
      listed.push([sign, label, `${sign}: ${which} of ${ofSeen ?? `${an(name)}${range}`}`,
        letters.length || seen ? `${alone(known)}…` : ""]);
    } else {
      const name = script === null ? "character" : nameOfLead(script);
      const of = letter ? `the end of ${letter}, if it is ${an(name)}` : `a later byte of ${an(name)}`;
      const known = seen ?? (script === null ? "" : letter ?? scriptIn(name));
      listed.push([sign, `${isLater(bytes[k]) ? "…" : ""}${hex} ${known}`.trim(),
        `${sign}: ${ofSeen ? `a later part of ${ofSeen}` : of}`,
        seen || letter ? `…${alone(known)}` : ""]);
    }
    k += n - 1;
  }
  return listed;
}

/** The parts of characters in a text, run by run, between its other pieces: [piece, parts, piece, …]. token: that of
 * which the text is a part; null in running text.
 * @type {(text: string, lead: number, token: string) => any[]} */
function divided(text, lead, token) {
  if (!ANY_BYTE.test(text)) return [text];
  const first = leadOf(text) ?? leadOfLetters(text) ?? lead;
  const all = text.split(RUN);
  const isOfItsScript = (letter) => first !== null && letter !== null && nameOfLead(letter) === nameOfLead(first);
  const isBeside = all.some((piece, k) => k % 2 === 0 && isOfItsScript(leadOfLetters(piece)));
  return all.map((piece, k) =>
    (k % 2 ? parts(piece, first, seenWith(token, first), seenWith(token, null), isBeside) : piece));
}

/** A text with its stray bytes drawn as parts of characters, each read as its script is; the bytes themselves are
 * there to be copied.
 * @type {(text: string, lead?: number, token?: string) => Child[]} */
export function drawBytes(text, lead = null, token = null) {
  const element = ([sign, label, meaning, known]) => {
    const named = { role: "img", "aria-label": meaning, dir: RIGHT_TO_LEFT.test(known) ? "rtl" : "ltr" };
    const marks = (known || label).replace(/\p{M}/gu, (mark) => scriptOf(mark) ?? mark);
    return h("span.byte", { ...named, "data-part": label, "data-known": marks },
      h("span.exact", null, sign));
  };
  return divided(text, lead, token).flatMap((piece, k) => (k % 2 ? piece.map(element) : piece || []));
}

/** A text as part of a picture, which has brackets instead of boxes; token: what it is of.
 * @type {(text: string, lead?: number, token?: string) => string} */
export const bytesInLetters = (text, lead = null, token = text) => divided(text, lead, token).map((piece, k) =>
  (k % 2 ? piece.map(([, label]) => `⟨${label}⟩`).join("") : piece)).join("");

/** What the stray bytes of a token are; null if it has none.
 * @type {(token: string, lead?: number) => string} */
export const meaningOfBytes = (token, lead = null) => divided(token, lead, token)
  .flatMap((piece, k) => (k % 2 ? piece.map(([, , words]) => words) : [])).join("; ") || null;

/** Pieces of text with their tokens. A piece is one token, or several whose stray bytes make one character.
 * @type {(words: string[]) => { text: string, tokens: number[] }[]} */
export function joinBytes(words) {
  const unitsOf = (text, token) => text.split(/⟨([0-9a-f]{2})⟩/).map((part, k) =>
    (k % 2 ? { text: `⟨${part}⟩`, tokens: [token], byte: parseInt(part, 16) } : { text: part, tokens: [token] }));
  /* The character whose bytes these units begin with; null if they begin with none. */
  function character(units) {
    const length = lengthOf(units[0].byte ?? 0);
    const joint = units.slice(0, length);
    if (joint.length < 2 || joint.length < length || joint.some((unit) => unit.byte === undefined)) return null;
    const text = decoded(joint.map((unit) => unit.byte));
    return text === null ? null : { text, tokens: joint.flatMap((unit) => unit.tokens), length };
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
