/* The whole map in a corner of the map, with a frame around what is in view. */

import { h } from "../elements/elements.js";
import { groundColour } from "./colours.js";
import { pairs, pointPainter } from "./points.js";

const CORNER = 8; // pixels between it and the edges of the map

/* The whole map in a corner, with a frame around what is in view; a click moves the view there. It is hidden while the
 * whole is in view.
 *
 * width: in pixels; colours: gives the painted colours of the points. */
export function mapInset(points, scatter, width, colours) {
  const canvas = h("canvas");
  const frame = h("i");
  const positions = pairs(points);
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
    const plain = pointPainter(canvas, positions);
    plain.paint(colours(), groundColour());
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

  /* Its boxes on the map, [left, top, right, bottom]: one, or none where it is hidden. */
  function boxes() {
    const bottom = scatter.size()[1] - CORNER;
    return scatter.isWhole() ? [] : [[CORNER, bottom - height(), CORNER + width, bottom]];
  }

  return { element, paint, place, boxes };
}
