/* The table of all features: sorted, filtered, searched, and drawn only where it is looked at. */
"use strict";

report.table = (() => {
  const { latents, ranked } = report.data.page;
  const { columns, KEYS, state, verdictOf, labelOf, isIdle, isInseparable } = report.selection;
  const { parted, marked, place: placeOfFit } = report.search;
  const UNSORTED = [
    ["snippet", "Strongest firing"],
    ["activations", "Activations"],
  ];
  const MATCHES = "Best matches first: the commonest token itself, then a word of the explanation, then the rest.";
  const RECOMMENDED = !ranked
    ? "By activation mass."
    : !report.data.page.has_text
      ? "Recommended order: features that detect a label best."
      : "Recommended order: first features surely of one meaning, whose rules hold and are " +
        "unlike each other; then others whose rules hold, on many tokens before on one; then other sure ones, " +
        "single-token, " +
        "unsure, faint and dead.";
  const idle = columns.verdict.filter((_, i) => isIdle(i)).length;
  let scroller,
    body,
    count,
    ordered,
    evidence = null,
    drawn = "",
    rowHeight = 56,
    order = [],
    cursor = 0;

  /* Show what is selected now, from the top. */
  function refresh() {
    order = report.selection.order();
    drawn = "";
    scroller.scrollTop = 0;
    cursor = 0;
    count.textContent = `${format.count(order.length)} of ${format.count(latents)} features`;
    if (idle && !state.verdict.length && !state.terms.length)
      count.textContent += `, ${format.count(idle)} faint or dead ones left out`;
    const onclick = () => report.selection.set({ sort: null });
    const back = () => h("button.link", { type: "button", onclick }, "Back to the order at first");
    ordered.replaceChildren(state.sort !== null ? back() : state.terms.length ? MATCHES : RECOMMENDED);
    for (const cell of scroller.querySelectorAll("th")) {
      const sorted = cell.dataset.key === state.sort;
      cell.setAttribute("aria-sort", sorted ? (state.up ? "ascending" : "descending") : "none");
    }
    for (const field of document.querySelectorAll("#features [data-state]")) {
      if (field.value !== state[field.dataset.state]) field.value = state[field.dataset.state];
    }
    for (const chip of document.querySelectorAll(".chip")) {
      const { starred, verdict } = chip.dataset;
      chip.setAttribute("aria-pressed", String(starred ? Boolean(state.starred) : state.verdict.includes(verdict)));
    }
    draw();
  }

  const cell = (key, ...children) => h(`td.${key}`, { role: "cell" }, ...children);

  const none = () => h("span.muted", null, "–");

  /* The strongest firing in its context, once the file of them is there. */
  function snippet(i) {
    if (!evidence?.snippets[i]) return null;
    if (!report.data.page.has_text) return strongestInput(i);
    const [packed, firing] = evidence.snippets[i],
      pieces = report.pieces(Array.from(report.text.decoded(packed), word));
    const parts = pieces.map(({ text, tokens }) =>
      h(`span.token${tokens.includes(firing) ? ".firing" : ""}`, null, visible(text)),
    );
    const at = parts.findIndex((part) => part.classList.contains("firing"));
    return h(
      "span.line.text",
      null,
      h("span.before", null, h("span", null, parts.slice(0, at))),
      h("span.after", null, parts.slice(at)),
    );
  }

  /* Of rows that are no text, the picture of the strongest firing, once its file is there. */
  function strongestInput(i) {
    const [packed, firing] = evidence.snippets[i],
      row = report.text.decoded(packed)[firing];
    const place = h("span", null, report.inputs.isThere(row) ? report.inputs.element(row) : null);
    if (!report.inputs.isThere(row))
      report.inputs.load([row]).then(() => place.replaceChildren(report.inputs.element(row)));
    return place;
  }

  /* Its histogram of activations, in digits. */
  function bars(i) {
    const heights = Array.from(evidence?.histograms[i] ?? ""),
      width = 64 / heights.length;
    const path = heights
      .map((height, k) => `M${(k * width).toFixed(1)} 27v${-3 * height}h${(width - 0.6).toFixed(1)}V27z`)
      .join("");
    return svg("svg", { viewBox: "0 0 64 28", "aria-hidden": "true" }, svg("path", { class: "bin", d: path }));
  }

  function cells(i) {
    const label = labelOf(i),
      { label: mine, star } = report.notes.of(i),
      { terms } = state,
      fit = placeOfFit(terms, i);
    const rule = columns.explanation[i],
      tokens = columns.tokens[i];
    return {
      latent: [star ? h("span", { title: "starred" }, "★ ") : null, featureLink(i)],
      verdict: [verdictElement(verdictOf(i)), unsureElement(i)],
      monosemanticity: intervalElement(columns.monosemanticity[i], columns.low[i], columns.high[i]),
      learnt: format.fixed(columns.learnt[i]),
      senses: isInseparable(i)
        ? h("span.muted", { title: "no separable senses were found" }, "none")
        : format.count(columns.senses[i]),
      explanation: rule ? h("span", { title: rule }, ruleText(...parted(terms, "rule", rule))) : none(),
      explanation_f1: format.fixed(columns.explanation_f1[i]),
      density: format.share(columns.density[i]),
      max: format.significant(columns.max[i]),
      top_token:
        tokens.length && report.data.page.has_text
          ? h(fit < 0 ? "span" : "mark", null, tokenElement(tokens[Math.max(fit, 0)]))
          : none(),
      label: label ? h("span", { title: format.words(label) }, marked(terms, "label", format.words(label))) : none(),
      label_f1: label ? format.fixed(columns.label_f1[i]) : null,
      mine: mine ? h("bdi.your-label", { title: `your label: ${mine}` }, marked(terms, "label", mine)) : null,
    };
  }

  function row(place) {
    const i = order[place],
      isWeak = columns.explanation_f1[i] < report.data.page.min_f1;
    return h(
      "tr",
      { role: "row", "aria-rowindex": place + 2, class: place === cursor ? "at" : null, "data-latent": i },
      Object.entries(cells(i)).map(([key, content]) =>
        cell(key === "explanation" && isWeak ? "explanation.weak" : key, content),
      ),
      cell("snippet", snippet(i)),
      cell("activations", bars(i)),
    );
  }

  /* Rows in sight, and a dozen on either side; what lies beyond is two empty rows of its height. */
  function draw(all = 0) {
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 12);
    const last = all || Math.min(order.length, first + Math.ceil(scroller.clientHeight / rowHeight) + 24);
    const key = `${all ? 0 : first},${last},${cursor},${rowHeight}`;
    if (key === drawn) return;
    drawn = key;
    const wasInRow = body.contains(document.activeElement);
    const from = all ? 0 : first;
    const gap = (n) => h("tr.gap", { "aria-hidden": "true", "--height": `${n * rowHeight}px` });
    const rows = [];
    for (let place = from; place < last; place++) rows.push(row(place));
    const clear = () => h("button", { type: "button", onclick: report.selection.clear }, "Clear the filters");
    if (!order.length)
      rows.push(h("tr.none", { role: "row" }, h("td", { role: "cell" }, "No feature fits. ", clear())));
    body.replaceChildren(gap(from), ...rows, gap(Math.max(0, order.length - last)));
    if (wasInRow) focusRow();
  }

  const focusRow = () => body.querySelector("tr.at a")?.focus({ preventScroll: true });

  function measure() {
    rowHeight = parseFloat(getComputedStyle(scroller).getPropertyValue("--row")) || 56;
    drawn = "";
    draw();
  }

  function sortBy(key) {
    report.selection.set({ sort: key, up: state.sort === key ? !state.up : Boolean(KEYS[key].up) });
  }

  function header([key, { title, hint }]) {
    return h(
      `th.${key}`,
      { role: "columnheader", scope: "col", "data-key": key, "aria-sort": "none" },
      h(
        "button",
        { type: "button", title: hint, "aria-label": hint ? `${title}: ${hint}` : null, onclick: () => sortBy(key) },
        title,
      ),
    );
  }

  const unsorted = ([key, title]) => h(`th.${key}`, { role: "columnheader", scope: "col" }, title);

  function build(section) {
    body = h("tbody", { role: "rowgroup" });
    const heads = [...Object.entries(KEYS).map(header), ...UNSORTED.map(unsorted)];
    const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row", "aria-rowindex": 1 }, heads));
    const table = h("table", { role: "table", "aria-rowcount": latents + 1, "aria-label": "Features" }, head, body);
    const onscroll = () => requestAnimationFrame(() => draw());
    scroller = h(
      "div.scroller",
      { onscroll, tabindex: "0", role: "region", "aria-label": "Features, scrollable" },
      table,
    );
    body.addEventListener("click", (event) => {
      const line = event.target.closest("tr[data-latent]");
      if (line && !event.target.closest("a") && String(getSelection()) === "")
        location.hash = `#feature/${line.dataset.latent}`;
    });
    count = h("output.count", { "aria-live": "polite" });
    ordered = h("p.ordered");
    section.append(report.filters(count, ordered), scroller);
    report.selection.onchange(refresh);
    Promise.all([loadData("rows"), loadWords()]).then(([rows]) => {
      evidence = rows;
      measure();
    });
    window.addEventListener("resize", measure);
    window.addEventListener("beforeprint", () => draw(Math.min(order.length, 500)));
    window.addEventListener("afterprint", measure);
  }

  /* Move the cursor and the focus, and keep both in sight: Enter opens this row, whatever was clicked before. */
  function move(step) {
    if (!order.length) return;
    cursor = Math.min(Math.max(cursor + step, 0), order.length - 1);
    const top = cursor * rowHeight;
    const room = scroller.clientHeight - scroller.querySelector("thead").offsetHeight - rowHeight;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
    draw();
    focusRow();
  }

  report.views.features = {
    title: "Features",
    show(section) {
      if (scroller) {
        order = report.selection.order();
        measure();
        move(0);
        return;
      }
      build(section);
      section.hidden = false;
      measure();
      refresh();
    },
  };

  return {
    move,
    current: () => order[cursor],
    /* The latent `step` places from this one in the order of the table; one that is filtered out counts as the
     * start. */
    neighbour(latent, step) {
      order = report.selection.order();
      const place = order.indexOf(latent);
      return place < 0 ? order[0] : order[place + step];
    },
    visit(latent) {
      order = report.selection.order();
      const place = order.indexOf(latent);
      if (place >= 0) cursor = place;
      return { place, of: order.length };
    },
  };
})();
