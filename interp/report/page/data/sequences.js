/* The tokens scanned, in files of several sequences each. */

import { decodeIds } from "./decoding.js";
import { loadData, numbered, page } from "./files.js";

const { sequences_a_file: many, n_ctx } = page;
const files = new Map();

export const loadSequences = (sequences) =>
  Promise.all(
    [...new Set(sequences.map((sequence) => Math.floor(sequence / many)))].map(async (file) => {
      if (!files.has(file)) files.set(file, decodeIds(await loadData(numbered("text", file))));
    }),
  );

/* The token ids of a sequence; null if its file is not loaded yet. */
export function tokensOfSequence(sequence) {
  const file = files.get(Math.floor(sequence / many)),
    start = (sequence % many) * n_ctx;
  return file ? file.subarray(start, start + n_ctx) : null;
}
