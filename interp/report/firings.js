/* Where a feature fires: a histogram of its activations over tabs of examples, one tab per sense. */
"use strict";

report.firings = (() => {
  const { list, copies, widths, valueOf, senseMark, senseOf, tokenOf, passageOf } = report.examples;
  /* As many as fill the height of a window below the histogram, so that one scrolls the page alone at first. */
  const N_FIRST = matchMedia("(min-width: 1021px)").matches ? Math.max(10, Math.floor((innerHeight - 320) / 31)) : 15;
  const N_OF_INTERVAL = 5;
  const N_OF_TOKEN = 3; // firings on one token, before those on others
  const N_OF_SENSE = 7; // firings of each sense at first
  const FIRST_SENSE = 2; // the place of its tab, behind those of all firings
  const nothing = (text) => h("p.missing", null, text);
  const percent = (x) => `${format.fixed(100 * x, 0)} %`;

  /* All stored examples, the strongest first, each once. */
  function stored(feature) {
    const rows = new Set();
    const distinct = feature.examples.filter(([, row]) => !rows.has(row) && rows.add(row));
    return distinct.sort((a, b) => valueOf(b) - valueOf(a));
  }

  /* Examples as they are listed, the strongest first: { shown, further, alike }.
   *
   * Of firings on the same token after the same tokens only the strongest is listed; alike: its place among them → the
   * others. Of each token there are a few in `shown`, and more in `further`; without text all are in `shown`. Where the
   * text of one is not loaded, it is alone. */
  function varied(examples) {
    const groups = new Map();
    for (const one of stored({ examples })) {
      const key = passageOf(one) ?? one;
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    const alike = new Map(Array.from(groups.values(), ([one, ...rest]) => [one, rest]));
    const seen = new Map();
    const [shown, further] = [[], []];
    for (const one of alike.keys()) {
      const n = seen.get(tokenOf(one)) ?? 0;
      seen.set(tokenOf(one), n + 1);
      (n < N_OF_TOKEN || !report.data.page.has_text ? shown : further).push(one);
    }
    return { shown, further, alike };
  }

  /* What a list leaves out at first, in a line; null where that is nothing. */
  function leftOut({ shown, further, alike }) {
    const hidden = [...alike.values()].reduce((sum, rest) => sum + rest.length, 0);
    const parts = [];
    if (further.length) parts.push(`${N_OF_TOKEN} of each token at most, then more of the same`);
    const all = alike.size + hidden;
    if (hidden) parts.push(`${format.count(hidden)} of ${format.count(all)} folded, alike to one shown`);
    const said = parts.join("; ");
    return said && shown.length ? h("p.order", null, `${said[0].toUpperCase()}${said.slice(1)}.`) : null;
  }

  const marked = (latent, feature, examples, few) =>
    list(latent, feature, examples, { few, senses: feature.senses ?? [] });

  /* The strongest first; where there are several senses, those of each in a list of its own, then those of none. */
  function strongest(latent, feature) {
    const senses = feature.senses ?? [];
    if (!senses.length) {
      const { shown, further, alike } = varied(feature.examples);
      const alikeOf = (one) => alike.get(one);
      return h("div", null,
        leftOut({ shown, further, alike }),
        list(latent, feature, shown, { few: N_FIRST, alikeOf }),
        further.length
          ? [h("h3", null, "More on the same tokens"), list(latent, feature, further, { few: 0, alikeOf })]
          : null);
    }
    const block = (k) => {
      const { alike } = varied(feature.examples.filter((one) => senseOf(one, senses) === k));
      return alike.size
        ? h("div", { "data-sense": k < 0 ? null : String(k) },
          h("h3", null, k < 0 ? "Of no one sense" : titleOf(senses[k], k)),
          list(latent, feature, [...alike.keys()], { few: N_OF_SENSE, alikeOf: (one) => alike.get(one) }))
        : null;
    };
    return h("div", null, [...senses.keys(), -1].map(block));
  }

  /* A fair sample of each slice of its range, the strongest slice first. */
  function intervals(latent, feature) {
    const slice = ([low, high, n], place) => {
      const sample = feature.examples.filter(([kind]) => kind === place);
      const range = `${format.significant(low)} to ${format.significant(high)} `;
      const count = `${format.count(n)} ${n === 1 ? "firing" : "firings"}`;
      return [
        h("h3", null, range, h("small", null, count)),
        sample.length ? marked(latent, feature, sample, N_OF_INTERVAL) : nothing("No firings in this slice."),
      ];
    };
    return feature.intervals.map(slice).reverse();
  }

  /* The histogram of its activations, coloured by sense if it has several. onrange: called with the chosen range. */
  function activations({ histogram: { edges, counts }, sense_counts: parts }, onrange) {
    const round = [];
    for (let k = -12; k < 12; k++) for (const digit of [1, 2, 5]) round.push(Number(`${digit}e${k}`));
    const inside = round.filter((v) => v > edges[0] && v < edges.at(-1));
    return report.histogram({
      title: "Histogram of activations",
      edges,
      counts,
      parts: parts ?? [],
      log: true,
      ticks: inside.length > 1 ? inside : [edges[0], edges.at(-1)],
      height: 96,
      axis: parts
        ? "activation (log scale); grey: no one sense; drag to choose"
        : "activation (log scale): drag to choose examples",
      unit: "firings",
      onrange,
    });
  }

  /* The facts about one sense, and its firings. */
  function sense(latent, feature, one) {
    const cut = one.examples.length - one.n_weak;
    const weakest = one.examples.slice(cut);
    const following = one.following.map((token) => [tokenElement(word(token)), " "]);
    const common = one.common.join("; ");
    return [
      h("p.rule", null, ruleElement(one.rule, one.f1, "No rule was found.")),
      common ? h("p.rule", null, h("span.muted", null, "its firings share: "), ruleText(common)) : null,
      h("p.muted", null, numbersOf(one)),
      following.length ? h("p.following", null, h("span.muted", null, "followed by "), following) : null,
      cut ? list(latent, feature, one.examples.slice(0, cut)) : null,
      weakest.length ? [h("h3", null, "Its weakest"), list(latent, feature, weakest)] : null,
    ];
  }

  function numbersOf({ share, n, f1, precision, recall, monosemanticity, by_chance: byChance, promoted }) {
    const halves = precision === null ? "" : ` (precision ${format.fixed(precision)}, recall ${format.fixed(recall)})`;
    const chance = byChance === null ? "" : ` (as high in ${percent(byChance)} of senses on shifted text)`;
    const numbers = [];
    if (share !== null) numbers.push(`${percent(share)} of its activation`);
    if (n !== null) numbers.push(`${format.count(n)} firings`);
    if (f1 !== null) numbers.push(`F1 of its rule ${format.fixed(f1)}${halves}`);
    if (monosemanticity !== null) numbers.push(`probability of one meaning ${format.fixed(monosemanticity)}${chance}`);
    if (promoted !== null) numbers.push(`${percent(promoted)} followed by one of its positive logits`);
    return numbers.join(", ");
  }

  /* The letter of a sense, the first token that its firings share, if any, and its share. */
  function titleOf({ common, rule, share }, k) {
    const [, token] = /^("[^"]+")/.exec(common[0] ?? "") ?? /^("[^"]+")/.exec(rule) ?? [];
    const name = token && !token.includes("⟨") ? ruleText(token) : null;
    const tip = { "data-tip": "of its activation" };
    return [senseMark(k, null), " ", name, share === null ? null : h("span", tip, ` ${percent(share)}`)];
  }

  /* The histogram over the tabs. A range that is chosen in it leaves the examples in it.
   *
   * facts: numbers beside it. onsense: told the place of the sense whose tab is chosen, null of no one's. */
  function region(latent, feature, facts, onsense) {
    const { edges } = feature.histogram;
    const last = edges.length - 1;
    const all = stored(feature);
    const senses = feature.senses ?? [];
    let shown = all;
    const examples = h("div", null, strongest(latent, feature));
    const range = h("p.chosen", { role: "status", hidden: true });

    /* Show the examples of some bins, [first, last + 1], or all without bins. */
    function choose(bins) {
      const [from, to] = bins ?? [0, last];
      const isIn = (x) => (!from || x >= edges[from]) && (to === last || x < edges[to]);
      shown = all.filter((one) => isIn(valueOf(one)));
      histogram.show({ range: bins });
      range.hidden = !bins;
      const ends = `${format.significant(edges[from])} to ${format.significant(edges[to])}`;
      range.replaceChildren(
        `${ends}: ${format.count(shown.length)} of the ${format.count(all.length)} examples stored `,
        h("button.link", { type: "button", onclick: () => choose(null) }, "All of them"));
      examples.replaceChildren(bins ? marked(latent, feature, shown, N_FIRST) : strongest(latent, feature));
      if (bins) parts.choose(0);
    }

    const panels = [
      ["Strongest", () => [range, examples]],
      ["Each strength", () => intervals(latent, feature)],
      ...senses.map((one, k) => [titleOf(one, k), () => sense(latent, feature, one)]),
    ];
    if (report.steering) panels.push(["Steer", () => report.steering(latent, all[0])]);
    const histogram = activations(feature, choose);
    const parts = tabs("Its firings", panels, (k) => onsense(senses[k - FIRST_SENSE] ? k - FIRST_SENSE : null));
    const inSight = () => [shown, all, ...senses.map((one) => one.examples)][parts.chosen()] ?? [];
    return h("div.fires", { role: "region", tabindex: 0, "aria-label": "Where it fires" },
      h("div.firinghead", null,
        h("div.strengths", null, histogram, facts),
        h("div.tools", null, parts.list, h("span.choices", null, widths(feature), copies(inSight, latent)))),
      parts.panels);
  }

  /* Tabs over panels: [title, what makes the contents], …; a panel is made when it is first looked at, and `onchoose`
   * told its place. */
  function tabs(label, parts, onchoose) {
    const panel = (k) => (
      h("div.panel", { role: "tabpanel", id: `panel-${k}`, "aria-labelledby": `tab-${k}`, hidden: true })
    );
    const panels = parts.map((_, k) => panel(k));
    let chosen = 0;

    function choose(to) {
      chosen = to;
      if (!panels[to].childElementCount) panels[to].replaceChildren(h("div", null, parts[to][1]()));
      buttons.forEach((button, k) => {
        button.setAttribute("aria-selected", String(k === chosen));
        button.tabIndex = k === chosen ? 0 : -1;
        panels[k].hidden = k !== chosen;
      });
      onchoose(to);
    }

    function onkeydown(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.stopPropagation();
      const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
      choose(next);
      buttons[next].focus();
    }

    const buttons = parts.map(([title], k) => {
      const attributes = { type: "button", role: "tab", id: `tab-${k}`, "aria-controls": `panel-${k}` };
      return h("button.tab", { ...attributes, onclick: () => choose(k), onkeydown }, title);
    });
    choose(0);
    const tablist = h("div.tabs", { role: "tablist", "aria-label": label }, buttons);
    return { list: tablist, panels, choose, chosen: () => chosen };
  }

  return { region, stored, varied };
})();
