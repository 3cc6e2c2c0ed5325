/* What the model writes without and with held features, and how far holding them moves its predictions. */

import { word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tipped } from "../elements/glossary.js";
import { joinBytes } from "../text/bytes.js";
import { visible } from "../text/tokens.js";

const N_BEFORE = 12; // tokens of the text that is continued
const KL_MEANS =
  "Kullback–Leibler divergence of the prediction with the features held from that without, in nats: its mean over " +
  "the tokens of the text that is continued.";

/* The tokens of one text that are not in its longest common subsequence with the other. */
function changed(before, after) {
  const length = Array.from({ length: before.length + 1 }, () => new Array(after.length + 1).fill(0));
  for (let i = before.length - 1; i >= 0; i--) {
    for (let k = after.length - 1; k >= 0; k--) {
      length[i][k] = before[i] === after[k] ? length[i + 1][k + 1] + 1 : Math.max(length[i + 1][k], length[i][k + 1]);
    }
  }
  const [lost, won] = [new Set(), new Set()];
  for (let i = 0, k = 0; i < before.length || k < after.length;) {
    if (i < before.length && k < after.length && before[i] === after[k]) [i, k] = [i + 1, k + 1];
    else if (k < after.length && (i === before.length || length[i][k + 1] >= length[i + 1][k])) won.add(k++);
    else lost.add(i++);
  }
  return [lost, won];
}

function textElement(title, ids, prompt, marks, kind) {
  const start = Math.max(prompt - N_BEFORE, 0);
  const kindOf = ({ tokens: [first] }) =>
    first < prompt - start ? ".muted" : marks.has(first + start - prompt) ? kind : "";
  const token = (piece) => h(`span.token${kindOf(piece)}`, null, visible(piece.text, 3, true));
  const pieces = joinBytes(ids.slice(start).map(word)).map(token);
  return h("div.written", null, h("h3", null, title), h("div.text", { dir: "auto" }, start ? "… " : "", pieces));
}

/** @typedef {{ prompt: number, plain: number[], steered: number[], kl: number, is_far: boolean }} Steering */

/** Both texts, with the tokens marked in which they differ.
 * @type {(answer: Steering) => HTMLElement[]} */
export function writtenElements({ prompt, plain, steered, kl, is_far: isFar }) {
  const [lost, won] = changed(plain.slice(prompt), steered.slice(prompt));
  const far = isFar ? h("strong", null, " – far from what the model writes: expect noise") : null;
  return [
    h("p.muted", null, "Steering moves the predictions by ", tipped("KL", KL_MEANS),
      ` ${format.significant(kl, 2)} nats a token`, far),
    textElement("Steered", steered, prompt, won, ".won"),
    textElement("Unsteered", plain, prompt, lost, ".lost"),
  ];
}
