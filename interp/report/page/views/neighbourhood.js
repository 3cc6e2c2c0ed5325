/* A small map of a latent, its nearest latents in the decoder, and their surroundings. */

import { loadData } from "../data/files.js";
import { verdictOf } from "../data/latents.js";
import { h, svg } from "../elements/elements.js";
import { hueOfVerdict } from "../elements/latents.js";
import { labelOrCaptionText } from "../text/captions.js";

const [W, H, MARGIN, MOST] = [400, 150, 0.35, 600];

/* The part of the plane that contains some points, with a margin, in the picture's proportions. */
function frame(xs, ys) {
  const [left, right, bottom, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min(W / ((right - left) * (1 + 2 * MARGIN) || 1), H / ((top - bottom) * (1 + 2 * MARGIN) || 1));
  return { x: (v) => W / 2 + (v - (left + right) / 2) * scale, y: (v) => H / 2 - (v - (bottom + top) / 2) * scale };
}

/* An element that is filled when the map has been read; neighbours: latents, the nearest first. */
export function neighbourhood(latent, neighbours) {
  const host = h("div.neighbourhood");
  loadData("map").then((points) => {
    const places = points.missing
      ? []
      : [latent, ...neighbours].map((each) => points.latents.indexOf(each)).filter((k) => k >= 0);
    if (places.length < 2 || points.latents[places[0]] !== latent) return host.remove();
    const to = frame(places.map((k) => points.x[k]), places.map((k) => points.y[k]));
    const isInside = (v, size) => v > 0 && v < size;
    const around = [...points.latents.keys()].filter(
      (k) => isInside(to.x(points.x[k]), W) && isInside(to.y(points.y[k]), H));
    const dot = (k, r, kind) =>
      svg("circle", { class: kind, cx: to.x(points.x[k]).toFixed(1), cy: to.y(points.y[k]).toFixed(1), r });
    const spot = (k) => `M${to.x(points.x[k]).toFixed(1)},${to.y(points.y[k]).toFixed(1)}h0`;
    const named = (k) => {
      const other = points.latents[k], circle = dot(k, 5, "near");
      circle.style.fill = hueOfVerdict(verdictOf(other));
      const title = svg("title", null, `Feature ${other}: ${labelOrCaptionText(other)}`);
      return svg("a", { href: `#feature/${other}`, "aria-label": `Feature ${other}` }, title, circle);
    };
    host.replaceChildren(svg("svg",
      { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": "Its neighbours on the map of the decoder" },
      svg("path", { class: "far", d: around.slice(0, MOST).map(spot).join("") }),
      places.slice(1).map(named),
      dot(places[0], 6, "self")));
  });
  return host;
}
