/* What the page's own terms mean, and the tip that says so: of a term where it is pointed at, focused or tapped, and of
 * a token the activation under the pointer. The summary lists the terms. */
"use strict";

report.words = (() => {
  const { verdicts, has_text: hasText } = report.data.page;
  const ofVerdicts = Object.values(verdicts).map(({ word: name, meaning }) => [name, `The verdict that ${meaning}.`]);
  const where = hasText ? "tokens" : "rows";
  const MEANINGS = {
    feature: "One latent of the dictionary, which is a direction in the model's activations and how strongly it is "
      + "present at each token, with what is known of it: where it fires, what it predicts, its verdict.",
    firing: "A token at which the feature's activation is above 0.",
    density: `The share of ${where} on which a feature fires.`,
    "one meaning": "All firings of the feature have something in common in the text: its verdict is monosemantic or "
      + "single-token.",
    ...Object.fromEntries(ofVerdicts),
    unsure: "The 95 % interval of the probability of one meaning includes ½: the verdict is only the likelier of two.",
    sense: "A group of firings that are alike, and unlike the other firings of the same feature.",
    learnt: "A feature is learnt if it more likely comes from a trained model than from one with random weights: its "
      + "direct logit effects tell which token follows, and no feature of a random model's dictionary fires as it "
      + "does.",
    effect: "A feature has an effect if removing it raises the model's loss by more than an equally large change along "
      + "other features does, and the 95 % interval of the difference lies above 0.",
    null: "The same measurement where there is nothing to find: a decoder left random, a model with shuffled weights, "
      + "text shifted against the activations. A number counts only as far as it exceeds its null.",
    z: "How many standard deviations a value lies above the mean of its null.",
    F1: "How well a rule or a label tells where a feature fires: the harmonic mean of precision and recall, on text "
      + "from which the rule was not made. 1 is perfect, 0 is useless.",
    "␣ ↵ ⇥": "White space as it is drawn: ␣ or · a space, ↵ a line end, ⇥ a tab; ␣×7 stands for seven spaces in a "
      + "row.",
    rule: "What the firings of a feature share, in words, found on one half of the text and scored on the other.",
    label: "What is known of the text itself, such as its language or the kind of a code token.",
    "direct logit effects": "How much the feature, at an activation of 1, raises or lowers the logit of each token by "
      + "the path straight to the unembedding, past all later layers.",
    "decoder cosine": "Cosine of two features' decoder directions: 1 for the same direction, 0 for unrelated ones.",
    Jaccard: "Of the tokens on which either of two features fires, the share on which both do.",
    lift: "How many times more often two features fire together than their densities alone would give.",
    contribution: "The share of the variance of the activations that is no longer explained without the feature.",
    L0: "How many features fire on a token, in the mean.",
    "cross-entropy recovered": "How much of the model's cross-entropy is left with the dictionary's reconstruction in "
      + "place of the activations: 100 % is the model itself, 0 % is zeros in their place, or unigrams, whichever is "
      + "better.",
    FVU: "Fraction of the variance of the activations that the dictionary leaves unexplained.",
  };
  const tip = document.getElementById("tip");
  let shownOf = null;

  /* A text with its meaning, and a term with that of the list. */
  const tipped = (text, meaning) =>
    h("button.term", { type: "button", "data-tip": meaning, "aria-describedby": "tip" }, text);
  const term = (name, text = name) => tipped(text, MEANINGS[name]);

  const list = () => h("dl.words", null, Object.entries(MEANINGS).map(([name, meaning]) => (
    h("div", null, h("dt", null, name), h("dd", null, meaning)))));

  const SIGNS = [["space", "space"], ["line", "line end"], ["tab", "tab"]];

  /* What is said of an element: the activation of its token, how much white space it is, its meaning. */
  function saidOf(element) {
    const run = element.closest(".run");
    const n = Number(run?.dataset.n.slice(1));
    const [, name] = SIGNS.find(([kind]) => run?.classList.contains(kind)) ?? [];
    const { value, tip: more } = element.closest("[data-value], [data-tip]")?.dataset ?? {};
    const parts = [value && format.significant(Number(value)), more, n > 1 ? `${n} ${name}s` : null];
    return parts.filter(Boolean).join(" · ");
  }

  function show(element) {
    const said = element ? saidOf(element) : "";
    tip.hidden = !said;
    shownOf = said ? element : null;
    if (!said) return;
    tip.textContent = said;
    tip.classList.toggle("meaning", element.matches(".term"));
    const box = element.getClientRects()[0];
    const half = tip.offsetWidth / 2 + 6;
    const middle = box.left + box.width / 2;
    tip.style.left = `${Math.max(Math.min(middle, innerWidth - half), half)}px`;
    const isRoom = box.top > tip.offsetHeight;
    tip.style.top = `${isRoom ? box.top - tip.offsetHeight : box.bottom}px`;
  }

  const toldOf = ({ target }) => target.closest?.('[data-value], [data-tip]:not([data-tip=""]), .run') ?? null;
  document.addEventListener("pointerover", (event) => event.target !== tip && show(toldOf(event)));
  document.addEventListener("focusin", (event) => show(toldOf(event)));
  document.addEventListener("focusout", () => show(null));
  document.addEventListener("click", (event) => event.target.closest?.(".term") && show(toldOf(event)));
  document.addEventListener("scroll", () => show(null), true);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !shownOf?.matches(".term")) return;
    event.stopPropagation();
    show(null);
  }, true);

  return { term, tipped, list, meanings: MEANINGS };
})();

const { term, tipped } = report.words;
