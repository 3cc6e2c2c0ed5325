/* The columns of the table as the run describes them (columns.py), so that one more needs no line here: how each is
 * called, how its numbers are written, and what the features are sorted by, filtered by and compared in. */

import { columns } from "./features.js";
import { page } from "./files.js";
import { format } from "../elements/format.js";

export const allColumns = page.table;
export const tableColumns = allColumns.filter(({ widths }) => widths);

/* The numbers, those that lie on a scale of one kind together. */
export const numberColumns = ["share", "signed", "log"].flatMap((kind) =>
  allColumns.filter(({ scale }) => scale === kind));

/** A number of a feature and the ends of its interval, null where one is not known.
 * @type {(name: string, latent: number) => Share} */
export function valuesOf(name, latent) {
  const of = (each) => columns[each]?.[latent] ?? null;
  return [of(name), of(`${name}_low`), of(`${name}_high`)];
}

export const writeValue = ({ style }, x) => format[style || "text"](x);

/* Its title within a line. */
export const titleInLine = ({ title }) => title.replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase());

/* Those of the table as tracks of a grid, in wide and in narrow windows. */
export function columnTracks() {
  const of = (widthOf) => tableColumns.map(({ widths }) => widthOf(widths)).filter(Boolean).join(" ");
  return { "--wide": of(({ wide }) => wide), "--narrow": of(({ wide, narrow }) => narrow ?? wide) };
}
