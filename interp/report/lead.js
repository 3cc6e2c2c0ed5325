/* What a feature fires on and which tokens it raises, in a line: by its rule in words, or by a label that tells its
 * firings better. */
"use strict";

const isWeakRule = (f1) => f1 !== null && f1 !== undefined && f1 < report.data.page.min_f1;

/* A rule in words; one that barely holds is not set as if it did. none: what is said where there is no rule. */
const ruleElement = (rule, f1, none) => {
  if (!rule) return h("span.muted", null, none);
  if (!isWeakRule(f1)) return ruleText(rule);
  return h("span.weak", null, "No reliable rule was found; the nearest is ", ruleText(rule));
};

report.lead = (() => {
  const { columns, has_text: hasText } = report.data.page;
  const { labelOf } = report.selection;
  const N_PREDICTED = 5;
  const GOOD = 0.5; // F1 of a label that is set bold
  const BY_CHANCE = "these tokens follow its firings no more often than by chance";
  const NO_RULE = "No rule in words holds.";
  const isKnown = (f1) => f1 !== null && f1 !== undefined;
  const f1Element = (f1) => (isKnown(f1) ? h("small", null, ` F1 ${format.fixed(f1)}`) : null);
  const f1Term = (f1) => (isKnown(f1) ? h("small", null, " ", term("F1"), ` ${format.fixed(f1)}`) : null);

  /* Whether a label tells where the latent fires better than its rule does. */
  const byLabel = (latent) =>
    labelOf(latent) !== null && (!hasText || columns.label_f1[latent] > (columns.explanation_f1[latent] ?? 0));
  const f1 = (latent) => (byLabel(latent) ? columns.label_f1 : columns.explanation_f1)[latent];
  const labelElement = (latent) =>
    h(columns.label_f1[latent] < GOOD ? "span" : "b", null, format.words(labelOf(latent)));

  /* The tokens of a rule that is nothing but a list of them in quotes; none of any other. */
  const listOf = (rule) => (/^"[^"]+"(?:(?:,| or|, or) "[^"]+")*$/.test(rule) ? rule.match(/"[^"]+"/g) : []);

  /* How many tokens a rule lists, where it does nothing else. */
  function listed(rule) {
    const n = listOf(rule).length;
    if (n === 0) return null;
    return h("span.muted", null, n === 1 ? "the token " : `any of ${n} tokens: `);
  }

  /* The same rule; where it lists nothing but white space, by the line ends and then by the spaces in it. */
  function inOrder(rule) {
    const tokens = listOf(rule);
    if (tokens.length < 2 || !tokens.every((token) => /^"(?:\s|\\n)+"$/.test(token))) return rule;
    const lines = (token) => token.split("\\n").length;
    tokens.sort((a, b) => lines(a) - lines(b) || a.length - b.length);
    return `${tokens.slice(0, -1).join(", ")} or ${tokens.at(-1)}`;
  }

  /* In a few words, for a card or a list. measured: gives what stands behind it, of its F1. */
  function brief(latent, measured = f1Element) {
    const rule = columns.explanation[latent];
    if (byLabel(latent)) return [labelElement(latent), measured(f1(latent))];
    if (!rule || isWeakRule(f1(latent))) return h("span.muted", null, hasText ? NO_RULE : "No label fits.");
    return [ruleText(rule), measured(f1(latent))];
  }

  /* A link to a feature with what it fires on, in a few words on one line. */
  const linked = (latent, href = `#feature/${latent}`) => h("span.near", null,
    h("a", { href }, String(latent)), h("span.rule", null, brief(latent, () => null)));

  /* In full: where a label leads, the rule stands behind it; where there are several senses, each has its own rule. */
  function firesOn(latent, senses) {
    const rule = columns.explanation[latent];
    const ruleF1 = columns.explanation_f1[latent];
    if (!hasText && !byLabel(latent)) return h("span.muted", null, "No label says where it fires.");
    const inWords = [
      rule && !isWeakRule(ruleF1) ? listed(rule) : null,
      ruleElement(rule && inOrder(rule), ruleF1, "No explanation was found."),
      rule ? f1Term(ruleF1) : null,
    ];
    if (senses?.length && !byLabel(latent)) {
      const ofAll = h("small", null, "one rule for all: ", term("F1"), ` ${format.fixed(ruleF1)}`);
      return [inSenses(senses), rule ? ofAll : null];
    }
    if (!byLabel(latent)) return inWords;
    const label = [labelElement(latent), f1Term(f1(latent))];
    return rule ? [label, h("span.second", null, h("span.muted", null, "in words: "), inWords)] : label;
  }

  /* The tokens that it makes likelier: by the direct path, or else by what ablation changes. Those of stray bytes, and
   * those that differ in case or space alone from one that is shown, are left out where there are others. */
  function predicts(feature) {
    const rows = feature.logits?.top ?? feature.effects?.likelier ?? [];
    const seen = new Set();
    const isNew = (token) => {
      const text = word(token).trim().toLowerCase() || word(token);
      return !/⟨[0-9a-f]{2}⟩/.test(text) && !seen.has(text) && seen.add(text);
    };
    const tokens = rows.map(([token]) => token);
    const words = tokens.filter(isNew);
    return (words.length ? words : tokens).slice(0, N_PREDICTED).map((token) => [tokenElement(word(token)), " "]);
  }

  /* Whether the tokens that it raises follow its firings no more often than any token; false where that is not
     known. */
  function isByChance({ evidence }) {
    const follows = (evidence ?? []).find(([place]) => report.data.page.evidence[place].name === "next_auroc");
    const [, value, , , high] = follows ?? [];
    return Boolean(follows) && high !== null && value <= high;
  }

  function raises(feature) {
    const isMuted = feature.logits && isByChance(feature);
    const path = feature.logits ? "direct logits" : "measured by ablation";
    return [
      h(isMuted ? "span.predicts.muted" : "span.predicts", null, predicts(feature)),
      h("small.muted", null, path, isMuted ? `; ${BY_CHANCE}` : null),
    ];
  }

  /* What the signs of white space in a rule stand for; null where it has none. */
  function signs(rule) {
    const quoted = (rule.match(/"(.+?)"(?=$|[\s,;:.)])/gs) ?? []).join("");
    const [run] = quoted.match(/ {2,}/) ?? [];
    const known = [
      run ? `␣×${run.length}: ${run.length} spaces` : "",
      quoted.includes("\\n") ? "↵: a line end" : "",
      quoted.includes("\t") ? "⇥: a tab" : "",
    ].filter(Boolean);
    return known.length ? h("small.signs", null, ` ${known.join(", ")}`) : null;
  }

  /* Where it fires in each of some senses. */
  function inSenses(all) {
    const one = ({ rule, f1: f1OfRule, common, share }, k) => h("span.of-lead", null,
      report.examples.senseMark(k, null), " ",
      rule && !isWeakRule(f1OfRule) ? ruleText(rule) : common.length ? ruleText(common[0]) : "no rule",
      share === null ? null : h("small", null, ` ${format.percent(share)}`));
    return all.map(one);
  }

  /* Both, one below the other, and what else is said in lines of its own: [name, content]. */
  function element(latent, feature, ...more) {
    const line = (kind, name, ...content) => h(kind, null, h("dt", null, name), h("dd", null, content));
    return h("dl.lead", null,
      line("div", hasText ? "Fires on" : "Detects",
        firesOn(latent, feature.senses), signs(columns.explanation[latent])),
      hasText && predicts(feature).length ? line("div.raises", "Raises", raises(feature)) : null,
      more.map(([name, content]) => line("div", name, content)));
  }

  return { brief, linked, element, inSenses, byLabel, f1, predicts, byChance: (feature) => isByChance(feature) && BY_CHANCE };
})();
