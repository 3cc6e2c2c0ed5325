/* Which latents of an earlier hook feed which of a later one at the chosen token, if the run has several hooks: two
 * columns of latents with lines between them, and the edges as a table. */

import { columns } from "../data/features.js";
import { h, headElement, svg } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { featureLink } from "../elements/latents.js";
import { ask, showError } from "./ask.js";
import { ruleElement, textOfRule } from "../text/segments.js";

const N_SOURCES = 12;
const A_TARGET = 3;
const N_ROWS = 15;
const chosen = new Set();
const parts = { head: h("div"), drawing: h("div.feeds"), table: h("div") };
export const edgesSection =
  h("section.edges", { hidden: true, "aria-label": "From hook to hook" }, Object.values(parts));
let hooks;
let other;
let asked;
let answer;
let newest = 0;

const isEarlier = () => hooks.all.indexOf(other) < hooks.all.indexOf(hooks.own);
const ends = () => (isEarlier() ? [other, hooks.own] : [hooks.own, other]);
const keyOf = (side, latent) => `${side} ${latent}`;
const isOwn = (side) => ends()[side] === hooks.own;
const ruleOf = (side, latent) => (isOwn(side) ? columns.rule[latent] : answer.rules[latent]);
const drawnRule = (rule) => (rule.length ? ruleElement(rule) : h("span.muted", null, "no explanation"));
const signed = (value) => `${value > 0 ? "+" : ""}${format.significant(value, 2)}`;

async function ready() {
  hooks ??= await ask("hooks");
  const at = hooks.all.indexOf(hooks.own);
  other ??= hooks.all[at - 1] ?? hooks.all[at + 1];
  return other !== undefined;
}

/** Read the edges at a token. pinned: latents of the run's own hook, chosen if they are among the ends.
 * @type {(text: string, position: number, pinned: Iterable<number>) => Promise<void>} */
export async function readEdges(text, position, pinned) {
  if (!(await ready())) return;
  asked = { text, position };
  edgesSection.hidden = false;
  chosen.clear();
  for (const latent of pinned) chosen.add(keyOf(isEarlier() ? 1 : 0, latent));
  await put(false);
}

/* Only the answer to the last question is shown. */
async function put(ablate) {
  const question = ++newest;
  edgesSection.classList.add("stale");
  try {
    const read = await ask("edges", { ...asked, other, ablate });
    if (question !== newest) return;
    answer = read;
    show();
  } catch (error) {
    if (question !== newest) return;
    showError(parts.drawing, error);
    parts.table.replaceChildren();
  }
  edgesSection.classList.remove("stale");
}

/* The latents drawn on both sides: the strongest at the later hook, and what feeds each of them most. */
function sides() {
  const targets = answer.targets.map(([latent]) => latent);
  const total = new Map();
  for (const target of targets) {
    const into = answer.edges.filter(([, down]) => down === target);
    for (const [up, , owed] of into.slice(0, A_TARGET)) total.set(up, (total.get(up) ?? 0) + Math.abs(owed));
  }
  const isWanted = ([up]) => chosen.has(keyOf(0, up));
  for (const [up] of answer.edges.filter(isWanted)) total.set(up, Infinity);
  const strongest = [...total].sort((a, b) => b[1] - a[1]).slice(0, N_SOURCES);
  /* Place a latent opposite what it feeds, so that few lines cross. */
  const middle = (up) => {
    const out = answer.edges.filter(([from]) => from === up);
    const sum = out.reduce((all, [, , owed]) => all + Math.abs(owed), 0);
    return out.reduce((all, [, down, owed]) => all + targets.indexOf(down) * Math.abs(owed), 0) / (sum || 1);
  };
  const sources = strongest.map(([up]) => up).sort((a, b) => middle(a) - middle(b));
  return [sources, targets];
}

const touches = ([up, down]) => chosen.has(keyOf(0, up)) || chosen.has(keyOf(1, down));

/* The edges to show: those of the chosen latents, or all if these have none. */
function listed() {
  const touching = answer.edges.filter(touches);
  return touching.length ? touching : answer.edges;
}

function latentElement(side, latent) {
  const key = keyOf(side, latent);
  const rule = ruleOf(side, latent);
  const toggle = () => {
    if (!chosen.delete(key)) chosen.add(key);
    show();
  };
  const title = textOfRule(rule) || null;
  const name = { type: "button", "aria-pressed": String(chosen.has(key)), title, onclick: toggle };
  return h("li", null,
    isOwn(side) ? featureLink(latent) : h("span", null, String(latent)),
    h("button.choose", name, drawnRule(rule)));
}

function lines(sources, targets) {
  const rows = Math.max(sources.length, targets.length);
  const most = Math.max(...answer.edges.map(([, , owed]) => Math.abs(owed)));
  const shown = new Set(listed());
  const line = (edge) => {
    const [up, down, owed] = edge;
    const [from, to] = [sources.indexOf(up) + 0.5, targets.indexOf(down) + 0.5];
    const kind = `${owed > 0 ? "raises" : "lowers"}${shown.has(edge) ? "" : " off"}`;
    const look = { class: kind, "stroke-width": (0.5 + (6 * Math.abs(owed)) / most).toFixed(2) };
    return svg("path", { ...look, d: `M0,${from}C50,${from} 50,${to} 100,${to}` });
  };
  const isDrawn = ([up, down]) => sources.includes(up) && targets.includes(down);
  const box = { viewBox: `0 0 100 ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const picture = svg("svg", box, answer.edges.filter(isDrawn).reverse().map(line));
  picture.style.setProperty("--rows", String(rows));
  return picture;
}

function table() {
  const edges = listed();
  const isMeasured = edges.some(([, , , without]) => without !== null);
  const end = (side, latent) => h("td.rule", null, isOwn(side) ? featureLink(latent) : String(latent), " ",
    drawnRule(ruleOf(side, latent)));
  const row = ([up, down, owed, without]) => h("tr", null,
    end(0, up), end(1, down), h("td", null, signed(owed)), h("td", null, without === null ? "–" : signed(without)));
  const measure = h("button.more", { type: "button", onclick: () => put(true) }, "Measure by ablation");
  return [
    h("table.plain", null,
      headElement([`From ${ends()[0]}`, `To ${ends()[1]}`, "Attribution", "Ablation"]),
      h("tbody", null, edges.slice(0, N_ROWS).map(row))),
    isMeasured ? null : measure,
  ];
}

function head() {
  const change = (event) => {
    other = event.target.value;
    put(false);
  };
  const names = hooks.all.filter((name) => name !== hooks.own);
  const chooser = h("select", { "aria-label": "The other hook", onchange: change },
    names.map((value) => h("option", { value, selected: value === other }, value)));
  const side = isEarlier() ? "what feeds this page's features, from " : "what this page's features feed, at ";
  return [
    h("h2", null, "From hook to hook"),
    h("p.muted", null,
      `At the chosen token, ${side}`, chooser, ". On the left is the earlier hook, at this token or " +
        "before; on the right are the strongest features of the later one, here. ",
      h("span.key.raised", { "--shade": 0.7 }, "raises"), " or ",
      h("span.key.lowered", { "--shade": 0.7 }, "lowers"),
      " what the later feature reads: attribution, to first order, in the unit of its activations. Choose a " +
        "feature to see its edges alone."),
  ];
}

function show() {
  const [sources, targets] = sides();
  const list = (side, latents) => h("div", null,
    h("h3", null, ends()[side], isOwn(side) ? h("small", null, " this page") : null),
    h("ol", null, latents.map((latent) => latentElement(side, latent))));
  parts.head.replaceChildren(...head());
  if (!answer.edges.length) {
    parts.drawing.replaceChildren(h("p.missing", null, "No feature feeds another here."));
    return parts.table.replaceChildren();
  }
  parts.drawing.replaceChildren(list(0, sources), lines(sources, targets), list(1, targets));
  parts.table.replaceChildren(...table().filter((part) => part !== null));
}
