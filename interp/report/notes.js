/* A reader's own stars, labels and notes: kept in the browser, taken out and in as JSON.
 *
 * {"format": "interp-notes", "features": KEY, "notes": {"12": {"star": true, "label": "…", "note": "…"}}}, where KEY says of
 * which features they are. Where a browser keeps nothing, they last as long as the page. */
"use strict";

report.notes = (() => {
  const { key, latents } = report.data.page;
  const PLACE = `interp-notes/${key}`;
  const FORMAT = "interp-notes";
  const MOST = 20_000;
  const listeners = [];
  let kept = read();

  function read() {
    try {
      return checked(JSON.parse(localStorage.getItem(PLACE) ?? "{}"));
    } catch {
      return {};
    }
  }

  /* The notes of a mapping, each with the fields that say something; a TypeError for what is no note. */
  function checked(found) {
    const notes = {};
    for (const [latent, note] of Object.entries(found)) {
      if (!/^\d+$/.test(latent) || Number(latent) >= latents) throw new TypeError(`it has a note of latent ${latent}, which is not here`);
      const { star = false, label = "", note: text = "" } = note ?? {};
      if (typeof star !== "boolean" || typeof label !== "string" || typeof text !== "string") throw new TypeError(`its note of latent ${latent} is none`);
      if (star || label || text) notes[latent] = { star, label: label.slice(0, MOST), note: text.slice(0, MOST) };
    }
    return notes;
  }

  function keep() {
    try {
      localStorage.setItem(PLACE, JSON.stringify(kept));
    } catch {
      trouble("This browser keeps no notes of a page like this: export them before you close it.");
    }
    for (const listener of listeners) listener();
  }

  const of = (latent) => kept[latent] ?? { star: false, label: "", note: "" };

  function set(latent, fields) {
    kept = checked({ ...kept, [latent]: { ...of(latent), ...fields } });
    keep();
  }

  const exported = () => JSON.stringify({ format: FORMAT, features: key, notes: kept }, null, 1);

  /* Add the notes of an exported text; those of a latent that has some already take their place. */
  function add(text) {
    let found;
    try {
      found = JSON.parse(text);
      if (found?.format !== FORMAT) throw new TypeError("it is not what this page exports");
      if (found.features !== key) throw new TypeError("it is of other features");
      kept = { ...kept, ...checked(found.notes) };
    } catch (error) {
      return trouble(`No notes were imported: ${error.message}.`);
    }
    keep();
  }

  function download() {
    const address = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
    h("a", { href: address, download: "notes.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  /* The fields of one feature. */
  function editor(latent) {
    const { star, label, note } = of(latent);
    const button = h("button.star", { type: "button", "aria-pressed": String(star), title: "star (s)", onclick: () => { set(latent, { star: !of(latent).star }); paint(); } });
    const paint = () => {
      button.setAttribute("aria-pressed", String(of(latent).star));
      button.textContent = of(latent).star ? "★ starred" : "☆ star";
    };
    paint();
    const text = h("textarea", { rows: 1, placeholder: "Your note", "aria-label": "Your note", oninput() { set(latent, { note: this.value }); } });
    text.value = note;
    return h("div.notes", null, button,
      h("input", { type: "text", value: label, placeholder: "Your label", "aria-label": "Your label", oninput() { set(latent, { label: this.value }); } }), text);
  }

  /* All of them, with the buttons that take them out and in. */
  function list() {
    const place = h("div.kept", null);
    const file = h("input", { type: "file", accept: ".json,application/json", hidden: true, "aria-label": "Notes to import", async onchange() { if (this.files.length) add(await this.files[0].text()); this.value = ""; } });
    const paint = () => {
      const rows = Object.entries(kept);
      place.replaceChildren(
        rows.length ? h("ul.mine", null, rows.map(([latent, { star, label, note }]) => h("li", null, star ? "★ " : "", featureLink(latent, `Feature ${latent}`), label ? h("bdi", null, ` ${label}`) : "", note ? h("bdi.muted", null, ` ${note}`) : "")))
          : h("p.muted", null, "Star, label or note a feature on its page; it stays in this browser."),
        h("button", { type: "button", disabled: !rows.length, onclick: download }, "Export"), " ",
        h("button", { type: "button", onclick: () => file.click() }, "Import"), file);
    };
    listeners.push(paint);
    paint();
    return place;
  }

  return { of, set, add, exported, editor, list, listen: (listener) => listeners.push(listener) };
})();
