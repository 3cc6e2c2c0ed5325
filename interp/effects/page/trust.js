/* How far to trust the graph: in a sentence, and below it the graph's scores beside those of its nulls, and the effects
 * that ablation contradicts. */

import { element, table, the } from "./elements.js";
import { byId, data, logits } from "./graph.js";
import { edgeButton, inList } from "./links.js";
import { short, wordOf } from "./words.js";

const MOST_EFFECTS = 60;
const MEANINGS = {
  answer:
    "the log probability, in nats, of what this prompt makes likeliest. If shuffled tokens make it as likely, it " +
    "does not depend on their order.",
  agreement:
    "the rank correlation with ablation, of what latents do to the answer to first order (effects) and by the paths " +
    "of the graph, and to each other (pairs). If attributions are shuffled among them, it exceeds the number given " +
    "in 1 of 20 cases. Other nulls say nothing of it: a null model agrees with its own ablations too.",
  replacement: "and completeness: how much the dictionaries hold of the model, on any text, also on shuffled tokens.",
};

export function showTrust() {
  const parts = [scoreTable(), disagreementList()].filter(Boolean);
  const sentence = [element("b", {}, "How far to trust it: "), trustSentence()];
  if (!parts.length) the("trust").replaceChildren(element("p", {}, ...sentence));
  else the("trust").replaceChildren(
    element("details", {}, element("summary", {}, ...sentence), element("div", { class: "checks" }, ...parts)),
  );
}

/* The agreement with ablation, beside what shuffled attributions reach. */
function trustSentence() {
  const [own, ...nulls] = data.scores;
  const chance = nulls.find(({ graph }) => graph === "attributions shuffled");
  const answer = `“${wordOf(logits[0])}”`;
  const whats = {
    effects: `of latents on ${answer}`,
    pairs: "on each other",
    paths: `on ${answer} along the graph’s paths`,
  };
  const known = Object.entries(whats).map(([name, what]) => {
    const [agreed, byChance] = [own, chance].map((row) => row?.[`agreement_of_${name}`] ?? null);
    return { agreed, byChance, written: `${what} ${short(agreed)} (shuffled ${short(byChance)})` };
  }).filter(({ agreed, byChance }) => agreed !== null && byChance !== null);
  if (!known.length) return "not compared with ablation.";
  const says = "rank correlation of the attributed effects with those of ablation: ";
  const isByChance = known.some(({ agreed, byChance }) => agreed <= byChance);
  const warning = isByChance ? " Where shuffled ones do as well, go by what is measured." : "";
  return `${says}${known.map(({ written }) => written).join(", ")}.${warning}`;
}

/* A score that none of the graphs has is left out. */
function scoreTable() {
  const isCount = (cell) => Number.isInteger(cell) && cell > 1;
  const isKnown = (name) => data.scores.some((row) => (row[name] ?? null) !== null);
  const names = Object.keys(data.scores[0] ?? {}).filter(isKnown);
  if (!names.length) return null;
  const text = (cell) => (typeof cell !== "number" ? (cell ?? "") : isCount(cell) ? `${cell}` : short(cell));
  const cells = data.scores.map((row) => names.map((name) => text(row[name])));
  const look = { class: "scores", role: "region", tabindex: 0, "aria-label": "Scores of the graph and of its nulls" };
  const told = Object.entries(MEANINGS).filter(([score]) => names.some((name) => name.startsWith(score)));
  const meanings = told.map(([score, meaning]) =>
    element("p", { class: "muted" }, element("b", {}, score), `${meaning.startsWith("and") ? " " : ": "}${meaning}`));
  return element("div", look, table(names.map((name) => name.replaceAll("_", " ")), cells), ...meanings);
}

/* What ablation contradicts: another sign, or a factor of two, the furthest first. */
function disagreementList() {
  const { effects } = data;
  if (!effects.length) return null;
  const ends = ({ source, target }) => `${inList(byId.get(source))} → ${inList(byId.get(target))}`;
  const rows = data.disagreements
    .slice(0, MOST_EFFECTS)
    .map((number) => effects[number])
    .map((pair) => [edgeButton(pair, ends(pair)), short(pair.attributed), short(pair.measured)]);
  const n = `${data.disagreements.length} of ${effects.length}`;
  const parts = [
    element("h2", {}, "What does not hold"),
    element("p", { class: "muted" }, `${n} measured effects have another sign, or differ twofold`),
  ];
  const names = ["from → to", "to first order", "measured"];
  if (rows.length) parts.push(element("div", { class: "list" }, table(names, rows)));
  return element("div", {}, ...parts);
}
