/* What a reader chose of the page's looks, which the browser keeps, and the colours, light or dark. This is read in the
 * head, so that nothing is drawn in the other colours first. */
"use strict";

/* Names and texts; where a browser keeps nothing of a page like this, they last as long as the page. */
const preferences = (() => {
  const chosen = new Map();

  /** @type {(name: string) => string} */
  function get(name) {
    try {
      return chosen.get(name) ?? localStorage.getItem(`interp-${name}`);
    } catch {
      return null;
    }
  }

  /** @type {(name: string, text: string) => void} */
  function set(name, text) {
    chosen.set(name, text);
    try {
      localStorage.setItem(`interp-${name}`, text);
    } catch {
      return; // it is chosen all the same
    }
  }

  return { get, set };
})();

const theme = (() => {
  const SYSTEM = matchMedia("(prefers-color-scheme: dark)");
  const NEXT = { system: "light", light: "dark", dark: "system" };
  const SIGNS = { system: "◐", light: "☀", dark: "☾" };
  const listeners = [];
  const kept = preferences.get("theme");
  let chosen = kept in NEXT ? kept : "system";

  const isDark = () => (chosen === "system" ? SYSTEM.matches : chosen === "dark");

  function apply() {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    for (const listener of listeners) listener();
  }

  /* Let a button go from system to light to dark and round again, and say what is on. */
  function steer(button) {
    const show = () => {
      const title = `Colours: ${chosen}. Press for ${NEXT[chosen]}.`;
      button.textContent = SIGNS[chosen];
      button.title = title;
      button.setAttribute("aria-label", title);
    };
    button.addEventListener("click", () => {
      chosen = NEXT[chosen];
      preferences.set("theme", chosen);
      apply();
    });
    listeners.push(show);
    show();
  }

  SYSTEM.addEventListener("change", apply);
  apply();
  return { isDark, steer, onchange: (listener) => listeners.push(listener) };
})();
