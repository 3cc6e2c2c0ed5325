/* A reader's notes on the page: the fields of one feature, and the list of all that have some. */

import { loadRows, loadTable, order } from "../data/features.js";
import { page } from "../data/files.js";
import { verdictOf } from "../data/latents.js";
import {
  areInRun, changedAt, exportedNotes, importNotes, isKept, isNoted, latentsKept, nStarred, noteOf, onNote, setNote,
} from "../data/notes.js";
import { h, the } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { featureLink, judgedElements } from "../elements/latents.js";
import { copyButton } from "../examples/copies.js";
import { matchQuality, parseQuery } from "../selection/search.js";
import { captionOf, isNamedByLabel } from "../text/captions.js";
import { sensesOfRow, snippetOfRow } from "./table_cells.js";

const N_OFFERED = 6; // to begin with, where none is worth a look
/* How the list is sorted, and how two latents are compared, where they are not by their numbers. */
const ORDERS = {
  number: () => 0,
  "last changed": (a, b) => changedAt(b) - changedAt(a),
  label: (a, b) =>
    Number(!noteOf(a).label) - Number(!noteOf(b).label) || noteOf(a).label.localeCompare(noteOf(b).label),
};

function download() {
  const address = URL.createObjectURL(new Blob([exportedNotes()], { type: "application/json" }));
  h("a", { href: address, download: "notes.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/* Show in all fields on the page what is kept. */
function repaint() {
  for (const each of document.querySelectorAll(".notes, .mine > li")) each.show?.();
}
onNote(repaint);

/** The fields of one feature: the star with the label, and the note, which is as high as what is written. On the
 * feature's page a button opens both, and a note that is written stays.
 * @type {(latent: number) => { label: HTMLElement, note: HTMLElement }} */
export function noteEditor(latent) {
  const onclick = () => {
    setNote(latent, { star: !noteOf(latent).star });
    show();
  };
  const button = h("button.star", { type: "button", title: "star (s)", onclick });
  const named = (name) => ({ placeholder: name, "aria-label": name });
  const labelField = h("input", {
    type: "text",
    ...named("Your label"),
    oninput() { change({ label: this.value }, label); },
  });
  const noteField = h("textarea", {
    rows: 1,
    ...named("Your note"),
    oninput() { change({ note: this.value }, note); },
  });
  const note = h("div.note", null, noteField, h("output.muted", null));
  const put = (field, value) => {
    if (field.value === value) return;
    const at = field.selectionStart;
    field.value = value;
    if (field === document.activeElement) field.setSelectionRange(at, at);
  };
  const change = (fields, where) => {
    for (const part of [label, note]) the("output", part).textContent = "";
    setNote(latent, fields, () => { the("output", where).textContent = "saved"; });
  };
  const show = () => {
    const { star, label: readerLabel, note: text } = noteOf(latent);
    button.setAttribute("aria-pressed", String(star));
    button.replaceChildren(star ? "★" : "☆", h("span.long", null, star ? " starred" : " star"));
    put(labelField, readerLabel);
    put(noteField, text);
  };
  const open = h("button.write", {
    type: "button",
    "aria-expanded": "false",
    "aria-label": "Your label and note",
    onclick() {
      const isOpen = this.ariaExpanded === "true";
      this.ariaExpanded = String(!isOpen);
      if (!isOpen) labelField.focus();
    },
  }, "✎", h("span.long", null, " label, note"));
  const label = h("div.notes", null, button, open, h("span.labelled", null, labelField, h("output.muted", null)));
  show();
  return { label: Object.assign(label, { show }), note };
}

/* A day, and as its tip the time; nothing for 0, of which the time is not known. */
function writtenTime(at) {
  if (!at) return [];
  const year = new Date(at).getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  const write = (how) => new Date(at).toLocaleString("en-GB", how);
  return [h("span", { "data-tip": write({ timeStyle: "short" }) }, write({ day: "numeric", month: "short", ...year }))];
}

/* The notes as lines of text, each with its feature, what the page says of it, and its label and note. */
const inText = (some = latentsKept()) => some.map((latent) => [
  latent,
  ...[judgedElements(latent), captionOf(latent)].map((content) => h("span", null, content).textContent),
  noteOf(latent).label, noteOf(latent).note.replaceAll("\n", " ")].join("\t")).join("\n");

/* The heads of the list's columns. */
const heads = () => h("div.heads", { "aria-hidden": "true" },
  ["", "Feature", "Fires on", "Your label", "Your note", "Changed"].map((head) => h("span", null, head)));

/* A row of the list: the star, the feature with its verdict, what it fires on with its strongest firing, the fields of
 * the label and of the note, and when one was changed. onchoose: called where it is chosen to be compared. */
function row(latent, removed, onchoose) {
  const { label, note } = noteEditor(latent);
  const rule = h("span.rule", null, captionOf(latent, false));
  const firesOn = h("div.fires-on", null, rule);
  loadRows().then((rows) => {
    const senses = isNamedByLabel(latent) ? undefined : sensesOfRow(latent, rows, Infinity);
    firesOn.replaceChildren(...(senses ?? [rule, h("div.snippet", null, snippetOfRow(latent, rows))]));
  });
  const remove = () => {
    const before = noteOf(latent);
    element.remove();
    setNote(latent, { star: false, label: "", note: "" });
    removed.replaceChildren(`Removed what was yours of feature ${latent}. `,
      h("button.link", { type: "button", onclick() {
        removed.replaceChildren();
        setNote(latent, before);
      } }, "Undo"));
  };
  const changed = h("time.muted");
  const element = h("li", { "data-latent": latent },
    label, h("div.judged", null, featureLink(latent), h("div", null, judgedElements(latent))), firesOn, note, changed,
    h("button.choose", { type: "button", title: "Compare with another one that is chosen", "aria-pressed": "false",
      "aria-label": `compare feature ${latent}`, onclick: onchoose }, "compare"),
    h("button.remove", { type: "button", title: "Remove the star, the label and the note",
      "aria-label": `remove what is yours of feature ${latent}`, onclick: remove }, "remove"));
  const show = () => {
    element.classList.toggle("unkept", !isKept(latent)); // it leaves the list with the reader
    changed.replaceChildren(...writtenTime(changedAt(latent)));
  };
  show();
  return Object.assign(element, { show });
}

/* All notes, each with its fields, and the buttons that export and import them. */
function list() {
  const file = h("input", {
    type: "file",
    accept: ".json,application/json",
    hidden: true,
    "aria-label": "Notes to import",
    async onchange() {
      const [imported] = this.files ?? [];
      if (imported) importNotes(await imported.text());
      this.value = "";
    },
  });
  const about = h("span.muted");
  const sought = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter your notes",
    autocomplete: "off", spellcheck: "false", oninput: filter });
  const verdicts = h("select", { "aria-label": "Verdict", onchange: filter });
  const removed = h("output");
  const rows = h("ul.mine");
  const columnHeads = heads();
  const press = (text, title, onclick) => h("button", { type: "button", title, onclick }, text);
  const save = press("Export", "as notes.json, to be kept, sent or imported", download);
  const copy = copyButton("Copy as text", inText);
  const open = press("Import", "adds what a notes.json has to these notes", () => file.click());
  const orders = h("select", { onchange: sort }, Object.keys(ORDERS).map((value) => h("option", { value }, value)));
  const onMap = h("a", { href: "#map?starred=1" }, "The starred on the map");
  const two = h("a");
  let chosen = []; // to be compared, at most two
  function sort() {
    const listed = Array.from(rows.children, (each) => Number(each.dataset.latent));
    listed.sort((a, b) => ORDERS[orders.value](a, b) || a - b);
    for (const latent of listed) rows.append(the(`[data-latent="${latent}"]`, rows));
    arrange();
  }
  function choose(latent) {
    chosen = chosen.includes(latent) ? chosen.filter((each) => each !== latent) : [...chosen, latent].slice(-2);
    arrange();
  }
  /* Offer to compare the two chosen, or else the first two, and write above the first of each label what it is of, if
   * they are sorted by it. */
  function arrange() {
    const shown = Array.from(rows.querySelectorAll("li:not([hidden])"), ({ dataset }) => Number(dataset.latent));
    chosen = chosen.filter((latent) => shown.includes(latent));
    for (const each of rows.querySelectorAll("li")) {
      the(".choose", each).ariaPressed = String(chosen.includes(Number(each.dataset.latent)));
    }
    two.hidden = shown.length < 2 || latentsKept().length < 2;
    two.href = `#compare/${(chosen.length === 2 ? chosen : shown.slice(0, 2)).join("/")}`;
    two.textContent = chosen.length === 2 ? `Compare ${chosen.join(" and ")}` : "Compare the first two";
    for (const each of rows.querySelectorAll("[data-label]")) delete each.dataset.label;
    if (orders.value !== "label") return;
    for (const [label, [first, ...others]] of Map.groupBy(shown, (latent) => noteOf(latent).label)) {
      the(`[data-latent="${first}"]`, rows).dataset.label =
        `${label || "without a label"}, ${format.count(1 + others.length)}`;
    }
  }
  /* Hide the rows that the text or the verdict asked for does not fit. */
  async function filter() {
    await loadTable();
    const terms = parseQuery(sought.value);
    for (const each of /** @type {HTMLElement[]} */ (Array.from(rows.children))) {
      const latent = Number(each.dataset.latent);
      each.hidden = (terms.length > 0 && !matchQuality(terms, latent))
        || (verdicts.value !== "" && verdictOf(latent) !== verdicts.value);
    }
    arrange();
  }
  const sorting = h("span", null, sought, " ", verdicts, " ", h("label", null, "Sort by ", orders));
  const files = h("span.files", null, sorting, " ", copy, " ", save, " ", open, file);
  const sample = h("section.sample");
  /* A row whose star is taken away stays, so that it can have it back, until the list is opened anew. The rows that are
   * offered go once one of them is kept. */
  const paint = () => {
    const isNone = !latentsKept().length;
    if (!isNone) for (const each of rows.querySelectorAll(".offered")) if (each.matches(".unkept")) each.remove();
    const shown = Array.from(rows.children);
    const isShown = (latent) => shown.some(({ dataset }) => Number(dataset.latent) === latent);
    const added = latentsKept().filter((each) => !isShown(each));
    rows.append(...added.map((latent) => row(latent, removed, () => choose(latent))));
    if (added.length) sort();
    const where = areInRun() ? "in the run folder" : "in this browser alone: export them to keep or send them";
    about.textContent = isNone ? "Nothing yet. Star, label or note one of these, or any feature in its row of the "
      + `table or on its page. Notes stay ${where}.` : `Kept ${where}.`;
    const listed = Array.from(rows.children, (each) => verdictOf(Number(each.dataset.latent)));
    const wanted = verdicts.value;
    verdicts.replaceChildren(h("option", { value: "" }, "Any verdict"), ...[...new Set(listed)].map((name) =>
      h("option", { value: name, selected: name === wanted }, format.verdict(name))));
    filter();
    save.disabled = copy.disabled = isNone;
    onMap.hidden = !nStarred();
    sample.hidden = !isNone;
    columnHeads.hidden = !rows.childElementCount;
    sorting.hidden = latentsKept().length < 2;
    repaint();
  };
  /* Where nothing is kept yet: rows of the features that the run found worth a look, and what an export of the first of
   * them would be. */
  function offer() {
    if (latentsKept().length) return;
    const [worthShowing = []] = page.worth_showing;
    const some = worthShowing[0]?.[1] ? worthShowing.map(([latent]) => latent) : order.slice(0, N_OFFERED);
    for (const latent of some) {
      rows.append(row(latent, removed, () => choose(latent)));
      rows.lastElementChild?.classList.add("offered");
    }
    const first = Math.min(...some);
    sample.replaceChildren(
      h("h3", null, `What “Export” and “Copy as text” give, once feature ${first} has a star`),
      h("pre", null, exportedNotes({ [first]: { star: true, label: "", note: "" } })), h("pre", null, inText([first])));
  }
  const element = h("div.kept", null,
    h("div.headed", null, h("h2", null, "Your notes"), noteLinks(), files),
    h("p.about-notes", null, about, onMap, two), removed,
    columnHeads, rows, sample);
  onNote(paint);
  /* Open the list anew, at the row of a latent if one is named. */
  const show = (latent) => {
    for (const each of Array.from(rows.children)) if (!isKept(Number(each.dataset.latent))) each.remove();
    removed.replaceChildren();
    offer();
    paint();
    sort();
    rows.querySelector(`[data-latent="${Number(latent)}"]`)?.scrollIntoView({ block: "center" });
  };
  return Object.assign(element, { show });
}

/** Links to the features in the table that are starred or noted, if there are any.
 * @type {() => HTMLElement} */
export function noteLinks() {
  const place = h("span.noted");
  const link = (n, name) => (n ? h("a", { href: `#features?${name}=1` }, `${format.count(n)} ${name}`) : "");
  const paint = () => {
    const n = latentsKept().filter(isNoted).length;
    place.replaceChildren(link(nStarred(), "starred"), nStarred() && n ? " · " : "", link(n, "noted"));
  };
  onNote(paint);
  paint();
  return place;
}

export const notes = {
  title: "Notes",
  show(section, latent) {
    if (!section.childElementCount) section.append(list());
    the(".kept", section).show?.(latent);
    section.dataset.ready = "true";
  },
};
