/* Parse a query, score how well a latent matches it, and find where the match shows.
 *
 * A query is words, all of which must match: word, tok:word, rule:word, label:word, note:word, "several words"
 * (spaces count), and #12 for the number of a latent. Digits alone match whole numbers only. After tok: white space may
 * be written as the page draws it (␣my, ␣×7, ↵), and one space may come first. */

import { columns, order } from "../data/features.js";
import { lazily, page } from "../data/files.js";
import { noteOf } from "../data/notes.js";
import { h, textsOf } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { isNamedByLabel, sensesInCaption } from "../text/captions.js";
import { scriptOf } from "../text/letters.js";
import { textOfRule, tokensOfRule } from "../text/segments.js";
import { tokenElement } from "../text/tokens.js";

/** A word of a query. field: where its text is looked for, "" for everywhere, "#" for the number of a latent.
 * @typedef {{ field: string, text: string, quoted: boolean, number: boolean, word: RegExp }} Term */

const lower = (text) => text.toLowerCase();
const tokens = lazily(() => columns.tokens.map((texts) => texts.map(lower)));
const heads = lazily(() => columns.head.map(lower));
const labels = page.names.label.map((label) => lower(format.words(label)));
const kinds = page.names.kind.map((kind) => lower(format.words(kind)));
const LETTER = "[\\p{L}\\p{N}_]";

const AT_HEAD = 0.5;
const OF_KIND = 1; // of a latent that mostly fires in text of a kind that the word names
const TOGETHER = 4; // of each word of a query that stands as a whole at the head, more than a token can add
const WEAK = 2.15; // of a word of a query: less than a token with 5 % of the firings, or a word, adds
const OF_F1 = 1e-3; // less than any difference between two kinds of match

const DRAWN = { "·": " ", "␣": " ", "↵": "\n", "⇥": "\t" };
const WHITE_SPACE = { newline: /\n/, "blank line": /\n\n/, space: / /, indentation: /\n +$/, tab: /\t/ };
const MUCH = 0.1; // share of the firings on white space from which it is among the words of a latent
const tokensOf = []; // the tokens that the rule of each latent names
const tokensInCaption = []; // these, and the tokens and whole words of its caption
const shown = []; // the words for each latent, once they are needed

const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

function term(/** @type {RegExpMatchArray} */ [whole, field, quoted, plain]) {
  if (/^#\d+$/.test(whole))
    return { field: "#", text: whole.slice(1), quoted: false, number: true, word: new RegExp(whole) };
  const isOfToken = lower(field ?? "") === "tok";
  const exact = isOfToken && quoted === undefined
    ? plain.replace(/([·␣↵⇥])(?:×(\d{1,2})(?!\d))?/g, (_, sign, n) => DRAWN[sign].repeat(Number(n ?? 1)))
    : undefined;
  const isExact = quoted !== undefined || (isOfToken && /\s/.test(exact ?? ""));
  const text = lower(quoted ?? exact ?? plain.trim());
  const characters = Array.from(text);
  const edge = (character, sign) => (new RegExp(LETTER, "u").test(character) ? `(?${sign}${LETTER})` : "");
  const word = new RegExp(edge(characters[0], "<!") + escaped(text) + edge(characters.at(-1), "!"), "giu");
  return { field: lower(field ?? ""), text, quoted: isExact, number: /^\d+$/.test(text), word };
}

const TERM = /(?:(tok|rule|label|note):)?(?:"([^"]+)"?|((?:(?<=tok:) )?[^\s"]+))/gi;
/** @type {(query: string) => Term[]} */
export const parseQuery = (query) => Array.from(query.matchAll(TERM), term);

/* The tokens that a rule names. */
const namedBy = (i) =>
  (tokensOf[i] ??= new Set(tokensOfRule(columns.rule[i]).map(([text]) => lower(text))));

const captionTokens = (i) => (tokensInCaption[i] ??= [...namedBy(i),
  ...tokensOfRule([...columns.brief[i] ?? [], ...sensesInCaption(i).flatMap(([rule]) => rule)])
    .map(([text]) => lower(text))]);

/* The names of white space; none of a token that has anything else. */
const whiteSpaceIn = (token) =>
  (token.trim() ? [] : Object.keys(WHITE_SPACE).filter((name) => WHITE_SPACE[name].test(token)));

/* The words of the rule of a latent and of what the page says it fires on, with the names of families of tokens, of
 * letters that it draws after them, and of white space. */
const wordsOf = (i) => (shown[i] ??= lower([
  textOfRule(columns.rule[i]),
  columns.text[i].replaceAll(/ \+\d+/g, ""), // without the numbers of tokens that are left out
  ...columns.rule[i].flatMap((/** @type {any} */ one) => one.groups?.map(([name]) => name) ?? []),
  ...captionTokens(i).map(scriptOf).filter(Boolean),
  ...captionTokens(i).flatMap(whiteSpaceIn),
  ...columns.tokens[i].filter((_, k) => columns.token_shares[i][k] >= MUCH).flatMap(whiteSpaceIn),
].join(", ")));

/** @type {(each: Term, token: string) => boolean} */
const isToken = ({ text, quoted }, token) => (quoted ? token : token.trim()) === text;
/** @type {(each: Term, text: string) => boolean} */
const isIn = (each, text) => (each.number ? text.search(each.word) >= 0 : text.includes(each.text));
const asWord = (each, text, whole) => (text.search(each.word) >= 0 ? whole : isIn(each, text) ? 1 : 0);

/* The same of whole words of a text that describes the latent, which count more at its head. */
function asWords(each, text, head) {
  if (text.search(each.word) < 0) return 0;
  return head.search(each.word) < 0 ? 3 : 3 + AT_HEAD;
}

/* Whether several words of a query stand side by side at the head of a rule or of the label that describes better. */
function isTogether(terms, i) {
  if (terms.length < 2 || !terms.every(({ field }) => field === "")) return false;
  const words = terms.map(({ text }) => text).join(" ");
  const label = columns.label[i];
  const named = [heads()[i], ...(label !== null && isNamedByLabel(i) ? [labels[label]] : [])];
  return named.some((text) => ` ${text} `.includes(` ${words} `));
}

/** Whether an example is stored of the firings on a token of its list, the commonest of which has rank 0.
 * @type {(i: number, rank: number) => boolean} */
export const isStored = (i, rank) => Boolean(columns.stored[i] & (1 << rank));

/* 6 to 7: the token that is its whole rule, by the share of its firings on it; 5: its number; 3 to 5: a token that
 * its rule names, by the share of its firings on it; 2 to 5: another token, by its share; 4: a word of the reader's
 * label or note; 3: a word of its rule or label; 1: a part of a token, label or note, and not of the words in which a
 * rule is told; 0: none. At the head of its rule, or of a label that describes it better, half more. A word for the
 * kind of text in which it mostly fires is one of its rule, and 1 more. */
function fit(each, i) {
  if (each.field === "#") return Number(each.text) === i ? 5 : 0;
  const within = (field) => !each.field || each.field === field;
  let most = within("") && each.number && Number(each.text) === i ? 5 : 0;
  const ofToken = (token, rank) => {
    if (!isToken(each, token)) return isIn(each, token) ? 1 : 0;
    const share = columns.token_shares[i][rank];
    if (columns.rule[i].length === 1 && namedBy(i).size === 1 && namedBy(i).has(token)) return 6 + share;
    return namedBy(i).has(token) ? 3 + 2 * share : 2 + 3 * share;
  };
  if (within("tok")) most = Math.max(most, ...tokens()[i].map(ofToken));
  if (within("rule")) {
    const isInToken = captionTokens(i).some((token) => isIn(each, token));
    most = Math.max(most, asWords(each, wordsOf(i), heads()[i]), isInToken ? 1 : 0);
  }
  if (within("label") && columns.label[i] !== null) {
    const label = labels[columns.label[i]];
    most = Math.max(most, asWord(each, label, 3), isNamedByLabel(i) ? asWords(each, label, label) : 0);
  }
  if (within("label") && columns.kind[i] !== null && kinds[columns.kind[i]].search(each.word) >= 0)
    most = Math.max(most, 3) + OF_KIND;
  const { label, note } = noteOf(i);
  for (const [field, text] of [["label", label], ["note", note]]) {
    if (text && within(field)) most = Math.max(most, asWord(each, lower(text), 4));
  }
  return most;
}

/** How well a latent matches all the terms; 0 if it lacks one. Of equals, the one whose rule or label has the larger
 * F1 is better.
 * @type {(terms: Term[], i: number) => number} */
export function matchQuality(terms, i) {
  let sum = 0;
  for (const each of terms) {
    const score = fit(each, i);
    if (!score) return 0;
    sum += score;
  }
  return sum + (isTogether(terms, i) ? TOGETHER * terms.length : 0) + OF_F1 * (columns.f1[i] ?? 0);
}

/** Of latents that match all terms those whose match is not weak: by a part of a word, or by a token with a small
 * share of the firings that the rule does not name. All of them where each is weak.
 * @type {(terms: Term[], found: number[]) => number[]} */
export function strongMatches(terms, found) {
  const strong = found.filter((i) => terms.every((each) => fit(each, i) >= WEAK));
  return strong.length ? strong : found;
}

/** A text of one field, split so that every second piece is a match. Tokens that a rule names are matched too, and in
 * it parts of its tokens, but not of its words.
 * @type {(terms: Term[], field: string, text: string) => string[]} */
export function splitAtMatches(terms, field, text) {
  const isNamed = (each) => field === "rule" && each.field === "tok";
  const fitting = terms.filter((each) => each.text && (!each.field || each.field === field || isNamed(each)));
  if (!fitting.length) return [text];
  const patterns = fitting.map((each) => {
    if (isNamed(each)) return `(?<=" ?)${escaped(each.text)}(?= ?")`;
    if (each.number) return each.word.source;
    const part = escaped(each.text);
    return field === "rule" ? `${each.word.source}|(?<="\\s?[^"\\s]*)${part}(?=[^"\\s]*")` : part;
  });
  return text.split(new RegExp(`(${patterns.join("|")})`, "iu"));
}

/** A text of one field with its matches marked.
 * @type {(terms: Term[], field: string, text: string) => Child[]} */
export const markMatches = (terms, field, text) =>
  splitAtMatches(terms, field, text).map((piece, k) => (k % 2 ? h("mark", null, piece) : piece));

/** Mark in an element what matches in its text, as a text of one field; false if nothing does.
 * @type {(terms: Term[], field: string, element: Element) => boolean} */
export function markMatchesIn(terms, field, element) {
  const nodes = textsOf(element).filter(({ parentElement }) => !parentElement?.matches(".muted"));
  const matches = [];
  let at = 0;
  splitAtMatches(terms, field, nodes.map(({ data }) => data).join("")).forEach((piece, k) => {
    if (k % 2) matches.push([at, at + piece.length]);
    at += piece.length;
  });
  at = 0;
  for (const node of nodes) {
    const { data } = node;
    const inside = matches.map(([from, to]) => [Math.max(from - at, 0), Math.min(to - at, data.length)])
      .filter(([from, to]) => from < to);
    at += data.length;
    if (!inside.length) continue;
    const ends = [0, ...inside.flat(), data.length];
    node.replaceWith(...ends.slice(1).map((to, k) => data.slice(ends[k], to))
      .map((text, k) => (k % 2 ? h("mark", null, text) : text)));
  }
  return matches.length > 0;
}

/** The index of the token that shows the match: of those that are a term, else of those that hold one, the first of
 * which an example is stored, or else the first; −1 if no token shows it.
 * @type {(terms: Term[], i: number) => number} */
export function rankOfMatch(terms, i) {
  const fitting = terms.filter((each) => each.text && (!each.field || each.field === "tok"));
  for (const suits of [isToken, isIn]) {
    const texts = tokens()[i];
    const places = [...texts.keys()].filter((k) => fitting.some((each) => suits(each, texts[k])));
    if (places.length) return places.find((k) => isStored(i, k)) ?? places[0];
  }
  return -1;
}

/** The share of a latent's firings that are on a token of its list, and the token.
 * @type {(i: number, rank: number) => Child[]} */
export function shareOnToken(i, rank) {
  const share = columns.token_shares[i][rank];
  return [`${format.notable(share)} on `, tokenElement(columns.tokens[i][rank])];
}

/** The `most` latents that match a query best; of equals, those first that come first in the recommended order.
 * @type {(query: string, most: number) => { n: number, first: number[] }} */
export function bestMatches(query, most) {
  const terms = parseQuery(query);
  const matching = terms.length ? order.map((i) => [matchQuality(terms, i), i]).filter(([score]) => score) : [];
  return { n: matching.length, first: matching.sort(([a], [b]) => b - a).slice(0, most).map(([, i]) => i) };
}
