/* Histograms. */

import { addBrush } from "./brush.js";
import { h, svg } from "./elements.js";
import { format } from "./format.js";

/** A histogram, optionally with a range that is chosen by dragging over it, or by the arrow keys on two handles.
 *
 * edges, counts: of the bins. parts: lists of counts of parts of the bins, drawn over the bars from the axis up.
 * ticks: values below the axis. marks: [value, text], least first, above the bars. write: returns the text of a tick.
 * scale: "log", or "signed" for one that is linear near 0 and logarithmic on both sides; else it is linear.
 * height: of the picture, which is 400 wide. isOpen: whether the last bin has all larger values. onrange: called with
 * [first bin, last bin + 1], or null for the whole range, and with whether the pointer is still down. The returned
 * element has show({ counts, range }), unless it has no bins.
 * @param {{
 *   title: string, edges: number[], counts: number[], parts?: number[][], scale?: string, ticks?: number[],
 *   marks?: [value: number, text: string][], axis?: string, unit?: string, small?: boolean, root?: boolean,
 *   height?: number, isOpen?: boolean, write?: (value: number) => string,
 *   onrange?: (range: [from: number, to: number] | null, isMoving: boolean) => void,
 * }} histogram
 * @returns {HTMLElement} */
export function drawHistogram({
  title, edges, counts, parts = [], scale = "linear", ticks = [], marks = [], axis = "", unit = "", small = false,
  root = false, height = 150, isOpen = false, onrange, write: writeTick,
}) {
  if (!counts.length) return h("p.missing", null, "No histogram.");
  const above = 11 * Math.ceil(marks.length / 2);
  const [W, H, left, bottom, top] = small ? [240, 62, 8, 16, 4] : [400, height + 4 + above, 54, 38, 8 + above];
  const right = small ? 8 : 6, last = counts.length, base = H - bottom;
  const leastSize = Math.min(...edges.map(Math.abs).filter((v) => v > 0));
  const scaled = (v) => (scale === "log" ? Math.log(Math.max(v, edges[0]))
    : scale === "signed" ? Math.asinh(v / leastSize) : v);
  const ends = [scaled(edges[0]), scaled(edges[last])];
  const x = (v) => left + ((scaled(v) - ends[0]) / (ends[1] - ends[0] || 1)) * (W - left - right);
  const grown = root ? Math.sqrt : (n) => n;
  const write = (v) => format.significant(v, 2);
  const LEAST = 1.5; // height of a bin that is not empty
  let shown = { counts, range: null };

  const bars = counts.map(() => svg("rect", { class: "bin" }));
  const ofParts = parts.map((_, part) => counts.map(() => svg("rect", { class: "bin part", "data-sense": part })));
  const most = svg("text", { x: left - 5, y: top + 9, "text-anchor": "end" });
  const texts = spread(ticks.length ? ticks : [edges[0], edges[last >> 1], edges[last]]);
  const upright = (v, from) => svg("line", { class: "edge", x1: x(v), x2: x(v), y1: from, y2: base });
  const tick = (v) => {
    const anchor = x(v) < left + 9 ? "start" : x(v) > W - right - 9 ? "end" : "middle";
    const more = isOpen && v === edges[last] ? "+" : "";
    return svg("text", { x: x(v), y: base + 13, "text-anchor": anchor }, (writeTick ?? write)(v) + more);
  };
  const axes = small ? [] : [
    most,
    svg("text", { x: left - 5, y: base, "text-anchor": "end" }, "0"),
    svg("text", { x: (left + W) / 2, y: H - 4, "text-anchor": "middle" }, axis),
    svg("text", { transform: `translate(9 ${(top + base) / 2}) rotate(-90)`, "text-anchor": "middle" }, unit),
  ];
  const named = onrange ? { class: "brushed" } : { role: "img", "aria-label": title };
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, ...named },
    bars,
    ofParts.flat(),
    svg("line", { class: "axis", x1: left, x2: W - right, y1: base, y2: base }),
    marked(),
    texts.map(tick),
    axes);

  /* Drop ticks until they have room between them; the first and the last stay. */
  function spread(values) {
    const kept = [values[0]];
    for (const v of values.slice(1, -1)) if (x(v) - x(kept.at(-1)) > 46 && x(values.at(-1)) - x(v) > 40) kept.push(v);
    return [...kept, values.at(-1)];
  }

  /* Put texts in rows above the bars, the outermost highest, each with a line down to its value. */
  function marked() {
    const half = marks.length / 2;
    return marks.map(([value, text], k) => {
      const isLow = k < half;
      const y = top - 3 - 11 * (isLow ? half - 1 - k : k - half);
      const beside = { x: x(value) + (isLow ? 3 : -3), y, "text-anchor": isLow ? "start" : "end" };
      return [upright(value, y + 2), svg("text", { class: "mark", ...beside }, text)];
    });
  }

  function show(changed) {
    shown = { ...shown, ...changed };
    const highest = Math.max(...shown.counts, 1), [from, to] = shown.range ?? [0, last];
    const heightOf = (n) => (n ? Math.max((grown(n) / grown(highest)) * (base - top), LEAST) : 0);
    const put = (bar, k, start, tall) => {
      const width = Math.max(x(edges[k + 1]) - x(edges[k]) - 0.6, 0.6);
      const place = { x: x(edges[k]), y: base - start - tall, width, height: tall };
      for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value.toFixed(2));
      bar.classList.toggle("out", k < from || k >= to);
    };
    shown.counts.forEach((n, k) => {
      put(bars[k], k, 0, heightOf(n));
      let stacked = 0;
      ofParts.forEach((bins, part) => {
        put(bins[k], k, stacked, heightOf(parts[part][k]));
        stacked += heightOf(parts[part][k]);
      });
      const count = `${format.count(n)}${unit ? ` ${unit}` : ""}`;
      const end = isOpen && k === last - 1 ? "and above" : `to ${write(edges[k + 1])}`;
      bars[k].dataset.tip = `${write(edges[k])} ${end}: ${count}`;
    });
    most.textContent = format.count(highest);
    brush?.show(from, to);
  }

  const place = { x: edges.map(x), base, top, width: W };
  const group = onrange ? { role: "group", "aria-label": title } : null;
  const element = h(small ? "div.histogram.small" : "div.histogram", group, picture);
  const options = { title, place, write: (k) => write(edges[k]), range: () => shown.range, onrange };
  const brush = onrange && addBrush(picture, options);
  show({});
  return Object.assign(element, { show });
}
