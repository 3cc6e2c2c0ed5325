/* Coloured points on a canvas: by WebGL, or pixel by pixel where there is none, or one in software, which is slower.
 *
 * positions: Float32Array of x, y, x, y, …. paint(colours, ground): bytes r, g, b, a of each point, and r, g, b below them.
 * draw(view, first, last): some of the points, over what is there already; from the first point on over a clean ground.
 * view: { x, y } in the middle, pixels a unit, and the diameter of a point in pixels, all of the canvas's own pixels. */
"use strict";

report.points = (() => {
  const VERTEX = `
    attribute vec2 place; attribute vec4 colour;
    uniform vec2 middle; uniform vec2 scale; uniform float diameter;
    varying vec4 shade;
    void main() {
      gl_Position = vec4((place - middle) * scale, 0.0, 1.0);
      gl_PointSize = diameter;
      shade = colour;
    }`;
  const FRAGMENT = `
    precision mediump float;
    varying vec4 shade;
    void main() {
      vec2 off = gl_PointCoord - 0.5;
      if (dot(off, off) > 0.25) discard;
      gl_FragColor = shade;
    }`;

  function program(gl) {
    const made = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    return gl.getProgramParameter(made, gl.LINK_STATUS) ? made : null;
  }

  function webgl(canvas, positions) {
    const gl = canvas.getContext("webgl", { alpha: false, antialias: false, depth: false, preserveDrawingBuffer: true });
    const made = gl && program(gl);
    if (!made) return null;
    gl.useProgram(made);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    const fill = (name, values, size, kind, isShare) => {
      const place = gl.getAttribLocation(made, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, kind, isShare, 0, 0);
    };
    fill("place", positions, 2, gl.FLOAT, false);
    fill("colour", new Uint8Array(2 * positions.length), 4, gl.UNSIGNED_BYTE, true);
    const uniform = (name) => gl.getUniformLocation(made, name);
    const [middle, scale, diameter] = ["middle", "scale", "diameter"].map(uniform);
    return {
      paint(colours, ground) {
        gl.bufferSubData(gl.ARRAY_BUFFER, 0, colours);
        gl.clearColor(...ground.map((c) => c / 255), 1);
      },
      draw(view, first, last) {
        gl.viewport(0, 0, canvas.width, canvas.height);
        gl.uniform2f(middle, view.x, view.y);
        gl.uniform2f(scale, (2 * view.scale) / canvas.width, (2 * view.scale) / canvas.height);
        gl.uniform1f(diameter, view.diameter);
        if (!first) gl.clear(gl.COLOR_BUFFER_BIT);
        gl.drawArrays(gl.POINTS, first, last - first);
      },
    };
  }

  function pixels(canvas, positions) {
    const context = canvas.getContext("2d", { alpha: false });
    let colours, ground, image, shown;
    return {
      paint(...given) {
        [colours, ground] = given;
      },
      draw(view, first, last) {
        const { width, height } = canvas, side = Math.max(Math.round(view.diameter), 1);
        if (!first) {
          if (image?.width !== width || image.height !== height) image = context.createImageData(width, height);
          shown = image.data;
          new Uint32Array(shown.buffer).fill((0xff000000 | (ground[2] << 16) | (ground[1] << 8) | ground[0]) >>> 0);
        }
        const insets = Array.from({ length: side }, (_, row) => Math.round((side - Math.sqrt(side ** 2 - (2 * row + 1 - side) ** 2)) / 2));
        for (let k = first; k < last; k++) {
          const left = Math.round((positions[2 * k] - view.x) * view.scale + (width - side) / 2), top = Math.round((view.y - positions[2 * k + 1]) * view.scale + (height - side) / 2);
          if (left < 0 || top < 0 || left + side > width || top + side > height) continue;
          const share = colours[4 * k + 3] / 255;
          for (let row = 0; row < side; row++) {
            for (let at = 4 * ((top + row) * width + left + insets[row]), end = at + 4 * (side - 2 * insets[row]); at < end; at += 4) {
              for (let c = 0; c < 3; c++) shown[at + c] += (colours[4 * k + c] - shown[at + c]) * share;
            }
          }
        }
        context.putImageData(image, 0, 0);
      },
    };
  }

  /* Asked of another canvas, since one that has had a context of one kind gives none of the other. */
  function isQuick() {
    const gl = document.createElement("canvas").getContext("webgl"), named = gl?.getExtension("WEBGL_debug_renderer_info");
    const name = gl ? String(gl.getParameter(named ? named.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : "software";
    gl?.getExtension("WEBGL_lose_context")?.loseContext();
    return !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
  }

  const choose = (canvas, positions) => (isQuick() && webgl(canvas, positions)) || pixels(canvas, positions);
  return Object.assign(choose, { webgl, pixels });
})();
