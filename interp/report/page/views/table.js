/* The table of all features: sorted, filtered, searched, and drawn only where it is visible. */

import { columnTracks, tableColumns } from "../data/columns.js";
import { loadRows } from "../data/features.js";
import { page } from "../data/files.js";
import { noteOf, setNote } from "../data/notes.js";
import { closestTo, h } from "../elements/elements.js";
import { withFallback } from "../elements/errors.js";
import { format } from "../elements/format.js";
import { MEANINGS } from "../elements/glossary.js";
import { featureLink } from "../elements/latents.js";
import { filters } from "../selection/filters.js";
import { strongMatches } from "../selection/search.js";
import {
  clearSelection, nIdleLeftOut, onSelect, select, selectedLatents, selection, sortBy,
} from "../selection/selection.js";
import { cellOf, hasSenses, neverFires } from "./table_cells.js";

const { latents, has_text: hasText } = page;
let scroller,
  body,
  count,
  rowData = null, // once it is read
  drawn = "",
  order = /** @type {number[]} */ ([]),
  tops = new Float64Array(1), // of the rows of these, in pixels, and the end of the last
  strong = new Set(), // of these, the ones that a search has found by more than a weak match
  cursor = 0,
  hasCursor = false; // shown once a key has moved it, or a feature was looked at

/* Show what is selected now, from the top. */
function refresh() {
  order = selectedLatents();
  strong = new Set(selection.terms.length ? strongMatches(selection.terms, order) : order);
  drawn = "";
  scroller.scrollTop = 0;
  cursor = 0;
  const nWeak = order.length - strong.size;
  const idle = nIdleLeftOut();
  count.replaceChildren(`${format.count(order.length)} of ${format.count(latents)}`,
    ...(idle ? [`, ${format.count(idle)} `, h("span.spelt", null, "faint or dead "), "hidden"]
      : [h("span.spelt", null, " features")]), nWeak ? `, ${format.count(nWeak)} weaker` : "");
  if (hasText) {
    const unit = tableColumns.find(({ name }) => name === "explanation")?.unit ?? "";
    const below = scroller.querySelector("th.explanation small");
    below.textContent = selection.query ? `${unit} on the token found` : unit;
  }
  for (const cell of scroller.querySelectorAll("th[data-key]")) {
    const sorted = cell.dataset.key === selection.sort;
    cell.setAttribute("aria-sort", sorted ? (selection.up ? "ascending" : "descending") : "none");
  }
  for (const field of /** @type {NodeListOf<any>} */ (document.querySelectorAll("#features [data-state]"))) {
    const value = selection[field.dataset.state] ?? "";
    if (field.value !== value) field.value = value;
  }
  for (const chip of document.querySelectorAll(".chip")) {
    const { starred, noted, verdict } = chip.dataset;
    const isOn = starred ? selection.starred : noted ? selection.noted : selection.verdict.includes(verdict ?? "");
    chip.setAttribute("aria-pressed", String(Boolean(isOn)));
  }
  scroller.classList.toggle("bare", order.length > 0 && order.every(neverFires));
  measure();
}

const isNumeric = ({ style }) => style && style !== "text";
const kindOf = (column) =>
  [column.name, isNumeric(column) ? "numeric" : null, column.widths.narrow === "" ? "wide-only" : null]
    .filter(Boolean).join(".");

export function row(place) {
  const i = order[place];
  const instead = tableColumns.map(({ name }) => (name === "latent" ? h("div", null, featureLink(i)) : null));
  const contents = withFallback(() => tableColumns.map((column) => cellOf(column, i, rowData)), instead);
  return h(
    "tr",
    { role: "row", "aria-rowindex": place + 2, "data-latent": i,
      class: [strong.has(i) ? "" : "weaker", hasSenses(i) ? "of-senses" : ""].filter(Boolean).join(" ") || null },
    tableColumns.map((column, k) => h(`td.${kindOf(column)}`, { role: "cell" }, contents[k] ?? null)),
  );
}

/* The place of the row at a height. */
function placeAt(y) {
  let [from, to] = [0, order.length];
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if (tops[middle] <= y) from = middle;
    else to = middle;
  }
  return from;
}

/* Visible rows, and a dozen on either side; the rest is two empty rows of its height. They are made anew only once
 * eight of them are out of sight. */
function draw(all = 0) {
  const [highest, lowest] = [0, scroller.clientHeight].map((y) => placeAt(scroller.scrollTop + y));
  const first = Math.max(0, 8 * Math.floor(highest / 8) - 8);
  const last = all || Math.min(order.length, first + 8 * Math.ceil((lowest - highest) / 8) + 24);
  const key = `${all ? 0 : first},${last}`;
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  if (key !== drawn) drawRows(all ? 0 : first, last);
  drawn = key;
  for (const each of body.querySelectorAll("tr[data-latent]")) {
    each.classList.toggle("at", hasCursor && Number(each.dataset.latent) === order[cursor]);
  }
  if (focused && !focused.isConnected) focusRow(focused.matches(".gutter") ? ".gutter" : "a");
}

/* The rows between two places. */
function drawRows(from, last) {
  const gap = (height) => h("tr.gap", { "aria-hidden": "true", "--height": `${height}px` });
  const rows = [];
  for (let place = from; place < last; place++) rows.push(row(place));
  /* Where the search is the name of a verdict, which no row is searched for: those that have it. */
  function ofVerdict() {
    const wanted = selection.query.trim().toLowerCase();
    const verdict = page.names.verdict.find((name) => format.verdict(name) === wanted);
    const show = () => select({ query: "", verdict: [verdict] });
    const button = () => h("button.more", { type: "button", onclick: show }, "Show those with this verdict");
    return verdict ? [button(), " "] : null;
  }
  const clear = () => h("button.more", { type: "button", onclick: clearSelection }, "Clear the filters");
  if (!order.length)
    rows.push(h("tr.none", { role: "row" }, h("td", { role: "cell" }, "No feature fits. ", ofVerdict(), clear())));
  body.replaceChildren(gap(tops[from]), ...rows, gap(tops[order.length] - tops[last]));
}

const focusRow = (part = "a") => body.querySelector(`tr.at ${part}`)?.focus({ preventScroll: true });

/* Read the heights of the rows: on a phone those with senses are higher than others. */
function measure() {
  const style = getComputedStyle(scroller);
  const [height, ofSenses] = ["--row", "--of-senses"].map((name) => parseFloat(style.getPropertyValue(name)));
  const isHigher = (latent) => ofSenses !== height && hasSenses(latent);
  tops = new Float64Array(order.length + 1);
  order.forEach((latent, k) => { tops[k + 1] = tops[k] + (isHigher(latent) ? ofSenses : height); });
  drawn = "";
  draw();
}

/** A head that sorts by its numbers, or tells what else its column has.
 * @type {(column: Column) => HTMLElement} */
function header(column) {
  const { name, title, hint, style, scale, sorts, unit } = column;
  const head = { role: "columnheader", scope: "col" };
  const key = scale === "signed" ? [", ", h("b", null, "bold"), ": sure"] : null;
  const below = unit ? h("small", null, unit, key) : null;
  if (!style || !sorts) return h(`th.${kindOf(column)}`, { ...head, title: hint }, title, below);
  const pressed = { type: "button", "data-tip": hint || MEANINGS[name], onclick: () => sortBy(name) };
  return h(`th.${kindOf(column)}`, { ...head, "data-key": name, "aria-sort": "none" },
    h("button", pressed, title), below);
}

function build(section) {
  body = h("tbody", { role: "rowgroup" });
  const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row", "aria-rowindex": 1 }, tableColumns.map(header)));
  const table = h("table", { role: "table", "aria-rowcount": latents + 1, "aria-label": "Features" }, head, body);
  const onscroll = () => requestAnimationFrame(() => draw());
  scroller = h("div.scroller", { onscroll, tabindex: "0", role: "region", "aria-label": "Features, scrollable",
    ...columnTracks() }, table);
  body.addEventListener("click", (event) => {
    const clicked = closestTo(event, "tr[data-latent]");
    if (!clicked) return;
    const latent = Number(clicked.dataset.latent);
    if (closestTo(event, ".gutter")) starRow(latent);
    else if (!closestTo(event, "a, button") && String(getSelection()) === "") location.hash = `#feature/${latent}`;
  });
  count = h("output.count", { "aria-live": "polite" });
  section.append(filters(count), scroller);
  onSelect(refresh);
  window.addEventListener("resize", measure);
  window.addEventListener("beforeprint", () => draw(Math.min(order.length, 500)));
  window.addEventListener("afterprint", measure);
}

async function readRowData() {
  const rows = await loadRows();
  if (rowData) return;
  rowData = rows;
  measure();
}

/* Move the cursor and the focus, and keep both in sight: Enter opens this row, whatever was clicked before. */
function moveCursor(step) {
  if (!order.length) return;
  hasCursor ||= step !== 0;
  cursor = Math.min(Math.max(cursor + step, 0), order.length - 1);
  const top = tops[cursor];
  const room = scroller.clientHeight - scroller.querySelector("thead").offsetHeight;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else scroller.scrollTop = Math.max(scroller.scrollTop, tops[cursor + 1] - room);
  draw();
  focusRow();
}

export const features = {
  title: "Features",
  show(section) {
    if (!rowData) readRowData();
    if (scroller) {
      order = selectedLatents();
      measure();
      moveCursor(0);
      return;
    }
    build(section);
    section.hidden = false;
    measure();
    refresh();
  },
  step: moveCursor,
};

/* Star a feature, or no longer; the cursor moves there. */
function starRow(latent) {
  if (latent === undefined) return;
  cursor = Math.max(order.indexOf(latent), 0);
  hasCursor = true;
  setNote(latent, { star: !noteOf(latent).star });
  drawn = "";
  draw();
}

/* Star the feature at the cursor, or no longer. */
export const starAtCursor = () => starRow(order[cursor]);

/* undefined if the table is empty. */
export const latentAtCursor = () => order[cursor];

/** Move the cursor to a latent; return its place in the table, −1 if it is not there, and of how many.
 * @type {(latent: number) => { place: number, of: number }} */
export function visit(latent) {
  order = selectedLatents();
  const place = order.indexOf(latent);
  if (place >= 0) {
    cursor = place;
    hasCursor = true;
  }
  return { place, of: order.length };
}
