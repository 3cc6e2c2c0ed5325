/* A range of a picture that is chosen by dragging over it, or by the arrow keys on two handles. */

import { svg } from "./elements.js";

/** Let the user choose a range of a picture by dragging over it, or by the arrow keys on two handles; a click or Escape
 * clears it.
 *
 * place: x of the edges, the top and the base of the bars, and the picture's width, all in its own units. range: the
 * chosen range, null for all. onrange: called with [first bin, last bin + 1] or null, and with whether the pointer is
 * still down.
 * @type {(picture: SVGSVGElement, how: any) => { show: (from: number, to: number) => void }} */
export function addBrush(picture, { title, place, write, range, onrange }) {
  const last = place.x.length - 1;
  const arrows = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  const keys = { ...arrows, PageDown: -4, PageUp: 4, Home: -last, End: last };
  const handles = ["from", "to"].map((end) => {
    const limits = { "aria-valuemin": 0, "aria-valuemax": last };
    const slider = { role: "slider", tabindex: 0, "aria-label": `${title}, ${end}`, ...limits };
    const grip = { x: -3, width: 6, y: (place.top + place.base) / 2 - 7, height: 14, rx: 2 };
    return svg("g", { class: "handle", ...slider }, svg("line", { y1: place.top, y2: place.base }), svg("rect", grip));
  });
  picture.append(...handles);
  const ends = () => range() ?? [0, last];
  const tell = (from, to, moving = false) => onrange(from >= to || (!from && to === last) ? null : [from, to], moving);

  handles.forEach((handle, side) => handle.addEventListener("keydown", (event) => {
    if (!(event.key in keys) && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    const [from, to] = ends(), step = keys[event.key];
    if (event.key === "Escape") tell(0, last);
    else if (side === 0) tell(Math.min(Math.max(from + step, 0), to - 1), to);
    else tell(from, Math.max(Math.min(to + step, last), from + 1));
  }));

  /* The edge nearest to the pointer, and its distance in pixels. */
  function nearest(event) {
    const box = picture.getBoundingClientRect(), scale = box.width / place.width;
    const away = (k) => Math.abs(event.clientX - box.left - place.x[k] * scale);
    return place.x.reduce((best, _, k) => (away(k) < away(best) ? k : best), 0);
  }

  picture.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const [from, to] = ends(), start = nearest(event);
    const anchor = start === from ? to : start === to ? from : start;
    let at = start;
    const move = (moved) => {
      at = nearest(moved);
      tell(Math.min(anchor, at), Math.max(anchor, at), true);
    };
    const end = () => {
      picture.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) picture.removeEventListener(name, end);
      tell(Math.min(anchor, at), Math.max(anchor, at));
    };
    picture.setPointerCapture(event.pointerId);
    picture.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) picture.addEventListener(name, end);
  });
  picture.addEventListener("dblclick", () => tell(0, last));

  return {
    show(from, to) {
      [from, to].forEach((k, side) => {
        handles[side].setAttribute("transform", `translate(${place.x[k].toFixed(2)} 0)`);
        handles[side].setAttribute("aria-valuenow", k);
        handles[side].setAttribute("aria-valuetext", write(k));
      });
    },
  };
}
