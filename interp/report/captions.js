/* What a feature fires on and which tokens it raises, in a line: by its rule in words, or by a label that describes its
 * firings better. */
"use strict";

const isWeakRule = (f1) => f1 !== null && f1 !== undefined && f1 < report.data.page.min_f1;

report.captions = (() => {
  const { columns, has_text: hasText } = report.data.page;
  const { labelOf } = report.selection;
  const N_PREDICTED = 5;
  const GOOD = 0.5; // F1 from which a label is set in bold, and a rule is no longer rough
  const SOME = 0.05; // share of the firings, in text of another kind or on some tokens, that is told
  const MUCH = 0.1; // from which the title tells it, or that a share of the activation is of no sense
  const N_KINDS = 3;
  const ONE_SCRIPT = 0.25; // share of the tokens around firings from which their script is taken for that of a part
  const ALIKE = 0.05; // difference of two F1s that does not justify a longer name
  const BY_CHANCE = "these tokens follow its firings no more often than by chance";
  const NO_RULE = "No rule in words holds.";
  const NO_FIRING = "It never fired.";
  const LONG = 40; // letters of a rule from which a line may cut it, so that it has a tip
  const N_LISTED = 4; // tokens of a list that is cut, which takes two more
  const JOINED = "\u00a0"; // a space at which no line ends
  const HALF = 0.5; // of the strongest firings, at fewer of which a rule is no title; or of all
  const RARE = 0.01; // of all, below which no title tells a token behind others
  const COMMON = 0.02; // of all, from which on a token is missed in a rule that lists others
  const NEARLY_ALL = 0.9; // of firings; a kind of text with fewer has "mostly" them
  const NEARLY_NONE = 0.005; // of them, at fewer of which a rule does not stand below the title either
  const N_STRONGEST = 8; // firings whose tokens the title names
  const N_FAMILY = 3; // tokens of a long list that are named as a family
  const N_SAMPLES = 3; // of a family, and of further ones in the same rule
  const N_FURTHER = 1;
  const FAMILIES = [
    ["single capital letters", /^ ?\p{Lu}$/u],
    ["Greek letters", /^ ?\p{Script=Greek}$/u],
    ["Cyrillic letters", /^ ?\p{Script=Cyrillic}$/u],
    ["single small letters", /^ ?\p{Ll}$/u],
    ["numbers", /^ ?\p{Nd}+$/u],
    ["pieces of Cyrillic words", /^ ?\p{Script=Cyrillic}+$/u],
    ["Hebrew letters and pieces of words", /^ ?\p{Script=Hebrew}+$/u],
    ["Arabic letters and pieces of words", /^ ?\p{Script=Arabic}+$/u],
    ["Han characters", /^\p{Script=Han}+$/u],
  ];
  const LISTS = new RegExp(`(tokens like )?((?:${QUOTED.source}(?:,| or|, or) ){2,}${QUOTED.source})`, "g");
  const NAMES_SCRIPT = /Greek|Cyrillic|Hebrew|Arabic/; // a family of whose tokens none needs its script beside it
  const OF_PLACE = /^(?:tokens )?(?:after|before|two|within|in|inside|outside|at|on)\b/; // a rule that names no tokens
  const OF_BYTES = /bytes of characters|[a-z-]+ tokens in Byte script/g; // names of parts of characters in a rule
  /* The tokens that a rule does not quote (text/vocabulary.py). */
  const NAMES = {
    "\n": "a newline", "\n\n": "a blank line", " ": "a space", "\t": "a tab", ",": "a comma", ".": "a full stop",
    ":": "a colon", ";": "a semicolon", "'": "an apostrophe", '"': "a double quote",
  };
  const isKnown = (f1) => f1 !== null && f1 !== undefined;
  const f1Element = (f1) => (isKnown(f1) ? h("small", null, ` F1 ${format.fixed(f1)}`) : null);
  const f1Term = (f1, of = "") =>
    (isKnown(f1) ? h("small", null, ` ${of}`, term("F1"), ` ${format.fixed(f1)}`) : null);

  /* Whether a label predicts where the latent fires better than its rule, or hardly worse, since it is shorter. */
  const byLabel = (latent) =>
    labelOf(latent) !== null && (!hasText || columns.label_f1[latent] > (columns.explanation_f1[latent] ?? 0) - ALIKE);
  const f1 = (latent) => (byLabel(latent) ? columns.label_f1 : columns.explanation_f1)[latent];
  const labelElement = (latent) =>
    h(columns.label_f1[latent] < GOOD ? "span" : "b", null, format.words(labelOf(latent)));

  /* The tokens of a rule that is only a list of quoted tokens; none for any other rule. */
  const listOf = (rule) =>
    (/^(?:(?:,| or|, or) )*$/.test(rule.replace(QUOTED, "")) ? rule.match(QUOTED) ?? [] : []);

  /* How many tokens a rule lists, if it does nothing else. */
  function listed(rule) {
    const n = listOf(rule).length;
    if (n === 0) return null;
    return h("span.muted", null, n === 1 ? "the token " : `any of ${n} tokens: `);
  }

  /* The same rule, with several lists of similar tokens as one list, with a property that several kinds of tokens share
   * named once, and with parts of characters of any script kept apart from the script that is named beside them. */
  const joined = (rule) => rule
    .replace(/( with(?:out)? a [a-z ]*space[a-z ]*?)(?=(?:,| or|, or) (?:(?!space)[^"])*\1)/g, "")
    .replace(/("(?:,| or|, or)) tokens like (?=")/g, (_, before, at) =>
      (rule.slice(0, at).includes("tokens like") ? `${before} ` : _))
    .replace(OF_BYTES, "parts of characters of any script");

  /* A rule in short: of each list the first few tokens and how many more there are, and of many tokens of one family
   * its name before them; white space is shown by its counts. The page writes every rule so; with `isButton` a button
   * shows all of it. read: as of `reading`, on the page of a feature. */
  function short(rule, isButton = false, read = () => null) {
    const spaces = isBlankList(rule) ? inCounts(rule) : null;
    if (spaces) return h("span", { title: rule }, spaces);
    const whole = inOrder(joined(rule));
    const lead = report.bytes.leadOfAll(whole);
    const inRule = (part) => partOfRule((token) => read(token) ?? lead, part);
    const parts = shortened(whole, inRule, isButton);
    return h("span.shortened", { title: parts[0].length || rule.length > LONG ? rule : null }, parts);
  }

  /* Its lists so, each token as `inRule` draws it. */
  function shortened(whole, inRule, isButton = false) {
    const more = (n) => further(n, isButton ? () => inRule(whole) : null);
    const parts = [];
    let from = 0, samples = N_SAMPLES;
    for (const { index, 0: { length }, 1: like = "", 2: list } of whole.matchAll(LISTS)) {
      const tokens = list.match(QUOTED);
      const isOfMany = like || whole.slice(0, index).endsWith("rich in ");
      const least = tokens.length > N_LISTED ? N_FAMILY : isOfMany ? tokens.length : Infinity;
      const families = familiesOf(tokens, least);
      if (!families.length && tokens.length <= N_LISTED + 1) continue;
      const named = new Set(families.flatMap(([, own]) => own));
      const others = tokens.filter((token) => !named.has(token));
      const some = (own, most) => {
        const n = own.length === most + 1 ? own.length : most; // the last one takes no more room than "+1"
        return [inRule(own.slice(0, n).join(", ")), more(own.length - n)];
      };
      const groups = families.map(([name, own]) =>
        [`${name} `, h(NAMES_SCRIPT.test(name) ? "span.of-script" : "span", null, some(own, samples))]);
      if (families.length) samples = N_FURTHER;
      if (others.length) groups.push([like, some(others, others.length > N_LISTED + 1 ? N_LISTED : others.length)]);
      parts.push(inRule(whole.slice(from, index)), groups.map((group, k) => (k ? [" or ", group] : group)));
      from = index + length;
    }
    return [parts, inRule(whole.slice(from))];
  }

  /* How many more there are; if `all` makes the whole rule, it is a button that shows that. */
  function further(n, all) {
    if (n <= 0) return null;
    const said = `+${n}`;
    const onclick = ({ target }) => {
      target.closest(".title > div")?.classList.add("whole");
      target.closest(".shortened").replaceWith(all());
    };
    if (!all) return [" ", h("span.muted", null, said)];
    return [" ", h("button.link", { type: "button", title: "all of the rule", onclick }, said)];
  }

  /* The families of at least `least` tokens of a list: [name, quoted tokens], …, in the order of the list. Of parts of
   * characters of one script those with whole letters come first, which tell more. */
  function familiesOf(tokens, least) {
    const lead = report.bytes.leadOfAll(tokens.join(""));
    const nameOf = (token) => familyOf(token.slice(1, -1), lead);
    const isPart = (name) => name?.startsWith("parts of");
    const scripts = new Set(tokens.map(nameOf).filter(isPart));
    const families = Map.groupBy(tokens, (token) => {
      const name = nameOf(token);
      return isPart(name) && scripts.size > 1 ? "bytes of several scripts" : name;
    });
    families.delete(undefined);
    const hasLetters = (token) => Number(/\p{L}/u.test(token.replace(/⟨..⟩/g, "")));
    const toldFirst = ([name, own]) =>
      [name, scripts.has(name) ? own.toSorted((a, b) => hasLetters(b) - hasLetters(a)) : own];
    return [...families].filter(([, own]) => own.length >= least).map(toldFirst);
  }

  /* A name for tokens of one kind of spelling; undefined for any other. */
  function familyOf(token, lead = null) {
    if (!report.bytes.meaning(token)) return FAMILIES.find(([, pattern]) => pattern.test(token))?.[0];
    const own = report.bytes.leadRead(token, lead);
    const name = own === null ? "character" : report.bytes.nameOf(own).replace(/ or sign| or rare character/, "");
    return `parts of ${name}s`;
  }

  /* Whether a rule lists only white space. */
  const isBlankList = (rule) => listOf(rule).length > 1 && listOf(rule).every((token) => /^"(?:\s|\\n)+"$/.test(token));

  /* The white space that a rule lists: after how many line ends how many spaces. */
  function inCounts(rule) {
    const tokens = listOf(inOrder(rule)).map((token) => token.slice(1, -1));
    if (tokens.some((token) => /[^ n\\]/.test(token))) return null;
    const afterLines = new Map();
    for (const token of tokens) {
      const lines = token.split("\\n").length - 1;
      afterLines.set(lines, [...(afterLines.get(lines) ?? []), token.length - 2 * lines]);
    }
    const oneOf = (counts) => [counts.slice(0, -1).join(", "), counts.at(-1)].filter(Boolean).join(" or ");
    const ofSpaces = (counts) => `${oneOf(counts)} ${counts.at(-1) === 1 ? "space" : "spaces"}`;
    const parts = Array.from(afterLines, ([lines, counts]) => {
      const sign = lines > 3 ? `↵×${lines}` : "↵".repeat(lines);
      const spaces = counts.filter(Boolean);
      const then = spaces.length ? `${sign ? `${sign} then ` : ""}${ofSpaces(spaces)}` : null;
      return [counts.length > spaces.length ? sign : null, then].filter(Boolean).join(", or ");
    });
    return parts.join(parts.some((part) => part.includes(",")) ? "; " : ", or ");
  }

  /* The same rule; if it lists only white space, sorted by the line ends and then by the spaces. */
  function inOrder(rule) {
    if (!isBlankList(rule)) return rule;
    const tokens = listOf(rule);
    const lines = (token) => token.split("\\n").length;
    tokens.sort((a, b) => lines(a) - lines(b) || a.length - b.length);
    return `${tokens.slice(0, -1).join(", ")} or ${tokens.at(-1)}`;
  }

  /* What the table shows of every feature beside numbers (payloads.py), read once. */
  let ofTable = null;
  async function readRows() {
    [ofTable] = await Promise.all([loadData("rows"), loadWords()]);
    return ofTable;
  }

  /* The senses of a feature with several, as the table has them; undefined until it has been read. */
  function sensesOf(latent) {
    const all = ofTable?.senses[latent] ?? [];
    return all.length > 1 ? all.map(([rule]) => ({ rule, f1: null, common: [], share: null })) : undefined;
  }

  /* A description in a few words, for a card or a list: the reader's own label, or what it fires on. */
  function brief(latent, measured, feature) {
    const { label: mine } = report.notes.of(latent);
    return mine ? h("bdi.mine", null, mine) : inBrief(latent, measured, feature);
  }

  /* What it fires on in a few words: a label of the text, the rule of each sense, or the rule. measured: makes what
   * follows it, from its F1. feature: where it has been read. */
  function inBrief(latent, measured = f1Element, feature = null) {
    const senses = feature ? feature.senses : sensesOf(latent);
    const rule = ruleOf(latent);
    if (byLabel(latent)) return [labelElement(latent), apart(latent), measured(f1(latent))];
    if (senses?.length) return inSenses(senses);
    if (columns.max[latent] === null) return h("span.muted", null, NO_FIRING);
    if (!rule) return h("span.muted", null, hasText ? NO_RULE : "No label fits.");
    if (isWeakRule(f1(latent))) return h("span.weak", { "data-tip": NO_RULE }, short(rule));
    return [feature ? onUnnamed(latent, feature) : onMost(latent), short(rule), apart(latent), measured(f1(latent))];
  }

  /* The token of half of its firings or more, to stand before a rule that names no token; null for any other rule. */
  function onMost(latent) {
    const [[token], [share]] = [columns.tokens[latent], columns.token_shares[latent]];
    if (!(share >= HALF) || !OF_PLACE.test(columns.explanation[latent])) return null;
    return [h("span.muted", null, "on "), ruleText(quoted(token)), h("span.muted", null, ": ")];
  }

  /* What tells it from other features of the same rule or label: tokens that it raises; null if it has its own. */
  function apart(latent) {
    const raised = columns.raises[latent];
    return raised.length ? h("span.apart", null, ", raises ", ruleText(raised.map(quoted).join(" "))) : null;
  }

  /* The same as text alone. */
  const plain = (latent) => h("span", null, brief(latent, () => null)).textContent;

  /* Links to other features, each with what relates the two, and what it fires on in a few words. rows: [other latent,
   * what relates them]. */
  const linked = (rows) => rows.map(([other, said]) => (
    h("span.near", null,
      featureLink(other),
      h("small", null, said),
      h("span.rule", null, brief(other, () => null)))));

  /* The kinds of text in which the firings of a feature that is named by a label lie: [label, share], …, that label
   * first; only it where the others may lie within it. */
  function kindsOf(latent, { labels }) {
    const shares = labels.map(([label, , precision]) => [label, precision]).filter(([, share]) => share !== null);
    const own = shares.find(([label]) => label === labelOf(latent));
    if (!own || !byLabel(latent)) return [];
    const others = shares.filter((one) => one !== own && one[1] >= SOME)
      .sort((a, b) => b[1] - a[1]).slice(0, N_KINDS - 1);
    const sum = [own, ...others].reduce((total, [, share]) => total + share, 0);
    return [own, ...(sum <= 1 ? others : [])];
  }

  /* The title of a feature: what it fires on, after the reader's own label, if it has one. */
  function title(latent, feature) {
    const { label: mine } = report.notes.of(latent);
    const named = firesOn(latent, feature);
    return mine ? [h("bdi.mine", null, mine), h("span.named", null, named)] : named;
  }

  /* What a feature fires on: a label of the text or a rule; where there are several senses, each has its own rule; and
   * where the rule tells less than the tokens on which it fires most, or fails at its strongest firings, tokens. A
   * title names what its strongest firings share, or their tokens: they stand before what does not. */
  function firesOn(latent, feature) {
    const { senses } = feature;
    if (byLabel(latent)) {
      const [, second] = kindsOf(latent, feature);
      const more = second && second[1] >= MUCH ? h("span.muted", null, `, and some ${format.words(second[0])}`) : null;
      return [labelElement(latent), more, apart(latent), f1Term(f1(latent), "label ")];
    }
    if (!hasText) return h("span.muted", null, "No label describes where it fires.");
    if (senses?.length) return inSenses(senses, feature);
    if (!isByTokens(latent)) return [onUnnamed(latent, feature), inWords(latent, feature), apart(latent)];
    const tokens = strongestTokens(report.firings.stored(feature));
    const common = columns.tokens[latent].slice(0, N_LISTED);
    const rule = columns.explanation[latent]; // what follows tells the kind of text
    const strongest = columns.at_strongest[latent] >= NEARLY_ALL && rule && !listOf(rule).length
      ? short(rule, true, reading(feature))
      : isMost(tokens, (token) => common.includes(word(token))) ? null : onTokens(tokens, feature);
    const first = strongest && [h("span.muted", null, "most strongly "), strongest, h("span.muted", null, "; ")];
    return h("span.vague", null, first, onCommonest(latent, feature));
  }

  /* The tokens of its strongest firings, to stand before a rule that does not name them; null for any other rule, and
   * where hardly any of its firings are on them. */
  function onUnnamed(latent, feature) {
    const tokens = strongestTokens(report.firings.stored(feature));
    const isNamed = isMost(tokens, (token) => isNamedBy(columns.explanation[latent], token));
    if (isNamed || areFew(tokens, feature)) return null;
    const rule = columns.explanation[latent];
    if (!listOf(rule).length) return [onTokens(tokens, feature), h("span.muted", null, ": ")];
    const others = tokens.filter((token) => !isNamedBy(rule, token)); // on which it fires more strongly than on those
    return [h("span.muted", null, "most strongly "), onTokens(others, feature), h("span.muted", null, "; ")];
  }

  /* Whether hardly any firings of a feature, or of a share of them, are on the first few of some tokens. */
  function areFew(tokens, feature, share = 1) {
    const few = firstFew(tokens);
    const n = feature.tokens.reduce((sum, [offset, token, count]) =>
      sum + (offset === 0 && few.includes(token) ? count : 0), 0);
    return n < SOME * share * feature.facts.n_active;
  }

  /* The tokens of the strongest of some firings, which are in order; whether most of some tokens are as asked; and
   * whether a rule names a token as one on which it holds. */
  const strongestTokens = (firings) =>
    firings.slice(0, N_STRONGEST).map(report.examples.tokenOf).filter((token) => token !== null);
  const isMost = (tokens, has) => tokens.filter(has).length >= HALF * tokens.length;
  const isNamedBy = (rule, token) => !OF_PLACE.test(rule) && rule.includes(quoted(word(token)));
  const quoted = (text) => NAMES[text] ?? `"${text.replaceAll("\n", "\\n").replaceAll("\t", "\\t")}"`;

  /* Whether the rule holds at few of its strongest firings; most: the share from which on they are not few. */
  const isPastStrongest = (latent, most = HALF) => (columns.at_strongest[latent] ?? 1) < most;

  const sharesOf = (latent) => columns.token_shares[latent].slice(0, N_LISTED);

  /* Whether the tokens on which it fires most tell more of its firings than its rule. */
  const isOnCommonest = (latent) =>
    sharesOf(latent).reduce((sum, share) => sum + share, 0) > columns.explanation_f1[latent];

  /* Whether tokens name a feature that has neither a label nor several senses, on its page as in a list. */
  function isByTokens(latent) {
    const ruleF1 = columns.explanation_f1[latent];
    if (!columns.explanation[latent] || isWeakRule(ruleF1) || isPastStrongest(latent)) return true;
    return isKnown(ruleF1) && (ruleF1 < GOOD || missesCommon(latent)) && isOnCommonest(latent);
  }

  /* Whether a rule lists tokens, but not all of those on which it fires most. */
  function missesCommon(latent) {
    const named = listOf(columns.explanation[latent]).map((token) => token.slice(1, -1));
    const shares = columns.token_shares[latent];
    const isMissed = (token, k) => shares[k] >= COMMON && !named.includes(quoted(token).slice(1, -1));
    return columns.tokens[latent].slice(0, named.length).some(isMissed);
  }

  /* The kind of text in which most of its firings lie: "in french", "mostly in html"; null if there is none. */
  function inKind(latent) {
    const kind = columns.kinds[columns.kind[latent]];
    return kind ? `${columns.kind_share[latent] < NEARLY_ALL ? "mostly " : ""}in ${format.words(kind)}` : null;
  }

  /* The rule of a feature; one of a text's words tells first which kind of text that is. */
  const ruleOf = (latent) =>
    columns.explanation[latent].replace(/(?<= )in text rich in/, (said) => said.replace("in", inKind(latent) ?? "in"));

  /* The tokens on which a feature fires most, each with its share of the firings. feature: where more is known than the
   * table has. */
  function onCommonest(latent, feature) {
    const all = columns.tokens[latent];
    if (!all.length) return h("span.muted", null, NO_RULE);
    const read = feature ? reading(feature) : () => null;
    const isAll = all.length <= N_LISTED + 1; // the last one takes no more room than "and 1 more"
    const shares = columns.token_shares[latent].slice(0, isAll ? all.length : N_LISTED)
      .filter((share, k) => share >= RARE || !k);
    const kind = inKind(latent);
    const on = shares.map((share, k) =>
      [tokenElement(all[k], read(all[k])), h("small", null, ` ${format.notable(share)}`), " "]);
    const more = feature ? feature.facts.n_tokens - on.length : 0;
    const most = all.length === 1 ? "only on " : kind ? `${kind}, on ` : "mostly on ";
    return [h("span.muted", null, most), on,
      more > 0 ? h("small", null, `and ${format.count(more)} more`) : null];
  }

  const firstFew = (tokens) => [...new Set(tokens)].slice(0, N_SAMPLES);

  /* The first few of some tokens on which a feature fires. */
  function onTokens(tokens, feature) {
    const read = reading(feature);
    return [h("span.muted", null, "on "),
      firstFew(tokens).map(word).map((text, k) => [k ? " " : null, tokenElement(text, read(text))])];
  }

  /* A rule as it is written everywhere; one that holds roughly, or barely, says so. none: the text if there is no rule;
   * before: what stands before one that does not barely hold; isButton, read: as of `short`. */
  function ruleElement(rule, ruleF1, none, { before = null, isButton = true, read } = {}) {
    if (!rule) return h("span.muted", null, none);
    const shown = short(rule, isButton, read);
    if (isWeakRule(ruleF1)) return h("span.weak", null, "No reliable rule was found; the nearest is ", shown);
    const isRough = isKnown(ruleF1) && ruleF1 < GOOD;
    return isRough ? h("span.rough", null, h("span.muted", null, "roughly "), before, shown) : [before, shown];
  }

  /* The rule of a feature with its F1, whether it lists tokens, and how many of the strongest firings it misses. */
  function inWords(latent, feature) {
    const [rule, ruleF1] = [ruleOf(latent), columns.explanation_f1[latent]];
    return [
      ruleElement(rule, ruleF1, "No explanation was found.",
        { before: isBlankList(rule) ? null : listed(rule), read: reading(feature) }),
      rule ? f1Term(ruleF1) : null,
      isPastStrongest(latent) && !isWeakRule(ruleF1)
        ? h("small", null, `, but true of ${format.percent(columns.at_strongest[latent])} of its strongest firings`)
        : null,
    ];
  }

  /* Whether a token is a part of a character although there are none around the firings: it tells a reader little. */
  const isStray = (token, lead) => lead === null && report.bytes.meaning(word(token)) !== null;

  /* The tokens that it makes likelier: by the direct path, or else by what ablation changes. Those that differ in case
   * or space alone are one, and parts of characters are left out where there are none around the firings. */
  function predicts(feature) {
    const lead = leadAround(feature);
    const read = reading(feature);
    const all = feature.logits?.top ?? feature.effects?.likelier ?? [];
    const rows = all.filter(([token]) => !isStray(token, lead));
    const alike = Map.groupBy(rows.map(([token]) => word(token)), (text) => text.trim().toLowerCase() || text);
    return Array.from(alike.values()).slice(0, N_PREDICTED).map(([first]) => [tokenElement(first, read(first)), " "]);
  }

  /* A first byte of the letters on or beside which a feature fires; null if few of them are of one script but Latin. */
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

  /* How the page of a feature reads parts of characters, each token in one way: a function from its text to a first
   * byte of the character in whose bytes its strongest example fires, or else of the letters around the firings. */
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

  /* Whether the tokens that it raises follow its firings no more often than any token; false where that is not
     known. */
  function isByChance({ evidence }) {
    const follows = (evidence ?? []).find(([place]) => report.data.page.evidence[place].name === "next_auroc");
    const [, value, , , high] = follows ?? [];
    return Boolean(follows) && high !== null && value <= high;
  }

  function raises(feature) {
    const isMuted = feature.logits && isByChance(feature);
    const path = feature.logits ? "direct logits" : "measured by ablation";
    return [
      h(isMuted ? "span.predicts.muted" : "span.predicts", null, predicts(feature)),
      h("small.muted", null, path, isMuted ? `; ${BY_CHANCE}` : null),
    ];
  }

  /* What describes a sense: its rule if that holds, else what its firings share; undefined if nothing does. */
  const ofSense = ({ rule, f1: f1OfRule, common }) => (rule && !isWeakRule(f1OfRule) ? rule : common[0]);

  /* Where it fires in each of some senses; in the title of their feature, each with the tokens of its strongest firings
   * where its rule does not name them, and how much of the activation is of none of them. */
  function inSenses(all, feature = null) {
    const read = feature ? reading(feature) : undefined;
    const one = (sense, k) => {
      const rule = ofSense(sense);
      const of = k || !feature ? "" : " of activation"; // as are those of the others
      const told = sense.share === null ? [] : [`${format.percent(sense.share)}${of}`];
      if (feature && rule === sense.rule && isKnown(sense.f1)) told.push(`F1 ${format.fixed(sense.f1)}`);
      const isOf = (example) => report.examples.senseOf(example, all) === k;
      const firings = feature ? [...feature.examples.filter(isOf), ...sense.examples] : [];
      const tokens = strongestTokens(report.firings.stored({ examples: firings }));
      const isNamed = isMost(tokens, (token) => rule && isNamedBy(rule, token))
        || (rule && areFew(tokens, feature, sense.share));
      return h("span.of-lead", null,
        report.examples.senseMark(k, null), JOINED,
        isNamed ? null : [onTokens(tokens, feature), rule ? h("span.muted", null, ": ") : null],
        rule ? ruleElement(rule, rule === sense.rule && feature ? sense.f1 : null, null,
          { isButton: feature !== null, read })
          : isNamed ? "no rule" : null,
        told.length ? h("small", null, `${JOINED}${told.join(", ")}`) : null);
    };
    const rest = 1 - all.reduce((sum, { share }) => sum + (share ?? NaN), 0);
    if (!feature || !(rest >= MUCH)) return all.map(one);
    return [...all.map(one), h("span.of-lead.muted", null, "of no sense ", h("small", null, format.percent(rest)))];
  }

  /* The lines below the title: the rule if something else is the title, unless it fails at all of the strongest
   * firings; the tokens that it raises; and the given extras: [name, content]. */
  function element(latent, feature, ...more) {
    const rule = columns.explanation[latent];
    const isInstead = byLabel(latent) || (!feature.senses?.length && isByTokens(latent));
    const isBelow = isInstead
      && (isWeakRule(columns.explanation_f1[latent]) || !isPastStrongest(latent, NEARLY_NONE));
    const line = (kind, name, ...content) => h(kind, null, h("dt", null, name), h("dd", null, content));
    return h("dl.lead", null,
      rule && isBelow ? line("div", "In words", inWords(latent, feature)) : null,
      hasText && predicts(feature).length ? line("div.raises", "Raises", raises(feature)) : null,
      more.length
        ? h("div.nearby", null, more.map(([name, content]) => [h("dt", null, name), h("dd", null, content)])) : null);
  }

  return {
    JOINED, familyOf, readRows, brief, inBrief, plain, onMost, apart, short, rule: ruleElement, linked, title, element,
    isByTokens, onCommonest, inSenses, ofSense, byLabel, f1, predicts, kindsOf, leadAround, reading,
    isStray,
    byChance: (feature) => isByChance(feature) && BY_CHANCE,
  };
})();
