/* One feature: its verdict and the evidence, where it fires, what it writes, its neighbours. */

import { lastTabShown, readAddress } from "../address.js";
import { columns, loadFeature } from "../data/features.js";
import { page } from "../data/files.js";
import { isIdle, isInseparable, isUnsure, verdictOf } from "../data/latents.js";
import { onNote } from "../data/notes.js";
import { loadWords, word } from "../data/vocabulary.js";
import { block, factsElement, foldedElement, h, headElement, nothing, rowHead } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { MEANINGS, term } from "../elements/glossary.js";
import { featureLink, intervalElement, senseMark, verdictTerm } from "../elements/latents.js";
import { writeActivation } from "../examples/example_list.js";
import { labelsOf, loadExamples, storedExamples } from "../examples/examples.js";
import { firingsRegion } from "../examples/firings.js";
import { model } from "../model.js";
import { neighbour, selectsAll } from "../selection/selection.js";
import {
  isNamedByLabel, kindsOfFirings, labelOrCaption, leadElement, linkedFeatures, sensesInCaption, titleOf,
} from "../text/captions.js";
import { CLEAR_F1 } from "../text/segments.js";
import { tokenElement } from "../text/tokens.js";
import { explanationScores, meaningRow, verdictEvidence } from "./evidence.js";
import { consequences, effectAnswer, effectRow, inNats, learntRow, logitsElement } from "./logits.js";
import { neighbourhood } from "./neighbourhood.js";
import { noteEditor } from "./notes.js";
import { visit } from "./table.js";

const { n_ctx, has_text: hasText, ranked, tokens: scanned, latents } = page;
const N_LISTED = 5;
const N_NEAR = 3; // of each kind, and
const N_NEARBY = 4; // of both
const N_STRONGEST = 8; // firings, which stand first
const CLOSE = 0.5; // decoder cosine from which on a neighbour is close
const SOME = 0.01; // Jaccard from which on two features fire together
const N_AROUND = 6; // tokens before, on and after a firing
const WIDE = matchMedia("(min-width: 1021px)"); // where the evidence stands beside the examples
const whenIdle = window.requestIdleCallback ?? setTimeout;
let wanted;
let retitle = null;

const folded = (title, make) => foldedElement("details.block", h("h3", null, title), make);

/* Other latents, each with what it fires on, numbers, and a link that compares the two. A button shows all but the
 * first few.
 *
 * rows: [other latent, number, …]; cells: makes the cells of a row's numbers; none: the text if there is no row. */
function links(latent, rows, heads, cells, none) {
  if (!rows.length) return nothing(none);
  const line = (row) => {
    const [other] = row;
    const name = `Feature ${latent} beside feature ${other}`;
    return h("tr", null,
      h("td", null, featureLink(other)),
      h("td.explanation", null, h("div.clamp", null, labelOrCaption(other))),
      cells(row),
      h("td", null, h("a", { href: `#compare/${latent}/${other}`, title: "side by side", "aria-label": name }, "⇄")));
  };
  const body = h("tbody", null, rows.slice(0, N_LISTED).map(line));
  const onclick = ({ target }) => {
    body.append(...rows.slice(N_LISTED).map(line));
    target.remove();
  };
  return [
    h("table.plain", null, headElement([...heads, ""]), body),
    rows.length > N_LISTED ? h("button.more", { type: "button", onclick }, `${rows.length - N_LISTED} more`) : null,
  ];
}

function nearest(latent, { neighbours }) {
  const cells = ([, cosine]) => h("td", null, format.fixed(cosine));
  const none = "No neighbours: the store has no decoder directions.";
  const heads = ["Feature", "", term("decoder cosine", "cosine")];
  return [
    neighbourhood(latent, neighbours.map(([other]) => other)),
    links(latent, neighbours, heads, cells, none),
  ];
}

function together(latent, { coactivations }) {
  const heads = ["Feature", "", term("Jaccard"), term("lift")];
  const cells = ([, jaccard, lift]) => [
    h("td", null, format.fixed(jaccard)),
    h("td", null, format.significant(lift)),
  ];
  return links(latent, coactivations, heads, cells, "It does not fire with any other feature.");
}

/** The labels that predict its firings, or how far the best one does.
 * @type {(all: Feature["labels"]) => HTMLElement} */
export function labelsElement(all) {
  if (!all.length) return nothing("No labels: the tokens scanned carry none, or it never fires.");
  const rows = all.filter(([, , f1]) => f1 !== null && f1 >= page.min_f1);
  if (!rows.length) {
    const [[best, share, f1, , recall]] = all;
    const known = ` The best, ${format.words(best)}, has ${format.percent(share)} of them, but it fires on `
      + `${format.percent(recall)} of the tokens there: F1 ${format.fixed(f1)}.`;
    return nothing(`No label predicts its firings.${(f1 ?? 0) < 0.005 ? "" : known}`);
  }
  const line = ([label, share, ...scores]) => (
    h("tr", null, rowHead(format.words(label)), h("td", null, format.percent(share)),
      scores.map((x) => h("td", null, format.fixed(x))))
  );
  const legend = "The share of all firings that lie in the label; F1, precision and recall on held-out text, at the "
    + "activation from which F1 is highest; r, the correlation of the activation with the label.";
  return h("table.plain", null,
    headElement([term("label", "Label"), "Of its firings", "Label F1", "Precision", "Recall", "r"]),
    h("tbody", null, rows.slice(0, N_LISTED).map(line)),
    h("caption.below", null, legend));
}

/* The most common tokens before and after a firing, and on it, of all of them or of one sense, k: its place. On which
 * all of them are, stands above (firings.js). */
function tokensAround(feature, k = null) {
  const rows = k === null ? feature.tokens : feature.sense_tokens[k]; // [offset, token, count], …
  const item = ([, token, n]) =>
    h("li", null, tokenElement(word(token), feature.script), h("span.muted", null, format.count(n)));
  const column = (offset, title) => {
    const there = rows.filter(([at]) => at === offset).slice(0, N_AROUND);
    return there.length ? h("div", null, h("h4", null, title), h("ul.tokens", null, there.map(item))) : null;
  };
  return [
    k === null ? null : h("p.muted", null, "Of the firings of sense ", senseMark(k)),
    h("div.around", null, column(-1, "before"), k === null ? null : column(0, "on"), column(1, "after"))];
}

/* Where in its contexts it fires; counts: of its firings in equal parts of a context. */
function position(counts) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  const most = Math.max(...counts);
  const part = counts.indexOf(most);
  const size = n_ctx / counts.length;
  const bars = counts.map((n) => h("i", { "--share": n / most }));
  const range = `${Math.ceil(part * size)} to ${Math.ceil((part + 1) * size) - 1}`;
  const strip = h("span.strip", { "aria-hidden": "true" }, bars);
  return [`${format.percent(most / total)} at ${range} of ${n_ctx} `, strip];
}

function facts(feature) {
  const { facts: known } = feature;
  const inputs = hasText ? "sequences" : "inputs";
  /** @type {[name: string, value: Child][]} */
  const rows = [
    ["density", format.share(known.density)],
    ["firings", `${format.count(known.n_active)} in ${format.count(known.n_sequences)} ${inputs}`],
    ["activation", `mean ${writeActivation(known.mean, known.max)}, max ${writeActivation(known.max, known.max)}`],
  ];
  if (hasText) rows.splice(2, 0, ["different tokens", format.count(known.n_tokens)]);
  if (feature.positions) rows.push(["position", position(feature.positions)]);
  if (hasText) rows.push(["entropy of its tokens", `${format.significant(known.token_entropy, 2)} nats`]);
  const { fvu_rise: rise = null, dec_norm: norm = null, enc_dec_cosine: cosine = null } = known;
  if (rise !== null) {
    const share = Math.abs(rise) < 1e-5 ? "under 0.001 %" : format.percent(rise);
    rows.push(["explains", `${share} of the variance`]);
  }
  if (norm !== null && format.fixed(norm) !== "1.00") rows.push(["decoder norm", format.significant(norm)]);
  if (cosine !== null) rows.push(["encoder · decoder", format.fixed(cosine)]);
  return factsElement(rows.map(([name, value]) => [MEANINGS[name] ? term(name) : name, value]));
}

function heading(latent, feature) {
  const isUnclear = columns.f1[latent] !== null && columns.f1[latent] < CLEAR_F1 && !sensesInCaption(latent).length;
  const title = h(isUnclear ? "h2.title.unclear" : "h2.title", null, h("div", null, titleOf(latent)));
  retitle = () => title.replaceChildren(h("div", null, titleOf(latent)));
  const { label, note } = noteEditor(latent);
  return h("header.feature", null,
    h("div.toolbar", null, path(latent, feature), h("div.by-reader", null, label, note)),
    feature.facts.n_active ? title : null,
    h("div.name", null,
      h(feature.facts.n_active ? "b" : "h2", null, `Feature ${latent}`),
      h("span", null, verdictTerm(verdictOf(latent)), isUnsure(latent) ? [", ", term("unsure")] : null),
      ranked ? probability(latent) : null,
      learnt(latent),
      effect(latent),
      feature.facts.n_active
        ? h("span.density", null, term("density"), ` ${format.share(feature.facts.density)}`) : null,
      within(latent, feature),
      senses(latent, feature)),
    feature.facts.n_active ? leadElement(latent, feature, ...nearby(latent, feature)) : null);
}

/** The features that fire most with it, those close to it in the decoder, and a link to its place on the map.
 * @type {(latent: number, feature: Feature) => [name: string, others: Child[]][]} */
export function nearby(latent, { neighbours, coactivations }) {
  const close = new Map(neighbours.filter(([, cosine]) => cosine >= CLOSE).slice(0, N_NEAR)
    .map(([other, cosine]) => [other, `cosine ${format.fixed(cosine)}`]));
  /** @type {[other: number, relation: string][]} */
  const often = byJaccard(coactivations).filter(([, jaccard]) => jaccard >= SOME).slice(0, N_NEAR)
    .map(([other, jaccard]) =>
      [other, [`Jaccard ${format.fixed(jaccard)}`, close.get(other)].filter(Boolean).join(", ")]);
  for (const [other] of often) close.delete(other); // one that does both stands once
  /** @type {[name: string, others: Child[]][]} */
  const lines = [
    ["Fires with", linkedFeatures(often)],
    ["Points like", linkedFeatures([...close].slice(0, N_NEARBY - often.length))],
  ];
  const shown = lines.filter(([, others]) => others.length);
  if (neighbours.length) shown.at(-1)?.[1].push(h("a", { href: `#map/${latent}` }, "on the map"));
  return shown;
}

/** @type {(coactivations: Feature["coactivations"]) => Feature["coactivations"]} */
export const byJaccard = (coactivations) => [...coactivations].sort(([, a], [, b]) => b - a);

/* The kinds of text in which most of its firings lie, and that of the strongest, where it is another. */
function within(latent, feature) {
  const most = feature.labels.map(([label, share]) => [label, share ?? 0]).sort((a, b) => b[1] - a[1]);
  const named = kindsOfFirings(latent, feature);
  const kinds = named.length ? named : most.slice(0, 1).filter(([, share]) => share >= 0.5);
  const parts = kinds.map(([label, share], k) =>
    `${format.percent(share)}${k ? "" : " of its firings"} in ${format.words(label)}`);
  if (!parts.length) return null;
  const strongest = storedExamples(feature).slice(0, N_STRONGEST).map(labelsOf);
  const isMost = (label) => 2 * strongest.filter((names) => names.includes(label)).length >= strongest.length;
  if (!isMost(kinds[0][0])) {
    const other = most.find(([label]) => isMost(label))?.[0] ?? strongest.flat().find(isMost);
    parts.push(other ? `but most of its strongest in ${format.words(other)}` : "but few of its strongest");
  }
  return h("span", null, parts.join(", "));
}

/* How much the model loses without it, where that was measured. */
function effect(latent) {
  const [value, low, high] = [columns.effect[latent], columns.effect_low[latent], columns.effect_high[latent]];
  if (value === null || low === null || high === null) return null;
  const isSure = low > 0 || high < 0;
  return h("span", null, term("effect"), " ",
    isSure ? `${value > 0 ? "+" : ""}${inNats(value)} nats` : effectAnswer(low, high));
}

/* Links to the table, and to the previous, next and nearest features. */
function path(latent, feature) {
  const { place, of } = visit(latent);
  const outside = isIdle(latent) && selectsAll() ? `left out of the table: ${format.verdict(verdictOf(latent))}`
    : "outside the present filter";
  const at = place < 0 ? outside : `${format.count(place + 1)} of ${format.count(of)} in this order`;
  const step = (by, text, key) => {
    const to = neighbour(latent, by);
    const where = to === undefined
      ? { "aria-disabled": "true", class: "step off" }
      : { href: `#feature/${to}`, title: `${text} (${key})` };
    const attributes = { ...where, "aria-label": text };
    return h("a.step", attributes, by < 0 ? "‹ " : null, h("span.long", null, text), by > 0 ? " ›" : null);
  };
  const [nearestOne] = [...byJaccard(feature.coactivations), ...feature.neighbours];
  const both = nearestOne ? `${latent}/${nearestOne[0]}` : latent;
  const beside = { href: `#compare/${both}`, title: "with the feature that fires most with it" };
  const tried = { href: `#try/${latent}`, title: "pinned, with what else fires in a text" };
  return h("div.path", null,
    lastTabShown() === "#notes" ? h("a", { href: `#notes/${latent}` }, "Your notes") : null,
    h("a", { href: "#features" }, "All features"),
    h("span.muted", null, at),
    h("span.steps", null,
      h("a", beside, "Compare", nearestOne ? h("span.long", null, ` with ${nearestOne[0]}`) : null),
      model.isLive ? h("a", tried, "Try text") : null,
      step(-1, "Previous", "k"),
      step(1, "Next", "j")));
}

function probability(latent) {
  const { monosemanticity: one, monosemanticity_low: low, monosemanticity_high: high } = columns;
  return one[latent] === null ? null
    : h("span.score", null, term("one meaning"), " ", intervalElement(one[latent], low[latent], high[latent]));
}

function learnt(latent) {
  const value = columns.learnt[latent];
  return value === null ? null : h("span", null, term("learnt"), ` ${format.fixed(value)}`);
}

function senses(latent, feature) {
  const n = columns.senses[latent] ?? 0;
  if (isInseparable(latent)) return h("span.muted", null, "senses not told apart");
  const isPolysemantic = (columns.monosemanticity[latent] ?? 1) <= 0.5;
  const isOfNone = Boolean(feature.senses) && !isNamedByLabel(latent) && !sensesInCaption(latent).length;
  if (isPolysemantic && isOfNone) return h("span.muted", null, "no clear ", term("sense", "senses"));
  const isOne = (columns.monosemanticity[latent] ?? 0) > 0.5;
  const howLikely = isUnsure(latent) ? "perhaps" : "more likely";
  return n > 1
    ? h("span.muted", null, `${n} `, term("sense", "senses"), isOne ? `, ${howLikely} parts of one meaning` : null)
    : null;
}

/* Whether it has one meaning, is learnt and has an effect, each with its number, and what the answers rest on. */
function answers(latent, feature) {
  const rows = [ranked ? meaningRow(latent) : null, learntRow(columns.learnt[latent]), effectRow(feature)];
  return block("One meaning, learnt, effect",
    rows.some(Boolean) ? h("table.plain.effects.answers", null, h("tbody", null, rows)) : null,
    ranked ? verdictEvidence(latent, feature) : null,
    consequences(feature));
}

function contents(latent, feature) {
  const ofLogits = [term("direct logit effects", "Direct logit effects"), h("small", null, " at an activation of 1")];
  const directLogits = () => block(ofLogits, logitsElement(feature));
  const near = folded("Nearest in the decoder", () => nearest(latent, feature));
  if (!feature.facts.n_active) {
    return [
      heading(latent, feature),
      nothing(`This feature fired on none of the ${format.count(scanned)} tokens scanned.`),
      h("div.side.alone", null, directLogits(),
        Object.assign(near, { open: true })),
    ];
  }
  const around = h("div", null, tokensAround(feature));
  const onsense = (k) => around.replaceChildren(...tokensAround(feature, k).filter((part) => part !== null));
  const side = h("div.side", null,
    hasText ? directLogits() : null,
    answers(latent, feature),
    hasText ? block(["Tokens before and after", h("small", null, " and their firings")], around) : null,
    block("Labels", labelsElement(feature.labels)),
    explanationScores(latent, feature),
    near,
    folded("Features that fire with it", () => together(latent, feature)),
    folded("Its numbers", () => facts(feature)));
  const { strengths, fires } = firingsRegion(latent, feature, onsense);
  if (WIDE.matches) side.prepend(strengths);
  return [heading(latent, feature), h("div.split", null, WIDE.matches ? null : strengths, fires, side)];
}

/* All that is known of a latent. */
export async function openFeature(latent) {
  const [feature] = await Promise.all([loadFeature(latent), loadWords()]);
  await loadExamples([...storedExamples(feature), ...(feature.senses ?? []).flatMap(({ examples }) => examples)]);
  return feature;
}

async function show(section, argument) {
  const latent = Number(argument);
  wanted = latent;
  if (!/^\d+$/.test(argument ?? "") || latent >= latents) {
    const missing = `There is no feature ${argument ?? ""}: features run from 0 to ${latents - 1}. `;
    section.replaceChildren(h("p.missing", null, missing, h("a", { href: "#features" }, "All features")));
    return;
  }
  delete section.dataset.latent;
  const feature = await openFeature(latent);
  if (wanted !== latent) return;
  section.replaceChildren(...contents(latent, feature));
  const named = section.querySelector(".title > div");
  if (named?.scrollHeight > named?.clientHeight) named.title = named.textContent; // what its two lines cut
  section.dataset.latent = latent;
  scrollTo(0, 0);
  readNext(latent);
  whenIdle(() => wanted === latent && fillColumn(section));
}

/* Show as many more examples of each list as fit beside the evidence, where that is the longer column: of the lists
 * that are kept short first, only when the others are whole. */
function fillColumn(section) {
  const [fires, side] = section.querySelectorAll(".split > *");
  if (!WIDE.matches || !fires) return; // a dead feature has no examples
  const heightTo = (last, column) => last.getBoundingClientRect().bottom - column.getBoundingClientRect().top;
  const shown = fires.querySelectorAll("#panel-0 .example");
  const listed = Array.from(fires.querySelectorAll("#panel-0 ol"), (list) => list.offsetHeight);
  const height = listed.reduce((sum, each) => sum + each, 0) / shown.length;
  const free = heightTo(side.lastElementChild, side) - heightTo(fires.querySelector("#panel-0"), fires);
  let room = Math.floor(free / height);
  const hasGrown = (list) => room > 0 && list.show(1).length > 0 && room-- > 0;
  for (const kind of [":not([data-few])", "[data-few]"]) {
    const lists = Array.from(fires.querySelectorAll(`#panel-0 div${kind}`)).filter(({ show: more }) => more);
    while (lists.filter(hasGrown).length);
  }
  balance(fires, side);
}

/* Move the last blocks of the evidence below the examples, as long as these end further up. */
function balance(fires, side) {
  const foot = h("div.foot");
  fires.append(foot);
  const endOf = (column) => column.lastElementChild.getBoundingClientRect().bottom;
  const fits = (last) => last && endOf(fires) + last.offsetHeight < endOf(side) - last.offsetHeight;
  while (fits(side.lastElementChild)) foot.prepend(side.lastElementChild);
  if (!foot.childElementCount) foot.remove();
}

/* Preload what j and k open next; a failure is reported only when they open it. */
function readNext(latent) {
  const next = [1, -1].map((by) => neighbour(latent, by)).filter((to) => to !== undefined);
  whenIdle(() => next.forEach((to) => openFeature(to).catch(() => null)));
}

WIDE.addEventListener("change", () => {
  const strengths = document.querySelector("#feature .split .strengths");
  const column = document.querySelector(`#feature ${WIDE.matches ? ".side" : ".split"}`);
  if (strengths) column?.prepend(strengths);
});

/* A label of the reader's own is its title as soon as it is typed. */
onNote(() => retitle?.());

const titled = (latent) => `Feature ${latent}`;
export const feature = {
  within: "features",
  titled,
  show,
  step(by) {
    const next = neighbour(Number(readAddress().argument), by);
    if (next !== undefined) location.replace(`#feature/${next}`);
  },
};
