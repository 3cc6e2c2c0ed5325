/* The first view: the dictionary in a sentence, its three shares with what they are compared with, its verdicts, and a
 * few features. */

import { loadFeature, loadTable } from "../data/features.js";
import { page } from "../data/files.js";
import { verdictCounts, verdictOf } from "../data/latents.js";
import { loadWords } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { term, tipped } from "../elements/glossary.js";
import { featureLink, hueOfVerdict, unsureElement, verdictElement } from "../elements/latents.js";
import { verdictBar, verdictHeading } from "../elements/verdict_bar.js";
import { exampleList } from "../examples/example_list.js";
import { tellingExamples, valueOf } from "../examples/examples.js";
import { mapPicture } from "../map/map.js";
import { bestMatches } from "../selection/search.js";
import { labelOrCaption, raisedTokens } from "../text/captions.js";
import { noteLinks } from "./notes.js";

const { verdicts, tokens, has_text: hasText, latents, ranked, about, shares, names } = page;
const N_HITS = 5;
const WEAK = 0.35; // of the strongest activation, below which a card says so
const MAP_SIZE = [480, 360];

const nIdle = verdictCounts.reduce((sum, [verdict, n]) => sum + (verdicts[verdict]?.idle ? n : 0), 0);

function sentence() {
  const size = `Scanned on ${format.count(tokens)} ${hasText ? "tokens" : "rows"}: `;
  const work = [`${format.count(latents - nIdle)} `, term("feature", "features"),
    ` are in use, ${format.count(nIdle)} are `, term("dead"), " or ", term("faint"), "."];
  if (!hasText) {
    return [size, work, " The rows are not text, so they get no verdict on their meaning; labels say what a feature "
      + "detects."];
  }
  return [size, work, ranked ? null : " They were not ranked."];
}

const { percent } = format;

/** One claim: its heading, a share, large, with what it is a share of, and its bar, with a mark at the share of its
 * null. Below it, what the comparison with the null says.
 * @type {(heading: Child, share: QuestionShare, among: string, mark: number | null, ...below: Child[]) =>
 *   HTMLElement} */
function claim(heading, { n, of, interval, note }, among, mark, ...below) {
  const tested = `${format.count(n)} of the ${format.count(of)} features ${among}. ${note}`;
  return h("section.share", null,
    h("h2", null, heading),
    h("p", null,
      h("b.figure", { "data-tip": `95 % interval: ${interval.map(percent).join(" to ")}` }, percent(n / of)),
      ` of ${format.count(of)} `, tipped(among, tested)),
    h("span.scale", { "--share": n / of, "aria-hidden": "true" }, h("i"),
      mark === null ? null : h("i.beside", { "--at": mark })),
    h("p", null, below));
}

const apart = (is) => h("b", null, is ? "told apart" : "not told apart");

/* The share of the dictionary, and below it that which can be compared: with the same settings, learnt from as many
 * tokens as the nulls and judged on as many latents. */
function oneMeaning(known) {
  const heading = term("one meaning", "One meaning");
  const alone = "No null was run, so there is nothing to compare this with.";
  if (!page.null) return claim(heading, known, "in use", null, alone);
  const { matched, null: nearest, difference } = page.null;
  const [more, least, most] = difference.map((x) => format.fixed(100 * x, 1));
  const told = ({ title, means, judged }) =>
    `${title}: ${means}; of ${format.count(judged)} features, drawn at random.`;
  const points = `${matched.title} less closest null: ${more} points (95 % interval: ${least} to ${most}).`;
  return claim(heading, known, "in use", null,
    h("b", null, percent(matched.one[0])), " ", tipped("at equal training", told(matched)), ", ",
    h("b", null, percent(nearest.one[0])), " in the ", tipped("closest null", `${told(nearest)} ${points}`), ": ",
    apart(difference[1] > 0));
}

const learnt = (known) => claim(term("learnt", "Learnt by the model"), known, "tested", null,
  h("b", null, format.count(known.of - known.n)), " look like features of a model with random weights");

/* Faint features are ablated too, though they are not counted as in use. */
function effect(known) {
  const faint = Math.max(known.of - (latents - nIdle), 0);
  return claim(term("effect", "Effect when removed"), known, "ablated", known.chance,
    h("b", null, percent(known.chance)), " by chance: ", apart(known.interval[0] > known.chance),
    faint ? [`; ${format.count(faint)} of those ablated are `, term("faint")] : null);
}

const PANELS = { "one meaning": oneMeaning, learnt, effect };

/* why, choice: what it is an example of, and how it was chosen (page_order.py); both may be empty. Each of several
 * senses shows its strongest firing. */
async function card([latent, why, choice]) {
  const feature = await loadFeature(latent);
  const senses = feature.senses ?? [];
  const predicted = hasText ? raisedTokens(feature) : [];
  const some = await tellingExamples(latent, feature, predicted.length ? 3 : 4);
  const remarkOn = (one) => (valueOf(one) < WEAK * (feature.facts.max ?? 0) ? "weak" : null);
  return h("article.card", null,
    h("h3", null,
      why ? h("span.why", null, tipped(why, choice)) : null, featureLink(latent, `Feature ${latent}`), " ",
      h("span", null, verdictElement(verdictOf(latent)), unsureElement(latent))),
    h("p.rule.clamp", null, labelOrCaption(latent, true)),
    exampleList(latent, feature, some, { how: hasText ? "line" : undefined, senses, remarkOn }),
    predicted.length ? h("p.predicts", null, h("span.muted", null, "raises "), predicted) : null);
}

/* A field that lists the best matches below itself as one types; an arrow chooses one of them, Enter opens it, or the
 * table at what is asked for. */
function search() {
  let at = -1, hits = [];
  const list = h("ul.hits", { id: "hits", role: "listbox", "aria-label": "Best matches", hidden: true });
  const field = h("input", { type: "search", placeholder: "Search features", "aria-label": "Search features",
    autocomplete: "off", spellcheck: "false", role: "combobox", "aria-controls": "hits", "aria-expanded": "false",
    "aria-autocomplete": "list", oninput: find, onfocus: find, onkeydown: move });
  const option = (id, onpointerdown, ...content) =>
    h("li", { id, role: "option", "aria-selected": "false", onpointerdown }, content);
  const line = (latent, k) => option(`hit-${k}`, () => open(latent), h("span.number", null, String(latent)),
    h("i.dot", { "--hue": hueOfVerdict(verdictOf(latent)) }),
    h("span.rule", null, labelOrCaption(latent)));

  async function find() {
    await loadTable();
    const { n, first } = bestMatches(field.value, N_HITS);
    [hits, at] = [first, -1];
    const more = n > first.length ? `Enter: all ${format.count(n)} in the table` : "No feature fits.";
    const isAll = n > 0 && n === first.length;
    const last = isAll ? [] : [option("hit-more", n ? () => open() : null, h("span.muted", null, more))];
    list.replaceChildren(...first.map(line), ...last);
    reveal(field.value.trim() !== "");
  }

  function reveal(isOpen) {
    list.hidden = !isOpen;
    field.setAttribute("aria-expanded", String(isOpen));
    field.removeAttribute("aria-activedescendant");
  }

  function open(latent = hits[at]) {
    const query = new URLSearchParams({ q: field.value });
    location.hash = latent === undefined ? `#features?${query}` : `#feature/${latent}`;
    reveal(false);
  }

  function move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || list.hidden || !hits.length) return;
    event.preventDefault();
    at = Math.min(Math.max(at + step, -1), hits.length - 1);
    hits.forEach((_, k) => list.children[k].setAttribute("aria-selected", String(k === at)));
    if (at < 0) field.removeAttribute("aria-activedescendant");
    else field.setAttribute("aria-activedescendant", `hit-${at}`);
  }

  const onsubmit = (event) => {
    event.preventDefault();
    open();
  };
  return h("form.search", { role: "search", onsubmit, onfocusout: () => reveal(false) }, field, list);
}

async function show(section) {
  if (section.childElementCount) return;
  const titled = (title, ...more) => h("div.headed", null, h("h2", null, title), more);
  const cardsPlace = h("div.cards", null, h("p.waiting", null, "Reading …"));
  const choices = [...page.worth_showing];
  const draw = async () => {
    const some = choices.shift() ?? [];
    choices.push(some);
    cardsPlace.replaceChildren(...(await Promise.all(some.map(card))));
  };
  const another = choices.length > 1
    ? h("button.more", { type: "button", onclick: draw }, `${choices[1].length} other features`) : null;
  const map = h("figure.overview-map");
  const part = ([text, kind]) => (kind === "term" ? term(text) : kind === "code" ? h("code", null, text) : text);
  section.replaceChildren(
    h("div.top", null,
      h("div", null, h("p.about", null, about.map(part)), h("p.intro", null, sentence())),
      map,
      shares.length ? h("div.shares", null, shares.map((known) => PANELS[known.name](known))) : null,
      ranked && hasText ? h("div.overall", null, verdictHeading("h2"), verdictBar()) : null),
    h("div.worth", null,
      titled(hasText ? "Features worth a look" : "Features that detect a label best",
        h("a", { href: "#features" }, `All ${format.count(latents)}`), noteLinks(), search(), another),
      cardsPlace));
  await Promise.all([loadTable(), loadWords()]);
  await draw();
  section.dataset.ready = "true";
  const picture = await mapPicture(...MAP_SIZE);
  if (!picture) return map.remove();
  const colour = names.kind.length ? "kind of text" : "verdict";
  map.append(picture,
    h("figcaption", null, h("a", { href: "#map" }, "The map"), `: near means alike, colour ${colour}.`));
}
export const overview = { title: "Overview", show };
