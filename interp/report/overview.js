/* What a newcomer sees first: the run in a sentence, its verdicts beside their nulls, a few features, the words. */
"use strict";

report.views.overview = (() => {
  const { columns, latents, tokens, order, ranked } = report.data.page;
  const { verdictOf, isUnsure } = report.selection;
  const N_SHOWN = 6;
  const LEARNT = ["this page's dictionary", "SAE", "twin seed"];
  const WORDS = [
    ["Latent", "a unit of the dictionary: a direction that it writes, and the activation with which it writes it on each token."],
    ["Feature", "a latent with what is known of it: where it fires, what it writes, its verdict."],
    ["Monosemantic", "its firings share one meaning: they cannot be parted into two groups that are as unlike each other as they are unlike the rest of the text."],
    ["Polysemantic", "its firings have several meanings, its senses, or none that could be found."],
    ["Single-token", "nearly all of its activation lies on one token, in any case and with or without a space before it."],
    ["Learnt", "the probability that a latent shows what the model learnt, and not the text's statistics seen through random weights, is ½ or more: what it writes tells the next token, and a dictionary of a model of random weights has no latent that fires like it."],
    ["Effect", "what the model loses without a latent: it has one where ablating it costs surely more than as long a change along other latents. A latent can be learnt without an effect, where others say the same."],
    ["Sure", "the interval of the probability of one meaning lies on one side of ½; otherwise the verdict is the likelier of two."],
    ["Null", "the same measured on what learnt nothing of the text: a decoder left as it was drawn, a model of shuffled weights, text that is shifted against the activations."],
    ["F1", "how well a rule in words predicts where a latent fires, on text that the rule was not made from: 1 is always, 0 never."],
    ["Density", "the share of tokens on which a latent fires."],
  ];

  const HOLDS = { "one meaning": "have one meaning", learnt: "are learnt by the model", "an effect": "have an effect" };

  const percent = (share) => `${(100 * share).toFixed(share && share < 0.095 ? 1 : 0)} %`;
  const counted = (verdict) => columns.verdict.filter((_, i) => verdictOf(i) === verdict).length;

  function sentence() {
    const dead = counted("dead"), faint = counted("faint");
    const all = [`${format.count(latents)} latents on ${format.count(tokens)} tokens: `];
    if (!ranked) return [...all, `${format.count(latents - dead)} fire. They were not ranked.`];
    const one = counted("monosemantic"), several = counted("polysemantic"), single = columns.verdict.filter((_, i) => format.verdict(verdictOf(i)) === "single-token").length;
    const surely = columns.verdict.filter((_, i) => verdictOf(i) === "monosemantic" && !isUnsure(i)).length;
    const idle = dead + faint ? `; ${format.count(dead + faint)} are dead or faint` : "";
    const first = [...report.data.page.shares.map(({ name, n, of }) => `${percent(n / of)} ${HOLDS[name]}`), ...report.data.page.headlines];
    return [...all, h("b", null, `${first.join(" · ")}.`), ` ${format.count(one)} are monosemantic (${format.count(surely)} surely), ${format.count(several)} have several meanings or none, ${format.count(single)} detect a single token${idle}.`];
  }

  /* One meaning, learnt and effect: three things, each of those that were tested for it. */
  function apart() {
    const { shares } = report.data.page;
    if (!shares.length) return null;
    return h("table.bars.apart", null, h("caption", null, "Three things that are not one: a latent may have one meaning that the model never learnt, or be learnt and cost nothing"),
      h("tbody", null, shares.map(({ name, meaning, n, of, interval: [low, high], note }) => [
        h("tr", null, h("th", { scope: "row" }, name), h("td.bar", { "--share": n / of, "--hue": "var(--accent)" }, h("i")), h("td", null, percent(n / of)), h("td.muted", null, `${percent(low)} to ${percent(high)}`), h("td.muted", null, `${format.count(n)} of ${format.count(of)}`)),
        h("tr.meaning", null, h("td", { colspan: 5 }, note ? `${meaning}: ${note}` : meaning))])));
  }

  /* The share of one meaning of the dictionary beside the null that comes nearest to it; the others are folded. */
  function nulls(data) {
    if (typeof data === "string") return h("p.missing", null, data);
    const rows = data.rows.filter(({ one }) => one), own = rows.find(({ dictionary }) => dictionary === "SAE") ?? rows[0];
    const others = rows.filter(({ dictionary }) => !LEARNT.includes(dictionary) && dictionary !== own?.dictionary);
    if (!own || !others.length) return h("p.missing", null, "No share of one meaning is known of the nulls.");
    const nearest = others.reduce((best, row) => (row.one[0] > best.one[0] ? row : best));
    const folded = rows.filter((row) => row !== own && row !== nearest);
    const alike = own.trained ? `learnt from ${format.count(own.trained)} tokens each, ` : "";
    return h("div", null, shares(`One meaning, beside the null that comes nearest: the same settings, ${alike}${format.count(own.judged)} latents judged`, [own, nearest]),
      h("details", null, h("summary", null, `${format.count(folded.length)} more dictionaries, and how to read them`), shares("", folded),
        data.compare ? h("p.muted", null, data.compare) : null, data.said ? h("p.muted", null, data.said) : null));
  }

  function shares(caption, rows) {
    const line = ({ dictionary, means, one: [share, low, high] }) => h("tr", { title: means }, h("th", { scope: "row" }, dictionary),
      h("td.bar", { "--share": share, "--hue": LEARNT.includes(dictionary) ? "var(--monosemantic)" : "var(--dead)" }, h("i")),
      h("td", null, percent(share)), h("td.muted", null, `${percent(low)} to ${percent(high)}`));
    return h("table.bars.shares", null, caption ? h("caption", null, caption) : null, h("tbody", null, rows.map(line)));
  }

  /* What was chosen with the run; else the first in the recommended order whose commonest tokens differ. */
  function worthShowing() {
    const chosen = [...report.data.page.worth_a_look], seen = new Set();
    for (const latent of order) {
      const token = (columns.tokens[latent][0] ?? "").trim().toLowerCase();
      if (chosen.length >= N_SHOWN) break;
      if (["dead", "faint"].includes(verdictOf(latent)) || seen.has(token) || chosen.includes(latent)) continue;
      seen.add(token);
      chosen.push(latent);
    }
    return chosen;
  }

  async function card(latent) {
    const { min_f1 } = report.data.page, feature = await loadFeature(latent);
    const strongest = feature.examples.filter(([kind]) => kind < 0).slice(0, 3);
    await report.examples.load(strongest);
    const rule = columns.explanation_f1[latent] >= min_f1 ? columns.explanation[latent] : "";
    return h("article.card", null,
      h("h3", null, featureLink(latent, `Feature ${latent}`), " ", verdictElement(verdictOf(latent)), isUnsure(latent) ? h("span.muted", null, ", unsure") : null),
      h("p.rule", null, rule ? ruleText(rule) : h("span.muted", null, "No rule in words holds."), rule ? h("small", null, ` F1 ${format.fixed(columns.explanation_f1[latent])}`) : null),
      report.examples.list(strongest, feature.facts.max || 1, latent, strongest.length, "snippet"));
  }

  async function show(section) {
    if (section.childElementCount) return;
    const places = ["nulls", "cards"].map((name) => h(`div.${name}`, null, h("p.waiting", null, "Reading …")));
    section.replaceChildren(h("p.lead", null, sentence()), apart(), places[0],
      h("h2", null, "Features worth a look"), h("p.muted", null, "Surely of one meaning, with rules in words that hold and are unlike one another. ", h("a", { href: "#features" }, `All ${format.count(latents)}`)), places[1],
      h("h2", null, "Your notes"), report.notes.list(),
      h("h2", null, "Words"), h("dl.words", null, WORDS.map(([word, meaning]) => h("div", null, h("dt", null, word), h("dd", null, meaning)))));
    const [summary] = await Promise.all([loadData("summary"), loadWords()]);
    places[0].replaceChildren(report.verdictBars(), nulls(summary.nulls));
    places[1].replaceChildren(...(await Promise.all(worthShowing().map(card))));
    section.dataset.ready = "true";
  }

  return { title: "Overview", show };
})();
