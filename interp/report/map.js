/* The decoder's rows in the plane, coloured by a property, next to the list of the selection: a click shows a feature
 * next to the map, a lasso selects. */
"use strict";

report.views.map = (() => {
  const { columns, verdictOf, has, hasNone, order, onchange, set } = report.selection;
  const WAYS = {
    label: "kind of text",
    verdict: "verdict",
    monosemanticity: "monosemanticity",
    density: "density",
  };
  const KEYS =
    "Map of the decoder: arrow keys move it, + and − zoom, 0 shows the whole, " +
    "Enter shows the feature in the middle. " +
    "The list beside it has the same features.";
  /* Colours of the most common kinds of text, on a light and on a dark ground. */
  const HUES = [["#0072b2", "#4aa8e0"], ["#d55e00", "#f08a3c"], ["#009e73", "#35c495"], ["#cc79a7", "#e59bc6"],
    ["#b8860b", "#d9ae45"], ["#3f9fd8", "#9ad6fa"], ["#8c6bb1", "#b39ddb"], ["#b3332f", "#f2837d"],
    ["#5c8a1f", "#a5cf5b"], ["#00818a", "#4fc3cf"], ["#8a5a3c", "#cfa287"], ["#d4418e", "#ff86bd"],
    ["#4b5fc4", "#97a5ff"], ["#7d7d00", "#c9c94a"]];
  const LADDER = ["#352a87", "#1f6fb4", "#12a39a", "#9fbd4b", "#f9d423"];
  const REST = "other text, or of several kinds";
  const LEVELS = [0.1, 0.4]; // of the contours, as shares of the largest density
  const PLAIN = 215,
    MUTED = 110,
    FAINT = 34;
  const STILL = 150; // milliseconds without a move, after which the list shows what is in view
  /* How many times closer than the whole the names of each level are shown from, and the features' own rules; and how
   * many pixels free of other names let one of a finer level be shown before. */
  const NEIGHBOURHOOD = 5; // how much closer than the whole a feature is shown that the address names
  const CLOSE = [0, 1.4, 2.2],
    ROOM = 45,
    SHORT = /^(tokens like )?"[^"]{0,4}"$/, // a token that alone says too little of many features
    OWN_CLOSE = 4,
    MOST_OWN = 40,
    LONGEST = 34,
    LISTED = 100;
  let points,
    placeOf,
    way = "verdict",
    hueOfName = new Map(),
    scatter,
    names,
    own,
    contours,
    card,
    ring,
    legend,
    status,
    search,
    chosen,
    listed,
    colours,
    pause,
    drawSmall,
    lasso,
    part,
    links,
    overlay,
    only = null, // the group of the legend that stands alone
    at = -1,
    ringed = -1;

  const bytes = (hue) => [1, 3, 5].map((from) => parseInt(hue.slice(from, from + 2), 16));
  const blend = (share) => {
    const height = Math.min(Math.max(share, 0), 1) * (LADDER.length - 1),
      k = Math.min(Math.floor(height), LADDER.length - 2);
    return bytes(LADDER[k]).map((c, i) => c + (bytes(LADDER[k + 1])[i] - c) * (height - k));
  };

  /* Latent → its hue, and a legend. */
  function grouped(nameOf, hueOf, write) {
    const counts = new Map(),
      totals = new Map();
    for (const latent of points.latents) {
      const name = nameOf(latent);
      totals.set(name, (totals.get(name) ?? 0) + 1);
      counts.set(name, (counts.get(name) ?? 0) + Number(has(latent)));
    }
    const hues = new Map(points.latents.map(nameOf).map((name) => [name, bytes(hueOf(name))]));
    const shade = (name) => (name === REST ? `color-mix(in srgb, ${hueOf(name)} 45%, transparent)` : hueOf(name));
    const entry = ([name, n]) => h("li", { "--hue": shade(name) }, h("button.link", {
      type: "button",
      "aria-pressed": String(only === name),
      title: name === REST ? "a less common kind, or none has half of its firings" : "show these alone",
      onclick() {
        only = only === name ? null : name;
        repaint();
      },
    }, h("span.verdict", null, write(name)), h("span.muted", null, ` ${format.count(n)}`)));
    if (!totals.has(only)) only = null;
    const isLast = ([name]) => Number(name === REST);
    const commonestFirst = [...totals].sort((a, b) => isLast(a) - isLast(b) || b[1] - a[1]);
    const shown = commonestFirst.map(([name]) => entry([name, counts.get(name)]));
    return {
      isAlone: (latent) => only === null || nameOf(latent) === only,
      hueOf: (latent) => hues.get(nameOf(latent)),
      isRest: (latent) => nameOf(latent) === REST,
      said: (latent) => write(nameOf(latent)),
      legend: h("ul.legend", null, shown),
    };
  }

  function graded() {
    const isLog = way === "density",
      values = (latent) => (isLog ? Math.log10(columns.density[latent]) : columns.monosemanticity[latent]);
    const known = points.latents.map(values).filter((v) => v !== null && Number.isFinite(v));
    const [low, high] = isLog ? known.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [0, -Infinity]) : [0, 1];
    const none = bytes(report.paint.style("--dead"));
    const hueOf = (latent) => {
      const v = values(latent);
      return v === null || !Number.isFinite(v) ? none : blend((v - low) / (high - low || 1));
    };
    const write = (v) => (isLog ? format.significant(10 ** v, 2) : format.fixed(v, 1));
    const said = (latent) => {
      const v = values(latent);
      return v === null || !Number.isFinite(v) ? "no value" : `${WAYS[way]} ${write(v)}`;
    };
    const grey = points.latents.length - known.length,
      ladder = h("i.ladder", { "--ladder": LADDER.join(", ") });
    const rest = h("span.muted", null, grey ? `grey: ${format.count(grey)} without a value` : "");
    const shades = h("div.legend", null, h("span", null, WAYS[way]), write(low), ladder, write(high), rest);
    return { hueOf, said, legend: shades };
  }

  function coloured() {
    const { style } = report.paint;
    if (way === "verdict")
      return grouped(verdictOf, (name) => style(`--${name}`) || style("--unranked"), format.verdict);
    if (way !== "label") return graded();
    const labelOf = (latent) => points.labels[points.inside[placeOf.get(latent)]] ?? null;
    const nameOf = (latent) => (hueOfName.has(labelOf(latent)) ? labelOf(latent) : REST);
    return grouped(nameOf, (name) => hueOf(name) ?? style("--dead"), format.words);
  }

  /* The most common kinds of text, each with its hue. */
  function commonest() {
    const counts = points.labels.map((label, k) => [label, points.inside.filter((inside) => inside === k).length]);
    const first = counts.sort((a, b) => b[1] - a[1]).slice(0, HUES.length);
    return new Map(first.map(([label], k) => [label, HUES[k]]));
  }

  /* The hue of a kind of text on the current ground; undefined for a less common one. */
  const hueOf = (label) => hueOfName.get(label)?.[Number(theme.isDark())];

  /* The colours of all points, r, g, b, a; what is not selected is dimmed. */
  function painted({ hueOf: hueOfLatent, isRest, isAlone = () => true }, isSelected) {
    const drawn = new Uint8Array(4 * points.latents.length);
    const isShown = (latent) => isSelected(latent) && isAlone(latent);
    const depth = (latent) => (!isShown(latent) ? FAINT : isRest?.(latent) ? MUTED : PLAIN);
    points.latents.forEach((latent, k) => drawn.set([...hueOfLatent(latent), depth(latent)], 4 * k));
    return drawn;
  }

  /* Colour the points. */
  function repaint() {
    drawSmall?.();
    if (!scatter) return;
    const { query } = report.selection.state;
    if (search.value !== query) search.value = query;
    colours = coloured();
    drawPart();
    scatter.paint(painted(colours, has), bytes(report.paint.style("--paper")));
    legend.replaceChildren(colours.legend);
    status.replaceChildren(h("a", { href: "#features" }, `${hasNone() ? "All" : "These"} in the table`));
    points.names.forEach(([, , name], k) => {
      const label = way === "label" && kindNamed(name);
      names[k].style.color = label && hueOf(label) ? inked(hueOf(label)) : "";
    });
    list();
  }

  const kindNamed = (name) => points.labels.find((label) => format.words(label) === name);

  /* A small picture of the whole, with the names of kinds of text, that leads to the map; null where there is none. */
  async function small(width, height) {
    await read();
    if (points.missing) return null;
    const { x, y } = points;
    const canvas = h("canvas", { width: 2 * width, height: 2 * height });
    const positions = Float32Array.from({ length: 2 * x.length }, (_, k) => (k % 2 ? y : x)[k >> 1]);
    const [left, right] = [Math.min(...x), Math.max(...x)];
    const [bottom, top] = [Math.min(...y), Math.max(...y)];
    const scale = 1.9 * Math.min(width / (right - left || 1), height / (top - bottom || 1));
    const view = { x: (left + right) / 2, y: (bottom + top) / 2, scale, diameter: 90 / x.length ** 0.35 };
    drawSmall = () => {
      const plain = report.points(canvas, positions);
      plain.paint(painted(coloured(), () => true), bytes(report.paint.style("--paper")));
      plain.draw(view, 0, x.length);
      const context = canvas.getContext("2d");
      Object.assign(context, { font: `700 27px ${report.paint.style("--serif")}`, textAlign: "center", lineWidth: 7,
        lineJoin: "round", textBaseline: "middle", strokeStyle: report.paint.style("--paper") });
      const taken = [];
      for (const [across, up, name, level] of points.names) {
        const hue = hueOf(kindNamed(name));
        const [px, py] = [width + (across - view.x) * scale, height - (up - view.y) * scale];
        const half = context.measureText(name).width / 2;
        const covers = ([ox, oy, other]) => Math.abs(ox - px) < half + other + 12 && Math.abs(oy - py) < 34;
        const isInside = px > half && px < 2 * width - half;
        if (!hue || level || !isInside || taken.some(covers)) continue;
        taken.push([px, py, half]);
        context.fillStyle = inked(hue);
        context.strokeText(name, px, py);
        context.fillText(name, px, py);
      }
    };
    drawSmall();
    return h("a.smallmap", { href: "#map", "aria-label": "Map of the decoder" }, canvas);
  }

  /* A hue closer to that of text, so that it is readable on the page. */
  function inked(hue) {
    const ink = bytes(report.paint.style("--ink"));
    return `rgb(${bytes(hue).map((c, i) => Math.round(0.6 * c + 0.4 * ink[i]))})`;
  }

  /* The first features that are selected and in view, each with its colour on the map and its rule; pointing at one
   * rings its point. */
  function list() {
    const isWhole = scatter.isWhole(),
      { isAlone = () => true } = colours,
      isInSight = (latent) => (isWhole ? placeOf.has(latent) : isInView(placeOf.get(latent)));
    const shown = order().filter((latent) => isInSight(latent) && isAlone(latent)),
      count = format.count(shown.length);
    const isAll = hasNone() && only === null;
    const said = isWhole
      ? isAll ? `All ${count} features` : `${count} selected`
      : isAll ? `${count} in view` : `${count} selected in view`;
    listed.replaceChildren(
      h("summary", null, h("h3", null, said),
        h("span.muted", null, " in the table's order")),
      h("ol.listed", null, shown.slice(0, LISTED).map(line)),
      shown.length > LISTED ? h("p.muted", null, `and ${format.count(shown.length - LISTED)} more in the table`) : "",
    );
  }

  function line(latent) {
    const k = placeOf.get(latent),
      point = () => hovered(k, true),
      open = { type: "button", onclick: () => pick(k) };
    return h(
      "li",
      { onpointerenter: point, onpointerleave: () => hovered(-1), onfocusin: point },
      h("button.link", open, h("span.number", null, String(latent))),
      h("i.dot", { "--hue": `rgb(${colours.hueOf(latent)})`, title: colours.said(latent) }),
      h("div.rule", null, ruleOf(latent)),
    );
  }

  const ruleOf = (latent) => report.lead.brief(latent, () => null);

  /* Its verdict, and how sure it is. */
  function judged(latent) {
    const one = columns.monosemanticity[latent];
    return [
      verdictElement(verdictOf(latent)),
      unsureElement(latent),
      one === null ? null : h("span.muted", null, ` ${format.fixed(one)}`),
    ];
  }

  /* A card of one feature next to the map. */
  async function pick(k) {
    const latent = points.latents[k],
      [feature] = await Promise.all([loadFeature(latent), loadWords()]);
    const strongest = feature.examples.filter(([kind]) => kind < 0).slice(0, 4),
      link = featureLink(latent, `Feature ${latent}`);
    chosen.replaceChildren(
      h(
        "article.card",
        null,
        h("h3", null, link, " ", judged(latent)),
        h("p.rule", null, ruleOf(latent)),
        report.examples.list(latent, feature, strongest, { how: "snippet" }),
      ),
    );
    at = k;
    hovered(k, true);
    link.focus({ preventScroll: true });
  }

  function placeRing() {
    ring.hidden = ringed < 0;
    const [px, py] = ringed < 0 ? [0, 0] : scatter.toPixels(points.x[ringed], points.y[ringed]);
    ring.style.transform = `translate(${px}px, ${py}px)`;
    return [px, py];
  }

  /* Ring a point, or else the one on the card, and name it unless the card does. */
  function hovered(k, isListed = false) {
    ringed = k < 0 ? at : k;
    card.hidden = k < 0 || isListed;
    const [px, py] = placeRing();
    if (card.hidden) return;
    const latent = points.latents[k];
    card.replaceChildren(
      h("b", null, `Feature ${latent}`),
      " ",
      ...judged(latent).filter(Boolean),
      h("div.rule", null, ruleOf(latent)),
    );
    const [width] = scatter.size();
    const left = Math.min(Math.max(px - card.offsetWidth / 2, 4), Math.max(width - card.offsetWidth - 4, 4));
    const top = py > card.offsetHeight + 16 ? py - card.offsetHeight - 12 : py + 14;
    card.style.transform = `translate(${left}px, ${top}px)`;
  }

  /* Put the names of clusters at their places and, when zoomed in, the features' own rules. A name that would cover
   * that of a larger cluster is left out. */
  function placeNames() {
    placeRing();
    clearTimeout(pause);
    pause = setTimeout(list, STILL);
    const taken = [],
      [width, height] = scatter.size(),
      closeness = scatter.closeness(),
      { view } = scatter;
    const [left, top] = [width / 2 - view.x * view.scale, height / 2 + view.y * view.scale];
    contours.style.display = closeness < OWN_CLOSE ? "" : "none";
    overlay.setAttribute("transform", `translate(${left} ${top}) scale(${view.scale} ${-view.scale})`);
    const place = (element, px, py, room = 0) => {
      const [w, tall] = [element.offsetWidth / 2 + 4, 10];
      const isInside = px > w && px < width - w && py > tall && py < height - tall;
      const covers = ([ox, oy, ow]) => Math.abs(ox - px) < ow + w + room && Math.abs(oy - py) < 2 * tall + room;
      const isFree = isInside && !taken.some(covers);
      if (isFree) taken.push([px, py, w]);
      element.style.transform = `translate(${px}px, ${py}px) translate(-50%, -50%)`;
      element.style.visibility = isFree ? "visible" : "hidden";
    };
    points.names.forEach(([x, y, name, level], k) => {
      const isEarly = closeness < CLOSE[level];
      if (isEarly && SHORT.test(name)) names[k].style.visibility = "hidden";
      else place(names[k], ...scatter.toPixels(x, y), isEarly ? ROOM : 0);
    });
    const isNamed = (latent) => columns.explanation[latent] && !/[0-9a-f]{2}⟩/.test(columns.explanation[latent]);
    const near = closeness < OWN_CLOSE ? [] : order().filter((each) => isInView(placeOf.get(each)) && isNamed(each));
    const shown = near.slice(0, MOST_OWN).map((latent) => [latent, h("span.own", null, shortRule(latent))]);
    own.replaceChildren(...shown.map(([, element]) => element));
    for (const [latent, element] of shown) {
      const [px, py] = scatter.toPixels(points.x[placeOf.get(latent)], points.y[placeOf.get(latent)]);
      place(element, px, py + 14);
    }
  }

  const shortRule = (latent) => {
    const rule = columns.explanation[latent];
    return rule.length > LONGEST ? [ruleText(rule.slice(0, LONGEST)), "…"] : ruleText(rule);
  };

  function isInView(k) {
    if (k === undefined) return false;
    const [px, py] = scatter.toPixels(points.x[k], points.y[k]),
      [width, height] = scatter.size();
    return px > 0 && px < width && py > 0 && py < height;
  }

  function setLasso(isOn) {
    lasso.setAttribute("aria-pressed", String(isOn));
    scatter.lasso(isOn);
  }

  /* Let go of the lasso, of what it has ringed or of the group that stands alone; false where there is none. */
  function clear() {
    const isOn = lasso?.getAttribute("aria-pressed") === "true";
    if (!isOn && !report.selection.state.part && only === null) return false;
    setLasso(false);
    only = null;
    set({ part: "" });
    return true;
  }

  /* The ring of the lasso stays around what it has selected, as the path of its corners. */
  function drawPart() {
    const corners = report.selection.state.part.split(",");
    part.setAttribute("d", corners.length < 6 ? "" : `M${corners.join(" ")}Z`);
  }

  /* Lines from a feature to those nearest to it in the decoder, closer up where they lie near it on the map. */
  function showNeighbours(k, neighbours) {
    const [x, y] = [points.x[k], points.y[k]];
    const places = neighbours.map(([other]) => placeOf.get(other)).filter((place) => place !== undefined);
    links.setAttribute("d", places.map((place) => `M${x} ${y}L${points.x[place]} ${points.y[place]}`).join(""));
    scatter.show(x, y, NEIGHBOURHOOD);
  }

  function controls() {
    const choose = ({ target }) => {
      way = target.value;
      repaint();
    };
    const ways = Object.entries(WAYS).filter(([name]) => name !== "label" || points.labels.length);
    const chooser = h(
      "select",
      { onchange: choose },
      ways.map(([value, text]) => h("option", { value, selected: value === way }, text)),
    );
    lasso = h(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        title: "ring points by dragging; or hold Shift",
        onclick() { setLasso(lasso.getAttribute("aria-pressed") !== "true"); },
      },
      "Lasso",
    );
    search = h("input", {
      type: "search",
      placeholder: "Search",
      "aria-label": "Highlight features on the map",
      title: "Highlights the features that match, as the search of the table does",
      autocomplete: "off",
      spellcheck: "false",
      oninput() {
        set({ query: this.value });
      },
    });
    return [
      search,
      h("label", null, "Colour by ", chooser),
      lasso,
    ];
  }

  /* Buttons over the map that zoom it and show the whole. */
  function zooms() {
    const button = (text, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, text);
    return h("div.zooms", null,
      button("+", "zoom in", () => scatter.zoom(1.6)),
      button("−", "zoom out", () => scatter.zoom(1 / 1.6)),
      button("Fit", "Fit the whole map (0)", () => scatter.fit()));
  }

  /* The points, once. */
  async function read() {
    points ??= await loadData("map");
    if (points.missing || placeOf) return;
    placeOf = new Map(points.latents.map((latent, k) => [latent, k]));
    hueOfName = commonest();
    if (points.labels.length) way = "label";
  }

  function build(section) {
    names = points.names.map(([, , name]) => h("span.name", null, ruleText(name)));
    own = h("div");
    card = h("div.hovercard", { role: "status", hidden: true });
    ring = h("i.ring", { hidden: true });
    legend = h("div");
    status = h("output");
    chosen = h("div.chosen-one", { "aria-live": "polite" });
    listed = h("details.list", { open: !matchMedia("(max-width: 860px)").matches });
    const lines = report.contours(points.x, points.y, LEVELS);
    contours = svg("g", { class: "contours" }, lines.map((d) => svg("path", { d })));
    part = svg("path", { class: "lasso" });
    links = svg("path", { class: "links" });
    overlay = svg("g", null, contours, links, part);
    const host = h(
      "div.plot.map",
      { role: "application", tabindex: 0, "aria-label": KEYS },
      svg("svg", { "aria-hidden": "true" }, overlay),
      h("div.names", null, names, own),
      ring,
      card,
      zooms(),
    );
    const explained =
      points.way === "UMAP"
        ? "Decoder directions by UMAP on cosine distance: close means similar; large distances mean little."
        : "Decoder directions on their first two principal components.";
    const how =
      `${explained} Lines enclose where features lie at least ${LEVELS.map(format.percent).join(" and ")} as dense ` +
      "as where they lie densest. Zoom in for finer names; click a point for its feature; ring some with the lasso " +
      "to select them, here and in the table.";
    const aside = h("aside", { "aria-label": "What is selected", tabindex: 0, role: "region" },
      report.applied(true), chosen, listed);
    section.replaceChildren(
      h("div.maphead", null, h("h2", null, "Map of the decoder"), controls(), tipped("How to read it", how), status),
      legend,
      h("div.mapped", null, host, aside),
    );
    scatter = report.scatter(host, {
      x: Float32Array.from(points.x),
      y: Float32Array.from(points.y),
      onhover: hovered,
      onmove: placeNames,
      onpick: pick,
      onlasso: (corners) => {
        setLasso(false);
        set({ part: corners.join(",") });
      },
    });
    onchange(() => {
      if (!section.hidden) repaint();
    });
  }

  /* argument: the number of a feature to ring and to show next to the map. */
  async function show(section, argument) {
    if (!scatter) {
      if (section.childElementCount) return;
      section.append(h("p.waiting", null, "Reading the map …"));
      await read();
      if (points.missing) return section.replaceChildren(h("h2", null, "Map"), h("p.missing", null, points.missing));
      build(section);
    }
    repaint();
    const k = placeOf.get(Number(argument ?? -1));
    links.setAttribute("d", "");
    if (k !== undefined) {
      await pick(k);
      showNeighbours(k, (await loadFeature(points.latents[k])).neighbours);
    }
    section.dataset.ready = "true";
  }

  return { title: "Map", show, repaint, small, clear };
})();
