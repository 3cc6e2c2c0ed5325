/* The tokens; both are empty until loadWords() has come back. */

import { loadData, once } from "./files.js";

/* Their texts, and what the parts of characters in them are, by the script around them (byte_words.py). */
export const vocabulary = /** @type {string[]} */ ([]);
export const readings = /** @type {Vocabulary["readings"]} */ ({});

/** @type {(token: number) => string} */
export const word = (token) => vocabulary[token] ?? `⟨${token}⟩`;

export const loadWords = once(async () => {
  const { tokens, readings: told } = await loadData("vocab");
  for (const text of tokens) vocabulary.push(text);
  Object.assign(readings, told);
});
