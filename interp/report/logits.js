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

  /* What the model says without it, on a sample of the sequences where it fires. */
  function effects({ effects }, block) {
    if (!effects) return null;
    const { loss_change, null_loss_change, later_loss_change, kl, null_kl, likelier, less_likely, sequences } = effects;
    const row = (title, [mean, low, high]) => mean === null ? null : h("tr", null, h("th", { scope: "row" }, title),
      h("td", null, format.significant(mean)), h("td.muted", null, low === null ? "" : `${format.significant(low, 2)} to ${format.significant(high, 2)}`));
    const rows = [row("Loss without it, where it fires", loss_change), row("null: as long a change along other latents", null_loss_change),
      later_loss_change.some((x) => x) ? row("at later tokens", later_loss_change) : null, row("KL of the predictions", kl), row("null", null_kl)];
    const many = `${format.count(sequences)} ${sequences === 1 ? "sequence" : "sequences"}`;
    return block("What it does", h("table.plain.effects", null, h("tbody", null, rows), h("caption.below", null,
      `Nats, ablated in ${many}, with 95 % intervals.`)),
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
