/* The figures of the summary, which plotly.js draws, in the colours of the page. */

import { loadScript, once, page, unpack } from "../data/files.js";
import { style } from "../elements/theme.js";

/* plotly.js is stored gzipped, at a third of its size, and only the summary needs it. */
export const loadPlotly = once(async () => {
  const code = await unpack("assets/plotly.js", "plotly");
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  await loadScript(address);
  URL.revokeObjectURL(address);
});
const SIZE = 12.5; // pixels, as captions
const LEAST_POINT = { size: 3.5, opacity: 0.6 }; // of many: in print they are smaller and paler

/* A figure in the colours of the current scheme. */
export function figureLayout(plain) {
  const themed = structuredClone(plain);
  Object.assign(themed, { autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" });
  themed.font = { ...themed.font, family: style("--sans"), color: style("--muted"), size: SIZE };
  for (const { font } of themed.annotations ?? []) if (font?.size) font.size = SIZE;
  delete themed.height;
  delete themed.width;
  const modebar = { bgcolor: "rgba(0,0,0,0)", color: style("--muted"), activecolor: style("--ink") };
  themed.modebar = { ...themed.modebar, ...modebar };
  const label = { bgcolor: style("--raised"), bordercolor: style("--rule"), font: { color: style("--ink") } };
  themed.hoverlabel = { ...themed.hoverlabel, ...label };
  const axisColours = { gridcolor: style("--grid"), linecolor: style("--muted"), tickcolor: style("--muted") };
  for (const [key, axis] of Object.entries(themed)) {
    if (!/^[xy]axis\d*$/.test(key)) continue;
    Object.assign(axis, axisColours, { title: { ...axis.title, font: { size: SIZE } } });
  }
  for (const { line } of themed.shapes ?? []) {
    if (line?.color === "#e6e6e6") line.color = style("--grid");
  }
  return themed;
}

/* The traces of a figure drawn in the light scheme's hues, in the hues of the scheme that is on: those of verdicts,
 * or in a figure of anything else the page's blue, and grey for what it is compared with. */
export function figureTraces(plain) {
  const variables = { "#23272e": "--ink", "#c9ced6": "--muted" };
  const verdicts = Object.entries(page.verdicts);
  for (const [name, { colour }] of verdicts) variables[colour] = `--${name}`;
  const isOfVerdict = ({ name }) => verdicts.some(([, { word: verdict }]) => name?.startsWith(verdict));
  if (!plain.some(isOfVerdict)) Object.assign(variables, { "#0072b2": "--blue", "#d55e00": "--muted" });
  const inScheme = (quoted, hue) => (hue in variables ? `"${style(variables[hue])}"` : quoted);
  const themed = JSON.parse(JSON.stringify(plain).replace(/"(#[0-9a-f]{6})"/g, inScheme));
  for (const { marker } of themed) if (marker?.size < LEAST_POINT.size) Object.assign(marker, LEAST_POINT);
  return themed;
}

export const FIGURE_CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};
