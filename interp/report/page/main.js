/* The page as it opens from a folder. With a live model it begins in live/main.js. */

import { start } from "./router.js";
import { views } from "./views.js";

start(views);
