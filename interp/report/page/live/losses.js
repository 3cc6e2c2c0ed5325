/* What a feature does to the loss at each token, in the open text of an example. */

import { page } from "../data/files.js";
import { h } from "../elements/elements.js";
import { format } from "../elements/format.js";
import { ask } from "./ask.js";

/* Underline the tokens whose loss rises without the feature, and in the other hue those whose loss falls. */
export async function showLosses(latent, /** @type {Example} */ [, row], text, facts) {
  const { n_ctx } = page,
    MOST = 1,
    LEAST = 0.02;
  const status = facts.appendChild(h("span.muted", null, "reading the loss …"));
  try {
    const { changes } = await ask("without", { latent, sequence: Math.floor(row / n_ctx) });
    for (const token of text.querySelectorAll(".token[data-place]")) {
      const change = changes[Number(token.dataset.place)];
      if (change === null || Math.abs(change) < LEAST) continue;
      token.classList.add(change > 0 ? "helped" : "hindered");
      token.style.setProperty("--change", Math.min(Math.abs(change) / MOST, 1).toFixed(3));
      token.dataset.tip = `loss without it ${change > 0 ? "+" : "−"}${format.significant(Math.abs(change), 2)} nats`;
    }
    const [better, worse] = [h("span.helped", null, "predicted better"), h("span.hindered", null, "worse")];
    status.replaceChildren(better, ", ", worse, " with the feature than without it");
  } catch (error) {
    status.textContent = `${error.message}.`;
  }
}
