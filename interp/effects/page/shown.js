/* What is drawn: a box for each layer and token, with a line for each of its nodes, and strands between the boxes. */

import { effectOf } from "./effects.js";
import { byId, keyOf, kindOf, links, metadata, nodes, pairs, rowOf } from "./graph.js";
import { carriedBy, endsOf, shareOf, strongest } from "./paths.js";
import { pathsToAnswer, state } from "./state.js";
import { nameOf, numberOf, shortOf, sumOf, visible, wordOf } from "./words.js";

/** Return the strongest paths, with what is pinned. isNarrow: whether all tokens share the boxes of a layer. carried:
 * the share of the influence on the answer that is drawn. undrawn: the other latents, each with the influence that
 * passes through it. n: the number of nodes on the paths.
 * @type {(isNarrow: boolean) => Shown} */
export function shown(isNarrow) {
  const all = pathsToAnswer();
  const chosen = new Set(strongest(all, state.cut / 100));
  const onPaths = endsOf([...chosen]);
  const { pinned, answer } = state;
  const { source, target } = pairs.get(pinned) ?? {};
  const kept = new Set([...onPaths, ...all.first, answer]);
  for (const node of [source, target, pinned].map((id) => byId.get(id)))
    if (node && kindOf(node) !== "logit") kept.add(node.node_id);
  const boxes = boxesOf(nodes.filter(({ node_id: id }) => kept.has(id)), all, isNarrow);
  tellApart(boxes.flatMap(({ marks }) => marks).filter(({ kind, ids }) => kind === "latent" && ids.length === 1));
  const touches = (link) => [keyOf(link), link.source, link.target].includes(pinned);
  const drawn = links.filter((link) => chosen.has(link)
    || (touches(link) && kept.has(link.source) && kept.has(link.target)));
  const begunIn = (kind) =>
    carriedBy({ ...all, begins: all.begins.filter((node) => kindOf(node) === kind) }, [...chosen]);
  const carried = { tokens: begunIn("embedding"), errors: begunIn("error") };
  const undrawn = nodes.filter((node) => kindOf(node) === "latent" && !kept.has(node.node_id))
    .map((node) => ({ node, influence: all.influence.get(node.node_id) ?? 0 }));
  return { boxes, strands: strandsOf(drawn, boxes, all), undrawn, carried, n: onPaths.size };
}

function boxesOf(drawn, { influence }, isNarrow) {
  const columnOf = (node) => (isNarrow ? 0 : node.ctx_idx);
  const boxes = Map.groupBy(drawn, (node) => `${rowOf(node)} ${columnOf(node)}`);
  return [...boxes].map(([key, inBox]) => {
    const lines = Map.groupBy(inBox, (node) => `${node.ctx_idx} ${titleOf(node)}`);
    const marks = [...lines.values()].map((alike) => markOf(alike, influence));
    const size = ({ effect, influence: share }) => Math.abs(effect ?? share);
    if (inBox[0].feature_type !== "embedding") marks.sort((a, b) =>
      Number(a.kind === "error") - Number(b.kind === "error") || size(b) - size(a));
    return { key, row: rowOf(inBox[0]), column: columnOf(inBox[0]), marks, left: 0, top: 0, width: 0, height: 0 };
  });
}

/* Number the latents of one title, at several layers or tokens. */
function tellApart(marks) {
  for (const alike of Map.groupBy(marks, ({ title }) => title).values()) if (alike.length > 1)
    for (const mark of alike) mark.title = `#${numberOf(byId.get(mark.ids[0])).trim()} ${mark.title}`;
}

/* What stands for a node. Latents of one title at a token share a line, and those of a group if it is drawn as one. */
function titleOf(node) {
  const kind = kindOf(node);
  if (kind === "error") return "error";
  if (kind === "logit") return wordOf(node);
  if (kind === "embedding") return visible(metadata.prompt_tokens[node.ctx_idx]);
  const group = state.merged && state.groups.get(node.node_id);
  return group || shortOf(node);
}

/* The node of the largest influence comes first. */
function markOf(alike, influence) {
  const sorted = alike.toSorted((a, b) => (influence.get(b.node_id) ?? 0) - (influence.get(a.node_id) ?? 0));
  const [first] = sorted;
  const kind = kindOf(first);
  const effects = sorted.map((node) => effectOf(node, state.answer)).filter((effect) => effect !== undefined);
  const title = titleOf(first);
  return {
    ids: sorted.map(({ node_id: id }) => id),
    kind,
    token: kind === "latent" || kind === "error" ? visible(metadata.prompt_tokens[first.ctx_idx]) : "",
    name: alike.length > 1 ? `${title}, ${alike.length} latents` : nameOf(first),
    title: alike.length > 1 ? `${title} ×${alike.length}` : title,
    effect: effects.length ? sumOf(effects) : undefined,
    influence: Math.min(1, sumOf(sorted, (node) => influence.get(node.node_id) ?? 0)),
  };
}

/* Between two boxes there is a strand for errors, and one for all others. */
function strandsOf(drawn, boxes, { influence }) {
  const boxOf = new Map(boxes.flatMap((box) => box.marks.flatMap(({ ids }) => ids.map((id) => [id, box]))));
  const isOfError = ({ source }) => kindOf(byId.get(source)) === "error";
  const strands = Map.groupBy(drawn, (link) =>
    `${boxOf.get(link.source).key} ${boxOf.get(link.target).key} ${isOfError(link)}`);
  return [...strands.values()].map((within) => {
    const carriedOf = (link) => shareOf(link) * (influence.get(link.target) ?? 0);
    const sorted = within.toSorted((a, b) => carriedOf(b) - carriedOf(a));
    const [{ source, target }] = sorted;
    return { from: boxOf.get(source), to: boxOf.get(target), isError: isOfError(sorted[0]), links: sorted,
      carries: sumOf(sorted, carriedOf), width: 0, d: "" };
  });
}

/** @typedef {{ boxes: Box[], strands: Strand[], undrawn: { node: any, influence: number }[],
 *     carried: Record<"tokens" | "errors", number>, n: number }} Shown */
/** Nodes of a layer and token. row: −1 tokens, ∞ the answer. left, top, width, height: its place, once it has one.
 * isOfSingleLines: whether no name in it is broken into lines.
 * @typedef {{ key: string, row: number, column: number, marks: Mark[],
 *     left: number, top: number, width: number, height: number, isOfSingleLines?: boolean }} Box */
/** A line of a box: some nodes, drawn as one. token: at which they are. effect: on the answer, in nats, if it is known.
 * text: the part of the title that there is room for. line: its element.
 * @typedef {{ ids: string[], kind: string, token: string, name: string, title: string, effect: number | undefined,
 *     influence: number, text?: string, line?: any }} Mark */
/** Edges between two boxes. carries: their share of the influence on the answer. width, d: of the line that
 * is drawn, once it has its place; line: its element.
 * @typedef {{ from: Box, to: Box, isError: boolean, links: any[], carries: number, width: number, d: string,
 *     line?: any }} Strand */
