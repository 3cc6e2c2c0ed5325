/* An example: the text around one firing, each token shaded by the latent's activation there. */
"use strict";

report.examples = (() => {
  const FIRST_CODE = 93, SURROGATES = 0xd800, N_SURROGATES = 0x800;
  const STRAY = /⟨([0-9a-f]{2})⟩/;
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  const decodeTokens = (text) => Array.from(text, (character) => {
    const code = character.codePointAt(0);
    return (code < SURROGATES ? code : code - N_SURROGATES) - FIRST_CODE;
  });

  /* Pieces of text, and of which tokens each is: a token as it stands, but stray bytes, shown as ⟨d7⟩, of one token or of
   * several in a row, as the character that they make. */
  function pieces(words) {
    const units = words.flatMap((text, token) => text.split(STRAY).map((part, k) =>
      (k % 2 ? { text: `⟨${part}⟩`, tokens: [token], byte: parseInt(part, 16) } : { text: part, tokens: [token] })).filter((unit) => unit.text || !text));
    const joined = [];
    for (let k = 0; k < units.length; k++) {
      const joint = character(units.slice(k, k + 4));
      joined.push(joint ?? units[k]);
      if (joint) k += joint.length - 1;
    }
    return joined;
  }

  /* The character whose bytes these units begin with; null where they begin with none. */
  function character(units) {
    const [{ byte }] = units;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0;
    const joint = units.slice(0, length);
    if (joint.length < 2 || joint.length < length || joint.some((unit) => unit.byte === undefined)) return null;
    try {
      return { text: utf8.decode(Uint8Array.from(joint, (unit) => unit.byte)), tokens: joint.flatMap((unit) => unit.tokens), length };
    } catch {
      return null; // bytes that make no character stay as they are
    }
  }

  /* The activation at its firing token. */
  const valueOf = ([, , firing, , sparse]) => sparse[sparse.findIndex((place, k) => k % 2 === 0 && place === firing) + 1];

  function example([, row, firing, packed, sparse], most, word) {
    const active = new Map();
    for (let k = 0; k < sparse.length; k += 2) active.set(sparse[k], sparse[k + 1]);
    const { n_ctx } = report.data.page;
    const where = `row ${row}: sequence ${Math.floor(row / n_ctx)}, position ${row % n_ctx}`;
    const text = h("div.text", { dir: "auto" }); // tokens are not isolated, so that Hebrew and Arabic read as they are written
    for (const piece of pieces(decodeTokens(packed).map(word))) {
      const values = piece.tokens.map((token) => active.get(token)).filter((value) => value !== undefined);
      const at = values.sort((a, b) => Math.abs(b) - Math.abs(a))[0];
      const shade = at === undefined ? null : Math.min(Math.max(Math.abs(at) / most, 0.06), 1).toFixed(3);
      text.append(h(`span.token${at === undefined ? "" : ".on"}${piece.tokens.includes(firing) ? ".firing" : ""}`, { "data-value": at, "--shade": shade }, visible(piece.text)), h("wbr"));
    }
    return h("li.example", { "data-row": row }, h("span.value", { title: where }, format.significant(active.get(firing))), text);
  }

  /* The value of a token under the pointer. */
  document.addEventListener("pointerover", (event) => {
    const tip = document.getElementById("tip");
    const token = event.target.closest?.(".token[data-value]");
    tip.hidden = !token;
    if (!token) return;
    tip.textContent = format.significant(Number(token.dataset.value));
    const box = token.getClientRects()[0];
    tip.style.left = `${Math.min(Math.max(box.left + box.width / 2, 30), innerWidth - 30)}px`;
    tip.style.top = `${box.top}px`;
  });

  return { example, pieces, valueOf };
})();
