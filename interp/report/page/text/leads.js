/* How parts of characters are read: by a first byte (lead) of a character of the script around them, which tells what
 * the other bytes may be. */

import { word } from "../data/vocabulary.js";
import { leadAt, storedExamples, tokenOf } from "../examples/examples.js";
import { leadOf, leadOfLetters, meaningOfBytes, nameOfLead } from "./bytes.js";

const ONE_SCRIPT = 0.25; // share of the tokens around firings from which their script is taken for that of a part

/** Whether a token is a part of a character although there are none around the firings: it tells a reader little.
 * @type {(token: number, lead: number) => boolean} */
export const isStrayByte = (token, lead) => lead === null && meaningOfBytes(word(token)) !== null;

/** A first byte of the letters on or beside which a feature fires; null if few of them are of one script but Latin.
 * @type {(feature: Feature) => number} */
export function commonLead({ tokens }) {
  const counts = new Map();
  let all = 0;
  for (const [, token, n] of tokens ?? []) {
    all += n;
    const lead = leadOf(word(token)) ?? leadOfLetters(word(token));
    const name = lead === null ? null : nameOfLead(lead);
    if (name) counts.set(name, [lead, (counts.get(name)?.[1] ?? 0) + n]);
  }
  const [[lead, most]] = [...counts.values(), [null, 0]].sort(([, a], [, b]) => b - a);
  return most >= ONE_SCRIPT * all ? lead : null;
}

/** How the page of a feature reads parts of characters, each token in one way: a function from its text to a first
 * byte of the character in whose bytes its strongest example fires, or else of the letters around the firings.
 * @type {(feature: Feature) => (text: string) => number} */
export function leadReader(feature) {
  if (readings.has(feature)) return readings.get(feature);
  const around = commonLead(feature);
  const ofExamples = new Map();
  const examples = storedExamples(feature).filter((one) => tokenOf(one) !== null);
  for (const one of examples) {
    const text = word(tokenOf(one));
    const isNew = !ofExamples.has(text) && meaningOfBytes(text) !== null;
    if (isNew) ofExamples.set(text, leadAt(one));
  }
  const read = (text) => ofExamples.get(text) ?? around;
  if (examples.length) readings.set(feature, read); // their text is loaded
  return read;
}
const readings = new WeakMap();
