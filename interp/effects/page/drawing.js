/* The drawing of the graph. A click on a mark or an edge pins it; a mark dragged onto another joins its group. */

import { drawn, the } from "./elements.js";
import { byId, data, metadata, pairs } from "./graph.js";
import { BOX, LETTER, MOST_LETTERS, WORD, placesOf } from "./layout.js";
import { shown } from "./shown.js";
import { change, move, pin, state } from "./state.js";
import { clipped, inLines, nameOf, percent, short, visible, wordOf } from "./words.js";

const BELOW = 24; // the height that is left free below the graph
const MOST_VALUES = 12; // written on edges at once
const WIDTH = { least: 0.8, most: 7 };

let edges = [];
let marks = [];

export function draw() {
  const svg = the("graph");
  const frame = the("frame");
  const now = shown();
  ({ edges, marks } = now);
  const leastHeight = innerHeight - frame.getBoundingClientRect().top - scrollY - BELOW;
  const focused = document.activeElement?.closest(".node")?.getAttribute("data-id");
  const places = placesOf(marks, frame.clientWidth, leastHeight);
  const values = drawn("g", { id: "values" });
  svg.replaceChildren(...rowNames(places), ...tokenNames(places), ...edgeLines(places.at), values);
  svg.setAttribute("width", places.width);
  svg.setAttribute("height", places.height);
  const latents = marks.filter(({ kind }) => kind === "latent");
  const most = Math.max(1e-30, ...latents.map(({ influence }) => influence));
  for (const mark of marks) svg.append(markShape(mark, places.at.get(mark.id), most));
  the("carried").replaceChildren(percent(now.carried));
  the("answer").replaceChildren(`“${wordOf(byId.get(state.answer))}”`);
  the("count").replaceChildren(`${now.n} of ${data.n_nodes.toLocaleString("en")} nodes`);
  the("cut").value = state.cut;
  the("errors").checked = state.errors;
  the("merged").checked = state.merged;
  the("merged").parentElement.hidden = !state.groups.size;
  light(state.pinned);
  if (focused) svg.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function rowNames({ rows, ys, isNarrow }) {
  return rows.map((row, k) => {
    const label = row === -1 ? "tokens" : row === Infinity ? "next token" : `layer ${row}`;
    const y = row === Infinity ? ys[k] - WORD.box / 2 : ys[k];
    const place = isNarrow
      ? { transform: `translate(18,${y}) rotate(-90)`, "text-anchor": "middle" }
      : { x: 16, y: y + 4 };
    return drawn("text", { class: "axis", ...place }, label);
  });
}

function tokenNames({ columns, height, bottom, isTall }) {
  const isOnPath = new Set(marks.filter(({ kind }) => kind === "embedding").map(({ column }) => column));
  return metadata.prompt_tokens.flatMap((token, k) => {
    const { left, middle } = columns[k];
    const y = height - bottom + 24;
    const place = isTall
      ? { transform: `translate(${middle + 4},${y - 10}) rotate(-90)`, "text-anchor": "end" }
      : { x: middle, y, "text-anchor": "middle" };
    const look = { class: isOnPath.has(k) ? "token" : "token axis", ...place };
    return [
      drawn("line", { class: "column", x1: left, x2: left, y1: 20, y2: height - 8 }),
      drawn("text", look, clipped(visible(token), MOST_LETTERS)),
    ];
  });
}

/* The edges on the paths, and above them those between the same marks that are not on them, which are faded. */
function edgeLines(at) {
  const most = Math.max(1e-30, ...edges.filter(({ isPath }) => isPath).map(({ carries }) => carries));
  const sorted = edges.toSorted((a, b) => Number(a.isPath) - Number(b.isPath) || a.carries - b.carries);
  return sorted.flatMap((edge) => {
    const { from, to, key, weight, carries, isPath } = edge;
    const d = curve(at.get(from.id), at.get(to.id), from, to);
    const width = isPath ? WIDTH.least + (WIDTH.most - WIDTH.least) * Math.sqrt(carries / most) : WIDTH.least;
    const sign = from.kind === "error" ? "fault" : weight > 0 ? "raises" : "lowers";
    const look = { class: `edge ${sign}${isPath ? "" : " faded"}`, "data-key": key };
    edge.line = drawn("path", { ...look, "stroke-width": width.toFixed(1), d });
    if (!isPath) return [edge.line];
    const name = `${from.name} → ${to.name}: ${short(weight)}, ${percent(carries)} of the influence`;
    const isOne = from.ids.length + to.ids.length === 2;
    const meets = { class: "meets", d, ...(isOne ? handlers(key) : {}) }; // a wide line that is not seen, for the mouse
    return [edge.line, drawn("path", meets, drawn("title", {}, name))];
  });
}

const halfOf = ({ kind }, { box }) => (kind === "logit" ? WORD.box / 2 : box && kind === "latent" ? BOX.height / 2 : 6);

/* From the upper side of a mark to the lower side of another, which may stand below it if these are groups. */
function curve(start, end, from, to) {
  const y1 = start.y - halfOf(from, start);
  const y2 = end.y + halfOf(to, end);
  const bend = Math.max(16, Math.abs(y1 - y2) / 2);
  return `M${start.x},${y1}C${start.x},${y1 - bend} ${end.x},${y2 + bend} ${end.x},${y2}`;
}

/* What the mouse does with a mark or an edge. */
const handlers = (id) => ({
  onmouseenter: () => light(id),
  onmouseleave: () => light(state.pinned),
  onclick: () => pin(state.pinned === id ? null : id),
});

function markShape(mark, place, most) {
  const { id, ids, kind, name, influence } = mark;
  const isChanged = ids.some((each) => (state.times[each] ?? 1) !== 1);
  const isGrouped = kind !== "logit" && ids.some((each) => state.groups.has(each));
  const isOther = kind === "logit" && id !== state.answer;
  const press = isOther ? () => change({ answer: id, pinned: null }) : handlers(ids[0]).onclick;
  const look = {
    class: ["node", kind, isGrouped && "grouped", isChanged && "changed", id === state.answer && "answer"]
      .filter(Boolean).join(" "),
    "data-id": ids[0],
    tabindex: 0,
    role: "button",
    "aria-label": name,
    ...handlers(ids[0]),
    onclick: press,
    onpointerdown: (event) => grab(shape, event),
    onkeydown: (event) => event.key === "Enter" && press(),
  };
  const group = state.groups.get(ids[0]);
  const tip = `${group && ids.length === 1 ? `${group}: ` : ""}${name}; ${percent(influence)} of the influence`;
  const shape = drawn("g", look, ...partsOf(mark, place, most), drawn("title", {}, tip));
  return shape;
}

function partsOf({ id, kind, title, influence }, { x, y, box }, most) {
  const share = Math.min(1, influence / most);
  const size = 3 + 5 * Math.sqrt(share);
  if (kind === "error") {
    const d = `M${x - size},${y}l${size},${-size}l${size},${size}l${-size},${size}Z`;
    return [drawn("path", { class: "shape", d })];
  }
  if (kind === "embedding") return [drawn("rect", { class: "shape", x: x - 5, y: y - 5, width: 10, height: 10 })];
  if (kind === "latent" && box) return boxParts(title, share, x, y, box);
  if (kind === "latent") return [drawn("circle", { class: "shape", cx: x, cy: y, r: size })];
  const word = wordOf(byId.get(id));
  const middle = { x, "text-anchor": "middle" };
  const [wide, high] = [WORD.width - 6, WORD.box];
  return [
    drawn("rect", { class: "shape", x: x - wide / 2, y: y - high / 2, width: wide, height: high, rx: 4 }),
    drawn("text", { ...middle, y: y - 2 }, clipped(word, 8)),
    drawn("text", { ...middle, class: "axis", y: y + 13 }, percent(byId.get(id).token_prob)),
  ];
}

/* A title in a box, above a bar for its share of the largest influence of a latent. */
function boxParts(title, share, x, y, box) {
  const [left, top] = [x - box / 2, y - BOX.height / 2];
  const lines = inLines(title, Math.max(3, Math.floor((box - 10) / LETTER)));
  const first = y + 4 - (lines.length - 1) * 6.5 - 1;
  return [
    drawn("rect", { class: "shape", x: left, y: top, width: box, height: BOX.height, rx: 4 }),
    drawn("rect", { class: "bar", x: left + 1, y: y + BOX.height / 2 - 4, width: (box - 2) * share, height: 3 }),
    ...lines.map((line, k) => drawn("text", { class: "name", x, y: first + 13 * k, "text-anchor": "middle" }, line)),
  ];
}

/* Highlight a mark with its edges and their values, or an edge with its ends. */
function light(id) {
  const svg = the("graph");
  const { source, target } = pairs.get(id) ?? {};
  const isOf = (mark, node) => mark.ids.includes(node);
  const isLit = marks.some((mark) => isOf(mark, id)) || edges.some(({ key }) => key === id);
  svg.classList.toggle("dimmed", isLit);
  const touches = ({ from, to }) => isLit
    && (isOf(from, id) || isOf(to, id) || (isOf(from, source) && isOf(to, target)));
  const lit = edges.filter(touches);
  const near = new Set(lit.flatMap(({ from, to }) => [...from.ids, ...to.ids]).concat(id, source, target));
  for (const edge of edges) edge.line.classList.toggle("on", lit.includes(edge));
  for (const shape of svg.querySelectorAll(".node")) {
    shape.classList.toggle("near", near.has(shape.dataset.id));
    shape.classList.toggle("pinned", shape.dataset.id === state.pinned);
  }
  const written = lit.toSorted((a, b) => b.carries - a.carries).slice(0, MOST_VALUES);
  svg.querySelector("#values").replaceChildren(...written.map(valueOn));
  svg.append(svg.querySelector("#values"));
}

function valueOn({ line, weight }) {
  const { x, y } = line.getPointAtLength(line.getTotalLength() * 0.55);
  return drawn("text", { class: "value", x, y: y + 4, "text-anchor": "middle" }, short(weight));
}

/* Touch scrolls instead. */
function grab(shape, start) {
  if (start.pointerType === "touch") return;
  const drag = ({ clientX, clientY }) => {
    const [right, down] = [clientX - start.clientX, clientY - start.clientY];
    if (Math.hypot(right, down) < 4) return;
    shape.classList.add("dragged");
    shape.setAttribute("transform", `translate(${right},${down})`);
  };
  const drop = ({ clientX, clientY }) => {
    removeEventListener("pointermove", drag);
    if (!shape.classList.contains("dragged")) return;
    const other = document.elementFromPoint(clientX, clientY)?.closest(".node")?.getAttribute("data-id");
    if (other) move([other, shape.dataset.id], state.groups.get(other) ?? clipped(nameOf(byId.get(other))));
    else draw();
  };
  addEventListener("pointermove", drag);
  addEventListener("pointerup", drop, { once: true });
}
