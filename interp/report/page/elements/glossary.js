/* The meanings of the page's own terms, and the tip that shows them: for a term that is pointed at, focused or tapped,
 * and for a token under the pointer its activation. The summary lists the terms. */

import { page } from "../data/files.js";
import { closestTo, h, the } from "./elements.js";
import { format } from "./format.js";

const { verdicts, has_text: hasText, names } = page;
const ofVerdicts = Object.values(verdicts).map(({ word: name, meaning }) => [name, `The verdict that ${meaning}.`]);
const ofOneMeaning = Object.values(verdicts).filter((one) => one.one_meaning).map(({ word: name }) => name);
const where = hasText ? "tokens" : "rows";
export const MEANINGS = {
  feature: "One latent of the dictionary with what is known about it: where it fires, what it predicts, its verdict. "
    + "A latent is a direction in the model's activations, and how strongly it is present at each token.",
  firing: "A token at which the feature's activation is above 0.",
  density: `The share of ${where} on which a feature fires.`,
  "one meaning": "All firings of the feature have something in common in the text: its verdict is "
    + `${ofOneMeaning.join(" or ")}.`,
  ...Object.fromEntries(ofVerdicts),
  unsure: "The 95 % interval of the probability of one meaning includes ½: the verdict is only the likelier of two.",
  sense: "A group of similar firings that differ from the other firings of the same feature.",
  learnt: "A feature is learnt if it more likely comes from a trained model than from one with random weights. Two "
    + "things count: its direct logit effects predict which token follows, and no feature of a random model's "
    + "dictionary fires as it does.",
  effect: "A feature has an effect if removing it raises the model's loss by more than an equally large change along "
    + "other features, and the 95 % interval of the difference lies above 0.",
  null: "The same measurement where there is nothing to find: a random decoder, a model with shuffled weights, "
    + "or text shifted against the activations. A number counts only as far as it exceeds its null.",
  z: "How many standard deviations a value lies above the mean of its null.",
  F1: "How well a rule or a label predicts where a feature fires: the harmonic mean of precision and recall, on text "
    + "that was not used to find the rule. 1 is perfect, 0 is useless.",
  "␣ ↵ ⇥": "White space as it is drawn in tokens: ␣ a space, ↵ a line end, ⇥ a tab; ␣×7 "
    + "stands for seven spaces in a row.",
  "…么 览": "In a dashed box: a part of a character, where a token holds only some of its bytes, with … where others "
    + "are missing. In it stand the commonest characters of which the token is a part in the text scanned, or else "
    + "the letters that it may begin or end, or its bytes and the script. The tip of a token has its bytes.",
  rule: "What the firings of a feature share, in words, found on one half of the text and scored on the other.",
  label: "A known property of the text itself, such as its language or the kind of a code token.",
  "direct logit effects": "How much the feature, at an activation of 1, raises or lowers the logit of each token by "
    + "the direct path to the unembedding, past all later layers.",
  "decoder cosine": "Cosine of two features' decoder directions: 1 for the same direction, 0 for unrelated ones.",
  Jaccard: "Of the tokens on which either of two features fires, the share on which both do.",
  lift: "How many times more often two features fire together than their densities alone would give.",
  contribution: "The share of the variance of the activations that is no longer explained without the feature.",
  L0: "How many features fire on a token, on average.",
  "cross-entropy recovered": "How well the model predicts with the dictionary's reconstruction in place of the "
    + "activations: 100 % is the model itself; 0 % is zeros in their place, or unigrams, whichever is better.",
  FVU: "Fraction of the variance of the activations that the dictionary leaves unexplained.",
};
const tip = the("#tip");
let shownOf = null;

/** tipped: a text with a meaning. term: a text with the meaning of a term of the list.
 * @type {(text: Child, meaning: string) => HTMLElement} */
export const tipped = (text, meaning) =>
  h("button.term", { type: "button", "data-tip": meaning, "aria-describedby": "tip" }, text);
/** @type {(name: string, text?: Child) => HTMLElement} */
export const term = (name, text = name) => tipped(text, MEANINGS[name]);

/** All terms, but for verdicts that no feature has.
 * @type {() => HTMLElement} */
export const glossaryList = () => {
  const absent = Object.keys(verdicts).filter((name) => !names.verdict.includes(name));
  const unused = new Set(absent.map((name) => verdicts[name].word));
  return h("dl.words", null, Object.entries(MEANINGS).filter(([name]) => !unused.has(name)).map(([name, meaning]) => (
    h("div", null, h("dt", null, name), h("dd", null, meaning)))));
};

const EDGE = 6; // pixels between a tip and the edge of the window
const SIGNS = [["space", "space"], ["line", "line end"], ["tabbed", "tab"]];

/* The tip of an element: the activation of its token, its amount of white space, its meaning. */
function describe(element) {
  const run = element.closest(".run");
  const n = Number(run?.dataset.n);
  const [, name] = SIGNS.find(([kind]) => run?.classList.contains(kind)) ?? [];
  const { value, tip: more } = element.closest("[data-value], [data-tip]")?.dataset ?? {};
  const parts = [value && format.significant(Number(value)), more, n > 1 ? `${n} ${name}s` : null];
  return parts.filter(Boolean).join(" · ");
}

function show(element) {
  const text = element ? describe(element) : "";
  tip.hidden = !text;
  shownOf = text ? element : null;
  if (!text) return;
  tip.textContent = text;
  tip.classList.toggle("meaning", element.matches(".term"));
  const box = element.getClientRects()[0];
  const left = box.left + (box.width - tip.offsetWidth) / 2;
  tip.style.left = `${Math.max(Math.min(left, innerWidth - tip.offsetWidth - EDGE), EDGE)}px`;
  const isRoom = box.top > tip.offsetHeight && !element.closest("header.feature"); // whose fields stand above
  tip.style.top = `${isRoom ? box.top - tip.offsetHeight : box.bottom}px`;
}

const described = (event) => closestTo(event, '[data-value], [data-tip]:not([data-tip=""]), .run');
document.addEventListener("pointerover", (event) => event.target !== tip && show(described(event)));
document.addEventListener("focusin", (event) => show(described(event)));
document.addEventListener("focusout", () => show(null));
document.addEventListener("click", (event) => closestTo(event, ".term") && show(described(event)));
document.addEventListener("scroll", () => show(null), true);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !shownOf?.matches(".term")) return;
  event.stopPropagation();
  show(null);
}, true);
