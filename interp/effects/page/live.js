/* Latents turned off or up, on a served page: the model says what comes next. */

import { element, the } from "./elements.js";
import { change, state } from "./state.js";
import { short, visible } from "./words.js";

/** A slider for the strength of some latents; nothing where no model answers. */
export function strengthSlider(name, ids) {
  if (!("live" in document.body.dataset) || !ids.length) return [];
  const now = state.times[ids[0]] ?? 1;
  const output = element("output", {}, `× ${now}`);
  const oninput = () => output.replaceChildren(`× ${bar.value}`);
  const onchange = () => multiply(Object.fromEntries(ids.map((id) => [id, Number(bar.value)])));
  const look = { type: "range", min: 0, max: 4, step: 0.25, value: now, "aria-label": `${name}, times` };
  const bar = element("input", { ...look, oninput, onchange });
  return [element("label", { class: "times" }, name, " ", bar, " ", output)];
}

async function multiply(factors) {
  const times = Object.fromEntries(Object.entries({ ...state.times, ...factors }).filter(([, value]) => value !== 1));
  change({ times });
  const asked = JSON.stringify({ times });
  const now = the("now");
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await fetch("/api/change", { method: "POST", headers, body: asked });
    const { next, error } = await answer.json();
    if (times !== state.times) return; // the slider has moved since
    const inPercent = (share) => `${short(100 * share)} %`;
    const words = next?.map(([word, before, after]) => `${visible(word)} ${inPercent(before)} → ${inPercent(after)}`);
    now.replaceChildren(error ?? `now ${words.join(" · ")} `);
    const ids = Object.keys(times);
    const reset = () => multiply(Object.fromEntries(ids.map((id) => [id, 1])));
    if (ids.length) now.append(element("button", { onclick: reset }, "as it was"));
  } catch {
    now.textContent = "the server does not answer";
  }
}
