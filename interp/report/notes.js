/* A reader's stars, labels and notes: kept in the browser, or by a live page in the run; exported as JSON.
 *
 * {"format": "interp-notes", "features": KEY, "notes": {"12": {"star": true, "label": "…", "note": "…"}}}, where KEY
 * says to which features they belong. If a browser stores nothing, they last as long as the page. */
"use strict";

report.notes = (() => {
  const { key, latents } = report.data.page;
  const PLACE = `interp-notes/${key}`;
  const TIMES = `${PLACE}/times`; // of the last changes in this browser
  const FORMAT = "interp-notes";
  const N_OFFERED = 6; // to begin with, where none is worth a look
  const listeners = [];
  /* How the list is sorted, and how two latents are compared, where they are not by their numbers. */
  const ORDERS = {
    number: () => 0,
    "last changed": (a, b) => (times[b] ?? 0) - (times[a] ?? 0),
    label: (a, b) => Number(!of(a).label) - Number(!of(b).label) || of(a).label.localeCompare(of(b).label),
  };
  let kept = read();
  let times = readTimes();
  let write = null;
  let unsaved = null; // the place that says "saved" once the last change is stored

  function read() {
    try {
      return checked(JSON.parse(localStorage.getItem(PLACE) ?? "{}"));
    } catch {
      return {};
    }
  }

  function readTimes() {
    try {
      return JSON.parse(localStorage.getItem(TIMES) ?? "{}");
    } catch {
      return {};
    }
  }

  /** The notes of a mapping, each with its non-empty fields; a TypeError for an invalid note.
   * @type {(mapping: any) => Record<number, Note>} */
  function checked(mapping) {
    /** @type {Record<string, Note>} */
    const notes = {};
    for (const [latent, note] of Object.entries(mapping)) {
      if (!/^\d+$/.test(latent) || Number(latent) >= latents) {
        throw new TypeError(`it has a note of feature ${latent}, which is not here`);
      }
      const { star = false, label = "", note: text = "" } = note ?? {};
      if (typeof star !== "boolean" || typeof label !== "string" || typeof text !== "string") {
        throw new TypeError(`its note of feature ${latent} is not valid`);
      }
      if (star || label || text) notes[latent] = { star, label, note: text };
    }
    return notes;
  }

  /** edits: latent → [its note before, its note now].
   * @type {(edits: Record<number, [before: Note, now: Note]>) => void} */
  function keep(edits) {
    try {
      if (write) write(edits);
      else {
        store(edits);
        sayStored();
      }
    } catch {
      trouble("This browser does not store notes for a page like this: export them before you close it.");
    }
    for (const listener of listeners) listener();
  }

  /* Store the fields that were changed, beside what other tabs have stored by now. */
  function store(edits) {
    const all = read();
    for (const [latent, [before, now]] of Object.entries(edits)) {
      const changed = Object.entries(now).filter(([name, value]) => value !== before[name]);
      all[latent] = { ...now, ...all[latent], ...Object.fromEntries(changed) };
    }
    localStorage.setItem(PLACE, JSON.stringify(checked(all)));
    localStorage.setItem(TIMES, JSON.stringify(times));
    kept = checked(all);
  }

  window.addEventListener("storage", (event) => event.key === PLACE && !write && replace(read()));

  function sayStored() {
    if (unsaved) unsaved.textContent = "saved";
    unsaved = null;
  }

  /** From now on pass each change to `writer` instead of to this browser; it calls `replace` when it has stored them.
   * @type {(writer: (edits: Record<number, [before: Note, now: Note]>) => void) => void} */
  function keepWith(writer) {
    write = writer;
  }

  /** Show these notes, which are stored, with all changes made so far.
   * @type {(notes: Record<number, Note>) => void} */
  function replace(notes) {
    kept = checked(notes);
    repaint();
    sayStored();
    for (const listener of listeners) listener();
  }

  /** @type {(latent: number) => Note} */
  const of = (latent) => kept[latent] ?? { star: false, label: "", note: "" };

  /** @type {(latent: number, fields: Partial<Note>) => void} */
  function set(latent, fields) {
    const before = of(latent);
    kept = checked({ ...kept, [latent]: { ...before, ...fields } });
    times = { ...times, [latent]: Date.now() };
    keep({ [latent]: [before, of(latent)] });
  }

  const latentsKept = () => Object.keys(kept).map(Number);
  const starred = () => Object.values(kept).filter(({ star }) => star).length;

  /** Whether a latent has a label or a note of the reader's own.
   * @type {(latent: number) => boolean} */
  const isNoted = (latent) => Boolean(of(latent).label || of(latent).note);

  const exported = () => JSON.stringify({ format: FORMAT, features: key, notes: kept }, null, 1);

  /** Add the notes of an exported text; they replace those of a latent that has some.
   * @type {(text: string) => void} */
  function add(text) {
    let imported;
    /** @type {Record<string, [before: Note, now: Note]>} */
    let edits;
    try {
      imported = JSON.parse(text);
      if (imported?.format !== FORMAT) throw new TypeError("it is not an export of this page");
      if (imported.features !== key) throw new TypeError("it belongs to other features");
      const added = checked(imported.notes);
      edits = Object.fromEntries(Object.entries(added).map(([latent, note]) => [latent, [of(Number(latent)), note]]));
      kept = { ...kept, ...added };
    } catch (error) {
      return trouble(`No notes were imported: ${error.message}.`);
    }
    keep(edits);
    repaint();
  }

  function download() {
    const address = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
    h("a", { href: address, download: "notes.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  /* Show in all fields on the page what is kept. */
  function repaint() {
    for (const each of document.querySelectorAll(".notes, .mine > li")) each.show();
  }

  /** The fields of one feature: the star with the label, and the note, which is as high as what is written. On a phone
   * a button opens both.
   * @type {(latent: number) => { label: HTMLElement, note: HTMLElement }} */
  function editor(latent) {
    const onclick = () => {
      set(latent, { star: !of(latent).star });
      show();
    };
    const button = h("button.star", { type: "button", title: "star (s)", onclick });
    const named = (name) => ({ placeholder: name, "aria-label": name });
    const labelField = h("input", {
      type: "text",
      ...named("Your label"),
      oninput() { change({ label: this.value }, label); },
    });
    const noteField = h("textarea", {
      rows: 1,
      ...named("Your note"),
      oninput() { change({ note: this.value }, note); },
    });
    const note = h("div.note", null, noteField, h("output.muted", null));
    const put = (field, value) => {
      if (field.value === value) return;
      const at = field.selectionStart;
      field.value = value;
      if (field === document.activeElement) field.setSelectionRange(at, at);
    };
    const change = (fields, where) => {
      for (const part of [label, note]) part.querySelector("output").textContent = "";
      unsaved = where.querySelector("output");
      set(latent, fields);
    };
    const show = () => {
      const { star, label: readerLabel, note: text } = of(latent);
      button.setAttribute("aria-pressed", String(star));
      button.replaceChildren(star ? "★" : "☆", h("span.long", null, star ? " starred" : " star"));
      put(labelField, readerLabel);
      put(noteField, text);
    };
    const open = h("button.write", {
      type: "button",
      "aria-expanded": "false",
      "aria-label": "Your label and note",
      onclick() {
        const isOpen = this.ariaExpanded === "true";
        this.ariaExpanded = String(!isOpen);
        if (!isOpen) labelField.focus();
      },
    }, "✎");
    const label = h("div.notes", null, button, open, h("span.labelled", null, labelField, h("output.muted", null)));
    show();
    return { label: Object.assign(label, { show }), note };
  }

  /* The notes as lines of text, each with its feature, what the page says of it, and its label and note. */
  const inText = () => latentsKept().map((latent) => [
    latent,
    ...[judgedElements(latent), report.captions.inBrief(latent)].map((content) => h("span", null, content).textContent),
    of(latent).label, of(latent).note.replaceAll("\n", " ")].join("\t")).join("\n");

  /* A row of the list: the star, the feature with its verdict, what it fires on with its strongest firing, and the
   * fields of the label and of the note. */
  function row(latent, removed) {
    const { label, note } = editor(latent);
    const rule = h("span.rule", null, report.captions.inBrief(latent));
    const firesOn = h("div.fires-on", null, rule);
    loadRows().then((rows) => {
      const senses = report.captions.byLabel(latent) ? undefined : report.table.senses(latent, rows);
      firesOn.replaceChildren(...(senses ?? [rule, h("div.snippet", null, report.table.snippet(latent, rows))]));
    });
    const remove = () => {
      const before = of(latent);
      element.remove();
      set(latent, { star: false, label: "", note: "" });
      removed.replaceChildren(`Removed what was yours of feature ${latent}. `,
        h("button.link", { type: "button", onclick() {
          removed.replaceChildren();
          set(latent, before);
        } }, "Undo"));
    };
    const element = h("li", { "data-latent": latent },
      label, h("div.judged", null, featureLink(latent), h("div", null, judgedElements(latent))), firesOn, note,
      h("button.remove", { type: "button", title: "Remove the star, the label and the note",
        "aria-label": `Remove what is yours of feature ${latent}`, onclick: remove }, "✕"));
    const show = () => element.classList.toggle("unkept", !(latent in kept)); // it leaves the list with the reader
    show();
    return Object.assign(element, { show });
  }

  /* All notes, each with its fields, and the buttons that export and import them. */
  function list() {
    const file = h("input", {
      type: "file",
      accept: ".json,application/json",
      hidden: true,
      "aria-label": "Notes to import",
      async onchange() {
        if (this.files.length) add(await this.files[0].text());
        this.value = "";
      },
    });
    const about = h("span.muted");
    const sought = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter your notes",
      autocomplete: "off", spellcheck: "false", oninput: filter });
    const verdicts = h("select", { "aria-label": "Verdict", onchange: filter });
    const removed = h("output");
    const rows = h("ul.mine");
    const press = (text, title, onclick) => h("button", { type: "button", title, onclick }, text);
    const save = press("Export", "as notes.json, to be kept, sent or imported", download);
    const copy = report.examples.copying("Copy as text", inText);
    const open = press("Import", "adds what a notes.json has to these notes", () => file.click());
    const orders = h("select", { onchange: sort }, Object.keys(ORDERS).map((value) => h("option", { value }, value)));
    const onMap = h("a", { href: "#map?starred=1" }, "The starred on the map");
    const firstTwo = h("a", null, "Compare the first two");
    function sort() {
      const listed = Array.from(rows.children, (each) => Number(each.dataset.latent));
      listed.sort((a, b) => ORDERS[orders.value](a, b) || a - b);
      for (const latent of listed) rows.append(rows.querySelector(`[data-latent="${latent}"]`));
      offerTwo();
    }
    function offerTwo() {
      const two = Array.from(rows.querySelectorAll("li:not([hidden])"), (each) => each.dataset.latent).slice(0, 2);
      firstTwo.hidden = two.length < 2;
      firstTwo.href = `#compare/${two.join("/")}`;
    }
    /* Hide the rows that the text or the verdict asked for does not fit. */
    async function filter() {
      await loadTable();
      const terms = report.search.parse(sought.value);
      for (const each of /** @type {HTMLElement[]} */ (Array.from(rows.children))) {
        const latent = Number(each.dataset.latent);
        each.hidden = (terms.length > 0 && !report.search.quality(terms, latent))
          || (verdicts.value !== "" && report.selection.verdictOf(latent) !== verdicts.value);
      }
      offerTwo();
    }
    const sorting = h("span", null, sought, " ", verdicts, " ", h("label", null, "Sort by ", orders));
    const files = h("span.files", null, sorting, " ", copy, " ", save, " ", open, file);
    const begin = h("ul.begin");
    /* A row whose star is taken away stays, so that it can have it back, until the list is opened anew. */
    const paint = () => {
      const shown = Array.from(rows.children);
      const isShown = (latent) => shown.some(({ dataset }) => Number(dataset.latent) === latent);
      const added = latentsKept().filter((each) => !isShown(each));
      rows.append(...added.map((latent) => row(latent, removed)));
      if (added.length) sort();
      const where = write ? "in the run folder" : "in this browser alone: export them to keep or send them";
      about.textContent = rows.childElementCount ? `Kept ${where}.`
        : `Nothing yet. Star a feature in its row or on its page, and label or note it there. Notes stay ${where}.`;
      const listed = Array.from(rows.children, (each) => report.selection.verdictOf(Number(each.dataset.latent)));
      const chosen = verdicts.value;
      verdicts.replaceChildren(h("option", { value: "" }, "Any verdict"), ...[...new Set(listed)].map((name) =>
        h("option", { value: name, selected: name === chosen }, format.verdict(name))));
      filter();
      save.disabled = copy.disabled = !latentsKept().length;
      onMap.hidden = !starred();
      begin.parentElement.hidden = rows.childElementCount > 0;
      sorting.hidden = rows.childElementCount < 2;
      repaint();
    };
    /* What may be starred first: the features that the run found worth a look. */
    async function offer() {
      const [[first, why] = [], ...others] = report.data.page.worth_showing[0] ?? [];
      const some = why ? [first, ...others.map(([latent]) => latent)] : report.order.slice(0, N_OFFERED);
      begin.replaceChildren(...some.map((latent) => h("li", null,
        h("button", { type: "button", "aria-label": `Star feature ${latent}`,
          onclick: () => set(latent, { star: true }) }, "☆"), " ",
        featureLink(latent), " ", h("span.rule", null, report.captions.brief(latent)))));
    }
    const element = h("div.kept", null,
      h("div.headed", null, h("h2", null, "Your notes"), links(), files),
      h("p.about-notes", null, about, onMap, firstTwo), removed,
      h("section", null, h("h3", null, "To begin with, star one of these"), begin), rows);
    listeners.push(paint);
    paint();
    offer();
    /* Open the list anew, at the row of a latent if one is named. */
    const show = (latent) => {
      for (const each of Array.from(rows.children)) if (!(each.dataset.latent in kept)) each.remove();
      removed.replaceChildren();
      paint();
      sort();
      rows.querySelector(`[data-latent="${Number(latent)}"]`)?.scrollIntoView({ block: "center" });
    };
    return Object.assign(element, { show });
  }

  /** Links to the features in the table that are starred or noted, if there are any.
   * @type {() => HTMLElement} */
  function links() {
    const place = h("span.noted");
    const link = (n, name) => (n ? h("a", { href: `#features?${name}=1` }, `${format.count(n)} ${name}`) : "");
    const paint = () => {
      const n = latentsKept().filter(isNoted).length;
      place.replaceChildren(link(starred(), "starred"), starred() && n ? " · " : "", link(n, "noted"));
    };
    listeners.push(paint);
    paint();
    return place;
  }

  const view = {
    title: "Notes",
    show(section, latent) {
      if (!section.childElementCount) section.append(list());
      section.querySelector(".kept").show(latent);
      section.dataset.ready = "true";
    },
  };

  /** @type {(listener: () => void) => number} */
  const listen = (listener) => listeners.push(listener);
  return { of, set, isNoted, add, exported, editor, links, keepWith, replace, listen, view };
})();

report.views.notes = report.notes.view;
