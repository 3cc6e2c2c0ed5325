/* Buttons that lead to a node or an edge. */

import { element } from "./elements.js";
import { byId, keyOf, kindOf, metadata } from "./graph.js";
import { pin, state } from "./state.js";
import { clipped, nameOf, numberOf, shortOf, visible, wordOf } from "./words.js";

/** A node in a list: its title and, of what stands in a layer, where: layer, number of the latent, token. */
export const inList = (node) => (["embedding", "logit"].includes(kindOf(node)) ? nameOf(node)
  : `${clipped(shortOf(node))} ${placeOf(node).replaceAll(" ", "\u00a0")}`);
const placeOf = (node) => `· L${node.layer} ${numberOf(node)}@ ${visible(metadata.prompt_tokens[node.ctx_idx])}`;

export const nodeButton = (node) =>
  element("button", { onclick: () => pin(node.node_id), title: nameOf(node) }, inList(node));

/** A node in a sentence: what it fires on, and at which token. */
export const plainButton = (node) =>
  element("button", { onclick: () => pin(node.node_id), title: `${nameOf(node)} ${placeOf(node)}` },
    clipped(shortOf(node), 32), kindOf(node) === "latent"
      ? element("span", { class: "muted" }, ` at ${visible(metadata.prompt_tokens[node.ctx_idx])}`) : "");

export const edgeButton = (pair, name) =>
  element("button", { onclick: () => pin(keyOf(pair)), title: "show this edge" }, name);

/** The answer whose paths are drawn, in quotes. */
export const answerWord = () => `“${wordOf(byId.get(state.answer))}”`;
