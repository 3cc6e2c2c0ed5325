/* What the map tells of a feature, in its list and beside its point: what it fires on in words, from what a search has
 * found on, which is marked, and its strongest firing. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { h, textsOf } from "../elements/elements.js";
import { markMatchesIn, rankOfMatch, shareOnToken, splitAtMatches } from "../selection/search.js";
import { selection } from "../selection/selection.js";
import { labelOrCaption } from "../text/captions.js";
import { textOfRule, wholeRule } from "../text/segments.js";
import { snippetOfRow } from "../views/table_cells.js";

const BEGINNING = 70, // letters of a rule in the list, after which what is found would not be seen
  NAME_BEGINNING = 14; // the same of a name
/* Words before what is found that belong to it, and the same before a list of tokens. */
const LITTLE = "(?:\\b(?:some|most|tokens|strongly|beginning|in|text|parts|of|near|soon|after|before|with|the"
  + "|first|last|two|bytes?|another|an?) )*";
const BEFORE_WORD = new RegExp(`${LITTLE}\\S*$`);
const BEFORE_TOKEN = new RegExp(`(${LITTLE})(?:\\S+(?: \\(\\w+\\)"?)?(?:,| or|, or) )*$`);

/** What it fires on: its senses, unless a search has found only a rule of them all.
 * @type {(latent: number) => Child} */
export function mapRule(latent) {
  const caption = labelOrCaption(latent);
  const isFound = (text) => splitAtMatches(selection.terms, "rule", text).length > 1;
  const rule = columns.rule[latent];
  const isRuleAlone = isFound(textOfRule(rule)) && !isFound(h("span", null, caption).textContent)
    && rankOfMatch(selection.terms, latent) < 0;
  return isRuleAlone ? wholeRule(rule) : caption;
}

const markFound = (element) => ["rule", "label"].some((field) => markMatchesIn(selection.terms, field, element));

/** The token that a search has found, and its share of the firings; null where it has found none.
 * @type {(latent: number) => HTMLElement} */
export function foundOn(latent) {
  const k = rankOfMatch(selection.terms, latent);
  return k < 0 ? null : h("small.muted", null, shareOnToken(latent, k));
}

/** A piece of text, or a picture, of the strongest firing of a feature.
 * @type {(latent: number, rowData: RowData) => HTMLElement} */
export const strongestFiring = (latent, rowData) =>
  h(page.has_text ? "div.snippet" : "div.snippet.of-picture", null, snippetOfRow(latent, rowData));

/** The rule of a feature in the list.
 * @type {(latent: number) => HTMLElement} */
export function listedRule(latent) {
  const rule = h("div.rule", null, mapRule(latent));
  const words = selection.query ? foundWords(rule) : undefined;
  if (words && !rule.querySelector(".of-lead")) {
    keepQuotes(rule);
    beginAt(rule, words, BEGINNING);
  }
  markFound(rule);
  return rule;
}

/** The element of its name beside its point: what the list says of it, in short. Parts of characters are drawn, and
 * of tokens in a list it is not told what they are. Of a feature that a search has found, its name is the token that is
 * found, with its sense and the words that belong to it, or its share of the firings; or, where words are found, which
 * many have in common, the first token, or else the words from there on.
 * @type {(latent: number, isNumbered: boolean) => HTMLElement} */
export function nameAtPoint(latent, isNumbered) {
  const element = h("span.own", null, mapRule(latent));
  for (const part of element.querySelectorAll(".in-words")) part.replaceWith(part.firstChild);
  for (const { previousSibling: told } of element.querySelectorAll(".of-script")) {
    if (!isFound(told.textContent)) told.remove();
  }
  for (const token of element.querySelectorAll(":is(.short, .token):has(.byte)")) leaveOutRanges(token);
  keepQuotes(element);
  const words = foundWords(element);
  const inSense = words?.parentElement.closest(".of-lead");
  const token = words ? (inSense ?? element).querySelector(":is(.short, .token)") : foundToken(element);
  const sense = inSense ?? token?.closest(".of-lead");
  if (token) keepToken(element, token, sense);
  else if (sense) element.replaceChildren(sense);
  else if (words) beginAt(element, words, NAME_BEGINNING);
  if (!words || !token) markName(element, latent, token);
  if (isNumbered) element.prepend(`${latent} `);
  return element;
}

/* Mark in a name what a search has found, or else all of the token; where it has neither, its name is the share of its
 * firings on the token that is found. */
function markName(element, latent, token) {
  const k = markFound(element) ? -1 : rankOfMatch(selection.terms, latent);
  if (k >= 0) element.replaceChildren(h("mark", null, shareOnToken(latent, k)));
  else if (token && !element.querySelector("mark")) token.replaceWith(h("mark", null, token.cloneNode(true)));
}

/* Write … for the parts of a token that may begin any letter of a script, where it has more: by that names differ. */
function leaveOutRanges(token) {
  const parts = Array.from(token.querySelectorAll(".byte"));
  const ranges = parts.filter(({ dataset }) => /^.–.…$/u.test(dataset.known));
  const isLetter = ({ data, parentElement }) => data.trim() !== "" && !parentElement.matches(".exact");
  if (ranges.length === parts.length && !textsOf(token).some(isLetter)) return;
  for (const part of ranges) part.replaceWith("…");
}

/* Make each token of a rule one piece with its quotes. One that stands in a box has none. */
function keepQuotes(element) {
  for (const token of element.querySelectorAll(".short:not(.blank, .token)")) {
    const { previousSibling: before, nextSibling: after } = token;
    before.deleteData(before.length - 1, 1);
    after.deleteData(0, 1);
    token.prepend('"');
    token.append('"');
  }
}

const isFound = (text) => selection.terms.some((term) => term.text && text.toLowerCase().includes(term.text));

/* The first words of an element, not of a token, in which a search has found something. Those that are pale are drawn
 * as others are. */
function foundWords(element) {
  for (const pale of element.querySelectorAll("span.muted")) {
    if (isFound(pale.textContent)) pale.classList.remove("muted");
  }
  return textsOf(element).find(({ data, parentElement }) =>
    isFound(data) && !parentElement.closest(".muted, .short, .token"));
}

/* The first token of an element in which a search has found something, or which is found by what its letters are. */
function foundToken(element) {
  return Array.from(element.querySelectorAll(":is(.short, .token)")).find((token) => {
    const scripts = Array.from(token.querySelectorAll("[data-script]"), ({ dataset }) => dataset.script);
    const parts = Array.from(token.querySelectorAll(".byte"), (one) => one.getAttribute("aria-label"));
    return isFound([token.textContent, token.dataset.tip, token.dataset.script, ...scripts, ...parts].join(" "));
  });
}

/* Leave of a name a token, with its sense and the words that belong to it. */
function keepToken(element, token, sense) {
  const before = document.createRange();
  before.setStart(sense ?? element, 0);
  before.setEndBefore(token);
  const letter = sense?.querySelector(".sense");
  const words = before.toString().replace(letter?.textContent ?? "", "").trimStart().match(BEFORE_TOKEN)[1];
  element.replaceChildren(letter ?? "", letter ? "\u00a0" : "", words, token);
}

/* Let a rule with more than `most` letters before the words in which a search has found something begin there. */
function beginAt(element, words, most) {
  const places = selection.terms.map(({ text }) => words.data.toLowerCase().indexOf(text)).filter((at) => at >= 0);
  const range = document.createRange();
  range.setStart(element, 0);
  range.setEnd(words, words.data.slice(0, Math.min(...places)).search(BEFORE_WORD));
  if (range.toString().length < most) return;
  range.deleteContents();
  words.before("… ");
}
