/* Compare two features: how often they fire on the same tokens, where both fire and where only one does, and their
 * rules, numbers, logits, tokens and activations on common scales. The address names them: #compare/12/476. */

import { numberColumns, titleInLine, valuesOf, writeValue } from "../data/columns.js";
import { columns, order } from "../data/features.js";
import { page } from "../data/files.js";
import { kindOf, verdictOf } from "../data/latents.js";
import { word } from "../data/vocabulary.js";
import { factsElement, h, rowHead, svg, the } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tipped } from "../elements/glossary.js";
import { featureLink, intervalElement, unsureElement, verdictElement } from "../elements/latents.js";
import { exampleList } from "../examples/example_list.js";
import { activationsIn, loadExamples, sequenceOf, tokenOf, valueOf } from "../examples/examples.js";
import { groupExamples } from "../examples/firings.js";
import { model } from "../model.js";
import { bestMatches } from "../selection/search.js";
import { labelOrCaption, labelOrCaptionText, labelOrShort, leadElement, titleOf } from "../text/captions.js";
import { ruleElement, tokensOfRule } from "../text/segments.js";
import { tokenElement } from "../text/tokens.js";
import { byJaccard, openFeature } from "./feature.js";
import { gauge, linear } from "./logits.js";

const { latents, ranked, has_text: hasText } = page;
const N_HITS = 6;
const N_EXAMPLES = 6;
const N_STRONGEST = 3; // before those on other tokens
const N_ALONE = 4;
const N_SHARED = 8; // tokens in both lists
const OFTEN = 0.02; // share of its firings from which on a feature fires often on a token

export const compare = {
  within: "features",
  titled: (named) => `Features ${(named ?? "").replace("/", " and ")}`,
  show,
};
let wanted;

const MOST = 0.8; // share of the tokens on which either fires
const NEARLY_ALL = 0.95;
const SOME = 0.1; // share of the tokens on which either fires, below which they overlap a little

/* Number of tokens expected by chance from which on a low count is a finding: with 3 expected, zero has a probability
 of 1 in 20 (e⁻³). */
const TELLING = 3;

const about = (n) => (n < 100 ? format.significant(n, 2) : format.count(Number(n.toPrecision(2))));
const isLatent = (text) => /^\d+$/.test(text ?? "") && Number(text) < latents;

/* The first latents that a text names, the best first: a number, or words of a rule, a label or tokens. */
const namedBy = (text) =>
  (isLatent(text.trim()) ? [Number(text)] : bestMatches(text, N_HITS).first);

/* The two features, as fields for a number or words; a list below a field shows what they find. more: further
 * features to compare with the first. */
function choice(named, more = []) {
  const fields = [0, 1].map((k) => {
    const value = isLatent(named[k]) ? named[k] : null;
    const asked = { type: "search", autocomplete: "off", placeholder: "number or words", value };
    const input = h("input", { ...asked, oninput: () => list(input.value), onkeydown });
    const hits = h("ul.hits", { hidden: true });
    const address = (latent) => `#compare/${named.map((text, at) => (at === k ? latent : text)).join("/")}`;
    function list(text) {
      const matching = namedBy(text);
      const hit = (latent) => h("li", null,
        h("a", { href: isLatent(named[1 - k]) ? address(latent) : `#compare/${latent}` }, String(latent)), " ",
        h("span.rule", null, labelOrCaption(latent)));
      hits.hidden = !text.trim();
      hits.replaceChildren(...(matching.length ? matching.map(hit) : [h("li.muted", null, "no feature matches")]));
    }
    function onkeydown(event) {
      const link = event.key === "ArrowDown" && hits.querySelector("a");
      if (!link) return;
      event.preventDefault();
      link.focus();
    }
    const isOutside = (event) => !event.currentTarget.contains(event.relatedTarget);
    const onfocusout = (event) => { hits.hidden ||= isOutside(event); };
    const name = k ? "with " : h("span.long", null, "Compare ");
    return h("div.field", { onfocusout }, h("label", null, name, input), hits);
  });
  const go = (event) => {
    event.preventDefault();
    const chosen = fields.map((one) => namedBy(the("input", one).value)[0]);
    if (chosen.every((latent) => latent !== undefined)) location.hash = `#compare/${chosen.join("/")}`;
  };
  const other = ([[latent, number], measure]) => h("span", null,
    h("a", { href: `#compare/${named[0]}/${latent}`, title: labelOrCaptionText(latent) }, String(latent)),
    h("small", null, ` ${measure} ${format.fixed(number)} `), h("span.rule", null, labelOrShort(latent)));
  return h("form.choice", { onsubmit: go }, h("a", { href: "#features" }, "All features"), fields,
    h("button", { type: "submit" }, "Compare"),
    named.length === 2 && named.every(isLatent) ? h("a", { href: `#compare/${named[1]}/${named[0]}` }, "Swap") : null,
    more.length
      ? h("span.others", null, h("span.muted", null, "or with "), more.map(other))
      : null);
}

/* The features that fire most with one and those nearest to it, but for the other that is shown, each with its number
 * and what that is. */
function near({ neighbours, coactivations }, other) {
  const first = (rows, measure) => rows.slice(0, 2).map((row) => [row, measure]);
  const all = [...first(byJaccard(coactivations), "Jaccard"), ...first(neighbours, "cosine")];
  const isFirst = ([[latent]], k) => all.findIndex(([[each]]) => each === latent) === k;
  return all.filter(isFirst).filter(([[latent]]) => latent !== other);
}

/* What the two have in common, from the page or the model's server (latent_pairs.py); null if neither knows. */
async function common([a, first], [b, second]) {
  const heldOf = ({ pairs }, with_) => (pairs ?? []).find(([other]) => other === with_)?.slice(1);
  const held = heldOf(first, b);
  if (held) return held;
  const swapped = heldOf(second, a);
  if (swapped) return [...swapped.slice(0, 3), swapped[4], swapped[3], swapped[5]];
  return model.common ? model.common(a, b) : null;
}

/* The description of one of the two. */
function head(side, latent, feature) {
  const probability = valuesOf("monosemanticity", latent);
  return h(`section.head.${side}`, { "aria-label": `Feature ${latent}` },
    h("div.name", null,
      h("h2", null, featureLink(latent, `Feature ${latent}`)),
      h("span", null, verdictElement(verdictOf(latent)), unsureElement(latent)),
      ranked ? intervalElement(...probability) : null),
    h("p.title", null, titleOf(latent)),
    leadElement(latent, feature));
}

/* A sentence on the tokens that both rules name; null where there are none. */
function inBothRules(a, b) {
  const [named, theirs] = [a, b].map((latent) => tokensOfRule(columns.rule[latent]));
  const isWhole = (pieces) => // and none of its parts is told after a list
    typeof pieces === "string" || pieces?.every((piece) => piece[0]);
  /** @type {Map<string, RuleToken>} */
  const both = new Map(named.map(([text, pieces]) => [text, isWhole(pieces) ? [text, pieces] : [text]]));
  const shared = [...both].filter(([text]) => theirs.some(([other]) => other === text)).map(([, token]) => token);
  return shared.length
    ? [" Both rules name ", ruleElement(shared.flatMap((token, k) => (k ? [", ", token] : [token]))), "."]
    : null;
}

const rowOf = (name, [a, first], [b, second]) =>
  first[name].find(([other]) => other === b) ?? second[name].find(([other]) => other === a);

const cosineOf = (known, pairs) => known?.[2] ?? rowOf("neighbours", ...pairs)?.[1] ?? null;

/* A value of a list of the nearest; of one that both lists lack, that it is below the last one listed. */
function listed(name, value, pairs) {
  if (value !== null) return format.fixed(value);
  const least = Math.min(...pairs.map(([, feature]) => feature[name].at(-1)?.[1] ?? Infinity));
  return least < Infinity ? `below ${format.fixed(Math.max(least, 0.01))}` : "–";
}

/* What the lists of their nearest tell of two features whose common tokens the page does not hold. */
function answerInPart(pairs) {
  const [[a, first], [b]] = pairs;
  const sentence = (text, ...more) => h("p.answer", null, h("b", null, text), more);
  const silent = pairs.filter(([, { facts }]) => !facts.n_active).map(([latent]) => latent);
  if (silent.length)
    return sentence(`Feature ${silent.join(" and ")} never fired`, ", so there is nothing to compare.");
  const [, jaccard = null, lift] = rowOf("coactivations", ...pairs) ?? [];
  const known = [
    lift === undefined ? null : `they fire together ${about(lift)} times as often as by chance`,
    first.neighbours.length ? `their decoder cosine is ${listed("neighbours", cosineOf(null, pairs), pairs)}` : null,
    pairs.some(([, { coactivations }]) => coactivations.length)
      ? `their Jaccard is ${listed("coactivations", jaccard, pairs)}` : null,
  ].filter(Boolean).join(", and ");
  const extent = jaccard === null
    ? `No overlap of features ${a} and ${b} is known` : `Features ${a} and ${b} ${extentOf(jaccard)}`;
  return sentence(extent, known ? `: ${known}` : null, ".", inBothRules(a, b), onOwn(pairs));
}

const extentOf = (jaccard) =>
  (jaccard >= MOST ? "are nearly the same" : jaccard >= SOME ? "overlap" : "overlap a little");

/* Whether they are the same, overlap or differ, by the number of tokens on which both fire, compared with chance.
 * "More than chance" means at least three standard deviations of a Poisson count, and three tokens. */
function answer(pairs, known) {
  const [[a, first], [b, second]] = pairs;
  const [n, m] = [first.facts.n_active, second.facts.n_active];
  if (!known || !n || !m) return answerInPart(pairs);
  const [both] = known;
  const expected = (n * m) / page.tokens;
  const jaccard = both / (n + m - both);
  const isMore = both - expected > 3 * Math.sqrt(Math.max(expected, 1));
  const isInformative = isMore || expected >= TELLING;
  const [more, less] = n >= m ? [a, b] : [b, a];
  const isWithin = both / Math.min(n, m) >= NEARLY_ALL;
  const extent = isMore
    ? (isWithin && jaccard < MOST
      ? `Feature ${more} fires on nearly all tokens of ${less}, and on others`
      : `Features ${a} and ${b} ${extentOf(jaccard)}`)
    : `Features ${a} and ${b} ${isInformative ? "are different" : "fire too rarely to be compared by where they fire"}`;
  const counted = both
    ? `both fire on ${format.count(both)} ${both === 1 ? "token" : "tokens"}`
    : "they never fire on the same token";
  const chance = isInformative
    ? ` (${about(expected)} by chance)`
    : `, where chance gives ${about(expected)}, so ${format.count(both)} means nothing`;
  const share = isMore
    ? `, ${format.percent(both / n)} of those of ${a} and ${format.percent(both / m)} of those of ${b}`
    : "";
  return h("p.answer", null, h("b", null, extent), format.unbroken(`: ${counted}${chance}${share}.`),
    inBothRules(a, b), onOwn(pairs));
}

/* What differs, in a line: the kinds of text in which each fires, or else the tokens on which one of the two fires
 * often, and which are none of those listed of the other. */
function onOwn(pairs) {
  const [[a], [b]] = pairs;
  const [kind, other] = [kindOf(a), kindOf(b)];
  if (kind !== null && other !== null && kind !== other) {
    return ` ${a} fires mostly in ${format.words(kind)}, and ${b} in ${format.words(other)}.`;
  }
  const lists = pairs.map(([, feature]) => firedOn(feature));
  return pairs.map(([latent, feature], k) => {
    const isOwn = ([token, share]) => share >= OFTEN && !lists[1 - k].some(([each]) => each === token);
    const tokens = lists[k].filter(isOwn).slice(0, N_ALONE)
      .map(([token]) => [" ", tokenElement(word(token), feature.script)]);
    return tokens.length ? [` ${latent} fires more often on`, tokens, "."] : null;
  });
}

/* The tokens of each and of both on one scale, and how similar the two are; nothing where that is not known. */
function overlap([a, first], [b, second], known) {
  if (!known) return null;
  const [n, m] = [first.facts.n_active, second.facts.n_active];
  const [both, correlation] = known;
  const cosine = cosineOf(known, [[a, first], [b, second]]);
  const facts = [
    ["decoder cosine", cosine === null ? "–" : format.fixed(cosine)],
    ["Jaccard", n + m ? format.significant(both / (n + m - both), 2) : "–"],
    ["correlation of activations", correlation === null ? "–" : format.fixed(Number(correlation.toFixed(2)) || 0)],
  ];
  const parts = [["a", n - both, `only ${a}`], ["both", both, "both"], ["b", m - both, `only ${b}`]]
    .filter(([, count]) => count);
  return h("section.overlap", { "aria-label": "How often they fire together" },
    h("div.headed", null, h("h3", null, "Tokens on which they fire"), factsElement(facts)),
    h("div.venn", null,
      h("div", { "aria-hidden": "true" }, parts.map(([kind, count, text]) =>
        h(`i.${kind}`, { "--n": count, title: text }))),
      parts.map(([kind, count, text]) => h(`span.${kind}`, null, h("b", null, format.count(count)), ` ${text}`))));
}

/* The stored examples of the two, divided by whether the other fires there too, and those where both do.
 *
 * These are of the one (`of`) with more such examples stored, or the lower one (latent_pairs.py), whose activations the
 * page holds on all their tokens; those of the other where it fires with it (`others`, by row), and in sequences of its
 * own examples. isByA: whether the one is the first. */
function dividedExamples([[a, first], [b, second]], known) {
  const splitByOther = (feature, at) => {
    const places = new Set(at);
    return [true, false].map((isThere) => feature.examples.filter((_, k) => places.has(k) === isThere));
  };
  const [[bothA, onlyA], [bothB, onlyB]] = [splitByOther(first, known[3]), splitByOther(second, known[4])];
  const isByA = bothA.length > bothB.length || (bothA.length === bothB.length && a < b);
  const [both, latent, feature, at] = isByA ? [bothA, a, first, known[3]] : [bothB, b, second, known[4]];
  const others = new Map(at.map((place, k) => [feature.examples[place][1], known[5][k]]));
  return { onlyA, onlyB, both, latent, feature, others, isByA };
}

/* The same as lists; if it is not known where the other fires, each one's own. */
function exampleLists([[a, first], [b, second]], divided) {
  const list = (some, latent, feature, beside) => {
    const { top, same, others, further, alike } = groupExamples(some, N_STRONGEST);
    const senses = beside ? [] : feature.senses ?? []; // whose letters would stand where the other's activation does
    const isStored = (one) => Number(beside?.isStored(one) ?? true);
    const remarkOn = (one) => (isStored(one) ? null : "◦");
    const how = { few: N_EXAMPLES, how: "line", beside, senses, remarkOn, alikeOf: (one) => alike.get(one) };
    const all = [...top, ...others, ...same, ...further].sort((one, other) => isStored(other) - isStored(one));
    /* Where both fire, by the weaker of the two, as shares of their maxima. */
    const strength = (one) => (beside
      ? Math.min(valueOf(one) / feature.facts.max, beside.valueOf(one) / beside.most)
      : valueOf(one));
    const shown = all.splice(0, N_EXAMPLES)
      .sort((one, other) => isStored(other) - isStored(one) || strength(other) - strength(one));
    return some.length
      ? exampleList(latent, feature, [...shown, ...all], how)
      : h("p.missing", null, "None of the examples stored.");
  };
  const varies = h("p.muted", null, `the ${N_STRONGEST} strongest, then the strongest on other tokens`);
  const column = (kind, title, ...rest) => h(`section.${kind}`, null, h("h3", null, title), rest);
  if (!divided) {
    return h("div.where", null,
      column("a", `Firings of ${a}`, varies, list(first.examples, a, first)),
      column("b", `Firings of ${b}`, varies.cloneNode(true), list(second.examples, b, second)));
  }
  const { onlyA, onlyB, both, latent, feature, others, isByA } = divided;
  const of = (some, all) => `${format.count(some.length)} of the ${format.count(all.length)} examples stored`;
  /* Where one fires and the other does not: a column, or a line if there are no examples of it. */
  const alone = (kind, some, [x, its], y) => (some.length
    ? column(kind, `${x} fires, ${y} does not`, h("p.muted", null, of(some, its.examples)), list(some, x, its))
    : h("p.muted", null, its.examples.length
      ? `Feature ${y} fires in each of the ${format.count(its.examples.length)} examples of ${x}.`
      : `No example of feature ${x} is stored.`));
  const [name, other] = isByA ? [b, second] : [a, first];
  const stored = new Set(other.examples.map(sequenceOf)); // of whose activations the page holds all
  const beside = {
    isFirst: !isByA, name, most: other.facts.max, valueOf: ([, row]) => others.get(row),
    isStored: (one) => stored.has(sequenceOf(one)),
    activationsOf: (one) => activationsIn(one, other.examples, others.get(one[1])),
  };
  const ofBoth = () => column(isByA ? "both" : "both.by-b", "Both fire",
    h("p.muted", null, `${of(both, feature.examples)} of ${latent}. Underlined: `, tipped("where each fires",
      `The page holds the activations of ${name} only in sequences of its own examples; ◦ marks others.`)),
    h("p.scores", { "aria-hidden": "true" }, h("b.a", null, String(a)), h("b.b", null, String(b))),
    list(both, latent, feature, beside));
  return h("div.where", null,
    both.length ? null : h("p.muted", null, "Both fire in none of the examples stored."),
    alone("a", onlyA, [a, first], b),
    both.length ? ofBoth() : null,
    alone("b", onlyB, [b, second], a));
}

/* The activations of the two where both fire. */
function agreement(pairs, { both, others, isByA }, n) {
  if (!both.length) return null;
  const points = both.map((one) => {
    const two = [valueOf(one), others.get(one[1])];
    return { of: isByA ? two : two.toReversed(), token: hasText ? word(tokenOf(one)) : null };
  });
  const stored = `the ${format.count(both.length)} of ${format.count(n)} stored`;
  return h("section", null, h("h3", null, "Activations where both fire ", h("small", null, stored)),
    agreementPicture(pairs, points));
}

/* Points, `of` the first and of the second, on scales from 0 to the largest of each. A tip tells both and the token. */
function agreementPicture(pairs, points) {
  const [W, H, left, base, top, right] = [400, 250, 54, 216, 6, 8];
  const [across, up] = pairs.map(([, { facts }]) => facts.max || 1);
  const x = (v) => left + (v / across) * (W - left - right);
  const y = (v) => base - (v / up) * (base - top);
  const text = (at, words) => svg("text", at, words);
  const tipOf = ({ of, token }) => pairs.map(([latent], k) => `${latent}: ${format.significant(of[k])}`).join(", ")
    + (token === null ? "" : `, on “${token}”`);
  const point = (one) => svg("circle", { cx: x(one.of[0]).toFixed(1), cy: y(one.of[1]).toFixed(1), r: 3,
    "data-tip": tipOf(one) });
  return h("div.histogram.agreement", null,
    svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Activations where both fire" },
      svg("path", { class: "axis", d: `M${left} ${top}V${base}H${W - right}`, fill: "none" }),
      points.map(point),
      text({ x: left - 5, y: top + 9, "text-anchor": "end" }, format.significant(up, 2)),
      text({ x: left - 5, y: base, "text-anchor": "end" }, "0"),
      text({ x: W - right, y: base + 14, "text-anchor": "end" }, format.significant(across, 2)),
      text({ x: (left + W) / 2, y: H - 4, "text-anchor": "middle" }, `activation of ${pairs[0][0]}`),
      text({ transform: `translate(9 ${(top + base) / 2}) rotate(-90)`, "text-anchor": "middle" },
        `of ${pairs[1][0]}`)));
}

/* The numbers of both side by side, each on a scale of its own: probabilities and F1 up to 1, others up to the larger
 * one, and effects, which have a sign, around 0. Those whose 95 % intervals lie apart are marked. */
function numberTable(names) {
  const isKnown = (x) => x !== null;
  const line = (/** @type {Column} */ column) => {
    const [both, low, high] = [0, 1, 2].map((k) => names.map((latent) => valuesOf(column.name, latent)[k]));
    if (!both.some(isKnown)) return null;
    const isSigned = column.scale === "signed";
    const most = column.scale === "share" ? 1 : Math.max(...both, 1e-12);
    const scale = linear([...both, ...low, ...high]);
    const drawn = (x, k) => (!isSigned ? h("i")
      : isKnown(x) ? gauge([x, low[k], high[k]], [null, null, null], scale, false, column.unit) : null);
    const isApart = [...low, ...high].every(isKnown) && (low[0] > high[1] || low[1] > high[0]);
    const cells = both.map((x, k) => h(`td.${"ab"[k]}`, { "--share": isSigned ? null : (x ?? 0) / most },
      h("div", null, h("small", null, writeValue(column, x)), drawn(x, k))));
    const title = isSigned ? `${titleInLine(column)}, ${column.unit}` : titleInLine(column);
    const named = rowHead(title, isApart ? h("small", null, " differs") : null);
    return h(isApart ? "tr.differs" : "tr", null, cells[0], named, cells[1]);
  };
  const heads = names.map((name, k) => h("th", { scope: "col", class: "ab"[k] }, String(name)));
  const compared = numberColumns.filter(({ is_compared: isCompared }) => isCompared);
  const rows = compared.map(line).filter((row) => row !== null);
  return h("section", null,
    h("table.mirror.numbers", null,
      h("caption", null, h("h3", null, "Numbers")),
      h("thead", null, h("tr", null, heads[0], h("td"), heads[1])),
      h("tbody", null, rows)),
    rows.some((row) => row.matches(".differs")) ? h("p.below", null, "differs: the 95 % intervals lie apart") : null,
    rows.some((row) => row.querySelector(".gauge"))
      ? h("p.below", null, "of an effect the tick is 0, and the line is its 95 % interval") : null);
}

/* Values of both by token, side by side on one scale; tokens that both lists have come first. A list holds the
 * largest values of one; the values that it lacks are 0 if it is whole, and else not known. */
function tokenTable(names, title, rows, scripts, write, areWhole) {
  const [one, two] = rows.map((list) => new Map(list));
  const tokens = [...new Set([...one.keys(), ...two.keys()])];
  const size = (token) => Math.max(Math.abs(one.get(token) ?? 0), Math.abs(two.get(token) ?? 0));
  const most = Math.max(...tokens.map(size), 1e-12);
  const cell = (kind, list, isWhole, token) => {
    const value = list.get(token);
    const share = Math.abs(value ?? 0) / most;
    return h(`td.${kind}`, { "--share": share }, h("div", null, value === undefined
      ? h("small.muted", null, isWhole || !list.size ? "0" : null)
      : [h("small", null, write(value)), h("i")]));
  };
  const line = (token) => h("tr", null,
    cell("a", one, areWhole[0], token),
    rowHead(tokenElement(word(token), scripts[one.has(token) ? 0 : 1])),
    cell("b", two, areWhole[1], token));
  const shared = tokens.filter((token) => one.has(token) && two.has(token)).sort((x, y) => size(y) - size(x));
  const alone = rows.map((list, k) => list.map(([token]) => token).filter((token) => ![two, one][k].has(token)));
  const groups = [shared.slice(0, N_SHARED), ...alone.map((list) => list.slice(0, N_ALONE))];
  const heads = names.map((name, k) => h("th", { scope: "col", class: "ab"[k] }, String(name)));
  return h("section", null,
    h("table.mirror", null,
      h("caption", null, h("h3", null, title)),
      h("thead", null, h("tr", null, heads[0], h("td"), heads[1])),
      groups.map((group) => h("tbody", null, group.map(line)))),
    h("p.below", null, `${shared.length ? format.count(shared.length) : "none"} in both lists, `,
      `of ${format.count(one.size)}${one.size === two.size ? "" : ` and ${format.count(two.size)}`}`,
      areWhole.every(Boolean) ? null : "; no number: not listed"));
}

const firedOn = ({ tokens, facts }) =>
  tokens.filter(([offset]) => offset === 0).map(([, token, n]) => [token, n / facts.n_active]);

/* Both histograms of activations on one scale: the share of a feature's firings in a tenth of a decade. */
function histograms(pairs) {
  const W = 400, H = 170, base = 140, left = 54, right = 8, top = 8;
  const shown = pairs.map(([, { histogram }]) => histogram).filter(({ counts }) => counts.length);
  if (!shown.length) return null;
  const low = Math.log(Math.min(...shown.map(({ edges }) => edges[0])));
  const high = Math.log(Math.max(...shown.map(({ edges }) => edges.at(-1))));
  const x = (v) => left + ((Math.log(v) - low) / (high - low || 1)) * (W - left - right);
  const heights = ({ edges, counts }) => {
    const all = counts.reduce((sum, n) => sum + n, 0);
    return counts.map((n, k) => n / all / (10 * Math.log10(edges[k + 1] / edges[k])));
  };
  const most = Math.max(...shown.flatMap(heights));
  const outline = ([, { histogram }], k) => {
    const { edges } = histogram;
    const steps = heights(histogram).map((share, bin) => {
      const y = (base - (share / most) * (base - top)).toFixed(1);
      return `L${x(edges[bin]).toFixed(1)},${y}L${x(edges[bin + 1]).toFixed(1)},${y}`;
    });
    const [first, last] = [edges[0] ?? 1, edges.at(-1) ?? 1].map((v) => x(v).toFixed(1));
    return svg("path", { class: "ab"[k], d: `M${first},${base}${steps.join("")}L${last},${base}Z` });
  };
  const round = Array.from({ length: 40 }, (_, k) => [1, 2, 5].map((digit) => digit * 10 ** (k - 20))).flat();
  const inside = round.filter((v) => Math.log(v) > low && Math.log(v) < high);
  const ticks = inside.filter((v) => inside.length < 7 || /^[1.0e+-]+$/.test(String(Number(v.toPrecision(1)))));
  const tick = (v) => svg("text", { x: x(v), y: base + 14, "text-anchor": "middle" }, format.significant(v, 1));
  return h("section", null, h("h3", null, "Activations"),
    h("div.histogram.two", null,
      svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Histograms of activations" },
        pairs.map(outline),
        svg("line", { class: "axis", x1: left, x2: W - right, y1: base, y2: base }),
        ticks.map(tick),
        svg("text", { transform: `translate(9 ${(top + base) / 2}) rotate(-90)`, "text-anchor": "middle" },
          "density of firings"),
        svg("text", { x: (left + W) / 2, y: H - 2, "text-anchor": "middle" }, "activation (log scale)"))),
    h("p.below", null, pairs.map(([latent], k) => h(`span.key.${"ab"[k]}`, null, String(latent))),
      "shares of its own firings"));
}

function contents(pairs, known) {
  const [[a, first], [b, second]] = pairs;
  const raisedBy = ({ logits }) => logits?.top ?? [];
  const divided = known && dividedExamples(pairs, known);
  const activations = [histograms(pairs), divided && agreement(pairs, divided, known[0])];
  const beside = [h("div", null, activations), numberTable([a, b])];
  const scripts = [first.script ?? second.script, second.script ?? first.script];
  if (hasText) {
    const titled = (title, unit) => [title, h("small", null, ` ${unit}`)];
    beside.unshift(
      tokenTable([a, b], titled("Fires on", "share of its firings"), [firedOn(first), firedOn(second)], scripts,
        format.percent, [first, second].map((one) => firedOn(one).length >= one.facts.n_tokens)),
      tokenTable([a, b], titled("Raises", "logits at an activation of 1"), [raisedBy(first), raisedBy(second)],
        scripts, format.fixed, [false, false]));
  }
  return [
    answer(pairs, known),
    h("div.heads", null, head("a", a, first), head("b", b, second)),
    overlap(...pairs, known),
    exampleLists(pairs, divided),
    h("div.beside", null, beside),
  ];
}

async function show(section, argument) {
  const [[first] = [order[0]]] = page.worth_showing[0] ?? []; // where none is named
  const named = (argument ?? String(first)).split("/");
  wanted = argument;
  delete section.dataset.latent;
  if (named.length === 1 && isLatent(named[0])) {
    const { neighbours, coactivations } = await openFeature(Number(named[0]));
    const [nearest] = [...byJaccard(coactivations), ...neighbours];
    if (wanted !== argument) return;
    if (nearest) return location.replace(`#compare/${named[0]}/${nearest[0]}`);
  }
  const isOne = named.length === 2 && Number(named[0]) === Number(named[1]);
  if (isOne || !(named.length === 2 && named.every(isLatent))) {
    const wrong = named.find((text) => text && !isLatent(text));
    const missing = `There is no feature ${wrong}: features run from 0 to ${latents - 1}.`;
    const asked = `Name two ${isOne ? "different " : ""}features.`;
    section.replaceChildren(choice(named), h("p.missing", null, wrong ? missing : asked));
    return;
  }
  const both = named.map(Number);
  const features = await Promise.all(both.map(openFeature));
  const pairs = both.map((latent, k) => [latent, features[k]]);
  const known = await common(...pairs);
  await loadExamples(features.flatMap((feature) => feature.examples));
  if (wanted !== argument) return;
  section.replaceChildren(choice(named, near(features[0], both[1])),
    ...contents(pairs, known).filter(Boolean));
  section.dataset.latent = named[0];
}
