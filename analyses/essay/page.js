"use strict";

// A figure is drawn when it comes near the screen; one with frames gets a slider of its own below it.
const still = { mode: "immediate", frame: { duration: 0, redraw: true }, transition: { duration: 0 } };

function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "true";
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const layout = figure.layout, slider = (layout.sliders || [])[0], frames = figure.frames || [];
  const plot = place.appendChild(document.createElement("div"));
  const least = (layout.meta || {}).min_width;
  if (least) plot.style.minWidth = `${least}px`;
  delete layout.width;
  layout.autosize = true;
  if (slider) {
    delete layout.sliders;
    layout.height -= 64;
    layout.margin.b = 56;
  }
  Plotly.newPlot(plot, figure.data, layout, { displayModeBar: false, responsive: true }).then(() => {
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
  const tell = () => { output.textContent = `${slider.currentvalue.prefix}${frames[input.value].name}`; };
  input.addEventListener("input", () => {
    tell();
    Plotly.animate(plot, [frames[input.value].name], still);
  });
  tell();
  label.append(output, input);
  return label;
}

const places = [...document.querySelectorAll(".plot")];
const near = new IntersectionObserver((seen) => {
  for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(one.target); }
}, { rootMargin: "800px" });
places.forEach((place) => near.observe(place));
addEventListener("beforeprint", () => places.forEach(draw));
