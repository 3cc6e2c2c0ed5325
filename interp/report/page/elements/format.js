/* Numbers and names as the page writes them. */

import { page } from "../data/files.js";

export const format = {
  fixed: (x, digits = 2) => (
    x === null || x === undefined ? "–" : x.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−")
  ),
  text: (x) => x ?? "–",
  count: (x) => (x === null || x === undefined ? "–" : Math.round(x).toLocaleString("en")),
  significant(x, digits = 3) {
    if (x === null || x === undefined) return "–";
    if (x === 0) return "0";
    const size = Math.abs(x);
    const rounded = Number(x.toPrecision(digits));
    const text = size >= 1e5 || size < 1e-3 ? rounded.toExponential() : String(rounded);
    return text.replace("e-", "e−").replace(/^-/, "−").replace("e+", "e");
  },
  /* A number in a column of others: with as many digits as they have; whole numbers stay whole. */
  digits(x, digits = 2) {
    if (x === null || x === undefined || Number.isInteger(x)) return format.significant(x, digits);
    const isPlain = Math.abs(x) >= 0.01 && Math.abs(Number(x.toPrecision(digits))) < 100;
    return isPlain ? x.toPrecision(digits).replace("-", "−") : format.significant(x, digits);
  },
  /* A share in per cent, everywhere with two digits (`format_percent` in json_text.py): 39, 4.0, 0.050. */
  inPercent: (x) => (!x || x >= 0.0995 ? (100 * x).toFixed(0) : x >= 1e-5 ? (100 * x).toPrecision(2)
    : (100 * x).toExponential(1).replace("e-", "e−")),
  percent: (share) => `${format.inPercent(share)} %`,
  /* A sentence in which no line ends between a number and its sign. */
  unbroken: (text) => text.replace(/(\d) %/g, "$1\u00a0%"),
  notable: (share) => (share < 0.01 ? "under 1 %" : format.percent(share)),
  share: (x) => (x ? format.percent(x) : "–"),
  range: (ends) => ends.map(format.inPercent).join(" to "),
  duration(seconds) {
    const tenths = seconds.toFixed(1);
    if (Number(tenths) < 60) return `${tenths} s`;
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  },
  words: (name) => name.replaceAll("_", " "),
  verdict: (name) => page.verdicts[name]?.word ?? name.replaceAll("_", " "),
  shortVerdict: (name) => page.verdicts[name]?.short ?? format.verdict(name),
};
