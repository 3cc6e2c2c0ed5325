/* The address of the page: it names a view, what the view shows, and after a question mark what is selected, as in
 * #feature/12, #compare/12/476 or #features?q=thou. */

const RENAMED = { table: "features" };
let lastTab = "#features";

/** The address in parts: the view, its argument, and the query; undefined for what it lacks.
 * @type {() => { view: string, argument?: string, query?: string }} */
export function readAddress() {
  const [path, query] = location.hash.slice(1).split("?");
  const [name, ...rest] = path.split("/");
  return { view: RENAMED[name] ?? (name || "overview"), argument: rest.length ? rest.join("/") : undefined, query };
}

/** The address of the view that was shown last, of those that have a tab: where Escape leads back to.
 * @type {() => string} */
export const lastTabShown = () => lastTab;

/** @type {(view: string) => void} */
export function rememberTab(view) {
  lastTab = `#${view}`;
}
