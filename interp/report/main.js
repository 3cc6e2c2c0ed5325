/* The current view: the address names it (#overview, #features, #feature/12, #compare/12/476, #map, #summary, #notes,
 * and after a question mark how the table is searched, filtered and sorted), and the keyboard changes it. #table is
 * #features. */
"use strict";

report.address = (() => {
  const VIEW_OF = { table: "features" };
  let before = "#features";

  /* Whether a feature was opened from the notes. */
  const isFromNotes = () => before === "#notes";

  /* View, its argument, and the query, undefined if there is none. */
  function where() {
    const [path, asked] = location.hash.slice(1).split("?");
    const [name, ...rest] = path.split("/");
    return [name || "overview", rest.length ? rest.join("/") : undefined, asked];
  }

  function route() {
    const [name, argument, asked] = where();
    const named = VIEW_OF[name] ?? name;
    const view = Object.hasOwn(report.views, named) ? named : "overview";
    for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== view;
    for (const link of document.querySelectorAll("nav a")) {
      const here = link.dataset.view === (report.views[view].within ?? view);
      if (here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.body.dataset.view = view;
    const { within, title, titled } = report.views[view];
    if (!within) before = `#${view}`;
    document.title = `${titled ? titled(argument) : title} · ${report.data.page.title}`;
    document.getElementById("tip").hidden = true;
    const isRead = report.order.length > 0;
    document.getElementById("loading").hidden = isRead || view === "overview";
    if (isRead || view === "overview") show(view, argument, asked);
    else loadTable().then(route); // to where it leads by then
  }

  function show(view, argument, asked) {
    if (asked !== undefined && report.order.length) report.selection.adopt(asked);
    report.views[view].show(document.getElementById(view), argument);
    report.selection.remember();
    performance.mark("report-drawn");
  }

  function step(by) {
    if (!report.order.length) return;
    if (document.body.dataset.view === "features") return report.table.move(by);
    if (document.body.dataset.view !== "feature") return;
    const next = report.table.neighbour(Number(where()[1]), by);
    if (next !== undefined) location.replace(`#feature/${next}`);
  }

  const focusSearch = () => {
    if (document.body.dataset.view !== "features") location.hash = "#features";
    setTimeout(() => {
      const field = /** @type {HTMLInputElement} */ (document.getElementById("search"));
      field.focus();
      field.select();
    });
  };

  const help = document.querySelector("dialog");
  document.getElementById("close-help").addEventListener("click", () => help.close());

  document.addEventListener("keydown", (event) => {
    if (help.open) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    const view = document.body.dataset.view;
    if (event.key === "Escape") {
      if (typing) typing.blur();
      else if (view === "map" && report.views.map.clear()) event.preventDefault();
      else if (view !== "features") location.hash = report.views[view].within ? before : "#features";
      return;
    }
    if (typing) return;
    const steps = {
      j: 1,
      k: -1,
      ...(view === "features" ? { ArrowDown: 1, ArrowUp: -1 } : { ArrowRight: 1, ArrowLeft: -1 }),
    };
    if (event.key === "s" && view === "feature") document.querySelector("#feature .star")?.click();
    else if (event.key === "s" && view === "features") report.table.star();
    else if (event.key === "?") help.showModal();
    else if (event.key === "/") {
      event.preventDefault();
      focusSearch();
    } else if (event.key in steps && view.startsWith("feature")) {
      event.preventDefault();
      step(steps[event.key]);
    } else if (
      event.key === "Enter" &&
      view === "features" &&
      !event.target.closest("a, button") &&
      report.table.current() !== undefined
    ) {
      location.hash = `#feature/${report.table.current()}`;
    }
  });

  window.addEventListener("hashchange", route);
  theme.onchange(() => {
    for (const view of ["map", "summary"]) report.views[view].repaint();
  });
  theme.steer(document.getElementById("theme"));
  return { route, isFromNotes };
})();

report.address.route();
