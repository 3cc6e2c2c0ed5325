/* The features that are held while the model continues the text: at which multiples, and what it writes. */

import { page } from "../data/files.js";
import { h } from "../elements/elements.js";
import { featureLink } from "../elements/latents.js";
import { ask, showError } from "./ask.js";
import { writtenElements } from "./written.js";
import { labelOrShort } from "../text/captions.js";

const { latents } = page;
const PAUSE = 250;
const MOST_HELD = 16;
/* Latent → the multiple of its maximum at which it is held; null until the server answers which. */
const held = new Map();
/** @type {Record<string, any>} */
const parts = {
  list: h("ul.heldlist"),
  texts: h("div.texts", { "aria-live": "polite" }),
  names: h("span.names"),
  fold: h("button.fold", { type: "button", onclick: () => unfold(!parts.section.classList.contains("open")) }),
};
let textOf;
let onchange;
let timer;
let newest = 0;
let refusal = ""; // of the features that were to be held last

export const heldLatents = () => Array.from(held.keys());

/** A button that holds a feature, or lets it go.
 * @type {(latent: number) => HTMLElement} */
export function holdButton(latent) {
  const isHeld = held.has(latent);
  const isFull = !isHeld && held.size >= MOST_HELD;
  const title = isFull
    ? `${MOST_HELD} features are held, which are the most: let one go first`
    : "hold it at a multiple of its maximum while the model continues the text";
  return h("button.hold", {
    type: "button",
    "aria-pressed": String(isHeld),
    "aria-label": `Steer with feature ${latent}`,
    title: isHeld ? "let it go" : title,
    disabled: isFull,
    onclick: () => (held.has(latent) ? release([latent]) : hold([latent])),
  }, "Steer");
}

/** Hold features, each at the multiple that the server proposes for the text.
 * @type {(all: number[]) => Promise<void>} */
export async function hold(all) {
  const added = all.filter((latent) => !held.has(latent)).slice(0, MOST_HELD - held.size);
  for (const latent of added) held.set(latent, null);
  refusal = "";
  show();
  for (const latent of added) {
    try {
      const multiple = await ask("multiple", { text: textOf(), latent });
      if (held.get(latent) === null) held.set(latent, multiple);
    } catch (error) {
      held.delete(latent);
      refusal = error.message;
    }
  }
  if (!added.length) return;
  if (refusal) show();
  else showList();
  writeSoon();
}

function release(all) {
  for (const latent of all) held.delete(latent);
  refusal = "";
  show();
  writeSoon();
}

function show() {
  showList();
  onchange();
}

function showList() {
  const multiple = (latent) => {
    const oninput = (event) => {
      held.set(latent, event.target.valueAsNumber);
      writeSoon();
    };
    const bounds = { value: held.get(latent) ?? 1, step: 0.25, min: -100, max: 100, required: true };
    return h("label", null, h("input", { type: "number", ...bounds, oninput }), " × its maximum");
  };
  const row = (latent) => h("li", null,
    featureLink(latent), h("span.rule", null, labelOrShort(latent)), multiple(latent),
    h("button", { type: "button", "aria-label": `Let feature ${latent} go`, onclick: () => release([latent]) }, "×"));
  const [one, other] = heldLatents();
  const how = "Press Steer at a feature: the model continues the text with it held at a multiple of its maximum.";
  const few = held.size ? null : h("li.muted", null, how);
  const full = held.size < MOST_HELD ? null : h("li.muted", null, `No more than ${MOST_HELD} can be held at a time.`);
  const compare = h("li", null, h("a", { href: `#compare/${one}/${other}` }, "Compare the two"));
  const refused = refusal ? h("li.missing", { role: "alert" }, `${refusal}.`) : null;
  const all = [few, ...heldLatents().map(row), full, held.size === 2 ? compare : null, refused];
  parts.list.replaceChildren(...all.filter(Boolean));
  parts.names.replaceChildren(...heldLatents().flatMap((latent) =>
    [featureLink(latent), " ", h("span.rule", null, labelOrShort(latent)), " "]));
  if (refusal) unfold(true);
}

/* In a narrow window the form is folded below its head, or shown. */
function unfold(isOpen) {
  parts.section.classList.toggle("open", isOpen);
  parts.fold.setAttribute("aria-expanded", String(isOpen));
  parts.fold.textContent = isOpen ? "Hide" : "Show";
}

function writeSoon() {
  clearTimeout(timer);
  timer = setTimeout(write, PAUSE);
}

/** Continue another text with the features that are held. */
export function textChanged() {
  if (!held.size) return;
  parts.texts.classList.add("waiting");
  writeSoon();
}

/* Continue the text. Only the answer to the last question is shown. */
async function write() {
  const question = ++newest;
  if (!held.size) return parts.texts.replaceChildren();
  if (!parts.form.reportValidity()) return;
  const value = (name) => parts.form.elements[name].valueAsNumber;
  const asked = {
    prompt: textOf(),
    multiples: Object.fromEntries(Array.from(held).filter(([, multiple]) => multiple !== null)),
    n_tokens: value("tokens"),
    temperature: value("temperature"),
    seed: value("seed"),
  };
  parts.texts.classList.add("waiting");
  try {
    const answer = await ask("steer", asked);
    if (question === newest) parts.texts.replaceChildren(...writtenElements(answer));
  } catch (error) {
    if (question === newest) showError(parts.texts, error);
  }
  if (question === newest) parts.texts.classList.remove("waiting");
}

/* A feature by its number, and how the model writes. */
function settings() {
  const number = (name, value, min, max, step) =>
    h("input", { type: "number", name, value, min, max, step, required: true, oninput: writeSoon });
  const fields = {
    Tokens: number("tokens", 40, 1, 200, 1),
    Temperature: number("temperature", 0.7, 0, 10, "any"),
    Seed: number("seed", 0, 0, 2 ** 31 - 1, 1),
  };
  const last = latents - 1;
  const feature = h("input", { type: "number", min: 0, max: last, step: 1, placeholder: `0 to ${last}` });
  const add = () => {
    if (!feature.value || !feature.reportValidity()) return;
    hold([feature.valueAsNumber]);
    feature.value = "";
  };
  return h("details", null,
    h("summary", null, "A feature by its number, and how the model writes"),
    h("p.options", null,
      h("label", null, "Feature ", feature),
      h("button", { type: "button", onclick: add }, "Steer"),
      Object.entries(fields).map(([name, field]) => h("label", null, `${name} `, field))));
}

/** The form and the texts. text: the text to continue. changed: called when another set of features is held.
 * @type {(text: () => string, changed: () => void) => HTMLElement} */
export function heldElement(text, changed) {
  textOf = text;
  onchange = changed;
  const onsubmit = (event) => {
    event.preventDefault();
    write();
  };
  const again = h("button.again", { type: "submit" }, "Write again");
  parts.form = h("form", { onsubmit }, parts.list, parts.texts, settings(), again);
  parts.section = h("section.held", { "aria-label": "Steer" },
    h("div.heldhead", null, h("h2", null, "Steer"), parts.names, parts.fold), parts.form);
  unfold(false);
  return parts.section;
}
