/* What the map tells of a feature in words, in its list and beside its point: what it fires on, from what a search has
 * found on, which is marked. */
"use strict";

report.mapWords = (() => {
  const { state } = report.selection;
  const { columns } = report;
  const BEGINNING = 70, // letters of a rule in the list, after which what is found would not be seen
    NAME_BEGINNING = 30; // the same of a name
  /* Words before what is found that belong to it. */
  const LITTLE = /(?:\b(?:some|most|tokens|mostly|in|parts|of|after|before) )*\S*$/;

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
      const found = firstFound(rule);
      if (found) beginAt(rule, found, BEGINNING);
    }
    markFound(rule);
    return rule;
  }

  /** The element of its name beside its point: what the list says of it, in short. Parts of characters are drawn, and
   * of tokens in a list it is not told what they are. Of a feature that a search has found, the sense that is found is
   * its name, and if its words do not show what is found, that stands first.
   * @type {(latent: number, isNumbered: boolean) => HTMLElement} */
  function nameOf(latent, isNumbered) {
    const element = h("span.own", null, ruleOf(latent));
    for (const part of element.querySelectorAll(".in-words")) part.replaceWith(part.firstChild);
    for (const tokens of element.querySelectorAll(".of-script")) tokens.previousSibling.remove();
    for (const token of element.querySelectorAll(":is(.short, .token):has(.byte)")) leaveOutRanges(token);
    keepQuotes(element);
    const found = firstFound(element);
    const sense = found?.parentElement.closest(".of-lead");
    if (sense) element.replaceChildren(sense);
    else if (found) beginAt(element, found, NAME_BEGINNING);
    const k = markFound(element) ? -1 : report.search.place(state.terms, latent);
    if (k >= 0) element.prepend(h("mark", null, report.search.onToken(latent, k)), ": ");
    if (isNumbered) element.prepend(`${latent} `);
    return element;
  }

  /* Write … for the parts of a token that may begin any letter of a script, where it has more: by that names differ. */
  function leaveOutRanges(token) {
    const parts = Array.from(token.querySelectorAll(".byte"));
    const ranges = parts.filter(({ dataset }) => /^.–.…$/u.test(dataset.known));
    const isLetter = ({ data, parentElement }) => data.trim() !== "" && !parentElement.matches(".exact");
    if (ranges.length === parts.length && !textsOf(token).some(isLetter)) return;
    for (const part of ranges) part.replaceWith("…");
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

  /* The first text of an element in which a search has found something, or which is in a token that is found by what
   * its letters are. */
  function firstFound(element) {
    const terms = state.terms.filter(({ text }) => text);
    return textsOf(element).find(({ data, parentElement }) => {
      const token = parentElement.closest(".short");
      const parts = Array.from(token?.querySelectorAll(".byte") ?? [], (one) => one.getAttribute("aria-label"));
      const shown = token ? `${token.textContent} ${parts.join(" ")}` : data;
      return !parentElement.closest(".muted") && terms.some(({ text }) => shown.toLowerCase().includes(text));
    });
  }

  /* Let a rule with more than `most` letters before what a search has found begin there. */
  function beginAt(element, found, most) {
    const token = found.parentElement.closest(".short");
    const places = state.terms.map(({ text }) => found.data.toLowerCase().indexOf(text)).filter((at) => at >= 0);
    const range = document.createRange();
    range.setStart(element, 0);
    if (token) range.setEndBefore(token);
    else range.setEnd(found, found.data.slice(0, Math.min(...places)).search(LITTLE));
    if (range.toString().length < most) return;
    range.deleteContents();
    (token ?? found).before("… ");
  }

  return { ruleOf, listed, foundOn, nameOf };
})();
