/* What a feature fires on and which tokens it raises, in a line: by its rule in words, or by a label that describes its
 * firings better. */
"use strict";

const isWeakRule = (f1) => f1 !== null && f1 !== undefined && f1 < report.data.page.min_f1;

/* A rule in words; one that barely holds is shown differently. none: the text if there is no rule. */
const ruleElement = (rule, f1, none) => {
  if (!rule) return h("span.muted", null, none);
  if (!isWeakRule(f1)) return ruleText(rule);
  return h("span.weak", null, "No reliable rule was found; the nearest is ", ruleText(rule));
};

report.lead = (() => {
  const { columns, has_text: hasText } = report.data.page;
  const { labelOf } = report.selection;
  const N_PREDICTED = 5;
  const GOOD = 0.5; // F1 from which a label is set in bold
  const ALIKE = 0.05; // difference of two F1s that does not justify a longer name
  const BY_CHANCE = "these tokens follow its firings no more often than by chance";
  const NO_RULE = "No rule in words holds.";
  const N_LISTED = 4; // tokens of a list in a short rule
  const KINDS_OF_SPACE = [
    [/^"(?:\\n)+ +"$/, "a line end and an indent"],
    [/^"(?:\\n)+"$/, "line ends"],
    [/^" {2,}"$/, "several spaces"],
  ];
  const isKnown = (f1) => f1 !== null && f1 !== undefined;
  const f1Element = (f1) => (isKnown(f1) ? h("small", null, ` F1 ${format.fixed(f1)}`) : null);
  const f1Term = (f1) => (isKnown(f1) ? h("small", null, " ", term("F1"), ` ${format.fixed(f1)}`) : null);

  /* Whether a label predicts where the latent fires better than its rule, or hardly worse, since it is shorter. */
  const byLabel = (latent) =>
    labelOf(latent) !== null && (!hasText || columns.label_f1[latent] > (columns.explanation_f1[latent] ?? 0) - ALIKE);
  const f1 = (latent) => (byLabel(latent) ? columns.label_f1 : columns.explanation_f1)[latent];
  const labelElement = (latent) =>
    h(columns.label_f1[latent] < GOOD ? "span" : "b", null, format.words(labelOf(latent)));

  /* The tokens of a rule that is only a list of quoted tokens; none for any other rule. */
  const listOf = (rule) => (/^"[^"]+"(?:(?:,| or|, or) "[^"]+")*$/.test(rule) ? rule.match(/"[^"]+"/g) : []);

  /* How many tokens a rule lists, if it does nothing else. */
  function listed(rule) {
    const n = listOf(rule).length;
    if (n === 0) return null;
    return h("span.muted", null, n === 1 ? "the token " : `any of ${n} tokens: `);
  }

  /* The same rule, with several lists of similar tokens as one list. */
  const joined = (rule) => rule.replace(/("(?:,| or|, or)) tokens like (?=")/g, (_, before, at) =>
    (rule.slice(0, at).includes("tokens like") ? `${before} ` : _));

  /* The kinds of white space that a rule lists, in words; null for any other rule. */
  function inSpaces(rule) {
    const tokens = listOf(rule);
    const kinds = new Set(tokens.map(kindOfSpace));
    return tokens.length > 1 && !kinds.has(undefined) ? [...kinds].join(", or ") : null;
  }

  /* A rule with the first few tokens of each list, and how many more there are; white space is shown by kind. */
  function short(rule) {
    if (inSpaces(rule)) return h("span", { title: rule }, inSpaces(rule));
    const LIST = /(?:"[^"]+"(?:,| or|, or) ){4,}"[^"]+"(?=$|[\s,;:.)])/g;
    const parts = [];
    let from = 0;
    for (const { index, 0: list } of joined(rule).matchAll(LIST)) {
      const all = list.match(/"[^"]+"/g);
      parts.push(ruleText(joined(rule).slice(from, index) + all.slice(0, N_LISTED).join(", ")),
        h("span.muted", null, ` +${all.length - N_LISTED}`));
      from = index + list.length;
    }
    return [parts, ruleText(joined(rule).slice(from))];
  }

  /* The white space of a quoted token, in words; undefined for any other token. */
  const kindOfSpace = (token) => KINDS_OF_SPACE.find(([pattern]) => pattern.test(token))?.[1];

  /* The same rule; if it lists only white space, sorted by the line ends and then by the spaces. */
  function inOrder(rule) {
    const tokens = listOf(rule);
    if (tokens.length < 2 || !tokens.every((token) => /^"(?:\s|\\n)+"$/.test(token))) return rule;
    const lines = (token) => token.split("\\n").length;
    tokens.sort((a, b) => lines(a) - lines(b) || a.length - b.length);
    return `${tokens.slice(0, -1).join(", ")} or ${tokens.at(-1)}`;
  }

  /* A description in a few words, for a card or a list. measured: makes what follows it, from its F1. */
  function brief(latent, measured = f1Element) {
    const rule = columns.explanation[latent];
    const { label: mine } = report.notes.of(latent);
    if (mine) return h("bdi.mine", null, mine);
    if (byLabel(latent)) return [labelElement(latent), measured(f1(latent))];
    if (!rule || isWeakRule(f1(latent))) return h("span.muted", null, hasText ? NO_RULE : "No label fits.");
    return [short(rule), measured(f1(latent))];
  }

  /* Links to other features, each with what it fires on in a few words, and the number that relates the two.
   *
   * rows: [other latent, number]; measure: what the number is; to: makes the address of a latent. */
  const linked = (rows, measure, to = (other) => `#feature/${other}`) => rows.map(([other, number]) => (
    h("span.near", null,
      h("a", { href: to(other) }, String(other)),
      h("small", { title: measure }, format.fixed(number)),
      h("span.rule", null, brief(other, () => null)))));

  /* The title of a feature: the reader's own label, one of the text or a rule; where there are several senses, each has
   * its own rule; and where neither label nor rule tells half of it, the tokens on which it fires most. */
  function title(latent, { senses, tokens, facts }) {
    const rule = columns.explanation[latent];
    const ruleF1 = columns.explanation_f1[latent];
    const { label: mine } = report.notes.of(latent);
    if (mine) return h("bdi.mine", null, mine);
    if (byLabel(latent)) return [labelElement(latent), f1Term(f1(latent))];
    if (!hasText) return h("span.muted", null, "No label describes where it fires.");
    if (senses?.length) return inSenses(senses, true);
    if (isVague(latent)) return commonest(tokens, facts);
    return inSpaces(rule) ? [inSpaces(rule), f1Term(ruleF1)] : inWords(rule, ruleF1);
  }

  const isVague = (latent) => isKnown(columns.explanation_f1[latent]) && columns.explanation_f1[latent] < GOOD;

  /* The tokens on which a feature fires most, each with its share of the firings. */
  function commonest(tokens, { n_active: n, n_tokens: kinds }) {
    const on = tokens.filter(([offset]) => offset === 0).slice(0, N_LISTED);
    const share = ([, token, count]) =>
      [tokenElement(word(token)), h("small", null, ` ${format.percent(count / n)}`), " "];
    const more = kinds > on.length ? h("small", null, `and ${format.count(kinds - on.length)} more`) : null;
    return h("span.vague", null, h("span.muted", null, "mostly on "), on.map(share), more);
  }

  const inWords = (rule, ruleF1) => [
    rule && !isWeakRule(ruleF1) ? listed(rule) : null,
    ruleElement(rule && inOrder(joined(rule)), ruleF1, "No explanation was found."),
    rule ? f1Term(ruleF1) : null,
    rule ? signs(rule) : null,
  ];

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

  /* What the signs of white space and stray bytes in a rule mean; null if it has none. */
  function signs(rule) {
    const quoted = (rule.match(/"(.+?)"(?=$|[\s,;:.)])/gs) ?? []).join("");
    const [run] = quoted.match(/ {2,}/) ?? [];
    const known = [
      run ? `␣×${run.length}: ${run.length} spaces` : "",
      quoted.includes("\\n") ? "↵: a line end" : "",
      quoted.includes("\t") ? "⇥: a tab" : "",
      ...[...new Set(quoted.match(/⟨(c[2-9a-f]|[def][0-9a-f])⟩/g))].map(byteInWords), // first bytes of a character
    ].filter(Boolean);
    return known.length ? h("small.signs", null, ` ${known.join(", ")}`) : null;
  }

  /* Where it fires in each of some senses. */
  function inSenses(all, isWhole = false) {
    const one = ({ rule, f1: f1OfRule, common, share }, k) => h("span.of-lead", null,
      report.examples.senseMark(k, null), " ",
      rule && !isWeakRule(f1OfRule) ? ruleText(rule) : common.length ? ruleText(common[0]) : "no rule",
      share === null ? null : h("small", null, ` ${format.percent(share)}`));
    return [all.map(one), isWhole ? h("small", null, "of its activation") : null];
  }

  /* The lines below the title: the rule if a label is the title, the tokens that it raises, and the given extras:
   * [name, content]. */
  function element(latent, feature, ...more) {
    const rule = columns.explanation[latent];
    const isNamed = report.notes.of(latent).label || byLabel(latent) || inSpaces(rule) || isVague(latent);
    const line = (kind, name, ...content) => h(kind, null, h("dt", null, name), h("dd", null, content));
    return h("dl.lead", null,
      rule && isNamed && !(feature.senses?.length && !byLabel(latent))
        ? line("div", "In words", inWords(rule, columns.explanation_f1[latent])) : null,
      hasText && predicts(feature).length ? line("div.raises", "Raises", raises(feature)) : null,
      more.map(([name, content]) => line("div.nearby", name, content)));
  }

  return { brief, linked, title, element, inSenses, byLabel, f1, predicts,
    byChance: (feature) => isByChance(feature) && BY_CHANCE };
})();
