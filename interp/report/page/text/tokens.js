/* Tokens as the page draws them, with their white space and their stray bytes. */

import { h } from "../elements/elements.js";
import { directionOf, drawParts, meaningOf, partsOf } from "./bytes.js";
import { scriptOf } from "./letters.js";

/** @import { Part } from "./bytes.js" */

/** A token with its white space marked: the style draws ␣ on each space and ↵ and ⇥ where a line ends and a tab is,
 * and a run of at least `least` as one sign with their number, such as ␣×8, so that what is copied is the text itself.
 * Other control characters are shown by their pictures, stray bytes as parts of characters (bytes.js). isText: single
 * spaces are left as they are; parts: what the parts of characters in it are.
 * @type {(token: string, least?: number, isText?: boolean, parts?: Part[]) => Child[]} */
export function visible(token, least = 3, isText = false, parts = partsOf(token)) {
  const left = [...parts];
  const kinds = { " ": "span.space", "\n": "span.mark.line", "\t": "span.mark.tabbed" };
  const picture = (c) => String.fromCharCode(0x2400 + c.charCodeAt());
  const shown = (piece) => drawParts(piece.replace(/[\0-\x1f]/g, picture), left);
  const drawn = (piece) => {
    const kind = kinds[piece[0]];
    if (!kind || (isText && piece[0] === " " && piece.length < least)) return shown(piece);
    return piece.length < least ? h(kind, null, piece) : runElement(kind, piece, piece.length);
  };
  const runs = new RegExp(`( {${least},}|\n{${least},}|\t{${least},}|[ \n\t])`);
  return token.replaceAll("\r", "").split(runs).filter(Boolean).flatMap(drawn);
}

/** Text that is drawn as a sign, with its number if there are several.
 * @type {(kind: string, exact: string, n: number) => HTMLElement} */
const runElement = (kind, exact, n) =>
  h(`${kind}.run`, { "data-n": n, "--n": n }, h("span.exact", null, exact));

/** A token on its own, also where it is a single space; bdi keeps its writing direction to itself, and one with stray
 * bytes is read as its script is. script: that of the tokens around it.
 * @type {(token: string, script?: string | null) => HTMLElement} */
export function tokenElement(token, script) {
  const parts = partsOf(token, script);
  const named = {
    ...(token.trim() ? null : { role: "img", "aria-label": spelled(token) }),
    "data-script": scriptOf(token),
    dir: scriptOf(token) ? "ltr" : parts.length ? directionOf(token, parts) : null,
    "data-tip": meaningOf(token, parts),
  };
  const kind = /^\p{M}/u.test(token) ? "bdi.token.combining" : "bdi.token";
  return h(kind, named, visible(token, token.trim() ? 3 : 1, false, parts));
}

/** White space in words, for screen readers.
 * @type {(text: string) => string} */
export const spelled = (text) =>
  Array.from(text, (c) => ({ " ": "space", "\n": "line end", "\t": "tab" })[c] ?? c).join(" ");
