/* A text as a strip of cells, one per token, as wide as its place whatever the length of the text: where a feature
 * fires in it, or what it does to a chosen next token. */

import { svg } from "../elements/elements.js";

const LEAST = 0.15; // of the deepest shade: what is there is seen
const NARROWEST = 1 / 150; // of the width
const MARKED = 1 / 60; // of the width, that of the mark of the chosen token at least

/** Shade an element by a value, deepest at ±most. An effect has a sign, a strength does not.
 * @type {(element: Element, value: number, most: number, isSigned: boolean) => void} */
export function shadeElement(element, value, most, isSigned) {
  const isOn = value !== undefined && value !== 0;
  const share = isOn ? LEAST + (1 - LEAST) * Math.min(Math.abs(value) / most, 1) : 0;
  /** @type {any} */ (element).style.setProperty("--shade", share.toFixed(3));
  element.classList.toggle("on", isOn && !isSigned);
  element.classList.toggle("raised", isOn && isSigned && value > 0);
  element.classList.toggle("lowered", isOn && isSigned && value < 0);
}

/** values: Map of position → value, in a text of n tokens. at: the chosen position. most: the value of the deepest
 * shade. tip(position, value): what a cell says. onchoose, onpoint: called with the position clicked and pointed at.
 * @param {{ n: number, values: Map<number, number>, at: number, most: number, isSigned: boolean,
 *   tip: (position: number, value: number) => string, onchoose: (position: number) => void,
 *   onpoint: (position: number | null) => void }} strip */
export function stripElement({ n, values, at, most, isSigned, tip, onchoose, onpoint }) {
  const box = (position, least = NARROWEST) => {
    const width = Math.max(1, n * least);
    return { x: position + (1 - width) / 2, width, height: 1 };
  };
  const cell = ([position, value]) => {
    const rect = svg("rect", { ...box(position), "data-position": position });
    rect.dataset.tip = tip(position, value);
    shadeElement(rect, value, most, isSigned);
    return rect;
  };
  const label = `At ${values.size} of ${n} tokens`;
  const picture = svg(
    "svg",
    { class: "textstrip", viewBox: `0 0 ${n} 1`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    Array.from(values, cell),
    svg("rect", { class: "at", ...box(at, MARKED) }),
  );
  const position = (event) => {
    const place = picture.getBoundingClientRect();
    return Math.max(0, Math.min(n - 1, Math.floor((n * (event.clientX - place.left)) / place.width)));
  };
  picture.addEventListener("click", (event) => onchoose(position(event)));
  picture.addEventListener("pointermove", (event) => onpoint(position(event)));
  picture.addEventListener("pointerleave", () => onpoint(null));
  return picture;
}
