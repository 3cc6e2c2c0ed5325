/* The table of all features: sorted, filtered, searched, and drawn only where it is visible. */

import { columnTracks, ranksOf, tableColumns, unitOf, valuesOf, writeValue } from "../data/columns.js";
import { decodeIds } from "../data/decoding.js";
import { columns, loadFeature, loadRows } from "../data/features.js";
import { page } from "../data/files.js";
import { inputElement, isInputLoaded, loadInputs } from "../data/inputs.js";
import { isUnsure, labelOf, verdictOf } from "../data/latents.js";
import { noteOf, setNote } from "../data/notes.js";
import { word } from "../data/vocabulary.js";
import { h, svg } from "../elements/elements.js";
import { attempt } from "../elements/errors.js";
import { format } from "../elements/format.js";
import { MEANINGS } from "../elements/glossary.js";
import { featureLink, hueOfVerdict, intervalElement, senseMark } from "../elements/latents.js";
import { exampleSnippet, plainLine } from "../examples/example_text.js";
import { loadExamples, tokenOf, valueOf } from "../examples/examples.js";
import { filters } from "../selection/filters.js";
import {
  isStored, markMatches, markMatchesIn, rankOfMatch, shareOnToken, splitAtMatches,
} from "../selection/search.js";
import {
  clearSelection, nIdleLeftOut, onSelect, select, selectedLatents, selection, sortBy,
} from "../selection/selection.js";
import { captionOf, distinction, isNamedByLabel, sensesInCaption, shareOfNoSense } from "../text/captions.js";
import { JOINED, ruleElement, textOfRule, tokensOfRule, wholeRule } from "../text/segments.js";
import { gauge } from "./logits.js";

const { latents, has_text: hasText, sense_letters: letters, tokens: scanned } = page;
const neverFires = (i) => columns.max[i] === null;
const LETTERS_OF_NOTE = 40; // of a note in a row
let scroller,
  body,
  count,
  evidence = null,
  drawn = "",
  rowHeight = 56,
  order = [],
  cursor = 0,
  hasCursor = false; // shown once a key has moved it, or a feature was looked at

/* Show what is selected now, from the top. */
function refresh() {
  order = selectedLatents();
  drawn = "";
  scroller.scrollTop = 0;
  cursor = 0;
  const idle = nIdleLeftOut();
  count.replaceChildren(`${format.count(order.length)} of ${format.count(latents)}`,
    ...(idle ? [`, ${format.count(idle)} `, h("span.spelt", null, "faint or dead "), "hidden"]
      : [h("span.spelt", null, " features")]));
  if (hasText) {
    const { unit } = tableColumns.find(({ name }) => name === "explanation");
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
    const isOn = starred ? selection.starred : noted ? selection.noted : selection.verdict.includes(verdict);
    chip.setAttribute("aria-pressed", String(Boolean(isOn)));
  }
  scroller.classList.toggle("bare", order.length > 0 && order.every(neverFires));
  measure();
}

const none = () => h("span.muted", null, "–");

/** The strongest firing in its context, once its file is loaded.
 * @type {(i: number, rows?: RowEvidence) => HTMLElement} */
export function snippetOfRow(i, rows = evidence) {
  if (!rows?.snippets[i]) return null;
  return hasText ? snippetOf(rows.snippets[i]) : strongestInput(i, rows);
}

const snippetOf = (packed) => packed && plainLine(decodeIds(packed[0]), packed[1]);

/* The strongest stored firing on a token of its list that a search has found, once it is read, and the share of its
 * firings that are on this token; where none is stored, the strongest of all, and that it is not on this token. */
function snippetOn(i, rank) {
  const token = columns.tokens[i][rank];
  const share = h("small.on-token", { title: "the share of its firings" }, shareOnToken(i, rank));
  const unstored = () => share.append(", no example");
  const [packed, firing] = evidence?.snippets[i] ?? [];
  const isItself = packed && word(decodeIds(packed)[firing]) === token;
  const place = h("div.fitting", null, isItself || !isStored(i, rank) ? snippetOfRow(i)
    : h("span.muted", null, "reading its example …"));
  const isOn = (one) => word(tokenOf(one)) === token;
  const find = async () => {
    const { examples } = await loadFeature(i);
    await loadExamples(examples);
    const [one] = examples.filter(isOn).sort((a, b) => valueOf(b) - valueOf(a));
    place.replaceChildren((one ? exampleSnippet(one) : snippetOfRow(i)) ?? "");
    if (!one) unstored();
  };
  if (!isStored(i, rank)) unstored();
  else if (packed && !isItself) find();
  return [place, share];
}

/* The places of two of its senses, or of `most`, those that a search has found before others. */
function sensesShown(i, most = 2) {
  const told = sensesInCaption(i);
  return [...new Set([...sensesFound(i), ...told.keys()])].slice(0, most).sort();
}

/* The places of its senses whose rules have what a search has found: if that is a token, the whole of it. */
function sensesFound(i) {
  const token = columns.tokens[i][rankFound(i)];
  const hasFound = (rule) => (token === undefined ? isInRule(rule)
    : tokensOfRule(rule).some(([text]) => text === token));
  return sensesInCaption(i).flatMap(([rule], k) => (hasFound(rule) ? [k] : []));
}

/* The place in its list of the token that a search has found; −1 for none. */
const rankFound = (i) => (hasText ? rankOfMatch(selection.terms, i) : -1);

const isInRule = (rule) => splitAtMatches(selection.terms, "rule", textOfRule(rule)).length > 1;

/* Whether its row has its senses: not where a search has found what is in none of them. */
function isBySense(i) {
  const isElsewhere = rankFound(i) >= 0 || isInRule(columns.rule[i]);
  return sensesInCaption(i).length > 0 && (!isElsewhere || sensesFound(i).length > 0);
}

/** Two of its senses, or `most`, each with its rule, its share of the activation and its strongest firing; with the
 * last the letters of the others, and the share that is of none. undefined where senses do not name it.
 * @type {(i: number, rows?: RowEvidence, most?: number) => HTMLElement[]} */
export function sensesOfRow(i, rows = evidence, most = 2) {
  const told = sensesInCaption(i);
  if (!told.length || !rows) return undefined;
  const shown = sensesShown(i, most);
  const ofNone = shareOfNoSense(i);
  const further = told.flatMap(([rule], k) => (shown.includes(k) ? [] : [[" ", senseMark(k, textOfRule(rule))]]));
  const rest = [further.length ? [" +", further] : null, ofNone ? `, of no sense ${format.percent(ofNone)}` : null];
  return shown.map((k, at) => {
    const [rule, share] = told[k];
    return h("div.of-sense", { "data-sense": k },
      h("div", null,
        h("span", { title: textOfRule(rule) }, senseMark(k, null), JOINED,
          rule.length ? ruleFound(rule) : h("span.muted", null, "no rule")),
        h("small", null, share === null ? null : ` ${format.percent(share)}`,
          at && at === shown.length - 1 ? rest : null)),
      h("div.snippet", null, snippetOf(rows.senses[i][k])));
  });
}

/* For rows that are not text, the picture of the strongest firing, once its file is loaded. */
function strongestInput(i, rows) {
  const [input] = rows.snippets[i];
  const place = h("span", null, isInputLoaded(input) ? inputElement(input) : null);
  if (!isInputLoaded(input))
    loadInputs([input]).then(() => place.replaceChildren(inputElement(input)));
  return place;
}

/* Its histogram of activations, in digits, over an axis that has its ends. */
function bars(i) {
  const heights = Array.from(evidence?.histograms[i] ?? ""),
    width = 64 / heights.length;
  const path = heights
    .map((height, k) => `M${(k * width).toFixed(1)} 27v${-3 * height}h${(width - 0.6).toFixed(1)}V27z`)
    .join("");
  const ends = [format.significant(evidence?.firsts[i], 1), format.digits(columns.max[i])];
  return [svg("svg", { viewBox: "0 0 64 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "bin", d: path })), h("div.muted.ends", null, ends.map((text) => h("span", null, text)))];
}

const line = (...content) => h("div", null, content);
const second = (...content) => h("div.muted", null, content);

/* A rule with what a search has found marked: all of it, where that does not show in short. */
function ruleFound(rule) {
  const short = ruleElement(rule);
  if (markMatchesIn(selection.terms, "rule", short)) return short;
  const whole = wholeRule(rule);
  return markMatchesIn(selection.terms, "rule", whole) ? whole : short;
}

/* The label that stands in its row: one that names it, or that a search has found. */
function labelShown(i) {
  const best = labelOf(i);
  const isFound = best && splitAtMatches(selection.terms, "label", format.words(best)).length > 1;
  return best && (isNamedByLabel(i) || isFound) ? best : null;
}

/* What it fires on: its senses, if it has several and no search has found something else; else one's own label, and
 * what names it on its page, with its rule beside that if a search has found something there alone; and below them its
 * strongest firing, or the strongest on the token found. */
function firesOn(i) {
  const { terms } = selection;
  const { label: readerLabel, note } = noteOf(i);
  const label = labelShown(i);
  const rule = columns.rule[i];
  const ruleWords = textOfRule(rule);
  const rank = rankFound(i);
  const named = [readerLabel, label && format.words(label), ruleWords].filter(Boolean).join(" · ");
  const [before, match] = splitAtMatches(terms, "note", note);
  const from = match ? Math.max(before.length + match.length - LETTERS_OF_NOTE, 0) : 0;
  const cut = note.slice(from, from + LETTERS_OF_NOTE);
  const shortNote = [from ? "…" : null, markMatches(terms, "note", cut), from + cut.length < note.length ? "…" : null];
  const labelled = readerLabel || note
    ? h("bdi.tag.mine", { title: note || null },
      readerLabel ? markMatches(terms, "label", readerLabel) : null,
      readerLabel && match ? " · " : null,
      !readerLabel || match ? shortNote : null)
    : null;
  const isApart = !label && isBySense(i);
  const apart = isApart ? sensesOfRow(i) : undefined;
  if (apart && labelled) apart[0].firstElementChild.prepend(labelled, " ");
  if (apart) return h("div.senses", null, apart);
  if (isApart && !evidence) return [line(), h("div.snippet")]; // until its senses are read
  const isByRule = Boolean(label) || columns.brief[i] === null || sensesInCaption(i).length > 0;
  const isWeak = columns.explanation_f1[i] < page.min_f1;
  const told = h("div", { title: named },
    labelled,
    label
      ? h("span.tag.label", { "data-tip": `label, F1 ${format.fixed(columns.label_f1[i])}` },
        markMatches(terms, "label", format.words(label)))
      : null,
    isByRule ? [rule.length ? h(isWeak ? "span.weak" : "span", null, ruleFound(rule)) : null, distinction(i)]
      : captionOf(i, false));
  if (!isByRule && !markMatchesIn(terms, "rule", told) && isInRule(rule))
    told.append(" ", h("small.muted", null, "in words: "), h("span.weak", null, ruleFound(rule)));
  return [
    told,
    h(rank < 0 ? "div.snippet" : "div.snippet.found", null, rank < 0 ? snippetOfRow(i) : snippetOn(i, rank)),
  ];
}

/* A number, and below it its bar on the column's scale, if that has bars: around 0 with its interval, and in bold
 * where that leaves 0 out. */
function numberOf(column, i) {
  const [x, low, high] = valuesOf(column.name, i);
  const { scale, span, unit } = column;
  if (!span) return line(writeValue(column, x));
  if (x === null) return line(none());
  if (scale !== "signed") {
    const bar = h("span.scale", { "--share": Math.min(x / span[1], 1), "aria-hidden": "true" }, h("i"));
    return [line(writeValue(column, x)), line(bar)];
  }
  const number = format.fixed(x, Math.abs(x) < 1 ? 2 : 1);
  const isTold = low > 0 || high < 0;
  return [line(h(isTold ? "b" : "span.muted", null, x > 0 && Number(number) ? `+${number}` : number)),
    line(gauge([x, low, high], [null, null, null], ranksOf(column), false, unit))];
}

/* The F1 of what is told in its row: of senses, that of each of the two. */
const f1Of = (i) => {
  const told = sensesInCaption(i);
  if (!told.length) return line(format.fixed(columns.f1[i]));
  if (!isBySense(i)) return line(format.fixed(columns.explanation_f1[i]));
  return sensesShown(i).map((k) => line(h("span.muted", null, letters[k]), " ", format.fixed(told[k][2])));
};

/* Its verdict in a short word, and what is uncertain or several about it. */
function shortVerdict(i) {
  const verdictWord = format.verdict(verdictOf(i));
  const n = sensesInCaption(i).length;
  const more = [isUnsure(i) ? "unsure" : null, n > 1 ? `${n} senses` : null].filter(Boolean);
  const named = { "--hue": hueOfVerdict(verdictOf(i)), title: [verdictWord, ...more].join(", ") };
  return [h("span.verdict", { ...named, role: "img", "aria-label": verdictWord }, format.shortVerdict(verdictOf(i))),
    more.length ? h("span.muted", null, `, ${more[0]}`) : null];
}

/* The number of a feature, and its star. */
function latentOf(i) {
  const { star: isStarred } = noteOf(i);
  const isAsked = (each) => each.latent === i || (!each.field && each.number && Number(each.text) === i);
  const number = selection.terms.some(isAsked) ? h("mark", null, String(i)) : String(i);
  const toggle = { type: "button", title: "star (s)", "aria-label": `Star feature ${i}`,
    "aria-pressed": String(isStarred), onclick: () => starRow(i) };
  return line(h("button.gutter", toggle, isStarred ? "★" : "☆"), featureLink(i, number));
}

/* The cells that hold more than a number, and what is told of a feature that never fires. */
const CELLS = {
  latent: latentOf,
  monosemanticity: (i) => [line(shortVerdict(i)), line(intervalElement(...valuesOf("monosemanticity", i)))],
  explanation: firesOn,
  f1: f1Of,
  activations: bars,
};
const SILENT = {
  latent: latentOf,
  monosemanticity: (i) => line(shortVerdict(i)),
  explanation: () =>
    second(`It fired on none of the ${format.count(scanned)} ${hasText ? "tokens" : "rows"} scanned.`),
};

const cell = (column, i) => (neverFires(i) ? SILENT[column.name]?.(i)
  : CELLS[column.name] ? CELLS[column.name](i) : numberOf(column, i));

const isNumeric = ({ style }) => style && style !== "text";
const kindOf = (column) =>
  [column.name, isNumeric(column) ? "numeric" : null, column.span ? "with-bar" : null].filter(Boolean).join(".");

function row(place) {
  const i = order[place];
  const instead = tableColumns.map(({ name }) => (name === "latent" ? line(featureLink(i)) : null));
  const contents = attempt(() => tableColumns.map((column) => cell(column, i)), instead);
  return h(
    "tr",
    { role: "row", "aria-rowindex": place + 2, class: hasCursor && place === cursor ? "at" : null, "data-latent": i },
    tableColumns.map((column, k) => h(`td.${kindOf(column)}`, { role: "cell" }, contents[k] ?? null)),
  );
}

/* Visible rows, and a dozen on either side; the rest is two empty rows of its height. */
function draw(all = 0) {
  const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 12);
  const last = all || Math.min(order.length, first + Math.ceil(scroller.clientHeight / rowHeight) + 24);
  const key = `${all ? 0 : first},${last},${hasCursor && cursor},${rowHeight}`;
  if (key === drawn) return;
  drawn = key;
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  const from = all ? 0 : first;
  const gap = (n) => h("tr.gap", { "aria-hidden": "true", "--height": `${n * rowHeight}px` });
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
  body.replaceChildren(gap(from), ...rows, gap(Math.max(0, order.length - last)));
  if (focused) focusRow(focused.matches(".gutter") ? ".gutter" : "a");
}

const focusRow = (part = "a") => body.querySelector(`tr.at ${part}`)?.focus({ preventScroll: true });

function measure() {
  rowHeight = parseFloat(getComputedStyle(scroller).getPropertyValue("--row")) || 56;
  drawn = "";
  draw();
}

/* Rows of one line each, or of two. */
function setCompact(isCompact) {
  scroller.classList.toggle("compact", isCompact);
  measure();
}

/** A head that sorts by its numbers, or tells what else its column has.
 * @type {(column: Column) => HTMLElement} */
function header(column) {
  const { name, title, hint, style, sorts, unit } = column;
  const head = { role: "columnheader", scope: "col" };
  const below = unit ? h("small", null, unitOf(column)) : null;
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
    const clicked = event.target.closest("tr[data-latent]");
    if (clicked && !event.target.closest("a, button") && String(getSelection()) === "")
      location.hash = `#feature/${clicked.dataset.latent}`;
  });
  count = h("output.count", { "aria-live": "polite" });
  section.append(filters(count, setCompact), scroller);
  onSelect(refresh);
  window.addEventListener("resize", measure);
  window.addEventListener("beforeprint", () => draw(Math.min(order.length, 500)));
  window.addEventListener("afterprint", measure);
}

async function readEvidence() {
  const rows = await loadRows();
  if (evidence) return;
  evidence = rows;
  measure();
}

/** Move the cursor and the focus, and keep both in sight: Enter opens this row, whatever was clicked before.
 * @type {(step: number) => void} */
export function moveCursor(step) {
  if (!order.length) return;
  hasCursor ||= step !== 0;
  cursor = Math.min(Math.max(cursor + step, 0), order.length - 1);
  const top = cursor * rowHeight;
  const room = scroller.clientHeight - scroller.querySelector("thead").offsetHeight - rowHeight;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
  draw();
  focusRow();
}

export const features = {
  title: "Features",
  show(section) {
    if (!evidence) readEvidence();
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
};

/* Star a feature, by default what the cursor is at, or no longer; the cursor moves there. */
function starRow(latent = order[cursor]) {
  if (latent === undefined) return;
  cursor = Math.max(order.indexOf(latent), 0);
  hasCursor = true;
  setNote(latent, { star: !noteOf(latent).star });
  drawn = "";
  draw();
}
export const starAtCursor = () => starRow();
export const latentAtCursor = () => order[cursor];


export function visit(latent) {
  order = selectedLatents();
  const place = order.indexOf(latent);
  if (place >= 0) {
    cursor = place;
    hasCursor = true;
  }
  return { place, of: order.length };
}
