/* The first view: the dictionary in a sentence, its three shares with what they are compared with, its verdicts, and a
 * few features. */
"use strict";

report.views.overview = (() => {
  const { about, columns, latents, tokens, order, ranked, shares, has_text: hasText } = report.data.page;
  const compared = report.data.page.null;
  const { verdictOf, labelOf, isUnsure, isIdle } = report.selection;
  const N_SHOWN = 6;
  const MAP_SIZE = [340, 255];

  function sentence() {
    let idle = 0;
    for (let i = 0; i < latents; i++) if (isIdle(i)) idle++;
    const size = `Scanned on ${format.count(tokens)} ${hasText ? "tokens" : "rows"}: `;
    const work = [`${format.count(latents - idle)} `, term("feature", "features"),
      ` are in use, ${format.count(idle)} are `, term("dead"), " or ", term("faint"), "."];
    if (!hasText) {
      return [size, work, " The rows are not text, so they get no verdict on their meaning; labels say what a feature "
        + "detects."];
    }
    const { headlines } = report.data.page;
    const more = headlines.length ? ` ${headlines.join(" · ")}.` : null;
    return [size, work, ranked ? null : " They were not ranked.", more];
  }

  const percent = (share) => `${(100 * share).toFixed(share && share < 0.095 ? 1 : 0)} %`;
  const shareOf = ({ n, of, interval }) => [n / of, ...interval];
  const panel = (heading, bars, ...note) => h("section.share", null, h("h2", null, heading), bars, h("p", null, note));
  const own = (known, of) =>
    report.shareBar(tipped("this dictionary", `${format.count(known.n)} of ${of(format.count(known.of))}`),
      shareOf(known), "own");

  /* The share of this dictionary with one meaning. What is compared with the null has the same settings, trained on as
   * many tokens and judged on as many latents. */
  function oneMeaning(known) {
    const share = [`${percent(known.n / known.of)} have `, term("one meaning")];
    const mine = own(known, (n) => `the ${n} features in use`);
    if (!compared) return panel(share, mine, "No null was run, so there is nothing to compare this with.");
    const { matched, null: nearest } = compared;
    const of = ({ title, means, judged }) =>
      `${title}: ${means}; of ${format.count(judged)} features, drawn at random`;
    const bars = [
      mine,
      report.shareBar(tipped(matched.title, of(matched)), matched.one, "matched"),
      report.shareBar(tipped("closest null", of(nearest)), nearest.one, "null"),
    ];
    const isAbove = nearest.one[2] < matched.one[1];
    const heading = [share, `; trained alike ${percent(matched.one[0])}, closest `, term("null"),
      ` ${percent(nearest.one[0])}`];
    return panel(heading, bars, h("span.told", null, isAbove
      ? "Distinguishable: the two intervals do not overlap."
      : "Not distinguishable: the two intervals overlap."));
  }

  function learnt(known) {
    const share = `${percent(known.n / known.of)} are `;
    return panel([share, term("learnt"), " by the model"], own(known, (n) => `the ${n} features that could be tested`),
      `The other ${percent(1 - known.n / known.of)} look like features of a model with random weights: the text alone `
        + "can explain them. No null was tested for this share.");
  }

  function effect(known) {
    const chance = [known.chance, known.chance, known.chance];
    const share = `${percent(known.n / known.of)} have an `;
    return panel([share, term("effect")],
      [own(known, (n) => `the ${n} features ablated. ${known.note}`), report.shareBar("by chance", chance, "null")],
      "A feature may be learnt but have no effect of its own, if other features do the same.");
  }

  const PANELS = { "one meaning": oneMeaning, learnt, effect };

  /* The features chosen with the run; else the first in the recommended order whose most common tokens differ. */
  function worthShowing() {
    const chosen = [...report.data.page.worth_showing];
    const seen = new Set();
    for (const latent of order) {
      const token = hasText ? (columns.tokens[latent][0] ?? "").trim().toLowerCase() : labelOf(latent) ?? latent;
      if (chosen.length >= N_SHOWN) break;
      if (isIdle(latent) || seen.has(token) || chosen.some(([other]) => other === latent)) continue;
      seen.add(token);
      chosen.push([latent, null]);
    }
    return chosen;
  }

  /* why: the reason why it is shown, null if it is only the next in the order. Each of several senses shows its
   * strongest firing. */
  async function card([latent, why]) {
    const feature = await loadFeature(latent);
    const senses = feature.senses ?? [];
    const ofSenses = senses.flatMap(({ examples }) => examples.slice(0, 1));
    const strongest = [...ofSenses, ...feature.examples.filter(([kind]) => kind < 0)].slice(0, 3);
    await report.examples.load(strongest);
    const predicted = hasText ? report.lead.predicts(feature) : [];
    return h("article.card", null,
      h("h3", null,
        featureLink(latent, `Feature ${latent}`), " ", verdictElement(verdictOf(latent)), unsureElement(latent),
        why ? h("small.why", null, why) : null),
      h("p.rule.clamp", null, senses.length ? report.lead.inSenses(senses) : report.lead.brief(latent)),
      report.examples.list(latent, feature, strongest, { how: hasText ? "line" : null, senses }),
      predicted.length ? h("p.predicts", null, h("span.muted", null, "raises "), predicted) : null);
  }

  async function show(section) {
    if (section.childElementCount) return;
    const headed = (title, ...more) => h("div.headed", null, h("h2", null, title), more);
    const cardsPlace = h("div.cards", null, h("p.waiting", null, "Reading …"));
    const map = h("figure.overview-map");
    const parts = about.split(/(L0|cross-entropy recovered|(?<=for )\S+(?= of))/);
    const inTerms = (part, k) =>
      (k % 2 ? (report.words.meanings[part] ? term(part) : h("code", null, part)) : part);
    section.replaceChildren(
      h("div.top", null,
        h("div", null,
          h("p.about", null, parts.map(inTerms)),
          h("p.intro", null, sentence()),
          shares.length ? h("div.shares", null, shares.map((known) => PANELS[known.name](known))) : null,
          ranked && hasText
            ? [headed("Verdicts", h("span.muted", null, `Of all ${format.count(latents)} features. Muted: unsure.`)),
              report.verdictBar()]
            : null),
        map),
      headed(hasText ? "Features worth a look" : "Features that detect a label best",
        h("a", { href: "#features" }, `All ${format.count(latents)}`)),
      cardsPlace,
      headed("Your notes", report.notes.list()));
    await loadWords();
    cardsPlace.replaceChildren(...(await Promise.all(worthShowing().map(card))));
    section.dataset.ready = "true";
    const picture = await report.views.map.small(...MAP_SIZE);
    if (!picture) return map.remove();
    map.append(picture, h("figcaption", null, "Each point is a feature; near means alike. ",
      h("a", { href: "#map" }, "Open the map")));
  }

  return { title: "Overview", show };
})();
