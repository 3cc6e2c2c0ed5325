/* What the head of the page runs, before its data and main.js: it sets the colours, so that nothing is drawn in others
 * first. */

import { receive } from "./data/received.js";
import { applyTheme } from "./elements/theme.js";

Object.assign(globalThis, { receive });
applyTheme();
