/* What a feature fires on, as captions.py says it, after the reader's own label; and which tokens it raises. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { labelOf } from "../data/latents.js";
import { noteOf } from "../data/notes.js";
import { word } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { featureLink } from "../elements/latents.js";
import { isStray } from "./bytes.js";
import { drawSegments, f1Element, ruleElement } from "./segments.js";
import { tokenElement } from "./tokens.js";
import { isBeyondChance } from "../views/logits.js";

/** A label, and the share of a feature's firings at which it holds.
 * @typedef {[label: string, share: number]} LabelShare */

const { has_text: hasText } = page;
const N_PREDICTED = 5;
const SOME = 0.05; // share of the firings, in text of another kind, that is told
const N_KINDS = 3;

/** The first segment of what it fires on in a few words.
 * @type {(latent: number) => any} */
const firstOf = (latent) => columns.brief[latent]?.[0] ?? { rule: 0 };

/** Whether a label names a feature.
 * @type {(latent: number) => boolean} */
export const isNamedByLabel = (latent) => firstOf(latent).label !== undefined;

/** Its senses, if these name it: what describes each, its share of the activation, and its F1.
 * @type {(latent: number) => ToldSense[]} */
export function sensesInCaption(latent) {
  /** @type {any[]} */
  const segments = columns.brief[latent] ?? [];
  return segments.flatMap((one) => one.senses ?? one.more_senses ?? []);
}

/** What it fires on in a few words. isMeasured: with the F1 of that.
 * @type {(latent: number, isMeasured?: boolean) => Child[]} */
export function captionOf(latent, isMeasured = true) {
  const segments = columns.brief[latent] ?? [firstOf(latent)];
  const f1 = isMeasured && !sensesInCaption(latent).length ? columns.f1[latent] : null;
  return [drawSegments(segments, { latent }),
    f1 === null ? null : h("small.of-caption", null, ` F1 ${format.fixed(f1)}`)];
}

/** The same for a card or a list, or the reader's own label.
 * @type {(latent: number, isMeasured?: boolean) => Child} */
export function labelOrCaption(latent, isMeasured = false) {
  const { label: readerLabel } = noteOf(latent);
  return readerLabel ? h("bdi.mine", null, readerLabel) : captionOf(latent, isMeasured);
}

/** The same as text alone.
 * @type {(latent: number) => string} */
export const labelOrCaptionText = (latent) => noteOf(latent).label || columns.text[latent];

/** The same in few letters.
 * @type {(latent: number) => Child} */
export function labelOrShort(latent) {
  const { label: readerLabel } = noteOf(latent);
  return readerLabel ? h("bdi.mine", null, readerLabel) : h("bdi.quoting", null, drawSegments(columns.short[latent]));
}

/** Links to other features, each with what relates the two, and what it fires on in a few words. rows: [other latent,
 * what relates them].
 * @type {(rows: [other: number, relation: Child][]) => Child[]} */
export const linkedFeatures = (rows) => rows.map(([other, relation]) => (
  h("span.near", null,
    featureLink(other),
    h("small", null, relation),
    h("span.rule", null, labelOrShort(other)))));

/** The kinds of text in which the firings of a feature that is named by a label lie: [label, share], …, that label
 * first; only it where the others may lie within it.
 * @type {(latent: number, feature: Feature) => LabelShare[]} */
export function kindsOfFirings(latent, { labels }) {
  /** @type {LabelShare[]} */
  const shares = labels.flatMap(([label, share]) => (share === null ? [] : [[label, share]]));
  const naming = shares.find(([label]) => label === labelOf(latent));
  if (!naming || !isNamedByLabel(latent)) return [];
  const others = shares.filter((one) => one !== naming && one[1] >= SOME)
    .sort((a, b) => b[1] - a[1]).slice(0, N_KINDS - 1);
  const sum = [naming, ...others].reduce((total, [, share]) => total + share, 0);
  return [naming, ...(sum <= 1 ? others : [])];
}

/** The title of a feature: what it fires on, after the reader's own label, if it has one.
 * @type {(latent: number) => Child[]} */
export function titleOf(latent) {
  const { label: readerLabel } = noteOf(latent);
  const how = { latent, isButton: true, isTitle: true };
  const f1 = sensesInCaption(latent).length ? null : columns.f1[latent];
  const named = [drawSegments(columns.brief[latent] ?? [firstOf(latent)], how), f1Element(f1)];
  return readerLabel ? [h("bdi.mine", null, readerLabel), h("span.named", null, named)] : named;
}

/** The tokens that it makes likelier: by the direct path, if more than by chance, or else by what ablation changes.
 * Those that differ in case or space alone are one, and parts of characters are left out where there are none around
 * the firings.
 * @type {(feature: Feature) => Child[][]} */
export function raisedTokens(feature) {
  const { logits, tokens, effects } = feature;
  const all = logits ? logits.top.filter(isBeyondChance({ logits, tokens })) : effects?.likelier ?? [];
  const rows = all.filter(([token]) => !isStray(token, feature));
  const alike = Map.groupBy(rows.map(([token]) => word(token)), (text) => text.trim().toLowerCase() || text);
  return Array.from(alike.values()).slice(0, N_PREDICTED).map(([first]) => [tokenElement(first, feature.script), " "]);
}

const raises = (feature) => [
  h("span.predicts", null, raisedTokens(feature)),
  h("small.muted", null, feature.logits ? "direct logits" : "measured by ablation"),
];

/** The lines below the title: its rule, where a label is the title; the tokens that it raises; and the given extras:
 * [name, content].
 * @type {(latent: number, feature: Feature, ...more: [name: string, content: Child][]) => HTMLElement} */
export function leadElement(latent, feature, ...more) {
  const [rule, f1] = [columns.rule[latent], columns.explanation_f1[latent]];
  const line = (kind, name, ...content) => h(kind, null, h("dt", null, name), h("dd", null, content));
  return h("dl.lead", null,
    isNamedByLabel(latent) && rule.length && f1 !== null && f1 >= page.min_f1
      ? line("div", "In words", ruleElement(rule, { isButton: true }), f1Element(f1)) : null,
    hasText && raisedTokens(feature).length ? line("div.raises", "Raises", raises(feature)) : null,
    more.length
      ? h("div.nearby", null, more.map(([name, content]) => [h("dt", null, name), h("dd", null, content)])) : null);
}
