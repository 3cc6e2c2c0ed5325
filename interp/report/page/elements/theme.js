/* The colours of the page, light or dark: those of the system, unless the reader chose, which the browser keeps. */

import { preference, setPreference } from "./preferences.js";

const SYSTEM = matchMedia("(prefers-color-scheme: dark)");
const NEXT = { system: "light", light: "dark", dark: "system" };
const SIGNS = { system: "◐", light: "☀", dark: "☾" };
const listeners = [];
const kept = preference("theme") ?? "system";
let chosen = kept in NEXT ? kept : "system";

/** @type {() => boolean} */
export const isDark = () => (chosen === "system" ? SYSTEM.matches : chosen === "dark");

/** The value of a property of the style, such as a colour.
 * @type {(name: string) => string} */
export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  for (const listener of listeners) listener();
}
SYSTEM.addEventListener("change", applyTheme);

/** Call a function whenever the colours change.
 * @type {(listener: () => void) => void} */
export function onTheme(listener) {
  listeners.push(listener);
}

/** Let a button go from system to light to dark and round again, and say what is on.
 * @type {(button: HTMLElement) => void} */
export function steerTheme(button) {
  const show = () => {
    const title = `Colours: ${chosen}. Press for ${NEXT[chosen]}.`;
    button.textContent = SIGNS[chosen];
    button.title = title;
    button.setAttribute("aria-label", title);
  };
  button.addEventListener("click", () => {
    chosen = NEXT[chosen];
    setPreference("theme", chosen);
    applyTheme();
  });
  onTheme(show);
  show();
}
