/* The data files of the page: the first one is there from the start, and the others are loaded when they are needed.
 * Data that is a string is gzipped JSON. */

import { trouble } from "../elements/errors.js";
import { received } from "./received.js";

/* What the first view needs, and the others besides their own files. */
export const page = received.page;

/** @type {(path: string) => Promise<unknown>} */
export const loadScript = (path) => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = path;
  script.onload = resolve;
  script.onerror = () => { // a page on file:// is told of no rejection
    trouble(`${path} is missing or cannot be read`);
    reject(new Error(`${path} is missing or cannot be read`));
  };
  document.head.append(script);
});

/** A function that loads what a key names, once; what failed is loaded again when it is next asked for.
 * @template K, V
 * @param {(key: K) => Promise<V>} load
 * @returns {(key?: K) => Promise<V>} */
export function once(load) {
  const loading = new Map();
  const begin = (key) => load(key).catch((error) => {
    loading.delete(key);
    throw error;
  });
  return (key) => {
    if (!loading.has(key)) loading.set(key, begin(key));
    return loading.get(key);
  };
}

/** Unpack the gzipped text of a script, with 15 bits per character (json_text.py).
 * @type {(path: string, name: string) => Promise<string>} */
export async function unpack(path, name) {
  const FIRST = 0x100, BITS = 15;
  await loadScript(path);
  const packed = received[name];
  delete received[name];
  const leftOver = packed.charCodeAt(0) - FIRST;
  const bytes = new Uint8Array((BITS * (packed.length - 1) - leftOver) / 8);
  for (let k = 1, at = 0, held = 0, bits = 0; k < packed.length; k++) {
    held = (held << BITS) | (packed.charCodeAt(k) - FIRST);
    bits += BITS;
    for (; bits >= 8 && at < bytes.length; bits -= 8) bytes[at++] = held >>> (bits - 8);
    held &= (1 << bits) - 1;
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** @type {<Name extends keyof DataFiles>(name: Name) => Promise<DataFiles[Name]>} */
export const loadData = once(async (name) => JSON.parse(await unpack(`data/${name}.js`, name)));

/** @type {<Name extends string>(name: Name, k: number) => `${Name}-${string}`} */
export const numbered = (name, k) => `${name}-${String(k).padStart(4, "0")}`;

/** A function that makes its value when it is first asked for it.
 * @template V
 * @param {() => V} make
 * @returns {() => V} */
export function lazily(make) {
  let made;
  return () => (made ??= make());
}
