/* What a newcomer sees first: the dictionary in a sentence, its three shares beside what they are compared with, its
 * verdicts, and a few features. */
"use strict";

report.views.overview = (() => {
  const { columns, latents, tokens, order, ranked, shares, null: compared, has_text: hasText } = report.data.page;
  const { verdictOf, labelOf, isUnsure, isIdle } = report.selection;
  const N_SHOWN = 6;

  function sentence() {
    let idle = 0;
    for (let i = 0; i < latents; i++) if (isIdle(i)) idle++;
    const size = [`${format.count(latents)} `, term("latent", "latents"),
      `, scanned on ${format.count(tokens)} ${hasText ? "tokens" : "rows"}. `];
    const work = [`${format.count(latents - idle)} are in use, ${format.count(idle)} are `, term("dead"), " or ",
      term("faint"), "."];
    if (!hasText) {
      return [size, work, " The rows are no text, so that no verdict of one meaning is given; labels say what a latent "
        + "detects."];
    }
    const { headlines } = report.data.page;
    const more = headlines.length ? ` ${headlines.join(" · ")}.` : null;
    return [size, work, ranked ? null : " They were not ranked.", more];
  }

  const percent = (share) => `${(100 * share).toFixed(share && share < 0.095 ? 1 : 0)} %`;
  const shareOf = ({ n, of, interval }) => [n / of, ...interval];
  const panel = (heading, bars, ...note) => h("section.share", null, h("h2", null, heading), bars, h("p", null, note));
  const own = (known) => report.shareBar("this dictionary", shareOf(known), "own");

  /* The share of one meaning: comparable with its null where both learnt from as many tokens. */
  function oneMeaning(known) {
    const title = term("one meaning", "have one meaning");
    if (!compared) {
      const heading = [`${percent(known.n / known.of)} `, title];
      const alone = "No null was run, so that there is nothing to compare this with.";
      return panel(heading, own(known), `${known.note} ${alone}`);
    }
    const { one, trained, judged, null: nearest, longer } = compared;
    const after = (n) => `trained on ${format.short(n)} tokens`;
    const bars = [
      report.shareBar(longer ? after(trained) : "this dictionary", one, "own"),
      report.shareBar(tipped("closest null", `${nearest.name}: ${nearest.means}`), nearest.one, "null"),
      longer ? report.shareBar(after(longer), shareOf(known), "other") : null,
    ];
    const overlaps = nearest.one[2] >= one[1];
    const heading = [`${percent(one[0])} `, title, `, ${percent(nearest.one[0])} in the closest `, term("null")];
    return panel(heading, bars,
      `The closest null, ${nearest.name}, has the same settings and training; ${format.count(judged)} latents were `
      + "judged of each. ",
      overlaps ? "The intervals overlap: one meaning alone does not show that the model learnt it."
        : "The intervals do not overlap.",
      longer ? ` No null was trained on ${format.short(longer)} tokens, as the dictionary shown here was.` : null);
  }

  function learnt(known) {
    return panel([`${percent(known.n / known.of)} are `, term("learnt", "learnt by the model")], own(known),
      `${known.note} The others may reflect the text alone: a model with random weights has latents like them.`);
  }

  function effect(known) {
    const chance = [known.chance, known.chance, known.chance];
    return panel([`${percent(known.n / known.of)} have an `, term("effect"), `, ${percent(known.chance)} by chance`],
      [own(known), report.shareBar("by chance", chance, "null")],
      `${known.note} A latent may be learnt and have no effect of its own, where other latents do the same.`);
  }

  const PANELS = { "one meaning": oneMeaning, learnt, effect };

  /* What was chosen with the run; else the first in the recommended order whose commonest tokens differ. */
  function worthShowing() {
    const chosen = [...report.data.page.worth_a_look];
    const seen = new Set();
    for (const latent of order) {
      const token = hasText ? (columns.tokens[latent][0] ?? "").trim().toLowerCase() : labelOf(latent) ?? latent;
      if (chosen.length >= N_SHOWN) break;
      if (isIdle(latent) || seen.has(token) || chosen.includes(latent)) continue;
      seen.add(token);
      chosen.push(latent);
    }
    return chosen;
  }

  async function card(latent) {
    const feature = await loadFeature(latent);
    const strongest = feature.examples.filter(([kind]) => kind < 0).slice(0, 3);
    await report.examples.load(strongest);
    const predicted = hasText ? report.lead.predicts(feature) : [];
    return h("article.card", null,
      h("h3", null,
        featureLink(latent, `Feature ${latent}`), " ", verdictElement(verdictOf(latent)), unsureElement(latent)),
      h("p.rule.clamp", null, report.lead.brief(latent)),
      report.examples.list(strongest, feature.facts.max || 1, latent, strongest.length, hasText ? "line" : null),
      predicted.length ? h("p.predicts", null, h("span.muted", null, "predicts "), predicted) : null);
  }

  async function show(section) {
    if (section.childElementCount) return;
    const cardsPlace = h("div.cards", null, h("p.waiting", null, "Reading …"));
    section.replaceChildren(...[
      h("p.intro", null, sentence()),
      shares.length ? h("div.shares", null, shares.map((known) => PANELS[known.name](known))) : [],
      ranked && hasText
        ? [h("div.headed", null, h("h2", null, "Verdicts"), h("span.muted", null, "Pale: unsure.")),
          report.verdictBar()]
        : [],
      h("div.headed", null,
        h("h2", null, hasText ? "Features worth a look" : "Features that detect a label best"),
        h("a", { href: "#features" }, `All ${format.count(latents)}`)),
      cardsPlace,
      h("div.headed", null, h("h2", null, "Your notes"), report.notes.list()),
    ].flat());
    await loadWords();
    cardsPlace.replaceChildren(...(await Promise.all(worthShowing().map(card))));
    section.dataset.ready = "true";
  }

  return { title: "Overview", show };
})();
