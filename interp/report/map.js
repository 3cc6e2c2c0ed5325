/* The decoder's rows in the plane, coloured by a property, next to the list of the selection: a click shows a feature
 * next to the map, a lasso selects. */
"use strict";

report.views.map = (() => {
  const { columns, state, verdictOf, kindOf, commonKinds, commonKindOf, OTHER_KINDS, has, hasNone, order, counts,
    onchange, set, toggle, remember } = report.selection;
  const WAYS = {
    label: "kind of text",
    verdict: "verdict",
    monosemanticity: "one meaning",
    density: "density",
  };
  const KEYS =
    "Map of the decoder: arrow keys move it, + and − zoom, 0 shows the whole, " +
    "Enter shows the feature in the middle. " +
    "The list beside it has the same features.";
  /* Colours of the most common kinds of text, on a light and on a dark ground, where each has the same hue and is
   * lighter by 0.09 in OKLab. That of the commonest, which covers most of the map, is the palest; of the others any two
   * are at least 0.124 apart, found by a search over colours of lightness 0.5 to 0.75, which stand out from the ground,
   * from black and from grey. */
  const HUES = [["#7f9cba", "#7f9cba"], ["#e0902c", "#ffac4e"], ["#2e7924", "#4a9540"], ["#9b3b6f", "#b95689"],
    ["#4456c2", "#5b72e1"], ["#e08392", "#ff9fae"], ["#cb4644", "#eb645e"], ["#848f1d", "#9fab40"],
    ["#17c082", "#49de9e"], ["#d36ed6", "#f28bf4"], ["#885a33", "#a4754d"], ["#8e6dbd", "#a988db"],
    ["#04bbd5", "#44d8f3"], ["#388fdf", "#57acfd"]];
  const LADDER = ["#352a87", "#1f6fb4", "#12a39a", "#9fbd4b", "#f9d423"];
  const LEVELS = [0.2, 0.55]; // of a tinted region, as shares of its largest density
  const PLAIN = 170,
    MUTED = [95, 150], // on a light and on a dark ground
    FAINT = [30, 48];
  const STILL = 150; // milliseconds between two lists of what is in view, and without a letter typed
  /* How many times closer than the whole the names of each level are shown from, and those of the features; and how
   * many pixels free of other names let one of a finer level be shown before. */
  const CLOSEST = 5; // how many times closer than the whole a few features are shown at most
  const CLOSER = 1.2; // how many times, at least, for a view to be worth leaving the whole
  const SHAPE = 4 / 3, // width by height of most of the stored map (latent_map.py)
    STRETCHED = [0.8, 2]; // how much its height is stretched to the shape of its frame, at least and at most
  const NARROW = matchMedia("(max-width: 860px)");
  const CLOSE = [0, 1.4, 2.2],
    ROOM = 45,
    SHORT = /^"[^"]{0,4}"$/, // a token that alone says too little of many features
    OWN_CLOSE = 2,
    MOST_OWN = 250, // features in view for which a name is tried
    NEW_NAMES = 25, // of those, written at once
    BEGINNING = 70, // letters of a rule in the list, after which what is found would not be seen
    FEW = 40, // of a selection in view, which are named first
    ACROSS = 30, // points that a name may cover rather than a line to a neighbour
    ABROAD = 4, // and rather than that a ninth of it lies on the tint of another kind of text
    LITTLE = /(?:\b(?:tokens|mostly|in|parts|of|after|before) )*\S*$/, // words before what is found that belong to it
    GAP = 6, // pixels between two names in one line
    BESIDE = 4, // pixels between the edge of a point and its name
    HIT = 8, // pixels, the radius of a point that is drawn larger
    DOTS = 14, // pixels, the width of the dots at which a name in one line is cut
    LETTERS = [40, 22], // of the names of features, by which two are told apart, and of those in one line
    AWAY = 16, // pixels by which a name may stand away from its place to cover one point less
    MOST_COVERED = 2, // points under the name of a token
    RING = 12, // pixels between a ringed point and what lies over the map
    INSET = NARROW.matches ? 60 : 90, // pixels, the width of the whole map in a corner
    LISTED = 40,
    CANDIDATES = 100, // points of which one has the name of its kind
    NEARBY = 0.04, // of the width of the map, around such a point
    MOST_HITS = 600, // selected points that are drawn larger
    /* Pixels by which the name of a kind of text may give way to another and to points, with what each costs. */
    AROUND = [0, 24, -24, 48, -48].flatMap((across) =>
      [0, 11, -11, 22, -22, 33, -33].map((down) => [across, down, Math.hypot(across, down) / AWAY]));
  let host, overlay, regions, links, knobs, hits, part, names, own, marks, ring, card, inset, buttons; // of the map
  let legend, status, search, lasso, chosen, listed; // around it
  let points, placeOf, scatter, colours, drawSmall, evidence, pause, typing,
    stretch = 1, // of the heights of the points drawn, as many times those stored
    way = "verdict",
    stars = [],
    listRows = new Map(), // latent → its row in the list
    homes = new Map(), // name of a kind of text → its outlines: the corners, x, y, x, y, …, and the name of each
    edges, // the corners of all outlines
    ownNames = new Map(), // latent → the element of its name
    sizes = new WeakMap(), // of names, in pixels
    keys = new WeakMap(), // what the reader sees of names
    beside = [], // the latent that is on the card, and those nearest to it
    enlarged = [], // the latents whose points are drawn larger
    pointedIn = "", // the view in which the point under the pointer was named
    at = -1, // the place of the point that is on the card, and of that which is to be
    wanted = -1,
    ringed = -1;

  const bytes = (hue) => [1, 3, 5].map((from) => parseInt(hue.slice(from, from + 2), 16));
  const blend = (share) => {
    const height = Math.min(Math.max(share, 0), 1) * (LADDER.length - 1),
      k = Math.min(Math.floor(height), LADDER.length - 2);
    return bytes(LADDER[k]).map((c, i) => c + (bytes(LADDER[k + 1])[i] - c) * (height - k));
  };

  /* Latent → its hue, and a legend of the groups, each with how many of the selection it has; pressing one selects it.
   * pressed: the names of the groups that are selected; press: called with the name of one that is pressed. One that is
   * pointed at is shown alone. */
  function grouped(nameOf, numberOf, hueOfGroup, write, pressed, press) {
    const point = (name) => shade(name === null ? has : (latent) => nameOf(latent) === name, name);
    const totals = new Map();
    for (const latent of points.latents) totals.set(nameOf(latent), (totals.get(nameOf(latent)) ?? 0) + 1);
    const hues = new Map([...totals.keys()].map((name) => [name, bytes(hueOfGroup(name))]));
    const pale = `${theme.isDark() ? 75 : 45}%, transparent`;
    const isOther = (name) => name === OTHER_KINDS;
    const hueOfEntry = (name) => (isOther(name) ? `color-mix(in srgb, ${hueOfGroup(name)} ${pale})` : hueOfGroup(name));
    const said = (name) =>
      [h("span.verdict", null, write(name)), h("span.muted", null, ` ${format.count(numberOf(name))}`)];
    const entry = ([name]) => h(numberOf(name) ? "li" : "li.none", { "--hue": hueOfEntry(name) },
      h("button.link", { type: "button", "aria-pressed": String(pressed.includes(name)),
        title: isOther(name) ? "a less common kind, or none has half of its firings" : "select these",
        onclick: () => press(name), onpointerenter: () => point(name), onpointerleave: () => point(null),
        onfocus: () => point(name), onblur: () => point(null) }, said(name)));
    const isLast = ([name]) => Number(isOther(name));
    const commonestFirst = [...totals].sort((a, b) => isLast(a) - isLast(b) || b[1] - a[1]);
    return {
      hueOf: (latent) => hues.get(nameOf(latent)),
      isRest: (latent) => isOther(nameOf(latent)),
      said: (latent) => write(nameOf(latent)),
      legend: h("ul.legend", null, commonestFirst.map(entry)),
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
    const write = (v) => (isLog ? format.share(10 ** v) : format.fixed(v, 1));
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
    if (way === "verdict") {
      const numberOf = (name) => counts("verdict")[columns.verdicts.indexOf(name)];
      return grouped(verdictOf, numberOf, (name) => style(`--${name}`) || style("--unranked"), format.verdict,
        state.verdict, toggle);
    }
    if (way !== "label") return graded();
    const numberOf = (name) => counts("kind").reduce((sum, n, k) => {
      const kind = columns.kinds[k];
      return (kind === name || (name === OTHER_KINDS && !commonKinds.includes(kind)) ? sum + n : sum);
    }, 0);
    return grouped(commonKindOf, numberOf, (name) => hueOf(name) ?? style("--dead"), format.words, [state.kind],
      (name) => set({ kind: state.kind === name ? "" : name }));
  }

  /* The hue of a kind of text on the current ground; undefined for a less common one. */
  const hueOf = (label) => HUES[commonKinds.indexOf(label)]?.[Number(theme.isDark())];

  /* The colours of all points, r, g, b, a; what is not selected is dimmed. */
  function painted({ hueOf: hueOfLatent, isRest }, isSelected) {
    const drawn = new Uint8Array(4 * points.latents.length);
    const faint = FAINT[Number(theme.isDark())];
    const muted = hasNone() ? MUTED[Number(theme.isDark())] : PLAIN; // of a selection they are told from all others
    const depth = (latent) => (!isSelected(latent) ? faint : isRest?.(latent) ? muted : PLAIN);
    points.latents.forEach((latent, k) => drawn.set([...hueOfLatent(latent), depth(latent)], 4 * k));
    return drawn;
  }

  /* Colour the points. */
  function repaint() {
    drawSmall?.();
    if (!scatter) return;
    if (search.value !== state.query) search.value = state.query;
    colours = coloured();
    drawPart();
    drawRegions();
    drawHits();
    shade();
    inset.paint();
    legend.replaceChildren(colours.legend);
    const some = selected();
    status.replaceChildren(...(hasNone() ? [h("a", { href: "#features" }, "All in the table")] : [
      h("b", null, `${some.length ? format.count(some.length) : "None"} ${chosenBy()}`),
      partOf(some).closeness > CLOSER
        ? h("button", { type: "button", onclick: () => zoomTo(some) }, "Zoom to them") : "",
      some.length ? h("a", { href: "#features" }, "List in the table")
        : h("button", { type: "button", onclick: report.selection.clear }, "Clear the filters")]));
    points.names.forEach(([, , name], k) => {
      const kind = kindNamed(name);
      if (!kind) return;
      names[k].style.color = way !== "label" ? "" : hueOf(kind) ? inked(hueOf(kind)) : "var(--muted)";
      names[k].classList.toggle("untinted", !hueOf(kind) || (homes.size > 0 && !homes.has(kind)));
    });
    list();
  }

  /* Draw the points that stand out, and dim all others and what is not of their kind of text. kind: the only one that
   * is shown; null for the selected one, or all where nothing is selected. */
  function shade(standsOut = has, kind = null) {
    scatter.paint(painted(colours, standsOut), bytes(report.paint.style("--paper")));
    const isDimmed = (other) => (kind !== null || !hasNone()) && other !== (kind ?? state.kind);
    for (const tint of regions.children) tint.classList.toggle("aside", isDimmed(tint.dataset.name));
    const named = [...points.names.map(([, , name], k) => [name, names[k]]),
      ...outlines().map(({ name }) => [name.textContent, name])];
    for (const [name, element] of named) element.classList.toggle("aside", isDimmed(kindNamed(name)));
  }

  const kindNamed = (name) => columns.kinds.find((kind) => format.words(kind) === name);

  /* The least and the largest of some values. Math.min(...values) fails for 131,072 of them. */
  const endsOf = (values) =>
    values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

  /* The features on the map that are selected; none while all are. */
  const selected = () => (hasNone() ? [] : order().filter((latent) => placeOf.has(latent)));

  const chosenBy = () => (state.query ? "found" : "selected");

  /* The middle of the part of the map in which some features lie, and how many times closer than the whole it fills the
   * frame, at most as close as the neighbourhood of one. */
  function partOf(latents) {
    const ends = ["x", "y"].map((axis) => endsOf(latents.map((latent) => points[axis][placeOf.get(latent)])));
    const [x, y] = ends.map(([low, high]) => (low + high) / 2);
    const { scale } = scatter.fitted();
    const shares = scatter.size().map((side, axis) => side / ((ends[axis][1] - ends[axis][0]) * scale));
    return { x, y, closeness: Math.min(0.85 * Math.min(...shares), CLOSEST) };
  }

  function zoomTo(latents) {
    const { x, y, closeness } = partOf(latents);
    if (closeness > CLOSER) scatter.show(x, y, closeness);
    else scatter.fit();
  }

  /* In a closer view, move it to where all that a search has found is in sight, once the typing pauses. */
  function follow() {
    clearTimeout(typing);
    typing = setTimeout(() => {
      const some = scatter.isWhole() ? [] : selected();
      if (some.some((latent) => !isInView(placeOf.get(latent)))) zoomTo(some);
    }, STILL);
  }

  /* Draw the points of a small selection larger, and star the starred. */
  function drawHits() {
    ownNames.clear(); // a label of the reader's may have changed
    listRows.clear();
    own.replaceChildren();
    const some = selected();
    enlarged = [...(some.length > MOST_HITS ? [] : some), ...beside.slice(1)].reverse();
    hits.classList.toggle("many", enlarged.length > FEW);
    own.classList.toggle("brief", some.length > 0 || beside.length > 0);
    hits.replaceChildren(...[...enlarged, ...beside.slice(0, 1)].flatMap(rimmed)); // the one on the card over all
    stars = points.latents.filter((latent) => report.notes.of(latent).star && has(latent)).map((latent) =>
      [placeOf.get(latent), h("span.star", { title: `Feature ${latent}, starred` }, "★")]);
    marks.replaceChildren(...outlines().map(({ name }) => name), ...stars.map(([, element]) => element));
  }

  /* The point of a feature with a rim, as paths. */
  function rimmed(latent) {
    const d = `M${points.x[placeOf.get(latent)]} ${points.y[placeOf.get(latent)]}h0`;
    return [svg("path", { class: "rim", d }), svg("path", { d, stroke: `rgb(${colours.hueOf(latent)})` })];
  }

  /* Tint where each kind of text is at home: where its points lie dense among all; in other colours, which lie mixed,
   * where all are dense. */
  function drawRegions() {
    if (regions.dataset.way === `${way} ${theme.isDark()}`) return;
    regions.dataset.way = `${way} ${theme.isDark()}`;
    regions.classList.toggle("of-all", way !== "label");
    homes = new Map();
    regions.replaceChildren(...contours().flatMap(([kind, levels]) => {
      const fill = hueOf(kind) ?? "var(--muted)";
      const [tints, cores] = levels.map((paths) =>
        paths.map((d) => svg("path", { d, fill, stroke: fill, "data-name": kind ?? "" })));
      if (kind !== null && tints.length) homes.set(kind, tints.map((tint) => outlineOf(kind, tint)));
      for (const core of cores) core.classList.add("core");
      return [...tints, ...cores];
    }));
    const corners = Array.from(regions.children, (tint) => cornersOf(tint.getAttribute("d"))).flat();
    const squaresOf = (all) => report.squares(...[0, 1].map((axis) => all.filter((_, k) => k % 2 === axis)));
    edges = squaresOf(outlines().flatMap((outline) => outline.corners));
    scatter.hold(squaresOf(corners).box);
  }

  /* Where each common kind of text is at home, or in other colours where all points are dense: [kind, null for all;
   * for each of LEVELS its paths]. */
  function contours() {
    const groups = new Map();
    points.latents.forEach((latent, k) => {
      const name = way === "label" ? commonKindOf(latent) : null;
      if (name === OTHER_KINDS) return;
      if (!groups.has(name)) groups.set(name, { x: [], y: [] });
      groups.get(name).x.push(points.x[k]);
      groups.get(name).y.push(points.y[k]);
    });
    const drawn = report.contours([...groups.values()], LEVELS, points);
    return [...groups.keys()].map((kind, k) => [kind, drawn[k]]);
  }

  /* The corners of a path, x, y, x, y, …. */
  const cornersOf = (d) => d.match(/-?[\d.]+/g).map(Number);

  /* An outline of a kind of text: its path, its corners as x, y, x, y, …, the area of its box, and the element of its
   * name. */
  function outlineOf(kind, path) {
    const name = h("span.name.region", null, format.words(kind));
    name.style.color = inked(hueOf(kind));
    const corners = cornersOf(path.getAttribute("d"));
    const box = [0, 1].map((axis) => endsOf(corners.filter((_, k) => k % 2 === axis)));
    const size = box.reduce((area, [least, most]) => area * (most - least), 1);
    return { kind, path, corners, box, size, name };
  }

  const outlines = () => [...homes.values()].flat();

  /* Whether a name at a place of the frame, in pixels, may be that of this kind of text: one that has outlines is named
   * within them, and any other outside all of them. */
  function isAtHome(kind, px, py) {
    if (!kind) return true;
    const [x, y] = scatter.toData(px, py);
    const isIn = (some) => some.some(({ corners, box: [[west, east], [south, north]] }) =>
      x > west && x < east && y > south && y < north && report.inside(corners, [x], [y]).length > 0);
    return homes.has(kind) ? isIn(homes.get(kind)) : !isIn(outlines());
  }

  /* What it costs that a name of a kind of text takes a box of the frame, in pixels: as far as it lies on other tints
   * alone. */
  function costOf(kind, [left, top, right, bottom]) {
    const [[x, low], [to, high]] = [scatter.toData(left, bottom), scatter.toData(right, top)];
    const xs = [0, 1, 2, 0, 1, 2, 0, 1, 2].map((k) => x + ((to - x) * k) / 2);
    const ys = [0, 0, 0, 1, 1, 1, 2, 2, 2].map((k) => low + ((high - low) * k) / 2);
    const under = (some) => new Set(some.filter(({ box: [[west, east], [south, north]] }) =>
      west < to && east > x && south < high && north > low)
      .flatMap(({ corners }) => Array.from(report.inside(corners, xs, ys))));
    const atHome = under(homes.get(kind) ?? []);
    const others = [...homes].flatMap(([other, some]) => (other === kind ? [] : some));
    return ABROAD * [...under(others)].filter((k) => !atHome.has(k)).length;
  }

  /* Places for the name of an outline, or of a part of it: its middle, and the place where its kind is densest, if they
   * lie within it. */
  function placesOf(kind, corners) {
    const homesOfKind = points.names.filter(([, , name]) => kindNamed(name) === kind);
    const isIn = ([x, y] = []) => report.inside(corners, [x], [y]).length > 0;
    return [report.centre(corners), ...homesOfKind].filter(isIn);
  }

  /* The coordinates of the points as x, y, x, y, …. */
  const pairs = ({ x, y } = points) => Float32Array.from({ length: 2 * x.length }, (_, k) => (k % 2 ? y : x)[k >> 1]);

  /* A small picture of the whole, with the tints and names of kinds of text, that leads to the map; null where there is
   * none. */
  async function small(width, height) {
    await read();
    if (points.missing) return null;
    const { x, y } = points;
    const canvas = h("canvas", { width: 2 * width, height: 2 * height });
    const positions = pairs();
    const [[left, right], [bottom, top]] = [x, y].map(endsOf);
    const scale = 1.9 * Math.min(width / (right - left || 1), height / (top - bottom || 1));
    const view = { x: (left + right) / 2, y: (bottom + top) / 2, scale, diameter: 90 / x.length ** 0.35 };
    const tints = way === "label" ? contours().flatMap(([kind, [paths]]) => paths.map((d) =>
      ({ place: placesOf(kind, cornersOf(d))[0], name: format.words(kind), outline: new Path2D(d) }))) : [];
    const others = points.names.filter(([, , name]) => !tints.some((tint) => tint.name === name))
      .map(([across, up, name]) => ({ place: [across, up], name }));
    drawSmall = () => {
      const plain = report.points(canvas, positions);
      plain.paint(painted(coloured(), () => true), bytes(report.paint.style("--paper")));
      plain.draw(view, 0, x.length);
      const context = canvas.getContext("2d");
      context.setTransform(scale, 0, 0, -scale, width - view.x * scale, height + view.y * scale);
      for (const { name, outline } of tints) {
        const hue = hueOf(kindNamed(name));
        Object.assign(context, { fillStyle: `${hue}26`, strokeStyle: `${hue}99`, lineWidth: 2 / scale });
        context.fill(outline);
        context.stroke(outline);
      }
      context.resetTransform();
      Object.assign(context, { font: `700 23px ${report.paint.style("--serif")}`, textAlign: "center", lineWidth: 7,
        lineJoin: "round", textBaseline: "middle", strokeStyle: report.paint.style("--paper") });
      const taken = [];
      for (const { place: [across, up] = [], name } of [...tints, ...others]) {
        const hue = hueOf(kindNamed(name));
        const half = context.measureText(name).width / 2;
        const inFrame = (px) => Math.min(Math.max(px, half + 16), 2 * width - half - 16);
        const isFree = ([px, py]) => py > 24 && py < 2 * height - 24 && !taken.some(([ox, oy, other]) =>
          Math.abs(ox - px) < half + other + 8 && Math.abs(oy - py) < 24);
        const places = AROUND.map(([aside, down]) =>
          [inFrame(width + (across - view.x) * scale + aside), height - (up - view.y) * scale + down]);
        const [px, py] = places.find(isFree) ?? [];
        if (!hue || py === undefined) continue;
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
    return `rgb(${bytes(hue).map((c, i) => Math.round(0.55 * c + 0.45 * ink[i]))})`;
  }

  /* The first features that are selected and in view, each with its colour on the map, its rule and its share of
   * firings on what a search has found; pointing at one rings its point. */
  function list() {
    const isWhole = scatter.isWhole();
    const isInSight = (latent) => (isWhole ? placeOf.has(latent) : isInView(placeOf.get(latent)));
    const shown = order().filter(isInSight);
    const some = isWhole ? [] : selected();
    const outside = some.filter((latent) => !isInSight(latent));
    const count = format.count(shown.length);
    const said = isWhole
      ? hasNone() ? `All ${count} features` : `${count} ${chosenBy()}`
      : hasNone() ? `${count} in view` : `${count} ${chosenBy()} in view`;
    const sorted = state.query && state.sort === null ? " best matches first" : " in the table's order";
    listed.hidden = (at >= 0 && hasNone()) || (isWhole && !shown.length); // the card lists the nearest instead
    listed.replaceChildren(
      h("summary", null, h("h3", null, said),
        h("span.muted", null, sorted)),
      outside.length > 0 ? h("p.outside", null, `${format.count(outside.length)} outside the view: `,
        h("button.link", { type: "button", onclick: () => zoomTo(some) }, "Zoom to these")) : "",
      h("ol.listed", null, shown.slice(0, LISTED).map(keptLine)),
      shown.length > LISTED ? h("p.muted", null, `and ${format.count(shown.length - LISTED)} more in the table`) : "",
    );
  }

  /* Draw the list at once, and again at the end of a while in which it stays as it is. */
  function keepUp() {
    if (pause) return;
    list();
    pause = setTimeout(() => {
      pause = null;
      list();
    }, STILL);
  }

  /* The row of a feature in the list, made once for what is selected, so that the list keeps up with a move. */
  function keptLine(latent) {
    const make = () => attempt(() => line(latent, foundOn(latent)), h("li", null, String(latent)));
    if (!listRows.has(latent)) listRows.set(latent, make());
    return listRows.get(latent);
  }

  /* more: after its rule, in which what a search has found is marked. */
  function line(latent, ...more) {
    const k = placeOf.get(latent),
      point = () => hovered(k, true),
      open = { type: "button", onclick: () => pick(k) };
    const rule = h("div.rule", null, ruleOf(latent));
    if (state.query && !rule.querySelector(".of-lead")) {
      keepQuotes(rule);
      beginAtFound(rule, BEGINNING);
    }
    markFound(rule);
    return h(
      "li",
      { onpointerenter: point, onpointerleave: () => hovered(-1), onfocusin: point },
      h("button.link", open, h("span.number", null, String(latent))),
      h("i.dot", { "--hue": `rgb(${colours.hueOf(latent)})`, title: colours.said(latent) }),
      rule,
      more,
    );
  }

  /* What it fires on: its senses, unless a search has found only a rule of them all. */
  function ruleOf(latent) {
    const told = report.captions.brief(latent, () => null);
    const isFound = (text) => report.search.parted(state.terms, "rule", text).length > 1;
    const rule = columns.explanation[latent];
    const isRuleAlone = isFound(rule) && !isFound(h("span", null, told).textContent)
      && report.search.place(state.terms, latent) < 0;
    return isRuleAlone ? ruleText(rule) : told;
  }

  const markFound = (element) => ["rule", "label"].some((field) => report.search.markIn(state.terms, field, element));

  /* The token that a search has found, and its share of the firings; null where it has found none. */
  function foundOn(latent) {
    const k = report.search.place(state.terms, latent);
    return k < 0 ? null : h("small.muted", null, report.search.onToken(latent, k));
  }

  /* A card of one feature next to the map. */
  async function pick(k) {
    wanted = k;
    const latent = points.latents[k],
      [feature] = await Promise.all([loadFeature(latent), loadWords()]);
    const link = featureLink(latent, `Feature ${latent}`);
    const strongest = await report.examples.telling(feature, 4);
    if (wanted !== k) return;
    const close = { type: "button", "aria-label": "Close", onclick: unpick };
    const neighbours = feature.neighbours.filter(([other]) => placeOf.has(other));
    const nearest = neighbours.map(([other]) => other);
    const near = ([other, cosine]) => line(other, h("span.muted", null, format.fixed(cosine)));
    const zoom = { type: "button", onclick: () => zoomTo([latent, ...nearest]) };
    chosen.replaceChildren(
      h(
        "article.card",
        null,
        h("h3", null, link, " ", h("span", null, judgedElements(latent)), h("button.close", close, "✕")),
        h("p.rule", null, report.captions.brief(latent, () => null, feature)),
        report.examples.list(latent, feature, strongest, { how: "line", senses: feature.senses ?? [] }),
        nearest.length ? h("p.muted.to-nearest", null,
          h("span", null, "Nearest, by ", term("decoder cosine")),
          h("button.link", zoom, "Zoom to them")) : null,
        h("ol.listed", null, neighbours.map(near)),
      ),
    );
    at = k;
    drawLinks([latent, ...nearest]);
    list();
    address(`#map/${latent}`);
    hovered(k, true);
    link.focus({ preventScroll: true });
    const covered = ring.getBoundingClientRect().bottom - chosen.getBoundingClientRect().top;
    if (NARROW.matches && covered > -RING) scrollBy(0, covered + RING);
  }

  /* Take the card away, and the ring and lines of its feature. */
  function unpick() {
    chosen.replaceChildren();
    at = wanted = -1;
    drawLinks([]);
    list();
    address("#map");
    hovered(-1);
  }

  /* Set the address, and keep the selection in it; the view stays. */
  function address(path) {
    if (!location.hash.startsWith("#map")) return;
    history.replaceState(null, "", path);
    remember();
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
      ...judgedElements(latent).filter(Boolean),
      h("div.rule", null, ruleOf(latent)),
      h("div.snippet", null, report.table.snippet(latent, evidence)),
    );
    const [width] = scatter.size();
    const left = Math.min(Math.max(px - card.offsetWidth / 2, 4), Math.max(width - card.offsetWidth - 4, 4));
    const top = py > card.offsetHeight + 16 ? py - card.offsetHeight - 12 : py + 14;
    card.style.transform = `translate(${left}px, ${top}px)`;
    pointedIn = viewKey();
  }

  const viewKey = () => [...Object.values(scatter.view), ...scatter.size()].join();

  /* Half the width, up to the dots of one that is cut, and half the height of a name. */
  function halvesOf(element) {
    if (!sizes.has(element)) {
      sizes.set(element, [widthOf(element) / 2, element.offsetHeight / 2]);
      element.classList.toggle("cut", element.scrollHeight > element.clientHeight + 4);
    }
    return sizes.get(element);
  }

  /* A token that has no room before the dots is left out whole, so that they stand at its place. */
  function widthOf(element) {
    if (element.scrollWidth <= element.clientWidth) return element.offsetWidth;
    const { left, right } = element.getBoundingClientRect();
    const tokens = Array.from(element.querySelectorAll(".short"), (token) => token.getBoundingClientRect());
    const cut = tokens.find((token) => token.right > right - DOTS)?.left;
    if (cut > left + DOTS && cut < right - DOTS) element.style.maxWidth = `${cut - left + DOTS}px`;
    return element.offsetWidth;
  }

  /* Put the names of kinds of text and of clusters at their places and, when zoomed in, those of features beside their
   * points; a few selected features are named first. A name that would cover that of a larger cluster is left out, and
   * that of a feature where it would cover a point. */
  function placeNames() {
    if (!card.hidden && pointedIn !== viewKey()) hovered(-1);
    placeRing();
    keepUp();
    const pixelsOf = (k) => scatter.toPixels(points.x[k], points.y[k]);
    const [width, height] = scatter.size();
    const closeness = scatter.closeness();
    const { view } = scatter;
    const [left, top] = [width / 2 - view.x * view.scale, height / 2 + view.y * view.scale];
    inset.place();
    overlay.setAttribute("transform", `translate(${left} ${top}) scale(${view.scale} ${-view.scale})`);
    for (const [k, element] of stars) {
      const [px, py] = pixelsOf(k);
      element.style.transform = `translate(${px}px, ${py}px) translate(-50%, -50%)`;
    }
    const { left: start, top: upper } = host.getBoundingClientRect();
    const corners = [inset.element, buttons].filter((each) => !each.hidden)
      .map((each) => each.getBoundingClientRect())
      .map((box) => [box.left - start, box.right - start, box.top - upper]);
    const lines = beside.map((latent) => pixelsOf(placeOf.get(latent))).map((to, _, [middle]) => [middle, to]).slice(1);
    const crossed = (...box) => edges.inBox(...scatter.toData(box[0], box[3]), ...scatter.toData(box[2], box[1]))
      + ACROSS * lines.filter((ends) => report.crosses(ends, box)).length;
    const taken = [];
    const said = new Set();
    /* Show a name at the one of some places, [middle, height, cost], that is free, covers few points and few lines, at
     * most `most`, and no point that is drawn larger; of equals, the first. Returns the place, or null. room: pixels
     * around it free of other names; kind: the kind of text that it names. */
    const place = (element, places, { room = 0, kind = null, most = Infinity } = {}) => {
      const [w, tall] = halvesOf(element).map((half) => half + 1);
      const isFree = ([px, py]) => px > w && px < width - w && py > tall && py < height - tall
        && !corners.some(([from, to, above]) => px + w > from && px - w < to && py + tall > above)
        && !taken.some(([ox, oy, ow, high]) => Math.abs(ox - px) < ow + w + Math.max(room, GAP)
          && Math.abs(oy - py) < high + tall + room)
        && !dots.some(([x, y]) => Math.abs(x - px) < w + HIT && Math.abs(y - py) < tall + HIT)
        && isAtHome(kind, px, py);
      let best = null, least = Infinity;
      for (const [px, py, cost = 0] of places) {
        if (cost >= least || !isFree([px, py])) continue;
        const box = [px - w, py - tall, px + w, py + tall];
        const covered = scatter.covered(...box) + crossed(...box) + (kind ? costOf(kind, box) : 0);
        if (covered <= most && covered + cost < least) [best, least] = [[px, py], covered + cost];
      }
      element.style.visibility = best ? "visible" : "hidden";
      if (!best) return null;
      taken.push([...best, w, tall]);
      said.add(keyOf(element));
      element.style.transform = `translate(${best[0] - w + 1}px, ${best[1]}px) translate(0, -50%)`;
      return best;
    };
    const isCrowded = NARROW.matches && closeness < CLOSE[1]; // a phone has room for the names of common kinds alone
    const some = selected();
    const inSight = some.length > MOST_HITS ? [] : some.filter((each) => isInView(placeOf.get(each)));
    const isFew = beside.length > 0 || (inSight.length > 0 && inSight.length <= FEW);
    const all = beside.length || (closeness < OWN_CLOSE && !isFew) ? [] : order();
    const near = [...beside, ...all].filter((each) => isInView(placeOf.get(each)));
    const dots = [...beside.slice(0, 1), ...enlarged].map((each) => pixelsOf(placeOf.get(each)));
    const wanting = near.slice(0, MOST_OWN);
    for (const element of own.querySelectorAll("[style*=visible]")) element.style.visibility = "hidden";
    const shown = ownNamesOf(wanting);
    if (shown.length < wanting.length) setTimeout(placeNames); // after the list
    for (const [, element] of shown) halvesOf(element); // all at once, before a place is set
    /* Name a feature beside its point; one of a few by its number, if its name has no place, and by both, if its name
     * is that of another. */
    const placeOwn = () => shown.forEach(([latent, element]) => {
      const [px, py] = pixelsOf(placeOf.get(latent));
      const away = Math.max(scatter.diameter() / 2, isFew ? HIT : 0) + BESIDE;
      const isRepeated = isFew && said.has(keyOf(element));
      const first = isRepeated ? numberedNameOf(latent, element) : element;
      if (isRepeated) element.style.visibility = "hidden";
      for (const each of isFew ? [first, numberNameOf(latent)] : [first]) {
        const [across, down] = halvesOf(each).map((half) => half + away);
        each.style.color = `color-mix(in srgb, rgb(${colours.hueOf(latent)}) 40%, var(--ink))`;
        const places = [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 0.6], [1, -0.6], [-1, 0.6], [-1, -0.6], [1, 1], [1, -1],
          [-1, 1], [-1, -1], [0.5, 1], [0.5, -1], [-0.5, 1], [-0.5, -1]]
          .map(([x, y], k) => [px + x * across, py + y * down, 2 * k]);
        const isLeftOut = each === first && isCrowded && beside.indexOf(latent) > 0; // the card has it
        if (isLeftOut || said.has(keyOf(each))) each.style.visibility = "hidden";
        else {
          const spot = place(each, places, { most: isFew ? Infinity : 0 });
          /* Its lines end at the point, unless the dots at which they are cut would lie outside. */
          each.style.textAlign = spot?.[0] < px && !each.matches(".cut") ? "right" : "";
        }
        if (each.style.visibility === "visible") break;
      }
    });
    if (isFew) placeOwn();
    const around = ([px, py]) => AROUND.map(([across, down, cost]) => [px + across, py + down, cost]);
    const [[from, low], [to, high]] = [scatter.toData(0, height), scatter.toData(width, 0)];
    for (const outline of outlines().sort((one, other) => one.size - other.size)) { // larger ones have more places
      const places = placesOf(outline.kind, report.clipped(outline.corners, [from, to, low, high]));
      place(outline.name, places.flatMap(([x, y]) => around(scatter.toPixels(x, y))), { kind: outline.kind });
      outline.path.classList.toggle("unnamed", outline.name.style.visibility === "hidden");
    }
    points.names.forEach(([x, y, name, level], k) => {
      const isEarly = closeness < CLOSE[level];
      const kind = kindNamed(name);
      const isLeftOut = kind ? homes.has(kind) || ((isCrowded || isFew) && !hueOf(kind))
        : isFew || (isEarly && SHORT.test(name));
      if (isLeftOut) names[k].style.visibility = "hidden";
      else {
        const most = kind ? Infinity : MOST_COVERED;
        place(names[k], around(scatter.toPixels(x, y)), { room: isEarly ? ROOM : 0, kind, most });
      }
    });
    if (!isFew) placeOwn();
    const isNamed = ([, element]) => element.style.visibility === "visible";
    knobs.replaceChildren(...(isFew ? [] : shown.filter(isNamed).flatMap(([latent]) => rimmed(latent))));
    knobs.style.setProperty("--size", `${scatter.diameter()}px`);
  }

  /* What the reader sees of a name: its first letters, but for those that begin below its two lines. */
  function keyOf(element) {
    if (!keys.has(element)) {
      const { bottom } = element.getBoundingClientRect();
      const range = document.createRange();
      const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
      let seen = "";
      while (texts.nextNode()) {
        range.selectNode(texts.currentNode);
        if (range.getClientRects()[0]?.top < bottom - 2) seen += texts.currentNode.data;
      }
      keys.set(element, seen.slice(0, LETTERS[Number(own.matches(".brief"))]));
    }
    return keys.get(element);
  }

  /* The element of a feature's number as its name. */
  function numberNameOf(latent) {
    const key = `number ${latent}`;
    if (!ownNames.has(key)) ownNames.set(key, h("span.own", null, String(latent)));
    const element = ownNames.get(key);
    if (!element.isConnected) own.append(element);
    return element;
  }

  /* The element of a feature's number and its name, which begins as that of another. */
  function numberedNameOf(latent, element) {
    const key = `numbered ${latent}`;
    if (!ownNames.has(key)) {
      const both = element.cloneNode(true);
      both.style.maxWidth = "";
      both.prepend(`${latent} `);
      own.append(both);
      ownNames.set(key, both);
    }
    return ownNames.get(key);
  }

  /* For each of some features the element of its name. Only some are new, so that a move does not wait for them. */
  function ownNamesOf(latents) {
    for (const latent of latents.filter((each) => !ownNames.has(each)).slice(0, NEW_NAMES)) {
      const element = attempt(() => ownNameOf(latent), h("span.own", null, String(latent)));
      ownNames.set(latent, element);
      own.append(element); // for good, since the browser would measure it again
    }
    return latents.filter((latent) => ownNames.has(latent)).map((latent) => [latent, ownNames.get(latent)]);
  }

  /* One of them: what the list says of it, without the words that most rules begin with, and without the letters of its
   * senses, of which only the first may fit; of one that a search has found, first what it has found, marked. */
  function ownNameOf(latent) {
    const element = h("span.own", null, ruleOf(latent));
    const first = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
    if (first) first.data = first.data.replace(/^tokens (?:within \d+ tokens )?(?!like )/, "");
    const senses = element.querySelectorAll(".of-lead");
    const letters = new Map(Array.from(senses, (sense) => [sense, sense.firstChild]));
    for (const letter of letters.values()) {
      letter.nextSibling.remove();
      letter.remove();
    }
    keepQuotes(element);
    const found = beginAtFound(element);
    const sense = found?.closest(".of-lead");
    if (sense) element.prepend(letters.get(sense), report.captions.JOINED);
    else if (senses.length) element.prepend(h("span.muted", null, `${senses.length} senses: `));
    const k = markFound(element) ? -1 : report.search.place(state.terms, latent);
    if (k >= 0) element.prepend(h("mark", null, report.search.onToken(latent, k)), ": ");
    const token = found?.closest(".short");
    if (token && !token.querySelector("mark")) token.classList.add("found"); // by what its letters are
    return element;
  }

  /* Make each token of a rule one piece with its quotes. One that stands in a box has none. */
  function keepQuotes(element) {
    for (const token of element.querySelectorAll(".short:not(.blank, .token)")) {
      const { previousSibling: before, nextSibling: after } = token;
      before.deleteData(before.length - 1, 1);
      after.deleteData(0, 1);
      token.prepend('"');
      token.append('"');
    }
  }

  /* Let a name, or a rule with more than `most` letters before it, begin with the token or the words that a search has
   * found: the element that holds them; undefined if none of them is found. */
  function beginAtFound(element, most = 0) {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const terms = state.terms.filter(({ text }) => text);
    while (terms.length && walker.nextNode()) {
      const { data, parentElement } = walker.currentNode;
      const token = parentElement.closest(".short");
      const family = token && report.captions.familyOf(token.textContent.replace(/^"|"$/g, ""));
      const said = token ? `${token.textContent} ${family}` : data;
      const places = terms.map(({ text }) => said.toLowerCase().indexOf(text)).filter((place) => place >= 0);
      if (!places.length || parentElement.closest(".muted")) continue;
      const range = document.createRange();
      range.setStart(parentElement.closest(".of-lead") ?? element, 0);
      if (token) range.setEndBefore(token);
      else range.setEnd(walker.currentNode, data.slice(0, Math.min(...places)).search(LITTLE));
      const isCut = range.toString().trim();
      range.setStart(element, 0); // and the senses before
      if (most && range.toString().length < most) return parentElement;
      range.deleteContents();
      if (isCut) (token ?? walker.currentNode).before("… ");
      return parentElement;
    }
    return undefined;
  }

  function isInView(k) {
    if (k === undefined) return false;
    return isInFrame(...scatter.toPixels(points.x[k], points.y[k]));
  }

  function isInFrame(px, py) {
    const [width, height] = scatter.size();
    return px > 0 && px < width && py > 0 && py < height;
  }

  function setLasso(isOn) {
    lasso.setAttribute("aria-pressed", String(isOn));
    scatter.lasso(isOn);
  }

  /* Take the card away; without one, let go of the lasso, of what it has ringed and of the kind of text; false where
   * there is none of these. */
  function clear() {
    if (at >= 0 || wanted >= 0) {
      unpick();
      return true;
    }
    const isOn = lasso?.getAttribute("aria-pressed") === "true";
    if (!isOn && !state.part && !state.kind) return false;
    setLasso(false);
    set({ part: "", kind: "" });
    return true;
  }

  /* The ring of the lasso stays around what it has selected, as the path of its corners. */
  function drawPart() {
    const corners = state.part.split(",").map((v, k) => (k % 2 ? v * stretch : v));
    part.setAttribute("d", corners.length < 6 ? "" : `M${corners.join(" ")}Z`);
  }

  /* Lines from the first of some features to the others, those nearest to it in the decoder, whose points are drawn
   * larger and named. */
  function drawLinks(latents) {
    beside = latents;
    const [from, ...ends] = latents.map((latent) => [points.x[placeOf.get(latent)], points.y[placeOf.get(latent)]]);
    links.setAttribute("d", ends.map((to) => `M${from.join(" ")}L${to.join(" ")}`).join(""));
    drawHits();
    placeNames();
  }

  function controls() {
    const choose = ({ target }) => {
      way = target.value;
      repaint();
    };
    const ways = Object.entries(WAYS).filter(([name]) => name !== "label" || columns.kinds.length);
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
        follow();
      },
    });
    return [
      search,
      status,
      h("label", null, h("span.long", null, "Colour by "), chooser),
      lasso,
    ];
  }

  /* Buttons that zoom the map and show the whole: over its corner, or on a phone below it. */
  function zooms() {
    const button = (text, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, text);
    return h("div.zooms", null,
      button("+", "zoom in", () => scatter.zoom(1.6)),
      button("−", "zoom out", () => scatter.zoom(1 / 1.6)),
      button("Fit", "Fit the whole map (0)", () => scatter.fit()));
  }

  /* The whole map in a corner, with a frame around what is in view; a click moves the view there. It is hidden while
   * the whole is in view. */
  function insetOf() {
    const canvas = h("canvas");
    const frame = h("i");
    const element = h("div.inset", { "--width": `${INSET}px`, "aria-hidden": "true", hidden: true, onclick(event) {
      const box = element.getBoundingClientRect();
      const { x, y, scale } = fitted();
      scatter.show(x + (event.clientX - box.left - INSET / 2) / scale,
        y - (event.clientY - box.top - box.height / 2) / scale, scatter.closeness());
    } }, canvas, frame);
    let positions = null;
    const fitted = () => {
      const { x, y, scale } = scatter.fitted();
      return { x, y, scale: (scale * INSET) / scatter.size()[0] };
    };
    function paint() {
      const [width, height] = scatter.size();
      if (!width) return;
      positions ??= pairs();
      [canvas.width, canvas.height] = [2 * INSET, Math.round((2 * INSET * height) / width)];
      const plain = report.points(canvas, positions);
      plain.paint(painted(colours, has), bytes(report.paint.style("--paper")));
      const { x, y, scale } = fitted();
      plain.draw({ x, y, scale: 2 * scale, diameter: 2 }, 0, points.x.length);
    }
    function place() {
      const [width, height] = scatter.size();
      element.hidden = scatter.isWhole();
      if (element.hidden) return;
      if (Math.abs(canvas.height - (2 * INSET * height) / width) > 1) paint();
      const { x, y, scale } = fitted();
      const { view } = scatter;
      const share = scale / view.scale;
      frame.style.width = `${width * share}px`;
      frame.style.height = `${height * share}px`;
      const [left, top] = [INSET / 2 + (view.x - x) * scale, (INSET * height) / width / 2 - (view.y - y) * scale];
      frame.style.transform = `translate(${left}px, ${top}px) translate(-50%, -50%)`;
    }
    return { element, paint, place };
  }

  /* Where a kind of text is densest among all: the place of one of its points. */
  function homeOf(kind) {
    const { x, y, latents } = points;
    const places = latents.map((_, k) => k).filter((k) => kindOf(latents[k]) === kind);
    const some = places.filter((_, rank) => rank % Math.ceil(places.length / CANDIDATES) === 0);
    const span = Math.max(...[x, y].map((all) => all.reduce((m, v) => Math.max(m, v), -Infinity)
      - all.reduce((m, v) => Math.min(m, v), Infinity)));
    const weight = (k) => {
      const isNear = (other) => Math.hypot(x[other] - x[k], y[other] - y[k]) < NEARBY * span;
      const alike = places.filter(isNear).length;
      return alike ** 2 / latents.reduce((sum, _, other) => sum + isNear(other), 0);
    };
    const weights = some.map(weight);
    const best = some[weights.indexOf(Math.max(...weights))];
    return [x[best], y[best]];
  }

  /* The points, once. */
  async function read() {
    points ??= await loadData("map");
    if (points.missing || placeOf) return;
    placeOf = new Map(points.latents.map((latent, k) => [latent, k]));
    const isNamed = (kind) => points.names.some(([, , name, level]) => !level && name === format.words(kind));
    const unnamed = commonKinds.filter((kind) => !isNamed(kind));
    points.names.unshift(...unnamed.map((kind) => [...homeOf(kind), format.words(kind), 0]));
    if (columns.kinds.length) way = "label";
  }

  /* The points, their heights stretched so that most of them fill a frame of this shape. The axes of UMAP have no
   * meaning of their own. */
  function stretched(width, height) {
    if (points.way !== "UMAP" || !width || !height) return points;
    stretch = Math.min(Math.max((SHAPE * height) / width, STRETCHED[0]), STRETCHED[1]);
    const named = points.names.map(([x, y, ...more]) => [x, y * stretch, ...more]);
    return { ...points, y: points.y.map((v) => v * stretch), names: named };
  }

  function build(section) {
    names = points.names.map(([, , name]) =>
      (kindNamed(name) ? h("span.name.region", null, name) : h("span.name", null, report.captions.short(name))));
    own = h("div");
    card = h("div.hovercard", { role: "status", hidden: true });
    ring = h("i.ring", { hidden: true });
    legend = h("div");
    status = h("output");
    chosen = h("div.chosen-one", { "aria-live": "polite" });
    listed = h("details.list", { open: true });
    regions = svg("g", { class: "regions" });
    part = svg("path", { class: "lasso" });
    links = svg("path", { class: "links" });
    hits = svg("g", { class: "hits" });
    knobs = svg("g", { class: "hits knobs" });
    marks = h("div");
    overlay = svg("g", null, regions, links, knobs, hits, part);
    inset = insetOf();
    buttons = zooms();
    host = h(
      "div.plot.map",
      { role: "application", tabindex: 0, "aria-label": KEYS },
      svg("svg", { "aria-hidden": "true" }, overlay),
      h("div.names", null, names, own, marks),
      ring,
      card,
      inset.element,
    );
    const explained =
      points.way === "UMAP"
        ? "Decoder directions by UMAP on cosine distance: close means similar; large distances mean little."
        : "Decoder directions on their first two principal components.";
    const how = h("details.how", null, h("summary", null, "How", h("span.long", null, " to read it")), h("ul", null, [
      explained,
      "A tint lies where the features of a kind of text are dense among all; if the colours are of something else, "
        + "where all are dense. Names in quotes are of tokens; zoom in for finer ones.",
      "Click a point for its feature and its nearest. Point at a name of the legend to see it alone; press it, or ring "
        + "points with the lasso, to select them, here and in the table.",
      "The selected are drawn larger if they are few. A star is one that you starred.",
    ].map((text) => h("li", null, text))));
    const aside = h("aside", { "aria-label": "What is selected", tabindex: 0, role: "region" },
      report.applied(true), chosen, listed);
    section.replaceChildren(
      h("div.maphead", null, h("h2", null, "Map of the decoder"), controls(), how, report.otherwise()),
      legend,
      h("div.mapped", null, host, buttons, aside),
    );
    points = stretched(host.clientWidth, host.clientHeight);
    scatter = report.scatter(host, {
      x: Float32Array.from(points.x),
      y: Float32Array.from(points.y),
      onhover: hovered,
      onmove: placeNames,
      onpick: (k) => pick(k),
      onlasso: (corners) => {
        setLasso(false);
        set({ part: corners.map((v, k) => (k % 2 ? Number((v / stretch).toPrecision(4)) : v)).join(",") });
      },
    });
    onchange(() => {
      hovered(-1);
      if (!section.hidden) repaint();
    });
  }

  /* argument: the number of a feature to ring and to show next to the map. */
  async function show(section, argument) {
    if (!scatter) {
      section.replaceChildren(h("p.waiting", null, "Reading the map …"));
      await read();
      if (points.missing) return section.replaceChildren(h("h2", null, "Map"), h("p.missing", null, points.missing));
      if (!scatter) build(section);
    }
    repaint();
    report.captions.readRows().then((rows) => {
      evidence = rows;
      drawHits();
      placeNames();
    });
    const k = placeOf.get(Number(argument ?? -1));
    hovered(-1);
    drawLinks([]);
    if (k !== undefined) await pick(k);
    section.dataset.ready = "true";
  }

  return { title: "Map", show, repaint, small, clear };
})();
