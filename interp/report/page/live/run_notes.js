/* The reader's notes in the run folder: the server is sent what changes, and asked for what other tabs wrote. */

import { keepNotesWith, replaceNotes } from "../data/notes.js";
import { trouble } from "../elements/errors.js";
import { ask, Refusal } from "./ask.js";

const PAUSE = 300;
const RETRY = 2000; // until changes that did not reach the server are sent again; refused ones wait for a new change
const MOST_KEPT = 15000; // characters of changes that outlive the page: a browser allows 64 KiB of them
let waiting = {},
  sending = false,
  isRefused = false,
  timer;

const anyWaiting = () => Object.keys(waiting).length > 0;

/* Add to the changes to send: for each field its first value and its value now. */
function wait(edits) {
  for (const [latent, fields] of Object.entries(edits)) {
    const pending = (waiting[latent] ??= {});
    for (const [name, [before, after]] of Object.entries(fields))
      pending[name] = [pending[name] ? pending[name][0] : before, after];
  }
}

const changed = ([before, after]) =>
  Object.fromEntries(
    Object.keys(after)
      .filter((name) => before[name] !== after[name])
      .map((name) => [name, [before[name], after[name]]]),
  );

function write(edits) {
  wait(Object.fromEntries(Object.entries(edits).map(([latent, notes]) => [latent, changed(notes)])));
  clearTimeout(timer);
  timer = setTimeout(send, PAUSE);
}

/* Give changes to the server, even if the page is closed before it answers. */
const post = (edits) => ask("notes", { edits }, { keepalive: JSON.stringify(edits).length <= MOST_KEPT });

async function send() {
  if (sending || !anyWaiting()) return;
  const edits = waiting;
  waiting = {};
  sending = true;
  try {
    const notes = await post(edits);
    if (isRefused) trouble("");
    isRefused = false;
    if (anyWaiting()) timer = setTimeout(send, PAUSE);
    else replaceNotes(notes);
  } catch (error) {
    const newer = waiting;
    waiting = edits;
    wait(newer);
    isRefused = true;
    trouble(`Your notes are not saved yet: ${error.message}.`);
    if (error instanceof Refusal && !Object.keys(newer).length) return;
    clearTimeout(timer);
    timer = setTimeout(send, RETRY);
  } finally {
    sending = false;
  }
}

/* Take over what another tab wrote. */
async function look() {
  if (sending || anyWaiting()) return;
  const notes = await ask("notes");
  if (!sending && !anyWaiting()) replaceNotes(notes);
}

/** From now on the notes are those of the run folder. */
export function keepNotesInRun() {
  keepNotesWith(write);
  look();
  window.addEventListener("focus", look);
  window.addEventListener("pagehide", () => {
    if (anyWaiting()) post(waiting);
  });
}
