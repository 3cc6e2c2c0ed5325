/* Parse a query, score how well a latent matches it, and find where the match shows.
 *
 * A query is words, all of which must match: word, tok:word, rule:word, label:word, "several words" (spaces count),
 * and #12 for the number of a latent. Digits alone match whole numbers only. */
"use strict";

report.search = (() => {
  const { columns } = report.data.page;
  const lower = (text) => text.toLowerCase();
  const tokens = columns.tokens.map((texts) => texts.map(lower));
  const rules = columns.explanation.map(lower);
  const labels = columns.labels.map((label) => lower(format.words(label)));
  const LETTER = "[\\p{L}\\p{N}_]";

  const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

  function term([whole, field, quoted, plain]) {
    if (/^#\d+$/.test(whole)) return { latent: Number(whole.slice(1)) };
    const text = lower(quoted ?? plain);
    const characters = Array.from(text);
    const edge = (character, sign) => (new RegExp(LETTER, "u").test(character) ? `(?${sign}${LETTER})` : "");
    const word = new RegExp(edge(characters[0], "<!") + escaped(text) + edge(characters.at(-1), "!"), "giu");
    return { field: lower(field ?? ""), text, quoted: quoted !== undefined, number: /^\d+$/.test(text), word };
  }

  const parse = (query) => Array.from(query.matchAll(/(?:(tok|rule|label):)?(?:"([^"]+)"?|([^\s"]+))/gi), term);

  const isToken = ({ text, quoted }, token) => (quoted ? token : token.trim()) === text;
  const isIn = (each, text) => (each.number ? text.search(each.word) >= 0 : text.includes(each.text));
  const asWord = (each, text, whole) => (text.search(each.word) >= 0 ? whole : isIn(each, text) ? 1 : 0);

  /* 4: its commonest token or its number; 3: a word of its rule, or of the reader's own label; 2: another token, or
   * a word of its label; 1: a part of either; 0: nothing. */
  function fit(each, i) {
    if (each.latent !== undefined) return each.latent === i ? 4 : 0;
    const within = (field) => !each.field || each.field === field;
    let best = within("") && each.number && Number(each.text) === i ? 4 : 0;
    const ofToken = (token, rank) => {
      if (isToken(each, token)) return rank ? 2 : 4;
      return isIn(each, token) ? 1 : 0;
    };
    if (within("tok")) best = Math.max(best, ...tokens[i].map(ofToken));
    if (within("rule")) best = Math.max(best, asWord(each, rules[i], 3));
    if (within("label") && columns.label[i] !== null) best = Math.max(best, asWord(each, labels[columns.label[i]], 2));
    const noted = within("label") ? lower(report.notes.of(i).label) : "";
    if (noted) best = Math.max(best, asWord(each, noted, 3));
    return best;
  }

  /* How well a latent matches all the terms; 0 if it lacks one. */
  function quality(terms, i) {
    let sum = 0;
    for (const each of terms) {
      const score = fit(each, i);
      if (!score) return 0;
      sum += score;
    }
    return sum;
  }

  /* A text of one field, split so that every second piece is a match. */
  function parted(terms, field, text) {
    const fitting = terms.filter((each) => each.text && (!each.field || each.field === field));
    if (!fitting.length) return [text];
    const patterns = fitting.map((each) => (each.number ? each.word.source : escaped(each.text)));
    return text.split(new RegExp(`(${patterns.join("|")})`, "iu"));
  }

  /* A text of one field with its matches marked. */
  const marked = (terms, field, text) =>
    parted(terms, field, text).map((piece, k) => (k % 2 ? h("mark", null, piece) : piece));

  /* The index of the token that shows the match: the first that is or holds a term; −1 if none does. */
  function place(terms, i) {
    const fitting = terms.filter((each) => each.text && (!each.field || each.field === "tok"));
    const exact = tokens[i].findIndex((token) => fitting.some((each) => isToken(each, token)));
    return exact >= 0 ? exact : tokens[i].findIndex((token) => fitting.some((each) => isIn(each, token)));
  }

  return { parse, quality, parted, marked, place };
})();
