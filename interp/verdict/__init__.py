"""Judge whether each latent has one meaning, and describe it, without a language model.

From a latent's firings come a probability of one meaning, its senses, and their rules in words; each number is compared
with its null. The modules, in the order of their use:

    coded_text       the tokens, their codes, and facts about both
    evidence         samples firings and reads their predicates (`interp.text`)
    similarity       how alike the firings of a latent are, and the senses into which they fall
    calibration      how probable it is that they have one meaning
    nulls            the same measures on shifted text, and how far a latent stands above them

    search           proposes rules in words, from samples of the firings and of the text;   rules   defines a rule
    counting         where the proposed rules hold, exactly
    explanations     the best rule of each latent and sense, scored on held-out text
    senses           each sense with its rule and other facts

    measures         measures of a latent from the literature
    learnt           whether the model learnt a latent, or the text alone explains it
    verdicts         the verdict of each latent in one word
    ranking          all of it as one table: `rank_features`;   ranking_tables   the table, which shows itself;
                     ranking_config   its options
    verdict_shares   how many latents have each verdict
    fitted           how the two fits (calibration, learnt) are read and written
"""
