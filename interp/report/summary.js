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
    themed.modebar = { ...themed.modebar, bgcolor: "rgba(0,0,0,0)", color: style("--muted"), activecolor: style("--ink") };
    themed.hoverlabel = { ...themed.hoverlabel, bgcolor: style("--raised"), bordercolor: style("--rule"), font: { color: style("--ink") } };
    for (const [key, axis] of Object.entries(themed)) {
      if (/^[xy]axis\d*$/.test(key)) Object.assign(axis, { gridcolor: style("--grid"), linecolor: style("--muted"), tickcolor: style("--muted") });
    }
    for (const { line } of themed.shapes ?? []) if (line?.color === "#e6e6e6") line.color = style("--grid");
    return themed;
  }

  /* The traces of a figure drawn in the light scheme's hues, in the hues of the scheme that is on. */
  function traces(plain) {
    const light = { ...Object.fromEntries(Object.entries(report.data.page.verdicts).map(([name, { colour }]) => [colour, `--${name}`])), "#23272e": "--ink" };
    return JSON.parse(JSON.stringify(plain).replace(/"(#[0-9a-f]{6})"/g, (whole, hue) => (hue in light ? `"${style(light[hue])}"` : whole)));
  }

  const config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  return { style, layout, traces, config };
})();

report.views.summary = (() => {
  const drawn = [];

  function panel({ title, note, height, figure, table }) {
    if (!figure && !table) return h("p.missing", null, note);
    if (!figure) return h(table.columns.length > 7 ? "figure.panel.whole" : "figure.panel", null, h("h3", null, title), plain(table), h("figcaption", null, note));
    const plot = h("div.plot", { "--height": `${height}px`, role: "group", "aria-label": title });
    drawn.push([plot, figure]);
    return h("figure.panel", null, h("h3", null, title), plot, h("figcaption", null, note),
      table ? h("details", null, h("summary", null, `The numbers, ${format.count(table.rows.length)} rows`), plain(table)) : null);
  }

  /* A table that a stage shows of itself, its first column the rows' names; a latent is a link to its page. */
  const cellOf = (title, text) => (/^(latent|feature)$/i.test(title) && /^[\d,]+$/.test(text) ? featureLink(Number(text.replaceAll(",", "")), text) : text);
  const plain = ({ columns, rows }) => h("div.wide", { tabindex: "0", role: "region", "aria-label": "Table, scrollable" }, h("table.plain", null, headElement(columns),
    h("tbody", null, rows.map(([name, ...cells]) => h("tr", null, h("th", { scope: "row" }, cellOf(columns[0], name)), cells.map((cell, i) => h("td", null, cellOf(columns[i + 1], cell))))))));

  report.verdictBars = () => {
    const { columns, latents } = report.data.page;
    const counts = columns.verdicts.map((verdict, place) => [verdict, columns.verdict.filter((v) => v === place).length]);
    counts.sort((a, b) => b[1] - a[1]);
    const unsure = (verdict) => columns.verdict.filter((v, i) => columns.verdicts[v] === verdict && report.selection.isUnsure(i)).length;
    const title = "Verdicts; pale: unsure, the interval of the probability holds ½";
    return h("table.bars", null, h("caption", null, report.data.page.ranked ? title : "Verdicts"), h("tbody", null, counts.map(([verdict, n]) => {
      const open = unsure(verdict);
      return h("tr", null, h("th", { scope: "row" }, verdictElement(verdict)),
        h("td.bar", { "--share": n / counts[0][1], "--unsure": n ? open / n : 0, "--hue": hueOfVerdict(verdict) }, h("i")),
        h("td", null, format.count(n)), h("td.muted", null, format.percent(n / latents)), h("td.muted", null, open ? `${format.count(open)} unsure` : ""));
    })));
  };

  /* Verdicts, wall times, and the verdict shares of the dictionary and of its nulls: a figure, and the numbers with their
   * intervals. */
  function nulls(data, besides) {
    if (typeof data === "string") return [h("div.columns", null, besides), h("p.missing", null, data)];
    const percent = (x) => (100 * x).toFixed(x && x < 0.095 ? 1 : 0);
    const cell = ([share, low, high]) => share === null ? h("td", null, "–") : h("td", null, `${percent(share)} %`, h("small", null, `${percent(low)} to ${percent(high)}`));
    const trained = (n) => (n ? format.count(n) : "–");
    const heads = ["Dictionary", "one meaning", ...data.verdicts.map(format.verdict), "unsure", "judged", "of them faint", "dead", "trained on (tokens)"];
    const table = h("div.wide", { tabindex: "0", role: "region", "aria-label": "Verdicts beside their nulls, scrollable" }, h("table.plain.shares", null,
      headElement(heads),
      h("tbody", null, data.rows.map((row) => h("tr", null, h("th", { scope: "row" }, row.dictionary, h("small", null, row.means)),
        [row.one, ...row.shares, row.unsure].map((share) => cell(share ?? [null])), h("td", null, format.count(row.judged)), h("td", null, format.count(row.faint)), h("td", null, format.count(row.dead)), h("td", null, trained(row.trained)))))));
    const notes = [data.compare, data.said, data.panel.note].filter(Boolean).map((text) => h("p.note", null, text));
    return h("section.nulls", null, h("div.beside", null, h("div", null, besides, h("h3", null, "Beside its nulls"), notes), panel({ ...data.panel, note: "" })),
      h("p.muted", null, "Shares of the latents judged that are neither dead nor faint, with 95 % intervals over latents. One meaning: monosemantic or single-token. Unsure: monosemantic or polysemantic, and the interval of the probability holds ½."), table);
  }

  function stages(rows) {
    if (!rows.length) return h("p.missing", null, "No wall times: this page was not made from a run folder.");
    const longest = Math.max(...rows.map(([, seconds]) => seconds));
    const total = rows.reduce((sum, [, seconds]) => sum + seconds, 0);
    return h("table.bars", null, h("caption", null, `Wall time, ${format.duration(total)} in all`), h("tbody", null, rows.map(([name, seconds]) =>
      h("tr", null, h("th", { scope: "row" }, format.words(name)), h("td.bar", { "--share": seconds / longest }, h("i")), h("td", null, format.duration(seconds))))));
  }

  async function repaint() {
    if (!drawn.length) return;
    await loadPlotly();
    for (const [plot, figure] of drawn) {
      await Plotly.react(plot, report.paint.traces(figure.data), report.paint.layout(figure.layout), report.paint.config);
    }
  }

  async function show(section) {
    if (section.childElementCount) return;
    section.append(h("p.waiting", null, "Reading the summary …"));
    const data = await loadData("summary");
    const facts = h("dl.facts", null, data.facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
    section.replaceChildren(h("h2", null, "Summary"), facts,
      nulls(data.nulls, [report.verdictBars(), stages(data.stages)]),
      h("div.panels", null, data.panels.map(panel)));
    await repaint();
    section.dataset.ready = "true";
  }

  return { title: "Summary", show, repaint };
})();
