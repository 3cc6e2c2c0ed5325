/* What a selection leaves out, in words, each with a button that removes it; and the kind of text that a search may
 * have meant. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { isIdle } from "../data/latents.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { allRanges } from "./ranges.js";
import { onSelect, select, selectRange, selectedLatents, selection, selectsAll, toggleVerdict } from "./selection.js";

/* "0.1 to 0.5", "≥ 0.1" or "< 0.5". */
function rangeInWords(name) {
  const { edges } = allRanges()[name];
  const [from, to] = selection.ranges[name];
  const [low, high] = [from, to].map((k) => format.significant(edges[k], 2));
  if (!from) return `< ${high}`;
  return to === edges.length - 1 ? `≥ ${low}` : `${low} to ${high}`;
}

/** @type {[key: string, words: (value: string) => string][]} */
const HAS_CONTROL = [["starred", () => "starred"], ["noted", () => "noted"], ["label", format.words],
  ["kind", (kind) => `in ${format.words(kind)}`]];

/* The active filters in words, and how to remove each. */
function parts(isComplete) {
  /** @type {[words: string, remove: () => void][]} */
  const active = [];
  if (isComplete) {
    for (const [key, words] of HAS_CONTROL)
      if (selection[key]) active.push([words(selection[key]), () => select({ [key]: "" })]);
    for (const name of selection.verdict) active.push([format.verdict(name), () => toggleVerdict(name)]);
  }
  for (const name of Object.keys(selection.ranges))
    active.push([`${allRanges()[name].title} ${rangeInWords(name)}`, () => selectRange(name, null)]);
  if (selection.part) active.push(["A part of the map", () => select({ part: "" })]);
  return active;
}

/* A line of them that follows the selection. isComplete: include those that have their own control. */
export function activeFilters(isComplete = false) {
  const line = h("div.applied", { role: "group", "aria-label": "Active filters" });
  const show = () => {
    line.replaceChildren(...parts(isComplete).map(([text, remove]) => {
      const attributes = { type: "button", title: "Remove this filter", onclick: remove };
      return h("button.chip", attributes, text, h("span", { "aria-hidden": "true" }, " ✕"));
    }));
    line.hidden = !line.childElementCount || (isComplete && selectsAll());
  };
  onSelect(show);
  show();
  return line;
}

/* A line that follows the search: where the word that is searched is a kind of text, how many features fire mostly in
 * it, to be selected instead. */
export function offeredKind() {
  const { kind: kinds } = page.names;
  const offer = h("span.otherwise");
  const show = () => {
    const wanted = selection.query.trim().toLowerCase();
    const k = kinds.findIndex((name) => format.words(name).toLowerCase() === wanted);
    offer.hidden = k < 0 || Boolean(selection.kind);
    if (offer.hidden) return;
    const name = kinds[k];
    const isOf = (i) => columns.kind[i] === k && !isIdle(i);
    const n = Array.from(columns.kind.keys()).filter(isOf).length;
    /* as the legend of the map counts them */
    const nFound = selectedLatents().filter((i) => columns.kind[i] === k).length;
    offer.replaceChildren(h("button.link", { type: "button", onclick: () => select({ query: "", kind: name }) },
      `${format.count(n)} fire mostly in ${format.words(name)}`,
      nFound < n ? `, ${format.count(nFound)} found` : null));
  };
  onSelect(show);
  show();
  return offer;
}
