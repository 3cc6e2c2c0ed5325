/* What the page can ask of a live model. Without one, as in a page that opens from a folder, there is nothing to ask;
 * live/main.js fills it in.
 *
 * steer: makes the panel in which a feature is held while the model writes. showLosses: marks in the open text of an
 * example what the feature does to the loss at each token. common: reads what two latents have in common. */

/** @type {{
 *   isLive: boolean,
 *   steer?: (latent: number, example: Example) => HTMLElement,
 *   showLosses?: (latent: number, one: Example, text: HTMLElement, facts: HTMLElement) => void,
 *   common?: (latent: number, other: number) => Promise<CommonProperties>,
 * }} */
export const model = { isLive: false };
