/* What the nodes add to the log probability of a next token, in nats. */

import { kindOf, logits, nodes, pairs } from "./graph.js";
import { signed } from "./words.js";

const MOST_NODES = 12; // that a next token is said to depend on; `graph_page.py` keeps as many
const LEAST = 0.01; // of the largest effect

const pairOf = (node, answer) => pairs.get(`${node.node_id} ${answer}`);

/** To first order, with nothing held. */
export const attributed = (node, answer) =>
  (answer === logits[0].node_id ? node.effect : pairOf(node, answer)?.attributed);

/** By ablation. */
export const measured = (node, answer) => pairOf(node, answer)?.measured;

/** By ablation, or to first order if it was not ablated; undefined if neither is known. */
export const effectOf = (node, answer) => measured(node, answer) ?? attributed(node, answer) ?? undefined;

const isMeasured = (node, answer) => (measured(node, answer) ?? null) !== null;

/** The effect of some nodes together, with ≈ where one of them was not ablated; nothing if none is known. */
export function effectText(effect, together, answer) {
  if (effect === undefined) return "";
  return `${together.every((node) => isMeasured(node, answer)) ? "" : "≈"}${signed(effect)}`;
}

/** The nodes with the largest effects on a next token, the largest first, without errors. */
export function strongestNodes(answer) {
  const size = (node) => Math.abs(effectOf(node, answer));
  const known = nodes.filter((node) => kindOf(node) !== "error" && effectOf(node, answer) !== undefined);
  const sorted = known.sort((a, b) => size(b) - size(a)).slice(0, MOST_NODES);
  return sorted.filter((node) => size(node) >= LEAST * size(sorted[0]));
}
