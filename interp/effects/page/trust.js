/* How far to trust the graph: in two sentences, and below them the graph's scores beside those of its nulls, and the
 * effects that ablation contradicts. */

import { element, table, the } from "./elements.js";
import { byId, data, keyOf, logits } from "./graph.js";
import { answerWord, edgeButton, inList } from "./links.js";
import { state } from "./state.js";
import { short, wordOf } from "./words.js";

const MOST_EFFECTS = 60;
const likeliest = `“${wordOf(logits[0])}”`; // the answer that all scores are of
const HEADS = { nodes: "nodes with 80 % of the influence" };
const MEANINGS = {
  answer:
    "the log probability, in nats, of what this prompt makes likeliest. If shuffled tokens make it as likely, it " +
    "does not depend on their order.",
  agreement:
    "the rank correlation with ablation, of what latents do to the answer to first order (effects) and by the paths " +
    "of the graph, and to each other (pairs). If attributions are shuffled among them, it exceeds the number given " +
    "in 1 of 20 cases. Other nulls say nothing of it: a null model agrees with its own ablations too.",
  replacement:
    "and completeness: how much the dictionaries hold of the model, on any text. Shuffled tokens may have more: " +
    "these two say nothing of what is particular to this prompt.",
};

export function showTrust() {
  const isOpen = the("trust").querySelector("details")?.open;
  const parts = [scoreTable(), disagreementList()].filter(Boolean);
  const sentence = [element("b", {}, "How far to trust it: "), trustSentence()];
  if (!parts.length) the("trust").replaceChildren(element("p", {}, ...sentence));
  else the("trust").replaceChildren(
    element("details", isOpen ? { open: "" } : {}, element("summary", {}, ...sentence),
      element("div", { class: "checks" }, ...parts)),
  );
}

/* How many effects ablation confirms, and how well the paths of the graph agree with it, beside shuffled ones. */
function trustSentence() {
  const said = [];
  const contradicted = new Set(data.disagreements.map((number) => keyOf(data.effects[number])));
  const confirmed = (pairs) => `${pairs.filter((pair) => !contradicted.has(keyOf(pair))).length} of ${pairs.length}`;
  const ablated = data.effects.filter((pair) => pair.measured !== null);
  const onAnswer = ablated.filter(({ target }) => target === state.answer);
  const onOthers = ablated.filter(({ target }) => target.split("_")[0] !== state.answer.split("_")[0]);
  const eachOther = onOthers.length ? `, and ${confirmed(onOthers)} on each other` : "";
  if (onAnswer.length) said.push(
    `ablation confirms ${confirmed(onAnswer)} effects of latents on ${answerWord()}, in sign and within a factor of `
    + `two${eachOther}.`);
  const [own, ...nulls] = data.scores;
  const chance = nulls.find(({ graph }) => graph === "attributions shuffled");
  const known = ["effects", "pairs", "paths"].filter((name) =>
    [own, chance].every((row) => (row?.[`agreement_of_${name}`] ?? null) !== null));
  const valueOf = (row, name) => row[`agreement_of_${name}`];
  if (known.includes("paths")) said.push(
    `Rank correlation along the paths to ${likeliest}: ${short(valueOf(own, "paths"))} (by chance `
    + `${short(valueOf(chance, "paths"))}).`);
  if (known.some((name) => valueOf(own, name) <= valueOf(chance, name)))
    said.push("Where chance does as well, go by what is measured.");
  return said.length ? said.join(" ") : "not compared with ablation.";
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
  const title = element("h2", {}, `Scores for ${likeliest}, the likeliest next token`);
  const heads = names.map((name) => HEADS[name] ?? name.replaceAll("_", " "));
  return element("div", look, title, table(heads, cells), ...meanings);
}

/* What ablation contradicts: another sign, or a factor of two, the furthest first. */
function disagreementList() {
  const { effects } = data;
  const nAblated = effects.filter((pair) => pair.measured !== null).length;
  if (!nAblated) return null;
  const ends = ({ source, target }) => `${inList(byId.get(source))} → ${inList(byId.get(target))}`;
  const rows = data.disagreements
    .slice(0, MOST_EFFECTS)
    .map((number) => effects[number])
    .map((pair) => [edgeButton(pair, ends(pair)), short(pair.attributed), short(pair.measured)]);
  const n = `${data.disagreements.length.toLocaleString("en")} of ${nAblated.toLocaleString("en")}`;
  const parts = [
    element("h2", {}, "What does not hold"),
    element("p", { class: "muted" }, `${n} effects have another sign by ablation, or differ more than twofold`),
  ];
  const names = ["from → to", "to first order", "by ablation"];
  if (rows.length) parts.push(element("div", { class: "list" }, table(names, rows)));
  return element("div", {}, ...parts);
}
