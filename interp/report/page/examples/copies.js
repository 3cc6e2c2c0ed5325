/* Buttons that copy: a text, or examples as text and as JSON. */

import { page } from "../data/files.js";
import { inputName } from "../data/inputs.js";
import { tokensOfSequence } from "../data/sequences.js";
import { word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { AROUND } from "./example_text.js";
import { activationsIn, labelsOf, loadExamples, placeOf, sequenceOf, textOfPieces, valueOf } from "./examples.js";
import { joinBytes } from "../text/bytes.js";

const { has_text: hasText } = page;

/** The facts about an example whose text is loaded, for its copy.
 * @type {(one: Example, latent: number) => Record<string, any>} */
function described(one, latent) {
  const place = placeOf(one);
  const where = { latent, sequence: sequenceOf(one), position: place, labels: labelsOf(one) };
  const known = { ...where, activation: valueOf(one) };
  if (!hasText) return known;
  const tokens = Array.from(tokensOfSequence(sequenceOf(one)), word);
  const active = activationsIn(one, [one], valueOf(one));
  return { ...known, token: tokens[place], tokens, activations: tokens.map((_, k) => active.get(k) ?? 0) };
}

/* One example per line, with the firing token in guillemets. */
function asText(one, latent) {
  if (!hasText) return `${format.significant(valueOf(one))}\t${inputName(one[1])}`;
  const { tokens, position, activation } = described(one, latent),
    [before, after] = AROUND.passage;
  const text = (from, to) => textOfPieces(joinBytes(tokens.slice(Math.max(from, 0), to))).replaceAll("\n", "↵");
  const [left, right] = [text(position - before, position), text(position + 1, position + after + 1)];
  return `${format.significant(activation)}\t${left}⟦${text(position, position + 1)}⟧${right}`;
}

/** A button that copies the text that `write` returns.
 * @type {(text: string, write: () => string | Promise<string>) => HTMLButtonElement} */
export const copyButton = (label, write) => h("button", { type: "button", async onclick({ target }) {
  await copied(await write());
  target.textContent = "Copied";
  setTimeout(() => { target.textContent = label; }, 1200);
} }, label);

/** Buttons that copy what `listed` returns, as text and as JSON.
 * @type {(listed: () => Example[], latent: number) => HTMLElement} */
export function copyButtons(listed, latent) {
  const button = (label, write) => copyButton(label, async () => {
    const examples = listed();
    await loadExamples(examples);
    return write(examples);
  });
  return h("span.copies", { role: "group", "aria-label": "Copy" },
    button("Copy text", (all) => all.map((one) => asText(one, latent)).join("\n")),
    button("JSON", (all) => JSON.stringify(all.map((one) => described(one, latent)), null, 1)));
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // if a browser gives no clipboard to a page on disk
    const field = h("textarea", { "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}
