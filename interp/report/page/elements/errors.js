/* What goes wrong is told above the page, until that is closed. */

import { the } from "./elements.js";

/** Say what is wrong above the page, until that is closed; "" says that it no longer is.
 * @type {(text: string) => void} */
export function trouble(text) {
  the("#trouble").hidden = !text;
  the("#trouble span").textContent = text;
}
the("#trouble button").addEventListener("click", () => trouble(""));
window.addEventListener("error", (event) => trouble(`An error occurred: ${event.message || "a file is missing"}`));
window.addEventListener("unhandledrejection", (event) => trouble(String(event.reason?.message || event.reason)));

/* What `make` returns; where it fails, that is told above the page, and the fallback takes its place: one name or row
 * that fails keeps no other from being shown. */
export function withFallback(make, fallback) {
  try {
    return make();
  } catch (error) {
    reportError(error);
    return fallback;
  }
}
