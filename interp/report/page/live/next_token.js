/* The model's prediction after the chosen token; a token of it can be chosen, to see what the features do to it. */

import { vocabulary, word } from "../data/vocabulary.js";
import { barCell, h, rowHead } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tokenElement } from "../text/tokens.js";

/* The token of a word with a space before it, as in a text, or else of the word alone; null if it is neither. */
function tokenOf(text) {
  const ids = [` ${text}`, text].map((wanted) => vocabulary.indexOf(wanted)).filter((token) => token >= 0);
  return ids[0] ?? null;
}

/** after: the chosen token. next: [token, probability], the likeliest first. output: the token whose effects are shown,
 * null if none is. onaim: called with the token that is chosen, or null.
 * @param {{ after: number, next: [number, number][], output: number | null,
 *   onaim: (token: number | null) => void }} prediction */
export function nextTokenElements({ after, next, output, onaim }) {
  const [[, most]] = next;
  const row = ([token, p]) => {
    const isAimed = token === output;
    const aim = {
      type: "button",
      title: isAimed ? "show how strongly features fire again" : "show what the features do to this token",
      "aria-pressed": String(isAimed),
      onclick: () => onaim(isAimed ? null : token),
    };
    return h("tr", null, rowHead(h("button.aim", aim, tokenElement(word(token)))), barCell(p / most),
      h("td", null, format.percent(p)));
  };
  const onchange = ({ target }) => {
    const token = target.value ? tokenOf(target.value) : null;
    target.setCustomValidity(target.value && token === null ? "This is not one token of the model" : "");
    if (target.reportValidity()) onaim(token);
  };
  const isOther = output !== null && next.every(([token]) => token !== output);
  const another = { type: "text", size: 9, spellcheck: "false", value: isOther ? word(output).trim() : "", onchange };
  return [
    h("h2", null, "After ", tokenElement(word(after))),
    h("table.logits.positive", null,
      h("caption", null, "The model's next token. Choose one to see which features bring it."),
      h("tbody", null, next.map(row))),
    h("label.another", null, "or another token ", h("input", another)),
  ];
}
