/* The cells of the table: what stands in the row of a feature, and what a search has found in it. */

import { valuesOf, writeValue } from "../data/columns.js";
import { decodeIds } from "../data/decoding.js";
import { columns, loadFeature } from "../data/features.js";
import { page } from "../data/files.js";
import { inputElement, isInputLoaded, loadInputs } from "../data/inputs.js";
import { isUnsure, labelOf, verdictOf } from "../data/latents.js";
import { noteOf } from "../data/notes.js";
import { word } from "../data/vocabulary.js";
import { h, svg } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { featureLink, hueOfVerdict, senseMark } from "../elements/latents.js";
import { exampleSnippet, plainLine } from "../examples/example_text.js";
import { loadExamples, tokenOf, valueOf } from "../examples/examples.js";
import {
  isStored, markMatches, markMatchesIn, rankOfMatch, shareOnToken, splitAtMatches,
} from "../selection/search.js";
import { selection } from "../selection/selection.js";
import {
  captionOf, isNamedByLabel, sensesInCaption,
} from "../text/captions.js";
import { JOINED, ruleElement, textOfRule, tokensOfRule, wholeRule } from "../text/segments.js";

const { has_text: hasText, sense_letters: letters, tokens: scanned } = page;

export const neverFires = (i) => columns.max[i] === null;
const LETTERS_OF_NOTE = 40; // of a note in a row

const UNTESTED = "Its shares are counted, not a rule that could be tested.";
const none = () => h("span.muted", null, "–");

/** The strongest firing in its context; null until the data of the rows are read.
 * @type {(i: number, rowData: RowData | null) => HTMLElement | null} */
export function snippetOfRow(i, rowData) {
  if (!rowData?.snippets[i]) return null;
  return hasText ? snippetOf(rowData.snippets[i]) : strongestInput(i, rowData);
}

const snippetOf = (packed) => packed && plainLine(decodeIds(packed[0]), packed[1]);

/* The strongest stored firing on a token of its list that a search has found, once it is read, and the share of its
 * firings that are on this token; where none is stored, the strongest of all, and that it is not on this token. */
function snippetOn(i, rank, rowData) {
  const token = columns.tokens[i][rank];
  const share = h("small.on-token", { title: "the share of its firings" }, shareOnToken(i, rank));
  const unstored = () => share.append(", no example");
  const [packed, firing] = rowData?.snippets[i] ?? [];
  const isItself = packed && word(decodeIds(packed)[firing]) === token;
  const place = h("div.fitting", null, isItself || !isStored(i, rank) ? snippetOfRow(i, rowData)
    : h("span.muted", null, "reading its example …"));
  const isOn = (one) => word(tokenOf(one)) === token;
  const find = async () => {
    const { examples } = await loadFeature(i);
    await loadExamples(examples);
    const [one] = examples.filter(isOn).sort((a, b) => valueOf(b) - valueOf(a));
    place.replaceChildren((one ? exampleSnippet(one) : snippetOfRow(i, rowData)) ?? "");
    if (!one) unstored();
  };
  if (!isStored(i, rank)) unstored();
  else if (packed && !isItself) find();
  return [place, share];
}

/* The places of two of its senses, or of `most`, those that a search has found before others. */
function sensesShown(i, most = 2) {
  const senses = sensesInCaption(i);
  return [...new Set([...sensesFound(i), ...senses.keys()])].slice(0, most).sort();
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

/** Whether its row has its senses.
 * @type {(i: number) => boolean} */
export const hasSenses = (i) => !isNamedByLabel(i) && sensesInCaption(i).length > 0;

/* What a search has found in none of its senses: its share of the firings on a token, or the rule of all of them. */
function foundOutside(i) {
  const rank = rankFound(i);
  if (sensesFound(i).length) return null;
  return rank >= 0 ? [", ", shareOnToken(i, rank)]
    : isInRule(columns.rule[i]) ? [", in words: ", ruleFound(columns.rule[i])] : null;
}

/** Two of its senses, or `most`, each with its rule, its share of the activation and its strongest firing; with the
 * last how many more there are, or the share that is of none, or what a search has found elsewhere. undefined where
 * senses do not name it.
 * @type {(i: number, rowData: RowData | null, most?: number) => HTMLElement[] | undefined} */
export function sensesOfRow(i, rowData, most = 2) {
  const senses = sensesInCaption(i);
  if (!senses.length) return undefined;
  const shown = sensesShown(i, most);
  const nFurther = senses.length - shown.length;
  const rest = foundOutside(i) ?? (nFurther ? ` + ${nFurther} more` : null);
  return shown.map((k, at) => {
    const [rule, share] = senses[k];
    return h("div.of-sense", { "data-sense": k },
      h("div", null,
        h("span", { title: textOfRule(rule) }, senseMark(k), JOINED,
          ruleFound(rule)),
        h("small", null, share === null ? null : ` ${format.percent(share)}`,
          at && at === shown.length - 1 ? rest : null)),
      h("div.snippet", null, rowData ? snippetOf(rowData.senses[i][k]) : null));
  });
}

/* For rows that are not text, the picture of the strongest firing, once its file is loaded. */
function strongestInput(i, rowData) {
  const [input] = rowData.snippets[i];
  const place = h("span", null, isInputLoaded(input) ? inputElement(input) : null);
  if (!isInputLoaded(input))
    loadInputs([input]).then(() => place.replaceChildren(inputElement(input)));
  return place;
}

/* Its histogram of activations, in digits, over an axis that has its ends. */
function bars(i, rowData) {
  const heights = Array.from(rowData?.histograms[i] ?? ""),
    width = 64 / heights.length;
  const path = heights
    .map((height, k) => `M${(k * width).toFixed(1)} 27v${-3 * height}h${(width - 0.6).toFixed(1)}V27z`)
    .join("");
  const ends = [format.significant(rowData?.firsts[i], 1), format.digits(columns.max[i])];
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

/* What it fires on: its senses, if it has several; else one's own label, and what names it on its page, with its rule
 * beside that if a search has found something there alone; and below them its strongest firing, or the strongest on the
 * token found. */
function firesOn(i, rowData) {
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
  const labelChip = label
    ? h("span.tag.label", { "data-tip": `label, F1 ${format.fixed(columns.label_f1[i])}` },
      markMatches(terms, "label", format.words(label)))
    : null;
  const senses = hasSenses(i) ? sensesOfRow(i, rowData) : undefined;
  if (senses) senses[0].firstElementChild?.prepend(...[labelled, labelChip].filter((part) => part !== null));
  if (senses) return h("div.senses", null, senses);
  const isByRule = Boolean(label) || columns.brief[i] === null || sensesInCaption(i).length > 0;
  const words = h("div", { title: named },
    labelled,
    labelChip,
    isByRule ? (rule.length ? ruleFound(rule) : null) : captionOf(i, false));
  if (!isByRule && !markMatchesIn(terms, "rule", words) && isInRule(rule))
    words.append(" ", h("small.muted", null, "in words: "), h("span.weak", null, ruleFound(rule)));
  return [
    words,
    rank < 0 ? h("div.snippet", null, snippetOfRow(i, rowData))
      : h("div.snippet.found", null, snippetOn(i, rank, rowData)),
  ];
}

/* A number. One around 0 has its interval as its tip, and is bold, with a digit that is not 0, where that leaves 0
 * out. */
function numberOf(column, i) {
  const [x, low, high] = valuesOf(column.name, i);
  if (x === null) return line(none());
  if (column.scale !== "signed") return line(writeValue(column, x));
  const isSure = low > 0 || high < 0;
  const digits = isSure && Math.abs(x) < 0.005 ? Math.ceil(-Math.log10(Math.abs(x))) : Math.abs(x) < 1 ? 2 : 1;
  const number = format.fixed(x, digits);
  return line(h(isSure ? "b" : "span.muted", intervalTip(low, high),
    x > 0 && Number(number) ? `+${number}` : number));
}

const intervalTip = (low, high) =>
  (low === null ? null : { "data-tip": `95 % interval: ${format.fixed(low)} to ${format.fixed(high)}` });

/* The F1 of what is told in its row: of senses, that of each of the two. */
const f1Of = (i) => {
  const senses = sensesInCaption(i);
  if (!hasSenses(i)) {
    return line(columns.f1[i] === null ? h("span.muted", { "data-tip": UNTESTED }, "–") : format.fixed(columns.f1[i]));
  }
  return sensesShown(i).map((k) => line(h("span.muted", null, letters[k]), " ", format.fixed(senses[k][2])));
};

/* Its verdict in a short word, and whether it is unsure. */
function shortVerdict(i) {
  const verdictWord = format.verdict(verdictOf(i));
  const named = { "--hue": hueOfVerdict(verdictOf(i)), title: verdictWord, role: "img", "aria-label": verdictWord };
  return h("span", null, h("span.verdict", named, format.shortVerdict(verdictOf(i))),
    isUnsure(i) ? h("span.muted", null, ", unsure") : null);
}

function judged(i) {
  const [one, low, high] = valuesOf("monosemanticity", i);
  return line(shortVerdict(i), h("span.number", intervalTip(low, high), format.fixed(one)));
}

/* The number of a feature, and its star. */
function latentOf(i) {
  const { star: isStarred } = noteOf(i);
  const isAsked = (each) => each.latent === i || (!each.field && each.number && Number(each.text) === i);
  const number = selection.terms.some(isAsked) ? h("mark", null, String(i)) : String(i);
  const toggle = { type: "button", title: "star (s)", "aria-label": `Star feature ${i}`,
    "aria-pressed": String(isStarred) };
  return line(h("button.gutter", toggle, isStarred ? "★" : "☆"), featureLink(i, number));
}

/* The cells that hold more than a number, and what is told of a feature that never fires. */
const CELLS = {
  latent: latentOf,
  monosemanticity: judged,
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

/** What a cell holds: of a latent in a column. rowData: null until it is read.
 * @type {(column: Column, i: number, rowData: RowData) => Child} */
export const cellOf = (column, i, rowData) => (neverFires(i) ? SILENT[column.name]?.(i)
  : CELLS[column.name] ? CELLS[column.name](i, rowData) : numberOf(column, i));
