/* What is known of all latents, which every view but the first waits for, and of one. */

import { examplesOf, rowsOf } from "./decoding.js";
import { loadData, numbered, once, page } from "./files.js";
import { loadWords } from "./vocabulary.js";

/* The lists over the latents, and the latents in the recommended order; both are empty until loadTable() has come
 * back. */
export const columns = /** @type {TableColumns} */ ({});
export const order = /** @type {number[]} */ ([]);

/* The fields of the latents in a file, by their names: each a list. */
export const loadChunk = once(async (/** @type {number} */ k) => {
  const fields = await loadData(numbered("features", k));
  return Object.fromEntries(Object.entries(fields).map(([name, packed]) => [name, rowsOf(packed)]));
});

/* Some fields of an object that are stored as JSON. */
const parsed = (object, ...names) =>
  Object.fromEntries(names.map((name) => [name, JSON.parse(object[name] ?? "null")]));

/** @type {(latent: number) => Promise<Feature>} */
export async function loadFeature(latent) {
  const { chunk } = page;
  const fields = await loadChunk(Math.floor(latent / chunk));
  /** @type {any} */
  const feature = Object.fromEntries(Object.entries(fields).map(([name, rows]) => [name, rows[latent % chunk]]));
  const senses = feature.senses?.map((sense) =>
    ({ ...sense, ...parsed(sense, "rule", "common", "short") })) ?? null;
  const rules = parsed(feature, "shared", "measured");
  return { ...feature, ...rules, senses, examples: examplesOf(feature.examples) };
}

/* The table of all features (page_data.py). */
export const loadTable = once(async () => {
  const table = await loadData("table");
  Object.assign(columns, table.columns);
  for (const latent of table.order) order.push(latent);
});

/* What the table shows of every feature beside numbers (payloads.py), with the tokens that it needs. */
export const loadRows = async () => (await Promise.all([loadData("rows"), loadWords()]))[0];
