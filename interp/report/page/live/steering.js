/* "Steer", a tab of a feature's examples on a served page: what the model writes with the feature held, and what that
 * costs. */

import { page } from "../data/files.js";
import { tokensOfSequence } from "../data/sequences.js";
import { word } from "../data/vocabulary.js";
import { h, svg } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { ask, showError } from "./ask.js";
import { writtenElements } from "./written.js";
import { joinBytes } from "../text/bytes.js";

/* A text in which few features fire, so that what holding one of them does is not there without it. */
const NEUTRAL = "Once upon a time, in the middle of the night,";
const PAUSE = 250,
  N_BEFORE = 16,
  LEAST = -4,
  MOST = 8,
  TEMPERATURE = 0.7, // less noise than at 1, in which a change is hard to see
  N_TOKENS = 48;

const [W, H, LEFT, RIGHT, TOP, BASE] = [360, 170, 44, 10, 12, 146];
const x = (multiple) => LEFT + ((multiple - LEAST) / (MOST - LEAST)) * (W - LEFT - RIGHT);

/* Round ticks of an axis, from 0 to the first that is no less than a value. */
function roundTicks(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [0.5, 1, 2].map((part) => part * power).find((size) => most <= 4 * size) ?? 5 * power;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, k) => k * step);
}

/* One column of the doses over the multiples, with an axis of its own; a line marks the multiple that is held. */
function chart(title, kind, doses, at, inWords) {
  const known = doses.filter((row) => row[0] !== null && row[at] !== null);
  const free = doses.find(([multiple]) => multiple === null)[at];
  const ticks = roundTicks(Math.max(...known.map((row) => row[at]), free) || 1);
  const most = Math.max(...ticks);
  const y = (value) => BASE - (value / most) * (BASE - TOP);
  const text = (place, words, anchor) => svg("text", { ...place, "text-anchor": anchor }, words);
  const points = known.map((row) => `${x(row[0]).toFixed(1)},${y(row[at]).toFixed(1)}`);
  const dot = (row) =>
    svg(
      "circle",
      { class: kind, cx: x(row[0]), cy: y(row[at]), r: 2.5 },
      svg("title", null, `${row[0]} ×: ${inWords(row[at])}`),
    );
  const last = known.at(-1);
  const label = `${title}: ${inWords(last[at])} at ${last[0]} times its maximum`;
  const line = svg("line", { class: "dose", y1: TOP, y2: BASE });
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label },
    svg("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: BASE, y2: BASE }),
    svg("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: BASE }),
    ticks.map((value) => text({ x: LEFT - 5, y: y(value) + 4 }, inWords(value), "end")),
    [LEAST, -2, 0, 2, 4, MOST].map((tick) =>
      text({ x: x(tick), y: BASE + 15 }, `${tick} ×`.replace("-", "−"), "middle")),
    line,
    svg("polyline", { class: kind, points: points.join(" ") }),
    known.map(dot),
  );
  const place = (held) => {
    for (const end of ["x1", "x2"]) line.setAttribute(end, x(held));
  };
  return { element: h("figure", null, h("figcaption", null, title), picture), place };
}

/* What each dose costs (KL), and what it brings (the probability of what the feature writes). */
function charts(doses) {
  const free = doses.find(([multiple]) => multiple === null);
  const nats = (value) => format.significant(value, 2);
  const drawn = [chart("KL to the unsteered model, in nats", "kl", doses, 1, nats)];
  if (free[2] !== null) {
    const title = format.unbroken(`Probability of its positive logits (unsteered ${format.percent(free[2])})`);
    drawn.push(chart(title, "concept", doses, 2, format.percent));
  }
  const meaning =
    "Measured on eight sequences of the scan, not on the text above, with the feature held at all their tokens. " +
    "Whether the model uses it at its own activations is another question: see its effect.";
  const place = (held) => drawn.forEach((one) => one.place(held));
  const heading = h("h3", null, "What each multiple costs and brings, on average");
  const figures = drawn.map((one) => one.element);
  return Object.assign(h("div.doses", null, heading, h("p.muted", null, meaning), figures), { place });
}

/* The text up to the strongest firing, and its token. */
function opening(example) {
  const { n_ctx } = page,
    [, row] = example,
    place = row % n_ctx;
  const words = Array.from(tokensOfSequence(Math.floor(row / n_ctx)), word).slice(
    Math.max(place - N_BEFORE, 0),
    place + 1,
  );
  return joinBytes(words.filter((text) => !/^<\|.*\|>$/.test(text)))
    .map((piece) => piece.text)
    .join("");
}

export function steering(latent, example) {
  let timer,
    newest = 0,
    doses = null;
  const doseText = h("output", null),
    texts = h("div.texts", { "aria-live": "polite" }, h("p.waiting", null, "The model is writing …")),
    costs = h("div.costs");
  const oninput = () => later();
  const field = h("textarea", {
    rows: 2,
    dir: "auto",
    spellcheck: "false",
    "aria-label": "A text that the model continues",
    oninput,
  });
  const range = { type: "range", min: LEAST, max: MOST, step: 0.25, value: 1 };
  const slider = h("input", { ...range, "aria-label": "Times the maximum of the feature", oninput });

  function later() {
    const multiple = slider.valueAsNumber;
    newest++;
    doseText.textContent = `held at ${multiple} × its maximum`.replace("-", "−");
    slider.setAttribute("aria-valuetext", doseText.textContent);
    doses?.place(multiple);
    clearTimeout(timer);
    timer = setTimeout(write, PAUSE);
  }

  /* Only the answer to the last question is shown. */
  async function write() {
    const question = ++newest,
      multiples = { [latent]: slider.valueAsNumber };
    const asked = { prompt: field.value, multiples, n_tokens: N_TOKENS, temperature: TEMPERATURE, seed: 0 };
    texts.classList.add("waiting");
    try {
      const answer = await ask("steer", asked);
      if (question !== newest) return;
      texts.replaceChildren(...writtenElements(answer));
      texts.classList.remove("waiting");
    } catch (error) {
      if (question === newest) fail(error);
    }
  }

  function fail(error) {
    texts.classList.remove("waiting");
    showError(texts, error);
  }

  async function cost() {
    costs.replaceChildren(h("p.waiting", null, "Measuring what each dose costs …"));
    try {
      doses = charts(await ask("dose", { latent }));
      doses.place(slider.valueAsNumber);
      costs.replaceChildren(doses);
    } catch (error) {
      showError(costs, error);
    }
  }

  /* Continue another text, at the multiple that the server proposes for it. */
  async function begin(text) {
    const question = ++newest;
    field.value = text;
    texts.classList.add("waiting");
    try {
      const multiple = await ask("multiple", { text, latent });
      if (question !== newest) return;
      slider.value = multiple;
      later();
    } catch (error) {
      if (question === newest) fail(error);
    }
  }

  const beginnings = h(
    "p.beginnings",
    null,
    h("span.muted", null, "Continue "),
    h("button.more", { type: "button", onclick: () => begin(NEUTRAL) }, "a neutral text"),
    h("button.more", { type: "button", onclick: () => begin(opening(example)) }, "its strongest example"),
    h("span.muted", null, " or your own"),
  );
  begin(NEUTRAL);
  cost();
  const typed = h("div.typed", null, field, h("label.dose", null, slider, doseText));
  return h("div.steering", null, beginnings, typed, texts, costs);
}
