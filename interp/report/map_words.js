/* What the map tells of a feature in words, in its list and beside its point: what it fires on, from what a search has
 * found on, which is marked. */
"use strict";

report.mapWords = (() => {
  const { state } = report.selection;
  const { columns } = report;
  const BEGINNING = 70; // letters of a rule in the list, after which what is found would not be seen
  /* Words before what is found that belong to it. */
  const LITTLE = /(?:\b(?:tokens|mostly|in|parts|of|after|before) )*\S*$/;

  /** What it fires on: its senses, unless a search has found only a rule of them all.
   * @type {(latent: number) => Child} */
  function ruleOf(latent) {
    const caption = report.captions.brief(latent);
    const isFound = (text) => report.search.parted(state.terms, "rule", text).length > 1;
    const rule = columns.rule[latent];
    const isRuleAlone = isFound(report.segments.textOf(rule)) && !isFound(h("span", null, caption).textContent)
      && report.search.place(state.terms, latent) < 0;
    return isRuleAlone ? report.segments.wholeRule(rule) : caption;
  }

  const markFound = (element) => ["rule", "label"].some((field) => report.search.markIn(state.terms, field, element));

  /** The token that a search has found, and its share of the firings; null where it has found none.
   * @type {(latent: number) => HTMLElement} */
  function foundOn(latent) {
    const k = report.search.place(state.terms, latent);
    return k < 0 ? null : h("small.muted", null, report.search.onToken(latent, k));
  }

  /** The rule of a feature in the list.
   * @type {(latent: number) => HTMLElement} */
  function listed(latent) {
    const rule = h("div.rule", null, ruleOf(latent));
    if (state.query && !rule.querySelector(".of-lead")) {
      keepQuotes(rule);
      beginAtFound(rule, BEGINNING);
    }
    markFound(rule);
    return rule;
  }

  /** The element of its name beside its point: what the list says of it, without the words that most rules begin with,
   * and without the letters of its senses, of which only the first may fit; of one that a search has found, first what
   * it has found, marked.
   * @type {(latent: number) => HTMLElement} */
  function nameOf(latent) {
    const element = h("span.own", null, ruleOf(latent));
    const [first] = textsOf(element);
    if (first) first.data = first.data.replace(/^tokens (?:within \d+ tokens )?(?!like )/, "");
    const senses = element.querySelectorAll(".of-lead");
    /** @type {Map<Element, ChildNode>} */
    const letters = new Map(Array.from(senses, (sense) => [sense, sense.firstChild]));
    for (const letter of letters.values()) {
      letter.nextSibling.remove();
      letter.remove();
    }
    keepQuotes(element);
    const begun = beginAtFound(element);
    const sense = begun?.closest(".of-lead");
    if (sense) element.prepend(letters.get(sense), report.segments.JOINED);
    else if (senses.length) element.prepend(h("span.muted", null, `${columns.senses[latent]} senses: `));
    const k = markFound(element) ? -1 : report.search.place(state.terms, latent);
    if (k >= 0) element.prepend(h("mark", null, report.search.onToken(latent, k)), ": ");
    const token = begun?.closest(".short");
    if (token && !token.querySelector("mark")) token.classList.add("found"); // by what its letters are
    return element;
  }

  /* Make each token of a rule one piece with its quotes. One that stands in a box has none. */
  function keepQuotes(element) {
    for (const token of element.querySelectorAll(".short:not(.blank, .token)")) {
      const { previousSibling: before, nextSibling: after } = token;
      before.deleteData(before.length - 1, 1);
      after.deleteData(0, 1);
      token.prepend('"');
      token.append('"');
    }
  }

  /* Let a name, or a rule with more than `most` letters before it, begin with the token or the words that a search has
   * found: the element that holds them; undefined if none of them is found. Dots stand for what is left out before, but
   * not in a name, which is cut at its end alone. */
  function beginAtFound(element, most = 0) {
    const terms = state.terms.filter(({ text }) => text);
    for (const node of terms.length ? textsOf(element) : []) {
      const { data, parentElement } = node;
      const token = parentElement.closest(".short");
      const parts = Array.from(token?.querySelectorAll(".byte") ?? [], (one) => one.getAttribute("aria-label"));
      const shown = token ? `${token.textContent} ${parts.join(" ")}` : data;
      const places = terms.map(({ text }) => shown.toLowerCase().indexOf(text)).filter((place) => place >= 0);
      if (!places.length || parentElement.closest(".muted")) continue;
      const range = document.createRange();
      range.setStart(parentElement.closest(".of-lead") ?? element, 0);
      if (token) range.setEndBefore(token);
      else range.setEnd(node, data.slice(0, Math.min(...places)).search(LITTLE));
      const isCut = range.toString().trim();
      range.setStart(element, 0); // and the senses before
      if (most && range.toString().length < most) return parentElement;
      range.deleteContents();
      if (isCut && most) (token ?? node).before("… ");
      return parentElement;
    }
    return undefined;
  }

  return { ruleOf, listed, foundOn, nameOf };
})();
