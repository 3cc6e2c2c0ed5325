/* A reader's stars, labels and notes: kept in the browser, or by a live page in the run; exported as JSON.
 *
 * {"format": "interp-notes", "features": KEY, "notes": {"12": {"star": true, "label": "…", "note": "…"}}}, where KEY
 * says to which features they belong. If a browser stores nothing, they last as long as the page. */

import { page } from "./files.js";
import { trouble } from "../elements/errors.js";

/** What a reader keeps of a feature.
 * @typedef {{ star: boolean, label: string, note: string }} Note */

const { key, latents } = page;
const PLACE = `interp-notes/${key}`;
const TIMES = `${PLACE}/times`; // of the last changes in this browser
const FORMAT = "interp-notes";
const listeners = [];
let kept = read();
let times = readTimes();
let write = null;
let whenStored = null; // called once the last change is stored

function read() {
  try {
    return checked(JSON.parse(localStorage.getItem(PLACE) ?? "{}"));
  } catch {
    return {};
  }
}

function readTimes() {
  try {
    return JSON.parse(localStorage.getItem(TIMES) ?? "{}");
  } catch {
    return {};
  }
}

/** The notes of a mapping, each with its non-empty fields; a TypeError for an invalid note.
 * @type {(mapping: any) => Record<number, Note>} */
function checked(mapping) {
  /** @type {Record<string, Note>} */
  const notes = {};
  for (const [latent, note] of Object.entries(mapping)) {
    if (!/^\d+$/.test(latent) || Number(latent) >= latents) {
      throw new TypeError(`it has a note of feature ${latent}, which is not here`);
    }
    const { star = false, label = "", note: text = "" } = note ?? {};
    if (typeof star !== "boolean" || typeof label !== "string" || typeof text !== "string") {
      throw new TypeError(`its note of feature ${latent} is not valid`);
    }
    if (star || label || text) notes[latent] = { star, label, note: text };
  }
  return notes;
}

/** edits: latent → [its note before, its note now].
 * @type {(edits: Record<number, [before: Note, now: Note]>) => void} */
function keep(edits) {
  try {
    if (write) write(edits);
    else {
      store(edits);
      sayStored();
    }
  } catch {
    trouble("This browser does not store notes for a page like this: export them before you close it.");
  }
  for (const listener of listeners) listener();
}

/* Store the fields that were changed, beside what other tabs have stored by now. */
function store(edits) {
  const all = read();
  for (const [latent, [before, now]] of Object.entries(edits)) {
    const changed = Object.entries(now).filter(([name, value]) => value !== before[name]);
    all[latent] = { ...now, ...all[latent], ...Object.fromEntries(changed) };
  }
  localStorage.setItem(PLACE, JSON.stringify(checked(all)));
  localStorage.setItem(TIMES, JSON.stringify(times));
  kept = checked(all);
}

window.addEventListener("storage", (event) => event.key === PLACE && !write && replaceNotes(read()));

function sayStored() {
  whenStored?.();
  whenStored = null;
}

/** From now on pass each change to `writer` instead of to this browser; it calls `replaceNotes` when it has stored
 * them.
 * @type {(writer: (edits: Record<number, [before: Note, now: Note]>) => void) => void} */
export function keepNotesWith(writer) {
  write = writer;
}

/** Show these notes, which are stored, with all changes made so far.
 * @type {(notes: Record<number, Note>) => void} */
export function replaceNotes(notes) {
  kept = checked(notes);
  sayStored();
  for (const listener of listeners) listener();
}

/** @type {(latent: number) => Note} */
export const noteOf = (latent) => kept[latent] ?? { star: false, label: "", note: "" };

/** Change some fields of a note; onstored: called once that is stored.
 * @type {(latent: number, fields: Partial<Note>, onstored?: () => void) => void} */
export function setNote(latent, fields, onstored) {
  whenStored = onstored ?? whenStored;
  const before = noteOf(latent);
  kept = checked({ ...kept, [latent]: { ...before, ...fields } });
  times = { ...times, [latent]: Date.now() };
  keep({ [latent]: [before, noteOf(latent)] });
}

/** The latents that have a star, a label or a note.
 * @type {() => number[]} */
export const latentsKept = () => Object.keys(kept).map(Number);

/** @type {(latent: number) => boolean} */
export const isKept = (latent) => latent in kept;
/** @type {() => number} */
export const nStarred = () => Object.values(kept).filter(({ star }) => star).length;

/** Whether a latent has a label or a note of the reader's own.
 * @type {(latent: number) => boolean} */
export const isNoted = (latent) => Boolean(noteOf(latent).label || noteOf(latent).note);

/** Notes as an export has them; by default all that are kept.
 * @type {(notes?: Record<number, Note>) => string} */
export const exportedNotes = (notes = kept) => JSON.stringify({ format: FORMAT, features: key, notes }, null, 1);

/** Add the notes of an exported text; they replace those of a latent that has some.
 * @type {(text: string) => void} */
export function importNotes(text) {
  let imported;
  /** @type {Record<string, [before: Note, now: Note]>} */
  let edits;
  try {
    imported = JSON.parse(text);
    if (String(imported?.format).startsWith(`${FORMAT}/`)) throw new TypeError("a later version of interp wrote it");
    if (imported?.format !== FORMAT) throw new TypeError("it is not an export of this page");
    if (imported.features !== key) throw new TypeError("it belongs to other features");
    const added = checked(imported.notes);
    edits = Object.fromEntries(Object.entries(added).map(([latent, note]) => [latent, [noteOf(Number(latent)), note]]));
    kept = { ...kept, ...added };
  } catch (error) {
    return trouble(`No notes were imported: ${error.message}.`);
  }
  keep(edits);
}

/** Call a function whenever a note changes.
 * @type {(listener: () => void) => void} */
export function onNote(listener) {
  listeners.push(listener);
}

/** When a latent's note was changed in this browser; 0 for never.
 * @type {(latent: number) => number} */
export const changedAt = (latent) => times[latent] ?? 0;

/** Whether notes are kept in the run, and not in this browser alone.
 * @type {() => boolean} */
export const areInRun = () => write !== null;
