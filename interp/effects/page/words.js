/* Names of nodes and numbers, as they are written. */

import { cardOf, data, kindOf, metadata } from "./graph.js";

const FROM_RIGHT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;

/** White space as it is drawn in every token: ␣ a space, ↵ a line end, ⇥ a tab, ␣×7 seven spaces in a row. Around a
 * token that is written from right to left the text goes on from left to right. */
export function visible(token) {
  const drawn = token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ {3,}/g, ({ length }) => `␣×${length}`)
    .replaceAll(" ", "␣");
  return FROM_RIGHT.test(drawn) ? `\u2068${drawn}\u2069` : drawn;
}

/* "tokens 4 to 7 tokens into a sequence" with its subject once. */
const onceTokens = (name) => name.replace(/^tokens (?=[\w ]+ tokens? into)/, "");

/* A name with the white space of each token that it quotes; one of white space alone has its line ends written as a
 * rule does. */
export const quoting = (name) => onceTokens(name).replace(/"(.+?)"(?=$|[\s,;:.)])|“.*?”/gs, (quoted) =>
  visible(/^"(?:\\n|\s)+"$/.test(quoted) ? quoted.replaceAll("\\n", "\n") : quoted));

export const nameOf = (node) => quoting(node.clerp);
export const shortOf = (node) => quoting(data.here[node.node_id] ?? (cardOf(node)?.short || node.clerp));
export const wordOf = (node) => visible(node.clerp.replace(/^says “(.*)”$/s, "$1"));
export const numberOf = (node) => (kindOf(node) === "latent" ? `${node.node_id.split("_")[1]} ` : "");
export const tokenAt = (position) => `“${visible(metadata.prompt_tokens[position])}”`;
export const clipped = (text, most = 56) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** A number with two digits, and with more only if it is above 100. */
export function short(value) {
  if (value === undefined || value === null) return "";
  const size = Math.abs(value);
  return (size >= 100 ? value.toFixed(0) : size < 0.001 ? value.toFixed(3) : value.toPrecision(2)).replace("-", "−");
}

/** A number with its sign, and with two digits after the point if it is small. */
export function signed(value) {
  if (Math.abs(value) < 0.005) return "0.00";
  const text = Math.abs(value) < 1 ? value.toFixed(2).replace("-", "−") : short(value);
  return value > 0 ? `+${text}` : text;
}

/** @type {(share: number) => string} */
export const percent = (share) => (share > 0 && share < 0.005
  ? "under 1 %"
  : `${Math.round(100 * share)} %`.replace("-", "−"));

/** @type {(list: any[], value?: (each: any) => number) => number} */
export const sumOf = (list, value = Number) => list.reduce((sum, each) => sum + value(each), 0);
