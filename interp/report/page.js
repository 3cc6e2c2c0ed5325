/* What all views use: data files, elements, numbers, tokens.
 *
 * Data files are scripts that call receive(name, data); a string is gzipped JSON. Text reaches the page
 * only as text nodes and attributes, so nothing from a corpus is ever markup. */
"use strict";

const report = {}; // each script adds what it is for
report.data = /** @type {{ page: PageFacts, [name: string]: any }} */ ({});
report.views = {};
/* The lists over the features, and the features in the recommended order; both are empty until loadTable() has come
 * back. */
report.columns = /** @type {TableColumns} */ ({});
report.order = /** @type {number[]} */ ([]);

/** @type {(name: string, data: any) => void} */
function receive(name, data) {
  report.data[name] = data;
}

/** Say what is wrong above the page, until that is closed; "" says that it no longer is.
 * @type {(text: string) => void} */
function trouble(text) {
  const line = document.getElementById("trouble");
  line.hidden = !text;
  line.firstElementChild.textContent = text;
}
document.querySelector("#trouble button").addEventListener("click", () => trouble(""));

/* What `make` returns; where it fails, that is told above the page, and `instead` takes its place: one name or row that
 * fails keeps no other from being shown. */
function attempt(make, instead) {
  try {
    return make();
  } catch (error) {
    reportError(error);
    return instead;
  }
}

window.addEventListener("error", (event) => trouble(`An error occurred: ${event.message || "a file is missing"}`));
window.addEventListener("unhandledrejection", (event) => trouble(String(event.reason?.message || event.reason)));

/** @type {(path: string) => Promise<unknown>} */
const loadScript = (path) => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = path;
  script.onload = resolve;
  script.onerror = () => { // a page on file:// is told of no rejection
    trouble(`${path} is missing or cannot be read`);
    reject(new Error(`${path} is missing or cannot be read`));
  };
  document.head.append(script);
});

/** A function that loads what a key names, once; what failed is loaded again when it is next asked for.
 * @template K, V
 * @param {(key?: K) => Promise<V>} load
 * @returns {(key?: K) => Promise<V>} */
function once(load) {
  const loading = new Map();
  const begin = (key) => load(key).catch((error) => {
    loading.delete(key);
    throw error;
  });
  return (key) => {
    if (!loading.has(key)) loading.set(key, begin(key));
    return loading.get(key);
  };
}

/** Unpack the gzipped text of a script, with 15 bits per character (json_text.py).
 * @type {(path: string, name: string) => Promise<string>} */
async function unpack(path, name) {
  const FIRST = 0x100, BITS = 15;
  await loadScript(path);
  const packed = report.data[name];
  delete report.data[name];
  const leftOver = packed.charCodeAt(0) - FIRST;
  const bytes = new Uint8Array((BITS * (packed.length - 1) - leftOver) / 8);
  for (let k = 1, at = 0, held = 0, bits = 0; k < packed.length; k++) {
    held = (held << BITS) | (packed.charCodeAt(k) - FIRST);
    bits += BITS;
    for (; bits >= 8 && at < bytes.length; bits -= 8) bytes[at++] = held >>> (bits - 8);
    held &= (1 << bits) - 1;
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** @type {<Name extends keyof DataFiles>(name: Name) => Promise<DataFiles[Name]>} */
const loadData = once(async (name) => JSON.parse(await unpack(`data/${name}.js`, name)));

/** @type {<Name extends string>(name: Name, k: number) => `${Name}-${string}`} */
const numbered = (name, k) => `${name}-${String(k).padStart(4, "0")}`;

const loadChunk = once(async (/** @type {number} */ k) => {
  const columns = await loadData(numbered("features", k));
  return Object.fromEntries(Object.entries(columns).map(([name, packed]) => [name, rowsOf(packed)]));
});

/** @type {(latent: number) => Promise<Feature>} */
async function loadFeature(latent) {
  const { chunk } = report.data.page;
  const columns = await loadChunk(Math.floor(latent / chunk));
  /** @type {any} */
  const feature = Object.fromEntries(Object.entries(columns).map(([name, rows]) => [name, rows[latent % chunk]]));
  const [title, below, measured] = JSON.parse(feature.caption);
  const senses = feature.senses?.map((sense) =>
    ({ ...sense, rule: JSON.parse(sense.rule), common: JSON.parse(sense.common) })) ?? null;
  const shared = feature.shared && JSON.parse(feature.shared);
  return { ...feature, title, below, measured, senses, shared, examples: examplesOf(feature.examples) };
}

/** Restore values from their columns (json_text.py); one that a mapping lacks is null.
 * @type {(packed: PackedColumns) => any[]} */
function rowsOf(packed) {
  if (Array.isArray(packed)) return packed;
  const { keys, columns, lengths, all, missing = [] } = packed;
  const parts = columns?.map(rowsOf);
  const items = all && rowsOf(all);
  let end = 0;
  const some = parts
    ? parts[0].map((_, k) => parts.map((part) => part[k]))
    : lengths.map((length) => items.slice(end, (end += length)));
  const rows = keys ? some.map((row) => Object.fromEntries(keys.map((key, k) => [key, row[k]]))) : some;
  for (const place of missing) rows.splice(place, 0, null);
  return rows;
}

/** Examples as the views read them, of their columns (contexts.py).
 * @type {(encoded: EncodedExamples) => Example[]} */
function examplesOf([kinds, rows, labels, values, exponent, ...texts]) {
  const [counts, gaps, codes] = texts.map(report.text.decoded);
  let at = 0;
  return kinds.map((kind, k) => {
    const sparse = [];
    for (let n = counts[k], pos = -1; n > 0; n--, at++) {
      pos += gaps[at] + 1;
      const code = codes[at];
      const sign = code % 180 < 90 ? "" : "-";
      sparse.push(pos, Number(`${sign}${(code % 90) + 10}e${exponent - 1 - Math.floor(code / 180)}`));
    }
    return [kind, rows[k], labels[k], values[k], sparse];
  });
}

/* The text of a token, and the characters of which a text with stray bytes is a part (characters.py), once loadWords()
 * has come back. */
let vocabulary = /** @type {string[]} */ ([]);
let charactersOf = /** @type {Vocabulary["characters"]} */ ({});
/** @type {(token: number) => string} */
const word = (token) => vocabulary[token] ?? `⟨${token}⟩`;

const loadWords = once(async () => {
  ({ tokens: vocabulary, characters: charactersOf } = await loadData("vocab"));
});

/* The table of all features (page_data.py), which every view but the first waits for. */
const loadTable = once(async () => {
  const { columns, order } = await loadData("table");
  Object.assign(report.columns, columns);
  for (const latent of order) report.order.push(latent);
});

/** A function that makes its value when it is first asked for it.
 * @template V
 * @param {() => V} make
 * @returns {() => V} */
function lazily(make) {
  let made;
  return () => (made ??= make());
}

/* What the table shows of every feature beside numbers (payloads.py), with the tokens that it needs. */
const loadRows = async () => (await Promise.all([loadData("rows"), loadWords()]))[0];

/* plotly.js is stored gzipped, at a third of its size, and only the summary needs it. */
const loadPlotly = once(async () => {
  const code = await unpack("assets/plotly.js", "plotly");
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  await loadScript(address);
  URL.revokeObjectURL(address);
});

/** An element: h("a.link", { href, onclick, title }, child, child, …); strings become text nodes.
 * @template {string} Kind
 * @param {Kind} kind
 * @param {Attributes<ElementOf<Kind>>} [attributes]
 * @param {...Child} children
 * @returns {ElementOf<Kind>} */
function h(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = /** @type {any} */ (document.createElement(tag));
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  const parts = /** @type {any[]} */ (children).flat(Infinity);
  element.append(...parts.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The same for SVG.
 * @template {string} Tag
 * @param {Tag} tag
 * @param {Attributes<ElementOfSvg<Tag>>} [attributes]
 * @param {...Child} children
 * @returns {ElementOfSvg<Tag>} */
function svg(tag, attributes, ...children) {
  const element = /** @type {any} */ (document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(.../** @type {any[]} */ (children).flat(Infinity));
  return element;
}

/** The texts within an element, in order.
 * @type {(element: Element) => Text[]} */
function textsOf(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(/** @type {Text} */ (walker.currentNode));
  return texts;
}

const format = {
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
  verdict: (name) => report.data.page.verdicts[name]?.word ?? name.replaceAll("_", " "),
  shortVerdict: (name) => report.data.page.verdicts[name]?.short ?? format.verdict(name),
};

/** A token with its white space marked: the style draws ␣ on each space and ↵ and ⇥ where a line ends and a tab is,
 * and a run of at least `least` as one sign with their number, such as ␣×8, so that what is copied is the text itself.
 * Other control characters are shown by their pictures, stray bytes as parts of characters (bytes.js). isText: single
 * spaces are left as they are; lead: a first byte of the script around the token; whole: the token, if it stands on its
 * own, to tell of which characters it was seen to be a part.
 * @type {(token: string, least?: number, isText?: boolean, lead?: number, whole?: string) => Child[]} */
function visible(token, least = 3, isText = false, lead = null, whole = null) {
  const kinds = { " ": "span.space", "\n": "span.mark.line", "\t": "span.mark.tab" };
  const picture = (c) => String.fromCharCode(0x2400 + c.charCodeAt());
  const shown = (piece) => report.bytes.drawn(piece.replace(/[\0-\x1f]/g, picture), lead, whole);
  const drawn = (piece) => {
    const kind = kinds[piece[0]];
    if (!kind || (isText && piece[0] === " " && piece.length < least)) return shown(piece);
    return piece.length < least ? h(kind, null, piece) : runElement(kind, piece, piece.length);
  };
  const runs = new RegExp(`( {${least},}|\n{${least},}|\t{${least},}|[ \n\t])`);
  return token.replaceAll("\r", "").split(runs).filter(Boolean).flatMap(drawn);
}

/** Text that is drawn as a sign, with its number if there are several.
 * @type {(kind: string, exact: string, n: number) => HTMLElement} */
const runElement = (kind, exact, n) =>
  h(`${kind}.run`, { "data-n": n, "--n": n }, h("span.exact", null, exact));

/* Letters that look like Latin ones, by script, and Arabic marks, which are hard to tell on their own. */
const NAMED_LETTERS = {
  "Arabic alef": "ا",
  shadda: "\u0651", sukun: "\u0652", fatha: "\u064e", damma: "\u064f", kasra: "\u0650",
  fathatan: "\u064b", dammatan: "\u064c", kasratan: "\u064d",
  "Hebrew vav": "ו",
  "Hebrew samekh": "ס",
  Cyrillic: "АВЕЅІЈКМНОРСТУХавегѕіјкмнорстух",
  Greek: "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧινοκρυχ",
};

/** The name of a token that is one of these; undefined for any other token.
 * @type {(token: string) => string} */
const scriptOf = (token) => {
  const letter = token.trim();
  if (letter.length !== 1) return undefined;
  return Object.keys(NAMED_LETTERS).find((name) => NAMED_LETTERS[name].includes(letter));
};

/** A token on its own, also where it is a single space; bdi keeps its writing direction to itself, and one with stray
 * bytes is read as its script is. lead: a first byte of the script of the tokens around it.
 * @type {(token: string, lead?: number) => HTMLElement} */
function tokenElement(token, lead = null) {
  const parts = report.bytes.meaning(token, lead);
  const named = {
    ...(token.trim() ? null : { role: "img", "aria-label": spelled(token) }),
    "data-script": scriptOf(token),
    dir: scriptOf(token) ? "ltr" : report.bytes.directionOf(token, lead),
    "data-tip": parts,
  };
  const kind = /^\p{M}/u.test(token) ? "bdi.token.combining" : "bdi.token";
  return h(kind, named, visible(token, token.trim() ? 3 : 1, false, lead, token));
}

/** White space in words, for screen readers.
 * @type {(text: string) => string} */
const spelled = (text) => Array.from(text, (c) => ({ " ": "space", "\n": "line end", "\t": "tab" })[c] ?? c).join(" ");

/** Details whose content `make` returns when they are first opened.
 * @type {(kind: "details" | `details.${string}`, title: Child, make: () => Child) => HTMLElement} */
function foldedElement(kind, title, make) {
  return h(kind, { ontoggle() {
    if (this.open && this.childElementCount === 1) this.append(...h("div", null, make()).childNodes);
  } }, h("summary", null, title));
}

/** The head of a table: a column without a name has an empty cell.
 * @type {(names: Child[]) => HTMLElement} */
function headElement(names) {
  const cells = names.map((name) => (name ? h("th", { scope: "col" }, name) : h("td")));
  return h("thead", null, h("tr", null, cells));
}

/** The cell that names a row.
 * @type {(...name: Child[]) => HTMLElement} */
const rowHead = (...name) => h("th", { scope: "row" }, name);

/** A cell with a bar of this share of its width; hue: of the bar, where it is not the table's.
 * @type {(share: number, hue?: string) => HTMLElement} */
const barCell = (share, hue = null) => h("td.bar", { "--share": share, "--hue": hue }, h("i"));

/** A list of named values: [name, value], ….
 * @type {(rows: Child[][]) => HTMLElement} */
const factsElement = (rows) =>
  h("dl.facts", null, rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));

/** @type {(verdict: string) => string} */
const hueOfVerdict = (verdict) => `var(--${verdict}, var(--unranked))`;

/** @type {(verdict: string) => HTMLElement} */
const verdictElement = (verdict) => h("span.verdict", { "--hue": hueOfVerdict(verdict) }, format.verdict(verdict));

/** The note after the verdict of an unsure latent; null for a sure one.
 * @type {(latent: number) => HTMLElement} */
function unsureElement(latent) {
  const title = "the interval of its probability includes ½";
  return report.selection.isUnsure(latent) ? h("span.muted", { title }, ", unsure") : null;
}

/** Its verdict, whether it is unsure, and the probability that it has one meaning.
 * @type {(latent: number) => HTMLElement[]} */
function judgedElements(latent) {
  const { verdictOf } = report.selection;
  const { columns } = report;
  const one = columns.monosemanticity[latent];
  return [verdictElement(verdictOf(latent)), unsureElement(latent),
    one === null ? null : h("span.muted", { title: "probability of one meaning" }, ` ${format.fixed(one)}`)];
}

/** The same, with the meaning of the verdict.
 * @type {(verdict: string) => HTMLElement} */
const verdictTerm = (verdict) => h("span.verdict", { "--hue": hueOfVerdict(verdict) }, term(format.verdict(verdict)));

/** @type {(latent: number, ...text: Child[]) => HTMLElement} */
const featureLink = (latent, ...text) =>
  h("a", { href: `#feature/${latent}` }, ...(text.length ? text : [String(latent)]));

/** A point with its interval on a line from 0 to 1.
 * @type {(at: number, low: number, high: number) => HTMLElement} */
function intervalElement(at, low, high) {
  if (at === null || at === undefined) return h("span.muted", null, "–");
  const bounds = low === null || low === undefined ? "" : ` (${format.fixed(low)} to ${format.fixed(high)})`;
  const named = { "--at": at, "--low": low ?? at, "--high": high ?? at, title: format.fixed(at) + bounds };
  return h("span.interval", named, h("span.number", null, format.fixed(at)),
    h("span.track", { "aria-hidden": "true" }, h("i.range"), h("i.point")));
}
