/* The run as a whole: facts, verdicts, wall times, nulls, and the panels of its stages. */
"use strict";

report.paint = (() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* A figure in the page's colours, whichever scheme is on. */
  function layout(plain) {
    const themed = structuredClone(plain);
    Object.assign(themed, { autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" });
    themed.font = { ...themed.font, family: style("--sans"), color: style("--ink"), size: 12 };
    delete themed.height;
    delete themed.width;
    const modebar = { bgcolor: "rgba(0,0,0,0)", color: style("--muted"), activecolor: style("--ink") };
    themed.modebar = { ...themed.modebar, ...modebar };
    const label = { bgcolor: style("--raised"), bordercolor: style("--rule"), font: { color: style("--ink") } };
    themed.hoverlabel = { ...themed.hoverlabel, ...label };
    const axisColours = { gridcolor: style("--grid"), linecolor: style("--muted"), tickcolor: style("--muted") };
    for (const [key, axis] of Object.entries(themed)) {
      if (/^[xy]axis\d*$/.test(key)) Object.assign(axis, axisColours);
    }
    for (const { line } of themed.shapes ?? []) {
      if (line?.color === "#e6e6e6") line.color = style("--grid");
    }
    return themed;
  }

  /* The traces of a figure drawn in the light scheme's hues, in the hues of the scheme that is on. */
  function traces(plain) {
    const variables = { "#23272e": "--ink" };
    for (const [name, { colour }] of Object.entries(report.data.page.verdicts)) variables[colour] = `--${name}`;
    const inScheme = (quoted, hue) => (hue in variables ? `"${style(variables[hue])}"` : quoted);
    return JSON.parse(JSON.stringify(plain).replace(/"(#[0-9a-f]{6})"/g, inScheme));
  }

  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  return { style, layout, traces, config };
})();

report.views.summary = (() => {
  const drawn = [];

  function panel({ title, note, height, figure, table }) {
    if (!figure && !table) return h("p.missing", null, note);
    const heading = h("h3", null, title);
    const caption = h("figcaption", null, note);
    if (!figure) {
      const isWide = table.columns.length > 7;
      return h(isWide ? "figure.panel.whole" : "figure.panel", null, heading, plainTable(table), caption);
    }
    const plot = h("div.plot", { "--height": `${height}px`, role: "group", "aria-label": title });
    drawn.push([plot, figure]);
    const numbers = table && h("details", null,
      h("summary", null, `The numbers, ${format.count(table.rows.length)} rows`),
      plainTable(table));
    return h("figure.panel", null, heading, plot, caption, numbers);
  }

  const scrollable = (label, table) => h("div.wide", { tabindex: "0", role: "region", "aria-label": label }, table);

  /* A table that a stage shows of itself, its first column the rows' names; a latent is a link to its page. */
  function plainTable({ columns, rows }) {
    const isLatent = (title, text) => /^(latent|feature)$/i.test(title) && /^[\d,]+$/.test(text);
    const content = (text, column) => (
      isLatent(columns[column], text) ? featureLink(Number(text.replaceAll(",", "")), text) : text
    );
    const line = ([name, ...cells]) => h("tr", null,
      rowHead(content(name, 0)),
      cells.map((text, i) => h("td", null, content(text, i + 1))));
    const table = h("table.plain", null, headElement(columns), h("tbody", null, rows.map(line)));
    return scrollable("Table, scrollable", table);
  }

  report.verdictBars = () => {
    const { columns, latents, ranked } = report.data.page;
    const { verdictOf, isUnsure } = report.selection;
    const counts = new Map(columns.verdicts.map((verdict) => [verdict, { n: 0, unsure: 0 }]));
    for (let i = 0; i < latents; i++) {
      const count = counts.get(verdictOf(i));
      count.n++;
      if (isUnsure(i)) count.unsure++;
    }
    const commonestFirst = [...counts].sort(([, a], [, b]) => b.n - a.n);
    const most = commonestFirst[0][1].n;
    const line = ([verdict, { n, unsure }]) => {
      const bar = { "--share": n / most, "--unsure": n ? unsure / n : 0, "--hue": hueOfVerdict(verdict) };
      return h("tr", null,
        rowHead(verdictElement(verdict)),
        h("td.bar", bar, h("i")),
        h("td", null, format.count(n)),
        h("td.muted", null, format.percent(n / latents)),
        h("td.muted", null, unsure ? `${format.count(unsure)} unsure` : ""));
    };
    const caption = ranked ? "Verdicts. Pale: unsure, the interval of the probability includes ½" : "Verdicts";
    return h("table.bars", null, h("caption", null, caption), h("tbody", null, commonestFirst.map(line)));
  };

  /* Verdicts, wall times, and the verdict shares of the dictionary and of its nulls: a figure, and the numbers with
   * their intervals. */
  function nulls(data, besides) {
    if (typeof data === "string") return [h("div.columns", null, besides), h("p.missing", null, data)];
    const notes = [data.compare, data.told_apart, data.panel.note].filter(Boolean);
    const legend = "Shares of the latents judged that are neither dead nor faint, with 95 % intervals over latents. "
      + "One meaning: monosemantic or single-token. Unsure: monosemantic or polysemantic, and the interval of the "
      + "probability includes ½.";
    return h("section.nulls", null,
      h("div.beside", null,
        h("div", null, besides, h("h3", null, "Beside its nulls"), notes.map((text) => h("p.note", null, text))),
        panel({ ...data.panel, note: "" })),
      h("p.muted", null, legend),
      scrollable("Verdicts beside their nulls, scrollable", shareTable(data)));
  }

  function shareTable({ verdicts, rows }) {
    const percent = (x) => (100 * x).toFixed(x && x < 0.095 ? 1 : 0);
    const cell = (interval) => {
      const [share, low, high] = interval ?? [null];
      if (share === null) return h("td", null, "–");
      return h("td", null, `${percent(share)} %`, h("small", null, `${percent(low)} to ${percent(high)}`));
    };
    const line = (row) => h("tr", null,
      rowHead(row.dictionary, h("small", null, row.means)),
      [row.one, ...row.shares, row.unsure].map(cell),
      [row.judged, row.faint, row.dead].map((n) => h("td", null, format.count(n))),
      h("td", null, row.trained ? format.count(row.trained) : "–"));
    const counts = ["unsure", "judged", "of them faint", "dead", "trained on (tokens)"];
    const heads = ["Dictionary", "one meaning", ...verdicts.map(format.verdict), ...counts];
    return h("table.plain.shares", null, headElement(heads), h("tbody", null, rows.map(line)));
  }

  function stages(rows) {
    if (!rows.length) return h("p.missing", null, "No wall times: this page was not made from a run folder.");
    const longest = Math.max(...rows.map(([, seconds]) => seconds));
    const total = rows.reduce((sum, [, seconds]) => sum + seconds, 0);
    const line = ([name, seconds]) => h("tr", null,
      rowHead(format.words(name)),
      barCell(seconds / longest),
      h("td", null, format.duration(seconds)));
    return h("table.bars", null,
      h("caption", null, `Wall time, ${format.duration(total)} in all`),
      h("tbody", null, rows.map(line)));
  }

  async function repaint() {
    if (!drawn.length) return;
    await loadPlotly();
    for (const [plot, figure] of drawn) {
      const { traces, layout, config } = report.paint;
      await Plotly.react(plot, traces(figure.data), layout(figure.layout), config);
    }
  }

  async function show(section) {
    if (section.childElementCount) return;
    section.append(h("p.waiting", null, "Reading the summary …"));
    const data = await loadData("summary");
    section.replaceChildren(
      h("h2", null, "Summary"),
      factsElement(data.facts),
      nulls(data.nulls, [report.verdictBars(), stages(data.stages)]),
      h("div.panels", null, data.panels.map(panel)));
    await repaint();
    section.dataset.ready = "true";
  }

  return { title: "Summary", show, repaint };
})();
