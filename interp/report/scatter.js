/* Points in the plane that can be moved, zoomed, pointed at, chosen and selected by a lasso; a million are no problem.
 *
 * x, y: of each point. onhover: called with the point under the pointer, or −1; onpick: with the point clicked;
 * onlasso: with the corners of the lasso, x, y, x, y, …. Points are drawn in random order, as many per frame as the
 * machine can draw. While the view moves, a fair sample is visible; the rest follows when it stops. */
"use strict";

report.scatter = (host, { x, y, onhover, onpick, onlasso, onmove = () => {} }) => {
  const n = x.length,
    MIN_POINTS = 20_000,
    SLOW = 24,
    QUICK = 19,
    NEAR = 9,
    SIDE = 800,
    PADDING = 16, // pixels around the whole
    CORNERS = 40;
  const order = drawnByLot(n),
    positions = new Float32Array(2 * n);
  order.forEach((i, k) => positions.set([x[i], y[i]], 2 * k));
  const grid = report.squares(x, y);
  const canvas = h("canvas"),
    ring = svg("polygon", { class: "lasso" });
  host.prepend(canvas, svg("svg", { "aria-hidden": "true" }, ring));
  const renderer = report.points(canvas, positions);
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

  const toData = (px, py) => [view.x + (px - width / 2) / view.scale, view.y - (py - height / 2) / view.scale];
  const toPixels = (dx, dy) => [(dx - view.x) * view.scale + width / 2, (view.y - dy) * view.scale + height / 2];
  const near = (px, py, within = NEAR) => grid.nearest(...toData(px, py), within / view.scale);

  function fit() {
    whole = Math.min((width - 2 * PADDING) / (right - left || 1), (height - 2 * PADDING) / (top - bottom || 1));
    Object.assign(view, { x: (left + right) / 2, y: (bottom + top) / 2, scale: whole });
    isWhole = true;
    redraw();
  }

  function zoom(factor, px = width / 2, py = height / 2) {
    const [dx, dy] = toData(px, py);
    view.scale = Math.min(Math.max(view.scale * factor, whole / 2), whole * 1000);
    view.x = dx - (px - width / 2) / view.scale;
    view.y = dy + (py - height / 2) / view.scale;
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
    /* Let the whole hold this part of the plane too. */
    hold([from, to, low, high]) {
      [left, right, bottom, top] = [Math.min(left, from), Math.max(right, to), Math.min(bottom, low),
        Math.max(top, high)];
      if (isWhole) fit();
    },
    zoom,
    move,
    near,
    /* How many points lie in a part of the frame, in pixels. */
    covered(from, upper, to, lower) {
      const [[x0, y0], [x1, y1]] = [toData(from, lower), toData(to, upper)];
      return grid.inBox(x0, y0, x1, y1);
    },
    toPixels,
    toData,
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
  report.pointing(host, canvas,
    { ...scatter, isLasso: () => isLasso, ring, corners: CORNERS, onhover, onpick, onlasso });
  return scatter;

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
};

/* Index points by the squares of a grid: nearest(x, y, within) returns the nearest one, −1 if none is within that
 * distance; inBox(left, bottom, right, top) returns how many lie in a box. */
report.squares = (x, y) => {
  const n = x.length,
    side = Math.min(Math.max(Math.ceil(Math.sqrt(n / 2)), 1), 1024);
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    [left, right] = [Math.min(left, x[i]), Math.max(right, x[i])];
    [bottom, top] = [Math.min(bottom, y[i]), Math.max(top, y[i])];
  }
  const place = (v, from, to) => Math.min(Math.max(Math.floor(((v - from) / (to - from || 1)) * side), 0), side - 1);
  const square = (i) => place(y[i], bottom, top) * side + place(x[i], left, right);
  const starts = new Uint32Array(side * side + 1),
    items = new Uint32Array(n);
  for (let i = 0; i < n; i++) starts[square(i) + 1]++;
  for (let k = 0; k < side * side; k++) starts[k + 1] += starts[k];
  const next = starts.slice();
  for (let i = 0; i < n; i++) items[next[square(i)]++] = i;

  function nearest(px, py, within) {
    let best = -1,
      least = within * within;
    const [first, last] = [place(px - within, left, right), place(px + within, left, right)];
    for (let row = place(py - within, bottom, top), end = place(py + within, bottom, top); row <= end; row++) {
      for (let at = starts[row * side + first]; at < starts[row * side + last + 1]; at++) {
        const i = items[at],
          away = (x[i] - px) ** 2 + (y[i] - py) ** 2;
        if (away < least) [best, least] = [i, away];
      }
    }
    return best;
  }

  function inBox(x0, y0, x1, y1) {
    const [first, last] = [place(x0, left, right), place(x1, left, right)];
    let count = 0;
    for (let row = place(y0, bottom, top), end = place(y1, bottom, top); row <= end; row++) {
      for (let at = starts[row * side + first]; at < starts[row * side + last + 1]; at++) {
        const i = items[at];
        count += x[i] > x0 && x[i] < x1 && y[i] > y0 && y[i] < y1;
      }
    }
    return count;
  }
  return { nearest, inBox, box: [left, right, bottom, top] };
};

/* The points inside a polygon of corners x, y, x, y, …. */
report.inside = (corners, x, y) => {
  const found = [];
  for (let i = 0; i < x.length; i++) {
    let isIn = false;
    for (let k = 0, last = corners.length - 2; k < corners.length; last = k, k += 2) {
      const [ax, ay, bx, by] = [corners[k], corners[k + 1], corners[last], corners[last + 1]];
      if (ay > y[i] !== by > y[i] && x[i] < ((bx - ax) * (y[i] - ay)) / (by - ay) + ax) isIn = !isIn;
    }
    if (isIn) found.push(i);
  }
  return found;
};

/* The part of a polygon of corners x, y, x, y, … within a box [left, right, bottom, top]. */
report.clipped = (corners, [left, right, bottom, top]) => {
  let part = Array.from({ length: corners.length / 2 }, (_, k) => corners.slice(2 * k, 2 * k + 2));
  for (const [axis, end, side] of [[0, left, 1], [0, right, -1], [1, bottom, 1], [1, top, -1]]) {
    const isIn = (point) => side * (point[axis] - end) >= 0;
    part = part.flatMap((point, k) => {
      const before = part.at(k - 1);
      if (isIn(point) === isIn(before)) return isIn(point) ? [point] : [];
      const share = (end - before[axis]) / (point[axis] - before[axis]);
      const cut = before.map((v, each) => v + share * (point[each] - v));
      return isIn(point) ? [cut, point] : [cut];
    });
  }
  return part.flat();
};

/* The centre of mass of a polygon of corners x, y, x, y, …; undefined if it has no area. */
report.centre = (corners) => {
  let [area, x, y] = [0, 0, 0];
  for (let k = 0, last = corners.length - 2; k < corners.length; last = k, k += 2) {
    const [ax, ay, bx, by] = [corners[last], corners[last + 1], corners[k], corners[k + 1]];
    const cross = ax * by - bx * ay;
    area += 3 * cross;
    x += (ax + bx) * cross;
    y += (ay + by) * cross;
  }
  return area ? [x / area, y / area] : undefined;
};

/* Whether a line between two points crosses a box [left, top, right, bottom], or ends in it. */
report.crosses = ([from, to], [left, top, right, bottom]) => {
  let [first, last] = [0, 1]; // the shares of the line between which it may lie within
  for (const [axis, low, high] of [[0, left, right], [1, top, bottom]]) {
    const step = to[axis] - from[axis];
    const ends = [low, high].map((end) => (end - from[axis]) / step).sort((a, b) => a - b);
    if (step === 0 && (from[axis] < low || from[axis] > high)) return false;
    if (step !== 0) [first, last] = [Math.max(first, ends[0]), Math.min(last, ends[1])];
  }
  return first <= last;
};

/* Handle the pointer, the wheel and the keys over points: drag or arrows move; wheel, pinch, + and − zoom; 0 shows the
 * whole; a lasso (or Shift) selects; a click or Enter opens. */
report.pointing = (
  host,
  canvas,
  { move, zoom, fit, near, toPixels, toData, size, isLasso, ring, corners, onhover, onpick, onlasso },
) => {
  const STEPS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const pointers = new Map();
  let lasso = null,
    way = 0,
    at = -1;

  const place = (event) => {
    const box = host.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function hover(i) {
    if (i !== at) onhover(i);
    at = i;
  }

  const drawLasso = () => {
    const points = (lasso ?? []).map((corner) => toPixels(...corner).map((p) => p.toFixed(1)).join(","));
    ring.setAttribute("points", points.join(" "));
  };

  /* Hand over the lasso's polygon, with a limited number of corners. */
  function close() {
    const step = Math.max(lasso.length / corners, 1),
      kept = [];
    for (let k = 0; k < lasso.length; k += step)
      kept.push(...lasso[Math.floor(k)].map((v) => Number(v.toPrecision(4))));
    lasso = null;
    drawLasso();
    if (kept.length >= 6) onlasso(kept);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    way = pointers.size > 1 ? Infinity : 0;
    lasso = pointers.size === 1 && (isLasso() || event.shiftKey) ? [toData(...place(event))] : null;
    hover(-1);
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = place(event),
      last = pointers.get(event.pointerId);
    if (!last) return hover(near(...now));
    const step = now.map((p, axis) => p - last[axis]);
    way += Math.hypot(...step);
    pointers.set(event.pointerId, now);
    if (lasso) {
      lasso.push(toData(...now));
      drawLasso();
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      const apart = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
      zoom(apart(now) / apart(last), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else move(...step);
  });

  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (lasso && way > 8) return close();
      lasso = null;
      if (name === "pointerup" && way < 4) {
        const i = near(...place(event));
        if (i >= 0) onpick(i);
      }
    });

  canvas.addEventListener("pointerleave", () => hover(-1));

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), ...place(event));
      hover(-1);
    },
    { passive: false },
  );

  host.addEventListener("keydown", (event) => {
    if (event.target !== host || event.ctrlKey || event.metaKey || event.altKey) return;
    const [width, height] = size(),
      step = STEPS[event.key];
    if (step) move(0.12 * step[0] * width, 0.12 * step[1] * height);
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") fit();
    else if (event.key === "Enter" && at >= 0) return onpick(at);
    else return;
    event.preventDefault();
    event.stopPropagation();
    at = -1;
    hover(near(width / 2, height / 2, Math.hypot(width, height)));
  });
};

/* Contours of where each of some groups of points is at home: of its density times its share of the density of all, as
 * a share of the largest such value. Where two groups are at home, the one whose share is larger has the place, so that
 * no two contours lie over each other.
 *
 * groups: the x and y of the points of each; levels: shares of the largest value; all: the x and y of all points, by
 * default those of the groups. Returns for each group and level its closed lines as paths, in the coordinates of the
 * points, by marching squares over blurred grids. Lines around fewer than FEW of the points of a group are left out. */
report.contours = (groups, levels, all = groups[0]) => {
  const SIDE = 64,
    BLUR = 4,
    FEW = 0.08,
    [left, right, bottom, top] = report.squares(all.x, all.y).box;
  const [dx, dy] = [(right - left) / (SIDE - 8) || 1, (top - bottom) / (SIDE - 8) || 1];
  const place = (k) => [left + ((k % SIDE) - 4) * dx, bottom + (Math.floor(k / SIDE) - 4) * dy];

  function blurred({ x, y }) {
    let grid = new Float64Array(SIDE * SIDE);
    for (let i = 0; i < x.length; i++)
      grid[Math.round((y[i] - bottom) / dy + 4) * SIDE + Math.round((x[i] - left) / dx + 4)] += 1;
    for (let pass = 0; pass < BLUR; pass++)
      for (const step of [1, SIDE])
        grid = grid.map((v, k) => (v * 2 + (grid[k - step] ?? 0) + (grid[k + step] ?? 0)) / 4);
    return grid;
  }

  const among = blurred(all);
  const homes = groups.map((group) => {
    const density = blurred(group).map((own, k) => (own * own) / (among[k] || 1));
    const most = Math.max(...density);
    return density.map((v) => v / most);
  });

  /* The closed lines around the places at which a height is above 0: each edge that they cross has two neighbours, one
   * in each of its squares. */
  function lines(heights) {
    const cut = (a, b) => {
      const share = heights[a] / (heights[a] - heights[b]);
      return place(a).map((v, axis) => v + share * (place(b)[axis] - v));
    };
    const next = new Map();
    const link = (one, other) => next.set(one, [...(next.get(one) ?? []), other]);
    for (let row = 0; row < SIDE - 1; row++)
      for (let column = 0; column < SIDE - 1; column++) {
        const corners = [0, 1, SIDE + 1, SIDE].map((k) => row * SIDE + column + k);
        const isCut = (k) => heights[corners[k]] > 0 !== heights[corners[(k + 1) % 4]] > 0;
        const edges = [0, 1, 2, 3].filter(isCut).map((k) => {
          const [a, b] = [corners[k], corners[(k + 1) % 4]];
          return Math.min(a, b) * SIDE * SIDE + Math.max(a, b);
        });
        for (let k = 0; k + 1 < edges.length; k += 2) {
          link(edges[k], edges[k + 1]);
          link(edges[k + 1], edges[k]);
        }
      }
    const found = [];
    for (const start of next.keys()) {
      const line = [];
      for (let edge = start; edge !== undefined; ) {
        line.push(cut(Math.floor(edge / SIDE ** 2), edge % SIDE ** 2));
        const others = next.get(edge);
        next.delete(edge);
        edge = others.find((other) => next.has(other));
      }
      found.push(line);
    }
    return found;
  }

  /* Curves from the middle of each edge to that of the next, so that no corner is seen when one looks closely. */
  function written(line) {
    const middles = line.map((point, k) => point.map((v, axis) => (v + line[(k + 1) % line.length][axis]) / 2));
    const text = (point) => point.map((v) => v.toFixed(4)).join(" ");
    const curve = (k) => `Q${text(line[(k + 1) % line.length])} ${text(middles[(k + 1) % line.length])}`;
    return `M${text(middles[0])}${line.map((_, k) => curve(k)).join("")}Z`;
  }

  return homes.map((own, g) => {
    const { x, y } = groups[g];
    const others = homes.filter((each) => each !== own);
    const beyond = own.map((v, k) => others.reduce((least, other) => Math.min(least, v - other[k]), Infinity));
    const isAroundMany = (line) => report.inside(line.flat(), x, y).length >= FEW * x.length;
    return levels.map((level) => lines(own.map((v, k) => Math.min(v - level, beyond[k])))
      .filter(isAroundMany).map(written));
  });
};
