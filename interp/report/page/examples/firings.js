/* Where a feature fires: a histogram of its activations, and beside it tabs of examples, one tab per sense. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { word } from "../data/vocabulary.js";
import { h, nothing } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { term, tipped } from "../elements/glossary.js";
import { drawHistogram } from "../elements/histogram.js";
import { senseMark } from "../elements/latents.js";
import { copyButtons } from "./copies.js";
import { exampleList, widthButtons, widthChosen } from "./example_list.js";
import { byStrength, isClose, passageOf, senseOf, storedExamples, tokenOf, valueOf } from "./examples.js";
import { model } from "../model.js";
import { hasParts } from "../text/bytes.js";
import { JOINED, drawSegments, ruleElement, ruleOfSense, textOfRule } from "../text/segments.js";
import { tokenElement } from "../text/tokens.js";

/* As many as fill the height of a window below the histogram, so that one scrolls the page alone at first. */
const IS_WIDE = matchMedia("(min-width: 1021px)").matches;
const N_FIRST = IS_WIDE ? Math.max(10, Math.floor((innerHeight - 260) / 28)) : 15;
const N_OF_INTERVAL = 5;
const N_TOP = 8; // the strongest firings
const N_OF_TOKEN = 3; // of each token, at first
const COMMON = 0.1; // share of the firings from which on those on a token are listed apart
const NEARLY_ALL = 0.995;
const N_BARS = 12; // tokens that have a bar
const N_ROWS = 6; // of them in one column
const RARE = 0.01; // share of the firings below which a token has none
const EVEN = 0.1; // share of the commonest below which the bars are left out, as they tell no token from another
const N_OF_SENSE = 5; // firings of each sense at first
const N_TITLED = 3; // tokens named above a list at most
const N_WEAKEST = 2; // of its weakest, below
const N_PASSAGES = 6; // instead, in each list, where each takes several lines
const COUNTED = "Firings are counted to a sense by their tokens alone; those on tokens that tell none are of no one "
  + "sense. The activation is divided among the senses by grouping sampled firings, whatever their tokens.";
const FIRST_SENSE = 2; // the place of its tab, behind those of all firings

/* Examples as they are listed, the strongest first in each part: { top, same, groups, others, further, alike }.
 *
 * Of firings on the same token after the same tokens, and of those close to each other in one text, only the
 * strongest is listed; alike: it → the others. `top`
 * are the strongest, `same` the rest on their tokens. groups: [token, examples], …, the rest on each of `tokens` on
 * which few of `top` are, the strongest group first. others: a few on each further token; further: what is left of
 * these.
 * Without text all are in `top`. Where the text of one is not loaded, it is alone. */
export function groupExamples(examples, nTop = N_TOP, tokens = []) {
  const alike = new Map();
  const passages = new Map();
  for (const one of storedExamples({ examples })) {
    const key = passageOf(one) ?? one;
    const like = passages.get(key) ?? [...alike.keys()].find((other) => isClose(one, other));
    if (like) alike.get(like).push(one);
    else alike.set(one, []);
    if (!passages.has(key)) passages.set(key, like ?? one);
  }
  const all = [...alike.keys()];
  const top = page.has_text ? all.slice(0, nTop) : all;
  const ofTop = Map.groupBy(top, tokenOf);
  const rest = Map.groupBy(all.slice(top.length), tokenOf);
  const take = (token) => {
    const onToken = rest.get(token) ?? [];
    rest.delete(token);
    return onToken;
  };
  const groups = tokens.filter((token) => (ofTop.get(token)?.length ?? 0) < N_OF_TOKEN)
    .map((token) => [token, take(token)]).filter(([, some]) => some.length)
    .sort(([, [a]], [, [b]]) => byStrength(a, b));
  const same = [...ofTop.keys()].flatMap(take).sort(byStrength);
  const left = [...rest.values()];
  const others = left.flatMap((some) => some.slice(0, N_OF_TOKEN)).sort(byStrength);
  const further = left.flatMap((some) => some.slice(N_OF_TOKEN)).sort(byStrength);
  return { top, same, groups, others, further, alike };
}

/* How many firings are folded into others, in a line; null for none. */
function foldedInWords(alike) {
  const hidden = [...alike.values()].reduce((sum, rest) => sum + rest.length, 0);
  const all = format.count(alike.size + hidden);
  return hidden ? h("p.order", null, `${format.count(hidden)} of ${all} are folded, alike to one shown.`) : null;
}

const ofFirings = (share) => `${format.percent(share)} of its firings`;

const marked = (latent, feature, examples, few) =>
  exampleList(latent, feature, examples, { few, senses: feature.senses ?? [] });

/* The strongest first: those of each sense, if there are several, or else by token. */
function strongest(latent, feature) {
  const atFirst = (n) => (widthChosen() === "line" ? n : Math.min(n, N_PASSAGES));
  return (feature.senses ?? []).length ? bySense(latent, feature, atFirst) : byToken(latent, feature, atFirst);
}

/* The strongest firings and the weakest ones of each sense, in their order, then those of none. */
function bySense(latent, feature, atFirst) {
  return h("div", null, [...feature.senses.keys(), -1].map((k) => ofSense(latent, feature, k, atFirst(N_OF_SENSE))));
}

/* Those of one sense, or of none for k = −1; null where none is stored. few: firings shown at first. */
function ofSense(latent, feature, k, few) {
  const { senses } = feature;
  const known = [...feature.examples, ...(senses[k]?.examples ?? [])];
  const { alike } = groupExamples(known.filter((one) => senseOf(one, senses) === k));
  if (!alike.size) return null;
  const strong = [...alike.keys()];
  const weak = k < 0 || strong.length < few + N_WEAKEST ? [] : strong.splice(-N_WEAKEST);
  const listOf = (some) => exampleList(latent, feature, some, { few, alikeOf: (one) => alike.get(one) });
  const listed = listOf(strong);
  return h("div", { "data-sense": k < 0 ? null : String(k) },
    headed(k < 0
      ? [tipped("Of no sense", countedOfNone(feature)), " ", h("small", null, shareOfNone(feature))]
      : describedSense(senses[k], k), listed),
    weak.length ? [h("p.weakest", null, "its weakest"), listOf(weak)] : null);
}

/* The strongest firings, then those on each other common token, then a few on each of the rest. */
function byToken(latent, feature, atFirst) {
  const shares = sharesOf(feature);
  const common = [...shares.keys()].filter((token) => shares.get(token) >= COMMON);
  const { top, same, groups, others, further, alike } = groupExamples(feature.examples, N_TOP, common);
  const alikeOf = (one) => alike.get(one);
  const listed = (examples, few) => exampleList(latent, feature, examples, { few: atFirst(few), alikeOf });
  const first = [...top, ...same];
  if (!groups.length && !others.length) {
    const all = listed(first, N_FIRST);
    return h("div", null, page.has_text ? headed(titleOfAll(latent, first, shares, feature), all) : all,
      foldedInWords(alike));
  }
  /* The list of other tokens grows to fill its column, and the rest only once it is whole (feature.js). */
  const fixed = (element) => {
    element.dataset.few = "";
    return element;
  };
  const ofToken = (some) =>
    headed(titleOfAll(latent, some, shares, feature), fixed(listed(some, N_OF_TOKEN)));
  const rest = 1 - shareOf([first, ...groups.map(([, some]) => some)].flat(), shares); // one token may be in both
  const onOthers = () => headed(["On its other tokens ",
    h("small", null, `${rest > NEARLY_ALL ? "nearly all" : format.percent(Math.max(rest, 0))} of its firings, `,
      `the ${N_OF_TOKEN} strongest on each first`)],
  listed([...others, ...further], Math.min(Math.max(room, N_OF_TOKEN), others.length)));
  const room = atFirst(N_FIRST) - top.length - N_OF_TOKEN * groups.length; // the column is filled later (feature.js)
  return h("div", null,
    headed(titleOfAll(latent, first, shares, feature), fixed(listed(first, top.length))),
    groups.map(([, some]) => ofToken(some)),
    others.length ? onOthers() : null,
    foldedInWords(alike));
}

/* The tokens on which some examples fire, or how many these are, and their share of all firings; of a few, which may
 * have nothing else in common, each with its own. They are in the order of the title: where that lists tokens the
 * commonest first, else the strongest. */
function titleOfAll(latent, examples, shares, feature) {
  const tokens = [...new Set(examples.map(tokenOf))];
  const isList = typeof columns.rule[latent]?.[0] !== "string";
  if (isList) tokens.sort((a, b) => (shares.get(b) ?? 0) - (shares.get(a) ?? 0));
  const shareInWords = (token) =>
    (tokens.length > 1 && shares.has(token) ? h("small", null, ` ${format.notable(shares.get(token))}`) : null);
  const named = tokens.length > N_TITLED ? h("small", null, `on ${tokens.length} tokens`)
    : tokens.map((one, k) => [k ? h("small", null, ", ") : null, firingToken(one, feature), shareInWords(one)]);
  const share = shareOf(examples, shares);
  const about = tokens.every((token) => shares.has(token)) ? "" : "about ";
  const least = Math.min(...shares.values()); // of a token that is known: those of the others are not larger
  return [tokens.length > 1 ? "The strongest " : null, named,
    h("small", null, tokens.length > 1 ? ", " : " ",
      share ? `${tokens.length > 1 ? "in all " : ""}${about}${ofFirings(share)}`
        : `at most ${ofFirings(least)}${tokens.length > 1 ? " each" : ""}`)];
}

/* The share of all firings that are on the tokens of some examples, without those that are too rare to be known. */
const shareOf = (examples, shares) =>
  [...new Set(examples.map(tokenOf))].reduce((sum, token) => sum + (shares.get(token) ?? 0), 0);

/* The share of the activation that is of no sense; where it is not known, that of the firings on other tokens. */
function shareOfNone(feature) {
  const rest = 1 - sumOf(feature.senses.map(({ share }) => share ?? NaN));
  return rest >= 0 ? `${format.percent(rest)} of its activation`
    : feature.sense_counts ? ofFirings(firingsOfNone(feature)) : null;
}
const countedOfNone = (feature) => (feature.sense_counts
  ? `${ofFirings(firingsOfNone(feature))} are on tokens that tell no sense. ${COUNTED}` : COUNTED);
const firingsOfNone = ({ sense_counts: counts, facts }) =>
  Math.max(1 - sumOf(counts.flat()) / facts.n_active, 0);
const sumOf = (counts) => counts.reduce((sum, n) => sum + n, 0);

/* A list of examples below its title, at the end of which stands the button that shows the rest. */
const headed = (title, listed) =>
  h("div", null, h("h3.headed", null, h("span", null, title), ...listed.querySelectorAll(".more")), listed);

/* A token on which it fires. */
const firingToken = (token, feature) => tokenElement(word(token), feature.script);

/* The tokens on which it fires most, each with its share of the firings, the commonest first. */
const sharesOf = ({ tokens, facts }) =>
  new Map(tokens.filter(([offset]) => offset === 0).map(([, token, n]) => [token, n / facts.n_active]));

/* A fair sample of each slice of its range, the strongest slice first. */
function intervals(latent, feature) {
  const slice = ([low, high, n], place) => {
    const sample = feature.examples.filter(([kind]) => kind === place).sort(byStrength);
    const range = `${format.significant(low)} to ${format.significant(high)} `;
    const count = `${format.count(n)} ${n === 1 ? "firing" : "firings"}`;
    const title = [range, h("small", null, count)];
    return sample.length ? headed(title, marked(latent, feature, sample, N_OF_INTERVAL))
      : [h("h3", null, title), nothing("No firings in this slice.")];
  };
  return feature.intervals.map(slice).reverse();
}

/* The histogram of its activations, coloured by sense if it has several. onrange: called with the chosen range. */
function activations(feature, onrange) {
  const { histogram: { edges, counts }, sense_counts: parts } = feature;
  const round = [];
  for (let k = -12; k < 12; k++) for (const digit of [1, 2, 5]) round.push(Number(`${digit}e${k}`));
  const inside = round.filter((v) => v > edges[0] && v < edges.at(-1));
  return drawHistogram({
    title: "Histogram of activations",
    edges,
    counts,
    parts: parts ?? [],
    scale: "log",
    ticks: inside.length > 1 ? inside : [edges[0], edges.at(-1)],
    height: IS_WIDE ? 122 : 80,
    axis: parts
      ? "activation (log scale); grey: tells no sense"
      : "activation (log scale): drag to choose",
    unit: "firings",
    onrange,
  });
}

/* The firings shown of a sense, each part from the strongest; elsewhere: those on other tokens than it is told by. */
function partsOf({ examples, named, n_weak: nWeak }) {
  const isElsewhere = (example) => named && !named.includes(tokenOf(example));
  const onItsTokens = examples.filter((example) => !isElsewhere(example)).sort(byStrength);
  const cut = Math.max(onItsTokens.length - nWeak, 0);
  return {
    strongest: onItsTokens.slice(0, cut),
    weakest: onItsTokens.slice(cut),
    elsewhere: examples.filter(isElsewhere).sort(byStrength),
  };
}

/* The facts about one sense, and its firings: those on other tokens than the ones it is told by are set apart. */
function sense(latent, feature, one) {
  const listed = (title, some) => (some.length ? headed(title, exampleList(latent, feature, some)) : null);
  const { strongest: strong, weakest, elsewhere } = partsOf(one);
  const isSame = textOfRule(one.common.flat()) === textOfRule(one.rule);
  const common = one.common.flatMap((each, k) => [k ? "; " : null, ruleElement(each)]);
  return [
    h("p.rule", null, !one.rule.length ? h("span.muted", null, "No rule was found.")
      : one.f1 !== null && one.f1 < page.min_f1
        ? h("span.weak", null, "No reliable rule was found; the nearest is ", ruleElement(one.rule))
        : ruleElement(one.rule, { isButton: true })),
    common.length && !isSame ? h("p.rule", null, h("span.muted", null, "its firings share: "), common) : null,
    numbersOf(one, feature.senses),
    followedBy(one, feature),
    listed("Its strongest", strong),
    listed("Its weakest", weakest),
    listed("Counted to it, though on other tokens", elsewhere),
  ];
}

/* What follows its firings; the tokens that the feature raises most stand out. */
function followedBy({ following, promoted }, feature) {
  if (!following.length) return null;
  const raised = new Set((feature.logits?.top ?? []).map(([token]) => token));
  const item = (token) => [h(raised.has(token) ? "b" : "span", null, firingToken(token, feature)), " "];
  return h("p.following", null, h("span.muted", null, "followed by "), following.map(item),
    promoted === null ? null
      : h("span.muted", null, ` ${format.percent(promoted)} of the time by one of its positive logits`));
}

/* The figures of one sense, each with its name below. */
function numbersOf({ share, n, f1, precision, recall, monosemanticity, by_chance: byChance }, senses) {
  const sampled = senses.reduce((sum, one) => sum + (one.n ?? 0), 0);
  const halves = precision === null ? "" : `precision ${format.fixed(precision)}, recall ${format.fixed(recall)}`;
  const chance = byChance === null ? ""
    : byChance ? `a null reaches it in ${format.percent(byChance)}` : "a null never reaches it";
  const figures = [
    [share, share === null ? "" : format.percent(share), "of its activation", ""],
    [n, format.count(n), "firings", `of ${format.count(sampled)} sampled`],
    [f1, format.fixed(f1), "F1 of its rule", halves],
    [monosemanticity, format.fixed(monosemanticity), "one meaning", chance],
  ];
  const tips = {
    firings: "Its sampled firings. Firings are sampled evenly over the strengths of the feature, and each stands for "
      + "the share of the activation at its strength.",
    "one meaning": "The probability that the firings of this sense alone have one meaning, and how often a sense of "
      + "shifted text reaches it.",
  };
  return h("dl.figures", null, figures.filter(([known]) => known !== null && known !== undefined)
    .map(([, value, name, more]) => h("div", null,
      h("dt", null, tips[name] ? tipped(name, tips[name]) : name),
      h("dd", null, h("b", null, value), more ? h("small", null, more) : null))));
}

/** The letter of a sense, what describes it in few letters, and its share.
 * @type {(one: Sense, k: number) => Child[]} */
function titleOf(one, k) {
  const title = textOfRule(ruleOfSense(one));
  const tip = { "data-tip": "of its activation" };
  return [senseMark(k), JOINED,
    title ? h("span.named", { title }, h("bdi.quoting", null, drawSegments(one.short))) : null,
    one.share === null ? null : h("span", tip, ` ${format.percent(one.share)}`)];
}

/* The letter of a sense and what describes it; its share and its F1 stand in the title, or in its tab. */
function describedSense(one, k) {
  const described = ruleOfSense(one);
  return [senseMark(k), JOINED, described.length ? ruleElement(described) : "no rule"];
}

/* The tokens on which it fires most, each with its share of the firings; a press leaves the examples on it.
 *
 * onchoose: told the token, null to let go of it. The element's `show` marks the chosen one. */
function tokenBars(feature, onchoose) {
  const { facts: { n_active: n }, tokens } = feature;
  const senses = feature.senses ?? [];
  const rows = tokens.filter(([offset, , count]) => offset === 0 && count >= RARE * n).slice(0, N_BARS);
  if (!rows.length) return null;
  const bar = ([, token, count]) => {
    const k = senses.findIndex((one) => one.tokens.includes(token));
    const onclick = ({ currentTarget: { ariaPressed } }) => onchoose(ariaPressed === "true" ? null : token);
    return h("li", { "data-sense": k < 0 ? null : k, "--share": count / n },
      h("button", { type: "button", "aria-pressed": "false", value: token, onclick },
        firingToken(token, feature),
        h("i", { "aria-hidden": "true" }),
        h("span", null, format.percent(count / n))));
  };
  const isEven = rows[0][2] < EVEN * n;
  const height = rows.length > N_ROWS ? Math.ceil(rows.length / 2) : rows.length;
  const bars = h("ul", { "--rows": height }, rows.map(bar));
  const show = (chosen) => {
    for (const button of bars.querySelectorAll("button")) {
      button.ariaPressed = String(button.value === String(chosen));
      if (button.value === String(chosen)) inView(button);
    }
  };
  const hasBytes = tokens.some(([, token]) => hasParts(token));
  const key = [term("␣ ↵ ⇥", "␣ space, ↵ line end"), hasBytes ? [", ", term("…么 览", "dashed: bytes")] : null];
  const kind = `div.tokenbars${senses.length ? ".of-senses" : ""}${isEven ? ".even" : ""}`;
  const shares = isEven ? `at most ${ofFirings(rows[0][2] / n)} on each` : "share of its firings on each token";
  const hint = h("small", null, `${shares}: press to choose; `, key);
  return Object.assign(h(kind, null, bars, hint), { show });
}

/* Move a row of buttons, which a phone cuts off, so that the chosen one is in view. */
const inView = (button) => button.scrollIntoView({ block: "nearest", inline: "nearest" });

/** Its strengths, a histogram and the tokens, and its examples in tabs. What is chosen in the first leaves the
 * examples in a range, or on a token.
 *
 * onsense: told the place of the sense whose tab is chosen, null of no one's.
 * @type {(latent: number, feature: Feature, onsense: (k: number | null) => void) =>
 *   { strengths: HTMLElement, fires: HTMLElement }} */
export function firingsRegion(latent, feature, onsense) {
  const { edges } = feature.histogram;
  const last = edges.length - 1;
  const all = storedExamples(feature);
  const senses = feature.senses ?? [];
  const isOfNone = (one) => senseOf(one, senses) < 0;
  let shown = all;
  let chosen = { bins: null, token: null };
  const examples = h("div", null, strongest(latent, feature));
  const range = h("p.chosen", { role: "status", hidden: true });

  /* Show the examples of some bins, [first, last + 1], and of a token; null for all. */
  function choose(changed) {
    chosen = { ...chosen, ...changed };
    const { bins, token } = chosen;
    const isAll = !bins && token === null;
    const [from, to] = bins ?? [0, last];
    const isIn = (x) => (!from || x >= edges[from]) && (to === last || x < edges[to]);
    shown = all.filter((one) => isIn(valueOf(one)) && (token === null || tokenOf(one) === token));
    histogram.show?.({ range: bins });
    bars?.show(token);
    range.hidden = isAll;
    const ends = bins ? `${format.significant(edges[from])} to ${format.significant(edges[to])}` : null;
    range.replaceChildren(
      ...(token === null ? [] : ["on ", firingToken(token, feature), bins ? ", " : ""]), ends ?? "",
      `: ${format.count(shown.length)} of the ${format.count(all.length)} examples stored `,
      h("button.link", { type: "button", onclick: () => choose({ bins: null, token: null }) }, "All of them"));
    examples.replaceChildren(isAll ? strongest(latent, feature) : marked(latent, feature, shown, N_FIRST));
    if (!isAll) parts.choose(0);
  }

  /** @type {[title: Child, make: () => Child][]} */
  const panels = [
    ["Strongest", () => [range, examples]],
    ["Each strength", () => intervals(latent, feature)],
  ];
  for (const [k, one] of senses.entries())
    panels.push([titleOf(one, k), () => h("div", { "data-sense": k }, sense(latent, feature, one))]);
  if (senses.length && all.some(isOfNone)) {
    const share = 1 - sumOf(senses.map((one) => one.share ?? NaN));
    const part = share >= 0 ? h("span", { "data-tip": COUNTED }, format.percent(share)) : null;
    panels.push([["of no sense ", part], () => ofSense(latent, feature, -1, N_FIRST)]);
  }
  const { steer } = model;
  if (steer) panels.push(["Steer", () => steer(latent, all[0])]);
  const histogram = activations(feature, (bins) => choose({ bins }));
  const bars = page.has_text ? tokenBars(feature, (token) => choose({ token })) : null;
  const parts = tabs("Its firings", panels, (k) => onsense(senses[k - FIRST_SENSE] ? k - FIRST_SENSE : null));
  const inSight = () =>
    [shown, all, ...senses.map((one) => one.examples), all.filter(isOfNone)][parts.chosen()] ?? [];
  return {
    strengths: h("div.strengths", null, histogram, bars),
    fires: h("div.fires", { role: "region", tabindex: 0, "aria-label": "Where it fires" },
      h("div.tools", null, parts.list, h("span.choices", null, widthButtons(), copyButtons(inSight, latent))),
      parts.panels),
  };
}

/* Tabs over panels: [title, what makes the contents], …; a panel is made when it is first looked at, and `onchoose`
 * told its place. */
function tabs(label, parts, onchoose) {
  const panel = (k) => (
    h("div.panel", { role: "tabpanel", id: `panel-${k}`, "aria-labelledby": `tab-${k}`, hidden: true })
  );
  const panels = parts.map((_, k) => panel(k));
  let chosen = 0;

  function choose(to) {
    chosen = to;
    if (!panels[to].childElementCount) panels[to].replaceChildren(h("div", null, parts[to][1]()));
    buttons.forEach((button, k) => {
      button.setAttribute("aria-selected", String(k === chosen));
      button.tabIndex = k === chosen ? 0 : -1;
      panels[k].hidden = k !== chosen;
    });
    if (buttons[to].isConnected) inView(buttons[to]);
    onchoose(to);
  }

  function onkeydown(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.stopPropagation();
    const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
    choose(next);
    buttons[next].focus();
  }

  const buttons = parts.map(([title], k) => {
    const attributes = { type: "button", role: "tab", id: `tab-${k}`, "aria-controls": `panel-${k}` };
    return h("button.tab", { ...attributes, onclick: () => choose(k), onkeydown }, title);
  });
  choose(0);
  const tablist = h("div.tabs", { role: "tablist", "aria-label": label }, buttons);
  return { list: tablist, panels, choose, chosen: () => chosen };
}
