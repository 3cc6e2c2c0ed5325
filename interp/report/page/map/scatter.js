/* Points in the plane that can be moved, zoomed, pointed at, chosen and selected by a lasso; a million are no problem.
 *
 * x, y: of each point. onhover: called with the point under the pointer, or −1; onpick: with the point clicked;
 * onlasso: with the corners of the lasso, x, y, x, y, …. Points are drawn in random order, as many per frame as the
 * machine can draw. While the view moves, a fair sample is visible; the rest follows when it stops. */

import { h, svg } from "../elements/elements.js";
import { squares } from "./plane.js";
import { handlePointer } from "./pointing.js";
import { pointPainter } from "./points.js";

export function scatterPlot(host, { x, y, onhover, onpick, onlasso, onmove = () => {} }) {
  const n = x.length,
    MIN_POINTS = 20_000,
    SLOW = 24,
    QUICK = 19,
    NEAR = 9,
    SIDE = 800,
    PADDING = 16, // pixels around the whole
    CORNERS = 40,
    CLOSEST = Math.max(Math.sqrt(n) / 2, 8), // times closer than the whole, where a frame of even points has four
    FEWEST = Math.min(20, n / 4), // points that are left in view as one comes closer
    LEAST = 1.02; // times closer, for a step that is tried
  const order = drawnByLot(n),
    positions = new Float32Array(2 * n);
  order.forEach((i, k) => positions.set([x[i], y[i]], 2 * k));
  const grid = squares(x, y);
  const canvas = h("canvas"),
    ring = svg("polygon", { class: "lasso" });
  host.prepend(canvas, svg("svg", { "aria-hidden": "true" }, ring));
  const renderer = pointPainter(canvas, positions);
  const view = { x: 0, y: 0, scale: 1 };
  let [left, right] = bulk(x),
    [bottom, top] = bulk(y);
  let whole = 1,
    width = 0,
    height = 0,
    drawn = 0,
    diameter = 0, // of a point, in pixels
    budget = 5 * MIN_POINTS,
    before = 0,
    isAsked = false,
    isLasso = false,
    isWhole = true;

  /* Draw as many points as the budget allows, and continue until all are drawn. */
  function frame(now) {
    isAsked = false;
    if (!width) return;
    if (now - before < 200)
      budget = Math.min(
        Math.max(now - before > SLOW ? budget / 1.5 : now - before < QUICK ? budget * 1.3 : budget, MIN_POINTS),
        n,
      );
    const ratio = canvas.width / width,
      last = Math.min(n, drawn + Math.ceil(budget));
    const room = Math.min(Math.max(Math.sqrt(width * height) / SIDE, 0.5), 1);
    diameter = Math.max((20 / n ** 0.18) * room, 1.5) * Math.min((view.scale / whole) ** 0.3, 3);
    renderer.draw({ x: view.x, y: view.y, scale: view.scale * ratio, diameter: diameter * ratio }, drawn, last);
    if (!drawn) onmove();
    drawn = last;
    before = drawn < n ? now : 0;
    if (drawn < n) ask();
  }

  function ask() {
    if (!isAsked) requestAnimationFrame(frame);
    isAsked = true;
  }

  function redraw() {
    if (drawn === n) before = 0;
    drawn = 0;
    ask();
  }

  /* colours: r, g, b, a of each point; ground: r, g, b. */
  function paint(colours, ground) {
    const lotted = new Uint8Array(4 * n),
      from = new Uint32Array(colours.buffer),
      to = new Uint32Array(lotted.buffer);
    for (let k = 0; k < n; k++) to[k] = from[order[k]];
    renderer.paint(lotted, ground);
    redraw();
  }

  /** @type {(px: number, py: number) => [x: number, y: number]} */
  const toData = (px, py) => [view.x + (px - width / 2) / view.scale, view.y - (py - height / 2) / view.scale];
  const toPixels = (dx, dy) => [(dx - view.x) * view.scale + width / 2, (view.y - dy) * view.scale + height / 2];
  const near = (px, py, within = NEAR) => grid.nearest(...toData(px, py), within / view.scale);

  /* How many points lie in a part of the frame, in pixels. */
  function covered(from, upper, to, lower) {
    const [[x0, y0], [x1, y1]] = [toData(from, lower), toData(to, upper)];
    return grid.inBox(x0, y0, x1, y1);
  }

  function fit() {
    whole = Math.min((width - 2 * PADDING) / (right - left || 1), (height - 2 * PADDING) / (top - bottom || 1));
    Object.assign(view, { x: (left + right) / 2, y: (bottom + top) / 2, scale: whole });
    isWhole = true;
    redraw();
  }

  function zoom(factor, px = width / 2, py = height / 2) {
    const [dx, dy] = toData(px, py);
    const last = { ...view };
    view.scale = Math.min(Math.max(view.scale * factor, whole / 2), whole * CLOSEST);
    view.x = dx - (px - width / 2) / view.scale;
    view.y = dy + (py - height / 2) / view.scale;
    if (factor > 1 && covered(0, 0, width, height) < FEWEST) {
      Object.assign(view, last);
      if (factor > LEAST) zoom(Math.sqrt(factor), px, py);
      return;
    }
    isWhole = false;
    redraw();
  }

  function move(px, py) {
    view.x -= px / view.scale;
    view.y += py / view.scale;
    isWhole = false;
    redraw();
  }

  function resize() {
    if (!host.clientWidth) return; // out of sight
    [width, height] = [host.clientWidth, host.clientHeight];
    [canvas.width, canvas.height] = [width, height].map((side) => Math.round(side * devicePixelRatio));
    if (isWhole) fit();
    else redraw();
  }
  new ResizeObserver(resize).observe(host);
  resize(); // at once, since an address may ask for a close view before the observer has seen the host

  const scatter = {
    paint,
    fit,
    /** Let the whole hold this part of the plane too. @param {number[]} box */
    hold([from, to, low, high]) {
      [left, right, bottom, top] = [Math.min(left, from), Math.max(right, to), Math.min(bottom, low),
        Math.max(top, high)];
      if (isWhole) fit();
    },
    zoom,
    move,
    near,
    covered,
    toPixels,
    toData,
    /* Whether a point lies in the frame. */
    isInView(i) {
      const [px, py] = toPixels(x[i], y[i]);
      return px > 0 && px < width && py > 0 && py < height;
    },
    view,
    size: () => [width, height],
    closeness: () => view.scale / whole,
    diameter: () => diameter,
    /* The view of the whole. */
    fitted: () => ({ x: (left + right) / 2, y: (bottom + top) / 2, scale: whole }),
    isWhole: () => isWhole,
    /* Put a place in the middle, so many times closer than the whole. */
    show(dx, dy, closeness) {
      Object.assign(view, { x: dx, y: dy, scale: whole * closeness });
      isWhole = false;
      redraw();
    },
    lasso: (on) => {
      isLasso = on;
    },
  };
  const pointer = handlePointer(host, canvas,
    { ...scatter, isLasso: () => isLasso, ring, corners: CORNERS, onhover, onpick, onlasso });
  return { ...scatter, ...pointer };

  /* The range of nearly all values with a margin, so that a few distant points do not leave the frame half empty. */
  function bulk(values) {
    const sorted = Float64Array.from(values).sort(),
      at = (share) => sorted[Math.round(share * (n - 1))];
    const [low, high] = [at(0.004), at(0.996)],
      margin = 0.03 * (high - low);
    return [low - margin, high + margin];
  }

  function drawnByLot(count) {
    const lot = Uint32Array.from({ length: count }, (_, k) => k);
    let seed = 1;
    for (let k = count - 1; k > 0; k--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const other = Math.floor((seed / 2 ** 32) * (k + 1));
      [lot[k], lot[other]] = [lot[other], lot[k]];
    }
    return lot;
  }
}
