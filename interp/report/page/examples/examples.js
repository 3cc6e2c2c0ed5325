/* Examples: firings of one latent, each [kind, row, labels, value, [pos, value, …]] (contexts.py). Where each lies,
 * which are alike, and which tell what a feature fires on. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { isInputLoaded, loadInputs } from "../data/inputs.js";
import { loadSequences, tokensOfSequence } from "../data/sequences.js";
import { word } from "../data/vocabulary.js";
import { tokensOfRule } from "../text/segments.js";

const { n_ctx, has_text: hasText, label_sets: labelSets } = page;
const N_ALIKE = 4; // tokens up to the firing one that two alike examples share
const N_CLOSE = 8; // tokens between two firings in one text up to which one is enough

/** @type {(one: Example) => number} */
export const valueOf = ([, , , value]) => value;
/** @type {(one: Example) => number} */
export const sequenceOf = ([, row]) => Math.floor(row / n_ctx);
/** @type {(one: Example) => number} */
export const placeOf = ([, row]) => row % n_ctx;
export const loadExamples = (examples) =>
  hasText ? loadSequences(examples.map(sequenceOf)) : loadInputs(examples.map(([, row]) => row));
export const isLoaded = (one) => (hasText ? tokensOfSequence(sequenceOf(one)) !== null : isInputLoaded(one[1]));

/** The activations of a latent in the sequence of an example, by their place: those of its own examples there, and
 * `value` where the example fires.
 * @type {(one: Example, own: Example[], value: number) => Map<number, number>} */
export function activationsIn(one, examples, value) {
  const sparse = examples.find((each) => sequenceOf(each) === sequenceOf(one))?.[4] ?? [];
  const active = new Map();
  for (let k = 0; k < sparse.length; k += 2) active.set(sparse[k], sparse[k + 1]);
  return active.set(placeOf(one), value);
}

export const textOfPieces = (pieces) => pieces.map((piece) => piece.text).join("");

/** @type {(one: Example) => string[]} */
export const labelsOf = (one) => labelSets[one[2] ?? -1] ?? [];

/** The firing token; −1 if its text is not loaded.
 * @type {(one: Example) => number} */
export const tokenOf = (one) => tokensOfSequence(sequenceOf(one))?.[placeOf(one)] ?? -1;

/** The firing token and those before it in the same sequence, or at its start as many of the first, which decide
 * whether two examples are alike; null if its text is not loaded.
 * @type {(one: Example) => string | null} */
export function passageOf(one) {
  const tokens = hasText ? tokensOfSequence(sequenceOf(one)) : null;
  const end = Math.max(placeOf(one) + 1, N_ALIKE);
  return tokens?.subarray(end - N_ALIKE, end).join(" ") ?? null;
}

/** Whether two examples are firings close to each other in one text.
 * @type {(one: Example, other: Example) => boolean} */
export const isClose = (one, other) =>
  hasText && sequenceOf(one) === sequenceOf(other) && Math.abs(one[1] - other[1]) <= N_CLOSE;

/** The index of the sense that the token of an example tells; −1 if it tells none.
 * @type {(one: Example, senses: Sense[]) => number} */
export const senseOf = (one, senses) => senses.findIndex(({ tokens }) => tokens.includes(tokenOf(one)));

/** Some firings that tell what a feature fires on, read, from the strongest: on different tokens, if it fires on
 * several, and first on those that its rule names. Of a feature of several senses as many of each, in their order.
 * @type {(latent: number, feature: Feature, most: number) => Promise<Example[]>} */
export async function tellingExamples(latent, { senses, examples }, most) {
  const byStrength = (a, b) => valueOf(b) - valueOf(a);
  if (!senses?.length) {
    const all = examples.toSorted(byStrength);
    if (!hasText) return all.slice(0, most);
    await loadExamples(all);
    const named = new Set(tokensOfRule(columns.rule[latent]).map(([text]) => text));
    const rankOf = (one) => {
      const isFirst = all.find((other) => tokenOf(other) === tokenOf(one)) === one;
      return !isFirst ? 2 : named.has(word(tokenOf(one))) ? 0 : 1;
    };
    const isNew = (one, k) => all.findIndex(([, row]) => row === one[1]) === k;
    const ranked = Map.groupBy(all.filter(isNew), rankOf);
    return /** @type {const} */ ([0, 1, 2]).flatMap((rank) => ranked.get(rank) ?? []).slice(0, most).sort(byStrength);
  }
  const strongest = examples.filter(([kind]) => kind < 0);
  const all = [...strongest, ...senses.flatMap((sense) => sense.examples)].sort(byStrength);
  await loadExamples(all);
  return senses.flatMap((_, k) => {
    const ofSense = all.filter((one) => senseOf(one, senses) === k);
    const isFirst = (/** @type {Example} */ [, row], at) => ofSense.findIndex(([, other]) => other === row) === at;
    return ofSense.filter(isFirst).slice(0, Math.ceil((most - k) / senses.length));
  });
}

export const byStrength = (a, b) => valueOf(b) - valueOf(a);

/** All stored examples, the strongest first, each once.
 * @type {(feature: { examples: Example[] }) => Example[]} */
export function storedExamples(feature) {
  const rows = new Set();
  const distinct = feature.examples.filter(([, row]) => !rows.has(row) && rows.add(row));
  return distinct.sort(byStrength);
}
