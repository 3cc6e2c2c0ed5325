/* "Try text": which features fire in a text as you type it, what each does to a next token, and what the model writes
 * with some of them held. */

import { page } from "../data/files.js";
import { isOfOneToken } from "../data/latents.js";
import { loadWords, word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { ask, showError } from "./ask.js";
import { edgesSection, readEdges } from "./edges.js";
import { heldElement, heldLatents, hold, textChanged } from "./held.js";
import { nextTokenElements } from "./next_token.js";
import { namedElements, rowsElement, valueText } from "./rows.js";
import { shadeElement } from "./strip.js";
import { joinBytes } from "../text/bytes.js";
import { spelled, tokenElement, visible } from "../text/tokens.js";

const { latents } = page;
const EXAMPLE = "Once upon a time, in the middle of the night,";
const PAUSE = 250;
const LEAST_P = 0.01; // of a chosen next token: one that a new text makes less likely is chosen no longer
const N_LISTED = 20; // features that matter at the chosen token, and as many others
/* The model's last answers: the tokens and what fires; the prediction after the token `at`, and what ablation does to
 * it; the effects on the token `output`, null if none is chosen. */
let read;
let prediction;
let effects = null;
let output = null;
let at;
/** @type {Record<string, any>} */
let parts;
let timer;
let isSingle = false;
let listed = N_LISTED;
let pointed = null;

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
    let isAnswered;
    while (waiting) {
      const newest = waiting;
      waiting = null;
      try {
        await newest(() => waiting !== null);
        isAnswered = true;
      } catch (error) {
        showError(parts.notice, error); // what the model last answered stays, and stays pale
        if (!read) parts.reading.replaceChildren();
        isAnswered = false;
      }
    }
    isAsking = false;
    parts.found.classList.toggle("stale", !isAnswered || read.text !== parts.field.value);
  };
})();

/* Read the text of the field. The chosen token stays chosen while the text up to it is unchanged; so does the end. */
async function readText(isOld) {
  const text = parts.field.value;
  try {
    const answer = await ask("read", { text });
    const before = read?.tokens ?? [];
    const isSame = at < before.length - 1 && answer.tokens.slice(0, at + 1).join() === before.slice(0, at + 1).join();
    await readToken({ text, ...answer }, isSame ? at : answer.tokens.length - 1, isOld);
  } finally {
    parts.field.dataset.read = text;
  }
}

/* Read what the features of one token do to the prediction after it, and those of all tokens to the chosen one. */
async function readToken(reading, position, isOld) {
  const { text } = reading;
  const answers = [ask("at", { text, position })];
  if (output !== null) answers.push(ask("effects", { text, position, token: output }));
  let [atToken, onOutput = null] = await Promise.all(answers);
  if (isOld()) return;
  if (onOutput && text !== read?.text && onOutput.p[onOutput.each ? position : 0] < LEAST_P) output = onOutput = null;
  read = reading;
  at = position;
  prediction = atToken;
  effects = onOutput;
  showAll();
  await readEdges(text, position, heldLatents());
}

const choose = (position) => put((isOld) => readToken(read, position, isOld));

/* Show the features' effects on a token, or, for null, how strongly they fire. */
function aim(token) {
  output = token;
  choose(at);
}

function showAll() {
  const { tokens, left_out: leftOut } = read;
  parts.notice.textContent = leftOut
    ? `The model reads ${format.count(tokens.length)} tokens: the first ${format.count(leftOut)} are left out.`
    : "";
  showText();
  showFeatures();
  shade();
  parts.next.replaceChildren(
    ...nextTokenElements({ after: read.tokens[at], next: prediction.next, output, onaim: aim }));
}

/* The features of the text (rows.js): those that are held; those that matter at the chosen token, which are all if
 * effects of all tokens on one prediction are shown; and the others, the most active first, without those of a single
 * token unless the user asks for them. nSingle: the number of these. */
function rows() {
  const changes = new Map(effects ? [] : prediction.features.map((change) => [change.latent, change]));
  const sum = (values) => Array.from(values.values()).reduce((total, value) => total + value, 0);
  const size = (values) => Array.from(values.values()).reduce((total, value) => total + Math.abs(value), 0);
  const isOfAll = effects && !effects.each;
  const row = (latent, places) => {
    const values = new Map(places);
    return { latent, values, amount: isOfAll ? sum(values) : values.get(at), change: changes.get(latent) };
  };
  const strengths = ([latent, strength, places]) => {
    const most = Math.max(...places.map(([, z]) => z));
    return row(latent, places.map(([position, z]) => [position, strength * z / most]));
  };
  const ofEffects = ([latent, , places]) => row(latent, places);
  const all = effects ? effects.features.map(ofEffects) : read.features.map(strengths);
  const isHeld = new Set(heldLatents());
  const held = heldLatents().map((latent) => all.find((one) => one.latent === latent) ?? row(latent, []));
  const free = all.filter(({ latent }) => !isHeld.has(latent));
  const kl = ({ change }) => change?.kl ?? -1;
  const here = free.filter(({ amount }) => amount !== undefined)
    .sort((a, b) => kl(b) - kl(a) || Math.abs(b.amount) - Math.abs(a.amount));
  const others = free.filter(({ amount }) => amount === undefined).sort((a, b) => size(b.values) - size(a.values));
  const elsewhere = others.filter(({ latent }) => isSingle || !isOfOneToken(latent));
  return { held, here, elsewhere, nSingle: others.filter(({ latent }) => isOfOneToken(latent)).length };
}

const largest = (values) => Math.max(...values.map(Math.abs), 1e-9);

/* What all features together do to the chosen output, by the token at which they fire. */
function effectsByToken() {
  const sums = new Map();
  for (const [, , places] of effects.features)
    for (const [position, effect] of places) sums.set(position, (sums.get(position) ?? 0) + effect);
  return sums;
}

/* Shade the text by the feature pointed at, or else by the one that is steered or is strongest at the chosen token, or
 * by all effects together. */
function shade() {
  const { held, here, elsewhere } = rows();
  const strongest = here.toSorted((a, b) => b.amount - a.amount);
  const row = pointed ?? (effects ? null : [...held, ...strongest, ...elsewhere].find(({ values }) => values.size));
  const values = row?.values ?? (effects ? effectsByToken() : new Map());
  const most = effects ? largest([...values.values()]) : 1;
  for (const piece of parts.reading.querySelectorAll(".piece")) {
    const ofTokens = piece.dataset.tokens.split(",").map((position) => values.get(Number(position)) ?? 0);
    const value = ofTokens.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
    shadeElement(piece, value, most, Boolean(effects));
    piece.dataset.tip = value ? `${valueText(value, Boolean(effects))} ${effects ? "nats" : "of its maximum"}` : "";
  }
  parts.key.replaceChildren(...key(row, most).flat());
  for (const line of parts.features.querySelectorAll("tr[data-latent]"))
    line.classList.toggle("shading", Number(line.dataset.latent) === row?.latent);
}

/* What the shades of the text mean. */
function key(row, most) {
  const ladder = (kind, from, to) => [`${from} `, h(`i.ladder.${kind}`), ` ${to}`];
  const named = row ? namedElements(row.latent) : ["the sum over all features"];
  if (!effects && !row) return ["No feature fires."];
  if (!effects) return [...ladder("strength", "0", "1, its maximum in the scan:"), ...named];
  const bound = format.significant(most, 2);
  const after = effects.each ? "each token" : tokenElement(word(read.tokens[at]));
  const meaning = h("span", null, "of log probability of ", tokenElement(word(output)), " after ", after, ":");
  return [...ladder("signed", `−${bound}`, `+${bound} nats`), meaning, ...named];
}

function point(row, position) {
  for (const piece of parts.reading.querySelectorAll(".piece"))
    piece.classList.toggle("pointed", piece.dataset.tokens.split(",").includes(String(position)));
  if (row === pointed) return;
  pointed = row;
  shade();
}

function showText() {
  const pieces = joinBytes(read.tokens.map(word));
  const isSpecial = (text) => /^<\|.*\|>$/.test(text);
  const piece = ({ text, tokens }) => [
    h(isSpecial(text) ? "button.token.piece.special" : "button.token.piece", {
      type: "button",
      dir: isSpecial(text) ? "ltr" : null, // its letters do not tell which way the text is read
      "data-tokens": tokens.join(","),
      "aria-pressed": String(tokens.includes(at)),
      "aria-label": text.trim() ? null : spelled(text),
      onclick: () => choose(tokens.at(-1)),
    }, visible(text, 3, true)),
    h(text.includes("\n") ? "br" : "wbr"),
  ];
  pointed = null;
  const text = h("div.text", { dir: "auto" }, pieces.map(piece));
  parts.reading.replaceChildren(text, parts.key);
  const chosen = /** @type {HTMLElement} */ (text.querySelector('[aria-pressed="true"]'));
  text.scrollTop = chosen.offsetTop - text.offsetTop - text.clientHeight / 2;
}

function showFeatures() {
  const { held, here, elsewhere, nSingle } = rows();
  const shown = [here, elsewhere].map((all) => all.slice(0, listed));
  const more = () => {
    listed = Infinity;
    showFeatures();
    shade();
  };
  const isOfAll = effects && !effects.each;
  const place = [isOfAll ? "Up to " : "At ", tokenElement(word(read.tokens[at])),
    h("span.muted", null, effects ? " – the largest effects first" : " – what changes the next token most first")];
  /** @type {any[]} */
  const groups = [["Steered", held], [place, shown[0]], ["Elsewhere in the text", shown[1]]];
  const drawn = [...held, ...shown.flat()];
  const most = effects ? largest(drawn.flatMap(({ values }) => [...values.values()])) : 1;
  const shape = { tokens: read.tokens, at, width: parts.features.clientWidth, groups, most, effects };
  const hidden = here.length + elsewhere.length - shown.flat().length;
  parts.features.replaceChildren(
    h("div.headed", null, h("h2", null, "Features"), modes(), nSingle ? singles(nSingle) : ""),
    drawn.length ? rowsElement({ ...shape, onchoose: choose, onpoint: point }) : h("p.missing", null, "None to show."),
    hidden ? h("button.more", { type: "button", onclick: more }, `${format.count(hidden)} more`) : "",
  );
}

/* Whether the features are shown by how strongly they fire, or by what they do to a next token. */
function modes() {
  const target = output ?? prediction.next[0][0];
  const button = (text, isPressed, onclick) =>
    h("button", { type: "button", "aria-pressed": String(isPressed), onclick: isPressed ? null : onclick }, text);
  return h("span.widths", { role: "group", "aria-label": "What is shown of the features" },
    button("Strength", !effects, () => aim(null)),
    button(["Effect on ", tokenElement(word(target))], Boolean(effects), () => aim(target)));
}

function singles(n) {
  const onchange = (event) => {
    isSingle = event.target.checked;
    showAll();
  };
  return h("label", null, h("input", { type: "checkbox", checked: isSingle, onchange }),
    ` ${format.count(n)} more elsewhere, of a single token`);
}

/* Write the held features into the address, and mark them. */
function showHeld() {
  const all = heldLatents();
  history.replaceState(null, "", all.length ? `#try/${all.join(",")}` : "#try");
  parts.beside.classList.toggle("holding", all.length > 0);
  if (!read) return;
  showFeatures();
  shade();
}

function build(section) {
  parts = {};
  for (const name of ["reading", "next", "features"]) parts[name] = h(`div.${name}`);
  parts.key = h("p.key.muted");
  parts.notice = h("div.notice", { role: "status" });
  const oninput = () => {
    clearTimeout(timer);
    parts.found.hidden = !parts.field.value;
    parts.found.classList.add("stale"); // until the model has read the text as it is now
    if (!parts.field.value) return parts.notice.replaceChildren("Type a text, to see which features fire in it.");
    timer = setTimeout(() => {
      put(readText);
      textChanged();
    }, PAUSE);
  };
  parts.field = h("textarea", { id: "typed", rows: 2, dir: "auto", spellcheck: "false", oninput });
  parts.field.value = EXAMPLE;
  parts.beside = h("div.beside", null, parts.next, heldElement(() => parts.field.value, showHeld));
  const tried = h("div.tried", null, h("div.listing", null, parts.features, edgesSection), parts.beside);
  parts.found = h("div.readout", null, parts.reading, tried);
  const label = h("label", { for: "typed" }, "A text for the model, read as you type; choose a token of it below");
  section.replaceChildren(h("div.typed", null, label, parts.field, parts.notice), parts.found);
  parts.reading.replaceChildren(h("p.waiting", null, "Running the model …"));
}

async function show(section, argument) {
  await loadWords();
  const isFirst = !parts;
  if (isFirst) build(section);
  const named = (argument ?? "").split(",").filter((text) => /^\d+$/.test(text) && Number(text) < latents);
  hold(named.map(Number));
  if (isFirst) put(readText);
  section.dataset.ready = "true";
}

export const tryText = { title: "Try text", show };
