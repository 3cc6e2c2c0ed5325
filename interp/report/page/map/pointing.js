/* The pointer, the wheel and the keys over points of the plane. */

/* Handle the pointer, the wheel and the keys over points: drag or arrows move; wheel, pinch, + and − zoom; 0 shows the
 * whole; a lasso (or Shift) selects; a click or Enter opens. */
export function handlePointer(
  host,
  canvas,
  { move, zoom, fit, near, toPixels, toData, size, isLasso, ring, corners, onhover, onpick, onlasso },
) {
  const STEPS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const pointers = new Map();
  let lasso = null,
    travelled = 0,
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
    travelled = pointers.size > 1 ? Infinity : 0;
    lasso = pointers.size === 1 && (isLasso() || event.shiftKey) ? [toData(...place(event))] : null;
    hover(-1);
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = place(event),
      last = pointers.get(event.pointerId);
    if (!last) return hover(near(...now));
    const step = now.map((p, axis) => p - last[axis]);
    travelled += Math.hypot(...step);
    pointers.set(event.pointerId, now);
    if (lasso) {
      lasso.push(toData(...now));
      drawLasso();
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      const distance = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
      zoom(distance(now) / distance(last), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else move(...step);
  });

  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (lasso && travelled > 8) return close();
      lasso = null;
      if (name === "pointerup" && travelled < 4) {
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

  /* Whether a pointer is pressed on the points. */
  return { isHeld: () => pointers.size > 0 };
}
