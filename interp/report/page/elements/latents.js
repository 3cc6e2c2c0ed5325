/* How a latent, its verdict and its senses are shown wherever they are named. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { isUnsure, verdictOf } from "../data/latents.js";
import { h } from "./elements.js";
import { format } from "./format.js";
import { term } from "./glossary.js";

const { sense_letters: letters } = page;

/** @type {(verdict: string) => string} */
export const hueOfVerdict = (verdict) => `var(--${verdict}, var(--unranked))`;

/** @type {(verdict: string) => HTMLElement} */
export const verdictElement = (verdict) =>
  h("span.verdict", { "--hue": hueOfVerdict(verdict) }, format.verdict(verdict));

/** The note after the verdict of an unsure latent; null for a sure one.
 * @type {(latent: number) => HTMLElement | null} */
export function unsureElement(latent) {
  const title = "the interval of its probability includes ½";
  return isUnsure(latent) ? h("span.muted", { title }, ", unsure") : null;
}

/** Its verdict, whether it is unsure, and the probability that it has one meaning.
 * @type {(latent: number) => (HTMLElement | null)[]} */
export function judgedElements(latent) {
  const one = columns.monosemanticity[latent];
  return [verdictElement(verdictOf(latent)), unsureElement(latent),
    one === null ? null : h("span.muted", { title: "probability of one meaning" }, ` ${format.fixed(one)}`)];
}

/** The same, with the meaning of the verdict.
 * @type {(verdict: string) => HTMLElement} */
export const verdictTerm = (verdict) =>
  h("span.verdict", { "--hue": hueOfVerdict(verdict) }, term(format.verdict(verdict)));

/** @type {(latent: number, ...text: Child[]) => HTMLElement} */
export const featureLink = (latent, ...text) =>
  h("a", { href: `#feature/${latent}` }, ...(text.length ? text : [String(latent)]));

/** A point with its interval on a line from 0 to 1.
 * @type {(at: number | null, low: number | null, high: number | null) => HTMLElement} */
export function intervalElement(at, low, high) {
  if (at === null || at === undefined) return h("span.muted", null, "–");
  const bounds = low === null || low === undefined ? "" : ` (${format.fixed(low)} to ${format.fixed(high)})`;
  const named = { "--at": at, "--low": low ?? at, "--high": high ?? at, title: format.fixed(at) + bounds };
  return h("span.interval", named, h("span.number", null, format.fixed(at)),
    h("span.track", { "aria-hidden": "true" }, h("i.range"), h("i.point")));
}

/** The letter of a sense; k: its index among the latent's senses.
 * @type {(k: number, meaning?: string) => HTMLElement} */
export const senseMark = (k, meaning) =>
  h("span.sense", { "data-sense": k, "data-tip": meaning, role: "img", "aria-label": `sense ${letters[k]}` },
    letters[k]);
