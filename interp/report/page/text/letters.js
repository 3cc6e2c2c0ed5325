/* Letters that are hard to tell on their own, by the names of their scripts. */

/* Letters that look like Latin ones, by script, and Arabic marks, which are hard to tell on their own. */
const NAMED_LETTERS = {
  shadda: "\u0651", sukun: "\u0652", fatha: "\u064e", damma: "\u064f", kasra: "\u0650",
  fathatan: "\u064b", dammatan: "\u064c", kasratan: "\u064d",
  Cyrillic: "АВЕЅІЈКМНОРСТУХавегѕіјкмнорстух",
  Greek: "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧινοκρυχ",
};

/* The letters of scripts that few readers know, in the order of Unicode, from the first one's code on. */
const ALPHABETS = [
  { script: "Hebrew", first: 0x5d0, names: "alef bet gimel dalet he vav zayin het tet yod final_kaf kaf lamed " +
    "final_mem mem final_nun nun samekh ayin final_pe pe final_tsadi tsadi qof resh shin tav" },
  { script: "Arabic", first: 0x621, names: "hamza alef_with_madda_above alef_with_hamza_above waw_with_hamza_above " +
    "alef_with_hamza_below yeh_with_hamza_above alef beh teh_marbuta teh theh jeem hah khah dal thal reh zain seen " +
    "sheen sad dad tah zah ain ghain" },
  { script: "Arabic", first: 0x641, names: "feh qaf kaf lam meem noon heh waw alef_maksura yeh" },
];
/** @type {Map<string, string>} */
const NAME_OF_LETTER = new Map(ALPHABETS.flatMap(({ script, first, names }) => names.split(" ").map((name, k) =>
  [String.fromCharCode(first + k), `${script} ${name.replaceAll("_", " ")}`])));

/** The name of a token that is one of these; undefined for any other token.
 * @type {(token: string) => string | undefined} */
export const scriptOf = (token) => {
  const letter = token.trim();
  if (letter.length !== 1) return undefined;
  return NAME_OF_LETTER.get(letter) ?? Object.keys(NAMED_LETTERS).find((name) => NAMED_LETTERS[name].includes(letter));
};
