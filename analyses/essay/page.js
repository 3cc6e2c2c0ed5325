"use strict";

// A figure is drawn when it comes near the screen; one with frames gets a slider of its own below it.
const still = { mode: "immediate", frame: { duration: 0, redraw: true }, transition: { duration: 0 } };
const NARROW = 560, GAP = 92, TITLE = 30;

function draw(place) {
  const source = document.getElementById(place.dataset.figure);
  if (!source || place.dataset.drawn) return;
  place.dataset.drawn = "true";
  const figure = JSON.parse(source.textContent);
  const layout = figure.layout, slider = (layout.sliders || [])[0], frames = figure.frames || [];
  const plot = place.appendChild(document.createElement("div"));
  const room = place.clientWidth, isNarrow = room < NARROW, least = (layout.meta || {}).min_width;
  delete layout.width;
  layout.autosize = true;
  if (layout.title) { // the caption says it
    delete layout.title;
    layout.margin.t -= TITLE;
    layout.height -= TITLE;
  }
  if (slider) {
    delete layout.sliders;
    layout.height -= 64;
    layout.margin.b = 56;
  }
  if (isNarrow) narrow(layout, room);
  if (figure.data.some((trace) => trace.texttemplate) && least > room) { // words in cells: it scrolls
    plot.style.minWidth = `${least}px`;
    place.tabIndex = 0;
  }
  Plotly.newPlot(plot, figure.data, layout, { displayModeBar: false, responsive: true }).then(() => {
    if (isNarrow) legendBelow(plot, layout);
    if (!slider || !frames.length) return;
    Plotly.addFrames(plot, frames);
    place.append(dragger(plot, slider, frames));
  });
}

function dragger(plot, slider, frames) {
  const label = document.createElement("label"), output = document.createElement("output");
  const input = document.createElement("input");
  label.className = "drag";
  Object.assign(input, { type: "range", min: 0, max: frames.length - 1, step: 1 });
  input.value = slider.active || 0;
  input.setAttribute("aria-label", slider.currentvalue.prefix.replace(/[:=\s]+$/, "") || "Step of the figure");
  const tell = () => { output.textContent = `${slider.currentvalue.prefix}${frames[input.value].name}`; };
  input.addEventListener("input", () => {
    tell();
    Plotly.animate(plot, [frames[input.value].name], still);
  });
  tell();
  label.append(output, input);
  return label;
}

// On a narrow screen titles of axes break, and panels of one row stand below one another where a figure needs its width.
function narrow(layout, room) {
  if ((layout.meta || {}).min_width > room) stack(layout);
  for (const [key, axis] of Object.entries(layout)) {
    if (/^[xy]axis\d*$/.test(key) && axis.title) axis.title.text = broken(axis.title.text, key[0] === "x" ? (room - 90) / 6.4 : 34);
  }
}

function broken(text, letters) {
  const lines = [""];
  for (const word of (text || "").split(/ (?![^<]*>)/)) {
    const line = `${lines.at(-1)} ${word}`.trim();
    if (lines.at(-1) && line.replace(/<[^>]*>/g, "").length > letters) lines.push(word); else lines[lines.length - 1] = line;
  }
  return lines.join("<br>");
}

function stack(layout) {
  const axes = (letter) => Object.keys(layout).filter((key) => new RegExp(`^${letter}axis\\d*$`).test(key));
  const domain = (key) => layout[key].domain || [0, 1];
  const starts = [...new Set(axes("x").map((key) => domain(key)[0].toFixed(3)))].sort((a, b) => a - b);
  const n = starts.length, rows = layout.height - layout.margin.t - layout.margin.b;
  if (n < 2) return;
  const whole = n * rows + (n - 1) * GAP;
  const column = (key) => starts.indexOf(domain(key)[0].toFixed(3));
  const moved = (y, at) => ((n - 1 - at) * (rows + GAP) + y * rows) / whole;
  const ends = starts.map((start) => Math.max(...axes("x").filter((key) => domain(key)[0].toFixed(3) === start).map((key) => domain(key)[1])));
  for (const note of layout.annotations || []) {
    const at = starts.findIndex((start, k) => note.x >= Number(start) - 1e-6 && note.x <= ends[k] + 1e-6);
    if (note.xref !== "paper" || note.yref !== "paper" || at < 0 || note.y <= 0) continue;
    note.x = (note.x - Number(starts[at])) / (ends[at] - Number(starts[at]));
    note.y = moved(note.y, at);
  }
  for (const key of axes("y")) {
    const own = layout[key], at = column(`xaxis${(own.anchor || "x").slice(1)}`), first = own.matches && layout[`yaxis${own.matches.slice(1)}`];
    own.domain = domain(key).map((y) => moved(y, at));
    if (first && column(`xaxis${(first.anchor || "x").slice(1)}`) !== at) Object.assign(own, { showticklabels: true, title: own.title || first.title });
  }
  for (const key of axes("x")) layout[key].domain = [0, 1];
  layout.height += whole - rows;
}

function legendBelow(plot, layout) {
  const legend = plot.querySelector(".legend");
  if (!legend) return;
  const below = { "legend.orientation": "h", "legend.x": 0, "legend.xref": "container", "legend.y": 0, "legend.yref": "container", "legend.yanchor": "bottom" };
  Plotly.relayout(plot, below).then(() => {
    const room = plot.querySelector(".legend").getBBox().height + 6;
    Plotly.relayout(plot, { height: layout.height + room, "margin.b": layout.margin.b + room });
  });
}

const places = [...document.querySelectorAll(".plot")];
const near = new IntersectionObserver((seen) => {
  for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(one.target); }
}, { rootMargin: "800px" });
places.forEach((place) => near.observe(place));
addEventListener("beforeprint", () => places.forEach(draw));
