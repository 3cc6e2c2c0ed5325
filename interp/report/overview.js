/* What a newcomer sees first: the run in a sentence, its verdicts beside their nulls, a few features, the words. */
"use strict";

report.views.overview = (() => {
  const { columns, latents, tokens, order, ranked, min_f1: minF1, has_text: hasText } = report.data.page;
  const { verdictOf, labelOf, isUnsure } = report.selection;
  const N_SHOWN = 6;
  const LEARNT = ["this page's dictionary", "SAE", "twin seed"];
  const WORDS = [
    ["Latent", "a unit of the dictionary: a direction that it writes, and the activation with which it writes it on "
      + "each token."],
    ["Feature", "a latent with what is known of it: where it fires, what it writes, its verdict."],
    ["Monosemantic", "its firings share one meaning: they cannot be parted into two groups that are as unlike each "
      + "other as they are unlike the rest of the text."],
    ["Polysemantic", "its firings have several meanings, its senses, or none that could be found."],
    ["Single-token", "nearly all of its activation lies on one token, in any case and with or without a space before "
      + "it."],
    ["Learnt", "the probability that a latent shows what the model learnt, and not the text's statistics seen "
      + "through random weights, is ½ or more: what it writes tells the next token, and a dictionary of a "
      + "model of random weights has no latent that fires like it."],
    ["Effect", "what the model loses without a latent: it has one where ablating it costs surely more than as long "
      + "a change along other latents. A latent can be learnt without an effect, where others say the same."],
    ["Sure", "the interval of the probability of one meaning lies on one side of ½; otherwise the verdict is the "
      + "likelier of two."],
    ["Null", "the same measured on what learnt nothing of the text: a decoder left as it was drawn, a model of "
      + "shuffled weights, text that is shifted against the activations."],
    ["F1", "how well a rule in words predicts where a latent fires, on text that the rule was not made from: 1 "
      + "is always, 0 never."],
    ["Density", "the share of tokens on which a latent fires."],
  ];

  const HOLDS = { "one meaning": "have one meaning", learnt: "are learnt by the model", "an effect": "have an effect" };

  const percent = (share) => `${(100 * share).toFixed(share && share < 0.095 ? 1 : 0)} %`;
  const percents = (low, high) => `${percent(low)} to ${percent(high)}`;

  /* How many latents have each verdict, and how many are surely monosemantic. */
  function census() {
    const n = { monosemantic: 0, polysemantic: 0, singleToken: 0, idle: 0, dead: 0, surely: 0 };
    for (let i = 0; i < latents; i++) {
      const verdict = verdictOf(i);
      if (verdict === "dead" || verdict === "faint") n.idle++;
      if (verdict === "dead") n.dead++;
      if (verdict === "monosemantic") n.monosemantic++;
      if (verdict === "monosemantic" && !isUnsure(i)) n.surely++;
      if (verdict === "polysemantic") n.polysemantic++;
      if (format.verdict(verdict) === "single-token") n.singleToken++;
    }
    return n;
  }

  function sentence() {
    const n = census();
    if (!hasText) {
      return [
        `${format.count(latents)} latents on ${format.count(tokens)} rows: ${format.count(latents - n.idle)} work, `,
        `${format.count(n.idle)} are dead or faint. The rows are no text, so that no verdict of one meaning is given; `,
        "labels say what a latent detects.",
      ];
    }
    const size = `${format.count(latents)} latents on ${format.count(tokens)} tokens: `;
    if (!ranked) return [size, `${format.count(latents - n.dead)} fire. They were not ranked.`];
    const shares = report.data.page.shares.map(({ name, n: holding, of }) => `${percent(holding / of)} ${HOLDS[name]}`);
    const rest = [
      ` ${format.count(n.monosemantic)} are monosemantic (${format.count(n.surely)} surely), `,
      `${format.count(n.polysemantic)} have several meanings or none, `,
      `${format.count(n.singleToken)} detect a single token`,
      n.idle ? `; ${format.count(n.idle)} are dead or faint.` : ".",
    ];
    return [size, h("b", null, `${[...shares, ...report.data.page.headlines].join(" · ")}.`), rest.join("")];
  }

  /* One meaning, learnt and effect: three things, each of those that were tested for it. */
  function apart() {
    const { shares } = report.data.page;
    if (!shares.length) return null;
    const caption = "Three separate questions: a latent may have one meaning that the model never learnt, and one that "
      + "the model learnt may cost nothing when it is removed.";
    const lines = ({ name, meaning, n, of, interval: [low, high], note }) => [
      h("tr", null,
        rowHead(name),
        barCell(n / of, "var(--accent)"),
        h("td", null, percent(n / of)),
        h("td.muted", null, percents(low, high)),
        h("td.muted", null, `${format.count(n)} of ${format.count(of)}`)),
      h("tr.meaning", null, h("td", { colspan: 5 }, note ? `${meaning}: ${note}` : meaning)),
    ];
    return h("table.bars.apart", null, h("caption", null, caption), h("tbody", null, shares.map(lines)));
  }

  /* The share of one meaning of the dictionary beside the null that comes nearest to it; the others are folded. */
  function nulls(data) {
    if (typeof data === "string") return h("p.missing", null, data);
    const rows = data.rows.filter(({ one }) => one);
    const sae = rows.find(({ dictionary }) => dictionary === "SAE") ?? rows[0];
    const others = rows.filter(({ dictionary }) => !LEARNT.includes(dictionary) && dictionary !== sae?.dictionary);
    if (!sae || !others.length) return h("p.missing", null, "No share of one meaning is known of the nulls.");
    const nearest = others.reduce((best, row) => (row.one[0] > best.one[0] ? row : best));
    const folded = rows.filter((row) => row !== sae && row !== nearest);
    const alike = sae.trained ? `trained on ${format.count(sae.trained)} tokens each, ` : "";
    const caption = "The share with one meaning, beside the null that comes closest. Compare these two with each "
      + `other, not with the share above: same settings, ${alike}${format.count(sae.judged)} latents judged of each.`;
    const notes = [data.compare, data.told_apart].filter(Boolean).map((text) => h("p.muted", null, text));
    return h("div", null,
      shareTable(caption, [sae, nearest]),
      h("details", null,
        h("summary", null, `${format.count(folded.length)} more dictionaries, and how to read them`),
        shareTable("", folded),
        notes));
  }

  function shareTable(caption, rows) {
    const line = ({ dictionary, means, one: [share, low, high] }) => h("tr", { title: means },
      rowHead(dictionary),
      barCell(share, LEARNT.includes(dictionary) ? "var(--monosemantic)" : "var(--dead)"),
      h("td", null, percent(share)),
      h("td.muted", null, percents(low, high)));
    return h("table.bars.shares", null,
      caption ? h("caption", null, caption) : null,
      h("tbody", null, rows.map(line)));
  }

  /* What was chosen with the run; else the first in the recommended order whose commonest tokens differ. */
  function worthShowing() {
    const chosen = [...report.data.page.worth_a_look];
    const seen = new Set();
    for (const latent of order) {
      const token = hasText ? (columns.tokens[latent][0] ?? "").trim().toLowerCase() : labelOf(latent) ?? latent;
      if (chosen.length >= N_SHOWN) break;
      if (["dead", "faint"].includes(verdictOf(latent)) || seen.has(token) || chosen.includes(latent)) continue;
      seen.add(token);
      chosen.push(latent);
    }
    return chosen;
  }

  /* Of rows that are no text, the label that a latent detects. */
  function labelled(latent) {
    const label = hasText ? null : labelOf(latent);
    return label && [format.words(label), h("small", null, ` F1 ${format.fixed(columns.label_f1[latent])}`)];
  }

  async function card(latent) {
    const feature = await loadFeature(latent);
    const strongest = feature.examples.filter(([kind]) => kind < 0).slice(0, 3);
    await report.examples.load(strongest);
    const f1 = columns.explanation_f1[latent];
    const rule = f1 >= minF1 ? columns.explanation[latent] : "";
    return h("article.card", null,
      h("h3", null,
        featureLink(latent, `Feature ${latent}`), " ", verdictElement(verdictOf(latent)), unsureElement(latent)),
      h("p.rule", null,
        rule ? ruleText(rule) : labelled(latent) ?? h("span.muted", null, "No rule in words holds."),
        rule ? h("small", null, ` F1 ${format.fixed(f1)}`) : null),
      report.examples.list(strongest, feature.facts.max || 1, latent, strongest.length, "snippet"));
  }

  async function show(section) {
    if (section.childElementCount) return;
    const waiting = (name) => h(`div.${name}`, null, h("p.waiting", null, "Reading …"));
    const nullsPlace = waiting("nulls");
    const cardsPlace = waiting("cards");
    const words = WORDS.map(([name, meaning]) => h("div", null, h("dt", null, name), h("dd", null, meaning)));
    section.replaceChildren(
      h("p.lead", null, sentence()),
      apart() ?? "",
      nullsPlace,
      h("h2", null, "Features worth a look"),
      h("p.muted", null,
        hasText
          ? "Surely of one meaning, with rules in words that hold and are unlike one another. "
          : "Those that detect a label best. ",
        h("a", { href: "#features" }, `All ${format.count(latents)}`)),
      cardsPlace,
      h("h2", null, "Your notes"),
      report.notes.list(),
      h("h2", null, "Words"),
      h("dl.words", null, words));
    const [summary] = await Promise.all([loadData("summary"), loadWords()]);
    nullsPlace.replaceChildren(report.verdictBars(), nulls(summary.nulls));
    cardsPlace.replaceChildren(...(await Promise.all(worthShowing().map(card))));
    section.dataset.ready = "true";
  }

  return { title: "Overview", show };
})();
