/* Lists of examples: a click opens the whole context of one, and how much of the text is shown is one choice for the
 * whole page. */

import { page } from "../data/files.js";
import { tokensOfSequence } from "../data/sequences.js";
import { word } from "../data/vocabulary.js";
import { closestTo, h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { senseMark } from "../elements/latents.js";
import { copyButtons } from "./copies.js";
import { NARROW, exampleText, tagsOf } from "./example_text.js";
import { isLoaded, loadExamples, placeOf, senseOf, sequenceOf, valueOf } from "./examples.js";
import { model } from "../model.js";
import { tokenElement } from "../text/tokens.js";

const { has_text: hasText } = page;
const WIDTHS = {
  line: ["One line", "the firing tokens in one column"],
  passage: ["Passage", "the text around, in its own lines"],
  whole: ["Whole", "all of the context"],
};
const FEW = 15;
const EARLY = 4; // tokens before a firing, up to which it stands further left on its line
let chosen = null; // of WIDTHS, for the whole page

/** How much of the text is shown of all features.
 * @type {() => string} */
export const widthChosen = () => chosen ?? (NARROW.matches ? "passage" : "line");

/* The whole context of one example, with the facts about it. */
function opened(one, most, latent, beside) {
  const next = hasText ? tokensOfSequence(sequenceOf(one))[placeOf(one) + 1] : undefined,
    text = exampleText(one, most, "whole", beside);
  const facts = h("p.about", null,
    hasText ? tagsOf(one) : null,
    h("span.muted", null, `sequence ${format.count(sequenceOf(one))}, position ${placeOf(one)}`),
    next === undefined ? null : h("span", null, h("span.muted", null, "next "), tokenElement(word(next))),
    copyButtons(() => [one], latent));
  model.showLosses?.(latent, one, text, facts);
  return h("div.whole", null, facts, text);
}

/** An activation, with as many decimals as the others in its list.
 * @type {(value: number, most: number) => string} */
export const writeActivation = (value, most) =>
  format.fixed(value, Math.min(Math.max(2 - Math.floor(Math.log10(most)), 0), 5));

/* One example of a latent, as `list` shows it. alike: examples that it represents; its button shows them below, further
 * in, and folds them again. */
function example(one, shown, alike = []) {
  const { latent, most, how, senses, beside, remarkOn } = shown;
  let isOpen = false;
  const value = writeActivation(valueOf(one), most),
    title = "open the whole context";
  const named = { type: "button", title, "aria-expanded": "false", "aria-label": `activation ${value}: ${title}` };
  const button = h("button.value", named, value);
  const place = h("div.place");
  const mark = senses.length ? h("span.of-sense") : null;
  const other = beside ? h("span.value", null, writeActivation(beside.valueOf(one), most)) : null;
  const scores = beside?.isFirst ? [other, button] : [button, other];
  const kind = mark ? "li.example.marked" : other ? "li.example.two-scores" : "li.example";
  const item = h(kind, { "data-row": one[1] }, scores, mark, place);
  const more = alike.length ? h("button.alike", { type: "button", onclick: turnAlike }) : null;
  let unfolded = [];
  const nameAlike = () => more?.replaceChildren(unfolded.length ? "fold" : `+${alike.length}`,
    h("span", null, " alike"));
  const draw = () => {
    if (!isLoaded(one)) return loadExamples([one]).then(draw);
    const k = senseOf(one, senses);
    if (mark && k >= 0) {
      item.dataset.sense = String(k);
      mark.replaceChildren(senseMark(k, "the sense that this token tells"));
    }
    place.replaceChildren(isOpen ? opened(one, most, latent, beside)
      : exampleText(one, most, how ?? widthChosen(), beside));
    if (more) place.append(more);
    if (remarkOn(one)) place.append(h("small.remark", null, remarkOn(one)));
  };
  function turnAlike(event) {
    event.stopPropagation();
    for (const each of unfolded) each.remove();
    unfolded = unfolded.length ? [] : alike.map((each) => example(each, shown));
    for (const each of unfolded) each.classList.add("folds");
    item.after(...unfolded);
    nameAlike();
  }
  item.addEventListener("click", (event) => {
    if (closestTo(event, "a, .about") || (event.target !== button && String(getSelection()))) return;
    isOpen = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    draw();
  });
  nameAlike();
  draw();
  return Object.assign(item, { draw });
}

/** The first `few` of some examples of a latent, with a button that shows the rest; the element's `show` shows some
 * of them.
 *
 * how: as wide as is chosen for the page, where it is not given. senses: those that the examples are marked with.
 * alikeOf: gives the examples that one stands for. remarkOn: a word that stands in the row of an example, if any.
 * beside: the activations of another feature at each and in its sequence, the largest, its name, whether all in a
 * sequence are stored, and whether it stands first.
 * @param {number} latent
 * @param {Feature} feature
 * @param {Example[]} examples
 * @param {{ few?: number, how?: string, senses?: Sense[], alikeOf?: (one: Example) => Example[],
 *   remarkOn?: (one: Example) => string | null, beside?: any }} options */
export function exampleList(latent, feature, examples, options = {}) {
  const { few = FEW, how, senses = [], alikeOf = () => [], remarkOn = () => null, beside } = options;
  const most = feature.facts.max || 1;
  const items = (some) =>
    some.map((one) => example(one, { latent, most, how, senses, beside, remarkOn }, alikeOf(one)));
  const isEarly = how === "line" && examples.every((one) => placeOf(one) <= EARLY);
  const kind = `ol.examples${hasText ? "" : ".inputs"}${isEarly ? ".early" : ""}`;
  const shown = h(kind, null, items(examples.slice(0, few)));
  if (examples.length <= few) return shown;
  let n = few;
  const onclick = () => show(examples.length)[0].querySelector("button").focus({ preventScroll: true });
  const more = h("button.more", { type: "button", onclick });
  /* Show the next ones, at most `some`, and return their elements. */
  function show(some) {
    const added = items(examples.slice(n, n + some));
    n += added.length;
    shown.append(...added);
    more.textContent = `${format.count(examples.length - n)} more`;
    if (n === examples.length) more.remove();
    return added;
  }
  show(0);
  return Object.assign(h("div", null, shown, more), { show });
}

/** How much of the text is shown, everywhere on the page.
 * @type {() => HTMLElement | null} */
export function widthButtons() {
  if (!hasText) return null;
  const choose = (width) => {
    chosen = width;
    for (const button of group.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(button.value === width));
    for (const item of document.querySelectorAll(".example")) item.draw?.();
  };
  const button = (name) => {
    const [label, title] = WIDTHS[name];
    const isChosen = String(name === widthChosen());
    const onclick = () => choose(name);
    return h("button", { type: "button", value: name, title, "aria-pressed": isChosen, onclick }, label);
  };
  const named = { role: "group", "aria-label": "How much of the text" };
  const group = h("span.widths", named, Object.keys(WIDTHS).map(button));
  return group;
}
