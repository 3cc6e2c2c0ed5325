"""Has a latent one meaning, and which? From where it fires to a probability, to its senses, and to their rules in
words; each number beside its null, and no language model. In the order in which they work:

evidence       samples firings, reads their predicates (`interp.text`), and asks the next two of each latent
similarity     how alike the firings are, and the senses into which they fall
calibration    how probable it is that they have one meaning
nulls          the same on shifted text, and what stands above it

search         candidate rules in words, from samples of the firings and of the text;   rules   what a rule is
counting       where the candidates hold, exactly
explanations   the best rule of each latent and sense, scored on text that it was not chosen on
senses         each sense with its rule, beside what else is known of it

measures       the measures of a latent that others have proposed
learnt         is a latent the model's own, or the text's?
verdicts       the verdict of each latent in one word
ranking        all of it as one table: `rank_features`;   ranking_tables   the table, which shows itself
verdict_shares how many latents have each verdict
"""

from interp.verdict.explanations import Explained as Explained
from interp.verdict.explanations import Explanations as Explanations
from interp.verdict.explanations import explain as explain
from interp.verdict.search import FitSample as FitSample
