/* Rows that are not text: each has a number and possibly a picture, in files of many rows each. */

import { loadData, numbered, page } from "./files.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";

const { pictures_a_file: many, n_ctx } = page;
const pictures = new Map();

export const loadInputs = (rows) =>
  Promise.all(
    (many ? [...new Set(rows.map((row) => Math.floor(row / many)))] : []).map(async (file) => {
      if (pictures.has(file)) return;
      const drawn = await loadData(numbered("pictures", file));
      pictures.set(file, drawn);
    }),
  );

export const isInputLoaded = (row) => !many || pictures.has(Math.floor(row / many));
export const inputName = (row) =>
  n_ctx === 1
    ? `input ${format.count(row)}`
    : `input ${format.count(Math.floor(row / n_ctx))}, position ${row % n_ctx}`;

/* The picture of a row, or its name if there is none. Only base64 letters come from the data. */
export function inputElement(row) {
  const drawn = many ? pictures.get(Math.floor(row / many))?.[row] : null;
  if (!/^[A-Za-z0-9+/=]+$/.test(drawn ?? "")) return h("span.input", null, inputName(row));
  return h("img.picture", { src: `data:image/png;base64,${drawn}`, alt: inputName(row), title: inputName(row) });
}
