/* Features and tokens as a grid: one row per feature, one column per token. The shade of a cell is the feature's
 * strength there, or its effect there on a chosen next token: blue if it makes that likelier, orange if less likely. */

import { word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tokenElement } from "../text/tokens.js";

const LEAST = 0.1;

/** Shade an element by a value, deepest at ±most. An effect has a sign, a strength does not.
 * @type {(element: HTMLElement, value: number, most: number, isSigned: boolean) => void} */
export function paintCell(element, value, most, isSigned) {
  const isOn = value !== undefined && value !== 0;
  const share = isOn ? Math.min(Math.max(Math.abs(value) / most, LEAST), 1) : 0;
  element.style.setProperty("--shade", share.toFixed(3));
  element.classList.toggle("on", isOn && !isSigned);
  element.classList.toggle("raised", isOn && isSigned && value > 0);
  element.classList.toggle("lowered", isOn && isSigned && value < 0);
}

const written = (value, isSigned) => {
  if (!isSigned) return format.fixed(value);
  return `${value > 0 ? "+" : ""}${format.significant(value, 2)}`;
};

function head(tokens, onchoose) {
  const column = (token, position) => {
    const button = h(
      "button.column",
      { type: "button", onclick: () => onchoose(position), title: `token ${position}` },
      tokenElement(word(token)),
    );
    return h("th", { scope: "col", "data-position": position }, button);
  };
  return h(
    "thead",
    null,
    h("tr", null, h("th", { scope: "col" }, "Feature"), h("th", { scope: "col" }, "Most"), tokens.map(column)),
  );
}

/* tokens: their ids. rows: [latent, Map of position → value], first to last. most: the value of the deepest shade.
 * named(latent): the head of its row. unit: of a value, in words. onchoose: called with the position clicked.
 * onpoint: called with the row pointed at, null for none. */
export function grid({ tokens, rows, most, isSigned, unit, named, onchoose, onpoint }) {
  const cell = (values, position) => {
    const value = values.get(position);
    const tip = value === undefined ? null : `${word(tokens[position])}: ${written(value, isSigned)} ${unit}`;
    const element = h("td.cell", { "data-position": position, "data-tip": tip, "aria-label": tip });
    paintCell(element, value, most, isSigned);
    return element;
  };
  const line = ([latent, values]) => {
    const strongest = Array.from(values.values()).reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
    const point = () => onpoint(values);
    const leave = () => onpoint(null);
    return h(
      "tr",
      { "data-latent": latent, onpointerenter: point, onpointerleave: leave, onfocusin: point, onfocusout: leave },
      h("th.named", { scope: "row" }, h("div", null, named(latent))),
      h("td.amount", null, values.size ? written(strongest, isSigned) : h("span.muted", null, "–")),
      tokens.map((_, position) => cell(values, position)),
    );
  };
  const table = h(
    "table.grid",
    { "--tokens": tokens.length },
    head(tokens, onchoose),
    h("tbody", null, rows.map(line)),
  );
  table.addEventListener("click", (event) => {
    const position = event.target.closest(".cell")?.dataset.position;
    if (position !== undefined) onchoose(Number(position));
  });
  const onscroll = (event) => event.currentTarget.classList.toggle("scrolled", event.currentTarget.scrollLeft > 0);
  return h("div.gridded", { role: "region", tabindex: 0, "aria-label": "Features by tokens", onscroll }, table);
}
