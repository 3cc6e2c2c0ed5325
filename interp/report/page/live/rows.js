/* The features of a text, a row each: what it fires on, how much it matters here, and where in the text it fires. Those
 * that matter at the chosen token are listed before the others. */

import { page } from "../data/files.js";
import { columns } from "../data/features.js";
import { verdictOf } from "../data/latents.js";
import { word } from "../data/vocabulary.js";
import { h, rowHead } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { tipped } from "../elements/glossary.js";
import { featureLink, hueOfVerdict, verdictElement } from "../elements/latents.js";
import { holdButton } from "./held.js";
import { stripElement } from "./strip.js";
import { joinBytes } from "../text/bytes.js";
import { labelOrCaption } from "../text/captions.js";
import { textOfRule } from "../text/segments.js";
import { tokenElement } from "../text/tokens.js";

/** values: Map of position → strength, as a share of the maximum, or effect in nats. amount: what it matters here,
 * undefined if it does not. change: what ablating it here does to the prediction, if that is known.
 * @typedef {{ latent: number, values: Map<number, number>, amount?: number, change?: Change }} Row
 * @typedef {[token: number, p: number, without: number][]} Moved
 * @typedef {{ kl: number, raises: Moved, lowers: Moved }} Change */

const LEAST_KL = 0.01; // nats, and
const LEAST_SHIFT = 0.005; // of a probability: what moves less is not told
const N_MOVED = 3; // tokens that a feature raises, and that it lowers
const N_BEFORE = 4; // tokens before that of a cell, in its tip
const STRIP = matchMedia("(min-width: 1241px)").matches ? 0.42 : 0.36; // of the table's width, as in live.css
const [HEAD, SMALL_HEAD] = [14.5, 10.5]; // pixels that a token above the strip takes, and one of a long text
const NUMBER = 40; // pixels from one number to the next, where not all tokens have room above the strip
const STEPS = [5, 10, 20, 50, 100, 200, 500, 1000, 2000]; // tokens from one number to the next
const STRENGTH_MEANS = "Its activation at the chosen token, as a share of its maximum in the scan.";
const EFFECT_MEANS =
  "The log probability of the next token after the chosen one with the feature less that without it, measured.";
const FIRST_ORDER_MEANS =
  "What the feature's firings up to the chosen token add to the log probability of the next token, to first order: " +
  "activation times gradient. What ablation measures may differ.";
const KL_MEANS =
  "Kullback–Leibler divergence of the prediction after the chosen token without the feature from that with it, in " +
  "nats: how much the feature matters there. It is measured for the ten strongest.";

/** @type {(value: number, isSigned: boolean) => string} */
export const valueText = (value, isSigned) =>
  isSigned ? `${value > 0 ? "+" : ""}${format.digits(value)}` : format.fixed(value);

const klText = (kl) => (kl < 0.001 ? "<0.001" : format.digits(kl));

const dot = (latent) =>
  h("i.dot", { "--hue": hueOfVerdict(verdictOf(latent)), title: format.verdict(verdictOf(latent)) });

/** Its number, verdict, and what it fires on in a few words; pointing at it shows its whole rule.
 * @type {(latent: number) => Child[]} */
export const namedElements = (latent) => [featureLink(latent), dot(latent),
  h("span.rule", { title: textOfRule(columns.rule[latent]) || null }, labelOrCaption(latent))];

/* The tokens that it makes likelier, or less likely, with their probability without it → with it. */
function moved(kind, name, tokens) {
  const shown = ([, p, without]) =>
    Math.abs(p - without) >= LEAST_SHIFT && format.percent(p) !== format.percent(without);
  const change = ([token, p, without]) => [
    h("span.change", null, tokenElement(word(token)), ` ${format.inPercent(without)} → ${format.percent(p)}`), " "];
  const all = tokens.filter(shown).slice(0, N_MOVED);
  return all.length ? h(`span.moved.${kind}`, null, `${name} `, all.map(change)) : null;
}

/** tokens: their ids. at: the chosen position. width: that of the table, in pixels. rows: first to last, in groups:
 * [title, rows]. most: the value of the deepest shade. effects: the server's answer, if values are effects, or null.
 * onchoose: called with a position; onpoint: with the row pointed at, null for none, and the position pointed at.
 * @param {{ tokens: number[], at: number, width: number, groups: [title: Child, rows: Row[]][], most: number,
 *   effects: any, onchoose: (position: number) => void,
 *   onpoint: (row: Row | null, position?: number | null) => void }} table */
export function rowsElement({ tokens, at, width, groups, most, effects, onchoose, onpoint }) {
  const isSigned = Boolean(effects);
  const unit = isSigned ? "nats" : "of its maximum";
  const upTo = (position) => tokens.slice(Math.max(position - N_BEFORE, 0), position + 1).map(word);
  const passage = (position) => joinBytes(upTo(position)).map(({ text }) => text).join("");
  const tip = (position, value) => `${passage(position)}: ${valueText(value, isSigned)} ${unit}`;
  const line = (row) => {
    const { latent, values, amount, change } = row;
    const point = () => onpoint(row);
    const leave = () => onpoint(null);
    const number = (kind, name, text) => h(`td.amount.${kind}`, { "data-name": text ? name : null }, text);
    const strip = { n: tokens.length, values, at, most, isSigned, tip, onchoose };
    return h("tr",
      { "data-latent": latent, onpointerenter: point, onpointerleave: leave, onfocusin: point, onfocusout: leave },
      rowHead(
        h("div.named", null, namedElements(latent)),
        change?.kl >= LEAST_KL
          ? h("p.moves", null, moved("positive", "raises", change.raises), moved("negative", "lowers", change.lowers))
          : null),
      number("own", isSigned ? "effect" : "strength", amount === undefined ? "" : valueText(amount, isSigned)),
      isSigned ? null : number("kl", "KL", change ? klText(change.kl) : ""),
      h("td.stripcell", null, stripElement({ ...strip, onpoint: (position) => onpoint(row, position) })),
      h("td", null, holdButton(latent)));
  };
  /* Each token, if there is room; else the chosen one among the numbers of some. */
  const room = Math.max(STRIP * width - 20, NUMBER);
  const isSmall = tokens.length * HEAD > room;
  const isSparse = tokens.length * SMALL_HEAD > room;
  const every = STEPS.find((step) => step * room >= NUMBER * tokens.length) ?? tokens.length;
  const isHeaded = (position) => position === at || !isSparse
    || ((position + 1) % every === 0 && Math.abs(position - at) * 2 > every);
  const headed = Array.from(tokens.keys()).filter((position) => position === 0 || isHeaded(position));
  const headOf = (position, k) => {
    const share = (headed[k + 1] ?? tokens.length) - position;
    if (isSparse && position !== at) return h("span", { "--share": share }, isHeaded(position) ? position + 1 : "");
    return h("button",
      { type: "button", class: position === at ? "at" : null, tabindex: -1, "aria-hidden": "true", "--share": share,
        onclick: () => onchoose(position) }, tokenElement(word(tokens[position])));
  };
  const kind = `div.striphead${isSmall ? ".small" : ""}${isSparse ? ".sparse" : ""}`;
  const heads = h(kind, null, headed.map(headOf));
  const effect = effects?.each ? EFFECT_MEANS : FIRST_ORDER_MEANS;
  const own = isSigned ? tipped("Effect, nats", effect) : tipped("Strength", STRENGTH_MEANS);
  const head = h("thead", null, h("tr", null, [
    h("th", { scope: "col" }, "Feature"),
    h("th.amount", { scope: "col" }, own),
    isSigned ? null : h("th.amount", { scope: "col" }, tipped("KL, nats", KL_MEANS)),
    h("th.stripcell", { scope: "col" }, heads),
    h("td")]));
  const columnsOfTable = isSigned ? 4 : 5;
  const body = ([title, rows]) => h("tbody", null,
    title ? h("tr.group", null, h("th", { scope: "rowgroup", colspan: columnsOfTable }, title)) : null, rows.map(line));
  const all = groups.flatMap(([, rows]) => rows);
  const used = new Set(all.map(({ latent }) => verdictOf(latent)));
  return h("div", null,
    h("table.rows", null, head, groups.filter(([, rows]) => rows.length).map(body)),
    h("p.legend", null, Object.keys(page.verdicts).filter((verdict) => used.has(verdict)).map(verdictElement)));
}
