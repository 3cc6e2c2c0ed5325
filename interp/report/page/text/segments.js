/* Segments, of which captions are made (segments.py, captions.py): a string of words, a token as an array, or an object
 * whose first key is the kind of its part. Here they are drawn, and written as text. */

import { columns } from "../data/features.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { term } from "../elements/glossary.js";
import { senseMark } from "../elements/latents.js";
import { directionOf, meaningOf, partElement } from "./bytes.js";
import { scriptOf } from "./letters.js";
import { visible } from "./tokens.js";

export const CLEAR_F1 = 0.6; // from which on what names a feature stands in bold
const LONG = 40; // letters of a rule from which a line may cut it, so that it has a tip
const LONG_TOKEN = 24; // letters of a token that may be parted between two lines
export const JOINED = "\u00a0"; // a space at which no line ends
/** @type {(segment: unknown) => segment is [any, any?, any?]} */
const isToken = (segment) => Array.isArray(segment);

/** Segments as elements. how: latent: of which they are; isWhole: lists are drawn whole; isButton: a button shows all
 * of a list, that of the rule; isTitle: the numbers of senses are told.
 * @type {(segments: Segment[], how?: { latent?: number, rule?: Rule, isWhole?: boolean, isButton?: boolean,
 *   isTitle?: boolean }) => Child[]} */
export const drawSegments = (segments, how = {}) => segments.map((one) =>
  (typeof one === "string" ? one : isToken(one) ? quotedToken(one) : part(...Object.entries(one)[0], one, how)));

function part(kind, content, one, how) {
  switch (kind) {
    case "groups": return groupsOf(one, how);
    case "rule": return ruleElement(content || columns.rule[how.latent], how);
    case "senses": return content.map(([named, share, f1], k) =>
      ofSense(k, ruleElement(named, how), how.isTitle ? numbersOfSense(share, f1) : null));
    case "more_senses": return h("span.muted.further", null, ` and ${content.length} more`);
    case "sense": return ofSense(content[0], drawSegments(content[1], how));
    default: return h(`span.${kind}`, null, kind === "label" ? content : drawSegments(content, how));
  }
}

function numbersOfSense(/** @type {number | null} */ share, /** @type {number | null} */ f1) {
  const ofShare = share === null ? null : `${format.percent(share)} of activation`;
  const parts = [ofShare, f1 === null ? null : `F1 ${format.fixed(f1)}`];
  return h("small", null, JOINED, parts.filter(Boolean).join(", "));
}

/** How well what is said before it detects the firings.
 * @type {(f1: number | null) => Child} */
export const f1Element = (f1) => (f1 === null ? null
  : h("small", null, f1 < CLEAR_F1 ? " rough, " : " ", term("F1"), ` ${format.fixed(f1)}`));

const ofSense = (k, ...content) => h("span.of-lead", null, senseMark(k), JOINED, content);

/** What describes a sense: its rule if that holds, else what its firings share.
 * @type {(sense: Sense) => Rule} */
export const ruleOfSense = ({ rule, holds, common }) => (holds ? rule : common[0] ?? []);

/** A rule in short, with all of it as its tip where a line may cut it.
 * @type {(rule: Rule, how?: { isButton?: boolean }) => HTMLElement} */
export function ruleElement(rule, { isButton = false } = {}) {
  const all = textOfRule(rule);
  const isCut = rule.some((one) => typeof one !== "string" && !isToken(one)) || all.length > LONG;
  return h("span.shortened", { title: isCut ? all : null },
    h("bdi.quoting", null, drawSegments(rule, { isButton, rule })));
}

/** All of a rule.
 * @type {(rule: Rule) => HTMLElement} */
export const wholeRule = (rule) => h("bdi.quoting", null, drawSegments(rule, { isWhole: true }));

/* A list in groups: of each its name, its first tokens and how many more there are. */
function groupsOf({ groups, like }, { isWhole, isButton, rule }) {
  const listed = (tokens, last) => tokens.map((token, k) =>
    [k ? (last && k === tokens.length - 1 ? " or " : ", ") : null, quotedToken(token)]);
  if (isWhole) return [like ? "tokens like " : null, listed(groups.flatMap(([, tokens]) => tokens), true)];
  return groups.map(([name, tokens, n], k) => [
    k ? " or " : null,
    name && n ? `${name} ` : name,
    h(name && n ? "span.of-script" : "span", null, listed(tokens.slice(0, n))),
    n && tokens.length > n ? further(tokens.length - n, isButton ? rule : null) : null,
  ]);
}

/* How many more tokens there are; if the rule is known, it is a button that shows all of it. */
function further(n, rule) {
  if (!rule) return [" ", h("span.muted", null, `+${n}`)];
  const onclick = ({ target }) => {
    target.closest(".title > div")?.classList.add("whole");
    target.closest(".shortened").replaceWith(wholeRule(rule));
  };
  return [" ", h("button.link", { type: "button", title: "all of the rule", onclick }, `+${n}`)];
}

/* A token of a rule, by its name if it has one. It keeps its writing direction to itself, and its white space is
 * drawn, since a page folds it: what is copied is the token in quotes. White space needs no quotes, and a token that
 * has quotes itself stands in a box instead. */
function quotedToken(/** @type {RuleToken} */ [text, drawnBy]) {
  if (typeof drawnBy === "string") return drawnBy; // its name
  if (drawnBy) return inWords(text, drawnBy);
  const quote = (isDrawn) => (isDrawn ? '"' : h("span.exact", null, '"'));
  const isBlank = !text.trim();
  const isBoxed = text.includes('"'); // beside which further quotes are hard to tell
  const script = scriptOf(text);
  const named = { "data-script": script, dir: script ? "ltr" : null };
  const look = isBlank ? ".blank" : isBoxed ? ".token" : /^\p{M}/u.test(text) ? ".combining" : "";
  const kind = text.length > LONG_TOKEN ? "bdi" : `bdi.short${look}`;
  const isQuoted = !isBlank && !isBoxed;
  return [quote(isQuoted), h(kind, named, visible(text, 1)), quote(isQuoted)];
}

/* A token with parts of characters: each part as its label, in a box, and then what these are in words. */
function inWords(text, /** @type {any[]} */ pieces) {
  const parts = pieces.filter((piece) => typeof piece !== "string");
  const words = parts.map(([, each]) => each).join(" and ");
  const hasLetters = pieces.length > 1;
  return h("bdi.in-words", { dir: "ltr" },
    h("bdi.token", { dir: directionOf(text, parts), "data-tip": meaningOf(text, parts) },
      pieces.map((piece) => (typeof piece === "string" ? visible(piece, 1) : partElement(piece)))),
    h(hasLetters ? "span" : "span.alone", { "aria-hidden": "true" }, hasLetters ? ` with ${words}` : words));
}

/** A rule as text, each list of tokens whole.
 * @type {(rule: Rule) => string} */
export const textOfRule = (rule) => rule.map((one) => {
  if (typeof one === "string") return one;
  if (isToken(one)) return quotedText(one);
  const all = one.groups.flatMap(([, tokens]) => tokens).map(quotedText);
  return `${one.like ? "tokens like " : ""}${[all.slice(0, -1).join(", "), all.at(-1)].filter(Boolean).join(" or ")}`;
}).join("");

function quotedText(/** @type {RuleToken} */ [text, drawnBy]) {
  if (typeof drawnBy === "string") return drawnBy;
  if (!drawnBy) return `"${text.replaceAll("\n", "\\n").replaceAll("\t", "\\t")}"`;
  return drawnBy.map((piece) => (isToken(piece) ? piece[1] : `"${piece}"`)).join(" and ");
}

/** All tokens of a rule, or of the rules in a caption.
 * @type {(segments: Segment[]) => RuleToken[]} */
export const tokensOfRule = (segments) => segments.flatMap((one) => {
  if (typeof one === "string") return [];
  if (isToken(one)) return [one];
  if ("groups" in one) return one.groups.flatMap(([, tokens]) => tokens);
  if ("muted" in one) return tokensOfRule(one.muted);
  return tokensOfRule(("rule" in one && one.rule) || []);
});
