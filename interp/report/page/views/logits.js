/* A feature's effect on the predictions: tokens that it raises and lowers by the direct path, and what ablating it
 * changes. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { word } from "../data/vocabulary.js";
import { barCell, foldedElement, h, headElement, nothing, rowHead } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { term, tipped } from "../elements/glossary.js";
import { drawHistogram } from "../elements/histogram.js";
import { senseMark } from "../elements/latents.js";
import { isStray, partsInLetters, partsOf } from "../text/bytes.js";
import { tokenElement } from "../text/tokens.js";

/** A scale of numbers: the least and the largest, and where each lies, from 0 to 1.
 * @typedef {{ least: number, most: number, place: (x: number) => number }} Scale */

const N_FIRST = 6;
const N_MARKED = 3;
const LONGEST = 12;
/* Odds below 3 to 1 are "not worth more than a bare mention" (Kass and Raftery 1995). */
const UNSURE = 0.25;

/** A change in two digits, also where it is a whole number or near 0.
 * @type {(x: number) => string} */
export function inNats(x) {
  const digits = 1 - Math.floor(Math.log10(Math.abs(x))); // after the point
  return x && Math.abs(x) < 1e-3 ? format.fixed(x, Math.min(digits, 7)) : format.digits(x).replace(/^−?\d$/, "$&.0");
}
const largest = (...sides) => Math.max(...sides.flat().map(([, v]) => Math.abs(v)), 1e-12);

/** Whether an effect on a token tells something: it is larger than chance makes the largest of so many, or the token
 * is among those that follow the firings most often.
 * @type {(feature: { logits: LogitEffects, tokens: Feature["tokens"] }) => (row: TokenValue) => boolean} */
export function isBeyondChance({ logits: { counts, top, bottom }, tokens }) {
  const [least, most] = [bottom[0]?.[1] ?? 0, top[0]?.[1] ?? 0];
  const valueAt = (k) => least + ((k + 0.5) / counts.length) * (most - least);
  const meanOf = (/** @type {(k: number) => number} */ of) =>
    counts.reduce((sum, n, k) => sum + n * of(k), 0) / counts.reduce((sum, n) => sum + n, 0);
  const mean = meanOf(valueAt);
  const deviation = Math.sqrt(meanOf((k) => (valueAt(k) - mean) ** 2));
  const following = new Set(tokens.filter(([offset]) => offset === 1).map(([, token]) => token));
  return ([token, value]) =>
    !counts.length || following.has(token) || Math.abs(value - mean) > page.largest_by_chance * deviation;
}

const NONE_BEYOND_CHANCE = "No effect is larger than chance makes the largest of all tokens, and none is on a token "
  + "that is common after it.";

/* script: of the tokens around; marks: makes what stands beside a token; isNotable: as `isBeyondChance` gives it. */
function bars(caption, rows, kind, most, script, marks, isNotable) {
  const line = ([token, value]) =>
    h(isNotable([token, value]) ? "tr" : "tr.muted", null,
      rowHead(tokenElement(word(token), script), marks(token)),
      barCell(Math.abs(value) / most),
      h("td", null, format.fixed(value)));
  return h(`table.logits.${kind}`, null, h("caption", null, caption), h("tbody", null, rows.length ? rows.map(line)
    : h("tr", null, h("td.none", { colspan: 3 }, tipped("none beyond chance", NONE_BEYOND_CHANCE)))));
}

/** Tokens at both ends: [name, rows] of each.
 * @param {[name: Child, rows: TokenValue[]]} raising
 * @param {[name: Child, rows: TokenValue[]]} lowering
 * @param {{ script: string | null, most?: number, marks?: (token: number) => Child,
 *   isNotable?: (row: TokenValue) => boolean }} how */
function ends([raised, raises], [lowered, lowers], how) {
  const { script, most = largest(raises, lowers), marks = () => null, isNotable = () => true } = how;
  return h("div.pair", null,
    bars(raised, raises, "positive", most, script, marks, isNotable),
    bars(lowered, lowers, "negative", most, script, marks, isNotable));
}

/** A linear scale that holds some numbers, null where one is not known, and 0.
 * @type {(numbers: (number | null)[]) => Scale} */
export function linear(numbers) {
  const known = [0, ...numbers].filter((x) => x !== null);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return { least, most, place: (x) => (x - least) / (most - least || 1) };
}

/** Changes of one kind on one scale: the interval of its null shaded, its own interval a line, and its mean.
 *
 * scale: by default a linear one of what is drawn. isMarked: its ends are written beside it, and 0 above.
 * @type {(change: Change, ofNull: Change, scale?: Scale | null, isMarked?: boolean, unit?: string) => HTMLElement} */
export function gauge([mean, low, high], [nullMean, nullLow, nullHigh], scale = null, isMarked = false, unit = "nats") {
  const { least, most, place: exact } = scale ?? linear([mean, low, high, nullMean, nullLow, nullHigh]);
  const place = (x) => exact(x).toFixed(4);
  const range = (kind, from, to) =>
    from === null || to === null ? null : h(`i.${kind}`, { "--low": place(from), "--high": place(to) });
  const ofNull = nullMean === null ? "" : `, null ${format.digits(nullMean)}`;
  const text = `${format.digits(mean)} ${unit}${ofNull}`;
  return h(
    "span.gauge",
    { role: "img", "aria-label": text, title: text },
    h("i.zero", { "--at": place(0), "data-label": isMarked && least < 0 && most > 0 ? "0" : null }),
    isMarked ? endsOf(format.significant(least, 1), format.significant(most, 1)) : null,
    range("null", nullLow, nullHigh),
    range("range", low, high),
    h("i.point", { "--at": place(mean) }),
  );
}

/* The labels at the two ends of a gauge. */
const endsOf = (...texts) => texts.map((text) => h("i.end", { "data-label": text }));

/** One of the three answers: its name with what it asks, its probability on a scale from 0 to 1, and yes or no. low,
 * high: the ends of its interval, null where they are not known.
 * @type {(name: string, asks: string, probability: number, low: number | null, high: number | null, isSure: boolean) =>
 *   HTMLElement} */
export function probabilityRow(name, asks, probability, low, high, isSure) {
  const answer = probability >= 0.5 ? "yes" : "no";
  const range = low === null ? null : h("i.range", { "--low": low, "--high": high });
  return h("tr", null,
    rowHead(tipped(name, asks)),
    h("td.gauge", null, h("span.gauge", { "aria-hidden": "true" }, h("i.zero", { "--at": 0.5, "data-label": "½" }),
      endsOf("0", "1"), range, h("i.point", { "--at": probability }))),
    h("td", null, format.fixed(probability)),
    h("td", null, isSure ? h("b", null, answer) : `likelier ${answer}`));
}

/** Whether the model learnt it; null where nothing was tested for that.
 * @type {(learnt: number | null) => HTMLElement | null} */
export function learntRow(learnt) {
  const asks = "The probability that the model learnt it, from 0 to 1: below ½ it is more likely a feature of a model "
    + "with random weights than of a trained one.";
  if (learnt !== null) {
    return probabilityRow("Learnt", asks, learnt, null, null, Math.max(learnt, 1 - learnt) >= 1 - UNSURE);
  }
  const isTested = columns.learnt.some((x) => x !== null);
  return isTested ? h("tr", null, rowHead(tipped("Learnt", asks)),
    h("td.muted", { colspan: 3 }, "not tested: it fires too rarely or too weakly")) : null;
}

/** Whether a feature has an effect, by the 95 % interval of it: none is seen where that includes 0.
 * @type {(low: number, high: number) => Child} */
export function effectAnswer(low, high) {
  if (low > 0) return h("b", null, "yes");
  if (high < 0) return h("b", null, "loss falls");
  return tipped("none seen", `Its 95 % interval, ${inNats(low)} to ${inNats(high)} nats, includes 0.`);
}

/** Whether its removal costs loss: by how much the loss rises more than its null; null where that is not known.
 * @type {(feature: Feature) => HTMLElement | null} */
export function effectRow({ effects }) {
  const ablated = page.shares.find(({ name }) => name === "effect");
  const name = rowHead(tipped("Effect", "How much more the loss rises without it than with an equally large change "
    + "along other features, in nats, with the 95 % interval."));
  if (!effects) {
    return ablated ? h("tr", null, name, h("td.muted", { colspan: 3 }, tipped("not ablated", ablated.note))) : null;
  }
  const [mean, low, high] = effects.beyond_null;
  if (mean === null || low === null || high === null) return null;
  return h("tr", null,
    name,
    h("td.gauge", null, gauge(effects.beyond_null, [null, null, null], null, true)),
    h("td", null, `${mean > 0 ? "+" : ""}${low > 0 || high < 0 ? inNats(mean) : format.fixed(mean)}`),
    h("td", null, effectAnswer(low, high)));
}

/* That the predictions change where the loss does not rise. */
function changedAlone({ beyond_null: [mean, low, high], kl, null_kl: nullKl }) {
  const isChanged = (kl?.[1] ?? -Infinity) > (nullKl?.[0] ?? Infinity);
  if (mean === null || low > 0 || high < 0 || !isChanged) return null;
  return h("p.why", null, "Without it the predictions change more than with its ", term("null"), ", but not the loss.");
}

const interval = ([, low, high]) =>
  low === null ? null : h("small", null, `${format.digits(low)} to ${format.digits(high)}`);

/** All measurements of its removal, folded; nothing where there are none.
 * @type {(feature: Feature) => Child} */
export function consequences({ effects: measured, script }) {
  if (!measured) return null;
  const { sequences, why, likelier, less_likely: lessLikely } = measured;
  const n = `${format.count(sequences)} ${sequences === 1 ? "sequence" : "sequences"}`;
  const rows = [
    changeRow("Loss where it fires", measured.loss_change, measured.null_loss_change),
    changeRow("Loss at later tokens", measured.later_loss_change),
    changeRow("KL of the predictions", measured.kl, measured.null_kl),
  ];
  const legend = `Change when the feature is set to 0, in nats, with 95 % intervals, in ${n}. `;
  return [
    changedAlone(measured),
    foldedElement("details", "What changes without it", () => [
      why ? h("p.why", null, why) : null,
      h("table.plain.effects", null, headElement(["", "", "this feature", term("null")]), h("tbody", null, rows)),
      h("p.below", null, legend, "The null, shaded, is an equally large change along other features."),
      ends(["made likelier by it", likelier.slice(0, N_FIRST)], ["made less likely", lessLikely.slice(0, N_FIRST)],
        { script })]),
  ];
}

/* change, null: [mean, low, high] in nats; a row without a change is left out. */
function changeRow(title, change, nullChange) {
  if (!change || change[0] === null) return null;
  const number = (x) => (x ? [format.digits(x[0]), interval(x)] : null);
  return h("tr", null,
    rowHead(title),
    h("td.gauge", null, gauge(change, nullChange ?? [null, null, null])),
    h("td", null, number(change)),
    h("td", null, number(nullChange)));
}

/* A token on one line of a picture. */
function short(token, script) {
  const signs = word(token).replace(/ {3,}/g, (run) => `␣×${run.length}`)
    .replace(/[ \n\t]/g, (c) => ({ " ": "␣", "\n": "↵", "\t": "⇥" })[c] ?? c);
  const characters = Array.from(partsInLetters(signs, partsOf(word(token), script)));
  return characters.length > LONGEST ? `${characters.slice(0, LONGEST - 1).join("")}…` : characters.join("");
}

/* The effects on all tokens that occur, with the most extreme of those listed named. */
function spread({ top, bottom, counts }, [lowered, raised], script) {
  if (!counts.length || !top.length) return null;
  const [least, most] = [bottom[0][1], top[0][1]];
  const outermost = [...lowered.slice(0, N_MARKED), ...raised.slice(0, N_MARKED).reverse()];
  /** @type {[value: number, text: string][]} */
  const marks = outermost.map(([token, value]) => [value, short(token, script)]);
  const edges = Array.from({ length: counts.length + 1 }, (_, k) => least + (k / counts.length) * (most - least));
  return drawHistogram({
    title: "Histogram of logit effects over the vocabulary",
    edges,
    counts,
    ticks: least < 0 && most > 0 ? [least, 0, most] : [least, most],
    marks,
    root: true,
    axis: "effect on the logit at activation 1",
    unit: "tokens (√)",
  });
}

/* A function that makes the marks of the senses whose firings a token often follows. */
function marksOf({ senses, sense_tokens: around }) {
  const follows = (senses ?? []).map(({ following }, k) => {
    const after = (around?.[k] ?? []).filter(([offset]) => offset === 1).map(([, token]) => token);
    return new Set([...following, ...after]);
  });
  return (token) => follows.flatMap((tokens, k) => (tokens.has(token) ? [senseMark(k)] : []));
}

/** @type {(feature: Feature) => Child} */
export function logitsElement(feature) {
  const { logits } = feature;
  if (!logits) {
    const why = page.logits;
    return nothing(why ? `There are ${why}.` : "No logit effects were computed.");
  }
  /* Parts of characters tell nothing where none are around the firings: they stand only where there is nothing else. */
  const isTelling = (/** @type {TokenValue} */ [token]) => !isStray(token, feature);
  const shown = (rows) => (rows.some(isTelling) ? rows.filter(isTelling) : rows);
  const [top, bottom] = [shown(logits.top), shown(logits.bottom)];
  const nLeftOut = logits.top.length - top.length + logits.bottom.length - bottom.length;
  const marks = marksOf(feature);
  const isNotable = isBeyondChance({ logits, tokens: feature.tokens });
  const how = { script: feature.script, marks, isNotable, most: largest(top, bottom) };
  const [first, rest] = [true, false].map((isFirst) =>
    [top, bottom].map((rows) => rows.filter((row, k) => (k < N_FIRST && isNotable(row)) === isFirst)));
  /** @type {(sides: TokenValue[][]) => HTMLElement} */
  const named = ([raised, lowered]) => ends(["positive logits", raised], ["negative logits", lowered], how);
  const isMarked = first.flat().some(([token]) => marks(token).length);
  return [
    first.flat().length ? named(first)
      : h("p.below", null, "Positive and negative: ", tipped("none beyond chance", NONE_BEYOND_CHANCE)),
    isMarked ? h("p.below", null, "A letter marks a token that often follows firings of that sense.") : null,
    foldedElement("details", "More tokens, and the whole vocabulary", () => [
      rest.flat().length ? named(rest) : null,
      rest.flat().every(isNotable) ? null
        : h("p.below", null, "Grey: no larger than chance makes the largest of all tokens, and not common after it."),
      spread(logits, [bottom, top], feature.script),
      nLeftOut ? h("p.below", null, `Left out: parts of characters (${nLeftOut}), as its firings have none around.`)
        : null]),
  ];
}
