/* A histogram, optionally with a range that can be chosen by dragging over it, or by the arrow keys on its two handles.
 *
 * edges, counts: of the bins. parts: lists of counts of parts of the bins, drawn over the bars from the axis up.
 * ticks: values below the axis. marks: [value, text], least first, above the bars. write: returns the text of a tick.
 * height: of the picture, which is 400 wide. isOpen: whether the last bin has all larger values. onrange: called with
 * [first bin, last bin + 1], or null for the whole range, and with whether the pointer is still down. The returned
 * element has show({ counts, range }). */
"use strict";

report.histogram = ({
  title, edges, counts, parts = [], log = false, ticks = [], marks = [], axis = "", unit = "", small = false,
  root = false, height = 150, isOpen = false, onrange = null, write: writeTick = null,
}) => {
  if (!counts.length) return h("p.missing", null, "No histogram.");
  const above = 11 * Math.ceil(marks.length / 2);
  const [W, H, left, bottom, top] = small ? [240, 62, 8, 16, 4] : [400, height + 4 + above, 54, 38, 8 + above];
  const right = small ? 8 : 6, last = counts.length, base = H - bottom;
  const scaled = (v) => (log ? Math.log(Math.max(v, edges[0])) : v);
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
  const scale = small ? [] : [
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
    scale);

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
  const brush = onrange && report.brush(picture, options);
  show({});
  return Object.assign(element, { show });
};

/** Let the user choose a range of a picture by dragging over it, or by the arrow keys on two handles; a click or Escape
 * clears it.
 *
 * place: x of the edges, the top and the base of the bars, and the picture's width, all in its own units. range: the
 * chosen range, null for all. onrange: called with [first bin, last bin + 1] or null, and with whether the pointer is
 * still down.
 * @type {(picture: SVGSVGElement, how: any) => { show: (from: number, to: number) => void }} */
report.brush = (picture, { title, place, write, range, onrange }) => {
  const last = place.x.length - 1;
  const arrows = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  const keys = { ...arrows, PageDown: -4, PageUp: 4, Home: -last, End: last };
  const handles = ["from", "to"].map((end) => {
    const limits = { "aria-valuemin": 0, "aria-valuemax": last };
    const slider = { role: "slider", tabindex: 0, "aria-label": `${title}, ${end}`, ...limits };
    const grip = { x: -3, width: 6, y: (place.top + place.base) / 2 - 7, height: 14, rx: 2 };
    return svg("g", { class: "handle", ...slider }, svg("line", { y1: place.top, y2: place.base }), svg("rect", grip));
  });
  picture.append(...handles);
  const ends = () => range() ?? [0, last];
  const tell = (from, to, moving = false) => onrange(from >= to || (!from && to === last) ? null : [from, to], moving);

  handles.forEach((handle, side) => handle.addEventListener("keydown", (event) => {
    if (!(event.key in keys) && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    const [from, to] = ends(), step = keys[event.key];
    if (event.key === "Escape") tell(0, last);
    else if (side === 0) tell(Math.min(Math.max(from + step, 0), to - 1), to);
    else tell(from, Math.max(Math.min(to + step, last), from + 1));
  }));

  /* The edge nearest to the pointer, and its distance in pixels. */
  function nearest(event) {
    const box = picture.getBoundingClientRect(), scale = box.width / place.width;
    const away = (k) => Math.abs(event.clientX - box.left - place.x[k] * scale);
    return place.x.reduce((best, _, k) => (away(k) < away(best) ? k : best), 0);
  }

  picture.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const [from, to] = ends(), start = nearest(event);
    const anchor = start === from ? to : start === to ? from : start;
    let at = start;
    const move = (moved) => {
      at = nearest(moved);
      tell(Math.min(anchor, at), Math.max(anchor, at), true);
    };
    const end = () => {
      picture.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) picture.removeEventListener(name, end);
      tell(Math.min(anchor, at), Math.max(anchor, at));
    };
    picture.setPointerCapture(event.pointerId);
    picture.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) picture.addEventListener(name, end);
  });
  picture.addEventListener("dblclick", () => tell(0, last));

  return {
    show(from, to) {
      [from, to].forEach((k, side) => {
        handles[side].setAttribute("transform", `translate(${place.x[k].toFixed(2)} 0)`);
        handles[side].setAttribute("aria-valuenow", k);
        handles[side].setAttribute("aria-valuetext", write(k));
      });
    },
  };
};
