/* An attribution graph: layers upwards, tokens to the right. A click pins a node or an edge; the address holds what is
 * pinned, cut and grouped. `data` holds graph (Neuronpedia's JSON; its `interp` has the heads that carry edges, and the
 * pairs of nodes in attention scores), cards (by "layer_latent"), effects (source, target, attributed, measured),
 * disagreements (the numbers of those that differ, the furthest first) and scores (rows of the table of scores). A
 * served page (`data-live`) asks what the model says with latents turned off or up. */
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { effects } = data;
const { nodes, links, metadata } = data.graph;
const byId = new Map(nodes.map((node) => [node.node_id, node]));
const keyOf = (edge) => `${edge.source} ${edge.target}`;
/* Every edge and every measured pair, by its key: source, target, and what is known of weight, attributed, measured. */
const pairs = new Map();
for (const edge of [...links, ...effects]) pairs.set(keyOf(edge), { ...pairs.get(keyOf(edge)), ...edge });
const heads = Map.groupBy(data.graph.interp.heads, keyOf);
const placeOf = ({ layer, head, query, key }) => `${layer} ${head} ${query} ${key}`;
/** @type {Map<string, any[]>} */
const scores = Map.groupBy(data.graph.interp.scores, placeOf);
const state = { pinned: null, cut: 100, errors: true, groups: new Map(), times: {} }; // groups: a name by node
const AT_FIRST = 60;
const NODE = 7;
const GAP = 20;
const LINE = 22; // from a latent to the one below it
const MOST_LINES = 14; // latents in a column of a cell
const ROW = 56;
const WORD = { width: 64, height: 42 };
const LETTER = 6.2;
const NAME = 220; // width of a latent's name, if there is room
const LEAST_NAME = 40;
const MOST_LETTERS = 14; // of a token
const MOST_BOW = 48;
const PADDING = 20; // of the frame, on both sides
const BELOW = 40; // the height that is left free below the graph
const MARGIN = { left: 76, narrow: 28, right: 12, top: 14, bottom: 44 };

const SCORES = {
  answer:
    "the log probability, in nats, of what this prompt makes likeliest. If shuffled tokens make it as likely, it " +
    "does not depend on their order.",
  agreement:
    "the rank correlation with ablation, of what latents do to the answer to first order (effects) and by the paths " +
    "of the graph, and to each other (pairs). If attributions are shuffled among them, it exceeds the number given " +
    "in 1 of 20 cases. Other nulls say nothing of it: a null model agrees with its own ablations too.",
  replacement: "and completeness: how much the dictionaries hold of the model, on any text, also on shuffled tokens.",
};

const made = (node, attributes, ...children) => {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const element = (name, attributes = {}, ...children) => made(document.createElement(name), attributes, ...children);
const drawn = (name, attributes = {}, ...children) =>
  made(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, ...children);
/** @type {(id: string) => any} */
const the = (id) => document.getElementById(id);

/* White space as it is drawn in every token: ␣ a space, ↵ a line end, ⇥ a tab, ␣×7 seven spaces in a row. */
const visible = (token) =>
  token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ {3,}/g, ({ length }) => `␣×${length}`).replaceAll(" ", "␣");
/* A name with the white space of each token that it quotes; one of white space alone has its line ends written as a
 * rule does. */
const quoting = (name) => name.replace(/"(.+?)"(?=$|[\s,;:.)])|“.*?”/gs, (quoted) =>
  visible(/^"(?:\\n|\s)+"$/.test(quoted) ? quoted.replaceAll("\\n", "\n") : quoted));
const nameOf = ({ clerp }) => quoting(clerp);
/* A number with two digits, and with more only if it is above 100. */
function short(value) {
  if (value === undefined || value === null) return "";
  const size = Math.abs(value);
  return (size >= 100 ? value.toFixed(0) : size < 0.001 ? value.toFixed(3) : value.toPrecision(2)).replace("-", "−");
}
const percent = (share) => `${Math.round(100 * share)} %`.replace("-", "−");
/** @type {(list: any[], value?: (each: any) => number) => number} */
const sumOf = (list, value = Number) => list.reduce((sum, each) => sum + value(each), 0);
const clipped = (text, most = 56) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const kindOf = (node) =>
  ({ embedding: "embedding", logit: "logit", "mlp reconstruction error": "error" })[node.feature_type] ?? "latent";
const wordOf = (node) => nameOf(node).replace(/^says “(.*)”$/s, "$1");
const numberOf = (node) => (kindOf(node) === "latent" ? `${node.node_id.split("_")[1]} ` : "");
/* The share of the influence that is a node's own; `node.influence` is cumulative. */
const { influence } = data.graph.interp;
const allInfluence = sumOf(influence) || 1;
const ownShares = new Map(nodes.map((node, k) => [node, influence[k] / allInfluence]));
const cardOf = (node) => data.cards[node.node_id.split("_").slice(0, 2).join("_")];
const shortOf = (node) => (cardOf(node)?.short ? quoting(cardOf(node).short) : nameOf(node));

const logits = nodes.filter((node) => kindOf(node) === "logit").sort((a, b) => b.token_prob - a.token_prob);
const likeliest = logits[0];
const groupsOfFile = data.graph.qParams.supernodes;
const groupsAsList = () =>
  [...Map.groupBy(state.groups.keys(), (id) => state.groups.get(id))].map(([name, ids]) => [name, ...ids]);

/* The state, in the address. */
function remember() {
  const words = new URLSearchParams({ cut: String(state.cut) });
  if (state.pinned) words.set(pairs.has(state.pinned) ? "edge" : "node", state.pinned);
  if (!state.errors) words.set("errors", "0");
  const groups = JSON.stringify(groupsAsList());
  if (groups !== JSON.stringify(groupsOfFile)) words.set("groups", groups);
  history.replaceState(null, "", `#${words}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (byId.has(words.get("node"))) state.pinned = words.get("node");
  if (pairs.has(words.get("edge"))) state.pinned = words.get("edge");
  const share = Number(words.get("cut"));
  if (share >= 5 && share <= 100) state.cut = share;
  state.errors = words.get("errors") !== "0";
  let groups = groupsOfFile;
  try {
    if (words.has("groups")) groups = JSON.parse(words.get("groups"));
    const named = groups.flatMap(([name, ...ids]) => ids.map((id) => [id, String(name)]));
    state.groups = new Map(named.filter(([id]) => byId.has(id)));
  } catch {
    state.groups = new Map(); // an address that was cut off has no groups
  }
}

/* Redraw after a change of the state. */
function changed(parts = {}) {
  Object.assign(state, parts);
  remember();
  draw();
  card();
}

/* Start with as many nodes as can be distinguished, with the answer in sight. */
function begin() {
  while (state.cut > 5 && shown().kept.length > AT_FIRST) state.cut -= 1;
  recall();
  heading();
  draw();
  card();
  scoreTable();
  disagreementList();
  const answer = the("graph").querySelector(`[data-id="${likeliest.node_id}"]`);
  the("frame").scrollLeft = answer.getBBox().x - MARGIN.left;
}

/* The nodes that hold the share of the state's cut, and the edges between them. */
function shown() {
  const limit = state.cut / 100;
  const first = (node) => node.influence - ownShares.get(node) < limit - 1e-9;
  const keeps = (node) => kindOf(node) === "logit" || (first(node) && (state.errors || kindOf(node) !== "error"));
  const kept = nodes.filter(keeps);
  const ids = new Set(kept.map((node) => node.node_id));
  return { kept, edges: links.filter((link) => ids.has(link.source) && ids.has(link.target)) };
}

/* Place the nodes: one column per token, one row per layer, logits on top, as many as fit beside one another. The
 * latents of a cell stand below one another, so that there is room for their names beside them. */
function places(kept) {
  const rows = [...new Set(nodes.map(rowOf))].sort((a, b) => a - b);
  const cells = Map.groupBy(kept, (node) => `${rowOf(node)} ${node.ctx_idx}`);
  const frame = the("frame");
  const isNarrow = frame.clientWidth < 560;
  const left = isNarrow ? MARGIN.narrow : MARGIN.left;
  const inside = frame.clientWidth - PADDING - left - MARGIN.right;
  const { columns, width, isTall } = columnsOf(rows, cells, left, inside);
  const perLine = Math.max(1, Math.floor(inside / WORD.width));
  const lines = Math.ceil(logits.length / perLine);
  const top = MARGIN.top + lines * WORD.height;
  const letters = isTall ? Math.max(...metadata.prompt_tokens.map((token) => visible(token).length)) : 0;
  const bottom = MARGIN.bottom + Math.min(letters, MOST_LETTERS) * LETTER;
  const mostOf = (row) => Math.max(...columns.map((_, at) => cells.get(`${row} ${at}`)?.length ?? 0));
  const linesOf = (row) => (row === Infinity ? 0 : Math.min(MOST_LINES, mostOf(row)));
  const heights = rows.map((row) => Math.max(ROW, linesOf(row) * LINE + 30));
  const steps = heights.slice(1).map((each, k) => (each + heights[k]) / 2);
  const free = innerHeight - frame.offsetTop - BELOW - top - bottom - sumOf(steps);
  const spare = Math.max(0, free) / Math.max(1, steps.length);
  const height = top + bottom + sumOf(steps) + spare * steps.length;
  const ys = rows.map((_, k) => height - bottom - sumOf(steps.slice(0, k)) - spare * k);
  const at = new Map();
  for (const [key, mates] of cells) {
    const [level, column] = key.split(" ").map(Number);
    if (level === Infinity) continue;
    const { x, room } = columns[column];
    const high = Math.min(mates.length, MOST_LINES);
    const wide = Math.ceil(mates.length / MOST_LINES);
    mates.forEach((node, k) => {
      const down = (k % MOST_LINES) - (high - 1) / 2;
      const right = Math.floor(k / MOST_LINES) - (room ? 0 : (wide - 1) / 2);
      const place = { x: x + right * GAP, y: ys[rows.indexOf(level)] + down * LINE };
      at.set(node.node_id, { ...place, room: wide > 1 ? 0 : room });
    });
  }
  const first = lines > 1 ? left : width - MARGIN.right - logits.length * WORD.width;
  logits.forEach((node, k) => {
    const x = first + ((k % perLine) + 0.5) * WORD.width;
    at.set(node.node_id, { x, y: top - (lines - 1 - Math.floor(k / perLine)) * WORD.height, room: 0 });
  });
  return { at, rows, ys, columns, width, height, bottom, isNarrow, isTall };
}

/* The columns of tokens: of each its left side, the place of its nodes, and the room for names beside them. They divide
 * the width between the margins; where that is too little, tokens are written upwards (isTall). */
function columnsOf(rows, cells, left, inside) {
  const tokens = metadata.prompt_tokens;
  const cellsOf = tokens.map((_, at) => rows.map((row) => cells.get(`${row} ${at}`) ?? []));
  const latentsIn = cellsOf.map((own) => own.filter((cell) => cell.some((node) => kindOf(node) === "latent")));
  const mostIn = (at) => Math.max(1, ...latentsIn[at].map((cell) => cell.length));
  const leastOf = (isTall) => tokens.map((token, at) =>
    Math.max(isTall ? LINE : visible(token).length * 8 + 10, Math.ceil(mostIn(at) / MOST_LINES) * GAP));
  const isTall = sumOf(leastOf(false)) > inside;
  const least = leastOf(isTall);
  const spare = Math.max(0, inside - sumOf(least));
  const withLatents = [...latentsIn.keys()].filter((at) => latentsIn[at].length);
  const isWide = spare >= LEAST_NAME * withLatents.length;
  const named = isWide ? withLatents : withLatents.slice(-1); // most latents are at the last token
  const share = Math.min(NAME, spare / named.length);
  const ofNames = share < LEAST_NAME ? 0 : share;
  const withNames = least.map((each, at) => each + (named.includes(at) ? ofNames : 0));
  const scale = Math.max(1, inside / sumOf(withNames));
  let start = left;
  const columns = withNames.map((each, at) => {
    const width = each * scale;
    const own = named.includes(at) ? ofNames && width - GAP : 0;
    const column = { left: start, x: start + (own ? GAP / 2 + 4 : width / 2), room: own };
    start += width;
    return column;
  });
  return { columns, width: start + MARGIN.right, isTall };
}

const rowOf = (node) => ({ embedding: -1, logit: Infinity })[kindOf(node)] ?? Number(node.layer);

function draw() {
  const svg = the("graph");
  const { kept, edges } = shown();
  const { at, rows, ys, columns, width, height, bottom, isNarrow, isTall } = places(kept);
  svg.replaceChildren();
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  rows.forEach((row, k) => {
    const label = row === -1 ? "tokens" : row === Infinity ? "next token" : `layer ${row}`;
    const place = isNarrow
      ? { transform: `translate(14,${ys[k]}) rotate(-90)`, "text-anchor": "middle" }
      : { x: 4, y: ys[k] + 4 };
    svg.append(drawn("text", { class: "axis", ...place }, label));
  });
  metadata.prompt_tokens.forEach((token, k) => {
    const { left, x, room } = columns[k];
    const y = height - bottom + 32;
    const place = isTall
      ? { transform: `translate(${x + 4},${y - 14}) rotate(-90)`, "text-anchor": "end" }
      : { x: room ? x - 6 : x, y, "text-anchor": room ? "start" : "middle" };
    svg.append(drawn("line", { class: "column", x1: left, x2: left, y1: 20, y2: height - 20 }));
    svg.append(drawn("text", place, clipped(visible(token), MOST_LETTERS)));
  });
  const most = new Map();
  for (const link of edges) most.set(link.target, Math.max(most.get(link.target) ?? 0, Math.abs(link.weight)));
  for (const link of edges) {
    const from = at.get(link.source);
    const to = at.get(link.target);
    const middle = (from.y + to.y) / 2;
    const bow = from.x === to.x ? Math.min(MOST_BOW, (from.y - to.y) / 4) : 0; // around what stands between them
    const d = `M${from.x},${from.y}C${from.x - bow},${middle} ${to.x - bow},${middle} ${to.x},${to.y}`;
    const thick = 0.4 + 3 * (Math.abs(link.weight) / most.get(link.target));
    const kind = link.weight > 0 ? "raises" : "lowers";
    const look = { class: `edge ${kind}`, "data-key": keyOf(link), "stroke-width": thick };
    const name = `${nameOf(byId.get(link.source))} → ${nameOf(byId.get(link.target))}: ${short(link.weight)}`;
    const meets = { class: "meets", d, ...handlers(keyOf(link)) }; // a wide line that is not seen, for the mouse
    svg.append(drawn("path", { ...look, d }), drawn("path", meets, drawn("title", {}, name)));
  }
  for (const node of kept) svg.append(nodeMark(node, at.get(node.node_id), state.groups.get(node.node_id)));
  the("share").value = percent(state.cut / 100);
  the("cut").value = state.cut;
  the("errors").checked = state.errors;
  light(state.pinned);
}

/* What the mouse does with a node or an edge. */
const handlers = (id) => ({
  onmouseenter: () => light(id),
  onmouseleave: () => light(state.pinned),
  onclick: () => pin(state.pinned === id ? null : id),
});

function nodeMark(node, { x, y, room }, group) {
  const kind = kindOf(node);
  const id = node.node_id;
  const isChanged = (state.times[id] ?? 1) !== 1;
  const mark = drawn("g", {
    class: `node ${kind}${group ? " grouped" : ""}${isChanged ? " changed" : ""}`,
    "data-id": id,
    tabindex: 0,
    role: "button",
    "aria-label": nameOf(node),
    ...handlers(id),
    onpointerdown: (event) => grab(mark, event),
    onkeydown: (event) => event.key === "Enter" && pin(id),
  });
  const size = 3 + NODE * Math.sqrt(Math.min(1, ownShares.get(node) * 12));
  const look = { class: "shape" };
  if (kind === "latent") {
    mark.append(drawn("circle", { ...look, cx: x, cy: y, r: size }));
    const letters = Math.floor((room - size) / LETTER);
    if (room) mark.append(drawn("text", { class: "name", x: x + size + 4, y: y + 4 }, clipped(shortOf(node), letters)));
  } else if (kind === "error")
    mark.append(drawn("path", { ...look, d: `M${x - size},${y}l${size},${-size}l${size},${size}l${-size},${size}Z` }));
  else if (kind === "embedding") mark.append(drawn("rect", { ...look, x: x - 6, y: y - 6, width: 12, height: 12 }));
  else {
    const word = wordOf(node);
    const middle = { x, "text-anchor": "middle" };
    mark.append(
      drawn("rect", { ...look, x: x - 29, y: y - 26, width: 58, height: 36, rx: 4 }),
      drawn("text", { ...middle, y: y - 12 }, word.length > 8 ? `${word.slice(0, 7)}…` : word),
      drawn("text", { ...middle, class: "axis", y: y + 4 }, percent(node.token_prob)),
    );
  }
  mark.append(drawn("title", {}, group ? `${group}: ${nameOf(node)}` : nameOf(node)));
  return mark;
}

/* Highlight a node with its edges, or an edge with its nodes. */
function light(id) {
  const svg = the("graph");
  svg.classList.toggle("dimmed", Boolean(id));
  const { source, target } = pairs.get(id) ?? {};
  const near = new Set([id, source, target]);
  for (const edge of svg.querySelectorAll(".edge")) {
    const ends = pairs.get(edge.dataset.key);
    const touches = edge.dataset.key === id || ends.source === id || ends.target === id;
    edge.classList.toggle("on", touches);
    if (touches) near.add(ends.source).add(ends.target);
  }
  for (const mark of svg.querySelectorAll(".node")) {
    mark.classList.toggle("near", near.has(mark.dataset.id));
    mark.classList.toggle("pinned", mark.dataset.id === state.pinned);
  }
}

function pin(id) {
  state.pinned = id;
  remember();
  light(id);
  card();
}

function table(names, rows) {
  const head = names.map((name) => element("th", { scope: "col" }, name));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("table", {}, element("tr", {}, ...head), ...body);
}

/* A table under a title, if it has rows. */
function titled(title, names, rows, level = "h3") {
  return rows.length ? [element(level, {}, title), table(names, rows)] : [];
}

function nameButton(node) {
  const place = visible(metadata.prompt_tokens[node.ctx_idx]);
  const look = { onclick: () => pin(node.node_id), title: nameOf(node) };
  return element("button", look, `${numberOf(node)}${clipped(shortOf(node))} @ ${place}`);
}

function edgeButton(pair, name) {
  return element("button", { onclick: () => pin(keyOf(pair)), title: "show this edge" }, name);
}

/* The strongest edges into a node (end: "source") or out of it ("target"). */
function edgeTable(title, id, end) {
  const edges = links.filter((link) => link[end === "source" ? "target" : "source"] === id);
  const strongest = edges.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, 12);
  const rows = strongest.map((link) => {
    const { attributed, measured } = pairs.get(keyOf(link));
    return [nameButton(byId.get(link[end])), edgeButton(link, short(link.weight)), short(attributed), short(measured)];
  });
  return titled(title, ["node", "edge", "to first order", "measured"], rows);
}

const tokenAt = (position) => `“${visible(metadata.prompt_tokens[position])}”`;
const pairEnd = (id) => (byId.has(id) ? nameButton(byId.get(id)) : { bias: "biases", rest: "all else" }[id]);

/* A pinned edge: its size, the heads that carry it, and why these attend where they do. */
function edgeCard(pair) {
  const [source, target] = [byId.get(pair.source), byId.get(pair.target)];
  const ends = element("p", {}, nameButton(source), " → ", nameButton(target));
  const parts = [element("h2", {}, "edge"), ends];
  const into = links.filter((link) => link.target === pair.target);
  const read = sumOf(into, ({ weight }) => Math.abs(weight));
  const isDrawn = pair.weight !== undefined;
  const share = isDrawn ? ` (${percent(Math.abs(pair.weight) / read)} of what is drawn into it)` : "";
  const size = isDrawn ? `edge ${short(pair.weight)}${share}` : "no edge is drawn here";
  const free = pair.measured === undefined ? "not ablated" : `measured ${short(pair.measured)}`;
  const first = pair.attributed === undefined ? "" : `; with nothing held: to first order ${short(pair.attributed)}`;
  parts.push(element("p", {}, `${size}${first}; ${free}`));
  const carriers = heads.get(keyOf(pair)) ?? [];
  if (!carriers.length) return parts;
  const [to, from] = [tokenAt(target.ctx_idx), tokenAt(source.ctx_idx)];
  const rows = carriers.map(({ layer, head, attention, carried }) => {
    return [`head ${layer}.${head}`, percent(carried / pair.weight), attention.toFixed(2)];
  });
  const left = 1 - sumOf(carriers, ({ carried }) => carried) / pair.weight;
  rows.push(["other heads, and steps over other tokens", percent(left), ""]);
  parts.push(...titled(`carried from ${from} to ${to} by`, ["head", "share", "attention"], rows));
  for (const { layer, head, attention } of carriers) {
    const terms = scores.get(placeOf({ layer, head, query: target.ctx_idx, key: source.ctx_idx })) ?? [];
    const listed = terms.filter((term) => term.query_node !== "rest" || term.key_node !== "rest");
    const largest = listed.sort((a, b) => Math.abs(b.score) - Math.abs(a.score)).slice(0, 10);
    const lines = largest.map((term) => [pairEnd(term.query_node), pairEnd(term.key_node), short(term.score)]);
    const whole = sumOf(terms, ({ score }) => score);
    lines.push(["all other pairs", "", short(whole - sumOf(largest, ({ score }) => score))]);
    lines.push([`score of ${from}, less the other tokens’`, "", short(whole)]);
    const title = `head ${layer}.${head} attends ${attention.toFixed(2)} from ${to} to ${from}, because`;
    if (terms.length) parts.push(...titled(title, ["in the query", "× in the key", "nats"], lines));
  }
  return parts;
}

const measured = (node) => pairs.get(`${node.node_id} ${likeliest.node_id}`)?.measured;

/* The latents with the largest effect on the likeliest next token: by ablation, or to first order if not ablated. */
function effectTable() {
  const size = (node) => Math.abs(measured(node) ?? node.effect);
  const known = nodes.filter((node) => node.effect !== undefined && kindOf(node) !== "error");
  const sorted = known.sort((a, b) => size(b) - size(a));
  const strongest = sorted.filter((node) => size(node) >= size(sorted[0]) / 100).slice(0, 12);
  const rows = strongest.map((node) => [nameButton(node), short(node.effect), short(measured(node))]);
  return titled(`“${wordOf(likeliest)}” depends most on, in nats`, ["node", "to first order", "measured"], rows, "h2");
}

function exampleLine({ tokens, shares, at }) {
  const spans = tokens.map((token, k) => {
    const span = element("span", { class: k === at ? "at" : "" }, token);
    span.style.setProperty("--a", shares[k]);
    return span;
  });
  return element("div", { class: "example" }, ...spans);
}

function card() {
  const aside = the("card");
  const node = byId.get(state.pinned);
  if (pairs.has(state.pinned)) {
    aside.replaceChildren(...edgeCard(pairs.get(state.pinned)), ...groupList());
    return;
  }
  if (!node) {
    const help =
      "Click a node: what feeds it, what it feeds, and what the model does without it. " +
      "Click an edge: the heads that carry it, and why they look there. " +
      "Drag one onto another to group them. Width of an edge: its share of what its target reads. To first order: " +
      "activation times gradient. Measured: what is lost when the latent is ablated.";
    aside.replaceChildren(element("p", { class: "muted" }, help), ...effectTable(), ...groupList());
    return;
  }
  const facts = cardOf(node);
  const place = visible(metadata.prompt_tokens[node.ctx_idx]);
  const share = short(100 * ownShares.get(node));
  const latent = kindOf(node) === "latent" ? `latent ${numberOf(node)}of layer ${node.layer}, ` : "";
  const where = `${latent}at “${place}”, position ${node.ctx_idx}; ${share} % of the influence drawn`;
  const parts = [element("h2", {}, nameOf(node)), element("p", { class: "muted" }, where)];
  if (node.effect !== undefined) {
    const loss = measured(node);
    const without = loss === undefined ? "" : `; without it the model's own falls by ${short(loss)}`;
    parts.push(element("p", {}, `adds ${short(node.effect)} nats to “${wordOf(likeliest)}”, to first order${without}`));
  }
  if (facts?.logits.length)
    parts.push(element("p", { class: "muted" }, `raises ${facts.logits.map(visible).join("  ")}`));
  if (kindOf(node) === "latent") parts.push(...slider("this latent", [node.node_id]));
  parts.push(groupButton(node));
  parts.push(...edgeTable("is fed by", node.node_id, "source"), ...edgeTable("feeds", node.node_id, "target"));
  if (facts?.examples.length) parts.push(element("h3", {}, "fires most on"), ...facts.examples.map(exampleLine));
  aside.replaceChildren(...parts, ...groupList());
}

/* Sliders for the strength of some latents; after a move the model says what comes next. Only on a served page. */
function slider(name, ids) {
  if (!("live" in document.body.dataset) || !ids.length) return [];
  const now = state.times[ids[0]] ?? 1;
  const label = `${name}, times`;
  const output = element("output", {}, `× ${now}`);
  const oninput = () => output.replaceChildren(`× ${bar.value}`);
  const onchange = () => change(Object.fromEntries(ids.map((id) => [id, Number(bar.value)])));
  const look = { type: "range", min: 0, max: 4, step: 0.25, value: now, "aria-label": label };
  const bar = element("input", { ...look, oninput, onchange });
  return [element("label", { class: "times" }, name, " ", bar, " ", output)];
}

async function change(times) {
  for (const [id, value] of Object.entries(times)) {
    if (value === 1) delete state.times[id];
    else state.times[id] = value;
  }
  draw();
  const asked = JSON.stringify({ times: state.times });
  const now = the("now");
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await fetch("/api/change", { method: "POST", headers, body: asked });
    const { next, error } = await answer.json();
    if (asked !== JSON.stringify({ times: state.times })) return; // the slider has moved since
    const inPercent = (share) => `${short(100 * share)} %`;
    const words = next?.map(([word, before, after]) => `${visible(word)} ${inPercent(before)} → ${inPercent(after)}`);
    now.replaceChildren(error ?? `now ${words.join("   ")} `);
    const ids = Object.keys(state.times);
    const whole = () => change(Object.fromEntries(ids.map((id) => [id, 1])));
    if (ids.length) now.append(element("button", { onclick: whole }, "as it was"));
  } catch {
    now.textContent = "the server does not answer";
  }
  card();
}

function groupButton(node) {
  const look = { type: "text", size: 14, placeholder: "group", "aria-label": "name of the group" };
  const name = element("input", look);
  name.value = state.groups.get(node.node_id) ?? [...state.groups.values()].at(-1) ?? "";
  const put = () => move([node.node_id], name.value.trim());
  return element("p", {}, name, " ", element("button", { onclick: put }, "put in group"));
}

/* Put nodes into the group of this name; without a name, into none. */
function move(moved, name) {
  for (const id of moved) {
    if (name) state.groups.set(id, name);
    else state.groups.delete(id);
  }
  changed();
}

/* A node dragged onto another joins its group, or starts one with it. Touch scrolls instead. */
function grab(mark, start) {
  if (start.pointerType === "touch") return;
  const drag = ({ clientX, clientY }) => {
    const [right, down] = [clientX - start.clientX, clientY - start.clientY];
    if (Math.hypot(right, down) < 4) return;
    mark.classList.add("dragged");
    mark.setAttribute("transform", `translate(${right},${down})`);
  };
  const drop = ({ clientX, clientY }) => {
    removeEventListener("pointermove", drag);
    if (!mark.classList.contains("dragged")) return;
    const other = document.elementFromPoint(clientX, clientY)?.closest(".node")?.dataset.id;
    if (other) move([other, mark.dataset.id], state.groups.get(other) ?? clipped(nameOf(byId.get(other))));
    else draw();
  };
  addEventListener("pointermove", drag);
  addEventListener("pointerup", drop, { once: true });
}

/* Groups, with what each contributes directly to the likeliest next token. A group renamed to another's name joins it;
 * one without a name is dissolved. */
function groupList() {
  const rows = groupsAsList().map(([name, ...ids]) => {
    const out = links.filter((link) => ids.includes(link.source) && link.target === likeliest.node_id);
    const sum = sumOf(out, ({ weight }) => weight);
    const look = { type: "text", size: 18, value: name, "aria-label": "name of the group" };
    const title = element("input", { ...look, onchange: () => move(ids, title.value.trim()) });
    const latents = ids.filter((id) => kindOf(byId.get(id)) === "latent");
    return [element("span", {}, title, ...slider("all", latents)), String(ids.length), short(sum)];
  });
  const save = element("button", { onclick: download }, "save graph and groups");
  const list = titled("groups", ["group", "nodes", `to “${wordOf(likeliest)}”`], rows);
  return rows.length ? [...list, element("p", {}, save)] : [];
}

function download() {
  const supernodes = groupsAsList();
  const qParams = { ...data.graph.qParams, supernodes, pinnedIds: supernodes.flatMap(([, ...ids]) => ids) };
  const content = { ...data.graph, qParams };
  const link = element("a", { download: `${metadata.slug}.json` });
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content)], { type: "application/json" }));
  link.click();
  URL.revokeObjectURL(link.href);
}

function heading() {
  const [first, ...others] = metadata.prompt_tokens;
  const isSpecial = /^<\|.*\|>$/.test(first);
  the("prompt").replaceChildren(element("span", { class: isSpecial ? "muted" : "" }, first), others.join(""));
  const likely = logits.slice(0, 5).map((node) =>
    element("span", {}, element("b", {}, wordOf(node)), ` ${percent(node.token_prob)}`));
  the("says").replaceChildren("→ ", ...likely);
}

/* What agrees with ablation no better than shuffled attributions do. */
function byChance() {
  const [own, ...nulls] = data.scores;
  const chance = nulls.find(({ graph }) => graph === "attributions shuffled") ?? {};
  const isChance = (name) => (own[`agreement_of_${name}`] ?? 1) <= (chance[`agreement_of_${name}`] ?? 0);
  const whats = {
    effects: "To first order, the graph ranks what latents do to the answer",
    pairs: "The graph ranks what latents do to each other",
    paths: "By its paths, the graph ranks what latents do to the answer",
  };
  return Object.entries(whats).filter(([name]) => isChance(name))
    .map(([, what]) => `${what} no better than chance: go by what is measured.`);
}

/* The graph beside those of its nulls. A score that none of them has is left out. */
function scoreTable() {
  const isCount = (cell) => Number.isInteger(cell) && cell > 1;
  const isKnown = (name) => data.scores.some((row) => (row[name] ?? null) !== null);
  const names = Object.keys(data.scores[0] ?? {}).filter(isKnown);
  if (!names.length) return;
  const text = (cell) => (typeof cell !== "number" ? (cell ?? "") : isCount(cell) ? `${cell}` : short(cell));
  const cells = data.scores.map((row) => names.map((name) => text(row[name])));
  const list = table(names.map((name) => name.replaceAll("_", " ")), cells);
  const title = "How far to trust it";
  const look = { class: "scores", role: "region", tabindex: 0, "aria-label": title }; // it scrolls on a narrow screen
  const told = Object.entries(SCORES).filter(([score]) => names.some((name) => name.startsWith(score)));
  const meanings = told.map(([score, meaning]) =>
    element("p", { class: "muted" }, element("b", {}, score), `${meaning.startsWith("and") ? " " : ": "}${meaning}`));
  const parts = [element("h2", {}, title), list, ...byChance().map((each) => element("p", {}, each)), ...meanings];
  the("checks").append(element("div", look, ...parts));
}

/* What ablation contradicts: another sign, or a factor of two, the furthest first. */
function disagreementList() {
  if (!effects.length) return;
  const differing = data.disagreements.map((number) => effects[number]);
  const written = (id) => numberOf(byId.get(id)) + clipped(shortOf(byId.get(id)));
  const ends = (pair) => `${written(pair.source)} → ${written(pair.target)}`;
  const rows = differing
    .slice(0, AT_FIRST)
    .map((pair) => [edgeButton(pair, ends(pair)), short(pair.attributed), short(pair.measured)]);
  const says = `${differing.length} of ${effects.length} measured effects have another sign, or differ twofold`;
  const list = table(["from → to", "to first order", "measured"], rows);
  const head = element("h2", {}, "What does not hold");
  const parts = rows.length ? [element("div", { class: "list" }, list)] : [];
  the("checks").append(element("div", {}, head, element("p", { class: "muted" }, says), ...parts));
}

the("cut").addEventListener("input", ({ target }) => changed({ cut: Number(target.value) }));
the("errors").addEventListener("change", ({ target }) => changed({ errors: target.checked }));
addEventListener("resize", draw);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") pin(null);
});
begin();
