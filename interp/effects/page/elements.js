/* Elements of HTML and SVG. Text reaches the page only as text nodes and attributes, so nothing from a corpus is ever
 * markup. */

function made(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** @type {(name: string, attributes?: object, ...children: (Node | string)[]) => any} */
export const element = (name, attributes = {}, ...children) =>
  made(document.createElement(name), attributes, children);

/** @type {(name: string, attributes?: object, ...children: (Node | string)[]) => any} */
export const drawn = (name, attributes = {}, ...children) =>
  made(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

/** @type {(id: string) => any} */
export const the = (id) => document.getElementById(id);

/** A table without the columns that are empty in all its rows. */
export function table(names, rows) {
  const isKnown = names.map((_, k) => rows.some((cells) => cells[k] !== ""));
  const cellsOf = (tag, cells, look = {}) =>
    cells.filter((_, k) => isKnown[k]).map((cell) => element(tag, look, cell));
  const body = rows.map((cells) => element("tr", {}, ...cellsOf("td", cells)));
  return element("table", {}, element("tr", {}, ...cellsOf("th", names, { scope: "col" })), ...body);
}

/** A table under a title, if it has rows. */
export const titled = (title, names, rows, level = "h3") =>
  (rows.length ? [element(level, {}, title), table(names, rows)] : []);
