/* The run as a report of one sheet: what was found, what it is compared with, what was run, what the numbers do not
 * show, and figures. Further numbers, terms, times and versions are folded. */

import { loadData, page } from "../data/files.js";
import { factsElement, h, headElement, rowHead, textsOf } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { glossaryList, term, tipped } from "../elements/glossary.js";
import { featureLink } from "../elements/latents.js";
import { onTheme } from "../elements/theme.js";
import { verdictBar, verdictHeading } from "../elements/verdict_bar.js";
import { copyButton } from "../examples/copies.js";
import { FIGURE_CONFIG, figureLayout, figureTraces, loadPlotly } from "./figures.js";

/** A line of a small chart: a name, a bar of its share with its interval, and the share. kind: its colour.
 * @type {(name: Child, share: Share, kind: string) => HTMLElement} */
export const shareBar = (name, [share, low, high], kind) => h(`div.sharebar.${kind}`, null,
  h("span", null, name),
  h("span.scale", { "--share": share, "--low": low, "--high": high, "aria-hidden": "true" }, h("i"), h("i.range")),
  h("b", null, format.percent(share)), h("small", { title: "95 % interval" }, format.range([low, high])));
const isRanked = page.ranked && page.has_text;
const isMeasured = page.shares.length > 0;
const drawn = [];
const { range } = format;
const LONG = 200; // letters after the first sentence of a note, from which on they are folded
const OF_LATENT = "feature %{customdata}"; // in what a point tells whose data name its latent

/** @type {(data: PanelData) => HTMLElement} */
function panel({ title, note, height, figure, table }) {
  const heading = h("h3", null, title);
  const caption = captionOf(note);
  if (!figure) {
    if (!table) return h("p.missing", null, note);
    const isWide = table.columns.length > 7;
    return h(isWide ? "figure.panel.whole" : "figure.panel", null, heading, plainTable(title, table), caption);
  }
  const plot = h("div.plot", { "--height": `${height}px`, role: "group", "aria-label": title });
  drawn.push([plot, figure]);
  const isLinked = figure.data.some((trace) => trace.hovertemplate?.includes(OF_LATENT));
  const numbers = table && h("details", null,
    h("summary", null, `The numbers, ${format.count(table.rows.length)} rows`),
    plainTable(title, table));
  if (isLinked) caption.append(" A click on a point opens its feature.");
  return h("figure.panel", null, heading, plot, caption, numbers);
}

/* The note of a panel: a long one is folded after its first sentence. */
function captionOf(note = "") {
  const first = /^.*?[.] /.exec(note)?.[0] ?? note;
  const rest = note.slice(first.length);
  if (rest.length < LONG) return h("figcaption", null, note);
  return h("figcaption", null, first, h("details", null, h("summary", null, "How it is measured"), rest));
}

const scrollable = (label, table) => h("div.wide", { tabindex: "0", role: "region", "aria-label": label }, table);

/* A table that a stage shows under a title; its first column names the rows, and a latent links to its page. */
function plainTable(title, { columns, rows }) {
  const isLatent = (head, text) => /^(latent|feature)$/i.test(head) && /^[\d,]+$/.test(text);
  const content = (text, column) => (
    isLatent(columns[column], text) ? featureLink(Number(text.replaceAll(",", "")), text) : text
  );
  const line = ([name, ...cells]) => h("tr", null,
    rowHead(content(name, 0)),
    cells.map((text, i) => h("td", null, content(text, i + 1))));
  const table = h("table.plain", null, headElement(columns), h("tbody", null, rows.map(line)));
  return scrollable(`${title}, scrollable`, table);
}

const paragraph = (text) => (text ? h("p", null, format.unbroken(text)) : null);

/** A finding, whose first sentence is the conclusion, in large type.
 * @type {(finding?: string) => (HTMLElement | null)[]} */
export function findingElements(finding = "") {
  const [conclusion, ...reasons] = finding.split(/(?<=\.) /);
  return [conclusion ? h("p.conclusion", null, format.unbroken(conclusion)) : null, paragraph(reasons.join(" "))];
}

/* The share with one meaning of the dictionaries that were trained and judged alike. */
function besideNulls(data) {
  if (!data) return h("p.missing", null, "No nulls were run, so there is nothing to compare the shares with.");
  const bar = ({ title, means, kind, one }) => shareBar(means ? tipped(title, means) : title, one, kind);
  const rows = data.rows.filter(({ one }) => one);
  const fair = rows.find(({ kind }) => kind === "matched");
  const groups = { "": [fair ? "matched" : "own"], References: ["reference"], Nulls: ["null"] };
  const group = (title) => {
    const some = rows.filter(({ kind }) => groups[title].includes(kind));
    return some.length ? [title && h("h3", null, title), some.map(bar)] : null;
  };
  return [
    paragraph(data.account),
    h("figure.compared", { "--fair": fair?.one[0] ?? -1 },
      h("figcaption", null, "Share of the features in use that have one meaning, with its 95 % interval."),
      Object.keys(groups).map(group),
      h("div.sharebar.axis", { "aria-hidden": "true" }, h("span"),
        h("span", null, [0, 25, 50, 75, 100].map((at) => h("i", { "--at": at / 100 }, `${at} %`))), h("span"))),
  ];
}

function shareTable({ verdicts, rows }) {
  const cell = (interval) => (interval
    ? h("td", null, format.percent(interval[0]), h("small", null, range(interval.slice(1)))) : h("td", null, "–"));
  const line = (row) => h("tr", null,
    rowHead(row.title, h("small", null, row.means)),
    [row.one, ...row.shares, row.unsure].map(cell),
    [row.judged, row.faint, row.dead].map((n) => h("td", null, format.count(n))),
    h("td", null, row.trained ? format.count(row.trained) : "–"));
  const counts = ["unsure", "judged", "of them faint", "dead", "trained on (tokens)"];
  const heads = ["Dictionary", "one meaning", ...verdicts.map(format.verdict), ...counts];
  return scrollable("Verdicts of each dictionary, scrollable",
    h("table.plain.by-verdict", null, headElement(heads), h("tbody", null, rows.map(line))));
}

/* The shares of the overview as a table, each with its interval and what it is compared with. */
function sharesTable() {
  const { shares, null: compared } = page;
  const words = { "one meaning": "have ", learnt: "are ", effect: "have an " };
  const share = (x) => h("b", null, `${format.inPercent(x)}\u00a0%`);
  const beside = ({ name, chance }) => {
    if (name === "one meaning" && compared) return "its nulls at equal training, below";
    if (name === "learnt") return "features of a model with random weights";
    return chance === undefined ? "no null was run" : [share(chance), " by chance"];
  };
  const line = (kind, named, of, [value, ...ends], comparison) => h(kind, null,
    rowHead(named, h("small", null, of)),
    h("td", null, share(value)),
    h("td", null, range(ends), "\u00a0%"),
    h("td.beside-null", null, comparison));
  const lineOf = (row) => [line("tr", [words[row.name], term(row.name)],
    `${format.count(row.n)} of ${format.count(row.of)}`, [row.n / row.of, ...row.interval], beside(row)),
  compared && row.name === "one meaning" ? fair(compared) : null];
  /* The same at equal training, which can be compared. */
  const fair = ({ matched, null: { one: [closest, ...ends], title }, difference }) =>
    line("tr.aside", null, `at equal training, ${matched.title}`, matched.one,
      [share(closest), ` (${range(ends)}\u00a0%) ${title}, the closest null: `,
        h("b", null, difference[1] > 0 ? "told apart" : "not told apart")]);
  const heads = ["Features that", "share", "95\u00a0%\u00a0interval", "compared with"];
  const table = h("table.plain.findings", null, headElement(heads),
    h("tbody", null, shares.map(lineOf)));
  const cells = ({ cells: all }) => Array.from(all, (cell) => cell.innerText.replaceAll("\n", ", ")).join("\t");
  const written = () => [page.about.map(([text]) => text).join(""), ...Array.from(table.rows, cells)].join("\n");
  return [scrollable("Shares, scrollable", table),
    h("p.copies", null, copyButton("Copy as text", written))];
}

function times({ stages, versions }) {
  if (!stages.length) return h("p.missing", null, "No wall times: this page was not made from a run folder.");
  const total = stages.reduce((sum, [, seconds]) => sum + seconds, 0);
  const rows = [["all stages", total], ...stages].map(([name, seconds]) =>
    [format.words(name), format.duration(seconds)]);
  return [factsElement(rows), Object.keys(versions).length ? factsElement(Object.entries(versions)) : null];
}

async function repaint() {
  if (!drawn.length) return;
  await loadPlotly();
  for (const [plot, figure] of drawn) {
    if (plot.closest("details:not([open])")) continue;
    const isNew = !plot.on;
    await Plotly.react(plot, figureTraces(figure.data), figureLayout(figure.layout), FIGURE_CONFIG);
    spaceSigns(plot);
    if (isNew) {
      link(plot);
      plot.on("plotly_afterplot", () => spaceSigns(plot));
    }
    fitting.observe(plot);
  }
}

/* Write 1 % in a figure as everywhere on the page, where plotly writes 1%. */
function spaceSigns(plot) {
  for (const text of textsOf(plot)) text.data = text.data.replace(/(\d)%/g, "$1\u00a0%");
}

/* Let a click on a point open the latent that its data name. */
function link(plot) {
  const latentOf = ({ points: [{ data, customdata }] }) =>
    (data.hovertemplate?.includes(OF_LATENT) ? customdata : null);
  plot.on("plotly_hover", (event) => plot.classList.toggle("linked", latentOf(event) !== null));
  plot.on("plotly_unhover", () => plot.classList.remove("linked"));
  plot.on("plotly_click", (event) => {
    if (latentOf(event) !== null) location.hash = `#feature/${latentOf(event)}`;
  });
}

/* A window may change its width while another view is shown: a figure fits its place once it is in sight again. */
const fitting = new ResizeObserver((changed) => {
  for (const { target, contentRect } of changed) if (contentRect.width) Plotly.Plots.resize(target);
});

/* Details; figures in them are drawn when they are opened. */
const folded = (title, ...content) => h("details", { ontoggle: repaint }, h("summary", null, title), content);

async function show(section) {
  const isShown = () => section.querySelector(".part") !== null;
  if (!isShown()) section.replaceChildren(h("p.waiting", null, "Reading the summary …"));
  const data = await loadData("summary");
  if (isShown()) return;
  const part = (title, ...content) => h("section.part", { "aria-label": title }, h("h2", null, title), content);
  section.replaceChildren(
    h("div.sheet", null,
      h("div", null,
        isRanked || isMeasured
          ? part("What was found", findingElements(data.nulls?.finding),
            isMeasured ? sharesTable() : null,
            isRanked ? [verdictHeading("h3"), verdictBar()] : null)
          : "",
        part("What it is compared with", besideNulls(data.nulls))),
      h("div", null,
        part("What was run", factsElement(data.facts), panel(data.quality)),
        data.limits.length
          ? part("What this does not show", h("ul", null, data.limits.map((text) => h("li", null, text)))) : ""),
      part("Results", h("div.results", null, data.results.map(panel))),
      part("Details",
        data.nulls ? folded("All verdicts of each dictionary", shareTable(data.nulls)) : null,
        folded("Training and further numbers", h("div.panels", null, data.details.map(panel))),
        folded("Terms", glossaryList()),
        folded("Times and versions", times(data)))));
  await repaint();
  section.dataset.ready = "true";
}
onTheme(repaint);

export const summary = { title: "Summary", show };
