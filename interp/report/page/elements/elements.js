/* Elements of HTML and SVG. Text reaches the page only as text nodes and attributes, so nothing from a corpus is ever
 * markup. */

/** An element: h("a.link", { href, onclick, title }, child, child, …); strings become text nodes.
 * @template {string} Kind
 * @param {Kind} kind
 * @param {Attributes<ElementOf<Kind>> | null} [attributes]
 * @param {...Child} children
 * @returns {ElementOf<Kind>} */
export function h(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = /** @type {any} */ (document.createElement(tag));
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  const parts = /** @type {any[]} */ (children).flat(Infinity);
  element.append(...parts.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The same for SVG.
 * @template {string} Tag
 * @param {Tag} tag
 * @param {Attributes<ElementOfSvg<Tag>> | null} [attributes]
 * @param {...Child} children
 * @returns {ElementOfSvg<Tag>} */
export function svg(tag, attributes, ...children) {
  const element = /** @type {any} */ (document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(.../** @type {any[]} */ (children).flat(Infinity));
  return element;
}

/** The first element that a selector fits, in the page or in a part of it; an error if there is none.
 * @template {string} Selectors
 * @param {Selectors} selectors
 * @param {ParentNode} [within]
 * @returns {FoundBy<Selectors>} */
export function the(selectors, within = document) {
  const found = within.querySelector(selectors);
  if (!found) throw new Error(`the page has no ${selectors}`);
  return found;
}

/** The element that a selector fits, at or around the place of an event; null if there is none.
 * @type {(event: Event, selectors: string) => HTMLElement | null} */
export const closestTo = ({ target }, selectors) => (target instanceof Element ? target.closest(selectors) : null);

/** The texts within an element, in order.
 * @type {(element: Element) => Text[]} */
export function textsOf(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(/** @type {Text} */ (walker.currentNode));
  return texts;
}

/** A part of a page, below its title.
 * @type {(title: Child, ...children: Child[]) => HTMLElement} */
export const block = (title, ...children) => h("section.block", null, h("h3", null, title), ...children);

/** What stands in the place of something that is not there.
 * @type {(why: string) => HTMLElement} */
export const nothing = (why) => h("p.missing", null, why);

/** Details whose content `make` returns when they are first opened.
 * @type {(kind: "details" | `details.${string}`, title: Child, make: () => Child) => HTMLElement} */
export function foldedElement(kind, title, make) {
  return h(kind, { ontoggle() {
    if (this.open && this.childElementCount === 1) this.append(...h("div", null, make()).childNodes);
  } }, h("summary", null, title));
}

/** The head of a table: a column without a name has an empty cell.
 * @type {(names: Child[]) => HTMLElement} */
export function headElement(names) {
  const cells = names.map((name) => (name ? h("th", { scope: "col" }, name) : h("td")));
  return h("thead", null, h("tr", null, cells));
}

/** The cell that names a row.
 * @type {(...name: Child[]) => HTMLElement} */
export const rowHead = (...name) => h("th", { scope: "row" }, name);

/** A cell with a bar of this share of its width; hue: of the bar, where it is not the table's.
 * @type {(share: number, hue?: string) => HTMLElement} */
export const barCell = (share, hue) => h("td.bar", { "--share": share, "--hue": hue }, h("i"));

/** A list of named values: [name, value], ….
 * @type {(rows: Child[][]) => HTMLElement} */
export const factsElement = (rows) =>
  h("dl.facts", null, rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
