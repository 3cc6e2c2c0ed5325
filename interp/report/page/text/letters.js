/* Letters that are hard to tell on their own, by the names of their scripts. */

/* Letters that look like Latin ones, by script, and Arabic marks, which are hard to tell on their own. */
const NAMED_LETTERS = {
  "Arabic alef": "ا",
  shadda: "\u0651", sukun: "\u0652", fatha: "\u064e", damma: "\u064f", kasra: "\u0650",
  fathatan: "\u064b", dammatan: "\u064c", kasratan: "\u064d",
  "Hebrew vav": "ו",
  "Hebrew samekh": "ס",
  Cyrillic: "АВЕЅІЈКМНОРСТУХавегѕіјкмнорстух",
  Greek: "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧινοκρυχ",
};

/** The name of a token that is one of these; undefined for any other token.
 * @type {(token: string) => string | undefined} */
export const scriptOf = (token) => {
  const letter = token.trim();
  if (letter.length !== 1) return undefined;
  return Object.keys(NAMED_LETTERS).find((name) => NAMED_LETTERS[name].includes(letter));
};
