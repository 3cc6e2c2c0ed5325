/* What the data files of the page have set: each is a script that calls receive(name, data), which start.js makes known
 * to them. */

/** @type {{ page: PageFacts, [name: string]: any }} */
export const received = /** @type {any} */ ({});

/** @type {(name: string, data: any) => void} */
export function receive(name, data) {
  received[name] = data;
}
