/* The decoder's rows in the plane, coloured by a property, next to the list of the selection: a click shows a feature
 * next to the map, a lasso selects. */

import { loadRows } from "../data/features.js";
import { loadData, page } from "../data/files.js";
import { noteOf } from "../data/notes.js";
import { h, svg } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { judgedElements } from "../elements/latents.js";
import { onTheme } from "../elements/theme.js";
import { COLOURINGS, coloursOf, groundColour, paintedColours } from "./colours.js";
import { mapInset } from "./inset.js";
import { mapList } from "./list.js";
import { mapNames } from "./names.js";
import { squares } from "./plane.js";
import { mapRegions } from "./regions.js";
import { scatterPlot } from "./scatter.js";
import { smallMap } from "./small_map.js";
import { mapRule, strongestFiring } from "./words.js";
import { activeFilters, offeredKind } from "../selection/active_filters.js";
import { strongMatches } from "../selection/search.js";
import {
  clearSelection, isSelected, onSelect, select, selectedLatents, selection, selectsAll, writeAddress,
} from "../selection/selection.js";

const KEYS =
  "Map of the decoder: arrow keys move it, + and − zoom, 0 shows the whole, " +
  "Enter shows the feature in the middle. " +
  "The list beside it has the same features.";
const STILL = 150; // milliseconds without a letter typed or a move of the map
const CLOSEST = 5; // how many times closer than the whole a few features are shown at most
const CLOSER = 1.2; // how many times, at least, for a view to be worth leaving the whole
const SHAPE = 4 / 3, // width by height of most of the stored map (latent_map.py)
  STRETCHED = [0.8, 2]; // how much its height is stretched to the shape of its frame, at least and at most
const NARROW = matchMedia("(max-width: 860px)");
const RING = 12, // pixels between a ringed point and what lies over the map
  EDGE = 6, // pixels between that and the edge of the map
  CARD = 380, // pixels, the width of the small card of a point
  AROUND = 64, // pixels between them, so that the card covers none of its neighbours
  BESIDE = 20, // pixels of that above a point that it stands beside, or below
  NEAR = NARROW.matches ? 50 : 100, // pixels, the longest line from the feature on the card to one of the nearest
  INSET = NARROW.matches ? 60 : 90, // pixels, the width of the whole map in a corner
  MOST_HITS = 600, // selected points that are drawn larger
  MANY_HITS = 40; // from which on they are less large
let host, overlays, tints, links, namedPoints, hits, part, marks, ring, card; // of the map
let legend, status, numberNamed, search, lasso, chosen; // around it
let points, placeOf, scatter, regions, names, inset, list, colours, picture, typing, resting,
  stretch = 1, // of the heights of the points drawn, as many times those stored
  colouring = "verdict",
  stars = [],
  beside = [], // the latent that is on the card, and those nearest to it
  enlarged = [], // the latents whose points are drawn larger
  pointedIn = "", // the view in which the point under the pointer was named
  rowData = null, // what the table shows of every feature beside numbers, once it is read
  onCard = -1, // the place of the point that is on the card, and of that which is to be
  cardAsked = -1,
  ringedPoint = -1;

/* Colour the points. */
function repaint() {
  picture?.paint();
  if (!scatter) return;
  if (search.value !== selection.query) search.value = selection.query;
  colours = coloursOf(points, colouring, shade);
  drawPart();
  regions.draw(colouring === "label");
  drawHits();
  shade();
  inset.paint();
  names.paint(colouring === "label");
  legend.replaceChildren(colours.legend);
  // as high for all colours, so that the map keeps its place
  legend.style.minHeight = `${legend.getBoundingClientRect().height}px`;
  const some = selected();
  status.replaceChildren(...(selectsAll() ? [h("a", { href: "#features" }, "All in the table")] : [
    h("b", null, `${some.length ? format.count(some.length) : "None"} ${chosenBy()}`), numberNamed,
    partOf(some).closeness > CLOSER
      ? h("button", { type: "button", onclick: () => zoomTo(some) }, "Zoom to them") : "",
    some.length ? h("a", { href: "#features" }, "List in the table")
      : h("button", { type: "button", onclick: clearSelection }, "Clear the filters")]));
  list.show();
}

/* Whether a feature is on the card or among those nearest to it; without a card, whether it is selected. */
const isChosen = (latent) => (beside.length ? beside.includes(latent) : isSelected(latent));

/** Draw the points that stand out, and dim all others and what is not of their kind of text. kind: the only one that
 * is shown; null for the selected one, or all where nothing is selected.
 * @type {(standsOut?: (latent: number) => boolean, kind?: string | null) => void} */
function shade(standsOut = isChosen, kind = null) {
  scatter.paint(paintedColours(points.latents, colours, standsOut), groundColour());
  const isDimmed = (other) => (kind !== null || !selectsAll()) && other !== (kind ?? selection.kind);
  for (const tint of tints.children) tint.classList.toggle("aside", isDimmed(tint.dataset.name));
  names.dim(isDimmed);
}

/* The features on the map that are selected; none while all are. */
const selected = () => (selectsAll() ? [] : selectedLatents().filter((latent) => placeOf.has(latent)));

/* Of these the best matches, which are named. */
const strongest = () => strongMatches(selection.terms, selected());

const chosenBy = () => (selection.query ? "found" : "selected");

/* The middle of the part of the map in which some features lie, and how many times closer than the whole it fills the
 * frame, at most as close as the neighbourhood of one. */
function partOf(latents) {
  const [x, y] = ["x", "y"].map((axis) => latents.map((latent) => points[axis][placeOf.get(latent)]));
  const [left, right, bottom, top] = squares(x, y).box;
  const { scale } = scatter.fitted();
  const [width, height] = scatter.size();
  const share = Math.min(width / ((right - left) * scale), height / ((top - bottom) * scale));
  return { x: (left + right) / 2, y: (bottom + top) / 2, closeness: Math.min(0.85 * share, CLOSEST) };
}

function zoomTo(latents) {
  const { x, y, closeness } = partOf(latents);
  if (closeness > CLOSER) scatter.show(x, y, closeness);
  else scatter.fit();
}

/* In a closer view, move it to where all that a search has found is in sight, once the typing pauses. */
function follow() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const some = scatter.isWhole() ? [] : selected();
    if (some.some((latent) => !scatter.isInView(placeOf.get(latent)))) zoomTo(some);
  }, STILL);
}

/* Draw the points of a small selection larger, but for weak matches, and star the starred; a label of the reader's
 * may have changed. */
function drawHits() {
  const some = strongest();
  list.forget(colours, chosen);
  enlarged = [...(some.length > MOST_HITS ? [] : some), ...beside.slice(1)].reverse();
  names.forget(beside.length || enlarged.length);
  hits.classList.toggle("many", enlarged.length > MANY_HITS);
  hits.replaceChildren(...[...enlarged, ...beside.slice(0, 1)].flatMap(rimmed)); // the one on the card over all
  stars = points.latents.filter((latent) => noteOf(latent).star && isSelected(latent)).map((latent) =>
    [placeOf.get(latent), h("span.star", { title: `Feature ${latent}, starred` }, "★")]);
  marks.replaceChildren(...stars.map(([, element]) => element));
}

/* The point of a feature with a rim, as paths. */
function rimmed(latent) {
  const d = `M${points.x[placeOf.get(latent)]} ${points.y[placeOf.get(latent)]}h0`;
  return [svg("path", { class: "rim", d }), svg("path", { d, stroke: `rgb(${colours.hueOf(latent)})` })];
}

/* A small picture of the whole, with the tints and names of kinds of text, that leads to the map; null where there is
 * none. */
export async function mapPicture(width, height) {
  await read();
  picture ??= points.missing ? null : smallMap(points, colouring, width, height);
  return picture;
}

/* Show the card of a feature next to the map. */
async function pick(k) {
  cardAsked = k;
  const latent = points.latents[k];
  const { element, nearest: near } = await list.card(latent, unpick);
  if (cardAsked !== k) return;
  onCard = k;
  chosen.replaceChildren(element);
  setBeside([latent, ...near]);
  address(`#map/${latent}`);
  hovered(k, true);
  element.querySelector("a").focus({ preventScroll: true });
  const covered = ring.getBoundingClientRect().bottom - chosen.getBoundingClientRect().top;
  if (NARROW.matches && covered > -RING) scrollBy(0, covered + RING);
}

/* Take the card away, and the ring and lines of its feature. */
function unpick() {
  chosen.replaceChildren();
  onCard = cardAsked = -1;
  setBeside([]);
  address("#map");
  hovered(-1);
}

/* Set the address, and keep the selection in it; the view stays. */
function address(path) {
  if (!location.hash.startsWith("#map")) return;
  history.replaceState(null, "", path);
  writeAddress();
}

function placeRing() {
  ring.hidden = ringedPoint < 0;
  if (ring.hidden) return;
  const [px, py] = scatter.toPixels(points.x[ringedPoint], points.y[ringedPoint]);
  ring.style.transform = `translate(${px}px, ${py}px)`;
  const isTold = ringedPoint === onCard || !card.hidden; // by a card
  ring.dataset.latent = isTold ? "" : points.latents[ringedPoint];
}

/* Put the small card of a point to its right, or else to its left or, where neither has room, below or above it; of its
 * height it is only taken that it is less than half of that of the map, since to measure it would delay each move. */
function placeCard([px, py]) {
  const [width, height] = scatter.size();
  const wide = Math.min(CARD, width - 2 * EDGE);
  const left = [px + AROUND, px - AROUND - wide].find((begin) => begin > EDGE && begin + wide < width - EDGE);
  const down = left === undefined ? AROUND : -BESIDE;
  const isUpper = py < height / 2;
  card.style.cssText = `width: ${wide}px; left: ${left ?? EDGE}px; ${isUpper ? "top" : "bottom"}: `
    + `${Math.max((isUpper ? py : height - py) + down, EDGE)}px`;
}

/* Ring a point, or else the one on the card, and say beside it what it is unless the card does. */
function hovered(k, isListed = false) {
  ringedPoint = k < 0 ? onCard : k;
  card.hidden = k < 0 || isListed;
  placeRing();
  if (card.hidden) return;
  const latent = points.latents[k];
  card.replaceChildren(
    h("b", null, `Feature ${latent}`),
    " ",
    ...judgedElements(latent).filter(Boolean),
    mapRule(latent),
    strongestFiring(latent, rowData),
  );
  placeCard(scatter.toPixels(points.x[k], points.y[k]));
  pointedIn = viewKey();
}

const viewKey = () => [...Object.values(scatter.view), ...scatter.size()].join();

/* Put all that lies over the points at its place. Names go with the map while it is dragged, and are placed anew once
 * it rests, as the list beside it is: both take longer than a frame, and a name that jumps cannot be read. */
function moved() {
  if (!card.hidden && pointedIn !== viewKey()) hovered(-1);
  placeRing();
  inset.place();
  const [width, height] = scatter.size();
  const { x, y, scale } = scatter.view;
  const [left, top] = [width / 2 - x * scale, height / 2 + y * scale];
  for (const overlay of overlays) {
    overlay.setAttribute("transform", `translate(${left} ${top}) scale(${scale} ${-scale})`);
  }
  for (const [k, element] of stars) {
    const [px, py] = scatter.toPixels(points.x[k], points.y[k]);
    element.style.transform = `translate(${px}px, ${py}px) translate(-50%, -50%)`;
  }
  if (names.carry()) rest();
  else settle();
}

/* Settle once the map is let go of and has rested a while. */
function rest() {
  clearTimeout(resting);
  resting = setTimeout(() => (scatter.isHeld() ? rest() : settle()), STILL);
}

/* List what is in view, place all names anew, and draw the points that they name with a rim. */
function settle() {
  clearTimeout(resting);
  list.keepUp();
  const near = nearest();
  const shown = names.place({ colours, beside, near, enlarged, covered: inset.boxes(), rowData });
  links.setAttribute("d", near.map((latent) => `M${placeIn(beside[0])}L${placeIn(latent)}`).join(""));
  const isLarger = (latent) => latent === beside[0] || enlarged.includes(latent);
  namedPoints.replaceChildren(...shown.filter((latent) => !isLarger(latent)).flatMap(rimmed));
  numberNamed.textContent = !beside.length && shown.length < enlarged.length ? `${shown.length} named` : "";
  namedPoints.style.setProperty("--size", `${scatter.diameter()}px`);
}

function setLasso(isOn) {
  lasso.setAttribute("aria-pressed", String(isOn));
  scatter.lasso(isOn);
}

/* Take the card away; without one, let go of the lasso, of what it has ringed and of the kind of text; false where
 * there is none of these. */
function clear() {
  if (onCard >= 0 || cardAsked >= 0) {
    unpick();
    return true;
  }
  const isOn = lasso?.getAttribute("aria-pressed") === "true";
  if (!isOn && !selection.part && !selection.kind) return false;
  setLasso(false);
  select({ part: "", kind: "" });
  return true;
}

/* The ring of the lasso stays around what it has selected, as the path of its corners. */
function drawPart() {
  const corners = selection.part.split(",").map((v, k) => (k % 2 ? Number(v) * stretch : v));
  part.setAttribute("d", corners.length < 6 ? "" : `M${corners.join(" ")}Z`);
}

const placeIn = (latent) => `${points.x[placeOf.get(latent)]} ${points.y[placeOf.get(latent)]}`;

/* Of those nearest to the feature on the card in the decoder, those that lie near it in this view. Lines lead to
 * them. */
function nearest() {
  const pixelsOf = (latent) => scatter.toPixels(points.x[placeOf.get(latent)], points.y[placeOf.get(latent)]);
  const [[px, py] = [], ...others] = beside.map(pixelsOf);
  return beside.slice(1).filter((_, k) => Math.hypot(others[k][0] - px, others[k][1] - py) < NEAR);
}

/* Draw the points of some features larger, and name them: the one on the card, and those nearest to it in the
 * decoder. All others fade. */
function setBeside(latents) {
  beside = latents;
  drawHits();
  shade();
  moved();
  list.show(); // at once: the card takes its place
}

function controls() {
  const choose = ({ target }) => {
    colouring = target.value;
    repaint();
  };
  const isKnown = { label: page.names.kind.length > 0, decides: new Set(points.decides).size > 1 };
  const ways = Object.entries(COLOURINGS).filter(([name]) => isKnown[name] ?? true);
  const chooser = h("select", { onchange: choose },
    ways.map(([value, text]) => h("option", { value, selected: value === colouring }, text)));
  lasso = h("button", { type: "button", "aria-pressed": "false", title: "ring points by dragging; or hold Shift",
    onclick: () => setLasso(lasso.getAttribute("aria-pressed") !== "true") }, "Lasso");
  search = h("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Highlight features on the map",
    title: "Highlights the features that match, as the search of the table does",
    autocomplete: "off",
    spellcheck: "false",
    oninput() {
      select({ query: this.value });
      follow();
    },
  });
  return [search, status, h("label", null, h("span.long", null, "Colour by "), chooser), lasso];
}

/* Buttons that zoom the map and show the whole: beside it, or on a phone below it, so that they cover no point. */
function zooms() {
  const button = (text, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, text);
  return h("div.zooms", null,
    button("+", "zoom in", () => scatter.zoom(1.6)),
    button("−", "zoom out", () => scatter.zoom(1 / 1.6)),
    button("Fit", "Fit the whole map (0)", () => scatter.fit()));
}

const explained = () => h("details.how", null, h("summary", null, "How", h("span.long", null, " to read it")),
  h("ul", null, [
    points.way === "t-SNE"
      ? "Decoder directions by t-SNE on cosine distance: close means similar; large distances mean little."
      : "Decoder directions on their first two principal components.",
    "A tint lies where the features of a kind of text are dense among all, in the largest such area; if the colours "
      + "are of something else, where all are dense. Its name stands there for all colours. Elsewhere some "
      + "features are named; zoom in for more.",
    "What decides whether a feature fires is what its rule says first beside the token.",
    "Click a point for its feature and its nearest; lines lead to those that lie near it. Point at a name of the "
      + "legend to see it alone; press it, or ring points with the lasso, to select them, here and in the table.",
    "The selected are drawn larger if they are few. A star is one that you starred.",
  ].map((text) => h("li", null, text))));

/* The points, once. */
async function read() {
  points ??= await loadData("map");
  if (points.missing || placeOf) return;
  placeOf = new Map(points.latents.map((latent, k) => [latent, k]));
  if (page.names.kind.length) colouring = "label";
}

/* The points, their heights stretched so that most of them fill a frame of this shape. The axes of t-SNE have no
 * meaning of their own. */
function stretched(width, height) {
  if (points.way !== "t-SNE" || !width || !height) return points;
  stretch = Math.min(Math.max((SHAPE * height) / width, STRETCHED[0]), STRETCHED[1]);
  const named = points.names.map(([x, y, ...more]) => [x, y * stretch, ...more]);
  return { ...points, y: points.y.map((v) => v * stretch), names: named };
}

function build(section) {
  card = h("div.hovercard", { role: "status", hidden: true });
  ring = h("i.ring", { hidden: true });
  legend = h("div");
  status = h("output");
  numberNamed = h("span.muted");
  chosen = h("div.chosen-one", { "aria-live": "polite" });
  [tints, namedPoints, hits] = ["regions", "hits knobs", "hits"].map((name) => svg("g", { class: name }));
  [part, links] = ["lasso", "links"].map((name) => svg("path", { class: name }));
  marks = h("div.names");
  /* below names, and above them */
  overlays = [[tints, links], [namedPoints, hits, part]].map((parts) => svg("g", null, parts));
  const [below, above] = overlays.map((overlay) => svg("svg", { "aria-hidden": "true" }, overlay));
  host = h("div.plot.map", { role: "application", tabindex: 0, "aria-label": KEYS }, below, above, marks, ring, card);
  const aside = h("aside", { "aria-label": "What is selected", tabindex: 0, role: "region" },
    activeFilters(true), offeredKind(), chosen);
  section.replaceChildren(
    h("div.maphead", null, h("h2", null, "Map of the decoder"), controls(), explained()),
    legend,
    h("div.mapped", null, host, zooms(), aside),
  );
  points = stretched(host.clientWidth, host.clientHeight);
  scatter = scatterPlot(host, {
    x: Float32Array.from(points.x),
    y: Float32Array.from(points.y),
    onhover: hovered,
    onmove: moved,
    onpick: pick,
    onlasso: (corners) => {
      setLasso(false);
      select({ part: corners.map((v, k) => (k % 2 ? Number((v / stretch).toPrecision(4)) : v)).join(",") });
    },
  });
  regions = mapRegions(tints, points);
  scatter.hold(regions.box);
  names = mapNames({ points, placeOf, scatter, regions });
  inset = mapInset(points, scatter, INSET, () => paintedColours(points.latents, colours, isSelected));
  list = mapList({ placeOf, scatter, selected, bestOf: strongest, chosenBy, zoomTo, hasCard: () => onCard >= 0,
    onpoint: (k) => hovered(k, true), onpick: pick });
  above.before(names.element);
  host.append(inset.element);
  window.addEventListener("resize", () => { legend.style.minHeight = ""; });
  aside.append(list.element);
  onSelect(() => {
    hovered(-1);
    if (!section.hidden) repaint();
  });
}

/* argument: the number of a feature to ring and to show next to the map. */
async function show(section, argument) {
  if (!scatter) {
    section.replaceChildren(h("p.waiting", null, "Reading the map …"));
    await read();
    if (points.missing) return section.replaceChildren(h("h2", null, "Map"), h("p.missing", null, points.missing));
    if (!scatter) build(section);
  }
  repaint();
  loadRows().then((rows) => {
    rowData = rows;
    drawHits();
    moved();
  });
  const k = placeOf.get(Number(argument ?? -1));
  hovered(-1);
  setBeside([]);
  if (k !== undefined) await pick(k);
  section.dataset.ready = "true";
}
onTheme(repaint);

export const map = { title: "Map", show, clear };
