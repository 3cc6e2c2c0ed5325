/* "Try text": which features fire in a text, what each adds to the next token, and what the model writes with some held. */
"use strict";

report.views.try = (() => {
  const { columns, verdictOf, isUnsure } = report.selection;
  const { latents } = report.data.page;
  const EXAMPLE = "Once upon a time, in the middle of the night,";
  const PAUSE = 350, N_LISTED = 20;
  const held = new Map();
  let read, at, parts, timer, isSingle = false;

  /* Features of one token are left out where that is asked for. */
  const isShown = (latent) => isSingle || format.verdict(verdictOf(latent)) !== "single-token";

  const percent = (p) => `${format.significant(100 * p, 2)} %`;
  const failed = (place, error) => place.replaceChildren(h("p.missing", { role: "alert" }, `${error.message}.`));

  /* What is asked last is shown: an answer that comes later than that of a newer question is dropped. */
  function asker(place) {
    let newest = 0;
    return async (name, asked, shown) => {
      const own = ++newest;
      place.replaceChildren(h("p.waiting", null, "Running the model …"));
      try {
        const found = await ask(name, asked);
        if (own === newest) shown(found);
      } catch (error) {
        if (own === newest) failed(place, error);
      }
    };
  }

  function described(latent) {
    return [featureLink(latent, `Feature ${latent}`), " ", verdictElement(verdictOf(latent)), isUnsure(latent) ? h("span.muted", null, ", unsure") : null,
      h("div.rule", null, columns.explanation[latent] ? ruleText(columns.explanation[latent]) : h("span.muted", null, "no explanation"))];
  }

  const holdButton = (latent) => h("button.hold", { type: "button", "aria-label": `Hold feature ${latent}`, title: "hold this feature while the model writes, below", onclick: () => hold(latent) }, "Hold");

  /* The text, each token shaded by how strongly features fire there; `only` one of them, where it is given. */
  function shade(only) {
    const strength = (position) => {
      if (only) return Math.max(0, ...only.filter(([place]) => place === position).map(([, z, latent]) => z / columns.max[latent]));
      return Math.max(0, ...read.firing[position].filter(([latent]) => isShown(latent)).map(([latent, z]) => z / columns.max[latent]));
    };
    for (const button of parts.reading.querySelectorAll(".piece")) {
      const shown = Math.max(...button.dataset.tokens.split(",").map((position) => strength(Number(position))));
      button.style.setProperty("--shade", Math.min(shown, 1).toFixed(3));
      button.classList.toggle("on", shown > 0);
    }
  }

  /* One cell a token, each as dark as the feature is strong there: below each other they are a grid of tokens and features. */
  function strip(own) {
    const strengths = new Map(own.map(([position, z, latent]) => [position, z / columns.max[latent]]));
    return h("div.strip", { "aria-hidden": "true" }, read.tokens.map((token, position) =>
      h("i", { title: word(token), "--shade": strengths.has(position) ? Math.max(Math.min(strengths.get(position), 1), 0.1).toFixed(2) : null })));
  }

  function showText(found) {
    read = found;
    const pieces = report.pieces(read.tokens.map(word));
    parts.reading.replaceChildren(h("p.muted", null, `${format.count(read.tokens.length)} tokens, shaded by the strongest of the features listed. Choose one:`),
      h("div.text", { dir: "auto" }, pieces.map(({ text, tokens }) => [h("button.token.piece", { type: "button", "data-tokens": tokens.join(","), "aria-pressed": "false", "aria-label": text.trim() ? null : spelled(text), onclick: () => choose(tokens.at(-1)) }, visible(text)), h("wbr")])));
    parts.features.replaceChildren(h("h2", null, "In the whole text"),
      read.features.length ? h("p.muted", null, "Strength: its activation, as a share of its maximum in the scan. Point at a feature to see where it fires.") : h("p.missing", null, "No feature fires."),
      h("ol.firing", null, read.features.filter(([latent]) => isShown(latent)).slice(0, N_LISTED).map(([latent, strength, places]) => {
        const own = places.map(([position, z]) => [position, z, latent]);
        return h("li", { onpointerenter: () => shade(own), onpointerleave: () => shade(), onfocusin: () => shade(own), onfocusout: () => shade() },
          h("div.what", null, described(latent), strip(own)), h("div.amount", null, `strength ${format.fixed(strength)}`, h("small", null, places.length === 1 ? " at 1 token" : ` at ${format.count(places.length)} tokens`)), holdButton(latent));
      })));
    shade();
    choose(read.tokens.length - 1);
  }

  /* What the features of one token add to the prediction behind it. */
  function choose(position) {
    at = position;
    for (const button of parts.reading.querySelectorAll(".piece")) button.setAttribute("aria-pressed", String(button.dataset.tokens.split(",").includes(String(at))));
    askAt("at", { text: parts.field.dataset.read, position }, showToken);
  }

  const changes = (kind, name, rows) => rows.length ? h(`p.moved.${kind}`, null, h("span.muted", null, `${name} `), rows.map(([token, p, without]) => [h("span.change", null, tokenElement(word(token)), h("small", null, ` ${format.significant(100 * without, 2)} → ${percent(p)}`)), " "])) : null;

  function showToken({ next, features }) {
    const most = Math.max(...next.map(([, p]) => p));
    parts.there.replaceChildren(h("h2", null, "At ", tokenElement(word(read.tokens[at])), h("small", null, ` position ${at}`)),
      h("table.logits.positive", null, h("caption", null, "The model's next token, and its probability"), h("tbody", null, next.map(([token, p]) =>
        h("tr", null, h("th", { scope: "row" }, tokenElement(word(token))), h("td.bar", { "--share": p / most }, h("i")), h("td", null, percent(p)))))),
      features.length ? h("p.muted", null, "What fires here, and what each feature does to that prediction: probabilities without it → with it.") : h("p.missing", null, "No feature fires here."),
      h("ol.firing", null, features.filter(({ latent }) => isShown(latent)).map(({ latent, activation, kl, raises, lowers }) => h("li", null, h("div.what", null, described(latent), changes("positive", "raises", raises), changes("negative", "lowers", lowers)),
        h("div.amount", null, `activation ${format.significant(activation)}`, h("small", { title: "how far the prediction moves without it" }, ` KL ${format.significant(kl, 2)} nats`)), holdButton(latent)))));
  }

  function hold(latent) {
    if (!held.has(latent)) held.set(latent, 2);
    showHeld();
  }

  function showHeld() {
    parts.held.replaceChildren(...Array.from(held, ([latent, multiple]) => h("li", null, h("div.what", null, described(latent)),
      h("label", null, h("input", { type: "number", value: multiple, step: "0.5", min: -100, max: 100, required: true, oninput() { held.set(latent, this.valueAsNumber); } }), " × its maximum"),
      h("button", { type: "button", onclick: () => { held.delete(latent); showHeld(); } }, "Let go"))));
    parts.sample.disabled = !held.size;
  }

  function sample() {
    const value = (name) => parts.options[name].valueAsNumber;
    if (!parts.form.reportValidity()) return;
    const asked = { prompt: parts.field.value, multiples: Object.fromEntries(held), n_tokens: value("tokens"), temperature: value("temperature"), seed: value("seed") };
    askSamples("steer", asked, ({ prompt, plain, steered }) => {
      const text = (ids) => report.pieces(ids.map(word)).map((piece) => h(`span.token${piece.tokens[0] < prompt ? ".muted" : ""}`, null, visible(piece.text)));
      parts.samples.replaceChildren(h("div.pair", null, [["The model as it is", plain], ["With what is held", steered]].map(([title, ids]) => h("div", null, h("h3", null, title), h("div.text.sampled", { dir: "auto" }, text(ids))))));
    });
  }

  let askRead, askAt, askSamples;

  function build(section) {
    const number = (name, label, value, min, max, step) => [name, h("label", null, `${label} `, h("input", { type: "number", name, value, min, max, step, required: true }))];
    const fields = new Map([number("tokens", "Tokens", 40, 1, 200, 1), number("temperature", "Temperature", 1, 0, 10, "any"), number("seed", "Seed", 0, 0, 2 ** 31 - 1, 1)]);
    const feature = h("input", { type: "number", min: 0, max: latents - 1, step: 1, placeholder: "number", title: `0 to ${latents - 1}` });
    const add = () => { if (feature.value && feature.reportValidity()) { hold(feature.valueAsNumber); feature.value = ""; } };
    parts = Object.fromEntries(["reading", "there", "features", "samples"].map((name) => [name, h(`div.${name}`, { "aria-live": name === "samples" ? "polite" : null })]));
    [askRead, askAt, askSamples] = [parts.reading, parts.there, parts.samples].map(asker);
    parts.held = h("ul.firing.held", null);
    parts.sample = h("button", { type: "submit" }, "Write");
    parts.options = Object.fromEntries(Array.from(fields, ([name, label]) => [name, label.querySelector("input")]));
    parts.field = h("textarea", { id: "typed", rows: 3, spellcheck: "false", oninput() { clearTimeout(timer); timer = setTimeout(go, PAUSE); } });
    parts.field.value = EXAMPLE;
    const go = () => {
      parts.field.dataset.read = parts.field.value;
      for (const place of [parts.there, parts.features]) place.replaceChildren();
      askRead("read", { text: parts.field.value }, showText);
    };
    const single = h("input", { type: "checkbox", checked: isSingle, onchange() { isSingle = this.checked; if (read) showText(read); } });
    parts.form = h("form.hold", { onsubmit(event) { event.preventDefault(); sample(); } }, parts.held,
      h("p.options", null, h("label", null, "Feature ", feature), h("button", { type: "button", onclick: add }, "Hold"), Array.from(fields.values()), parts.sample));
    section.replaceChildren(h("div.typed", null, h("label", { for: "typed" }, "A text for the model"), parts.field,
      h("p.options", null, h("label", null, single, " features of a single token too"))),
    parts.reading, h("div.split", null, parts.there, parts.features),
    h("h2", null, "Hold features while it writes"), h("p.muted", null, "The text above goes on, once as the model is and once with the features held at a multiple of their maximum; both are drawn with the same seed."), parts.form, parts.samples);
    showHeld();
    go();
  }

  async function show(section, argument) {
    await loadWords();
    if (!parts) build(section);
    if (/^\d+$/.test(argument ?? "") && Number(argument) < latents) hold(Number(argument));
    section.dataset.ready = "true";
  }

  document.querySelector("nav").append(h("a", { href: "#try", "data-view": "try" }, "Try text"));
  document.getElementById("main").append(h("section.view", { id: "try", "aria-label": "Try text", hidden: true }));

  return { title: "Try text", show };
})();
