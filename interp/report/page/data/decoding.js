/* How values are restored from the data files, in which they lie in columns and in letters (json_text.py). */

/** Restore values from their columns (json_text.py); one that a mapping lacks is null.
 * @type {(packed: PackedColumns) => any[]} */
export function rowsOf(packed) {
  if (Array.isArray(packed)) return packed;
  const { keys, columns, lengths = [], all = [], missing = [] } = packed;
  const parts = columns?.map(rowsOf);
  const items = rowsOf(all);
  let end = 0;
  /** @type {any[]} */
  const some = parts
    ? parts[0].map((_, k) => parts.map((part) => part[k]))
    : lengths.map((length) => items.slice(end, (end += length)));
  const rows = keys ? some.map((row) => Object.fromEntries(keys.map((key, k) => [key, row[k]]))) : some;
  for (const place of missing) rows.splice(place, 0, null);
  return rows;
}

/** Examples as the views read them, of their columns (contexts.py).
 * @type {(encoded: EncodedExamples) => Example[]} */
export function examplesOf([kinds, rows, labels, values, exponent, ...texts]) {
  const [counts, gaps, codes] = texts.map(decodeIds);
  let at = 0;
  return kinds.map((kind, k) => {
    const sparse = [];
    for (let n = counts[k], pos = -1; n > 0; n--, at++) {
      pos += gaps[at] + 1;
      const code = codes[at];
      const sign = code % 180 < 90 ? "" : "-";
      sparse.push(pos, Number(`${sign}${(code % 90) + 10}e${exponent - 1 - Math.floor(code / 180)}`));
    }
    return [kind, rows[k], labels[k], values[k], sparse];
  });
}
const FIRST_CODE = 93,
  SURROGATES = 0xd800,
  N_SURROGATES = 0x800;

/** @type {(text: string) => Int32Array} */
export function decodeIds(text) {
  const ids = new Int32Array(text.length);
  let n = 0;
  for (let k = 0; k < text.length; k++) {
    const code = text.codePointAt(k) ?? 0; // there is one at each place of a text
    if (code > 0xffff) k++; // it takes two units
    ids[n++] = (code < SURROGATES ? code : code - N_SURROGATES) - FIRST_CODE;
  }
  return ids.slice(0, n);
}
