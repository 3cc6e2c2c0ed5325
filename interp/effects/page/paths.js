/* The paths that lead from the tokens to an answer, the most important first.
 *
 * Of each edge is known its share of all that its target reads in the whole graph, also of what is not on this page. A
 * walk from the answer back, which takes each edge with the probability of its share, passes a node or an edge with a
 * probability that is its influence on the answer. The strength of a path is the product of its shares. Edges are taken
 * by their influence, each with the strongest path through it, so that what is drawn are whole paths; before them come
 * the strongest paths through the nodes with the largest effects. What a set of edges carries is the probability that
 * the walk stays on them until it begins in a token, or in an error if these are drawn. */

import { byId, data, kindOf, links, nodes, rowOf } from "./graph.js";

const shares = new Map(links.map((link, k) => [link, data.shares[k]]));
const upwards = links.toSorted((a, b) => rowOf(byId.get(a.target)) - rowOf(byId.get(b.target)));
const downwards = upwards.toReversed();
const at = (values, id) => values.get(id) ?? 0;

/** An edge's share of all that its target reads.
 * @type {(link: any) => number} */
export const shareOf = (link) => shares.get(link);

/** All paths to an answer. first: the nodes whose paths come first.
 * @type {(answer: string, withErrors: boolean, first: string[]) => Paths} */
export function pathsTo(answer, withErrors, first) {
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
  const take = (path) => {
    const added = path.filter((each) => !taken.has(each));
    for (const each of added) taken.add(each);
    return added;
  };
  const pathThrough = (source, target) => {
    const path = [];
    for (let next = linkAbove.get(target); next; next = linkAbove.get(next.target)) path.push(next);
    for (let next = linkBelow.get(source); next; next = linkBelow.get(next.source)) path.push(next);
    return path;
  };
  const isWhole = (id) => at(strengthAbove, id) * at(strengthBelow, id) > 0;
  const least = take(first.filter(isWhole).flatMap((id) => pathThrough(id, id)));
  const others = whole.sort((a, b) => carries(b) - carries(a))
    .map((link) => take([link, ...pathThrough(link.source, link.target)]));
  return { answer, begins, influence, first, least, steps: others.filter((added) => added.length) };
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

/** All edges on paths. */
export const edgesOf = ({ least, steps }) => [...least, ...steps.flat()];

/** The fewest edges, of the paths taken first, that carry a share of what all of them carry.
 * @type {(paths: Paths, share: number) => any[]} */
export function strongest(paths, share) {
  const { least, steps } = paths;
  const wanted = share * carriedBy(paths, edgesOf(paths)) * (1 - 1e-9);
  let [few, enough] = [0, steps.length];
  while (few < enough) {
    const n = Math.floor((few + enough) / 2);
    if (carriedBy(paths, [...least, ...steps.slice(0, n).flat()]) < wanted) few = n + 1;
    else enough = n;
  }
  return [...least, ...steps.slice(0, enough).flat()];
}

/** The nodes at the ends of edges. */
export const endsOf = (edges) => new Set(edges.flatMap(({ source, target }) => [source, target]));

/** begins: the nodes in which paths begin. influence: of each node on the answer. first: the nodes with the largest
 * effects. least: the edges of their paths. steps: the edges of each path that no earlier one has.
 * @typedef {{ answer: string, begins: any[], influence: Map<string, number>, first: string[], least: any[],
 *     steps: any[][] }} Paths */
