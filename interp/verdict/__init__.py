"""Has a latent one meaning, and which? From where it fires to a probability, to its senses, and to their rules in
words; each number beside its null, and no language model.

evidence       the firings looked at;   similarity   how alike they are;   calibration   how probable one meaning is
senses         the parts into which they fall, and what those share
measures       measures that others have proposed;   nulls, null_scale   the same functions on shifted text;   twins
ranking        all of it as one table;   verdicts   what the table says in sum;   learnt   is a latent the model's own?

A rule in words, found on one half of the text and scored on the other:

rules          what a rule is, in words and as JSON;   search, beam   candidate rules from a sample of firings
counting       where rules hold, exactly;   explanations   the best rule of each
described      of each latent and sense, beside what else is known
"""

from interp.verdict.described import Explained as Explained
from interp.verdict.described import describe as describe
from interp.verdict.described import explain as explain
from interp.verdict.explanations import Explanations as Explanations
from interp.verdict.search import FitSample as FitSample
