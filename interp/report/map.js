/* The decoder's rows in the plane; a click opens the feature. */
"use strict";

report.views.map = (() => {
  const { columns, verdictOf, labelOf } = report.selection;
  const WAYS = {
    verdict: "verdict",
    monosemanticity: "monosemanticity",
    density: "density",
    ...(columns.labels.length ? { label: "best label" } : {}),
  };
  const HUES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  let points, way = "verdict", plot, shapes;

  const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  const hover = (i) => {
    const cut = columns.explanation[i].slice(0, 80);
    return `<b>${i}</b> ${escape(format.verdict(verdictOf(i)))}${cut ? `<br>${escape(cut)}` : ""}`;
  };

  function trace(places, marker, name) {
    const pick = (values) => places.map((p) => values[p]);
    return {
      type: "scatter", mode: "markers", name, x: pick(points.x), y: pick(points.y), customdata: pick(points.latents),
      text: pick(points.latents).map(hover), hovertemplate: "%{text}<extra></extra>", marker: { size: 5, opacity: 0.75, line: { width: 0 }, ...marker },
    };
  }

  /* One trace a group, the largest below. */
  function grouped(nameOf, hueOf, write) {
    const groups = new Map();
    points.latents.forEach((latent, p) => {
      const name = nameOf(latent);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(p);
    });
    const sorted = [...groups].sort((a, b) => b[1].length - a[1].length);
    return sorted.map(([name, places]) => trace(places, hueOf(name), `${escape(write(name))} (${format.count(places.length)})`));
  }

  function traces() {
    const { style } = report.paint;
    if (way === "verdict") return grouped(verdictOf, (name) => ({ color: style(`--${name}`) || style("--unranked") }), format.verdict);
    if (way === "label") {
      const counts = new Map();
      for (const latent of points.latents) if (labelOf(latent) !== null) counts.set(labelOf(latent), (counts.get(labelOf(latent)) || 0) + 1);
      const first = [...counts].sort((a, b) => b[1] - a[1]).slice(0, HUES.length).map(([name]) => name);
      const nameOf = (latent) => (first.includes(labelOf(latent)) ? labelOf(latent) : "other, or F1 below 0.3");
      return grouped(nameOf, (name) => (first.includes(name) ? { color: HUES[first.indexOf(name)] } : { color: style("--dead"), opacity: 0.3 }), format.words);
    }
    const values = points.latents.map((latent) => (way === "density" ? Math.log10(columns.density[latent]) : columns.monosemanticity[latent]));
    const all = points.latents.map((_, p) => p);
    const known = all.filter((p) => values[p] !== null && Number.isFinite(values[p]));
    const rest = all.filter((p) => values[p] === null || !Number.isFinite(values[p]));
    const bar = { title: { text: way === "density" ? "log10 density" : "monosemanticity", side: "right" }, thickness: 12, outlinewidth: 0 };
    return [trace(rest, { color: style("--dead"), opacity: 0.25 }, "no value"),
      trace(known, { color: known.map((p) => values[p]), colorscale: "Cividis", colorbar: bar }, WAYS[way])].filter((t) => t.x.length);
  }

  function layout() {
    const bare = { showticklabels: false, zeroline: false, showgrid: false, ticks: "" };
    const numeric = way === "density" || way === "monosemanticity";
    return report.paint.layout({
      margin: { l: 36, r: 12, t: 8, b: 36 }, showlegend: !numeric, dragmode: "pan", hovermode: "closest",
      legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0, itemsizing: "constant" }, font: {},
      xaxis: { title: { text: `${points.way} 1 (no unit)` }, ...bare }, yaxis: { title: { text: `${points.way} 2 (no unit)` }, scaleanchor: "x", ...bare },
    });
  }

  async function repaint() {
    if (!plot) return;
    await loadPlotly();
    await Plotly.react(plot, traces(), layout(), { ...report.paint.config, scrollZoom: true });
    if (!shapes) {
      shapes = true;
      plot.on("plotly_click", ({ points: [point] }) => { location.hash = `#feature/${point.customdata}`; });
    }
  }

  async function show(section) {
    if (plot) return Plotly.Plots.resize(plot);
    if (section.childElementCount) return;
    section.append(h("p.waiting", null, "Reading the map …"));
    points = await loadData("map");
    if (points.missing) return section.replaceChildren(h("h2", null, "Map"), h("p.missing", null, points.missing));
    const chooser = h("select", { onchange() { way = this.value; repaint(); } }, Object.entries(WAYS).map(([value, text]) => h("option", { value }, text)));
    plot = h("div.plot.map", { role: "group", "aria-label": "Map of the decoder; the table of features lists the same latents" });
    const explained = points.way === "UMAP"
      ? "Decoder directions by UMAP on cosine distance: near means alike, far distances mean little. Click a point to open its feature."
      : "Decoder directions on their first two principal components. Click a point to open its feature.";
    section.replaceChildren(h("div.maphead", null, h("h2", null, "Map of the decoder"), h("label", null, "Colour by ", chooser)), h("p.muted", null, explained), plot);
    await repaint();
    section.dataset.ready = "true";
  }

  return { title: "Map", show, repaint };
})();
