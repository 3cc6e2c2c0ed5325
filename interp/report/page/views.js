/* The views of the page, by the names that they have in the address; each has a section in page.html. */

import { compare } from "./views/compare.js";
import { feature } from "./views/feature.js";
import { map } from "./map/map.js";
import { notes } from "./views/notes.js";
import { overview } from "./views/overview.js";
import { summary } from "./views/summary.js";
import { features } from "./views/table.js";

/** @import { View } from "./router.js" */
/** @type {Record<string, View>} */
export const views = { overview, features, feature, compare, map, summary, notes };
