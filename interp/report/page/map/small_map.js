/* A small picture of the whole map, on the overview. */

import { commonKinds } from "../data/latents.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { style } from "../elements/theme.js";
import { coloursOf, groundColour, hueOfKind, inked, paintedColours } from "./colours.js";
import { placesAround } from "./names.js";
import { centre, squares } from "./plane.js";
import { pairs, pointPainter } from "./points.js";
import { homesOf } from "./regions.js";

/** A picture of the points, with the tints and names of kinds of text, that leads to the map.
 *
 * width, height: in CSS pixels. The returned element has paint(), which draws it again in the colours of the page.
 * @type {(points: DecoderMap, way: string, width: number, height: number) => HTMLElement & { paint: () => void }} */
export function smallMap(points, colouring, width, height) {
  const N_NAMES = 8; // of kinds of text, the commonest, which have tints too
  const MARGIN = 16, GAP = 8, LINE = 29; // pixels of the canvas beside the names, between two, and of one's height
  const { x, y, latents } = points;
  const canvas = h("canvas", { width: 2 * width, height: 2 * height });
  const positions = pairs(points);
  const [left, right, bottom, top] = squares(x, y).box;
  const scale = 1.9 * Math.min(width / (right - left || 1), height / (top - bottom || 1));
  const view = { x: (left + right) / 2, y: (bottom + top) / 2, scale, diameter: 90 / x.length ** 0.35 };
  const kinds = commonKinds.slice(0, N_NAMES).map((kind) => ({ kind, name: format.words(kind) }));
  const homes = colouring === "label" ? homesOf(points, true) : [];
  const tints = new Map(homes.filter(([kind]) => kinds.some((each) => each.kind === kind))
    .map(([kind, outlines]) => [kind, outlines]));

  function paint() {
    const plain = pointPainter(canvas, positions);
    plain.paint(paintedColours(latents, coloursOf(points, colouring), () => true), groundColour());
    plain.draw(view, 0, x.length);
    const context = canvas.getContext("2d");
    if (!context) return;
    context.setTransform(scale, 0, 0, -scale, width - view.x * scale, height + view.y * scale);
    for (const [kind, outlines] of tints) {
      const hue = hueOfKind(kind);
      Object.assign(context, { fillStyle: `${hue}26`, strokeStyle: `${hue}99`, lineWidth: 2 / scale });
      for (const outline of outlines.map(({ path }) => new Path2D(path))) {
        context.fill(outline);
        context.stroke(outline);
      }
    }
    context.resetTransform();
    Object.assign(context, { font: `700 24px ${style("--sans")}`, textAlign: "center", lineWidth: 7,
      lineJoin: "round", textBaseline: "middle", strokeStyle: style("--paper") });
    name(context);
  }

  function name(context) {
    const placed = [];
    for (const { kind, name: text } of kinds) {
      const [largest] = tints.get(kind) ?? [];
      const [across, up] = (largest && centre(largest.corners))
        ?? points.names.find(([, , each]) => each === text) ?? [];
      const lines = text.toUpperCase().split(" ");
      const half = Math.max(...lines.map((line) => context.measureText(line).width)) / 2 + MARGIN;
      const tall = (lines.length * LINE) / 2;
      const inFrame = (px) => Math.min(Math.max(px, half), 2 * width - half);
      const isTaken = (px, py) => placed.some(([ox, oy, otherHalf, otherTall]) =>
        Math.abs(ox - px) < half + otherHalf + GAP - 2 * MARGIN && Math.abs(oy - py) < tall + otherTall);
      const isFree = (/** @type {number[]} */ [px, py]) =>
        py > LINE && py < 2 * height - LINE && !isTaken(px, py);
      const [px, py] = placesAround(width + (across - view.x) * scale, height - (up - view.y) * scale)
        .map(([aside, down]) => [inFrame(aside), down]).find(isFree) ?? [];
      if (py === undefined) continue;
      placed.push([px, py, half, tall]);
      context.fillStyle = inked(hueOfKind(kind) ?? style("--muted"));
      lines.forEach((line, k) => {
        const at = py - tall + (k + 0.5) * LINE;
        context.strokeText(line, px, at);
        context.fillText(line, px, at);
      });
    }
  }

  paint();
  return Object.assign(h("a.smallmap", { href: "#map", "aria-label": "Map of the decoder" }, canvas), { paint });
}
