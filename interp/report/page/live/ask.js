/* Questions to the server of a live page (server.py). */

import { h } from "../elements/elements.js";

/** What the server says of a question that it refuses, and would refuse again. */
export class Refusal extends Error {}

/** Ask the server; throw an Error that says why it does not answer, or a Refusal.
 * @type {(name: string, asked?: any, options?: RequestInit) => Promise<any>} */
export async function ask(name, asked, options = {}) {
  const posted = asked && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
  };
  let answer;
  try {
    answer = await fetch(`/api/${name}`, { ...posted, ...options });
  } catch {
    throw new Error("The model does not answer: check that `interp explore` is still running");
  }
  const reply = await answer.json();
  if (!answer.ok) throw new Refusal(reply.error);
  return reply;
}

/** Say in a place of the page why the model did not answer.
 * @type {(place: HTMLElement, error: Error) => void} */
export const showError = (place, error) =>
  place.replaceChildren(h("p.missing", { role: "alert" }, `${error.message}.`));
