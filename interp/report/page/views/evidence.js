/* Why a feature has its verdict: each measure with its null, and how well its rule in words does on held-out text. */

import { valuesOf } from "../data/columns.js";
import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { isInseparable, verdictOf } from "../data/latents.js";
import { barCell, factsElement, foldedElement, h, headElement, nothing, rowHead } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { term, tipped } from "../elements/glossary.js";
import { verdictElement } from "../elements/latents.js";
import { isNamedByLabel, sensesInCaption } from "../text/captions.js";
import { ruleElement } from "../text/segments.js";
import { probabilityRow } from "./logits.js";

const { evidence, verdicts } = page;

/** Whether its firings have one meaning; null where that was not tested.
 * @type {(latent: number) => HTMLElement | null} */
export function meaningRow(latent) {
  const [probability, low, high] = valuesOf("monosemanticity", latent);
  if (probability === null) return null;
  const isSure = low === null || high === null || low > 0.5 || high < 0.5;
  return probabilityRow("One meaning", "The probability that its firings have one meaning, with its 95 % interval.",
    probability, low, high, isSure);
}

/** What its verdict says, and folded the measures behind it.
 * @type {(latent: number, feature: Feature) => Child[]} */
export function verdictEvidence(latent, feature) {
  const measures = (feature.evidence ?? []).map(([place, value, z, low, high]) => (
    { ...evidence[place], value, z, low, high }
  ));
  const decisive = measures.filter(({ decides }) => decides);
  const others = measures.filter(({ decides }) => !decides);
  const tables = () => [
    decisive.length ? measureTable(decisive, contributions(latent, decisive), columns.monosemanticity[latent]) : null,
    others.length ? measureTable(others) : null];
  const tooFew = "No evidence: it does not fire often enough to be judged.";
  return [
    verdictInWords(latent, feature),
    measures.length ? foldedElement("details", `The ${format.count(measures.length)} measures of one meaning`, tables)
      : page.has_text ? nothing(tooFew) : null,
  ];
}

/* What its verdict says beyond the probability of one meaning; nothing where it says no more. */
function verdictInWords(latent, feature) {
  const { meaning, by_probability: isByProbability } = verdicts[verdictOf(latent)] ?? {};
  const told = [
    meaning && !isByProbability ? [verdictElement(verdictOf(latent)), `: ${meaning}.`] : null,
    isInseparable(latent)
      ? " No meaning was found that its firings share, and they form no distinct groups." : null,
    feature.shared && !columns.rule[latent].length && !isNamedByLabel(latent)
      ? [" What its firings share most: ", h("span.rule", null, ruleElement(feature.shared)), "."]
      : null,
  ].filter(Boolean);
  return told.length ? h("p.verdict-words", null, told) : null;
}

/* By measure, how far it moves the logit of the probability from ½; null if there is no probability, or if another
 * calibration than the page's gave it. */
function contributions(latent, decisive) {
  const one = columns.monosemanticity[latent];
  const weighed = decisive.filter(({ weight, value }) => weight !== null && weight !== undefined && value !== null);
  if (one === null || !weighed.length) return null;
  const by = new Map(weighed.map(({ title, weight, boundary, value }) => [title, weight * (value - boundary)]));
  return sumOf(by) > 0 === one > 0.5 ? by : null;
}

const sumOf = (by) => [...by.values()].reduce((sum, x) => sum + x, 0);
const signed = (x) => `${x >= 0.005 ? "+" : ""}${format.fixed(x)}`;

/** by: what each measure adds to the logit; if given, it replaces the z, and the last row has their sum and the
 * probability of one meaning.
 * @type {(measures: any[], by?: Map<string, number> | null, probability?: number | null) => HTMLElement} */
function measureTable(measures, by = null, probability = null) {
  const added = (title) => (by?.has(title) ? signed(by.get(title)) : h("span.muted", null, "–"));
  const sum = () => h("tfoot", null, h("tr", null,
    h("th", { scope: "row", colspan: 3 }, `${sumOf(by) > 0 ? "For" : "Against"} one meaning; with the sampling `
      + `error, a probability of ${format.fixed(probability)}`),
    h("td", null, h("b", null, signed(sumOf(by))))));
  const line = ({ title, meaning, domain, value, z, low, high, boundary }) => h("tr", null,
    rowHead(meaning ? tipped(title, meaning) : title),
    h("td.gauge", null, domain ? gauge(domain, value, low, high, by ? boundary : null) : null),
    h("td", null, by ? format.fixed(value) : format.digits(value)),
    h("td", null, by ? added(title) : z === null ? h("span.muted", null, "–") : format.fixed(z, 1)));
  const last = by ? tipped("Logit", "What it adds to the logit of the probability of one meaning, from the line at "
    + "which it would speak neither for nor against one meaning.") : term("z");
  return h("table.plain.evidence", null,
    headElement(["Measure", "", "Value", last]),
    h("tbody", null, measures.map(line)),
    by ? sum() : null,
    h("caption.below", null, legend(measures, Boolean(by))));
}

/* A number on the range of nearly all latents, over the central 95 % of its null; boundary: where it speaks for
 * neither. */
function gauge([from, to], value, low, high, boundary = null) {
  const place = (x) => Math.min(Math.max((x - from) / (to - from), 0), 1).toFixed(4);
  const hasNull = low !== null && high !== null;
  const range = hasNull ? `null: ${format.digits(low)} to ${format.digits(high)}` : null;
  const attributes = range ? { title: range, role: "img", "aria-label": range } : { "aria-hidden": "true" };
  return h("span.gauge", attributes,
    hasNull ? h("i.null", { "--low": place(low), "--high": place(high) }) : null,
    boundary === null || boundary === undefined ? null : h("i.zero", { "--at": place(boundary) }),
    value === null ? null : h(value < from || value > to ? "i.point.past" : "i.point", { "--at": place(value) }));
}

function legend(measures, hasBoundary) {
  const isShaded = measures.some(({ low }) => low !== null);
  const signs = ["The line spans nearly all features", "the mark is this one",
    hasBoundary ? "the thin mark speaks for neither" : null, isShaded ? "shaded is 95 % of its null" : null];
  const sentences = [`${signs.filter(Boolean).join(", ")}.`];
  const titlesOfNull = new Map();
  for (const { null: name, title } of measures) {
    if (name) titlesOfNull.set(name, [...(titlesOfNull.get(name) ?? []), title]);
  }
  const commonestFirst = [...titlesOfNull].sort(([, a], [, b]) => b.length - a.length);
  const named = commonestFirst.map(([name, titles], k) => (k ? `${name} (${titles.join(", ")})` : name));
  if (named.length) sentences.push(`${named.length > 1 ? "Nulls" : "Null"}: ${named.join("; ")}.`);
  return sentences.join(" ");
}

/** How well the rule in words holds on the half of the text not used to find it, by the strength of the firing.
 * @type {(latent: number, feature: Feature) => HTMLElement | null} */
export function explanationScores(latent, feature) {
  const parts = feature.explanation;
  if (!parts) return null;
  const scores = [
    [term("F1"), columns.explanation_f1[latent]],
    ["precision", parts.precision],
    ["recall", parts.recall],
  ];
  const facts = scores.filter(([, x]) => x !== null && x !== undefined).map(([name, x]) => [name, format.fixed(x)]);
  const hasIntervals = (parts.f1_by_interval ?? []).some((x) => x !== null);
  const isOfSenses = sensesInCaption(latent).length > 0;
  const title = `How well ${isOfSenses ? "one rule for all senses" : "the rule"} holds`;
  return foldedElement("details.block", h("h3", null, title), () => [
    h("p.rule", null, ruleElement(feature.measured ?? columns.rule[latent], { isButton: true })),
    factsElement(facts),
    hasIntervals ? intervalBars(parts.f1_by_interval, feature.intervals) : null]);
}

function intervalBars(scores, intervals) {
  const line = (f1, place) => {
    const [low, high] = intervals[place] ?? [null, null];
    const range = `${format.significant(low, 2)} to ${format.significant(high, 2)}`;
    return h("tr", null, rowHead(range), barCell(f1 ?? 0), h("td", null, format.fixed(f1)));
  };
  return h("table.bars.intervals", null,
    h("caption", null, "F1 by strength of the activation"),
    h("tbody", null, scores.map(line)));
}
