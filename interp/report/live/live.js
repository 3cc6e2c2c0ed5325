/* What a page served by `interp explore` has in addition: answers from the model, and notes kept in the run folder. */
"use strict";

/** Ask the server; throw an Error that says why it does not answer.
 * @type {(name: string, asked?: any, options?: RequestInit) => Promise<any>} */
async function ask(name, asked, options = {}) {
  const posted = asked && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
  };
  let answer;
  try {
    answer = await fetch(`/api/${name}`, { ...posted, ...options });
  } catch {
    throw new Error("The model does not answer: check that `interp explore` is still running");
  }
  const reply = await answer.json();
  if (!answer.ok) throw new Error(reply.error);
  return reply;
}

/** Say in a place of the page why the model did not answer.
 * @type {(place: HTMLElement, error: Error) => void} */
const showError = (place, error) => place.replaceChildren(h("p.missing", { role: "alert" }, `${error.message}.`));

(() => {
  const PAUSE = 300;
  const RETRY = 2000; // until changes that the server did not take are sent again
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
      else report.notes.replace(notes);
    } catch (error) {
      const newer = waiting;
      waiting = edits;
      wait(newer);
      isRefused = true;
      trouble(`Your notes are not saved yet: ${error.message}.`);
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
    if (!sending && !anyWaiting()) report.notes.replace(notes);
  }

  report.views.compare.ask = (latent, other) => ask("common", { latent, other });
  report.notes.keepWith(write);
  look();
  window.addEventListener("focus", look);
  window.addEventListener("pagehide", () => {
    if (anyWaiting()) post(waiting);
  });
})();
