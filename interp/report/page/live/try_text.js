/* "Try text": which features fire in a text as you type it, what each does to a next token, and what the model writes
 * with some of them held. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { isOfOneToken, verdictOf } from "../data/latents.js";
import { loadWords, vocabulary, word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tipped } from "../elements/glossary.js";
import { featureLink, hueOfVerdict, verdictElement } from "../elements/latents.js";
import { ask, showError } from "./ask.js";
import { edgesSection, readEdges } from "./edges.js";
import { grid, paintCell } from "./grid.js";
import { joinBytes } from "../text/bytes.js";
import { labelOrCaption } from "../text/captions.js";
import { textOfRule } from "../text/segments.js";
import { spelled, tokenElement, visible } from "../text/tokens.js";

const { latents } = page;
const EXAMPLE = "Once upon a time, in the middle of the night,";
const PAUSE = 250;
const N_LISTED = 20;
const LEAST_SHIFT = 0.001; // of a probability, and
const LEAST_KL = 0.01; // nats by which a prediction moves: what moves less is counted alone
const FIRST_MULTIPLE = 2;
const MOST_PINNED = 16;
const N_MOVED = 3; // tokens that a feature raises, and that it lowers
const KL_MEANS = "Kullback–Leibler divergence of the prediction without the feature from that with it, in nats";
/* Latent → the multiple of its maximum at which it is held while the model writes. */
const pinned = new Map();
/* The model's last answer: the tokens and what fires; the effects on the token `output`, null if none is chosen. */
let read;
let effects = null;
let output = null;
let at;
/** @type {Record<string, any>} */
let parts;
let timer;
let isSingle = false;
let listed = N_LISTED;

/* Single-token features are left out unless the user asks for them; pinned ones stay. */
const isShown = (latent) => isSingle || pinned.has(latent) || !isOfOneToken(latent);

/* Ask the model one question at a time; of those that arrive meanwhile, ask the newest next. A question is a function
 * that receives a way to learn whether a newer one is waiting. */
const put = (() => {
  let waiting = null;
  let isAsking = false;
  return async (question) => {
    waiting = question;
    if (isAsking) return;
    isAsking = true;
    parts.found.classList.add("stale");
    while (waiting) {
      const newest = waiting;
      waiting = null;
      try {
        await newest(() => waiting !== null);
      } catch (error) {
        showError(parts.reading, error);
        parts.there.replaceChildren();
        parts.features.replaceChildren();
      }
    }
    isAsking = false;
    parts.found.classList.remove("stale");
  };
})();

/* Read the text of the field. The chosen token stays chosen while the text up to it is unchanged; so does the end. */
async function readText(isOld) {
  const text = parts.field.value;
  try {
    const answer = await ask("read", { text });
    const before = read?.tokens ?? [];
    const isSame = at < before.length - 1 && answer.tokens.slice(0, at + 1).join() === before.slice(0, at + 1).join();
    read = answer;
    read.text = text;
    await readToken(isSame ? at : answer.tokens.length - 1, isOld);
  } finally {
    parts.field.dataset.read = text;
  }
}

/* Read what the features of one token do to the prediction after it, and those of all tokens to the chosen one. */
async function readToken(position, isOld) {
  at = position;
  const { text } = read;
  effects = output === null ? null : await ask("effects", { text, position, token: output });
  if (isOld()) return;
  showText();
  showFeatures();
  const answer = await ask("at", { text, position });
  if (isOld()) return;
  showToken(answer);
  await readEdges(text, position, pinned.keys());
}

const choose = (position) => put((isOld) => readToken(position, isOld));

/* Shade the text by the features' effects on a token, or, for null, by how strongly they fire. */
function aim(token) {
  output = token;
  choose(at);
}

const dot = (latent) =>
  h("i.dot", { "--hue": hueOfVerdict(verdictOf(latent)), title: format.verdict(verdictOf(latent)) });

/* What it fires on in a few words; pointing at it shows its whole rule. */
const ruleOf = (latent) =>
  h("span.rule", { title: textOfRule(columns.rule[latent]) || null }, labelOrCaption(latent));

const described = (latent) => [featureLink(latent), " ", dot(latent), " ", ruleOf(latent)];

function pinButton(latent) {
  const isPinned = pinned.has(latent);
  const isFull = !isPinned && pinned.size >= MOST_PINNED;
  const pins = isFull
    ? `${MOST_PINNED} features are pinned, which are the most: let one go first`
    : "keep it in the grid, and hold it while the model writes, below";
  const title = isPinned ? "let it go" : pins;
  const onclick = () => (pinned.has(latent) ? unpin(latent) : pin(latent));
  return h(
    "button.pin",
    {
      type: "button",
      "aria-pressed": String(isPinned),
      "aria-label": `Pin feature ${latent}`,
      title,
      disabled: isFull,
      "data-latent": latent,
      onclick,
    },
    isPinned ? "Pinned" : "Pin",
  );
}

/* One row per latent, the pinned first: [latent, Map of position → value]. A value is a share of the latent's
 * maximum, or an effect in nats. */
function rows() {
  const cells = new Map();
  if (effects) for (const [latent, , places] of effects.features) cells.set(latent, new Map(places));
  else
    for (const [latent, strength, places] of read.features) {
      const most = Math.max(...places.map(([, z]) => z));
      cells.set(latent, new Map(places.map(([position, z]) => [position, strength * z / most])));
    }
  const first = Array.from(pinned.keys(), (latent) => [latent, cells.get(latent) ?? new Map()]);
  const rest = Array.from(cells).filter(([latent]) => !pinned.has(latent) && isShown(latent));
  const mostOf = ([, values]) => largest([...values.values()]);
  return [...first, ...rest.sort((a, b) => mostOf(b) - mostOf(a))];
}

/* The value that shades a token: the strongest of the latents there, or the sum of their effects. */
function tokenValues(shown) {
  const values = new Array(read.tokens.length).fill(0);
  for (const [, strengths] of shown) {
    for (const [position, value] of strengths)
      values[position] = effects ? values[position] + value : Math.max(values[position], value);
  }
  return values;
}

const largest = (values) => Math.max(...values.map(Math.abs), 1e-9);

/* Shade the text by all rows, or by the one under the pointer. */
function shade(only) {
  const all = tokenValues(rows());
  const values = only ? tokenValues([[null, only]]) : all;
  const most = effects ? largest(all) : 1;
  for (const button of parts.reading.querySelectorAll(".piece")) {
    const ofTokens = button.dataset.tokens.split(",").map((position) => values[Number(position)]);
    const value = ofTokens.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
    paintCell(button, value, most, Boolean(effects));
    button.dataset.tip = value ? tip(value) : "";
  }
}

const tip = (value) =>
  effects ? `${value > 0 ? "+" : ""}${format.significant(value, 2)} nats` : `strength ${format.fixed(value)}`;

/* Describe the shades. */
function key() {
  const many = `${format.count(read.tokens.length)} tokens`;
  if (!effects) return [`${many}, shaded by the strongest of their features, or by the one that is pointed at.`];
  const where = effects.each ? "after the token that they fire on" : "after the chosen token";
  const p = effects.each ? effects.p[at] : effects.p[0];
  const how = effects.each
    ? "its log probability with a feature less that without it,"
    : "to first order (activation times gradient; ablation, as in “What fires here”, may differ),";
  return [
    h("span.key.raised", { "--shade": 0.7 }, "likelier"),
    " or ",
    h("span.key.lowered", { "--shade": 0.7 }, "less likely"),
    ": what the features do to ",
    tokenElement(word(output)),
    ` ${where} (here ${format.percent(p)}): ${how} ` +
      `up to ${format.significant(largest(tokenValues(rows())), 2)} nats together.`,
  ];
}

function showText() {
  const pieces = joinBytes(read.tokens.map(word));
  const piece = ({ text, tokens }) => {
    const isChosen = tokens.includes(at);
    const named = {
      "data-tokens": tokens.join(","),
      "aria-pressed": String(isChosen),
      "aria-label": text.trim() ? null : spelled(text),
    };
    return [
      h(/^<\|.*\|>$/.test(text) ? "button.token.piece.special" : "button.token.piece",
        { type: "button", ...named, onclick: () => choose(tokens.at(-1)) }, visible(text)),
      h("wbr"),
    ];
  };
  parts.reading.replaceChildren(h("div.text", { dir: "auto" }, pieces.map(piece)), h("p.muted.key", null, key()));
  shade();
  for (const button of parts.shades.children)
    button.setAttribute("aria-pressed", String((button.value === "effect") === (output !== null)));
}

function showFeatures() {
  const all = rows();
  const shown = all.slice(0, Math.max(listed, pinned.size));
  const most = effects ? largest(shown.flatMap(([, values]) => Array.from(values.values()))) : 1;
  const named = (latent) => [featureLink(latent), dot(latent), ruleOf(latent), pinButton(latent)];
  const unit = effects ? "nats" : "of its maximum";
  const scrolled = parts.features.querySelector(".gridded")?.scrollLeft ?? 0;
  const drawn = grid({
    tokens: read.tokens,
    rows: shown,
    most,
    isSigned: Boolean(effects),
    unit,
    named,
    onchoose: choose,
    onpoint: shade,
  });
  const onclick = () => {
    listed = all.length;
    showFeatures();
  };
  const more =
    all.length > shown.length
      ? h("button.more", { type: "button", onclick }, `${format.count(all.length - shown.length)} more`)
      : null;
  const nothing = all.length
    ? null
    : h(
        "p.missing",
        null,
        read.features.length
          ? "Only single-token features fire: show them with the switch above."
          : "No feature fires.",
      );
  parts.features.replaceChildren(
    h("h2", null, "Features by tokens"),
    nothing ?? h("div", null, legend(shown, most), drawn, more),
  );
  const chosen = drawn.querySelector(`th[data-position="${at}"]`);
  drawn.scrollLeft = Math.max(scrolled, chosen ? chosen.offsetLeft + chosen.offsetWidth - drawn.clientWidth : 0);
  for (const cell of drawn.querySelectorAll(`[data-position="${at}"]`)) cell.classList.add("at");
}

/* Explain the shade of a cell and the colours of the verdict dots. */
function legend(shown, most) {
  const verdicts = [...new Set(shown.map(([latent]) => verdictOf(latent)))];
  const ends = effects
    ? [`−${format.significant(most, 2)}`, `+${format.significant(most, 2)} nats`]
    : ["0", "1, its maximum in the scan"];
  return h(
    "p.legend",
    null,
    h("span", null, `${ends[0]} `, h(`i.ladder.${effects ? "signed" : "strength"}`), ` ${ends[1]}`),
    verdicts.map(verdictElement),
  );
}

function changes(kind, name, all) {
  const moved = all.filter(([, p, without]) => Math.abs(p - without) >= LEAST_SHIFT);
  if (!moved.length) return null;
  const change = ([token, p, without]) => [
    h(
      "span.change",
      null,
      tokenElement(word(token)),
      h("small", null, ` ${format.significant(100 * without, 2)} → ${format.percent(p)}`),
    ),
    " ",
  ];
  return h(`p.moved.${kind}`, null, h("span.muted", null, `${name} `), moved.slice(0, N_MOVED).map(change));
}

function showToken({ next, features }) {
  const most = Math.max(...next.map(([, p]) => p));
  const aimed = (token) => {
    const isAimed = token === output;
    const title = isAimed
      ? "shade by how strongly features fire again"
      : "shade by what the features do to this token";
    return h(
      "button.aim",
      { type: "button", title, "aria-pressed": String(isAimed), onclick: () => aim(isAimed ? null : token) },
      tokenElement(word(token)),
    );
  };
  const predicted = ([token, p]) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, aimed(token)),
      h("td.bar", { "--share": p / most }, h("i")),
      h("td", null, format.percent(p)),
    );
  const firing = ({ latent, activation, kl, raises, lowers }) =>
    h(
      "li",
      null,
      h(
        "div.what",
        null,
        h("div.named", null, described(latent)),
        changes("positive", "raises", raises),
        changes("negative", "lowers", lowers),
      ),
      h(
        "div.amount",
        null,
        h("span.kl", { "data-tip": "how far the prediction changes without it, in nats" }, format.significant(kl, 2)),
        " ",
        h("small", null, `at ${format.significant(activation)}`),
        pinButton(latent),
      ),
    );
  const known = features.filter(({ latent }) => isShown(latent));
  const shown = known.filter(({ kl }) => kl >= LEAST_KL);
  const few = known.length - shown.length;
  parts.there.replaceChildren(
    h("h2", null, "At ", tokenElement(word(read.tokens[at])), h("small", null, ` position ${at}`)),
    h(
      "table.logits.positive",
      null,
      h("caption", null, "The model's next token, and its probability; choose one to see what brings it"),
      h("tbody", null, next.map(predicted)),
    ),
    known.length
      ? h("div.headed", null, h("h3", null, "What fires here"),
        h("span.muted", null, "the prediction without it → with it, and their ", tipped("KL", KL_MEANS)))
      : h("p.missing", null, "No feature fires here."),
    h("ol.firing", null, shown.map(firing)),
    few ? h("p.muted", null, `${few} more with a KL below ${LEAST_KL} nats`) : null,
  );
}

function pin(latent) {
  if (pinned.size >= MOST_PINNED) return;
  if (!pinned.has(latent)) pinned.set(latent, FIRST_MULTIPLE);
  showPinned();
}

function unpin(latent) {
  pinned.delete(latent);
  showPinned();
}

/* Write the pinned features into the address. */
function showPinned() {
  const amount = (latent, multiple) =>
    h(
      "label",
      null,
      h("input", {
        type: "number",
        value: multiple,
        step: "0.5",
        min: -100,
        max: 100,
        required: true,
        oninput() {
          pinned.set(latent, this.valueAsNumber);
        },
      }),
      " × its maximum",
    );
  const full = h("li.muted", null, `No more than ${MOST_PINNED} can be pinned at a time.`);
  parts.pinned.replaceChildren(
    ...Array.from(pinned, ([latent, multiple]) =>
      h(
        "li",
        null,
        h("div.what.named", null, described(latent)),
        amount(latent, multiple),
        h("button", { type: "button", onclick: () => unpin(latent) }, "Let go"),
      ),
    ),
    ...(pinned.size < MOST_PINNED ? [] : [full]),
  );
  parts.sample.disabled = !pinned.size;
  showShelf();
  history.replaceState(null, "", pinned.size ? `#try/${Array.from(pinned.keys()).join(",")}` : "#try");
  if (!read) return;
  shade();
  showFeatures();
  for (const button of parts.there.querySelectorAll(".pin"))
    button.replaceWith(pinButton(Number(button.dataset.latent)));
}

/* Keep the numbers of the pinned features in sight, with the way to what can be done with them. */
function showShelf() {
  const numbers = Array.from(pinned.keys(), (latent) => [featureLink(latent), " "]);
  const steer = () => {
    parts.form.closest("section").scrollIntoView({ block: "start" });
    parts.form.requestSubmit();
  };
  const toEach = h("button", { type: "button", onclick: steer }, "Write with them held");
  const [one, other] = pinned.keys();
  const pair = pinned.size === 2 ? [h("a", { href: `#compare/${one}/${other}` }, "Compare")] : [];
  const clear = () => {
    pinned.clear();
    showPinned();
  };
  const toNone = h("button", { type: "button", onclick: clear }, "Let all go");
  const named = h("span", null, h("strong", null, "Pinned"), " ", numbers);
  parts.shelf.hidden = !pinned.size;
  parts.shelf.replaceChildren(named, toEach, ...pair, toNone);
}

function written(title, ids, prompt) {
  const kindOf = ({ tokens }) => (tokens[0] < prompt ? "span.token.muted" : "span.token");
  const token = (piece) => h(kindOf(piece), null, visible(piece.text, 3, true));
  return h(
    "div",
    null,
    h("h3", null, title),
    h("div.text.sampled", { dir: "auto" }, joinBytes(ids.map(word)).map(token)),
  );
}

async function sample() {
  if (!parts.form.reportValidity()) return;
  const value = (name) => parts.options[name].valueAsNumber;
  const asked = {
    prompt: parts.field.value,
    multiples: Object.fromEntries(pinned),
    n_tokens: value("tokens"),
    temperature: value("temperature"),
    seed: value("seed"),
  };
  parts.sample.disabled = true;
  parts.samples.replaceChildren(h("p.waiting", null, "Running the model …"));
  try {
    const { prompt, plain, steered } = await ask("steer", asked);
    parts.samples.replaceChildren(
      h(
        "div.pair",
        null,
        written("The unsteered model", plain, prompt),
        written("With the pinned features", steered, prompt),
      ),
    );
  } catch (error) {
    showError(parts.samples, error);
  }
  parts.sample.disabled = !pinned.size;
}

/* The token of a word with a space before it, as in a text, or else of the word alone; null if it is neither. */
function tokenOf(text) {
  const ids = [` ${text}`, text].map((wanted) => vocabulary.indexOf(wanted)).filter((token) => token >= 0);
  return ids[0] ?? null;
}

/* Buttons that choose what shades the text, and a field for a token that the list does not have. */
function shades() {
  const toEffect = () => {
    const first = parts.there.querySelector(".aim");
    if (output === null) first?.click();
  };
  const button = (value, text, title, onclick) =>
    h("button", { type: "button", value, title, "aria-pressed": String(value === "strength"), onclick }, text);
  parts.shades = h(
    "span.widths",
    { role: "group", "aria-label": "What shades the text" },
    button("strength", "Strength", "how strongly features fire, as a share of their maximum", () => aim(null)),
    button("effect", "Effect", "what features do to a next token", toEffect),
  );
  const onchange = (event) => {
    const field = event.target;
    const token = field.value ? tokenOf(field.value) : null;
    field.setCustomValidity(field.value && token === null ? "This is not one token of the model" : "");
    if (field.reportValidity()) aim(token);
  };
  const another = h("input", {
    type: "text",
    size: 9,
    spellcheck: "false",
    placeholder: "on a token",
    "aria-label": "Effect on the token",
    onchange,
  });
  return [h("span.muted", null, "Shade by"), parts.shades, another];
}

/* The field of the text, and what of it is shown. */
function textForm() {
  const oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => put(readText), PAUSE);
  };
  parts.field = h("textarea", { id: "typed", rows: 2, spellcheck: "false", oninput });
  parts.field.value = EXAMPLE;
  const single = h("input", {
    type: "checkbox",
    checked: isSingle,
    onchange() {
      isSingle = this.checked;
      if (read) choose(at);
    },
  });
  return h(
    "div.typed",
    null,
    h("label", { for: "typed" }, "A text for the model, read as you type"),
    parts.field,
    h("p.options", null, shades(), h("label", null, single, " features of a single token too")),
  );
}

/* The features that are held while the model writes, and how it writes. */
function heldForm() {
  const number = (name, value, min, max, step) =>
    h("input", { type: "number", name, value, min, max, step, required: true });
  const fields = {
    Tokens: number("tokens", 40, 1, 200, 1),
    Temperature: number("temperature", 1, 0, 10, "any"),
    Seed: number("seed", 0, 0, 2 ** 31 - 1, 1),
  };
  const feature = h("input", {
    type: "number",
    min: 0,
    max: latents - 1,
    step: 1,
    placeholder: "number",
    title: `0 to ${latents - 1}`,
  });
  const add = () => {
    if (!feature.value || !feature.reportValidity()) return;
    pin(feature.valueAsNumber);
    feature.value = "";
  };
  parts.options = Object.fromEntries(Object.values(fields).map((field) => [field.name, field]));
  parts.pinned = h("ul.firing.pinned", null);
  parts.sample = h("button", { type: "submit" }, "Write");
  const onsubmit = (event) => {
    event.preventDefault();
    sample();
  };
  return h(
    "form.hold",
    { onsubmit },
    parts.pinned,
    h(
      "p.options",
      null,
      h("label", null, "Feature ", feature),
      h("button", { type: "button", onclick: add }, "Pin"),
      Object.entries(fields).map(([name, field]) => h("label", null, `${name} `, field)),
      parts.sample,
    ),
  );
}

function build(section) {
  parts = {};
  for (const name of ["reading", "there", "features"]) parts[name] = h(`div.${name}`);
  parts.samples = h("div.samples", { "aria-live": "polite" });
  parts.form = heldForm();
  const hold = h(
    "section.held",
    { "aria-label": "Hold pinned features" },
    h("h2", null, "Hold pinned features while it writes"),
    h(
      "p.muted",
      null,
      "The model continues the text above twice: unsteered, and with the pinned features held at a multiple of " +
        "their maximum. Both are drawn with the same seed.",
    ),
    parts.form,
    parts.samples,
  );
  const left = h("div", null, parts.features, hold, edgesSection);
  parts.found = h("div.readout", null, parts.reading, h("div.split", null, left, parts.there));
  parts.shelf = h("div.shelf", { role: "region", "aria-label": "Pinned features", hidden: true });
  section.replaceChildren(
    textForm(),
    parts.found,
    parts.shelf,
  );
  parts.reading.replaceChildren(h("p.waiting", null, "Running the model …"));
}

async function show(section, argument) {
  await loadWords();
  const isFirst = !parts;
  if (isFirst) build(section);
  const named = (argument ?? "").split(",").filter((text) => /^\d+$/.test(text) && Number(text) < latents);
  for (const text of named) pin(Number(text));
  showPinned();
  if (isFirst) put(readText);
  section.dataset.ready = "true";
}

export const tryText = { title: "Try text", show };
