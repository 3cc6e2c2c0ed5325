/* How strongly a feature fires: log-spaced bins on a log axis, as they were counted. */
"use strict";

report.histogram = ({ edges: sides, counts }, intervals) => {
  if (!counts.length) return h("p.missing", null, "No histogram.");
  const bins = counts.map((n, k) => [sides[k], sides[k + 1], n]);
  const [W, H, left, bottom, top] = [400, 150, 44, 34, 8];
  const floor = bins[0][0];
  const ends = [Math.log(floor), Math.log(bins.at(-1)[1])];
  const x = (v) => left + ((Math.log(Math.max(v, floor)) - ends[0]) / (ends[1] - ends[0] || 1)) * (W - left - 6);
  const most = Math.max(...bins.map(([, , n]) => n), 1);
  const y = (n) => top + (1 - n / most) * (H - top - bottom);
  const bars = bins.map(([low, high, n]) => svg("rect", { class: "bin", x: x(low), y: y(n), width: Math.max(x(high) - x(low) - 0.6, 0.6), height: y(0) - y(n) },
    svg("title", {}, `${format.significant(low)} to ${format.significant(high)}: ${format.count(n)} firings`)));
  const edges = intervals.slice(1).map(([low]) => low).filter((low) => low > floor);
  const ticks = [bins[0][0], ...edges.filter((_, k) => k % 2 === 0), bins.at(-1)[1]];
  const spread = ticks.filter((v, k) => k === 0 || k === ticks.length - 1 || (x(v) - x(ticks[0]) > 40 && x(ticks.at(-1)) - x(v) > 40))
    .filter((v, k, all) => k === 0 || k === all.length - 1 || x(v) - x(all[k - 1]) > 34);
  return svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "histogram", role: "img", "aria-label": "Histogram of activations" },
    bars, edges.map((v) => svg("line", { class: "edge", x1: x(v), x2: x(v), y1: top, y2: y(0) })),
    svg("line", { class: "axis", x1: left, x2: W - 6, y1: y(0), y2: y(0) }),
    spread.map((v, k) => svg("text", { x: x(v), y: y(0) + 13, "text-anchor": k === 0 ? "start" : k === spread.length - 1 ? "end" : "middle" }, format.significant(v, 2))),
    svg("text", { x: left - 5, y: top + 9, "text-anchor": "end" }, format.count(most)), svg("text", { x: left - 5, y: y(0), "text-anchor": "end" }, "0"),
    svg("text", { x: (left + W) / 2, y: H - 4, "text-anchor": "middle", class: "title" }, "activation (log scale)"),
    svg("text", { transform: `translate(9 ${(top + y(0)) / 2}) rotate(-90)`, "text-anchor": "middle", class: "title" }, "firings"));
};
