/* How the points of the map are coloured: by kind of text, verdict, probability of one meaning or density, each with
 * its legend. */

import { columns } from "../data/features.js";
import { page } from "../data/files.js";
import { REST, commonKindOf, commonKinds, inColours, verdictOf } from "../data/latents.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { isDark, style } from "../elements/theme.js";
import {
  countsOf, isSelected, select, selectedLatents, selection, selectsAll, toggleVerdict,
} from "../selection/selection.js";

/** How the points of the map are coloured.
 * @typedef {{
 *   hueOf: (latent: number) => number[],
 *   isRest?: (latent: number) => boolean,
 *   inWords: (latent: number) => string,
 *   legend: HTMLElement,
 * }} Colours */

const { names } = page;
const [OTHER, MIXED] = REST;
export const COLOURINGS = {
  label: "kind of text",
  decides: "what decides",
  verdict: "verdict",
  monosemanticity: "one meaning",
  density: "density",
};

/* Colours of the most common kinds of text, on a light and on a dark ground, where each has the same hue and is
 * lighter by 0.09 in OKLab. That of the commonest, which covers most of the map, is the palest; of the others any two
 * are at least 0.124 apart, found by a search over colours of lightness 0.5 to 0.75, which stand out from the ground,
 * from black and from grey. */
const HUES = [["#7299c6", "#7299c6"], ["#e0902c", "#ffac4e"], ["#2e7924", "#4a9540"], ["#9b3b6f", "#b95689"],
  ["#4456c2", "#5b72e1"], ["#e08392", "#ff9fae"], ["#cb4644", "#eb645e"], ["#848f1d", "#9fab40"],
  ["#17c082", "#49de9e"], ["#d36ed6", "#f28bf4"], ["#885a33", "#a4754d"], ["#8e6dbd", "#a988db"],
  ["#04bbd5", "#44d8f3"], ["#388fdf", "#57acfd"]];
const OF_DECIDERS = [1, 2, 3, 4].map((k) => HUES[k]); // of the last, no rule, none
const LADDER = ["#352a87", "#1f6fb4", "#12a39a", "#9fbd4b", "#f9d423"];
const PLAINS = [170, 220], // on a light and on a dark ground, where paint is dim
  MUTED = [95, 150], // on a light and on a dark ground
  FAINT = [30, 48];

const bytes = (hue) => [1, 3, 5].map((from) => parseInt(hue.slice(from, from + 2), 16));
const blend = (share) => {
  const height = Math.min(Math.max(share, 0), 1) * (LADDER.length - 1),
    k = Math.min(Math.floor(height), LADDER.length - 2);
  return bytes(LADDER[k]).map((c, i) => c + (bytes(LADDER[k + 1])[i] - c) * (height - k));
};

/** The hue of a kind of text on the current ground; undefined for a less common one.
 * @type {(kind: string) => string | undefined} */
export const hueOfKind = (kind) => HUES[commonKinds.indexOf(kind)]?.[Number(isDark())];

/** A hue closer to that of text, so that it is readable on the page.
 * @type {(hue: string) => string} */
export function inked(hue) {
  const ink = bytes(style("--ink"));
  const share = isDark() ? 0.4 : 0.55;
  return `rgb(${bytes(hue).map((c, i) => Math.round(share * c + (1 - share) * ink[i]))})`;
}

/* Latent → its hue, and a legend of the groups, each with how many of the selection it has, after a search those with
 * most first; pressing one selects it.
 * pressed: the names of the groups that are selected; press: called with the name of one that is pressed; onpoint:
 * with whether a latent is in the group that is pointed at and its name, or null for none, and where there is no
 * `press` also with that of the one that is pressed. */
function grouped(latents, { nameOf, numberOf, hueOfGroup, write, pressed, press, onpoint }) {
  const point = (name) => onpoint(name === null ? isSelected : (latent) => nameOf(latent) === name, name);
  const totals = new Map();
  for (const latent of latents) totals.set(nameOf(latent), (totals.get(nameOf(latent)) ?? 0) + 1);
  const hues = new Map([...totals.keys()].map((name) => [name, bytes(hueOfGroup(name))]));
  const pale = `${isDark() ? 75 : 45}%, transparent`;
  const isMixed = (name) => name === MIXED;
  const hueOfEntry = (name) => (isMixed(name) ? `color-mix(in srgb, ${hueOfGroup(name)} ${pale})` : hueOfGroup(name));
  const others = names.kind.filter((kind) => !commonKinds.includes(kind)).map(format.words).join(", ");
  const titleOf = { [MIXED]: "no kind of text has half of its firings", [OTHER]: `${others}: see the map` };
  const content = (name) =>
    [h("span.verdict", null, write(name)), " ",
      h("span.muted.number", { "--digits": format.count(totals.get(name)).length }, format.count(numberOf(name)))];
  const entry = (name) => h(numberOf(name) ? "li" : "li.none", { "--hue": hueOfEntry(name) },
    h("button.link", { type: "button", "aria-pressed": String(pressed.includes(name)),
      title: titleOf[name] ?? (press ? "select these" : "show these alone"),
      onclick: () => (press ?? point)(name), onpointerenter: () => point(name), onpointerleave: () => point(null),
      onfocus: () => point(name), onblur: () => point(null) }, content(name)));
  const rest = REST.filter((name) => totals.has(name));
  const found = (name) => (selection.query ? numberOf(name) : 0);
  const listed = [...totals.keys()].filter((name) => !rest.includes(name))
    .sort((a, b) => found(b) - found(a) || totals.get(b) - totals.get(a));
  return {
    hueOf: (latent) => hues.get(nameOf(latent)) ?? bytes(hueOfGroup(nameOf(latent))),
    isRest: (latent) => isMixed(nameOf(latent)),
    inWords: (latent) => write(nameOf(latent)),
    legend: h("ul.legend", null, [...listed, ...rest].map(entry)),
  };
}

/* The ends of the ladder of densities are those of the middle 96 %: a few are up to a thousand times as rare. */
function graded(latents, colouring) {
  const isLog = colouring === "density",
    values = (latent) => (isLog ? Math.log10(columns.density[latent] ?? 0) : columns.monosemanticity[latent] ?? NaN);
  const isKnown = (v) => Number.isFinite(v);
  const known = latents.map(values).filter(isKnown);
  const sorted = Float64Array.from(known).sort();
  const quantile = (share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  const [low, high] = isLog ? [0.02, 0.98].map(quantile) : [0, 1];
  const none = bytes(style("--dead"));
  const write = (v) => (isLog ? format.share(10 ** v) : format.fixed(v, 1));
  const [least, most] = [["≤ ", low], ["≥ ", high]].map(([sign, v]) => `${isLog ? sign : ""}${write(v)}`);
  const grey = latents.length - known.length,
    ladder = h("i.ladder", { "--ladder": LADDER.join(", ") });
  const rest = h("span.muted", null, grey ? `grey: ${format.count(grey)} without a value` : "");
  return {
    hueOf: (latent) => (isKnown(values(latent)) ? blend((values(latent) - low) / (high - low || 1)) : none),
    inWords: (latent) => (isKnown(values(latent)) ? `${COLOURINGS[colouring]} ${write(values(latent))}` : "no value"),
    legend: h("div.legend", null, h("span", null, COLOURINGS[colouring]), least, ladder, most, rest),
  };
}

/** The colours of the latents of a map in one of WAYS: hueOf gives that of a latent, as r, g, b; said what it stands
 * for; isRest whether it is of the rest; and the legend. onpoint: as of `grouped`.
 * @type {(points: DecoderMap, way: string, onpoint?: (standsOut: (latent: number) => boolean,
 *   name: string | null) => void) => Colours} */
export function coloursOf({ latents, deciders, decides }, colouring, onpoint) {
  if (colouring === "verdict") {
    return grouped(latents, {
      nameOf: verdictOf,
      numberOf: (name) => countsOf("verdict")[names.verdict.indexOf(name)],
      hueOfGroup: (name) => style(`--${name}`) || style("--unranked"),
      write: format.verdict,
      pressed: selection.verdict,
      press: toggleVerdict,
      onpoint,
    });
  }
  if (colouring === "decides") {
    const decidersOf = new Map(latents.map((latent, k) => [latent, deciders[decides[k]]]));
    const nameOf = (latent) => decidersOf.get(latent);
    const selected = Map.groupBy(selectedLatents(), nameOf);
    return grouped(latents, {
      nameOf,
      numberOf: (name) => selected.get(name)?.length ?? 0,
      hueOfGroup: (name) => OF_DECIDERS[deciders.indexOf(name)]?.[Number(isDark())] ?? style("--mixed"),
      write: (name) => name,
      pressed: [],
      press: null,
      onpoint,
    });
  }
  if (colouring !== "label") return graded(latents, colouring);
  const kinds = [...names.kind, null]; // as they are counted
  return grouped(latents, {
    nameOf: commonKindOf,
    numberOf: (name) => countsOf("kind").reduce((sum, n, k) => sum + (inColours(kinds[k]) === name ? n : 0), 0),
    hueOfGroup: (name) => hueOfKind(name) ?? style(name === OTHER ? "--other" : "--mixed"),
    write: format.words,
    pressed: [selection.kind],
    press: (name) => select({ kind: selection.kind === name ? "" : name }),
    onpoint,
  });
}

/** The colours of all points, r, g, b, a; what does not stand out is dimmed.
 * @type {(latents: number[], colours: Colours, standsOut: (latent: number) => boolean) => Uint8Array} */
export function paintedColours(latents, colours, standsOut) {
  const drawn = new Uint8Array(4 * latents.length);
  const faint = FAINT[Number(isDark())];
  const plain = PLAINS[Number(isDark())];
  const muted = selectsAll() ? MUTED[Number(isDark())] : plain; // of a selection they are told from all others
  const depth = (latent) => (!standsOut(latent) ? faint : colours.isRest?.(latent) ? muted : plain);
  latents.forEach((latent, k) => drawn.set([...colours.hueOf(latent), depth(latent)], 4 * k));
  return drawn;
}

/** @type {() => number[]} */
export const groundColour = () => bytes(style("--paper"));
