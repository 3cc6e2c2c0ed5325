/* The graph and what is known of it: `data`, which holds
 *     graph           Neuronpedia's JSON; its `interp` has the heads that carry edges, and the pairs of nodes in
 *                     attention scores
 *     shares          of each link, its share of all that its target reads in the whole graph
 *     n_nodes         number of nodes of the whole graph
 *     origins         of each next token, the shares of its influence that begin in tokens, in errors, and in the rest
 *     cards           of each latent, by "layer_latent"
 *     here            of each latent at its token, what it fires on there, if that is known
 *     effects         source, target, attributed, measured
 *     disagreements   the numbers of the effects that differ, the furthest first
 *     scores          the rows of the table of scores */

import { the } from "./elements.js";

export const data = JSON.parse(the("data").textContent);
export const nodes = data.graph.nodes;
export const links = data.graph.links;
export const metadata = data.graph.metadata;

export const byId = new Map(nodes.map((node) => [node.node_id, node]));
export const keyOf = (edge) => `${edge.source} ${edge.target}`;

/** Every edge and every measured pair, by its key: source, target, and what is known of weight, attributed, measured.
 * @type {Map<string, any>} */
export const pairs = new Map();
for (const edge of [...links, ...data.effects]) pairs.set(keyOf(edge), { ...pairs.get(keyOf(edge)), ...edge });

/** The heads that carry an edge, by its key. */
export const heads = Map.groupBy(data.graph.interp.heads, keyOf);
export const placeOf = ({ layer, head, query, key }) => `${layer} ${head} ${query} ${key}`;

/** The pairs of nodes in the score of a head at a place.
 * @type {Map<string, any[]>} */
export const scores = Map.groupBy(data.graph.interp.scores, placeOf);

export const kindOf = (node) =>
  ({ embedding: "embedding", logit: "logit", "mlp reconstruction error": "error" })[node.feature_type] ?? "latent";
export const rowOf = (node) => ({ embedding: -1, logit: Infinity })[kindOf(node)] ?? Number(node.layer);
export const cardOf = (node) => data.cards[node.node_id.split("_").slice(0, 2).join("_")];

/** The next tokens, the likeliest first. */
export const logits = nodes.filter((node) => kindOf(node) === "logit").sort((a, b) => b.token_prob - a.token_prob);
