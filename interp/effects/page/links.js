/* Buttons that lead to a node or an edge, and what is known of nodes' effects on the answer. */

import { element } from "./elements.js";
import { byId, keyOf, logits, metadata, pairs } from "./graph.js";
import { pin, state } from "./state.js";
import { clipped, nameOf, numberOf, shortOf, visible, wordOf } from "./words.js";

/** A node in a list: its number, its title and its token. */
export const inList = (node) =>
  `${numberOf(node)}${clipped(shortOf(node))} @ ${visible(metadata.prompt_tokens[node.ctx_idx])}`;

export const nodeButton = (node) =>
  element("button", { onclick: () => pin(node.node_id), title: nameOf(node) }, inList(node));

export const edgeButton = (pair, name) =>
  element("button", { onclick: () => pin(keyOf(pair)), title: "show this edge" }, name);

/** The answer whose paths are drawn, in quotes. */
export const answerWord = () => `“${wordOf(byId.get(state.answer))}”`;

const pairOf = (node) => pairs.get(`${node.node_id} ${state.answer}`);

/** What a node adds to the answer's log probability: to first order, and by ablation. */
export const attributed = (node) => (state.answer === logits[0].node_id ? node.effect : pairOf(node)?.attributed);
export const measured = (node) => pairOf(node)?.measured;
