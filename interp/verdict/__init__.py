"""Has a latent one meaning, and which? From where it fires to a probability, to its senses, and to their rules in
words; each number beside its null, and no language model.

evidence       the firings looked at;   similarity   how alike they are;   calibration   how probable one meaning is
senses         the parts into which they fall, and what those share
measures       measures that others have proposed;   nulls, null_scale   the same functions on shifted text;   twins
ranking        all of it as one table;   verdicts   what the table says in sum;   learnt   is a latent the model's own?

A rule in words, found on one half of the text and scored on the other:

predicates     the kinds of predicates that rules are made of
background     the rows that candidates are tried on;   beam, search   candidate rules from a sample of firings
holding        where rules hold, in any text;   counting   how often on all tokens, and how strongly latents fire there
explanations   the best rule, in words;   described   of each latent and sense, beside what else is known
"""

from interp.verdict.background import FitSample
from interp.verdict.described import Explained, describe, explain
from interp.verdict.explanations import Explanations

__all__ = ["Explained", "Explanations", "FitSample", "describe", "explain"]
