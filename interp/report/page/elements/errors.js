/* What goes wrong is told above the page, until that is closed. */

/** Say what is wrong above the page, until that is closed; "" says that it no longer is.
 * @type {(text: string) => void} */
export function trouble(text) {
  const line = document.getElementById("trouble");
  line.hidden = !text;
  line.firstElementChild.textContent = text;
}
document.querySelector("#trouble button").addEventListener("click", () => trouble(""));
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
