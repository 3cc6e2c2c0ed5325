/* Points, polygons, lines and boxes in the plane, and contours of where points lie dense. A polygon is the list of its
 * corners, x, y, x, y, …. */

/** @import { Points } from "./points.js" */
/** Points by the squares of a grid: the nearest one, how many are in a box, and the box of all.
 * @typedef {{
 *   nearest: (x: number, y: number, within: number) => number,
 *   inBox: (left: number, bottom: number, right: number, top: number) => number,
 *   box: number[],
 * }} Squares */

/** Index points by the squares of a grid: nearest(x, y, within) returns the nearest one, −1 if none is within that
 * distance; inBox(left, bottom, right, top) returns how many lie in a box.
 * @type {(x: ArrayLike<number>, y: ArrayLike<number>) => Squares} */
export function squares(x, y) {
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
        if (x[i] > x0 && x[i] < x1 && y[i] > y0 && y[i] < y1) count++;
      }
    }
    return count;
  }
  return { nearest, inBox, box: [left, right, bottom, top] };
}

/** The points inside a polygon of corners x, y, x, y, ….
 * @type {(corners: number[], x: ArrayLike<number>, y: ArrayLike<number>) => number[]} */
export function inside(corners, x, y) {
  const places = [];
  for (let i = 0; i < x.length; i++) {
    let isIn = false;
    for (let k = 0, last = corners.length - 2; k < corners.length; last = k, k += 2) {
      const [ax, ay, bx, by] = [corners[k], corners[k + 1], corners[last], corners[last + 1]];
      if (ay > y[i] !== by > y[i] && x[i] < ((bx - ax) * (y[i] - ay)) / (by - ay) + ax) isIn = !isIn;
    }
    if (isIn) places.push(i);
  }
  return places;
}

/** The part of a polygon of corners x, y, x, y, … within a box [left, right, bottom, top].
 * @type {(corners: number[], box: number[]) => number[]} */
export function clipped(corners, [left, right, bottom, top]) {
  let part = Array.from({ length: corners.length / 2 }, (_, k) => corners.slice(2 * k, 2 * k + 2));
  for (const [axis, end, side] of [[0, left, 1], [0, right, -1], [1, bottom, 1], [1, top, -1]]) {
    const isIn = (point) => side * (point[axis] - end) >= 0;
    part = part.flatMap((point, k) => {
      const before = part[k ? k - 1 : part.length - 1];
      if (isIn(point) === isIn(before)) return isIn(point) ? [point] : [];
      const share = (end - before[axis]) / (point[axis] - before[axis]);
      const cut = before.map((v, each) => v + share * (point[each] - v));
      return isIn(point) ? [cut, point] : [cut];
    });
  }
  return part.flat();
}

/** The centre of mass of a polygon of corners x, y, x, y, …; undefined if it has no area.
 * @type {(corners: number[]) => number[] | undefined} */
export function centre(corners) {
  let [area, x, y] = [0, 0, 0];
  for (let k = 0, last = corners.length - 2; k < corners.length; last = k, k += 2) {
    const [ax, ay, bx, by] = [corners[last], corners[last + 1], corners[k], corners[k + 1]];
    const cross = ax * by - bx * ay;
    area += 3 * cross;
    x += (ax + bx) * cross;
    y += (ay + by) * cross;
  }
  return area ? [x / area, y / area] : undefined;
}

/** Whether a line between two points crosses a box [left, top, right, bottom], or ends in it.
 * @type {(line: number[][], box: number[]) => boolean} */
export function crosses([from, to], [left, top, right, bottom]) {
  let [first, last] = [0, 1]; // the shares of the line between which it may lie within
  for (const [axis, low, high] of [[0, left, right], [1, top, bottom]]) {
    const step = to[axis] - from[axis];
    const ends = [low, high].map((end) => (end - from[axis]) / step).sort((a, b) => a - b);
    if (step === 0 && (from[axis] < low || from[axis] > high)) return false;
    if (step !== 0) [first, last] = [Math.max(first, ends[0]), Math.min(last, ends[1])];
  }
  return first <= last;
}

/* Whether two lines, each between two points, cross. */
export function meet([a, b], [c, d]) {
  const side = ([ax, ay], [bx, by], [x, y]) => Math.sign((bx - ax) * (y - ay) - (by - ay) * (x - ax));
  return side(a, b, c) !== side(a, b, d) && side(c, d, a) !== side(c, d, b);
}

/** Contours of where each of some groups of points is at home: of its density times its share of the density of all, as
 * a share of the largest such value. Where two groups are at home, the one whose share is larger has the place, so that
 * no two contours lie over each other.
 *
 * groups: the x and y of the points of each; levels: shares of the largest value; all: the x and y of all points, by
 * default those of the groups. Returns for each group and level its closed lines as paths, in the coordinates of the
 * points, by marching squares over blurred grids. Lines around fewer than FEW of the points of a group are left out.
 * @type {(groups: Points[], levels: number[], all?: Points) => string[][][]} */
export function contours(groups, levels, all = groups[0]) {
  const SIDE = 64,
    BLUR = 4,
    FEW = 0.08,
    SMOOTH = 6, // times that a line is smoothed
    [left, right, bottom, top] = squares(all.x, all.y).box;
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
    const density = blurred(group).map((v, k) => (v * v) / (among[k] || 1));
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
    const closed = [];
    for (const start of next.keys()) {
      const line = [];
      for (let edge = start; edge !== undefined; ) {
        line.push(cut(Math.floor(edge / SIDE ** 2), edge % SIDE ** 2));
        const others = next.get(edge);
        next.delete(edge);
        edge = others.find((other) => next.has(other));
      }
      closed.push(line);
    }
    return closed;
  }

  /* A line whose points are the means of those around them, so that the squares of the grid are not seen. */
  function smoothed(line) {
    const at = (k) => line[(k + line.length) % line.length];
    return line.map((point, k) => point.map((v, axis) => (2 * v + at(k - 1)[axis] + at(k + 1)[axis]) / 4));
  }

  /* Curves from the middle of each edge to that of the next, so that no corner is seen when one looks closely. */
  function written(rough) {
    const line = Array.from({ length: SMOOTH }).reduce(smoothed, rough);
    const middles = line.map((point, k) => point.map((v, axis) => (v + line[(k + 1) % line.length][axis]) / 2));
    const text = (point) => point.map((v) => v.toFixed(4)).join(" ");
    const curve = (k) => `Q${text(line[(k + 1) % line.length])} ${text(middles[(k + 1) % line.length])}`;
    return `M${text(middles[0])}${line.map((_, k) => curve(k)).join("")}Z`;
  }

  return homes.map((home, g) => {
    const { x, y } = groups[g];
    const others = homes.filter((each) => each !== home);
    const beyond = home.map((v, k) => others.reduce((least, other) => Math.min(least, v - other[k]), Infinity));
    const isAroundMany = (line) => inside(line.flat(), x, y).length >= FEW * x.length;
    return levels.map((level) => lines(home.map((v, k) => Math.min(v - level, beyond[k])))
      .filter(isAroundMany).map(written));
  });
}
