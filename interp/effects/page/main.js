/* The page of an attribution graph: layers upwards, tokens to the right. The address holds what the reader has chosen.
 * A served page (`data-live`) asks what the model says with latents turned off or up. */

import { draw, fade, reveal } from "./drawing.js";
import { edgeCard } from "./edge_card.js";
import { effectOf, effectText, strongestNodes } from "./effects.js";
import { element, the } from "./elements.js";
import { byId, logits, metadata, pairs } from "./graph.js";
import { groupList } from "./groups.js";
import { answerWord, plainButton } from "./links.js";
import { answerCard, nodeCard } from "./node_card.js";
import { endsOf, strongest } from "./paths.js";
import { begin, change, listen, pathsToAnswer, pin, state } from "./state.js";
import { showTrust } from "./trust.js";
import { percent, wordOf } from "./words.js";

const MOST_SAID = 2; // nodes of either sign in the sentence above the graph
const STEP = 5; // of the keys that draw more or fewer paths, in percent
const REST = 120; // milliseconds of the mouse on a node until its card is shown
const BESIDE = matchMedia("(min-width: 1101px)"); // as in page.css
let pointed = "";
let resting = 0;

function heading() {
  const [first, ...others] = metadata.prompt_tokens;
  const isSpecial = /^<\|.*\|>$/.test(first);
  const prompt = element("span", { class: isSpecial ? "muted" : "" }, first);
  the("prompt").replaceChildren(prompt, element("bdi", {}, others.join("")));
  the("next").replaceChildren(...logits.map((node) => {
    const { node_id: id, token_prob: probability } = node;
    const look = { "aria-pressed": String(id === state.answer), onclick: () => change({ answer: id, pinned: "" }) };
    return element("button", look, wordOf(node), element("span", { class: "muted" }, ` ${percent(probability)}`));
  }));
  the("through").replaceChildren(...mainEffects());
}

/* What raises the answer most, and what lowers it, in a sentence. */
function mainEffects() {
  const known = strongestNodes(state.answer).map((node) => ({ node, effect: effectOf(node, state.answer) }));
  const clause = (verb, among) =>
    among.length ? [` ${verb} most by `, ...among.slice(0, MOST_SAID).flatMap(valued)] : [];
  const valued = ({ node, effect }) =>
    [plainButton(node), ` ${effectText(effect, [node], state.answer)}\u2002`];
  const said = [...clause("raised", known.filter(({ effect }) => effect > 0)),
    ...clause("lowered", known.filter(({ effect }) => effect < 0))];
  return said.length ? [element("b", {}, `${answerWord()} is`), ...said, "nats"] : [];
}

/* The card of what is pinned, or else of what the mouse is on. */
function card() {
  const pair = pairs.get(state.pinned || pointed);
  const node = byId.get(state.pinned || pointed);
  const back = element("button", { class: "close", onclick: () => pin(""), "aria-label": "let go" }, "×");
  const parts = pair ? edgeCard(pair) : node ? nodeCard(node) : [];
  if (state.pinned) pointed = "";
  the("card").classList.toggle("pinned", Boolean(state.pinned));
  the("card").replaceChildren(...(state.pinned ? [back] : []), ...parts, ...answerCard(), ...groupList());
  the("card").scrollTop = 0;
}

/* Show the card of what the mouse rests on, where there is room for it beside the graph. */
function point(id) {
  clearTimeout(resting);
  if (state.pinned || !BESIDE.matches) return;
  resting = setTimeout(() => {
    pointed = id;
    if (!state.pinned) card();
  }, REST);
}

/* The next of the drawn nodes, by their influence on the answer. */
function walk(step) {
  const paths = pathsToAnswer();
  const influenceOf = (id) => paths.influence.get(id) ?? 0;
  const ids = [...endsOf(strongest(paths, state.cut / 100))].filter((id) => id !== state.answer);
  ids.sort((a, b) => influenceOf(b) - influenceOf(a));
  if (ids.length) pin(ids[(ids.indexOf(state.pinned) + step + ids.length) % ids.length]);
}

const more = (step) => change({ cut: Math.min(100, Math.max(STEP, state.cut + step)) });
const KEYS = {
  Escape: () => pin(""),
  j: () => walk(1),
  k: () => walk(-1),
  "+": () => more(STEP),
  "-": () => more(-STEP),
  e: () => change({ errors: !state.errors }),
  g: () => change({ merged: !state.merged }),
};

the("cut").addEventListener("input", ({ target }) => change({ cut: Number(target.value) }));
the("errors").addEventListener("change", ({ target }) => change({ errors: target.checked }));
the("merged").addEventListener("change", ({ target }) => change({ merged: target.checked }));
the("frame").addEventListener("scroll", fade);
the("frame").addEventListener("point", ({ detail }) => point(detail));
addEventListener("resize", draw);
addEventListener("keydown", (event) => {
  const isTyped = event.target instanceof Element && event.target.matches("textarea, [type=text]");
  if (!isTyped && !event.ctrlKey && !event.metaKey && !event.altKey) KEYS[event.key]?.();
});

begin();
for (const part of [heading, showTrust, draw, card]) listen(part);
listen((changed) => changed.includes("pinned") && reveal());
change({});
