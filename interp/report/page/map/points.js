/* Coloured points on a canvas, painted pixel by pixel: 65,536 of them take less than a frame, and nothing is compiled.
 *
 * The page ships plotly's scattergl, but that compiles code for shaders with Function(), which the page's policy
 * forbids, and with WebGL in software it needs more than a second per frame.
 *
 * positions: Float32Array of x, y, x, y, …. paint(colours, ground): bytes r, g, b, a of each point, and r, g, b of the
 * ground. draw(view, first, last): draw some of the points over the existing ones; with first = 0, over a clean ground.
 * view: { x, y } of the centre, pixels per unit, and the diameter of a point, all in the canvas's own pixels. */

/** @typedef {{ x: ArrayLike<number>, y: ArrayLike<number> }} Points */

/** The coordinates of points as x, y, x, y, ….
 * @type {(points: Points) => Float32Array} */
export const pairs = ({ x, y }) => Float32Array.from({ length: 2 * x.length }, (_, k) => (k % 2 ? y : x)[k >> 1]);

export function pointPainter(canvas, positions) {
  const PARTS = 4; // of a pixel, to which the centre of a disc is rounded
  const context = canvas.getContext("2d", { alpha: false });
  let colours, ground, image;

  function paint(...painted) {
    [colours, ground] = painted;
  }

  function clear() {
    const { width, height } = canvas;
    if (image?.width !== width || image.height !== height) image = context.createImageData(width, height);
    new Uint32Array(image.data.buffer).fill((0xff000000 | (ground[2] << 16) | (ground[1] << 8) | ground[0]) >>> 0);
  }

  /* How much of each pixel a disc covers, for each place of its centre within a pixel, in PARTS across and down. */
  function coversOf(radius, reach) {
    const side = 2 * reach + 1;
    const coverAt = (part) => Float32Array.from({ length: side ** 2 }, (_, k) => {
      const across = (k % side) - reach + 0.5 - (part % PARTS) / PARTS;
      const down = Math.floor(k / side) - reach + 0.5 - Math.floor(part / PARTS) / PARTS;
      return Math.min(Math.max(radius + 0.5 - Math.hypot(across, down), 0), 1);
    });
    return Array.from({ length: PARTS ** 2 }, (_, part) => coverAt(part));
  }

  function draw(view, first, last) {
    if (!canvas.width || !canvas.height) return; // there is no image of no size
    if (!first) clear();
    const { width, height } = canvas,
      shown = image.data;
    const radius = view.diameter / 2,
      reach = Math.ceil(radius + 0.5),
      side = 2 * reach + 1,
      covers = coversOf(radius, reach);
    for (let k = first; k < last; k++) {
      const across = Math.round(((positions[2 * k] - view.x) * view.scale + width / 2) * PARTS);
      const down = Math.round(((view.y - positions[2 * k + 1]) * view.scale + height / 2) * PARTS);
      const left = Math.floor(across / PARTS) - reach;
      const top = Math.floor(down / PARTS) - reach;
      if (left < 0 || top < 0 || left + side > width || top + side > height) continue;
      const cover = covers[(down - (top + reach) * PARTS) * PARTS + across - (left + reach) * PARTS];
      const [red, green, blue] = [colours[4 * k], colours[4 * k + 1], colours[4 * k + 2]];
      for (let pixel = 0; pixel < cover.length; pixel++) {
        const share = (cover[pixel] * colours[4 * k + 3]) / 255;
        if (!share) continue;
        const at = 4 * ((top + Math.floor(pixel / side)) * width + left + (pixel % side));
        shown[at] += (red - shown[at]) * share;
        shown[at + 1] += (green - shown[at + 1]) * share;
        shown[at + 2] += (blue - shown[at + 2]) * share;
      }
    }
    context.putImageData(image, 0, 0);
  }

  return { paint, draw };
}
