/* The page with a live model behind it, as `interp explore` serves it. */

import { h, the } from "../elements/elements.js";
import { model } from "../model.js";
import { start } from "../router.js";
import { views } from "../views.js";
import { ask } from "./ask.js";
import { showLosses } from "./losses.js";
import { keepNotesInRun } from "./run_notes.js";
import { steering } from "./steering.js";
import { tryText } from "./try_text.js";

Object.assign(model, {
  isLive: true,
  steer: steering,
  showLosses,
  common: (latent, other) => ask("common", { latent, other }),
});
the("nav").append(h("a", { href: "#try", "data-view": "try" }, "Try text"));
the("#main").append(h("section.view", { id: "try", "aria-label": "Try text", hidden: true }));
keepNotesInRun();
start({ ...views, try: tryText });
