/* What the map tells of a feature, in its list and beside its point: what it fires on, in which what a search has found
 * is marked, and its strongest firing. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { h } from "../elements/elements.js";
import { markMatchesIn, rankOfMatch, shareOnToken, splitAtMatches } from "../selection/search.js";
import { selection } from "../selection/selection.js";
import { labelOrCaption, labelOrCaptionText, labelOrShort } from "../text/captions.js";
import { textOfRule, wholeRule } from "../text/segments.js";
import { snippetOfRow } from "../views/table_cells.js";

const markFound = (element) => ["rule", "label"].some((field) => markMatchesIn(selection.terms, field, element));

/** What it fires on: its senses, unless a search has found only a rule of them all.
 * @type {(latent: number) => HTMLElement} */
export function mapRule(latent) {
  const isFound = (text) => splitAtMatches(selection.terms, "rule", text).length > 1;
  const rule = columns.rule[latent];
  const isRuleAlone = isFound(textOfRule(rule)) && !isFound(labelOrCaptionText(latent))
    && rankOfMatch(selection.terms, latent) < 0;
  const element = h("div.rule", null, isRuleAlone ? wholeRule(rule) : labelOrCaption(latent));
  markFound(element);
  return element;
}

/** The token that a search has found, and its share of the firings; null where it has found none.
 * @type {(latent: number) => HTMLElement | null} */
export function foundOn(latent) {
  const k = rankOfMatch(selection.terms, latent);
  return k < 0 ? null : h("small.muted", null, shareOnToken(latent, k));
}

/** A piece of text, or a picture, of the strongest firing of a feature.
 * @type {(latent: number, rowData: RowData | null) => HTMLElement} */
export const strongestFiring = (latent, rowData) =>
  h(page.has_text ? "div.snippet" : "div.snippet.of-picture", null, snippetOfRow(latent, rowData));

/** Its short name beside its point. Where a search has found a token that the name lacks, that token and its share of
 * the firings stand instead.
 * @type {(latent: number, isNumbered: boolean) => HTMLElement} */
export function nameAtPoint(latent, isNumbered) {
  const element = h("span.own", null, labelOrShort(latent));
  const k = markFound(element) ? -1 : rankOfMatch(selection.terms, latent);
  if (k >= 0) element.replaceChildren(h("mark", null, shareOnToken(latent, k)));
  if (isNumbered) element.prepend(`${latent} `);
  return element;
}
