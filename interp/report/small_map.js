/* Small pictures of the whole map: on the overview, and in a corner of the map where it is closer. */
"use strict";

/** A picture of the points, with the tints and names of kinds of text, that leads to the map.
 *
 * width, height: in CSS pixels. The returned element has paint(), which draws it again in the colours of the page.
 * @type {(points: DecoderMap, way: string, width: number, height: number) => HTMLElement & { paint: () => void }} */
report.smallMap = (points, way, width, height) => {
  const { of, painted, ground, hueOf, inked } = report.mapColours;
  const N_NAMES = 8; // of kinds of text, the commonest
  const MARGIN = 16, GAP = 8, LINE = 24; // pixels of the canvas beside the names, between two, and of one's height
  const { x, y, latents } = points;
  const canvas = h("canvas", { width: 2 * width, height: 2 * height });
  const positions = report.pairs(points);
  const [left, right, bottom, top] = report.squares(x, y).box;
  const scale = 1.9 * Math.min(width / (right - left || 1), height / (top - bottom || 1));
  const view = { x: (left + right) / 2, y: (bottom + top) / 2, scale, diameter: 90 / x.length ** 0.35 };
  const kinds = report.selection.commonKinds.slice(0, N_NAMES).map((kind) => ({ kind, name: format.words(kind) }));
  const homes = way === "label" ? report.homes(points, true) : [];
  const tints = new Map(homes.map(([kind, outlines]) => [kind, outlines]));

  function paint() {
    const plain = report.points(canvas, positions);
    plain.paint(painted(latents, of(points, way, null), () => true), ground());
    plain.draw(view, 0, x.length);
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, -scale, width - view.x * scale, height + view.y * scale);
    for (const [kind, outlines] of tints) {
      const hue = hueOf(kind);
      Object.assign(context, { fillStyle: `${hue}26`, strokeStyle: `${hue}99`, lineWidth: 2 / scale });
      for (const outline of outlines.map(({ path }) => new Path2D(path))) {
        context.fill(outline);
        context.stroke(outline);
      }
    }
    context.resetTransform();
    const { style } = report.paint;
    Object.assign(context, { font: `700 23px ${style("--serif")}`, textAlign: "center", lineWidth: 7,
      lineJoin: "round", textBaseline: "middle", strokeStyle: style("--paper") });
    name(context);
  }

  function name(context) {
    const placed = [];
    for (const { kind, name: text } of kinds) {
      const [largest] = tints.get(kind) ?? [];
      const [across, up] = (largest && report.centre(largest.corners))
        ?? points.names.find(([, , each]) => each === text) ?? [];
      const half = context.measureText(text).width / 2 + MARGIN;
      const inFrame = (px) => Math.min(Math.max(px, half), 2 * width - half);
      const isTaken = (px, py) => placed.some(([ox, oy, other]) =>
        Math.abs(ox - px) < half + other + GAP - 2 * MARGIN && Math.abs(oy - py) < LINE);
      const isFree = (/** @type {number[]} */ [px, py]) =>
        py > LINE && py < 2 * height - LINE && !isTaken(px, py);
      const [px, py] = report.around(width + (across - view.x) * scale, height - (up - view.y) * scale)
        .map(([aside, down]) => [inFrame(aside), down]).find(isFree) ?? [];
      if (py === undefined) continue;
      placed.push([px, py, half]);
      context.fillStyle = inked(hueOf(kind));
      context.strokeText(text, px, py);
      context.fillText(text, px, py);
    }
  }

  paint();
  return Object.assign(h("a.smallmap", { href: "#map", "aria-label": "Map of the decoder" }, canvas), { paint });
};

/* The whole map in a corner, with a frame around what is in view; a click moves the view there. It is hidden while the
 * whole is in view.
 *
 * width: in pixels; colours: gives the painted colours of the points. */
report.mapInset = (points, scatter, width, colours) => {
  const canvas = h("canvas");
  const frame = h("i");
  const positions = report.pairs(points);
  const height = () => (width * scatter.size()[1]) / scatter.size()[0];
  const fitted = () => {
    const { x, y, scale } = scatter.fitted();
    return { x, y, scale: (scale * width) / scatter.size()[0] };
  };
  const onclick = ({ clientX, clientY }) => {
    const box = element.getBoundingClientRect();
    const { x, y, scale } = fitted();
    scatter.show(x + (clientX - box.left - box.width / 2) / scale, y - (clientY - box.top - box.height / 2) / scale,
      scatter.closeness());
  };
  const attributes = { "--width": `${width}px`, "aria-hidden": "true", hidden: true, onclick };
  const element = h("div.inset", attributes, canvas, frame);

  function paint() {
    if (!scatter.size()[0]) return;
    [canvas.width, canvas.height] = [2 * width, Math.round(2 * height())];
    const plain = report.points(canvas, positions);
    plain.paint(colours(), report.mapColours.ground());
    const { x, y, scale } = fitted();
    plain.draw({ x, y, scale: 2 * scale, diameter: 2 }, 0, points.x.length);
  }

  function place() {
    element.hidden = scatter.isWhole();
    if (element.hidden) return;
    if (Math.abs(canvas.height - 2 * height()) > 1) paint();
    const { x, y, scale } = fitted();
    const { view } = scatter;
    const [across, down] = scatter.size().map((side) => (side * scale) / view.scale);
    Object.assign(frame.style, { width: `${across}px`, height: `${down}px` });
    const [left, top] = [width / 2 + (view.x - x) * scale, height() / 2 - (view.y - y) * scale];
    frame.style.transform = `translate(${left}px, ${top}px) translate(-50%, -50%)`;
  }

  return { element, paint, place };
};
