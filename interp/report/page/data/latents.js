/* What the table says of each latent: its verdict, the label that it detects and the kind of text in which it fires. */

import { columns } from "./features.js";
import { page } from "./files.js";

const { names, verdicts, kind_counts: kindCounts } = page;
const N_COMMON_KINDS = 14;

/* How many latents have each verdict, and how many of them are unsure. */
export const verdictCounts = page.verdict_counts;

/** @type {(i: number) => string} */
export const verdictOf = (i) => names.verdict[columns.verdict[i]];

/** The groups of its verdict (verdict_looks.py); none of a verdict that another tool gave.
 * @type {(i: number) => Partial<VerdictLook>} */
const groupsOf = (i) => verdicts[verdictOf(i)] ?? {};

/** It does next to nothing: hidden unless asked for.
 * @type {(i: number) => boolean} */
export const isIdle = (i) => Boolean(groupsOf(i).idle);

/** Its verdict follows the probability, whose interval includes ½.
 * @type {(i: number) => boolean} */
export const isUnsure = (i) => columns.sure[i] === false && Boolean(groupsOf(i).by_probability);

/** Its firings have no meaning in common, but form no distinct parts.
 * @type {(i: number) => boolean} */
export const isInseparable = (i) => {
  const { by_probability: isByProbability, one_meaning: isOne } = groupsOf(i);
  return Boolean(isByProbability) && !isOne && columns.senses[i] === 1;
};

/** Its one meaning is its token, so no probability decides on it.
 * @type {(i: number) => boolean} */
export const isOfOneToken = (i) => Boolean(groupsOf(i).one_meaning) && !groupsOf(i).by_probability;
/** @type {(i: number) => string | null} */
export const labelOf = (i) => names.label[columns.label[i] ?? -1] ?? null;

/** The kind of text in which it fires half of the time or more.
 * @type {(i: number) => string | null} */
export const kindOf = (i) => names.kind[columns.kind[i] ?? -1] ?? null;
export const REST = ["other_kinds", "mixed_kinds"]; // the less common ones, and where none has half of the firings
/* The most common kinds of text, as many as can be told apart by their colours (map.js). */
export const commonKinds = kindCounts.slice(0, N_COMMON_KINDS).map(([kind]) => kind);

/** The same for colours: a common kind or one of REST.
 * @type {(kind: string | null) => string} */
export const inColours = (kind) => (kind === null ? REST[1] : commonKinds.includes(kind) ? kind : REST[0]);
/** @type {(i: number) => string} */
export const commonKindOf = (i) => inColours(kindOf(i));
