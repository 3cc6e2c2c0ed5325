/* One feature: its verdict and the evidence, where it fires, what it writes, what lies near it. */
"use strict";

report.views.feature = (() => {
  const { columns, verdictOf, labelOf, isUnsure, isInseparable } = report.selection;
  const { evidence, latents, tokens: scanned, min_f1: MIN_F1 } = report.data.page;
  const { list, load, copies, widths, valueOf } = report.examples;
  const { logits, effects } = report.logits;
  const N_PREDICTED = 5, N_FIRST = 15, N_OF_INTERVAL = 5;
  const BESIDE = ["fires on", "firings", "activation", "tokens"];
  let wanted;

  const block = (title, ...children) => h("section.block", null, h("h3", null, title), ...children);
  const folded = (title, ...children) => h("details.block", null, h("summary", null, h("h3", null, title)), ...children);
  const nothing = (text) => h("p.missing", null, text);

  /* All examples that are stored, the strongest first, each once. */
  function stored(feature) {
    const rows = new Set();
    return feature.examples.filter(([, row]) => !rows.has(row) && rows.add(row)).sort((a, b) => valueOf(b) - valueOf(a));
  }

  const listed = (latent, feature, examples, few) => list(examples, feature.facts.max || 1, latent, few);
  const strongest = (latent, feature) => listed(latent, feature, stored(feature).slice(0, N_FIRST));

  /* A fair sample of each slice of its range, the strongest slice first. */
  function intervals(latent, feature) {
    return feature.intervals.map(([low, high, n], place) => {
      const kept = feature.examples.filter(([kind]) => kind === place);
      const range = `${format.significant(low)} to ${format.significant(high)} `;
      const share = `${format.count(n)} ${n === 1 ? "firing" : "firings"}`;
      return [h("h4", null, range, h("small", null, share)), kept.length ? listed(latent, feature, kept, N_OF_INTERVAL) : nothing("No firing in this slice.")];
    }).reverse();
  }

  /* Its slices are dotted. */
  function activations({ histogram: { edges, counts }, intervals: slices }, onrange = null) {
    const lines = slices.slice(1).map(([low]) => low);
    const ticks = [edges[0], ...lines.filter((v, k) => v > edges[0] && k % 2 === 0), edges.at(-1)];
    return report.histogram({
      title: "Histogram of activations", edges, counts, log: true, lines, height: onrange ? 96 : 150, ticks,
      axis: onrange ? "activation (log scale): drag to choose examples" : "activation (log scale)", unit: "firings", onrange,
    });
  }

  /* Other latents, each with its explanation, numbers and a way to set the two side by side. */
  function links(latent, rows, heads, cells, none) {
    if (!rows.length) return nothing(none);
    const line = (row) => {
      const [other] = row, rule = columns.explanation[other];
      const beside = { href: `#compare/${latent}/${other}`, title: "side by side", "aria-label": `Feature ${latent} beside feature ${other}` };
      return h("tr", null, h("td", null, featureLink(other)), h("td.explanation", null, rule ? ruleText(rule) : h("span.muted", null, "no explanation")),
        cells(row), h("td", null, h("a", beside, "⇄")));
    };
    return h("table.plain", null, headElement([...heads, ""]), h("tbody", null, rows.map(line)));
  }

  function labels(rows) {
    if (!rows.length) return nothing("No labels: the tokens scanned carry none, or it never fires.");
    return h("table.plain", null, headElement(["Label", "F1", "Precision", "Recall", "r"]),
      h("tbody", null, rows.map(([label, f1, precision, recall, r]) => h("tr", null, h("th", { scope: "row" }, format.words(label)), [f1, precision, recall, r].map((x) => h("td", null, format.fixed(x)))))),
      h("caption.below", null, "F1 held out, at its threshold; precision and recall of firing at all; r: correlation of the activation."));
  }

  function around(rows) {
    const column = (offset, title) => rows.some(([at]) => at === offset) && h("div", null, h("h4", null, title), h("ul.tokens", null, rows.filter(([at]) => at === offset).map(([, token, n]) =>
      h("li", null, tokenElement(word(token)), h("span.muted", null, format.count(n))))));
    return h("div.around", null, [column(-1, "before"), column(0, "on"), column(1, "after")].filter(Boolean));
  }

  /* A number between the ends of nearly all latents, over the central 95 % of its null. */
  function gauge([from, to], at, low, high) {
    const place = (x) => Math.min(Math.max((x - from) / (to - from), 0), 1).toFixed(4);
    const band = low === null || high === null ? null : h("i.null", { "--low": place(low), "--high": place(high) });
    const range = band ? `null: ${format.significant(low)} to ${format.significant(high)}` : null;
    return h("span.gauge", range ? { title: range, role: "img", "aria-label": range } : { "aria-hidden": "true" }, band, at === null ? null : h("i.point", { "--at": place(at) }));
  }

  function verdict(latent, feature) {
    if (!report.data.page.ranked) return nothing("No verdict: these features were not ranked.");
    const known = (feature.evidence ?? []).map(([place, value, z, low, high]) => ({ ...evidence[place], value, z, low, high }));
    const words = report.data.page.verdicts[verdictOf(latent)]?.meaning;
    const summary = h("p.said", null, verdictElement(verdictOf(latent)), words ? `: ${words}.` : null,
      isUnsure(latent) ? " Unsure: the interval of that probability holds ½." : null,
      isInseparable(latent) ? " No meaning that its firings share was found, and no senses that could be told apart." : null, feature.alike ? [" Above all its firings share: ", h("span.rule", null, ruleText(feature.alike)), "."] : null);
    if (!known.length) return [summary, nothing("No evidence: it does not fire often enough to be judged.")];
    const [deciding, rest] = [true, false].map((decides) => known.filter((row) => row.decides === decides));
    return [summary, deciding.length ? evidenceTable(deciding, false) : null,
      rest.length ? h("details", null, h("summary", null, `${format.count(rest.length)} more measures, each beside its null`), evidenceTable(rest)) : null];
  }

  function evidenceTable(rows, isExplained = true) {
    const line = ({ title, meaning, domain, value, z, low, high }) => h("tr", null,
      h("th", { scope: "row", title: meaning || null }, title, meaning && isExplained ? h("small", null, meaning) : null),
      h("td.gauge", null, domain ? gauge(domain, value, low, high) : null),
      h("td", null, format.significant(value)), h("td", null, z === null ? h("span.muted", null, "–") : format.fixed(z, 1)));
    return h("table.plain.evidence", null, headElement(["Evidence", "", "Value", "z"]), h("tbody", null, rows.map(line)), h("caption.below", null, legend(rows)));
  }

  function legend(rows) {
    const sentences = ["Bars run over nearly all latents; the line is this one."];
    if (rows.some(({ low }) => low !== null)) sentences.push("Shaded: 95 % of its null.");
    const nulls = new Map();
    for (const { null: against, title } of rows) if (against) nulls.set(against, [...(nulls.get(against) || []), title]);
    const common = [...nulls].sort((a, b) => b[1].length - a[1].length);
    if (common.length) sentences.push(`Nulls: ${common.map(([against, titles], k) => (k ? `${against} (${titles.join(", ")})` : against)).join("; ")}.`);
    return sentences.join(" ");
  }

  /* What the rule in words reaches: on the held-out half, and by the strength of the firing. */
  function explained(latent, feature) {
    const parts = feature.explanation;
    if (!parts) return null;
    const numbers = [["F1", columns.explanation_f1[latent]], ["precision", parts.precision], ["recall", parts.recall], ["F1 without “or”", parts.f1_one]];
    const list = h("dl.facts", null, numbers.filter(([, x]) => x !== null && x !== undefined).map(([name, x]) => h("div", null, h("dt", null, name), h("dd", null, format.fixed(x)))),
      parts.n_examples ? h("div", null, h("dt", null, "firings hit"), h("dd", null, format.count(parts.n_examples))) : null,
      parts.bits ? h("div", null, h("dt", null, "length"), h("dd", null, `${format.count(parts.bits)} bits`)) : null);
    const known = (parts.f1_by_interval || []).some((x) => x !== null);
    const bars = known && h("table.bars.intervals", null, h("caption", null, "F1 by interval of its activation"), h("tbody", null, parts.f1_by_interval.map((x, place) => {
      const [low, high] = feature.intervals[place] || [null, null];
      return h("tr", null, h("th", { scope: "row" }, `${format.significant(low, 2)} to ${format.significant(high, 2)}`), h("td.bar", { "--share": x ?? 0 }, h("i")), h("td", null, format.fixed(x)));
    })));
    return folded("The explanation, held out", list, bars || null);
  }

  const isWeak = (f1) => f1 !== null && f1 !== undefined && f1 < MIN_F1;

  /* A rule in words; one that barely holds is not set as if it did. */
  const ruleElement = (rule, f1, none) => !rule ? h("span.muted", null, none)
    : isWeak(f1) ? h("span.weak", null, "No reliable rule was found; the nearest is ", ruleText(rule)) : ruleText(rule);

  /* What is known of one sense, and its firings. */
  function sense(latent, feature, one) {
    const percent = (x) => `${format.fixed(100 * x, 0)} %`;
    const chance = one.by_chance === null ? "" : ` (by chance in ${percent(one.by_chance)} of shifted senses)`;
    const halves = one.precision === null ? "" : ` (precision ${format.fixed(one.precision)}, recall ${format.fixed(one.recall)})`;
    const numbers = [one.share === null ? null : `${percent(one.share)} of its activation`,
      one.n === null ? null : `${format.count(one.n)} firings`,
      one.f1 === null ? null : `F1 of its rule ${format.fixed(one.f1)}${halves}`,
      one.monosemanticity === null ? null : `probability of one meaning ${format.fixed(one.monosemanticity)}${chance}`];
    const cut = one.examples.length - one.n_weak, weak = one.examples.slice(cut);
    const tokens = one.following.map((token) => [tokenElement(word(token)), " "]);
    if (one.promoted !== null) numbers.push(`${percent(one.promoted)} followed by one of its positive logits`);
    return [h("p.rule", null, ruleElement(one.rule, one.f1, "No rule was found.")),
      one.common.length ? h("p.rule", null, h("span.muted", null, "its firings share: "), ruleText(one.common.join("; "))) : null,
      h("p.muted", null, numbers.filter(Boolean).join(", ")),
      tokens.length ? h("p.following", null, h("span.muted", null, "followed by "), tokens) : null,
      cut ? listed(latent, feature, one.examples.slice(0, cut)) : null,
      weak.length ? [h("h4", null, "Its weakest"), listed(latent, feature, weak)] : null];
  }

  /* Where it fires: a histogram of its activations over tabs of examples. A range that is chosen over it leaves the
   * examples in it. */
  function firings(latent, feature) {
    const { edges } = feature.histogram, all = stored(feature), senses = feature.senses ?? [];
    let shown = all;
    const first = h("div", null, listed(latent, feature, all, N_FIRST)), range = h("p.chosen", { role: "status", hidden: true });
    const shares = senses.map((one, k) => `Sense ${k + 1}${one.share === null ? "" : ` · ${format.fixed(100 * one.share, 0)} %`}`);
    const choose = (bins) => {
      const last = edges.length - 1, [from, to] = bins ?? [0, last];
      const isIn = (x) => (!from || x >= edges[from]) && (to === last || x < edges[to]);
      shown = all.filter((one) => isIn(valueOf(one)));
      histogram.show({ range: bins });
      range.hidden = !bins;
      const ends = [from, to].map((bin) => format.significant(edges[bin])).join(" to ");
      const said = `${ends}: ${format.count(shown.length)} of the ${format.count(all.length)} examples stored `;
      range.replaceChildren(said, h("button.link", { type: "button", onclick: () => choose(null) }, "All of them"));
      first.replaceChildren(listed(latent, feature, shown, N_FIRST));
      if (bins) parts.choose(0);
    };
    const histogram = activations(feature, choose);
    const parts = tabs("Its firings", [["Strongest", () => [range, first]], ["Each strength", () => intervals(latent, feature)],
      ...senses.map((one, k) => [shares[k], () => sense(latent, feature, one)]),
      ...(report.steering ? [["Steer", () => report.steering(latent, all[0])]] : [])]);
    const copied = () => [shown, all, ...senses.map((one) => one.examples)][parts.chosen()] ?? [];
    return h("div.fires", { role: "region", tabindex: 0, "aria-label": "Where it fires" },
      h("div.firinghead", null, h("div.strengths", null, histogram, facts(feature, BESIDE)),
        h("div.tools", null, parts.list, widths(), copies(copied, latent))), parts.panels);
  }

  /* Tabs over panels: [title, what makes the contents], …; a panel is made when it is first looked at. */
  function tabs(label, parts) {
    const panels = parts.map((_, k) => h("div.panel", { role: "tabpanel", id: `panel-${k}`, "aria-labelledby": `tab-${k}`, hidden: true }));
    let chosen = 0;
    const choose = (to) => {
      chosen = to;
      if (!panels[to].childElementCount) panels[to].replaceChildren(h("div", null, parts[to][1]()));
      buttons.forEach((tab, k) => {
        tab.setAttribute("aria-selected", String(k === chosen));
        tab.tabIndex = k === chosen ? 0 : -1;
        panels[k].hidden = k !== chosen;
      });
    };
    const onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.stopPropagation();
      const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
      choose(next);
      buttons[next].focus();
    };
    const tab = (title, k) =>
      h("button.tab", { type: "button", role: "tab", id: `tab-${k}`, "aria-controls": `panel-${k}`, onclick: () => choose(k), onkeydown }, title);
    const buttons = parts.map(([title], k) => tab(title, k));
    choose(0);
    return { list: h("div.tabs", { role: "tablist", "aria-label": label }, buttons), panels, choose, chosen: () => chosen };
  }

  function facts({ facts: f }, names = null) {
    const percent = (x) => `${format.significant(100 * x, 2)} %`;
    const rows = [["fires on", f.density === null ? "–" : `${format.percent(f.density)} of tokens`],
      ["firings", `${format.count(f.n_active)} in ${format.count(f.n_sequences)} sequences`],
      ["activation", `mean ${format.significant(f.mean)}, max ${format.significant(f.max)}`],
      ["tokens", `${format.count(f.n_tokens)} ${f.n_tokens === 1 ? "kind" : "kinds"}, entropy ${format.significant(f.token_entropy, 2)} nats`],
      ["explains", f.fvu_rise ?? null, percent, " of the variance"], ["decoder norm", f.dec_norm ?? null, format.significant, ""],
      ["encoder · decoder", f.enc_dec_cosine ?? null, format.fixed, ""]];
    return h("dl.facts", null, rows.filter(([name, x]) => x !== null && (names?.includes(name) ?? true)).map(([name, x, write, unit]) =>
      h("div", null, h("dt", null, name), h("dd", null, write ? `${write(x)}${unit}` : x))));
  }

  /* The tokens of a rule that is nothing but a list of them. */
  const listedTokens = (rule) => (/^"[^"]+"(?:(?:,| or|, or) "[^"]+")*$/.test(rule) ? rule.match(/"[^"]+"/g).length : 0);

  const firesAt = (rule) => ({ 0: "Fires on ", 1: "Fires on the token " })[listedTokens(rule)] ?? `Fires on any of ${listedTokens(rule)} tokens: `;

  /* What it fires on: its rule in words, or a label that says it better. */
  function firesOn(latent) {
    const [rule, f1] = [columns.explanation[latent], columns.explanation_f1[latent]], measured = (x) => h("small", null, ` F1 ${format.fixed(x)}, held out`);
    const ruled = [ruleElement(rule, f1, "No explanation was found."), rule && f1 !== null ? measured(f1) : null];
    const label = labelOf(latent), label_f1 = columns.label_f1[latent];
    if (label === null || label_f1 <= (f1 ?? 0)) return [isWeak(f1) || !rule ? null : h("span.muted", null, firesAt(rule)), ruled];
    return [h("span.muted", null, "Fires in "), h("b", null, format.words(label)), measured(label_f1), rule ? h("span.second", null, h("span.muted", null, "in words: "), ruled) : null];
  }

  /* The tokens that it makes likelier: by the direct path, or else by what ablation changes. Those of stray bytes, and those
   * that differ in case or space alone from one that is shown, are left to the table of logits. */
  function predicts(feature) {
    const rows = feature.logits?.top ?? feature.effects?.likelier ?? [], seen = new Set();
    const shown = rows.map(([token]) => token).filter((token) => {
      const text = word(token).trim().toLowerCase() || word(token);
      return !/⟨[0-9a-f]{2}⟩/.test(text) && !seen.has(text) && seen.add(text);
    }).slice(0, N_PREDICTED);
    return shown.length ? h("span.predicts", null, h("span.muted", null, "→ predicts "), shown.map((token) => [tokenElement(word(token)), " "])) : null;
  }

  function heading(latent, feature) {
    const { place, of } = report.table.visit(latent);
    const step = (by, text, key) => {
      const to = report.table.neighbour(latent, by);
      const where = to === undefined ? { "aria-disabled": "true", class: "step off" } : { href: `#feature/${to}`, title: `${text} (${key})` };
      return h("a.step", { ...where, "aria-label": text }, by < 0 ? "‹ " : null, h("span.long", null, text), by > 0 ? " ›" : null);
    };
    const nearest = [...feature.neighbours, ...feature.coactivations][0]?.[0];
    const at = place < 0 ? "outside the present filter" : `${format.count(place + 1)} of ${format.count(of)} in this order`;
    const beside = { href: `#compare/${[latent, nearest].filter((each) => each !== undefined).join("/")}`, title: "beside the feature nearest to it" };
    const tried = report.views.try ? h("a", { href: `#try/${latent}`, title: "pinned, beside what else fires in a text" }, "Try text") : null;
    return h("header.feature", null,
      h("div.path", null, h("a", { href: "#features" }, "All features"), h("span.muted", null, at),
        h("span.steps", null, h("a", beside, "Compare"), tried, step(-1, "Previous", "k"), step(1, "Next", "j"))),
      h("div.name", null, h("h2", null, `Feature ${latent}`), h("span", null, verdictElement(verdictOf(latent)), isUnsure(latent) ? h("span.muted", { title: "the interval of its probability holds ½" }, ", unsure") : null), report.data.page.ranked ? h("span.score", { title: "monosemanticity, with its interval" }, intervalElement(columns.monosemanticity[latent], columns.low[latent], columns.high[latent])) : null,
        columns.learnt[latent] === null ? null : h("span.muted", { title: "probability that it is the model's own, not the text's statistics seen through random weights" }, `learnt by the model ${format.fixed(columns.learnt[latent])}`),
        columns.senses[latent] ? h("span.muted", null, isInseparable(latent) ? "no common meaning, no separable senses found" : `${columns.senses[latent]} ${columns.senses[latent] === 1 ? "sense" : "senses"}`) : null,
        report.notes.editor(latent)),
      h("p.lead", null, firesOn(latent), " ", predicts(feature)));
  }

  function page(latent, feature) {
    const nearest = block("Nearest in the decoder", report.neighbourhood(latent, feature.neighbours.map(([other]) => other)), near(latent, feature));
    if (!feature.facts.n_active) {
      return [heading(latent, feature), nothing(`This latent fired on none of the ${format.count(scanned)} tokens scanned.`),
        h("div.side", null, block("Logits", logits(feature)), nearest)];
    }
    const together = links(latent, feature.coactivations, ["Feature", "", "Jaccard", "lift"],
      ([, jaccard, lift]) => [h("td", null, format.fixed(jaccard)), h("td", null, format.significant(lift))], "It fires with no other latent.");
    return [heading(latent, feature), h("div.split", null, firings(latent, feature), h("div.side", null,
      block("Direct logit effects", logits(feature)), effects(feature, columns.learnt[latent], block), block("Why this verdict", verdict(latent, feature)),
      explained(latent, feature), nearest, block("Tokens around a firing", around(feature.tokens)), block("Labels", labels(feature.labels)),
      block("Co-activating features", together), block("In numbers", facts(feature))))];
  }

  const near = (latent, feature) => links(latent, feature.neighbours, ["Feature", "", "cosine"], ([, cosine]) => h("td", null, format.fixed(cosine)), "No neighbours: the store has no decoder directions.");

  /* All that is known of a latent. */
  async function open(latent) {
    const [feature] = await Promise.all([loadFeature(latent), loadWords()]);
    await load(stored(feature).slice(0, N_FIRST));
    return feature;
  }

  async function show(section, argument) {
    const latent = Number(argument);
    wanted = latent;
    if (!/^\d+$/.test(argument ?? "") || latent >= latents) {
      section.replaceChildren(h("p.missing", null, `There is no feature ${argument ?? ""}: latents run from 0 to ${latents - 1}. `, h("a", { href: "#features" }, "All features")));
      return;
    }
    delete section.dataset.latent;
    const feature = await open(latent);
    if (wanted !== latent) return;
    section.replaceChildren(...page(latent, feature));
    section.dataset.latent = latent;
    scrollTo(0, 0);
    // What j and k open next is read meanwhile; if that fails, it is said when they do.
    const beside = [1, -1].map((by) => report.table.neighbour(latent, by)).filter((to) => to !== undefined);
    (window.requestIdleCallback ?? setTimeout)(() => beside.forEach((to) => open(to).catch(() => null)));
  }

  return { within: "features", titled: (latent) => `Feature ${latent}`, show, parts: { activations, open, block, facts, logits, ruleElement, strongest } };
})();
