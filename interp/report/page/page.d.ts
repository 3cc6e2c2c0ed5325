/* Types that many modules of a page share; one of a single module is in it. */

/* A feature as `loadFeature` gives it. */
interface Feature extends Omit<StoredFeature, "measured" | "shared" | "senses" | "examples"> {
  measured: Rule | null;
  shared: Rule | null;
  senses: Sense[] | null;
  examples: Example[];
}

interface Sense extends Omit<StoredSense, "rule" | "common" | "short"> {
  rule: Rule;
  short: Rule;
  common: Rule[];
}

/* What an element made by `h` has in it, and its attributes: its handlers are called with it as `this`. */
type Child = Node | string | number | null | undefined | Child[];
type Attributes<E> = ThisType<E> & { [name: string]: any };
type TagOf<Kind extends string> = Kind extends `${infer Tag}.${string}` ? Tag : Kind;
type ElementOf<Kind extends string> = TagOf<Kind> extends keyof HTMLElementTagNameMap
  ? HTMLElementTagNameMap[TagOf<Kind>] : HTMLElement;
type ElementOfSvg<Tag> = Tag extends keyof SVGElementTagNameMap ? SVGElementTagNameMap[Tag] : SVGElement;

/* What is found in the page by its classes is taken for an HTMLElement. An element is of HTML or of SVG, and has what
 * draws it anew if a script gave it that. */
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

/* plotly.js, which is loaded with the summary. */
declare const Plotly: any;
