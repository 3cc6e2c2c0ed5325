/* The tokens; both are empty until loadWords() has come back. */

import { loadData, once } from "./files.js";

/* Their texts, and the characters of which a text with stray bytes is a part (characters.py). */
export const vocabulary = /** @type {string[]} */ ([]);
export const charactersOf = /** @type {Vocabulary["characters"]} */ ({});

/** @type {(token: number) => string} */
export const word = (token) => vocabulary[token] ?? `⟨${token}⟩`;

export const loadWords = once(async () => {
  const { tokens, characters } = await loadData("vocab");
  for (const text of tokens) vocabulary.push(text);
  Object.assign(charactersOf, characters);
});
