/* The card of a node, and what stands there while nothing is pinned. */

import { element, titled } from "./elements.js";
import { alikeOf } from "./drawing.js";
import { attributed, effectOf, effectText, measured, strongestNodes } from "./effects.js";
import { byId, cardOf, keyOf, kindOf, links, pairs } from "./graph.js";
import { groupField } from "./groups.js";
import { answerWord, edgeButton, nodeButton } from "./links.js";
import { strengthSlider } from "./live.js";
import { pathsToAnswer, state } from "./state.js";
import { nameOf, numberOf, percent, short, shortOf, tokenAt, visible } from "./words.js";

const MOST_EDGES = 12;
const HELP =
  "A box holds the latents that fire at one token in one layer, those with the largest effect on the next token " +
  "first; below it stands how many more there are, and how much of the influence passes through these. Drawn are the " +
  "paths through the nodes that it depends most on, and further ones by their influence. The wider a line, the more " +
  "of the influence it carries; it joins all edges between two boxes. Rest on a node, or click it to keep its card: " +
  "what feeds it, what it feeds, and what the model does without it; blue lines raise their target, orange ones " +
  "lower it, by the edge alone: in all, as its box says, a node may do the opposite. Click a line: its " +
  "strongest edge, the heads that carry it, and why they look there. Click a next token: its paths. " +
  "Keys: j and k walk through the nodes, + and - draw more or fewer paths, e errors, g groups as one, Esc lets go.";

export function nodeCard(node) {
  const facts = cardOf(node);
  const isLatent = kindOf(node) === "latent";
  const latent = isLatent ? `latent ${numberOf(node)}of layer ${node.layer}, ` : "";
  const where = `${latent}at ${tokenAt(node.ctx_idx)}, position ${node.ctx_idx}`;
  const [name, whole] = [shortOf(node), nameOf(node)];
  const parts = [element("h2", {}, name), element("p", { class: "muted" }, where)];
  if (name !== whole) parts.push(element("p", { class: "muted" }, `at any token: ${whole}`));
  parts.push(factList(node, facts));
  const alike = alikeOf(node.node_id);
  if (alike.length) parts.push(element("p", {}, "in one line with ", ...alike.map((id) => nodeButton(byId.get(id)))));
  if (facts?.page && !("live" in document.body.dataset))
    parts.push(element("p", {}, element("a", { href: facts.page }, "the page of this feature")));
  if (facts?.logits.length) parts.push(tokenList("raises", facts.logits));
  if (isLatent) parts.push(...strengthSlider("this latent", [node.node_id]));
  if (facts?.examples.length) parts.push(element("h3", {}, "fires most on"), ...facts.examples.map(exampleLine));
  const unit = kindOf(node) === "logit" ? "nats" : "units of its activation";
  parts.push(...edgeTable(`is fed by, in ${unit}`, node.node_id, "source"));
  parts.push(...edgeTable("feeds, in units of each activation, and next tokens in nats", node.node_id, "target"));
  if (kindOf(node) !== "logit") parts.push(element("h3", {}, "group"), groupField(node));
  return parts;
}

/* How strongly it fires, and how much the answer depends on it. */
function factList(node, facts) {
  const known = [];
  const of = (name, value) => value && known.push(element("dt", {}, name), element("dd", {}, value));
  if (kindOf(node) === "logit") of("probability", percent(node.token_prob));
  if (kindOf(node) === "latent") {
    const share = facts?.max ? ` (${percent(node.activation / facts.max)} of its maximum)` : "";
    of("activation", short(node.activation) + share);
  }
  const influence = pathsToAnswer().influence.get(node.node_id) ?? 0;
  const isHidden = influence < 0.005 && strongestNodes(state.answer).includes(node);
  of(`influence on ${answerWord()}, by edges`,
    percent(influence) + (isHidden ? ": it acts by changing attention and norms, which edges hold" : ""));
  const effects = [measured(node, state.answer), attributed(node, state.answer)];
  const ways = ["by ablation", "to first order"].map((way, k) => `${short(effects[k])} nats ${way}`);
  const isKnown = (_, k) => (effects[k] ?? null) !== null;
  if (kindOf(node) !== "logit") of(`adds to ${answerWord()} in all`, ways.filter(isKnown).join(", "));
  return element("dl", {}, ...known);
}

/* The strongest edges into a node (end: "source") or out of it ("target"). */
function edgeTable(title, id, end) {
  const edges = links.filter((link) => link[end === "source" ? "target" : "source"] === id);
  const strongest = edges.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, MOST_EDGES);
  const rows = strongest.map((link) => {
    const { attributed: first, measured: free } = pairs.get(keyOf(link));
    return [nodeButton(byId.get(link[end])), edgeButton(link, short(link.weight)), short(first), short(free)];
  });
  return titled(title, ["node", "edge", "to first order", "by ablation"], rows);
}

const tokenList = (verb, tokens) =>
  element("p", { class: "tokens muted" }, verb, ...tokens.map((token) => element("span", {}, visible(token))));

function exampleLine({ tokens, shares, at }) {
  const spans = tokens.map((token, k) => {
    const span = element("span", { class: k === at ? "at" : "" }, token);
    span.style.setProperty("--a", shares[k]);
    return span;
  });
  return element("div", { class: "example" }, ...spans);
}

/** The nodes with the largest effect on the answer, and how to go on. */
export function answerCard() {
  const { answer } = state;
  const textOf = (node) => effectText(effectOf(node, answer), [node], answer);
  const rows = strongestNodes(answer).map((node) => [nodeButton(node), textOf(node)]);
  const title = `${answerWord()} depends most on`;
  const help = element("details", {}, element("summary", {}, "How to read this page"), element("p", {}, HELP));
  return [...titled(title, ["node", "nats"], rows, "h2"), help];
}
