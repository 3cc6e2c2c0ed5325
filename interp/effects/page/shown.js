/* What is drawn: marks, each a node or, where groups are drawn as one, a group; and the edges between them. */

import { byId, keyOf, kindOf, links, logits, pairs, rowOf } from "./graph.js";
import { carriedBy, endsOf, shareOf, strongest } from "./paths.js";
import { pathsToAnswer, state } from "./state.js";
import { clipped, nameOf, quoting, shortOf, sumOf } from "./words.js";

/** Return the strongest paths, with what is pinned and all next tokens.
 * @returns {{ marks: Mark[], edges: MarkEdge[], carried: number, n: number }} */
export function shown() {
  const all = pathsToAnswer();
  const chosen = new Set(strongest(all, state.cut / 100));
  const onPaths = endsOf([...chosen]);
  const { source, target } = pairs.get(state.pinned) ?? {};
  const kept = new Set([...onPaths, ...logits.map((node) => node.node_id)]);
  for (const id of [state.pinned, source, target]) if (byId.has(id)) kept.add(id);
  const nameOfGroup = (id) => state.merged && state.groups.get(id);
  const mates = Map.groupBy(kept, (id) => nameOfGroup(id) || id);
  const markOf = new Map();
  for (const [name, ids] of mates) {
    const mark = ids.length > 1 ? markOfGroup(String(name), ids, all) : markOfNode(ids[0], all);
    for (const id of ids) markOf.set(id, mark);
  }
  const marks = [...new Set(markOf.values())];
  const ofTitle = Map.groupBy(marks, ({ title }) => title);
  for (const mark of marks) if (ofTitle.get(mark.title).length > 1) mark.title = mark.name; // which may tell them apart
  const edges = edgesBetween(markOf, chosen, all);
  return { marks, edges, carried: carriedBy(all, [...chosen]), n: onPaths.size };
}

function markOfNode(id, { influence }) {
  const node = byId.get(id);
  const place = { row: rowOf(node), column: node.ctx_idx };
  return { id, ids: [id], kind: kindOf(node), ...place, name: nameOf(node), title: shortOf(node),
    influence: influence.get(id) ?? 0 };
}

/* A group stands where its node with the most influence does. */
function markOfGroup(name, ids, paths) {
  const [first] = ids.map((id) => markOfNode(id, paths)).sort((a, b) => b.influence - a.influence);
  const influence = Math.min(1, sumOf(ids, (id) => paths.influence.get(id) ?? 0));
  return { ...first, id: `group ${name}`, ids, kind: "latent", name, title: `${clipped(quoting(name))} ×${ids.length}`,
    influence };
}

function edgesBetween(markOf, chosen, { influence }) {
  const edges = new Map();
  for (const link of links) {
    const [from, to] = [markOf.get(link.source), markOf.get(link.target)];
    if (!from || !to || from === to || (to.kind === "logit" && to.id !== state.answer)) continue;
    const key = `${from.id} ${to.id}`;
    const edge = edges.get(key) ?? { from, to, key: keyOf(link), weight: 0, carries: 0, isPath: false };
    edge.weight += link.weight;
    edge.carries += shareOf(link) * (influence.get(link.target) ?? 0);
    edge.isPath ||= chosen.has(link);
    edges.set(key, edge);
  }
  return [...edges.values()];
}

/** @typedef {{ id: string, ids: string[], kind: string, row: number, column: number, name: string, title: string,
 *     influence: number }} Mark */
/** key: of the first link in it. carries: its share of the influence on the answer.
 * @typedef {{ from: Mark, to: Mark, key: string, weight: number, carries: number, isPath: boolean }} MarkEdge */
