/* The table of all features: sorted, filtered, searched, and drawn only where it is looked at. */
"use strict";

report.table = (() => {
  const { columns, latents, order, ranked } = report.data.page;
  const { parse, quality, marked, place: placeOfFit } = report.search;
  const verdictOf = (i) => columns.verdicts[columns.verdict[i]];
  /* It does next to nothing: out of sight unless it is asked for. */
  const isIdle = (i) => ["faint", "dead"].includes(verdictOf(i));
  /* Its verdict goes by the probability, whose interval holds ½. */
  const isUnsure = (i) => columns.sure[i] === false && ["monosemantic", "polysemantic"].includes(verdictOf(i));
  /* Its firings have no meaning in common, yet fall into no parts. */
  const isInseparable = (i) => verdictOf(i) === "polysemantic" && columns.senses[i] === 1;
  const labelOf = (i) => columns.labels[columns.label[i]] ?? null;
  const KEYS = {
    latent: { title: "Latent", value: (i) => i, up: true },
    verdict: { title: "Verdict", value: verdictOf, up: true },
    monosemanticity: { title: "Monosemanticity", value: (i) => columns.monosemanticity[i], hint: "probability that it means one thing, with its interval" },
    learnt: { title: "Used", value: (i) => columns.learnt[i], hint: "probability that it is the model's own, not the text's statistics seen through random weights" },
    senses: { title: "Senses", value: (i) => columns.senses[i], hint: "parts into which its firings fall" },
    explanation: { title: "Explanation", value: (i) => columns.explanation[i] || null, up: true },
    explanation_f1: { title: "F1", value: (i) => columns.explanation_f1[i], hint: "F1 of the explanation, held out" },
    density: { title: "Density", value: (i) => columns.density[i], hint: "share of tokens on which it fires" },
    max: { title: "Max", value: (i) => columns.max[i], hint: "largest activation" },
    top_token: { title: "Top token", value: (i) => columns.tokens[i][0] ?? null, up: true },
    label: { title: "Best label", value: labelOf, up: true, hint: "detected with an F1 of 0.3 or more" },
    label_f1: { title: "F1", value: (i) => columns.label_f1[i], hint: "F1 of the best label, held out" },
  };
  const DECADES = [["0.1,2", "≥ 0.1"], ["0.01,0.1", "0.01 to 0.1"], ["0.001,0.01", "0.001 to 0.01"], ["0.0001,0.001", "1e−4 to 1e−3"], ["0.00001,0.0001", "1e−5 to 1e−4"], ["1e-30,0.00001", "< 1e−5, firing"], ["0,1e-30", "0 (dead)"]];
  const ASKED = { q: "query", verdict: "verdict", starred: "starred", label: "label", density: "density", sort: "sort" };
  const HINT = 'Words are looked for in tokens, explanations and labels; tok:, rule: and label: look in one of them, #12 is a feature\'s number, "quotes" keep spaces, and 123 is not found in 1233';
  const MATCHES = "Best matches first: the commonest token itself, then a word of the explanation, then the rest.";
  const RECOMMENDED = !ranked ? "By activation mass." : "Recommended order: first features surely of one meaning whose explanation holds, on many tokens before on one, by its F1 and then by activation mass; then other sure ones, single-token, unsure, faint and dead.";
  /* Latent → its place in the recommended order, which decides between equals in any other. */
  const places = [];
  order.forEach((i, place) => { places[i] = place; });

  const idle = columns.verdict.filter((_, i) => isIdle(i)).length;
  const state = {
    sort: null, up: false, query: "", terms: [], verdict: null, starred: "", label: "", density: "", order: [], cursor: 0,
  };
  let scroller, body, count, ordered, drawn = "", rowHeight = 36;

  function matches(i) {
    if (state.verdict !== null ? verdictOf(i) !== state.verdict : isIdle(i) && !state.terms.length) return false;
    if (state.starred && !report.notes.of(i).star) return false;
    if (state.label && labelOf(i) !== state.label) return false;
    if (state.density) {
      const [low, high] = state.density.split(",").map(Number);
      const density = columns.density[i] ?? 0;
      if (!(density >= low && density < high)) return false;
    }
    return true;
  }

  function arrange() {
    state.terms = parse(state.query);
    const { value } = KEYS[state.sort] ?? {};
    const sign = state.up ? 1 : -1;
    const kept = [];
    for (let i = 0; i < latents; i++) {
      if (!matches(i)) continue;
      const fit = state.terms.length ? quality(state.terms, i) : 1;
      if (fit) kept.push([value ? value(i) : fit, i]);
    }
    kept.sort(([a, i], [b, j]) => {
      if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === (b ?? null) ? places[i] - places[j] : (a ?? null) === null ? 1 : -1;
      return (a < b ? -sign : a > b ? sign : 0) || places[i] - places[j];
    });
    const held = state.order[state.cursor];
    state.order = kept.map(([, i]) => i);
    state.cursor = Math.max(0, state.order.indexOf(held));
  }

  /* The search, the filters and the order as the question of an address; "" where all is as at first. */
  function question() {
    const asked = new URLSearchParams();
    for (const [name, key] of Object.entries(ASKED)) if (state[key]) asked.set(name, state[key]);
    if (state.sort !== null && state.up !== Boolean(KEYS[state.sort].up)) asked.set("reversed", "1");
    return String(asked);
  }

  /* Take over a question; what it names that is not here is left out. */
  function adopt(text) {
    if (text === question()) return;
    const asked = new URLSearchParams(text);
    const known = (name, values) => (values.includes(asked.get(name)) ? asked.get(name) : null);
    state.query = asked.get("q") ?? "";
    state.verdict = known("verdict", columns.verdicts);
    state.starred = known("starred", ["1"]) ?? "";
    state.label = known("label", columns.labels) ?? "";
    state.density = known("density", DECADES.map(([value]) => value)) ?? "";
    state.sort = known("sort", Object.keys(KEYS));
    state.up = state.sort !== null && Boolean(KEYS[state.sort].up) !== asked.has("reversed");
    if (!scroller) return arrange();
    for (const field of document.querySelectorAll("#features [data-state]")) field.value = state[field.dataset.state];
    press();
    refresh();
  }

  /* Write the question into the address, so that a copied link and a reload show the same. */
  function remember() {
    const path = location.hash.split("?")[0];
    if (!/^#features?(\/|$)/.test(path)) return;
    const asked = question();
    history.replaceState(null, "", asked ? `${path}?${asked}` : path);
  }

  function refresh() {
    arrange();
    drawn = "";
    scroller.scrollTop = 0;
    state.cursor = 0;
    count.textContent = `${format.count(state.order.length)} of ${format.count(latents)} features`;
    if (idle && state.verdict === null && !state.terms.length) count.textContent += `, ${format.count(idle)} faint or dead ones left out`;
    ordered.replaceChildren(...(state.sort === null ? [state.terms.length ? MATCHES : RECOMMENDED] : [h("button.link", { type: "button", onclick: () => { state.sort = null; refresh(); } }, "Back to the order at first")]));
    for (const cell of scroller.querySelectorAll("th")) {
      const sorted = cell.dataset.key === state.sort;
      cell.setAttribute("aria-sort", sorted ? (state.up ? "ascending" : "descending") : "none");
    }
    draw();
    remember();
  }

  const cell = (key, ...children) => h(`td.${key}`, { role: "cell" }, ...children);

  function row(place) {
    const i = state.order[place];
    const label = labelOf(i);
    const { terms } = state;
    const found = placeOfFit(terms, i);
    const isAt = place === state.cursor;
    return h("tr", { role: "row", "aria-rowindex": place + 2, class: isAt ? "at" : null, "data-latent": i },
      cell("latent", report.notes.of(i).star ? h("span", { title: "starred" }, "★ ") : null, featureLink(i)),
      cell("verdict", verdictElement(verdictOf(i)), isUnsure(i) ? h("span.muted", { title: "the interval of its probability holds ½" }, ", unsure") : null),
      cell("monosemanticity", intervalElement(columns.monosemanticity[i], columns.low[i], columns.high[i])),
      cell("learnt", format.fixed(columns.learnt[i])),
      cell("senses", isInseparable(i) ? h("span.muted", { title: "no separable senses were found" }, "none") : format.count(columns.senses[i])),
      cell(columns.explanation_f1[i] < report.data.page.min_f1 ? "explanation.weak" : "explanation", h("bdi", { title: columns.explanation[i] }, columns.explanation[i] ? marked(terms, "rule", columns.explanation[i]) : h("span.muted", null, "–"))),
      cell("explanation_f1", format.fixed(columns.explanation_f1[i])),
      cell("density", format.density(columns.density[i])),
      cell("max", format.significant(columns.max[i])),
      cell("top_token", columns.tokens[i].length ? h(found < 0 ? "span" : "mark", null, tokenElement(columns.tokens[i][Math.max(found, 0)])) : h("span.muted", null, "–")),
      cell("label", label ? h("span", { title: format.words(label) }, marked(terms, "label", format.words(label))) : h("span.muted", null, "–")),
      cell("label_f1", format.fixed(label ? columns.label_f1[i] : null)));
  }

  /* Rows in sight, and a dozen on either side; what lies beyond is two empty rows of its height. */
  function draw(all = 0) {
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 12);
    const last = all || Math.min(state.order.length, first + Math.ceil(scroller.clientHeight / rowHeight) + 24);
    const key = `${all ? 0 : first},${last},${state.cursor},${rowHeight}`;
    if (key === drawn) return;
    drawn = key;
    const wasInRow = body.contains(document.activeElement);
    const from = all ? 0 : first;
    const gap = (n) => h("tr.gap", { "aria-hidden": "true", "--height": `${n * rowHeight}px` });
    const rows = [];
    for (let place = from; place < last; place++) rows.push(row(place));
    if (!state.order.length) rows.push(h("tr.none", { role: "row" }, h("td", { role: "cell" }, "No feature fits. ", h("button", { type: "button", onclick: clear }, "Clear the filters"))));
    body.replaceChildren(gap(from), ...rows, gap(Math.max(0, state.order.length - last)));
    if (wasInRow) focusRow();
  }

  const focusRow = () => body.querySelector("tr.at a")?.focus({ preventScroll: true });

  function measure() {
    rowHeight = parseFloat(getComputedStyle(scroller).getPropertyValue("--row")) || 36;
    drawn = "";
    draw();
  }

  function sortBy(key) {
    state.up = state.sort === key ? !state.up : Boolean(KEYS[key].up);
    state.sort = key;
    refresh();
  }

  function header([key, { title, hint }]) {
    return h(`th.${key}`, { role: "columnheader", scope: "col", "data-key": key, "aria-sort": "none" },
      h("button", { type: "button", title: hint, "aria-label": hint ? `${title}: ${hint}` : null, onclick: () => sortBy(key) }, title));
  }

  function clear() {
    Object.assign(state, { query: "", verdict: null, starred: "", label: "", density: "" });
    for (const field of document.querySelectorAll("#features input, #features select")) field.value = "";
    press();
    refresh();
  }

  function press() {
    for (const chip of document.querySelectorAll(".chip")) chip.setAttribute("aria-pressed", String(chip.dataset.starred ? Boolean(state.starred) : chip.dataset.verdict === state.verdict));
  }

  function chips() {
    const counts = new Map(columns.verdicts.map((verdict) => [verdict, 0]));
    for (let i = 0; i < latents; i++) counts.set(verdictOf(i), counts.get(verdictOf(i)) + 1);
    const known = ["monosemantic", "polysemantic", "lexical", "dense", "too_rare", "faint", "dead"];
    const names = [...counts.keys()].sort((a, b) => (known.indexOf(a) + 99) % 99 - (known.indexOf(b) + 99) % 99);
    return names.map((verdict) => h("button.chip", {
      type: "button", "aria-pressed": "false", "data-verdict": verdict,
      onclick() { state.verdict = state.verdict === verdict ? null : verdict; press(); refresh(); },
    }, verdictElement(verdict), h("span.number", null, format.count(counts.get(verdict))))).concat(h("button.chip", {
      type: "button", "aria-pressed": "false", "data-starred": "1", onclick() { state.starred = state.starred ? "" : "1"; press(); refresh(); },
    }, "★ starred"));
  }

  function select(name, choices, first) {
    const made = h("select", { "aria-label": first, "data-state": name, onchange() { state[name] = this.value; refresh(); } },
      h("option", { value: "" }, first), choices.map(([value, text]) => h("option", { value }, text)));
    made.value = state[name];
    return made;
  }

  function controls() {
    const labels = columns.labels.map((label) => [label, format.words(label)]);
    return h("div.controls", null,
      h("div.chips", { role: "group", "aria-label": "Filter by verdict" }, chips()),
      h("div.filters", null,
        h("input", {
          id: "search", type: "search", value: state.query, "data-state": "query", placeholder: 'Search: return, tok:return, rule:…, label:…, #12, "two words"', title: HINT, "aria-label": "Search features", autocomplete: "off", spellcheck: "false",
          oninput() { state.query = this.value; refresh(); },
          onkeydown(event) { if (event.key === "Enter" && state.order.length) { this.blur(); location.hash = `#feature/${state.order[0]}`; } },
        }),
        labels.length ? select("label", labels, "Any label") : null,
        select("density", DECADES, "Any density"),
        count = h("output.count", { "aria-live": "polite" })),
      ordered = h("p.ordered", null));
  }

  function build(section) {
    body = h("tbody", { role: "rowgroup" });
    const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row", "aria-rowindex": 1 }, Object.entries(KEYS).map(header)));
    const table = h("table", { role: "table", "aria-rowcount": latents + 1, "aria-label": "Features" }, head, body);
    scroller = h("div.scroller", { onscroll: () => requestAnimationFrame(() => draw()), tabindex: "0", role: "region", "aria-label": "Features, scrollable" }, table);
    body.addEventListener("click", (event) => {
      const line = event.target.closest("tr[data-latent]");
      if (line && !event.target.closest("a") && String(getSelection()) === "") location.hash = `#feature/${line.dataset.latent}`;
    });
    section.append(controls(), scroller);
    press();
    window.addEventListener("resize", measure);
    window.addEventListener("beforeprint", () => draw(Math.min(state.order.length, 500)));
    window.addEventListener("afterprint", measure);
  }

  /* Move the cursor and the focus, and keep both in sight: Enter opens this row, whatever was clicked before. */
  function move(step) {
    if (!state.order.length) return;
    state.cursor = Math.min(Math.max(state.cursor + step, 0), state.order.length - 1);
    const top = state.cursor * rowHeight;
    const room = scroller.clientHeight - scroller.querySelector("thead").offsetHeight - rowHeight;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
    draw();
    focusRow();
  }

  report.views.features = {
    title: "Features",
    show(section) {
      if (!scroller) { build(section); section.hidden = false; measure(); refresh(); } else { measure(); move(0); }
    },
  };

  return {
    verdictOf, labelOf, isUnsure, isInseparable, columns, move, adopt, remember,
    current: () => state.order[state.cursor],
    /* The latent `step` places from this one in the order of the table; one that is filtered out counts as the start. */
    neighbour(latent, step) {
      if (!state.order.length) arrange();
      const place = state.order.indexOf(latent);
      return place < 0 ? state.order[0] : state.order[place + step];
    },
    visit(latent) {
      if (!state.order.length) arrange();
      const place = state.order.indexOf(latent);
      if (place >= 0) state.cursor = place;
      return { place, of: state.order.length };
    },
  };
})();
