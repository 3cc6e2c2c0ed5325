/* What a reader chose of the page's looks: names and texts, which the browser keeps; where it keeps nothing of a page
 * like this, they last as long as the page. */

const chosen = new Map();

/** @type {(name: string) => string | null} */
export function preference(name) {
  try {
    return chosen.get(name) ?? localStorage.getItem(`interp-${name}`);
  } catch {
    return null;
  }
}

/** @type {(name: string, text: string) => void} */
export function setPreference(name, text) {
  chosen.set(name, text);
  try {
    localStorage.setItem(`interp-${name}`, text);
  } catch {
    return; // it is chosen all the same
  }
}
