/* Two features side by side, and what they have in common. The address names them: #compare/12/476. */
"use strict";

report.views.compare = (() => {
  const { columns, verdictOf, isUnsure } = report.selection;
  const { latents, ranked } = report.data.page;
  const { activations, open, block, facts, logits, ruleElement, strongest } = report.views.feature.parts;
  let wanted;

  const isLatent = (text) => /^\d+$/.test(text ?? "") && Number(text) < latents;

  /* Which two: numbers that can be typed over. */
  function choice(named) {
    const field = (name, value) => h("label", null, `${name} `, h("input", { type: "number", min: 0, max: latents - 1, step: 1, required: true, value: isLatent(value) ? value : null }));
    const fields = [field("Feature", named[0]), field("beside", named[1])];
    const go = (event) => {
      event.preventDefault();
      location.hash = `#compare/${fields.map((one) => one.querySelector("input").value).join("/")}`;
    };
    return h("form.choice", { onsubmit: go }, fields, h("button", { type: "submit" }, "Compare"),
      named.every(isLatent) ? h("a", { href: `#compare/${named[1]}/${named[0]}` }, "Swap") : null);
  }

  /* The tokens of one list that are in the other too. */
  const common = (one, two) => one.filter((token) => two.includes(token));

  function shared([a, first], [b, second]) {
    const row = (name) => first[name].find(([other]) => other === b) ?? second[name].find(([other]) => other === a);
    const near = row("neighbours"), together = row("coactivations");
    const side = (name) => common(...[first, second].map(({ logits }) => (logits ? logits[name].map(([token]) => token) : [])));
    const on = common(...[first, second].map(({ tokens }) => tokens.filter(([offset]) => offset === 0).map(([, token]) => token)));
    const list = (tokens) => (tokens.length ? tokens.map((token) => [tokenElement(word(token)), " "]) : h("span.muted", null, "none"));
    const rows = [["decoder cosine", near ? format.fixed(near[1]) : h("span.muted", null, "neither is among the nearest of the other")],
      ["fire together", together ? `Jaccard ${format.fixed(together[1])}, lift ${format.significant(together[2])}` : h("span.muted", null, "not among those that do most")],
      ["fire on", list(on)], ["positive logits", list(side("top"))], ["negative logits", list(side("bottom"))]];
    return h("section.block", null, h("h2", null, "In common"), h("dl.facts", null, rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))));
  }

  function one(latent, feature) {
    return h("section", { "aria-label": `Feature ${latent}` },
      h("div.name", null, h("h2", null, featureLink(latent, `Feature ${latent}`)), h("span", null, verdictElement(verdictOf(latent)), isUnsure(latent) ? h("span.muted", null, ", unsure") : null),
        ranked ? intervalElement(columns.monosemanticity[latent], columns.low[latent], columns.high[latent]) : null),
      h("p.lead", null, ruleElement(columns.explanation[latent], columns.explanation_f1[latent], "No explanation was found.")),
      facts(feature), block("Direct logit effects", logits(feature)), block("Activations", activations(feature)),
      block("Strongest", feature.facts.n_active ? strongest(latent, feature) : h("p.missing", null, "It never fired on the tokens scanned.")));
  }

  async function show(section, argument) {
    const named = (argument ?? "").split("/");
    wanted = argument;
    delete section.dataset.latent;
    if (named.length === 1 && isLatent(named[0])) {
      const { neighbours, coactivations } = await open(Number(named[0])), [nearest] = [...neighbours, ...coactivations];
      if (wanted !== argument) return;
      if (nearest) return location.replace(`#compare/${named[0]}/${nearest[0]}`);
    }
    if (!(named.length === 2 && named.every(isLatent))) {
      const wrong = named.find((text) => text && !isLatent(text));
      section.replaceChildren(choice(named), h("p.missing", null, wrong ? `There is no feature ${wrong}: latents run from 0 to ${latents - 1}.` : "Name two features."));
      return;
    }
    const both = named.map(Number), features = await Promise.all(both.map(open));
    if (wanted !== argument) return;
    const pairs = both.map((latent, k) => [latent, features[k]]);
    section.replaceChildren(choice(named), shared(...pairs), h("div.sides", null, pairs.map(([latent, feature]) => one(latent, feature))));
    section.dataset.latent = named[0];
  }

  return { within: "features", titled: (argument) => `Features ${(argument ?? "").replace("/", " and ")}`, show };
})();
