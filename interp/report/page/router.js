/* Which view is shown: the one that the address names; and the keys of the page. */

import { lastTabShown, readAddress, rememberTab } from "./address.js";
import { loadTable, order } from "./data/features.js";
import { page } from "./data/files.js";
import { closestTo, the } from "./elements/elements.js";
import { trouble } from "./elements/errors.js";
import { steerTheme } from "./elements/theme.js";
import { selectByAddress, writeAddress } from "./selection/selection.js";
import { latentAtCursor, starAtCursor } from "./views/table.js";

/** A view of the page, which the address names. within: the view from which it is opened, whose tab is marked where it
 * has none of its own; step: goes to the
 * next feature, or the one before it; clear: lets go of what is chosen, and returns whether there was anything.
 * @typedef {{
 *   title?: string,
 *   titled?: (argument?: string) => string,
 *   within?: string,
 *   show: (section: HTMLElement, argument?: string) => void,
 *   step?: (by: number) => void,
 *   clear?: () => boolean,
 * }} View */

/** Show one of these views, and another whenever the address names it.
 * @type {(views: Record<string, View>) => void} */
export function start(views) {
  let isLost = false; // the address named no view

  function route() {
    const { view: named, argument, query } = readAddress();
    const isKnown = Object.hasOwn(views, named);
    const view = isKnown ? named : "overview";
    if (isLost) trouble("");
    isLost = !isKnown;
    if (isLost) {
      trouble(`This page has no part “${named}”: its overview is shown.`);
      history.replaceState(null, "", "#overview");
    }
    const { within, title, titled } = views[view];
    for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== view;
    const marked = document.querySelector(`nav a[data-view="${view}"]`) ? view : within;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.dataset.view === marked) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.body.dataset.view = view;
    if (!within) rememberTab(view);
    document.title = `${titled ? titled(argument) : title} · ${page.title}`;
    the("#tip").hidden = true;
    const isRead = order.length > 0;
    the("#loading").hidden = isRead || view === "overview";
    if (isRead || view === "overview") show(view, argument, query);
    else loadTable().then(route); // to where it leads by then
  }

  function show(view, argument, query) {
    if (query !== undefined && order.length) selectByAddress(query);
    views[view].show(the(`#${view}`), argument);
    writeAddress();
    performance.mark("report-drawn");
  }

  const help = the("dialog");
  the("#close-help").addEventListener("click", () => help.close());

  document.addEventListener("keydown", (event) => {
    if (help.open) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = closestTo(event, "input, select, textarea");
    const { view = "overview" } = document.body.dataset;
    if (event.key === "Escape") {
      if (field) field.blur();
      else if (views[view].clear?.()) event.preventDefault();
      else if (view !== "features") location.hash = views[view].within ? lastTabShown() : "#features";
      return;
    }
    if (field) return;
    const steps = {
      j: 1,
      k: -1,
      ...(view === "features" ? { ArrowDown: 1, ArrowUp: -1 } : { ArrowRight: 1, ArrowLeft: -1 }),
    };
    if (event.key === "s" && view === "feature") document.querySelector("#feature .star")?.click();
    else if (event.key === "s" && view === "features") starAtCursor();
    else if (event.key === "?") help.showModal();
    else if (event.key === "/") {
      event.preventDefault();
      focusSearch();
    } else if (event.key in steps && views[view].step) {
      event.preventDefault();
      if (order.length) views[view].step(steps[event.key]);
    } else if (
      event.key === "Enter" &&
      view === "features" &&
      !closestTo(event, "a, button") &&
      latentAtCursor() !== undefined
    ) {
      location.hash = `#feature/${latentAtCursor()}`;
    }
  });

  window.addEventListener("hashchange", route);
  steerTheme(the("#theme"));
  route();
}

function focusSearch() {
  if (document.body.dataset.view !== "features") location.hash = "#features";
  setTimeout(() => {
    const field = /** @type {HTMLInputElement} */ (document.getElementById("search"));
    field.focus();
    field.select();
  });
}
