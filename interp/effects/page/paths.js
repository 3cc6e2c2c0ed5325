/* The paths that lead from the tokens to an answer, the most important first.
 *
 * Of each edge is known its share of all that its target reads in the whole graph, also of what is not on this page. A
 * walk from the answer back, which takes each edge with the probability of its share, passes a node or an edge with a
 * probability that is its influence on the answer. The strength of a path is the product of its shares. Edges are taken
 * by their influence, each with the strongest path through it, so that what is drawn are whole paths. What a set of
 * edges carries is the probability that the walk stays on them until it begins in a token, or in an error if these are
 * drawn. */

import { byId, data, kindOf, links, nodes, rowOf } from "./graph.js";

const shares = new Map(links.map((link, k) => [link, data.shares[k]]));
const upwards = links.toSorted((a, b) => rowOf(byId.get(a.target)) - rowOf(byId.get(b.target)));
const downwards = upwards.toReversed();
const at = (values, id) => values.get(id) ?? 0;

/** An edge's share of all that its target reads.
 * @type {(link: any) => number} */
export const shareOf = (link) => shares.get(link);

/** All paths to an answer.
 * @type {(answer: string, withErrors: boolean) => Paths} */
export function pathsTo(answer, withErrors) {
  const begins = nodes.filter((node) => kindOf(node) === "embedding" || (withErrors && kindOf(node) === "error"));
  const influence = new Map([[answer, 1]]);
  const strengthAbove = new Map([[answer, 1]]);
  const strengthBelow = new Map(begins.map((node) => [node.node_id, 1]));
  const [linkAbove, linkBelow] = [new Map(), new Map()]; // of the strongest paths
  for (const link of downwards) {
    const { source, target } = link;
    influence.set(source, at(influence, source) + shareOf(link) * at(influence, target));
    const strength = shareOf(link) * at(strengthAbove, target);
    if (strength <= at(strengthAbove, source)) continue;
    strengthAbove.set(source, strength);
    linkAbove.set(source, link);
  }
  for (const link of upwards) {
    const { source, target } = link;
    const strength = shareOf(link) * at(strengthBelow, source);
    if (strength <= at(strengthBelow, target)) continue;
    strengthBelow.set(target, strength);
    linkBelow.set(target, link);
  }
  const carries = (link) => shareOf(link) * at(influence, link.target);
  const whole = links.filter((link) => at(strengthAbove, link.target) * at(strengthBelow, link.source) > 0);
  const taken = new Set();
  const steps = [];
  for (const link of whole.sort((a, b) => carries(b) - carries(a))) {
    const path = [link];
    for (let next = linkAbove.get(link.target); next; next = linkAbove.get(next.target)) path.push(next);
    for (let next = linkBelow.get(link.source); next; next = linkBelow.get(next.source)) path.push(next);
    const added = path.filter((each) => !taken.has(each));
    for (const each of added) taken.add(each);
    if (added.length) steps.push(added);
  }
  return { answer, begins, influence, steps };
}

/** What some edges carry, as a share of the influence on the answer.
 * @type {(paths: Paths, edges: any[]) => number} */
export function carriedBy({ answer, begins }, edges) {
  const kept = new Set(edges);
  const reached = new Map(begins.map((node) => [node.node_id, 1]));
  for (const link of upwards)
    if (kept.has(link)) reached.set(link.target, at(reached, link.target) + shareOf(link) * at(reached, link.source));
  return at(reached, answer);
}

/** The fewest edges, of the paths taken first, that carry a share of what all of them carry.
 * @type {(paths: Paths, share: number) => any[]} */
export function strongest(paths, share) {
  const { steps } = paths;
  const wanted = share * carriedBy(paths, steps.flat()) * (1 - 1e-9);
  let [few, enough] = [0, steps.length];
  while (few < enough) {
    const n = Math.floor((few + enough) / 2);
    if (carriedBy(paths, steps.slice(0, n).flat()) < wanted) few = n + 1;
    else enough = n;
  }
  return steps.slice(0, enough).flat();
}

/** The nodes at the ends of edges. */
export const endsOf = (edges) => new Set(edges.flatMap(({ source, target }) => [source, target]));

/** begins: the nodes in which paths begin. influence: of each node on the answer. steps: the edges of each path that no
 * earlier one has.
 * @typedef {{ answer: string, begins: any[], influence: Map<string, number>, steps: any[][] }} Paths */
