/* Two features side by side, and what they have in common. The address names them: #compare/12/476. */
"use strict";

report.views.compare = (() => {
  const { columns, verdictOf } = report.selection;
  const { latents, ranked, has_text: hasText } = report.data.page;
  const { open, block, facts } = report.views.feature;
  const { activations, strongest } = report.firings;
  let wanted;

  const isLatent = (text) => /^\d+$/.test(text ?? "") && Number(text) < latents;

  /* Which two: numbers that can be typed over. */
  function choice(named) {
    const field = (name, text) => {
      const value = isLatent(text) ? text : null;
      return h("label", null, `${name} `,
        h("input", { type: "number", min: 0, max: latents - 1, step: 1, required: true, value }));
    };
    const fields = [field("Feature", named[0]), field("beside", named[1])];
    const go = (event) => {
      event.preventDefault();
      location.hash = `#compare/${fields.map((one) => one.querySelector("input").value).join("/")}`;
    };
    return h("form.choice", { onsubmit: go }, fields,
      h("button", { type: "submit" }, "Compare"),
      named.every(isLatent) ? h("a", { href: `#compare/${named[1]}/${named[0]}` }, "Swap") : null);
  }

  /* The tokens of one list that are in the other too. */
  function common(one, two) {
    const both = one.filter((token) => two.includes(token));
    return both.length ? both.map((token) => [tokenElement(word(token)), " "]) : h("span.muted", null, "none");
  }

  function shared([a, first], [b, second]) {
    const rowOf = (name) => (
      first[name].find(([other]) => other === b) ?? second[name].find(([other]) => other === a)
    );
    const near = rowOf("neighbours");
    const together = rowOf("coactivations");
    const predicted = (feature, side) => feature.logits?.[side].map(([token]) => token) ?? [];
    const firedOn = (feature) => feature.tokens.filter(([offset]) => offset === 0).map(([, token]) => token);
    const far = h("span.muted", null, "not among each other's nearest");
    const apart = h("span.muted", null, "not among the pairs that do so most");
    const jointly = together && `Jaccard ${format.fixed(together[1])}, lift ${format.significant(together[2])}`;
    const rows = [
      ["decoder cosine", near ? format.fixed(near[1]) : far],
      ["fire together", jointly ?? apart],
    ];
    if (hasText) {
      rows.push(
        ["fire on", common(firedOn(first), firedOn(second))],
        ["positive logits", common(predicted(first, "top"), predicted(second, "top"))],
        ["negative logits", common(predicted(first, "bottom"), predicted(second, "bottom"))]);
    }
    return h("section.block", null, h("h2", null, "In common"), factsElement(rows));
  }

  function one(latent, feature) {
    const probability = [columns.monosemanticity[latent], columns.low[latent], columns.high[latent]];
    const silent = h("p.missing", null, "It never fired on the tokens scanned.");
    return h("section", { "aria-label": `Feature ${latent}` },
      h("div.name", null,
        h("h2", null, featureLink(latent, `Feature ${latent}`)),
        h("span", null, verdictElement(verdictOf(latent)), unsureElement(latent)),
        ranked ? intervalElement(...probability) : null),
      report.lead.element(latent, feature),
      facts(feature),
      hasText ? block("Direct logit effects", report.logits.logits(feature)) : null,
      block("Activations", activations(feature)),
      block("Strongest", feature.facts.n_active ? strongest(latent, feature) : silent));
  }

  async function show(section, argument) {
    const named = (argument ?? "").split("/");
    wanted = argument;
    delete section.dataset.latent;
    if (named.length === 1 && isLatent(named[0])) {
      const { neighbours, coactivations } = await open(Number(named[0]));
      const [nearest] = [...neighbours, ...coactivations];
      if (wanted !== argument) return;
      if (nearest) return location.replace(`#compare/${named[0]}/${nearest[0]}`);
    }
    if (!(named.length === 2 && named.every(isLatent))) {
      const wrong = named.find((text) => text && !isLatent(text));
      const missing = `There is no feature ${wrong}: latents run from 0 to ${latents - 1}.`;
      section.replaceChildren(choice(named), h("p.missing", null, wrong ? missing : "Name two features."));
      return;
    }
    const both = named.map(Number);
    const features = await Promise.all(both.map(open));
    if (wanted !== argument) return;
    const pairs = both.map((latent, k) => [latent, features[k]]);
    const sides = pairs.map(([latent, feature]) => one(latent, feature));
    section.replaceChildren(choice(named), shared(...pairs), h("div.sides", null, sides));
    section.dataset.latent = named[0];
  }

  const titled = (argument) => `Features ${(argument ?? "").replace("/", " and ")}`;
  return { within: "features", titled, show };
})();
