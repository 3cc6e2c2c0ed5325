/* How many latents have each verdict, as a bar in parts. */

import { page } from "../data/files.js";
import { verdictCounts } from "../data/latents.js";
import { h } from "./elements.js";
import { format } from "./format.js";
import { term } from "./glossary.js";
import { hueOfVerdict, verdictElement } from "./latents.js";

/** What the bar of verdicts is of.
 * @type {(kind: string) => HTMLElement} */
export const verdictHeading = (kind) => h("div.headed", null, h(kind, null, "Verdicts"),
  h("span.muted", null, `of all ${format.count(page.latents)} features; hatched: `, term("unsure")));

/** How many latents have each verdict: one bar in parts, whose legend leads to the latents.
 * @type {() => HTMLElement} */
export function verdictBar() {
  const { latents } = page;
  const part = ([verdict, n, unsure]) => h("i", { "--n": n, "--unsure": unsure / n, "--hue": hueOfVerdict(verdict) });
  const tip = ([, n, unsure]) => `${format.percent(n / latents)} of all`
    + (unsure ? `, ${format.count(unsure)} of them unsure` : "");
  const item = (one) => h("li", null, h("a", { href: `#features?verdict=${one[0]}`, "data-tip": tip(one) },
    verdictElement(one[0]), " ", h("span.number", null, format.count(one[1]))),
  h("small", { "aria-hidden": "true" }, tip(one)));
  return h("div.verdicts", { role: "group", "aria-label": "Verdicts" },
    h("div.parts", { "aria-hidden": "true" }, verdictCounts.map(part)),
    h("ul.legend", null, verdictCounts.map(item)));
}
