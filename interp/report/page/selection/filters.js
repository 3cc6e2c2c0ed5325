/* The controls of a selection: search, verdicts, labels, ranges. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { REST, verdictCounts } from "../data/latents.js";
import { isNoted, onNote } from "../data/notes.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tipped } from "../elements/glossary.js";
import { drawHistogram } from "../elements/histogram.js";
import { hueOfVerdict } from "../elements/latents.js";
import { preference, setPreference } from "../elements/preferences.js";
import { activeFilters, offeredKind } from "./active_filters.js";
import { allRanges } from "./ranges.js";
import {
  SORTS, countsOf, onSelect, select, selectRange, selectedLatents, selection, sortBy, toggleVerdict,
} from "./selection.js";

const { names } = page;
const HINT = "Words are looked for in tokens, rules as written and as shown, labels and your notes; "
  + "tok:, rule:, label: and note: "
  + 'look in one of them, #12 is a feature\'s number, "quotes" keep spaces, and 123 is not found in 1233';
const MATCHES = "Features whose rule is the search term alone; then by the share of their firings on it, those with "
  + "an example first; then those with it as a word of their rule or label; then the rest.";
const MATCHES_FIRST = "that word alone, then its share of the firings"; // the same in a line
const RECOMMENDED_FIRST = "some of each kind first, then the surest by F1";
const RECOMMENDED = !page.ranked
  ? "By the sum of the activations."
  : !page.has_text
    ? "Features that detect a label best come first."
    : "First some different ones worth a look, of several verdicts; then those surely with one meaning, "
      + "single-token, unsure, faint and dead ones; within each group by F1.";

/* The chips of the verdicts, of the stars and of the notes, each with how many of the result it would leave. */
function chips() {
  const sign = (mark, name) => [mark, h("span.spelt", null, ` ${name}`)];
  const numbers = [];
  const chip = (data, onclick, facet, part, text) => {
    const number = h("span.number");
    numbers.push([number, facet, part]);
    return h("button.chip", { type: "button", "aria-pressed": "false", ...data, onclick }, text, number);
  };
  /* Its word, of which a phone shows what the rows show. */
  const named = (verdict) => {
    const short = format.shortVerdict(verdict);
    const [before, after] = format.verdict(verdict).split(short).map((part) => part && h("span.long", null, part));
    return h("span.verdict", { "--hue": hueOfVerdict(verdict) }, before, short, after);
  };
  const ofVerdict = (verdict) => chip({ "data-verdict": verdict }, () => toggleVerdict(verdict), "verdict",
    names.verdict.indexOf(verdict), named(verdict));
  const noted = chip({ "data-noted": "1", title: "with a label or a note of yours" },
    () => select({ noted: selection.noted ? "" : "1" }), "noted", 0, sign("✎", "noted"));
  const count = () => {
    noted.hidden = !selection.noted && !columns.verdict.some((_, i) => isNoted(i));
    for (const [number, facet, part] of numbers) {
      const n = countsOf(facet)[part];
      number.textContent = format.count(n);
      number.parentElement.classList.toggle("none", !n);
    }
  };
  const countIfShown = () => document.body.dataset.view === "features" && count();
  onNote(countIfShown);
  window.addEventListener("hashchange", countIfShown);
  onSelect(count);
  const all = [...verdictCounts.map(([verdict]) => ofVerdict(verdict)),
    chip({ "data-starred": "1" }, () => select({ starred: selection.starred ? "" : "1" }), "starred", 0,
      sign("★", "starred")),
    noted];
  count();
  return all;
}

/* One choice of a label that features detect, or of a kind of text in which they fire. */
function kinds() {
  const { label: labels, kind: within } = names;
  if (!labels.length && !within.length) return null;
  const group = (key, title, all) => (all.length
    ? h("optgroup", { label: title }, all.map((name) => h("option", { value: `${key}:${name}` },
      `${key === "kind" ? "in " : ""}${format.words(name)}`)))
    : null);
  const field = h("select", { "aria-label": "Label or kind of text", onchange() {
    const [key, ...rest] = this.value.split(":");
    select({ label: "", kind: "", ...(key ? { [key]: rest.join(":") } : {}) });
  } }, h("option", { value: "" }, "Any text"),
  group("label", "Detects the label", labels),
  group("kind", "Fires mostly in", within.length ? [...within, ...REST] : []));
  const show = () => {
    field.value = selection.kind ? `kind:${selection.kind}` : selection.label ? `label:${selection.label}` : "";
  };
  onSelect(show);
  show();
  return field;
}

/* Powers of ten between the edges, written as such. */
function powers(edges) {
  const [low, high] = [edges[0], edges.at(-1)].map((x) => Math.log10(x) + 1e-9);
  const step = high - low > 5 ? 2 : 1;
  const exponents = [];
  for (let k = Math.floor(high); k >= low - 0.1; k -= step) exponents.unshift(k);
  const raised = (k) => String(k).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");
  return { ticks: exponents.map((k) => 10 ** k), write: (x) => `10${raised(Math.round(Math.log10(x)))}` };
}

/* One histogram per number, of the latents that all other filters leave. */
function histograms() {
  return Object.entries(allRanges()).map(([name, { title, hint, edges, isOpen, scale }]) => {
    const onrange = (range, isMoving) => selectRange(name, range, isMoving);
    const ticks = scale === "log" ? powers(edges)
      : scale === "signed" ? { ticks: edges.filter((x, k) => k === 0 || x >= 0) } : {};
    const shape = { edges, isOpen, counts: countsOf(name), scale, small: true, ...ticks };
    const histogram = drawHistogram({ title, ...shape, unit: "features", onrange });
    const named = { "data-tip": hint.join(" "), "aria-hidden": "true" };
    const heading = h("span", named, title, h("small", null, hint[0]));
    const element = h("div.range", { "data-range": name }, heading, histogram);
    const show = () => {
      element.hidden = !countsOf(name).some(Boolean) && !(name in selection.ranges);
      histogram.show?.({ counts: countsOf(name), range: selection.ranges[name] ?? null });
    };
    onSelect(show);
    show();
    return element;
  });
}

/* The number and direction by which the table is sorted, and the initial order. */
function ordering() {
  const hasAny = (key) => columns.verdict.some((_, i) => (SORTS[key].value(i) ?? null) !== null);
  const choices = Object.entries(SORTS).filter(([key]) => key === "mine" || hasAny(key))
    .map(([key, { title }]) => h("option", { value: key }, `By ${title}`));
  const ownLabel = choices.find(({ value }) => value === "mine");
  const first = h("option", { value: "" });
  const field = h("select", {
    "aria-label": "Order",
    "data-state": "sort",
    onchange() { sortBy(this.value || null); },
  }, first, choices);
  const turn = h("button.turn", { type: "button", onclick: () => sortBy(selection.sort) });
  const hint = tipped(RECOMMENDED_FIRST, RECOMMENDED);
  const show = () => {
    first.textContent = selection.terms.length ? "Best matches first" : "Recommended";
    hint.textContent = selection.terms.length ? MATCHES_FIRST : RECOMMENDED_FIRST;
    hint.dataset.tip = selection.terms.length ? MATCHES : RECOMMENDED;
    hint.hidden = selection.sort !== null || !page.ranked || !page.has_text;
    if (ownLabel) ownLabel.disabled = !hasAny("mine"); // there is no label yet
    turn.hidden = selection.sort === null;
    turn.textContent = selection.up ? "↑" : "↓";
    turn.setAttribute("aria-label", selection.up ? "ascending: reverse" : "descending: reverse");
  };
  onSelect(show);
  onNote(show);
  show();
  return h("span.ordering", null, field, turn, hint);
}

/* A button that is on or off, which the browser keeps; apply: told which, at first too. */
function switchOf(name, text, title, isOn, apply) {
  const kept = preference(name);
  let on = kept === null ? isOn : kept === "on";
  const button = h(`button.turn.${name}`, { type: "button", title, onclick() {
    on = !on;
    setPreference(name, on ? "on" : "off");
    show();
  } }, text);
  const show = () => {
    button.setAttribute("aria-pressed", String(on));
    apply(on);
  };
  show();
  return button;
}

/* count: an element that says how many are selected. */
export function filters(count) {
  const ranges = h("div.ranges", null, histograms());
  const isRoomy = matchMedia("(min-width: 641px) and (min-height: 1000px)").matches;
  const controls = h("div.controls");
  controls.append(
    h("div.filters", null,
      h("input", {
        id: "search",
        type: "search",
        "data-state": "query",
        placeholder: "Search tokens, rules, labels, notes",
        title: HINT,
        "aria-label": "Search features",
        autocomplete: "off",
        spellcheck: "false",
        oninput() { select({ query: this.value }); },
        onkeydown(event) {
          if (event.key !== "Enter" || !selectedLatents().length) return;
          this.blur();
          location.hash = `#feature/${selectedLatents()[0]}`;
        },
      }),
      switchOf("more-filters", "Filter", "kinds of text, order and ranges", false, (on) => {
        controls.classList.toggle("all", on);
      }),
      kinds(), ordering(),
      switchOf("ranged", "Ranges", "histograms of the features, to choose a range of", isRoomy, (on) => {
        ranges.hidden = !on;
      })),
    h("div.found", null,
      h("div.chips", { role: "group", "aria-label": "Filter by verdict" }, chips()), offeredKind(), count),
    ranges,
    activeFilters());
  return controls;
}
