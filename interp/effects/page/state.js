/* What the reader has chosen: kept in the address, and told to those who draw it. */

import { strongestNodes } from "./effects.js";
import { byId, data, kindOf, logits, pairs } from "./graph.js";
import { carriedBy, edgesOf, endsOf, pathsTo } from "./paths.js";
import { quoting } from "./words.js";

const AT_FIRST = 24; // nodes that can be told apart

const groupsOfFile = data.graph.qParams.supernodes.map(([name, ...ids]) => [quoting(name), ...ids]);
const listeners = [];

/* pinned: a node or an edge, "" for none. answer: the next token whose paths are drawn. cut: in percent of what all
 * paths carry. groups: a name by node. times: of a served page, the factors of latents that are turned off or up. */
export const state = {
  pinned: "",
  answer: logits[0].node_id,
  cut: 100,
  errors: false,
  merged: false,
  groups: new Map(),
  times: {},
};

const pathsWith = (errors) => pathsTo(state.answer, errors, strongestNodes(state.answer).map((node) => node.node_id));

/** The paths to the answer. */
export const pathsToAnswer = () => pathsWith(state.errors);

/** The groups with their nodes: [name, node, node, …]. */
export const groupsAsList = () =>
  [...Map.groupBy(state.groups.keys(), (id) => state.groups.get(id))].map(([name, ids]) => [name, ...ids]);

/** Call a function after each change of the state, with the names of what has changed. */
export const listen = (listener) => listeners.push(listener);

export function change(parts) {
  Object.assign(state, parts);
  remember();
  for (const listener of listeners) listener(Object.keys(parts));
}

/** Pin a node or an edge, or "" for nothing. If it is of another next token, the paths of that are drawn. */
export function pin(id) {
  const end = byId.get(pairs.get(id)?.target ?? id);
  change({ pinned: id, ...(end && kindOf(end) === "logit" ? { answer: end.node_id } : {}) });
}

/** Put nodes into the group of this name; without a name, into none. */
export function move(moved, name) {
  for (const id of moved) {
    if (name) state.groups.set(id, name);
    else state.groups.delete(id);
  }
  change({ groups: state.groups });
}

/** Begin with the address, and for what it does not say with as many paths as can be told apart, and with errors where
 * more of the influence begins in these than in tokens. */
export function begin() {
  const words = new URLSearchParams(location.hash.slice(1));
  const answer = byId.get(words.get("answer"));
  if (answer && kindOf(answer) === "logit") state.answer = answer.node_id;
  const ofTokens = carriedByAll(pathsWith(false));
  const ofAll = carriedByAll(pathsWith(true));
  state.errors = words.has("errors") ? words.get("errors") !== "0" : ofTokens < ofAll / 2;
  state.merged = words.get("merged") === "1";
  const share = Number(words.get("cut"));
  state.cut = share >= 1 && share <= 100 ? share : cutOf(AT_FIRST);
  const pinned = words.get("edge") ?? words.get("node") ?? "";
  if (byId.has(pinned) || pairs.has(pinned)) state.pinned = pinned;
  const written = words.get("groups");
  try {
    const groups = written === null ? groupsOfFile : JSON.parse(written);
    const named = groups.flatMap(([name, ...ids]) => ids.map((id) => [id, String(name)]));
    state.groups = new Map(named.filter(([id]) => byId.has(id)));
  } catch {
    state.groups = new Map(); // an address that was cut off has no groups
  }
}

const carriedByAll = (all) => carriedBy(all, edgesOf(all));

/* The largest cut at which no more nodes than these are drawn. */
function cutOf(most) {
  const all = pathsToAnswer();
  const first = [...all.least];
  for (const step of all.steps) {
    if (endsOf([...first, ...step]).size > most) break;
    first.push(...step);
  }
  return Math.max(1, Math.floor((100 * carriedBy(all, first)) / (carriedByAll(all) || 1)));
}

function remember() {
  const words = new URLSearchParams({ cut: String(state.cut), errors: state.errors ? "1" : "0" });
  if (state.answer !== logits[0].node_id) words.set("answer", state.answer);
  if (state.pinned) words.set(pairs.has(state.pinned) ? "edge" : "node", state.pinned);
  if (state.merged) words.set("merged", "1");
  const groups = JSON.stringify(groupsAsList());
  if (groups !== JSON.stringify(groupsOfFile)) words.set("groups", groups);
  history.replaceState(null, "", `#${words}`);
}
