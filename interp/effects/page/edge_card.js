/* The card of an edge: its size, the heads that carry it, and why these attend where they do. */

import { element, titled } from "./elements.js";
import { byId, heads, keyOf, kindOf, links, placeOf, scores } from "./graph.js";
import { nodeButton } from "./links.js";
import { shareOf } from "./paths.js";
import { percent, short, sumOf, tokenAt } from "./words.js";

const MOST_PAIRS = 10;

const endOf = (id) => (byId.has(id) ? nodeButton(byId.get(id)) : { bias: "biases", rest: "all else" }[id]);

export function edgeCard(pair) {
  const [source, target] = [byId.get(pair.source), byId.get(pair.target)];
  const link = links.find((each) => keyOf(each) === keyOf(pair));
  const share = link ? ` (${percent(shareOf(link))} of all that its target reads)` : "";
  const known = [];
  const of = (name, value, meaning) => known.push(element("dt", {}, name),
    element("dd", {}, value, element("div", { class: "muted" }, meaning)));
  const unit = kindOf(target) === "logit" ? " nats" : " units of its activation";
  const size = link ? `${short(pair.weight)}${unit}${share}` : "too weak for this page: the effect takes longer paths";
  of("edge", size, "carried directly, with attention and norms held");
  if (pair.attributed !== undefined) of("effect, to first order", short(pair.attributed) + unit,
    "by all ways, nothing held: an estimate from gradients");
  const isMeasured = (pair.measured ?? null) !== null;
  of("effect, by ablation", isMeasured ? short(pair.measured) + unit : "not ablated",
    isMeasured ? "by all ways, measured: where the numbers differ, believe this one" : "");
  const parts = [
    element("h2", {}, link ? "An edge" : "An effect"),
    element("p", {}, nodeButton(source), " → ", nodeButton(target)),
    element("dl", {}, ...known),
    element("p", { class: "muted" }, "They differ where attention, norms or other latents answer the change. What the "
      + "model does is told by ablation; the first two say where in the graph it comes from."),
  ];
  const carriers = heads.get(keyOf(pair)) ?? [];
  if (!carriers.length) return parts;
  const [to, from] = [tokenAt(target.ctx_idx), tokenAt(source.ctx_idx)];
  const rows = carriers.map(({ layer, head, attention, carried }) => {
    return [`head ${layer}.${head}`, short(carried), attention.toFixed(2)];
  });
  const left = pair.weight - sumOf(carriers, ({ carried }) => carried);
  rows.push(["other heads, and steps over other tokens", short(left), ""]);
  parts.push(...titled(`carried from ${from} to ${to} by`, ["head", unit.trim(), "attention"], rows));
  for (const carrier of carriers) {
    const { layer, head, attention } = carrier;
    const terms = scores.get(placeOf({ layer, head, query: target.ctx_idx, key: source.ctx_idx })) ?? [];
    const title = `head ${layer}.${head} attends ${attention.toFixed(2)} from ${to} to ${from}, because`;
    if (terms.length) parts.push(...titled(title, ["in the query", "× in the key", "nats"], linesOf(terms, from)));
  }
  return parts;
}

/* The largest terms of a head's score, and what they leave. */
function linesOf(terms, from) {
  const listed = terms.filter((term) => term.query_node !== "rest" || term.key_node !== "rest");
  const largest = listed.sort((a, b) => Math.abs(b.score) - Math.abs(a.score)).slice(0, MOST_PAIRS);
  const lines = largest.map((term) => [endOf(term.query_node), endOf(term.key_node), short(term.score)]);
  const whole = sumOf(terms, ({ score }) => score);
  lines.push(["all other pairs", "", short(whole - sumOf(largest, ({ score }) => score))]);
  lines.push([`score of ${from}, less the other tokens’`, "", short(whole)]);
  return lines;
}
