/* The selected latents and their order: by a search, filters, ranges of numbers and a part of the map. The address
 * holds all of it as its query. The description of each latent is here too, because both filters and views need it. */
"use strict";

/* The numbers of latents for which a range can be chosen, in bins: name → { title, edges, log, bin }.
 *
 * bin: of each latent; −1 if it has no such number or never fires. What lies beyond the edges belongs to the bin at
 * that end, so a range that reaches to an end is open there. A range is [first bin, last bin + 1]. */
report.ranges = (() => {
  const { columns } = report;
  const TWENTIETHS = Array.from({ length: 21 }, (_, k) => k / 20);

  /* Quarters of a decade up to the largest value, over eight decades at most. */
  function quarters(values) {
    let least = Infinity, most = 0;
    for (const x of values) if (x > 0) [least, most] = [Math.min(least, x), Math.max(most, x)];
    if (!most) return [];
    const last = Math.ceil(4 * Math.log10(most) + 1e-6);
    const first = Math.max(last - 32, Math.min(last - 4, Math.floor(4 * Math.log10(least))));
    return Array.from({ length: last - first + 1 }, (_, k) => Number((10 ** ((first + k) / 4)).toPrecision(2)));
  }

  /* Some twenty steps of 1, 2 or 5 times a power of ten between the ends of the column's bars, one at 0. */
  function aroundZero(values, span) {
    const [low, high] = span ?? [0, 0];
    const [least, most] = [Math.min(low, 0), Math.max(high, 0, low + 1e-6)];
    const power = 10 ** Math.floor(Math.log10((most - least) / 20));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= (most - least) / 20);
    const first = Math.floor(least / step);
    const n = Math.ceil(most / step) - first + 1;
    return Array.from({ length: n }, (_, k) => Number(((first + k) * step).toPrecision(6)));
  }

  const EDGES = { share: () => TWENTIETHS, signed: aroundZero, log: quarters };

  /** The bins of a column of numbers.
   * @type {(column: Column) => any} */
  function binned({ name, title, unit, means, scale, span }) {
    const values = columns[name];
    const edges = values.some((x) => x !== null) ? EDGES[scale](values, span) : [];
    const place = (x) => {
      let k = 0;
      while (k < edges.length - 2 && x >= edges[k + 1]) k++;
      return k;
    };
    const bin = Int16Array.from(values, (x, i) => (x === null || columns.max[i] === null ? -1 : place(x)));
    const isOpen = values.some((x) => x > edges.at(-1));
    return { title, hint: [unit, means], edges, isOpen, log: scale === "log", bin };
  }

  const all = lazily(() => {
    const ranged = report.tableColumns.numbers.filter(({ means }) => means);
    const every = ranged.map((column) => /** @type {const} */ ([column.name, binned(column)]));
    return Object.fromEntries(every.filter(([, { edges }]) => edges.length));
  });

  /* "0.1,0.5" for an address; an end that is open is left out. */
  const written = (name, [from, to], { edges } = all()[name]) =>
    [from ? edges[from] : "", to < edges.length - 1 ? edges[to] : ""].join(",");

  /* The range that a text describes, with its ends at the nearest edges; null if it describes none. */
  function read(name, text) {
    const { edges } = all()[name], ends = (text ?? "").split(",");
    if (ends.length !== 2 || ends.some((end) => !Number.isFinite(Number(end)))) return null;
    const distance = (x, k) => Math.abs(edges[k] - x);
    const nearest = (x) => edges.reduce((best, _, k) => (distance(x, k) < distance(x, best) ? k : best), 0);
    const at = (end, open) => (end.trim() ? nearest(Number(end)) : open);
    const range = [at(ends[0], 0), at(ends[1], edges.length - 1)];
    return range[0] < range[1] && (range[0] || range[1] < edges.length - 1) ? range : null;
  }

  return { all, written, read };
})();

report.selection = (() => {
  const { latents, names, verdicts, verdict_counts: verdictCounts, kind_counts: kindCounts } = report.data.page;
  const { columns, order: recommended } = report;
  const { parse, quality } = report.search;
  const ranges = report.ranges.all;
  const N_COMMON_KINDS = 14;
  /** @type {(i: number) => string} */
  const verdictOf = (i) => names.verdict[columns.verdict[i]];
  /** The groups of its verdict (verdict_looks.py); none of a verdict that another tool gave.
   * @type {(i: number) => Partial<VerdictLook>} */
  const groupsOf = (i) => verdicts[verdictOf(i)] ?? {};
  /** It does next to nothing: hidden unless asked for.
   * @type {(i: number) => boolean} */
  const isIdle = (i) => Boolean(groupsOf(i).idle);
  /** Its verdict follows the probability, whose interval includes ½.
   * @type {(i: number) => boolean} */
  const isUnsure = (i) => columns.sure[i] === false && Boolean(groupsOf(i).by_probability);
  /** Its firings have no meaning in common, but form no distinct parts.
   * @type {(i: number) => boolean} */
  const isInseparable = (i) => {
    const { by_probability: isByProbability, one_meaning: isOne } = groupsOf(i);
    return isByProbability && !isOne && columns.senses[i] === 1;
  };
  /** Its one meaning is its token, so no probability decides on it.
   * @type {(i: number) => boolean} */
  const isOfOneToken = (i) => groupsOf(i).one_meaning && !groupsOf(i).by_probability;
  /** @type {(i: number) => string} */
  const labelOf = (i) => names.label[columns.label[i]] ?? null;
  /** The kind of text in which it fires half of the time or more.
   * @type {(i: number) => string} */
  const kindOf = (i) => names.kind[columns.kind[i]] ?? null;
  const REST = ["other_kinds", "mixed_kinds"]; // the less common ones, and where none has half of the firings
  /* The most common kinds of text, as many as can be told apart by their colours (map.js). */
  const commonKinds = kindCounts.slice(0, N_COMMON_KINDS).map(([kind]) => kind);
  /** The same for colours: a common kind or one of REST.
   * @type {(kind: string) => string} */
  const inColours = (kind) => (kind === null ? REST[1] : commonKinds.includes(kind) ? kind : REST[0]);
  /** @type {(i: number) => string} */
  const commonKindOf = (i) => inColours(kindOf(i));
  /* What is sorted by that is no number: name → its value of a feature. */
  const OTHERS = {
    latent: (i) => i,
    verdict: verdictOf,
    explanation: (i) => report.segments.textOf(columns.rule[i]) || null,
    label: labelOf,
    top_token: (i) => columns.tokens[i][0] ?? null,
    mine: (i) => report.notes.of(i).label || null,
  };
  const KEYS = Object.fromEntries(report.tableColumns.all.filter(({ sorts }) => sorts).map(({ name, sorts, ascends }) =>
    [name, { title: sorts, up: ascends, value: OTHERS[name] ?? ((i) => columns[name][i]) }]));
  const ASKED = {
    q: "query", verdict: "verdict", starred: "starred", noted: "noted", label: "label", in: "kind", part: "part",
    sort: "sort",
  };
  const NOTHING = { query: "", verdict: [], starred: "", noted: "", label: "", kind: "", part: "", ranges: {} };
  const hasNone = () =>
    Object.keys(NOTHING).every((key) => !(key === "ranges" ? Object.keys(state.ranges) : state[key]).length);
  /* part: the corners of a polygon on the map; inside: whether each latent lies in it, null until the map is read. */
  const state = { ...NOTHING, sort: null, up: false, terms: [], inside: null };
  const listeners = [];
  let order = null, has = new Uint8Array(latents), counts = /** @type {Record<string, number[]>} */ ({});

  const matches = (i) => (!state.label || labelOf(i) === state.label) && (!state.inside || Boolean(state.inside[i]));

  /* What the counted filters and ranges divide the latents into: for each its parts, the part of a latent (−1 or null
   * if it is in none), whether it may leave any out, and whether it lets a latent through. */
  const FACETS = {
    verdict: {
      parts: names.verdict.length,
      of: (i) => columns.verdict[i],
      isOn: () => state.verdict.length > 0 || !state.terms.length,
      lets: (i) => (state.verdict.length ? state.verdict.includes(verdictOf(i)) : !isIdle(i)),
    },
    kind: {
      parts: names.kind.length + 1,
      of: (i) => columns.kind[i] ?? names.kind.length,
      isOn: () => state.kind !== "",
      lets: (i) => [kindOf(i), commonKindOf(i)].includes(state.kind),
    },
    starred: {
      parts: 1,
      of: (i) => (report.notes.of(i).star ? 0 : -1),
      isOn: () => state.starred !== "",
      lets: (i) => report.notes.of(i).star,
    },
    noted: {
      parts: 1,
      of: (i) => (report.notes.isNoted(i) ? 0 : -1),
      isOn: () => state.noted !== "",
      lets: (i) => report.notes.isNoted(i),
    },
  };
  const ofRange = ([name, { edges, bin }]) => {
    const lets = (i) => bin[i] >= state.ranges[name][0] && bin[i] < state.ranges[name][1];
    return [name, { parts: edges.length - 1, of: (i) => bin[i], isOn: () => name in state.ranges, lets }];
  };
  const facets = lazily(() => ({ ...FACETS, ...Object.fromEntries(Object.entries(ranges()).map(ofRange)) }));

  /* Select, count in each facet's parts what all other filters leave, and sort; of equals, those first that come first
   * in the recommended order. */
  function arrange() {
    state.terms = parse(state.query);
    const all = facets(), everyName = Object.keys(all);
    counts = Object.fromEntries(everyName.map((name) => [name, new Array(all[name].parts).fill(0)]));
    has = new Uint8Array(latents);
    const { value } = KEYS[state.sort] ?? {}, kept = [];
    const active = everyName.filter((name) => all[name].isOn());
    for (const i of recommended) {
      const fit = !matches(i) ? 0 : state.terms.length ? quality(state.terms, i) : 1;
      const out = fit ? active.filter((name) => !all[name].lets(i)) : null;
      if (!fit || out.length > 1) continue;
      for (const name of out.length ? out : everyName) {
        const part = all[name].of(i);
        if (part >= 0) counts[name][part]++;
      }
      if (out.length) continue;
      has[i] = 1;
      kept.push([value ? value(i) : fit, i]);
    }
    const sign = state.up ? 1 : -1;
    const hasValue = (x) => x !== null && x !== undefined;
    const compare = (/** @type {any[]} */ [a], /** @type {any[]} */ [b]) => {
      if (hasValue(a) !== hasValue(b)) return hasValue(a) ? -1 : 1; // those without a value are last either way
      return !hasValue(a) || a === b ? 0 : a < b ? -sign : sign;
    };
    if (value || state.terms.length) kept.sort(compare);
    order = kept.map(([, i]) => i);
  }

  function apply(isMoving = false) {
    arrange();
    for (const listener of listeners) listener();
    if (!isMoving) remember();
  }

  /** Set some of the state; isMoving: more changes follow, so the address need not hold this one.
   * @type {(changed: Record<string, any>, isMoving?: boolean) => void} */
  function set(changed, isMoving) {
    const isPart = "part" in changed && changed.part !== state.part;
    Object.assign(state, changed);
    if (isPart) enclose();
    apply(isMoving);
  }

  /** @type {(name: string, range: number[], isMoving?: boolean) => void} */
  function setRange(name, range, isMoving) {
    const others = Object.entries(state.ranges).filter(([other]) => other !== name);
    set({ ranges: Object.fromEntries([...others, ...(range ? [[name, range]] : [])]) }, isMoving);
  }

  /** Add a verdict to the selection, or remove it.
   * @type {(verdict: string) => void} */
  function toggle(verdict) {
    const others = state.verdict.filter((name) => name !== verdict);
    set({ verdict: others.length < state.verdict.length ? others : [...others, verdict] });
  }

  /** Sort by a number of the latents, by the same again the other way round; by none in the recommended order.
   * @type {(key: string) => void} */
  function sortBy(key) {
    const isSame = state.sort === key && key !== null;
    set({ sort: key, up: isSame ? !state.up : Boolean(KEYS[key]?.up) });
  }

  const clear = () => set({ ...NOTHING });

  /* Find the latents in the polygon; read the map first if necessary. */
  async function enclose() {
    const { part } = state;
    state.inside = null;
    if (!part) return;
    const points = await loadData("map");
    if (state.part !== part || points.missing) return;
    state.inside = new Uint8Array(latents);
    for (const k of report.inside(part.split(",").map(Number), points.x, points.y)) state.inside[points.latents[k]] = 1;
    apply();
  }

  /* The search, the filters and the order as the question of an address; "" where all is as at first. */
  function question() {
    const asked = new URLSearchParams();
    for (const [name, key] of Object.entries(ASKED)) if (state[key]?.length) asked.set(name, state[key]);
    for (const [name, range] of Object.entries(state.ranges)) asked.set(name, report.ranges.written(name, range));
    if (state.sort !== null && state.up !== Boolean(KEYS[state.sort].up)) asked.set("reversed", "1");
    return String(asked).replaceAll("%2C", ",");
  }

  /** Apply a query; unknown names are ignored.
   * @type {(text: string) => void} */
  function adopt(text) {
    if (text === question()) return;
    const asked = new URLSearchParams(text);
    const known = (name, values) => (values.includes(asked.get(name)) ? asked.get(name) : null);
    const sort = known("sort", Object.keys(KEYS));
    const corners = asked.get("part") ?? "";
    const isPolygon = /^-?[\d.]+(,-?[\d.]+){5,}$/.test(corners) && corners.split(",").length % 2 === 0;
    const wanted = asked.get("verdict")?.split(",") ?? [];
    const read = Object.keys(ranges()).map((name) => [name, report.ranges.read(name, asked.get(name))]);
    set({
      query: asked.get("q") ?? "",
      verdict: names.verdict.filter((name) => wanted.includes(name)),
      starred: known("starred", ["1"]) ?? "",
      noted: known("noted", ["1"]) ?? "",
      label: known("label", names.label) ?? "",
      kind: known("in", [...names.kind, ...REST]) ?? "",
      part: isPolygon ? corners : "",
      ranges: Object.fromEntries(read.filter(([, range]) => range)),
      sort,
      up: sort !== null && Boolean(KEYS[sort].up) !== asked.has("reversed"),
    }, true);
  }

  /* How many faint and dead latents are left out only because they are. */
  const idleLeftOut = () =>
    (state.verdict.length || state.terms.length ? 0
      : names.verdict.reduce((n, name, k) => (verdicts[name]?.idle ? n + counts.verdict[k] : n), 0));

  /* Write the question into the address, so that a copied link and a reload show the same. */
  function remember() {
    const path = location.hash.split("?")[0];
    if (!/^#(features?|table|map)(\/|$)/.test(path)) return;
    const asked = question();
    history.replaceState(null, "", asked ? `${path}?${asked}` : path);
  }

  /* Stars and labels may change the selection. */
  report.notes.listen(() => { order = null; });

  const arranged = () => {
    if (!order) arrange();
    return order;
  };

  return {
    KEYS, REST, commonKinds, inColours, commonKindOf, state, verdictOf, verdictCounts,
    labelOf, kindOf, isIdle, isUnsure, isInseparable, isOfOneToken,
    hasNone, set, setRange, toggle, sortBy, clear, adopt, remember,
    order: arranged,
    has: (i) => Boolean(arranged() && has[i]),
    /* For each part of a facet, how many latents all other filters leave of it. */
    counts: (name) => arranged() && counts[name],
    idleLeftOut,
    onchange: (listener) => listeners.push(listener),
  };
})();
