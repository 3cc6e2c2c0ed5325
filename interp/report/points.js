/* Coloured points on a canvas, painted pixel by pixel: 65,536 of them take less than a frame, and nothing is compiled.
 *
 * The page ships plotly's scattergl, but that compiles code for shaders with Function(), which the page's policy
 * forbids, and with WebGL in software it needs more than a second per frame.
 *
 * positions: Float32Array of x, y, x, y, …. paint(colours, ground): bytes r, g, b, a of each point, and r, g, b of the
 * ground. draw(view, first, last): draw some of the points over the existing ones; with first = 0, over a clean ground.
 * view: { x, y } of the centre, pixels per unit, and the diameter of a point, all in the canvas's own pixels. */
"use strict";

report.points = (canvas, positions) => {
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

  /* Pixels left free on both sides of each row of a disc. */
  const insetsOf = (side) =>
    Array.from({ length: side }, (_, row) => Math.round((side - Math.sqrt(side ** 2 - (2 * row + 1 - side) ** 2)) / 2));

  function draw(view, first, last) {
    if (!first) clear();
    const { width, height } = canvas,
      shown = image.data;
    const side = Math.max(Math.round(view.diameter), 1),
      insets = insetsOf(side);
    for (let k = first; k < last; k++) {
      const left = Math.round((positions[2 * k] - view.x) * view.scale + (width - side) / 2);
      const top = Math.round((view.y - positions[2 * k + 1]) * view.scale + (height - side) / 2);
      if (left < 0 || top < 0 || left + side > width || top + side > height) continue;
      const share = colours[4 * k + 3] / 255;
      for (let row = 0; row < side; row++) {
        for (
          let at = 4 * ((top + row) * width + left + insets[row]), end = at + 4 * (side - 2 * insets[row]);
          at < end;
          at += 4
        ) {
          for (let c = 0; c < 3; c++) shown[at + c] += (colours[4 * k + c] - shown[at + c]) * share;
        }
      }
    }
    context.putImageData(image, 0, 0);
  }

  return { paint, draw };
};
