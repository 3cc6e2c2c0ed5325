/* What stands beside the map: the list of the features that are selected and in view, and the card of one. */

import { loadFeature } from "../data/features.js";
import { loadWords } from "../data/vocabulary.js";
import { h } from "../elements/elements.js";
import { withFallback } from "../elements/errors.js";
import { format } from "../elements/format.js";
import { term } from "../elements/glossary.js";
import { featureLink, judgedElements } from "../elements/latents.js";
import { exampleList } from "../examples/example_list.js";
import { tellingExamples } from "../examples/examples.js";
import { foundOn, mapRule } from "./words.js";
import { selectedLatents, selection, selectsAll } from "../selection/selection.js";
import { labelOrCaption } from "../text/captions.js";

/* placeOf, scatter: of the map; selected, bestOf, chosenBy: give the selection, its best matches and what it is called;
 * hasCard: whether there is
 * a card, which lists the nearest instead; zoomTo: shows features; onpoint: called with the place of a feature that is
 * pointed at, or −1; onpick: with that of one that is pressed. */
export function mapList({ placeOf, scatter, selected, bestOf, chosenBy, hasCard, zoomTo, onpoint, onpick }) {
  const LISTED = 40;
  const STILL = 150; // milliseconds between two lists of what is in view
  const element = h("details.list", { open: true });
  const rows = new Map(); // latent → its row, made once for what is selected, so that the list keeps up with a move
  let colours, pause, isWeakerOpen = false;

  /* A row: its number, its colour on the map, its rule, and more. */
  function line(latent, ...more) {
    const k = placeOf.get(latent);
    const point = () => onpoint(k);
    return h("li", { onpointerenter: point, onpointerleave: () => onpoint(-1), onfocusin: point },
      h("button.link", { type: "button", onclick: () => onpick(k) }, h("span.number", null, String(latent))),
      dot(latent),
      mapRule(latent),
      more);
  }

  const dot = (latent) => h("i.dot",
    { "--hue": `rgb(${colours.hueOf(latent)})`, title: colours.inWords(latent), "data-latent": latent });

  function keptLine(latent) {
    const make = () => withFallback(() => line(latent, foundOn(latent)), h("li", null, String(latent)));
    if (!rows.has(latent)) rows.set(latent, make());
    return rows.get(latent);
  }

  /* The first features that are selected and in view; weak matches are folded. */
  function show() {
    const isWhole = scatter.isWhole();
    const isInSight = (latent) => placeOf.has(latent) && (isWhole || scatter.isInView(placeOf.get(latent)));
    const shown = selectedLatents().filter(isInSight);
    const some = isWhole ? [] : selected();
    const outside = some.filter((latent) => !isInSight(latent));
    const best = new Set(bestOf());
    const [strong, weak] = selectsAll() ? [shown, []]
      : [shown.filter((latent) => best.has(latent)), shown.filter((latent) => !best.has(latent))];
    const count = format.count(shown.length);
    const ofAll = isWhole && selectsAll();
    const head = [ofAll ? `All ${count} features` : count, selectsAll() ? null : chosenBy(),
      isWhole ? null : "in view"];
    const sorted = selection.query && selection.sort === null ? " best matches first" : " in the table's order";
    element.hidden = hasCard() && selectsAll();
    const hasNone = isWhole && selection.query && !shown.length;
    element.replaceChildren(
      h("summary", null, h("h3", null, head.filter(Boolean).join(" ")), h("span.muted", null, sorted)),
      outside.length > 0 ? h("p.outside", null, `${format.count(outside.length)} outside the view: `,
        h("button.link", { type: "button", onclick: () => zoomTo(some) }, "Zoom to these")) : "",
      hasNone ? h("p", null, `No token, rule, label or note has “${selection.query}”.`) : "",
      h("ol.listed", null, strong.slice(0, LISTED).map(keptLine)),
      strong.length > LISTED ? h("p.muted", null, `and ${format.count(strong.length - LISTED)} more in the table`) : "",
      weak.length ? h("details.weaker", { open: isWeakerOpen, ontoggle() { isWeakerOpen = this.open; } },
        h("summary.muted", null, `and ${format.count(weak.length)} weaker`),
        h("ol.listed", null, weak.slice(0, LISTED).map(keptLine))) : "");
  }

  /* Show it at once, and again at the end of a while in which it stays as it is. */
  function keepUp() {
    if (pause) return;
    show();
    pause = setTimeout(() => {
      pause = null;
      show();
    }, STILL);
  }

  /* Make the rows anew, as after a search or a note, and the dots of a card. painted: the colours of the points, as
   * `coloursOf` gives them; cards: the element that has the card. */
  function forget(painted, cards) {
    colours = painted;
    rows.clear();
    for (const old of cards.querySelectorAll("i.dot")) old.replaceWith(dot(Number(old.dataset.latent)));
  }

  /* A card of one feature; onclose: called to take it away. */
  async function card(latent, onclose) {
    const [feature] = await Promise.all([loadFeature(latent), loadWords()]);
    const strongest = await tellingExamples(latent, feature, 4);
    const neighbours = feature.neighbours.filter(([other]) => placeOf.has(other));
    const nearest = neighbours.map(([other]) => other);
    const near = ([other, cosine]) => line(other, h("span.muted", null, format.fixed(cosine)));
    const head = h("h3", null, featureLink(latent, `Feature ${latent}`), " ", h("span", null, judgedElements(latent)),
      h("button.close", { type: "button", "aria-label": "Close", onclick: onclose }, "✕"));
    const zoom = h("button.link", { type: "button", onclick: () => zoomTo([latent, ...nearest]) }, "Zoom to them");
    return {
      nearest,
      element: h("article.card", null,
        head,
        h("p.rule", null, labelOrCaption(latent)),
        exampleList(latent, feature, strongest, { how: "line", senses: feature.senses ?? [] }),
        nearest.length
          ? h("p.muted.to-nearest", null, h("span", null, "Nearest, by ", term("decoder cosine")), zoom) : null,
        h("ol.listed", null, neighbours.map(near))),
    };
  }

  return { element, show, keepUp, forget, card };
}
