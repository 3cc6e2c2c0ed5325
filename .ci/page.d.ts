/* Types that several scripts of a page share. */

/* A feature as `loadFeature` gives it. */
interface Feature extends Omit<StoredFeature, "caption" | "shared" | "senses" | "examples"> {
  title: Segment[];
  below: Segment[] | null;
  measured: Rule | null;
  shared: Rule | null;
  senses: Sense[] | null;
  examples: Example[];
}

interface Sense extends Omit<StoredSense, "rule" | "common"> {
  rule: Rule;
  common: Rule[];
}

/* A view of the page, which the address names. within: the view whose tab is marked in its place. */
interface View {
  title?: string;
  titled?(argument: string): string;
  within?: string;
  show(section: HTMLElement, argument?: string): void;
  [more: string]: any;
}

/* What an element made by `h` has in it, and its attributes: its handlers are called with it as `this`. */
type Child = Node | string | number | null | undefined | Child[];
type Attributes<E> = ThisType<E> & { [name: string]: any };
type TagOf<Kind extends string> = Kind extends `${infer Tag}.${string}` ? Tag : Kind;
type ElementOf<Kind extends string> = TagOf<Kind> extends keyof HTMLElementTagNameMap
  ? HTMLElementTagNameMap[TagOf<Kind>] : HTMLElement;
type ElementOfSvg<Tag> = Tag extends keyof SVGElementTagNameMap ? SVGElementTagNameMap[Tag] : SVGElement;

/* A word of a search (search.js): the number of a latent, or a text to be found. */
interface Term {
  latent?: number;
  field?: string;
  text?: string;
  quoted?: boolean;
  number?: boolean;
  word?: RegExp;
}

/* A label, and the share of a feature's firings at which it holds. */
type LabelShare = [label: string, share: number];

/* A scale of numbers: the least and the largest, and where each lies, from 0 to 1. */
interface Scale {
  least: number;
  most: number;
  place: (x: number) => number;
}

/* What a reader keeps of a feature. */
interface Note {
  star: boolean;
  label: string;
  note: string;
}

interface Points {
  x: ArrayLike<number>;
  y: ArrayLike<number>;
}

/* Points by the squares of a grid (plane.js). */
interface Squares {
  nearest(x: number, y: number, within: number): number;
  inBox(left: number, bottom: number, right: number, top: number): number;
  box: number[];
}

/* How the points of the map are coloured (map_colours.js). */
interface Colours {
  hueOf(latent: number): number[];
  isRest?(latent: number): boolean;
  inWords(latent: number): string;
  legend: HTMLElement;
}

/* Where a kind of text is at home on the map. */
interface Outline {
  path: string;
  corners: number[];
  box: [left: number, right: number, bottom: number, top: number];
  size: number;
}

/* What is found in the page by its classes is taken for an HTMLElement, and the target of an event for an element. An
 * element is of HTML or of SVG, and has what draws it anew if a script gave it that. */
type FoundBy<S> = S extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[S] : HTMLElement;
interface ParentNode {
  querySelector<S extends string>(selectors: S): FoundBy<S> | null;
  querySelectorAll<S extends string>(selectors: S): NodeListOf<FoundBy<S>>;
}
interface Element extends HTMLOrSVGElement {
  setAttribute(name: string, value: string | number | boolean): void;
}
interface HTMLElement {
  show?(changed?: any): any;
  draw?(): void;
}
interface EventTarget {
  closest?(selectors: string): HTMLElement | null;
}

/* plotly.js, which is loaded with the summary. */
declare const Plotly: any;
