/* A text box in a notebook: its tokens, which features fire on them, and the card of one. See live_model.py. */

import { h } from "../elements/elements.js";

const PAUSE = 400; // milliseconds after the last key

export function render({ model, el }) {
  let at = null,
    timer;
  const field = h("textarea", {
    rows: 3,
    spellcheck: "false",
    "aria-label": "A text for the model",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(read, PAUSE);
    },
  });
  const tokens = h("div.tokens", { dir: "auto", "aria-label": "Its tokens" });
  const features = h("div.features", { "aria-live": "polite" });
  const card = h("div.card", null);

  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };

  function read() {
    el.classList.add("waiting");
    set("text", field.value);
  }

  /* The tokens, each shaded by the strongest of its features; `only`: by one latent. */
  function shade(only) {
    const { firing = [] } = model.get("reading");
    tokens.querySelectorAll("button").forEach((token, position) => {
      const strengths = firing[position]
        .filter(([latent]) => only === undefined || latent === only)
        .map(([, strength]) => strength);
      token.style.setProperty("--strength", Math.min(1, Math.max(0, ...strengths)).toFixed(3));
    });
  }

  function row([latent, strength, places]) {
    const [verdict, rule] = model.get("reading").about[latent];
    const amount = `${strength.toFixed(2)}${places > 1 ? ` at ${places} tokens` : ""}`;
    return h(
      "button.feature",
      {
        type: "button",
        "aria-pressed": String(latent === model.get("latent")),
        onclick: () => set("latent", latent),
        onpointerenter: () => shade(latent),
        onpointerleave: () => shade(),
        onfocus: () => shade(latent),
        onblur: () => shade(),
      },
      h("span.name", null, `Feature ${latent}`),
      h("span.verdict", null, verdict),
      h("bdi", null, rule),
      h("span.amount", null, amount),
    );
  }

  function choose(position) {
    at = position === at ? null : position;
    list();
  }

  /* List what fires in the text, or at the chosen token. */
  function list() {
    const { tokens: words, firing, features: whole, left_out: leftOut } = model.get("reading");
    const rows = at === null ? whole : firing[at];
    Array.from(tokens.children, (token, position) => token.setAttribute("aria-pressed", String(position === at)));
    const where = at === null ? "In the text" : h("span", null, "At ", h("bdi.word", null, words[at]));
    features.replaceChildren(
      h("div.where", null, where, h("span.amount", null, "share of its maximum")),
      ...rows.map(row),
      rows.length ? "" : "No feature fires.",
      leftOut ? h("p", null, `The model reads ${words.length} tokens: the first ${leftOut} are left out.`) : "",
    );
  }

  function showReading() {
    el.classList.remove("waiting");
    at = null;
    const { error = "", tokens: words = [] } = model.get("reading");
    tokens.replaceChildren(
      ...words.map((word, position) =>
        h(
          "button",
          { type: "button", "aria-pressed": "false", onclick: () => choose(position) },
          word.replaceAll("\n", "↵"),
        ),
      ),
    );
    if (!words.length) return features.replaceChildren(error);
    shade();
    list();
  }

  /* Written by the kernel, with every text in it escaped, as a notebook shows any feature. */
  function showCard() {
    card.innerHTML = model.get("card");
    if (model.get("reading").about) list();
  }

  function showText() {
    if (model.get("text") !== field.value) field.value = model.get("text");
  }

  const shown = { "change:reading": showReading, "change:card": showCard, "change:text": showText };
  for (const [event, show] of Object.entries(shown)) {
    model.on(event, show);
    show();
  }
  el.classList.add("interp-explore");
  el.append(field, tokens, h("div.below", null, features, card));
  return () => Object.entries(shown).forEach(([event, show]) => model.off(event, show));
}
