/* What a feature does to the predictions: tokens that it raises and lowers by the direct path, and what ablating it changes. */
"use strict";

report.logits = (() => {
  const N_FIRST = 6, N_MARKED = 3, LONGEST = 12;
  const nothing = (text) => h("p.missing", null, text);
  const largest = (...sides) => Math.max(...sides.flat().map(([, v]) => Math.abs(v)), 1e-12);

  function bars(caption, rows, kind, most) {
    const line = ([token, value]) => h("tr", null, h("th", { scope: "row" }, tokenElement(word(token))),
      h("td.bar", { "--share": Math.abs(value) / most }, h("i")), h("td", null, format.fixed(value)));
    return h(`table.logits.${kind}`, null, h("caption", null, caption), h("tbody", null, rows.map(line)));
  }

  /* Tokens at both ends: [name, rows] of each, the first few of them. */
  function ends([raised, raises], [lowered, lowers], from = 0, to = N_FIRST) {
    const most = largest(raises, lowers), part = (rows) => rows.slice(from, to);
    return h("div.pair", null, bars(raised, part(raises), "positive", most), bars(lowered, part(lowers), "negative", most));
  }

  /* Changes of one kind on one scale, in nats: the interval of its null shaded, its own interval a line, and where it is. */
  function gauge([mean, low, high], [null_mean, null_low, null_high]) {
    const known = [0, mean, low, high, null_mean, null_low, null_high].filter((x) => x !== null), least = Math.min(...known), most = Math.max(...known);
    const place = (x) => ((x - least) / (most - least || 1)).toFixed(4);
    const part = (kind, from, to) => from === null || to === null ? null : h(`i.${kind}`, { "--low": place(from), "--high": place(to) });
    const text = `${format.significant(mean)} nats, null ${format.significant(null_mean)}`;
    return h("span.gauge", { role: "img", "aria-label": text, title: text }, h("i.zero", { "--at": place(0) }), part("null", null_low, null_high), part("range", low, high), h("i.point", { "--at": place(mean) }));
  }

  /* Whether the model learnt it, and what the model loses without it, on a sample of the sequences where it fires.
   *
   * learnt: its probability, null where it is not known. */
  function effects({ effects }, learnt, block) {
    const share = report.data.page.shares.find(({ name }) => name === "an effect");
    const probability = learnt === null ? null : h("tr", null, h("th", { scope: "row" }, "Learnt by the model", h("small", null, "probability; its null: random weights")),
      h("td.gauge", null, h("span.gauge", { "aria-hidden": "true" }, h("i.zero", { "--at": 0.5 }), h("i.point", { "--at": learnt }))), h("td", null, format.fixed(learnt)));
    if (!effects) {
      if (!probability && !share) return null;
      const why = share ? `It was not ablated: ${format.count(share.of)} latents were, ${share.note.split(";")[0]}.` : "No latent was ablated.";
      return block("Learnt, and its effect", h("table.plain.effects", null, h("tbody", null, probability)), nothing(why));
    }
    const { loss_change, null_loss_change, beyond_null, later_loss_change, kl, null_kl, likelier, less_likely, sequences, why } = effects;
    const interval = ([, low, high]) => low === null ? null : ` (${format.significant(low, 2)} to ${format.significant(high, 2)})`;
    const cell = (values) => h("td", null, format.significant(values[0]), h("small", null, interval(values)));
    const row = (title, meaning, values, null_values) => values && values[0] !== null ? h("tr", null, h("th", { scope: "row" }, title, h("small", null, meaning, null_values ? `; null ${format.significant(null_values[0], 2)}` : null, null_values ? interval(null_values) : null)),
      h("td.gauge", null, null_values ? gauge(values, null_values) : null), cell(values)) : null;
    const many = `${format.count(sequences)} ${sequences === 1 ? "sequence" : "sequences"}`;
    return block("Learnt, and its effect", h("table.plain.effects", null, h("tbody", null, probability,
      row("Loss without it", "at its firings", loss_change, null_loss_change), row("Beyond its null", "loss less null, at the same firings", beyond_null),
      row("At later tokens", "loss", later_loss_change), row("Change of the predictions", "KL", kl, null_kl))),
    why ? h("p.why", null, why) : null,
    h("p.below", null, `Nats; ablated in ${many}. Shaded: its null, as long a change along other latents; thin line: 0, or probability ½; 95 % intervals.`),
    h("details", null, h("summary", null, "Tokens that it makes likelier and less likely where it fires"), ends(["likelier", likelier], ["less likely", less_likely])));
  }

  /* A token on one line of a picture. */
  function short(token) {
    const characters = Array.from(word(token), (c) => ({ " ": "·", "\n": "↵", "\t": "⇥" })[c] ?? c);
    return characters.length > LONGEST ? `${characters.slice(0, LONGEST - 1).join("")}…` : characters.join("");
  }

  /* The effects on all tokens of the vocabulary that occur, the outermost by name. */
  function spread({ top, bottom, counts }) {
    if (!counts.length || !top.length) return null;
    const [least, most] = [bottom[0][1], top[0][1]];
    const marks = [...bottom.slice(0, N_MARKED), ...top.slice(0, N_MARKED).reverse()].map(([token, value]) => [value, short(token)]);
    const edges = Array.from({ length: counts.length + 1 }, (_, k) => least + (k / counts.length) * (most - least));
    return report.histogram({
      title: "Histogram of logit effects over the vocabulary", edges, counts,
      ticks: least < 0 && most > 0 ? [least, 0, most] : [least, most], marks, root: true, axis: "effect on the logit at activation 1", unit: "tokens (√)",
    });
  }

  function logits(feature) {
    if (!feature.logits) return nothing(report.data.page.logits ? `There are ${report.data.page.logits}.` : "No logit effects were computed.");
    const { top, bottom } = feature.logits, sides = [["positive logits", top], ["negative logits", bottom]];
    const rest = top.length > N_FIRST ? ends(...sides, N_FIRST, top.length) : null;
    return [ends(...sides), h("details", null, h("summary", null, "More tokens, and the whole vocabulary"), rest, spread(feature.logits))];
  }

  return { logits, effects };
})();
