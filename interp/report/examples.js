/* Examples: the text around firings of one latent, each token shaded by its activation.
 *
 * They are listed with the firing token in one column; a click opens the whole context. How much of the text is shown
 * is one choice for the whole page. An example is [kind, row, labels, value, [pos, value, …]]
 * (contexts.py). */
"use strict";

/* The tokens scanned, in files of several sequences each. */
report.text = (() => {
  const { n_ctx, sequences_a_file: many } = report.data.page;
  const FIRST_CODE = 93,
    SURROGATES = 0xd800,
    N_SURROGATES = 0x800;
  const files = new Map();

  /** @type {(text: string) => Int32Array} */
  function decoded(text) {
    const ids = new Int32Array(text.length);
    let n = 0;
    for (let k = 0; k < text.length; k++) {
      const code = text.codePointAt(k);
      if (code > 0xffff) k++; // it takes two units
      ids[n++] = (code < SURROGATES ? code : code - N_SURROGATES) - FIRST_CODE;
    }
    return ids.slice(0, n);
  }

  const load = (sequences) =>
    Promise.all(
      [...new Set(sequences.map((sequence) => Math.floor(sequence / many)))].map(async (file) => {
        if (!files.has(file)) files.set(file, decoded(await loadData(numbered("text", file))));
      }),
    );

  /* The token ids of a sequence; null if its file is not loaded yet. */
  function of(sequence) {
    const file = files.get(Math.floor(sequence / many)),
      start = (sequence % many) * n_ctx;
    return file ? file.subarray(start, start + n_ctx) : null;
  }

  return { load, of, decoded };
})();

/* Rows that are not text: each has a number and possibly a picture, in files of many rows each. */
report.inputs = (() => {
  const { n_ctx, pictures_a_file: many } = report.data.page;
  const pictures = new Map();

  const load = (rows) =>
    Promise.all(
      (many ? [...new Set(rows.map((row) => Math.floor(row / many)))] : []).map(async (file) => {
        if (pictures.has(file)) return;
        const drawn = await loadData(numbered("pictures", file));
        pictures.set(file, drawn);
      }),
    );

  const isThere = (row) => !many || pictures.has(Math.floor(row / many));
  const named = (row) =>
    n_ctx === 1
      ? `input ${format.count(row)}`
      : `input ${format.count(Math.floor(row / n_ctx))}, position ${row % n_ctx}`;

  /* The picture of a row, or its name if there is none. Only base64 letters come from the data. */
  function element(row) {
    const drawn = many ? pictures.get(Math.floor(row / many))?.[row] : null;
    if (!/^[A-Za-z0-9+/=]+$/.test(drawn ?? "")) return h("span.input", null, named(row));
    return h("img.picture", { src: `data:image/png;base64,${drawn}`, alt: named(row), title: named(row) });
  }

  return { load, isThere, element, named };
})();

report.examples = (() => {
  const { n_ctx, label_sets: labelSets, has_text: hasText, sense_letters: letters } = report.data.page;
  const NARROW = matchMedia("(max-width: 640px)");
  const AROUND = {
    line: [48, 40],
    passage: NARROW.matches ? [20, 14] : [64, 40],
    snippet: [24, 24], // as payloads.py stores them for a row
    whole: [n_ctx, n_ctx],
  };
  const WIDTHS = {
    line: ["One line", "the firing tokens in one column"],
    passage: ["Passage", "the text around, in its own lines"],
    whole: ["Whole", "all of the context"],
  };
  const FEW = 15;
  const MOST_BYTES = 3; // of a character before or after one of its bytes
  const N_ALIKE = 4; // tokens up to the firing one that two alike examples share
  const N_CLOSE = 8; // tokens between two firings in one text up to which one is enough
  // The shade of an activation is its share of the largest, to this power: peaks stand out where many tokens fire.
  const SPREAD = 2.4;
  const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/gu,
    LETTERS = /\p{L}/gu,
    STRAY_BYTES = /⟨[0-9a-f]{2}⟩/g,
    IS_STRAY = /^(?:⟨[0-9a-f]{2}⟩)+$/,
    IS_SPECIAL = /^<\|.*\|>$/,
    IS_MARK = /^\p{M}/u, // a combining mark, which takes no room of its own
    NO_TEXT = /⟨[0-9a-f]{2}⟩|<\|.*\|>/; // a stray byte or a special token, which keep their own direction
  const MOST_LINES = NARROW.matches ? 0 : 2; // of a passage, before and after the line of its firing token
  const SHORT = 10; // tokens of a passage below which it takes another line on either side
  const EARLY = 4; // tokens before a firing, up to which it stands further left on its line
  const OPPOSITE = { ltr: "rtl", rtl: "ltr" };
  const FAR = 1e6; // times as readily is each further part of a row cut off, so that those nearer stay whole
  const UNBROKEN = /[!-~]{40}/; // text without spaces, as of DNA, whose lines are parted at the column
  const HANGING = 2; // letters by which what does not fit into a line stands further in than the line
  const FRAGMENT = 8; // tokens of a cut line from which on it is worth a line of its passage
  let chosen = null; // of WIDTHS, for the whole page

  /** @type {(one: Example) => number} */
  const valueOf = ([, , , value]) => value;
  /** @type {(one: Example) => number} */
  const sequenceOf = ([, row]) => Math.floor(row / n_ctx);
  /** @type {(one: Example) => number} */
  const placeOf = ([, row]) => row % n_ctx;
  const load = (examples) =>
    hasText ? report.text.load(examples.map(sequenceOf)) : report.inputs.load(examples.map(([, row]) => row));
  const isLoaded = (one) => (hasText ? report.text.of(sequenceOf(one)) !== null : report.inputs.isThere(one[1]));

  /** The activations of a latent in the sequence of an example, by their place: those of its own examples there, and
   * `value` where the example fires.
   * @type {(one: Example, own: Example[], value: number) => Map<number, number>} */
  function activationsIn(one, examples, value) {
    const sparse = examples.find((each) => sequenceOf(each) === sequenceOf(one))?.[4] ?? [];
    const active = new Map();
    for (let k = 0; k < sparse.length; k += 2) active.set(sparse[k], sparse[k + 1]);
    return active.set(placeOf(one), value);
  }

  /** The facts about an example whose text is loaded, for its copy.
   * @type {(one: Example, latent: number) => Record<string, any>} */
  function described(one, latent) {
    const place = placeOf(one);
    const where = { latent, sequence: sequenceOf(one), position: place, labels: labelsOf(one) };
    const known = { ...where, activation: valueOf(one) };
    if (!hasText) return known;
    const tokens = Array.from(report.text.of(sequenceOf(one)), word);
    const active = activationsIn(one, [one], valueOf(one));
    return { ...known, token: tokens[place], tokens, activations: tokens.map((_, k) => active.get(k) ?? 0) };
  }

  /** How much of the text is shown of a feature: as was chosen, else a passage where most of its firings are line ends,
   * which a single line would hide.
   * @type {(feature: Feature) => string} */
  function widthOf(feature) {
    const isLineEnd = (one) => isLoaded(one) && word(tokenOf(one)).includes("\n");
    const isOfLines = hasText && 2 * feature.examples.filter(isLineEnd).length > feature.examples.length;
    return chosen ?? (NARROW.matches || isOfLines ? "passage" : "line");
  }

  /* The pieces of some tokens (bytes.js). Those of the firing one are one piece: a token that ends one character and
   * begins the next fires once, in one box. A combining mark on which the latent fires, told by isOn, takes the letter
   * that bears it into its box. parts: [text, the token of each of its bytes], … */
  function piecesOf(tokens, firing, isOn = (token) => token === firing) {
    const pieces = [];
    for (const { text, tokens: places } of report.bytes.pieces(Array.from(tokens, word))) {
      const before = pieces.at(-1);
      if (places.includes(firing) && before?.tokens.includes(firing)) {
        before.text += text;
        before.tokens = [...before.tokens, ...places];
        before.parts.push([text, places]);
      } else {
        const borne = places.some(isOn) && before && !before.tokens.some(isOn) && /^\p{M}/u.test(text);
        const [bearer] = (borne && /\p{L}\p{M}*$/u.exec(before.text)) || [""];
        if (bearer) before.text = before.text.slice(0, -bearer.length);
        pieces.push({ text: bearer + text, tokens: places, parts: [[bearer + text, places]] });
      }
    }
    return pieces;
  }

  /* How much of a piece is coloured where only some of its tokens fire, which may hold a part of a character: the style
   * of its element; null for all of it. */
  function partOf({ text, parts }, isOn) {
    const length = (/** @type {string} */ of) => Array.from(of).length;
    let at = 0, from = null, to = 0;
    for (const [own, places] of parts) {
      const step = length(own) / places.length;
      for (const place of places) {
        if (isOn(place)) [from, to] = [from ?? at, at + step];
        at += step;
      }
    }
    const inPercent = (x) => `${Math.round((100 * x) / length(text))}%`;
    if (from === null || /\n/.test(text) || (inPercent(from) === "0%" && inPercent(to) === "100%")) return null;
    return { "--from": inPercent(from), "--to": inPercent(to), "--way": isRightToLeft(text) ? "to left" : "to right" };
  }

  /** The pieces of an example between two positions of its sequence, as elements, and which of them fires. Unless each
   * token must be separate, those between firings are one piece for each line, and the bytes of a character that is cut
   * in two at either end are left out. isBroken: lines end where they do in the text.
   * @type {(one: Example, from: number, to: number, most: number, isEach: boolean, isBroken: boolean,
   *   beside?: any) => { elements: HTMLElement[], firing: number, pieces: { text: string }[] }} */
  function shaded(one, from, to, most, isEach, isBroken, beside) {
    const firing = placeOf(one) - from;
    const active = new Map(Array.from(activationsIn(one, [one], valueOf(one)), ([place, z]) => [place - from, z]));
    const others = beside?.activationsOf?.(one) ?? new Map();
    const isOn = (token) => active.has(token) || others.has(token + from);
    const strongest = (places, among) => places.map((token) => among.get(token)).filter(Boolean)
      .sort((a, b) => Math.abs(b) - Math.abs(a))[0];
    const shareOf = (z, largest) =>
      (z === undefined ? null : (Math.min(Math.abs(z) / largest, 1) ** SPREAD).toFixed(3));
    const tokens = report.text.of(sequenceOf(one)).subarray(from, to);
    let pieces = [];
    for (const { text, tokens: places, parts } of piecesOf(tokens, firing, isOn)) {
      const isPlain = !isEach && !places.some(isOn) && !NO_TEXT.test(text);
      const last = pieces.at(-1);
      if (isPlain && last?.isPlain) last.text += text;
      else pieces.push({ text, places, parts, isPlain });
    }
    const isCut = ({ text, places: at } = { text: "", places: [] }) => IS_STRAY.test(text) && !at.includes(firing);
    while (!isEach && isCut(pieces[0])) pieces.shift();
    while (!isEach && isCut(pieces.at(-1))) pieces.pop();
    const perLine = (piece) => piece.text.split(/(?<=\n)/).map((text) => ({ ...piece, text }));
    pieces = pieces.flatMap((piece) => (piece.isPlain && piece.text ? perLine(piece) : [piece]));
    const lead = report.bytes.leadOfLetters(joined(pieces));
    const elements = pieces.flatMap(({ text, places, parts, isPlain }) => {
      if (isPlain) return h("span.token", null, isBroken ? inLines(text) : visible(text, 3, true));
      const at = strongest(places, active);
      const other = strongest(places.map((token) => token + from), others);
      const isActive = at !== undefined || other !== undefined;
      const inPart = isActive ? partOf({ text, parts }, isOn) : null;
      const kind = [NO_TEXT.test(text) ? "bdi.token" : "span.token", isActive && ".on",
        places.includes(firing) && ".firing", isActive && IS_MARK.test(text) && ".combining", inPart && ".in-part"]
        .filter(Boolean)
        .join("");
      const known = { "data-value": at, "data-place": from + places.at(-1), "--shade": shareOf(at, most) };
      const attributes = { ...inPart, ...known };
      if (other !== undefined) {
        attributes["--other"] = shareOf(other, beside.most);
        attributes["data-tip"] = `${beside.name}: ${format.significant(other)}`;
      }
      const whole = word(tokens[places.at(-1)]);
      if (!isBroken) return h(kind, attributes, visible(text, 3, !isActive, lead, whole));
      // a box for each of its lines: a line end stands in the line that it ends, an indent in its own
      return text.split(/(?<=\n)/).map((part, k, all) => h(
        `${kind}${k ? ".goes-on" : ""}${k < all.length - 1 ? ".is-cut" : ""}`, attributes,
        inLines(part, lead, !places.includes(firing), whole)));
    });
    return { elements, firing: pieces.findIndex(({ places }) => places.includes(firing)), pieces };
  }

  /* Elements of a text in its lines, each a block; what does not fit goes on further in than the line's own indent. An
   * empty line on which the latent fires is the second sign at the end of the line above, and not a line of its own. */
  function inRows(elements) {
    const rows = [[]];
    for (const element of elements) {
      rows.at(-1).push(element);
      if (element.textContent.endsWith("\n")) rows.push([]);
    }
    const isEmpty = (row) => row.every((element) => !element.textContent.trim());
    cutIndents(rows.filter((row) => !isEmpty(row)));
    const shown = [];
    for (const row of rows.filter((each) => each.length)) {
      shown.push(row);
      if (!isEmpty(row) || !row.some((element) => element.matches(".on, .firing"))) continue;
      const above = Math.max(shown.findLastIndex((each) => !isEmpty(each)), 0);
      shown.push(shown.splice(above).flat());
    }
    return shown.map((row) => {
      const text = row.map((element) => element.textContent).join("");
      const [indent] = /^[ \t]*/.exec(text);
      const isBlank = isEmpty(row) && !row.some((element) => element.matches(".on, .firing"));
      const hang = indent.replaceAll("\t", "    ").length + HANGING;
      const kind = isBlank ? "span.row.blank" : UNBROKEN.test(text) ? "span.row.unbroken" : "span.row";
      return h(kind, { dir: "auto", "--hang": hang }, row);
    });
  }

  /* Cut the spaces with which all of some rows of elements begin, but those on which the latent fires; the first row
   * may begin within its line. */
  function cutIndents(rows) {
    const textsBefore = (row) => {
      const k = row.findIndex((element) => element.matches(".on, .firing"));
      return row.slice(0, k < 0 ? row.length : k).flatMap(textsOf);
    };
    const indentOf = (row) => /^ */.exec(textsBefore(row).map(({ data }) => data).join(""))[0].length;
    const isWhole = (row) => !/^[…⊢]/.test(row[0]?.textContent ?? "");
    const all = rows.filter(isWhole);
    const most = Math.min(...all.map(indentOf));
    if (!Number.isFinite(most)) return;
    for (const row of all) {
      let left = most;
      for (const text of textsBefore(row)) {
        const n = Math.min(left, text.data.length);
        text.deleteData(0, n);
        left -= n;
      }
    }
  }

  /* A text in its own lines, with a sign where each ends and, unless isText, on each space. */
  const inLines = (text, lead = null, isText = true, whole = null) =>
    text.split(/(\n)/).map((part) =>
      (part === "\n" ? [h("span.line-end", null), h("span.end", null, part)]
        : visible(part, Infinity, isText, lead, whole)));

  const joined = (pieces) => pieces.map((piece) => piece.text).join("");
  const isRightToLeft = (text) => 2 * (text.match(RIGHT_TO_LEFT)?.length ?? 0) > (text.match(LETTERS)?.length ?? 0);
  const directionOf = (text) => (isRightToLeft(text) ? "rtl" : "ltr");

  /** Pieces on one line with the firing one at a fixed place; elements: of the pieces. The line runs as the letters
   * at the firing do, so that what stands beside it is what is read before and after it; the other lines and texts
   * keep their own direction. The firing token begins at the same place whichever way it runs. isStart: the first piece
   * begins its sequence.
   * @type {(pieces: { text: string }[], elements: HTMLElement[], firing: number, isStart?: boolean) => HTMLElement} */
  function line(pieces, elements, firing, isStart = false) {
    const first = (text) => text.replace(STRAY_BYTES, "").match(LETTERS);
    const [near] = first(pieces[firing]?.text ?? "") ?? first(joined(pieces.slice(0, firing)))?.slice(-1)
      ?? first(joined(pieces.slice(firing))) ?? [""];
    const direction = directionOf(near);
    const ends = pieces.flatMap(({ text }, k) => (/\n|^<\|.*\|>$/.test(text) ? [k + 1] : []));
    const [begin, end] = [ends.filter((k) => k <= firing).at(-1) ?? 0, ends.find((k) => k > firing) ?? pieces.length];
    /* The direction of the line between two places; that of one without a letter is the firing's. */
    const runsAt = (from, to) => (from >= begin && to <= end ? direction
      : directionOf(first(joined(pieces.slice(from, to)))?.[0] ?? near));
    /* Elements on one side of the firing in stretches of lines that run the same way: the farthest is cut off first,
     * and each at its end away from the firing, which depends on the direction in which it runs itself. */
    const stretches = (from, to, isBefore) => {
      const cuts = [from, ...ends.filter((k) => k > from && k < to), to];
      const parts = [];
      for (const [k, stop] of cuts.slice(1).entries()) {
        const runs = runsAt(cuts[k], stop);
        if (parts.at(-1)?.runs === runs) parts.at(-1).stop = stop;
        else parts.push({ runs, start: cuts[k], stop });
      }
      return parts.map(({ runs, start, stop }, k) => {
        const shrink = FAR ** (isBefore ? parts.length - 1 - k : k);
        const kind = isStart && isBefore && !k ? "span.begins" : "span";
        return h(runs === direction ? "span.stretch" : "span.stretch.turned",
          { dir: isBefore ? OPPOSITE[runs] : runs, "--shrink": shrink },
          h(kind, { dir: runs }, elements.slice(start, stop)));
      });
    };
    const middle = direction === "rtl" ? firing + 1 : firing;
    return h("div.line.text", { dir: direction },
      h("span.before", null, stretches(0, middle, true)),
      h("span.after", null, stretches(middle, elements.length, false)));
  }

  /** Two places around a firing, moved nearer to it where more than a few lines lie between, where a line is cut to a
   * few tokens, and where only empty lines stand at either end. It does not go on in another text, nor past an empty
   * line once it is long enough.
   * @type {(one: Example, ends: number[], most?: number) => number[]} */
  function withinLines(one, [from, to], most = MOST_LINES) {
    const tokens = report.text.of(sequenceOf(one));
    const place = placeOf(one);
    const isEnd = (at) => word(tokens[at]).includes("\n");
    const isBlank = (at) => /\n\s*\n/.test(word(tokens[at]) + word(tokens[at + 1]));
    const reached = (at, step, last) => {
      for (let lines = 0; at !== last; at += step) {
        const isLong = Math.abs(at - place) > SHORT;
        if (IS_SPECIAL.test(word(tokens[at])) || (isLong && isBlank(Math.min(at, at - step)))) break;
        const isOfEmpty = word(tokens[at + 1]).startsWith("\n"); // which is no line of its own (inRows)
        if (isEnd(at) && !isOfEmpty && ++lines > most) break;
      }
      return at;
    };
    let start = reached(place - 1, -1, from - 1) + 1;
    let stop = reached(place + 1, 1, to);
    if (!most && stop - start < SHORT) return withinLines(one, [from, to], 1);
    const isCut = start > 0 && start === from && !isEnd(start - 1);
    for (let at = start; isCut && at < Math.min(start + FRAGMENT, place); at++) if (isEnd(at)) start = at + 1;
    for (let at = stop - 1; stop === to && at > Math.max(to - FRAGMENT, place); at--) {
      if (!isEnd(at)) continue;
      stop = /\n$/.test(word(tokens[at])) ? at + 1 : at; // without the next line's indent
      break;
    }
    while (start < place && !word(tokens[start]).trim() && isEnd(start)) start++;
    while (stop - 2 > place && !word(tokens[stop - 1]).trim() && isEnd(stop - 2)) stop--;
    return [start, stop];
  }

  /** Tokens on one line, the firing one at the fixed place; without the shades of a feature and without the bytes of a
   * character that is cut in two at either end.
   * @type {(tokens: ArrayLike<number>, firing: number) => HTMLElement} */
  function plainLine(tokens, firing) {
    const all = piecesOf(tokens, firing);
    const isWhole = ({ text, tokens: places }) => !IS_STRAY.test(text) || places.includes(firing);
    const pieces = all.slice(all.findIndex(isWhole), all.findLastIndex(isWhole) + 1);
    const at = pieces.findIndex(({ tokens: places }) => places.includes(firing));
    const parts = pieces.map((piece, k) => {
      const { text } = piece;
      const part = k === at ? partOf(piece, (token) => token === firing) : null;
      const kind = k !== at ? "" : `.firing${IS_MARK.test(text) ? ".combining" : ""}${part ? ".in-part" : ""}`;
      return h(`span.token${kind}`, part, visible(text, 3, k !== at));
    });
    return line(pieces, parts, at, firing < AROUND.snippet[0]);
  }

  /** A few tokens around the firing of an example, so.
   * @type {(one: Example) => HTMLElement} */
  function snippet(one) {
    const [before, after] = AROUND.snippet;
    const from = Math.max(placeOf(one) - before, 0);
    const tokens = report.text.of(sequenceOf(one)).subarray(from, placeOf(one) + after + 1);
    return plainLine(tokens, placeOf(one) - from);
  }

  /** @type {(one: Example) => string[]} */
  const labelsOf = (one) => labelSets[one[2]] ?? [];
  const tagsOf = (one) => labelsOf(one).map((label) => h("span.tag", null, format.words(label)));

  /** The text of an example as wide as is chosen. Tokens are not isolated, so that Hebrew and Arabic read as they are
   * written.
   * @type {(one: Example, most: number, how: string, beside?: any) => HTMLElement} */
  function textOf(one, most, how, beside) {
    if (!hasText) return h("div.text", null, report.inputs.element(one[1]), tagsOf(one));
    const [before, after] = AROUND[how],
      place = placeOf(one);
    const isBroken = how === "passage" || how === "whole";
    const ends = [Math.max(place - before, 0), Math.min(place + after + 1, n_ctx)];
    const [from, to] = how === "passage" ? withinLines(one, ends) : ends;
    const { elements, firing, pieces } = shaded(one, from, to, most, how === "whole", isBroken, beside);
    if (how === "line") return line(pieces, elements, firing, from === 0);
    const tokens = report.text.of(sequenceOf(one));
    // a text or a line ends or begins between two tokens
    const isEdge = (at) =>
      /\n$|^<\|.*\|>$/.test(word(tokens[Math.max(at - 1, 0)])) || /^\n|^<\|.*\|>$/.test(word(tokens[at]));
    const dots = (is, text) => (is ? [h("span.muted", null, text)] : []);
    const all = [...dots(!isEdge(from), from ? "…\u00a0" : "⊢\u00a0"), ...elements, ...dots(!isEdge(to), "\u00a0…")];
    if (isBroken) return h("div.text.broken", null, inRows(all));
    return h("div.text", { dir: directionOf(joined(pieces)) }, all);
  }

  /* The whole context of one example, with the facts about it. */
  function opened(one, most, latent, beside) {
    const next = hasText ? report.text.of(sequenceOf(one))[placeOf(one) + 1] : undefined,
      text = textOf(one, most, "whole", beside);
    const facts = h("p.about", null,
      hasText ? tagsOf(one) : null,
      h("span.muted", null, `sequence ${format.count(sequenceOf(one))}, position ${placeOf(one)}`),
      next === undefined ? null : h("span", null, h("span.muted", null, "next "), tokenElement(word(next))),
      copies(() => [one], latent));
    report.examples.onopen?.(latent, one, text, facts);
    return h("div.whole", null, facts, text);
  }

  /** An activation, with as many decimals as the others in its list.
   * @type {(value: number, most: number) => string} */
  const written = (value, most) => format.fixed(value, Math.min(Math.max(2 - Math.floor(Math.log10(most)), 0), 5));

  /** @type {(one: Example) => number} */
  const tokenOf = (one) => report.text.of(sequenceOf(one))?.[placeOf(one)] ?? null;

  /** The first byte of the character in whose bytes an example fires; null if that is a Latin letter.
   * @type {(one: Example) => number} */
  function leadAt(one) {
    const from = Math.max(placeOf(one) - MOST_BYTES, 0);
    const tokens = report.text.of(sequenceOf(one)).subarray(from, placeOf(one) + MOST_BYTES + 1);
    const pieces = report.bytes.pieces(Array.from(tokens, word));
    const firing = pieces.filter(({ tokens: at }) => at.includes(placeOf(one) - from));
    return report.bytes.leadOfLetters(joined(firing));
  }

  /** The firing token and those before it in the same sequence, which decide whether two examples are alike; null if
   * its text is not loaded.
   * @type {(one: Example) => string} */
  function passageOf(one) {
    const tokens = hasText ? report.text.of(sequenceOf(one)) : null;
    return tokens?.subarray(Math.max(placeOf(one) - N_ALIKE + 1, 0), placeOf(one) + 1).join(" ") ?? null;
  }

  /** Whether two examples are firings close to each other in one text.
   * @type {(one: Example, other: Example) => boolean} */
  const isClose = (one, other) =>
    hasText && sequenceOf(one) === sequenceOf(other) && Math.abs(one[1] - other[1]) <= N_CLOSE;

  /** The index of the sense that the token of an example tells; −1 if it tells none.
   * @type {(one: Example, senses: Sense[]) => number} */
  const senseOf = (one, senses) => senses.findIndex(({ tokens }) => tokens.includes(tokenOf(one)));

  /** The letter of a sense; k: its index among the latent's senses.
   * @type {(k: number, meaning: string) => HTMLElement} */
  const senseMark = (k, meaning) =>
    h("span.sense", { "data-sense": k, "data-tip": meaning, role: "img", "aria-label": `sense ${letters[k]}` },
      letters[k]);

  /* One example of a latent, as `list` shows it. alike: examples that it represents; its button shows them below. */
  function example(one, shown, alike = []) {
    const { latent, feature, most, how, senses, beside, remarkOn } = shown;
    let isOpen = false;
    const value = written(valueOf(one), most),
      title = "open the whole context";
    const named = { type: "button", title, "aria-expanded": "false", "aria-label": `activation ${value}: ${title}` };
    const button = h("button.value", named, value);
    const place = h("div.place");
    const mark = senses.length ? h("span.of-sense") : null;
    const other = beside ? h("span.value", null, written(beside.valueOf(one), most)) : null;
    const scores = beside?.isFirst ? [other, button] : [button, other];
    const kind = mark ? "li.example.marked" : other ? "li.example.two-scores" : "li.example";
    const item = h(kind, { "data-row": one[1] }, scores, mark, place);
    let more = alike.length
      ? h("button.alike", { type: "button", onclick: showAlike }, `+${alike.length}`, h("span", null, " alike"))
      : null;
    const draw = () => {
      if (!isLoaded(one)) return load([one]).then(draw);
      const k = senseOf(one, senses);
      if (k >= 0) {
        item.dataset.sense = String(k);
        mark.replaceChildren(senseMark(k, "the sense that this token tells"));
      }
      place.replaceChildren(isOpen ? opened(one, most, latent, beside)
        : textOf(one, most, how ?? widthOf(feature), beside));
      if (more) place.append(more);
      if (remarkOn(one)) place.append(h("small.remark", null, remarkOn(one)));
    };
    function showAlike(event) {
      event.stopPropagation();
      more.remove();
      more = null;
      item.after(...alike.map((each) => example(each, shown)));
    }
    item.addEventListener("click", (event) => {
      if (event.target.closest("a, .about") || (event.target !== button && String(getSelection()))) return;
      isOpen = !isOpen;
      button.setAttribute("aria-expanded", String(isOpen));
      draw();
    });
    draw();
    return Object.assign(item, { draw });
  }

  /** The first `few` of some examples of a latent, with a button that shows the rest; the element's `show` shows some
   * of them.
   *
   * how: as wide as is chosen for the page, where it is not given. senses: those that the examples are marked with.
   * alikeOf: gives the examples that one stands for. remarkOn: a word that stands in the row of an example, if any.
   * beside: the activations of another feature at each and in its sequence, the largest, its name, whether all in a
   * sequence are stored, and whether it stands first.
   * @param {number} latent
   * @param {Feature} feature
   * @param {Example[]} examples
   * @param {{ few?: number, how?: string, senses?: Sense[], alikeOf?: (one: Example) => Example[],
   *   remarkOn?: (one: Example) => string, beside?: any }} options */
  function list(latent, feature, examples, options = {}) {
    const { few = FEW, how, senses = [], alikeOf = () => [], remarkOn = () => null, beside } = options;
    const most = feature.facts.max || 1;
    const items = (some) =>
      some.map((one) => example(one, { latent, feature, most, how, senses, beside, remarkOn }, alikeOf(one)));
    const isEarly = how === "line" && examples.every((one) => placeOf(one) <= EARLY);
    const kind = `ol.examples${hasText ? "" : ".inputs"}${isEarly ? ".early" : ""}`;
    const shown = h(kind, null, items(examples.slice(0, few)));
    if (examples.length <= few) return shown;
    let n = few;
    const onclick = () => show(examples.length)[0].querySelector("button").focus({ preventScroll: true });
    const more = h("button.more", { type: "button", onclick });
    /* Show the next ones, at most `some`, and return their elements. */
    function show(some) {
      const added = items(examples.slice(n, n + some));
      n += added.length;
      shown.append(...added);
      more.textContent = `${format.count(examples.length - n)} more`;
      if (n === examples.length) more.remove();
      return added;
    }
    show(0);
    return Object.assign(h("div", null, shown, more), { show });
  }

  /** Some firings that tell what a feature fires on, read, from the strongest: on different tokens, if it fires on
   * several, and first on those that its rule names. Of a feature of several senses as many of each, in their order.
   * @type {(latent: number, feature: Feature, most: number) => Promise<Example[]>} */
  async function telling(latent, { senses, examples }, most) {
    const byStrength = (a, b) => valueOf(b) - valueOf(a);
    if (!senses?.length) {
      const all = examples.toSorted(byStrength);
      if (!hasText) return all.slice(0, most);
      await load(all);
      const named = new Set(report.segments.tokensOf(report.columns.rule[latent]).map(([text]) => text));
      const rankOf = (one) => {
        const isFirst = all.find((other) => tokenOf(other) === tokenOf(one)) === one;
        return !isFirst ? 2 : named.has(word(tokenOf(one))) ? 0 : 1;
      };
      const ranks = new Map(all.map((one) => [one, rankOf(one)]));
      const isNew = (one, k) => all.findIndex(([, row]) => row === one[1]) === k;
      return all.filter(isNew).sort((a, b) => ranks.get(a) - ranks.get(b)).slice(0, most).sort(byStrength);
    }
    const strongest = examples.filter(([kind]) => kind < 0);
    const all = [...strongest, ...senses.flatMap((sense) => sense.examples)].sort(byStrength);
    await load(all);
    return senses.flatMap((_, k) => {
      const ofSense = all.filter((one) => senseOf(one, senses) === k);
      const isFirst = (/** @type {Example} */ [, row], at) => ofSense.findIndex(([, other]) => other === row) === at;
      return ofSense.filter(isFirst).slice(0, Math.ceil((most - k) / senses.length));
    });
  }

  /* One example per line, with the firing token in guillemets. */
  function asText(one, latent) {
    if (!hasText) return `${format.significant(valueOf(one))}\t${report.inputs.named(one[1])}`;
    const { tokens, position, activation } = described(one, latent),
      [before, after] = AROUND.passage;
    const text = (from, to) => joined(report.bytes.pieces(tokens.slice(Math.max(from, 0), to))).replaceAll("\n", "↵");
    const [left, right] = [text(position - before, position), text(position + 1, position + after + 1)];
    return `${format.significant(activation)}\t${left}⟦${text(position, position + 1)}⟧${right}`;
  }

  /** A button that copies the text that `write` returns.
   * @type {(text: string, write: () => string | Promise<string>) => HTMLButtonElement} */
  const copying = (label, write) => h("button", { type: "button", async onclick({ target }) {
    await copied(await write());
    target.textContent = "Copied";
    setTimeout(() => { target.textContent = label; }, 1200);
  } }, label);

  /** Buttons that copy what `listed` returns, as text and as JSON.
   * @type {(listed: () => Example[], latent: number) => HTMLElement} */
  function copies(listed, latent) {
    const button = (label, write) => copying(label, async () => {
      const examples = listed();
      await load(examples);
      return write(examples);
    });
    return h("span.copies", { role: "group", "aria-label": "Copy" },
      button("Copy text", (all) => all.map((one) => asText(one, latent)).join("\n")),
      button("JSON", (all) => JSON.stringify(all.map((one) => described(one, latent)), null, 1)));
  }

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // if a browser gives no clipboard to a page on disk
      const field = h("textarea", { "aria-hidden": "true" });
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  }

  /** How much of the text is shown, everywhere on the page.
   * @type {(feature: Feature) => HTMLElement} */
  function widths(feature) {
    if (!hasText) return null;
    const choose = (width) => {
      chosen = width;
      for (const button of group.querySelectorAll("button"))
        button.setAttribute("aria-pressed", String(button.value === width));
      for (const item of document.querySelectorAll(".example")) item.draw?.();
    };
    const button = (name) => {
      const [label, title] = WIDTHS[name];
      const isChosen = String(name === widthOf(feature));
      const onclick = () => choose(name);
      return h("button", { type: "button", value: name, title, "aria-pressed": isChosen, onclick }, label);
    };
    const named = { role: "group", "aria-label": "How much of the text" };
    const group = h("span.widths", named, Object.keys(WIDTHS).map(button));
    return group;
  }

  return {
    list, line, plainLine, snippet, load, telling, copying, copies, widths, widthOf, valueOf, sequenceOf, senseMark,
    senseOf, tokenOf, passageOf, isClose, labelsOf, leadAt, activationsIn, written,
    /** What a served page adds to an example that is opened.
     * @type {(latent: number, one: Example, text: HTMLElement, facts: HTMLElement) => void} */
    onopen: null,
  };
})();
