/* What a feature fires on, as captions.py says it, after the reader's own label; and which tokens it raises. */
"use strict";

report.captions = (() => {
  const { has_text: hasText } = report.data.page;
  const { columns } = report;
  const { labelOf } = report.selection;
  const { draw } = report.segments;
  const N_PREDICTED = 5;
  const SOME = 0.05; // share of the firings, in text of another kind, that is told
  const N_KINDS = 3;
  const ONE_SCRIPT = 0.25; // share of the tokens around firings from which their script is taken for that of a part
  const ON_ITS_PAGE = { isButton: true, isTitle: true, isMeasured: true };

  /** The first segment of what it fires on in a few words.
   * @type {(latent: number) => any} */
  const firstOf = (latent) => columns.brief[latent]?.[0] ?? { rule: 0 };

  /** Whether a label names a feature.
   * @type {(latent: number) => boolean} */
  const byLabel = (latent) => firstOf(latent).label !== undefined;

  /** Its senses, if these name it: what describes each, its share of the activation, and its F1.
   * @type {(latent: number) => ToldSense[]} */
  function sensesOf(latent) {
    /** @type {any[]} */
    const segments = columns.brief[latent] ?? [];
    return segments.flatMap((one) => one.senses ?? one.more_senses ?? []);
  }

  /** The share of its activation that is of none of them, if it is worth telling.
   * @type {(latent: number) => number | undefined} */
  const shareOfNone = (latent) => columns.brief[latent]?.map((/** @type {any} */ one) => one.no_sense).find(Boolean);

  /** What it fires on in a few words. isMeasured: with the F1 of that.
   * @type {(latent: number, isMeasured?: boolean) => Child[]} */
  function inBrief(latent, isMeasured = true) {
    const segments = columns.brief[latent] ?? [firstOf(latent)];
    const f1 = isMeasured && !sensesOf(latent).length ? columns.f1[latent] : null;
    return [draw(segments, { latent }), f1 === null ? null : h("small", null, ` F1 ${format.fixed(f1)}`)];
  }

  /** The same for a card or a list, or the reader's own label.
   * @type {(latent: number, isMeasured?: boolean) => Child} */
  function brief(latent, isMeasured = false) {
    const { label: readerLabel } = report.notes.of(latent);
    return readerLabel ? h("bdi.mine", null, readerLabel) : inBrief(latent, isMeasured);
  }

  /** The same as text alone.
   * @type {(latent: number) => string} */
  const plain = (latent) => h("span", null, brief(latent)).textContent;

  /** What tells it from others of the same rule or label: tokens that it raises; nothing if it has its own.
   * @type {(latent: number) => Child[]} */
  function apart(latent) {
    const isApart = (/** @type {any} */ segment) => Boolean(segment.apart);
    return draw((columns.brief[latent] ?? []).filter(isApart), { latent });
  }

  /** Links to other features, each with what relates the two, and what it fires on in a few words. rows: [other latent,
   * what relates them].
   * @type {(rows: [other: number, relation: Child][]) => Child[]} */
  const linked = (rows) => rows.map(([other, relation]) => (
    h("span.near", null,
      featureLink(other),
      h("small", null, relation),
      h("span.rule", null, brief(other)))));

  /** The kinds of text in which the firings of a feature that is named by a label lie: [label, share], …, that label
   * first; only it where the others may lie within it.
   * @type {(latent: number, feature: Feature) => LabelShare[]} */
  function kindsOf(latent, { labels }) {
    /** @type {LabelShare[]} */
    const all = labels.map(([label, share]) => [label, share]);
    const shares = all.filter(([, share]) => share !== null);
    const naming = shares.find(([label]) => label === labelOf(latent));
    if (!naming || !byLabel(latent)) return [];
    const others = shares.filter((one) => one !== naming && one[1] >= SOME)
      .sort((a, b) => b[1] - a[1]).slice(0, N_KINDS - 1);
    const sum = [naming, ...others].reduce((total, [, share]) => total + share, 0);
    return [naming, ...(sum <= 1 ? others : [])];
  }

  /** The title of a feature: what it fires on, after the reader's own label, if it has one.
   * @type {(latent: number, feature: Feature) => Child[]} */
  function title(latent, feature) {
    const { label: readerLabel } = report.notes.of(latent);
    const named = draw(feature.title, { latent, senses: feature.senses, ...ON_ITS_PAGE });
    return readerLabel ? [h("bdi.mine", null, readerLabel), h("span.named", null, named)] : named;
  }

  /** Whether a token is a part of a character although there are none around the firings: it tells a reader little.
   * @type {(token: number, lead: number) => boolean} */
  const isStray = (token, lead) => lead === null && report.bytes.meaning(word(token)) !== null;

  /** The tokens that it makes likelier: by the direct path, if more than by chance, or else by what ablation changes.
   * Those that differ in case or space alone are one, and parts of characters are left out where there are none around
   * the firings.
   * @type {(feature: Feature) => Child[][]} */
  function predicts(feature) {
    const lead = leadAround(feature);
    const read = reading(feature);
    const all = feature.logits?.top.filter(report.logits.isTold(feature)) ?? feature.effects?.likelier ?? [];
    const rows = all.filter(([token]) => !isStray(token, lead));
    const alike = Map.groupBy(rows.map(([token]) => word(token)), (text) => text.trim().toLowerCase() || text);
    return Array.from(alike.values()).slice(0, N_PREDICTED).map(([first]) => [tokenElement(first, read(first)), " "]);
  }

  /** A first byte of the letters on or beside which a feature fires; null if few of them are of one script but Latin.
   * @type {(feature: Feature) => number} */
  function leadAround({ tokens }) {
    const counts = new Map();
    let all = 0;
    for (const [, token, n] of tokens ?? []) {
      all += n;
      const lead = report.bytes.leadOf(word(token)) ?? report.bytes.leadOfLetters(word(token));
      const name = lead === null ? null : report.bytes.nameOf(lead);
      if (name) counts.set(name, [lead, (counts.get(name)?.[1] ?? 0) + n]);
    }
    const [[lead, most]] = [...counts.values(), [null, 0]].sort(([, a], [, b]) => b - a);
    return most >= ONE_SCRIPT * all ? lead : null;
  }

  /** How the page of a feature reads parts of characters, each token in one way: a function from its text to a first
   * byte of the character in whose bytes its strongest example fires, or else of the letters around the firings.
   * @type {(feature: Feature) => (text: string) => number} */
  function reading(feature) {
    if (readings.has(feature)) return readings.get(feature);
    const around = leadAround(feature);
    const ofExamples = new Map();
    const examples = report.firings.stored(feature).filter((one) => report.examples.tokenOf(one) !== null);
    for (const one of examples) {
      const text = word(report.examples.tokenOf(one));
      const isNew = !ofExamples.has(text) && report.bytes.meaning(text) !== null;
      if (isNew) ofExamples.set(text, report.examples.leadAt(one));
    }
    const read = (text) => ofExamples.get(text) ?? around;
    if (examples.length) readings.set(feature, read); // their text is loaded
    return read;
  }
  const readings = new WeakMap();

  const raises = (feature) => [
    h("span.predicts", null, predicts(feature)),
    h("small.muted", null, feature.logits ? "direct logits" : "measured by ablation"),
  ];

  /** The lines below the title: the rule if something else is the title; the tokens that it raises; and the given
   * extras: [name, content].
   * @type {(latent: number, feature: Feature, ...more: [name: string, content: Child][]) => HTMLElement} */
  function element(latent, feature, ...more) {
    const { below } = feature;
    const how = { latent, ...ON_ITS_PAGE };
    const line = (kind, name, ...content) => h(kind, null, h("dt", null, name), h("dd", null, content));
    return h("dl.lead", null,
      below ? line("div", "In words", draw(below, how)) : null,
      hasText && predicts(feature).length ? line("div.raises", "Raises", raises(feature)) : null,
      more.length
        ? h("div.nearby", null, more.map(([name, content]) => [h("dt", null, name), h("dd", null, content)])) : null);
  }

  return {
    brief, inBrief, sensesOf, shareOfNone, plain, apart, linked, title, element, byLabel, predicts, kindsOf,
    leadAround, reading, isStray,
  };
})();
