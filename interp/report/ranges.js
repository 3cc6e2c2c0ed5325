/* The numbers of latents of which a range may be asked for, in bins: name → { title, edges, log, bin }.
 *
 * bin: of each latent; −1 where it has no such number. What lies beyond the edges belongs to the bin at that end, so a range
 * that reaches to an end is open there. A range is [first bin, last bin + 1]. */
"use strict";

report.ranges = (() => {
  const { columns } = report.data.page;
  const TITLES = { monosemanticity: "Probability of one meaning", explanation_f1: "F1 of the explanation", density: "Density", fvu_rise: "Contribution" };
  const HINTS = { monosemanticity: "that it means one thing", explanation_f1: "held out", density: "share of tokens on which it fires", fvu_rise: "share of the variance that is lost without it" };
  const LOG = ["density", "fvu_rise"];
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

  function binned(name) {
    const values = columns[name], log = LOG.includes(name);
    const edges = !values.some((x) => x !== null) ? [] : log ? quarters(values) : TWENTIETHS;
    const place = (x) => {
      let k = 0;
      while (k < edges.length - 2 && x >= edges[k + 1]) k++;
      return k;
    };
    return { title: TITLES[name], hint: HINTS[name], edges, log, bin: Int16Array.from(values, (x) => (x === null ? -1 : place(x))) };
  }

  const all = Object.fromEntries(Object.keys(TITLES).map((name) => [name, binned(name)]).filter(([, { edges }]) => edges.length));

  /* "0.1,0.5" for an address; an end that is open is left out. */
  const written = (name, [from, to], { edges } = all[name]) => [from ? edges[from] : "", to < edges.length - 1 ? edges[to] : ""].join(",");

  /* The range that a text says, its ends at the nearest edges; null where it says none. */
  function read(name, text) {
    const { edges } = all[name], ends = (text ?? "").split(",");
    if (ends.length !== 2 || ends.some((end) => !Number.isFinite(Number(end)))) return null;
    const nearest = (x) => edges.reduce((best, edge, k) => (Math.abs(edge - x) < Math.abs(edges[best] - x) ? k : best), 0);
    const range = [ends[0].trim() ? nearest(Number(ends[0])) : 0, ends[1].trim() ? nearest(Number(ends[1])) : edges.length - 1];
    return range[0] < range[1] && (range[0] || range[1] < edges.length - 1) ? range : null;
  }

  return { all, written, read };
})();
