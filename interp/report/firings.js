/* Where a feature fires: a histogram of its activations over tabs of examples, one tab per sense. */
"use strict";

report.firings = (() => {
  const { list, copies, widths, widthOf, valueOf, senseMark, senseOf, tokenOf, passageOf } = report.examples;
  /* As many as fill the height of a window below the histogram, so that one scrolls the page alone at first. */
  const IS_WIDE = matchMedia("(min-width: 1021px)").matches;
  const N_FIRST = IS_WIDE ? Math.max(10, Math.floor((innerHeight - 320) / 31)) : 15;
  const N_OF_INTERVAL = 5;
  const N_TOP = 8; // the strongest firings
  const N_OTHER = IS_WIDE ? 20 : 12; // firings on other tokens below them
  const N_OF_TOKEN = 3; // of each token, at first
  const N_OF_SENSE = 7; // firings of each sense at first
  const N_PASSAGES = 6; // instead, in each list, where each takes several lines
  const FIRST_SENSE = 2; // the place of its tab, behind those of all firings
  const nothing = (text) => h("p.missing", null, text);
  const percent = (x) => `${format.fixed(100 * x, 0)} %`;

  const byStrength = (a, b) => valueOf(b) - valueOf(a);

  /* All stored examples, the strongest first, each once. */
  function stored(feature) {
    const rows = new Set();
    const distinct = feature.examples.filter(([, row]) => !rows.has(row) && rows.add(row));
    return distinct.sort(byStrength);
  }

  /* Examples as they are listed, the strongest first in each part: { top, others, further, alike }.
   *
   * Of firings on the same token after the same tokens only the strongest is listed; alike: it → the others. `top`
   * are the strongest, but only a few on each token, `others` a few on each token that `top` lacks, `further` the rest;
   * without text all are in `top`. Where the text of one is not loaded, it is alone. */
  function varied(examples, nTop = N_TOP) {
    const groups = new Map();
    for (const one of stored({ examples })) {
      const key = passageOf(one) ?? one;
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    const alike = new Map(Array.from(groups.values(), ([one, ...rest]) => [one, rest]));
    const all = [...alike.keys()];
    if (!report.data.page.has_text) return { top: all, others: [], further: [], alike };
    const seen = new Map();
    const isFew = (one) => {
      const n = (seen.get(tokenOf(one)) ?? 0) + 1;
      seen.set(tokenOf(one), n);
      return n <= N_OF_TOKEN;
    };
    const few = all.filter(isFew);
    const top = few.slice(0, nTop);
    const ofTop = new Set(top.map(tokenOf));
    const others = few.filter((one) => !ofTop.has(tokenOf(one)));
    const listed = new Set([...top, ...others]);
    return { top, others, further: all.filter((one) => !listed.has(one)), alike };
  }

  /* How many firings are folded into others, in a line; null for none. */
  function foldedInWords(alike) {
    const hidden = [...alike.values()].reduce((sum, rest) => sum + rest.length, 0);
    const all = format.count(alike.size + hidden);
    return hidden ? h("p.order", null, `${format.count(hidden)} of ${all} are folded, alike to one shown.`) : null;
  }

  const marked = (latent, feature, examples, few) =>
    list(latent, feature, examples, { few, senses: feature.senses ?? [] });

  /* The strongest first; where there are several senses, those of each in a list of its own, then those of none. */
  function strongest(latent, feature) {
    const senses = feature.senses ?? [];
    const atFirst = (n) => (widthOf(feature) === "line" ? n : Math.min(n, N_PASSAGES));
    if (!senses.length) {
      const { top, others, further, alike } = varied(feature.examples);
      const alikeOf = (one) => alike.get(one);
      const ofTop = new Set(top.map(tokenOf));
      if (!others.length && (ofTop.size < 2 || !further.length)) {
        const all = [...top, ...further];
        return h("div", null, list(latent, feature, all, { few: atFirst(N_FIRST), alikeOf }), foldedInWords(alike));
      }
      const isOfTop = (one) => ofTop.has(tokenOf(one));
      const same = [...top, ...further.filter(isOfTop)];
      const other = [...others, ...further.filter((one) => !isOfTop(one))];
      const nOther = Math.min(N_OTHER, others.length);
      const few = atFirst(top.length);
      const strong = list(latent, feature, same, { few, alikeOf, rest: "more on the same tokens" });
      strong.dataset.few = "";
      const apart = () => [
        h("h3", null, "On its other tokens ", h("small", null, `${N_OF_TOKEN} of each at first`)),
        list(latent, feature, other, { few: atFirst(nOther), alikeOf, rest: "more on its other tokens" })];
      return h("div", null, strong, other.length ? apart() : null, foldedInWords(alike));
    }
    const block = (k) => {
      const { alike } = varied(feature.examples.filter((one) => senseOf(one, senses) === k));
      return alike.size
        ? h("div", { "data-sense": k < 0 ? null : String(k) },
          h("h3", null, k < 0 ? "Of no one sense" : titleOf(senses[k], k)),
          list(latent, feature, [...alike.keys()], { few: atFirst(N_OF_SENSE), alikeOf: (one) => alike.get(one) }))
        : null;
    };
    return h("div", null, [...senses.keys(), -1].map(block));
  }

  /* A fair sample of each slice of its range, the strongest slice first. */
  function intervals(latent, feature) {
    const slice = ([low, high, n], place) => {
      const sample = feature.examples.filter(([kind]) => kind === place).sort(byStrength);
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
      height: IS_WIDE ? 96 : 80,
      axis: parts
        ? "activation (log scale); grey: no one sense; drag to choose"
        : "activation (log scale): drag to choose examples",
      unit: "firings",
      onrange,
    });
  }

  /* The facts about one sense, and its firings: those on other tokens than the ones it is told by are set apart. */
  function sense(latent, feature, one) {
    const isApart = (example) => one.named && !one.named.includes(tokenOf(example));
    const listed = (title, some) => (some.length
      ? [title ? h("h3", null, title) : null, list(latent, feature, [...some].sort(byStrength))]
      : null);
    const cut = one.examples.length - one.n_weak;
    const strong = one.examples.slice(0, cut);
    const weakest = one.examples.slice(cut);
    const isOwn = (example) => !isApart(example);
    const common = one.common.join("; ");
    const isSame = common === one.rule;
    return [
      h("p.rule", null, ruleElement(one.rule, one.f1, "No rule was found.")),
      common && !isSame ? h("p.rule", null, h("span.muted", null, "its firings share: "), ruleText(common)) : null,
      numbersOf(one, feature.senses),
      followedBy(one, feature),
      listed(null, strong.filter(isOwn)),
      listed("Its weakest", weakest.filter(isOwn)),
      listed("Counted to it, though on other tokens", one.examples.filter(isApart)),
    ];
  }

  /* What follows its firings; the tokens that the feature raises most stand out. */
  function followedBy({ following, promoted }, { logits, tokens }) {
    if (!following.length) return null;
    const raised = new Set((logits?.top ?? []).map(([token]) => token));
    const lead = report.lead.leadAround({ tokens });
    const item = (token) => [h(raised.has(token) ? "b" : "span", null, tokenElement(word(token), lead)), " "];
    return h("p.following", null, h("span.muted", null, "followed by "), following.map(item),
      promoted === null ? null
        : h("span.muted", null, ` ${percent(promoted)} of the time by one of its positive logits`));
  }

  /* The figures of one sense, each with its name below. */
  function numbersOf({ share, n, f1, precision, recall, monosemanticity, by_chance: byChance }, senses) {
    const sampled = senses.reduce((sum, one) => sum + (one.n ?? 0), 0);
    const halves = precision === null ? "" : `precision ${format.fixed(precision)}, recall ${format.fixed(recall)}`;
    const chance = byChance === null ? ""
      : byChance ? `a null reaches it in ${percent(byChance)}` : "a null never reaches it";
    const figures = [
      [share, share === null ? "" : percent(share), "of its activation", ""],
      [n, format.count(n), "firings", `of ${format.count(sampled)} sampled`],
      [f1, format.fixed(f1), "F1 of its rule", halves],
      [monosemanticity, format.fixed(monosemanticity), "one meaning", chance],
    ];
    const tips = {
      firings: "Its sampled firings. Firings are sampled evenly over the strengths of the feature, and each stands for "
        + "the share of the activation at its strength.",
      "one meaning": "The probability that the firings of this sense alone have one meaning, and how often a sense of "
        + "shifted text reaches it.",
    };
    return h("dl.figures", null, figures.filter(([known]) => known !== null && known !== undefined)
      .map(([, value, name, more]) => h("div", null,
        h("dt", null, tips[name] ? tipped(name, tips[name]) : name),
        h("dd", null, h("b", null, value), more ? h("small", null, more) : null))));
  }

  /* The letter of a sense, the first token that its firings share, or else what describes them, and its share. */
  function titleOf({ common, rule, f1, share }, k) {
    const [, token] = /^("[^"]+")/.exec(common[0] ?? "") ?? /^("[^"]+")/.exec(rule) ?? [];
    const text = token ?? report.lead.ofSense({ common, rule, f1 });
    const name = text ? ruleText(text) : null;
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
      ...senses.map((one, k) => [titleOf(one, k), () => h("div", { "data-sense": k }, sense(latent, feature, one))]),
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
