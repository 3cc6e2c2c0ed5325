/* The drawing of the graph. A click on a line of a box or on a strand pins it. */

import { drawn, element, the } from "./elements.js";
import { effectText } from "./effects.js";
import { byId, data, keyOf, logits, pairs, rowOf } from "./graph.js";
import { place } from "./layout.js";
import { answerWord } from "./links.js";
import { carriedBy, edgesOf } from "./paths.js";
import { shown } from "./shown.js";
import { pathsToAnswer, pin, state } from "./state.js";
import { nameOf, percent, sumOf, wordOf } from "./words.js";

const BELOW = 16; // the height that is left free below the graph
const LEAST_FRAME = 440; // the height from which on the graph scrolls inside its frame
const LEAST_BOX = 28; // the height of a box of one line
const ASIDE = 10; // what a token without a box takes of the space beside its column
const LEAST_TOLD = 0.01; // of the influence, through latents that are not drawn
const TOLD_WHOLE = 120; // the width of a column in which that is said in words
const NARROW = 560; // a frame in which columns for the tokens have no room

/** @import { Box, Strand } from "./shown.js" */

/** @type {Box[]} */
let boxes = [];
/** @type {Strand[]} */
let strands = [];

export function draw() {
  const frame = the("frame");
  const focused = document.activeElement?.closest(".node")?.getAttribute("data-id");
  const isNarrow = frame.clientWidth < NARROW;
  const now = shown(isNarrow);
  ({ boxes, strands } = now);
  showShares(now);
  const frameHeight = innerHeight - frame.getBoundingClientRect().top - scrollY - BELOW;
  const frameWidth = frame.clientWidth;
  const { rows, columns, width, height } = place(boxes, strands, { frameWidth, frameHeight, isNarrow });
  const svg = drawn("svg", { id: "graph", width, height, "aria-hidden": "true" }, ...strandLines());
  const largest = Math.max(1e-30, ...boxes.flatMap(({ marks }) => marks).map(({ effect }) => Math.abs(effect ?? 0)));
  const label = "Nodes by layer and token, with their edges";
  const sheet = element("div", { id: "sheet", role: "group", "aria-label": label });
  sheet.style.width = `${width}px`;
  sheet.style.height = `${height}px`;
  sheet.append(svg, ...otherTokens(rows, columns), ...(isNarrow ? [] : otherLatents(rows, columns, now.undrawn)));
  for (const box of boxes) sheet.append(boxElement(box, largest));
  sheet.append(element("div", { class: "axes" }, ...rowNames(rows, isNarrow)));
  frame.classList.toggle("narrow", isNarrow);
  frame.style.setProperty("--room", `${Math.max(frameHeight, LEAST_FRAME)}px`);
  const fromRight = frame.scrollWidth - frame.scrollLeft;
  frame.replaceChildren(sheet);
  frame.scrollLeft = frame.scrollWidth - fromRight; // the next token, which is at the right, stays in sight
  fade();
  the("cut").value = state.cut;
  the("errors").checked = state.errors;
  the("merged").checked = state.merged;
  the("merged").parentElement.hidden = !state.groups.size;
  showLegend();
  light(state.pinned);
  if (focused) sheet.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

/** Fade the graph out at the sides at which more of it is out of sight. */
export function fade() {
  const frame = the("frame");
  frame.classList.toggle("more-left", frame.scrollLeft > 1);
  frame.classList.toggle("more-right", frame.scrollLeft + frame.clientWidth < frame.scrollWidth - 1);
}

/** @type {(node: any, place: { left?: number, top?: number, width?: number, height?: number }) => any} */
const put = (node, { left, top, width, height }) => {
  for (const [name, value] of Object.entries({ left, top, width, height }))
    if (value !== undefined) node.style[name] = `${value}px`;
  return node;
};

function rowNames(rows, isNarrow) {
  return rows.map(({ name, top, bottom }) => {
    const long = name === -1 ? "tokens" : name === Infinity ? "next token" : `layer ${name}`;
    const text = isNarrow ? { "-1": "", Infinity: "" }[name] ?? `L${name}` : long;
    return put(element("span", { class: "axis", title: long }, text), { left: 0, top, height: bottom - top });
  });
}

/* The tokens that no path begins in, which are read between the others. */
function otherTokens(rows, columns) {
  const hasBox = new Set(boxes.filter(({ row }) => row === -1).map(({ column }) => column));
  const { bottom } = rows[0];
  return columns.filter(({ tokens }) => !hasBox.has(tokens[0])).map(({ left, width, text }) =>
    put(element("span", { class: "unused", title: text }, text),
      { left, top: bottom - LEAST_BOX, width: width + ASIDE }));
}

/* How many latents of each layer and token are not drawn, and how much of the influence passes through them. */
function otherLatents(rows, columns, undrawn) {
  return rows.flatMap(({ name, bottom }) => columns.map(({ left, width, tokens }) => {
    const inCell = undrawn.filter(({ node }) => rowOf(node) === name && tokens.includes(node.ctx_idx));
    const share = sumOf(inCell, ({ influence }) => influence);
    if (share < LEAST_TOLD) return "";
    const [{ node }] = inCell.toSorted((a, b) => b.influence - a.influence);
    const hasBox = boxes.some(({ row, column }) => row === name && tokens.includes(column));
    const latents = inCell.length > 1 ? "more latents" : "more latent";
    const room = width + ASIDE > TOLD_WHOLE;
    const text = room ? `${inCell.length} ${latents}, ${percent(share)}` : `${inCell.length} more`;
    const title = `${inCell.length} ${latents}, with ${percent(share)} of the influence on ${answerWord()}; `
      + `a click shows the strongest: ${nameOf(node)}`;
    return put(element("button", { class: "more", title, onclick: () => pin(node.node_id) },
      text), { left, top: hasBox ? bottom + 1 : bottom - LEAST_BOX });
  }));
}

function strandLines() {
  return strands.toSorted((a, b) => b.carries - a.carries).flatMap((strand) => {
    const { isError, d, width, links, carries } = strand;
    const keys = links.map(keyOf).join("|");
    const look = { class: isError ? "edge fault" : "edge", "stroke-width": width.toFixed(1), d };
    strand.line = drawn("path", { ...look, "data-keys": keys });
    const what = links.length > 1 ? `${links.length} edges; a click shows the strongest` : "an edge";
    const tip = drawn("title", {}, `${what}; ${percent(carries)} of the influence on ${answerWord()}`);
    const key = keyOf(links[0]);
    const wide = { class: "meets", d, "stroke-width": width + 6, ...handlers(key) }; // is not seen, for the mouse
    return [strand.line, drawn("path", wide, tip)];
  });
}

/* What the mouse does with a node or an edge. While something is pinned, resting on others changes nothing. */
const handlers = (id) => ({
  onmouseenter: () => state.pinned || point(id),
  onmouseleave: () => state.pinned || point(""),
  onclick: () => pin(state.pinned === id ? "" : id),
});

/* Light what the mouse is on, and tell it to the page, whose card shows it. */
function point(id) {
  light(id);
  the("frame").dispatchEvent(new CustomEvent("point", { detail: id }));
}

/** Bring what is pinned into sight. */
export const reveal = () =>
  the("frame").querySelector(".pinned")?.scrollIntoView({ block: "nearest", inline: "nearest" });

/** The drawn nodes that stand in one line with a node. */
export const alikeOf = (id) =>
  boxes.flatMap(({ marks }) => marks).find(({ ids }) => ids.includes(id))?.ids.filter((each) => each !== id) ?? [];

function boxElement(box, largest) {
  const lines = box.marks.map((mark) => lineElement(mark, largest));
  return put(element("div", { class: box.isOfSingleLines ? "box single" : "box" }, ...lines), box);
}

function lineElement(mark, largest) {
  const { ids, kind, token, name, text, effect, influence } = mark;
  const [id] = ids;
  const isChanged = ids.some((each) => (state.times[each] ?? 1) !== 1);
  const isAnswer = kind === "logit";
  const sign = effect === undefined || isAnswer ? "" : effect < 0 ? "lowers" : "raises";
  const tip = isAnswer ? name : `${name}; ${percent(influence)} of the influence on ${answerWord()}`;
  mark.line = element(
    "button",
    {
      class: ["node", kind, sign, isChanged && "changed"].filter(Boolean).join(" "),
      "data-id": id,
      "data-ids": ids.join("|"),
      title: tip,
      ...handlers(id),
    },
    element("span", { class: "value" }, isAnswer ? percent(byId.get(id).token_prob)
      : effectText(effect, ids.map((each) => byId.get(each)), state.answer)),
    element("span", { class: "name" }, text),
    element("span", { class: "where" }, token),
  );
  mark.line.style.setProperty("--bar", `${isAnswer ? 0 : (100 * Math.abs(effect ?? 0)) / largest}%`);
  return mark.line;
}

/* Highlight a node with its edges, whose lines then have the colour of their signs, or an edge with its ends. */
function light(id) {
  const pair = pairs.get(id);
  const marks = boxes.flatMap((box) => box.marks);
  const own = marks.find(({ ids }) => ids.includes(id));
  const isLit = Boolean(own || pair);
  const touches = ({ source, target }) => (pair
    ? source === pair.source && target === pair.target
    : own?.ids.includes(source) || own?.ids.includes(target));
  const lit = strands.flatMap(({ links }) => links).filter(touches);
  the("frame").classList.toggle("dimmed", isLit);
  for (const { line, links } of strands) {
    const sum = sumOf(links.filter(touches), ({ weight }) => weight);
    line.classList.toggle("on", links.some(touches));
    line.classList.toggle("raises", sum > 0);
    line.classList.toggle("lowers", sum < 0);
  }
  for (const mark of marks) {
    const { ids, line } = mark;
    const edges = lit.filter(({ source, target }) => ids.includes(source) || ids.includes(target));
    const isNear = mark === own || edges.length > 0 || ids.includes(pair?.source) || ids.includes(pair?.target);
    line.classList.toggle("near", isNear);
    line.classList.toggle("pinned", ids.includes(state.pinned));
  }
}

/* What the colours and the numbers of boxes say. */
function showLegend() {
  const marks = boxes.flatMap((box) => box.marks);
  const knowsTokens = marks.every(({ kind, effect }) => kind !== "embedding" || effect !== undefined);
  const added = `the log probability of ${answerWord()}, in nats: by ablation, or ≈ to first order`
    + (knowsTokens ? "." : `; that of tokens is known for “${wordOf(logits[0])}” alone.`);
  const hasEffects = marks.some(({ effect }) => effect !== undefined);
  const hasLines = (box) => box.row === Infinity || strands.some(({ from, to }) => from === box || to === box);
  const weak = boxes.every(hasLines) ? "" : " Boxes without lines act by weaker paths.";
  the("legend").replaceChildren(`${hasEffects ? added : answerWord()}${weak}`);
}

/* How much of the influence is drawn, and what holds the rest of it. */
function showShares({ carried, n }) {
  const { tokens, errors, rest } = data.origins[state.answer];
  const all = pathsToAnswer();
  const most = carriedBy(all, edgesOf(all));
  const parts = [
    ["drawn", "drawn", `at most ${percent(most)} can be drawn`, carried.tokens + carried.errors],
    ["weaker", "weaker paths", "paths too weak to draw", tokens - carried.tokens],
    ["faults", "errors", "errors of the dictionaries", errors - carried.errors],
    ["rest", "not traced", "latents that were not traced", rest],
  ].filter(([name, , , share]) => name === "drawn" || share >= 0.005);
  the("shares").replaceChildren(...parts.map(([name, word, title, share]) => {
    const text = `${percent(share)} ${word}`;
    const bar = element("span", { class: name, title: `${text}: ${title}` }, text);
    bar.style.flexGrow = String(share);
    return bar;
  }));
  the("answer").replaceChildren(answerWord());
  the("count").replaceChildren(`${n} of ${data.n_nodes.toLocaleString("en")} nodes`);
}
