"""Judge whether each latent has one meaning, and describe it, without a language model.

The verdict in ten sentences, each with the function that does it:

 1. What is true at each token position is read from the text, with how rare it is: `interp.text.predicates`, through
    `CodedText.predicates` (`coded_text`).
 2. Of each latent some firings are drawn, evenly over their strengths, as a careful reader would look at them:
    `collect_evidence` (`evidence`).
 3. Two firings are as similar as the rarest predicate that they share is surprising: `pairwise_similarity`
    (`similarity`).
 4. The similarities of a latent's firings are summarized by two statistics, with their sampling errors: how much of the
    firings one cluster holds, and how even the similarities are: `similarity_statistics`.
 5. A curve, fitted to what readers judged and to what was planted, turns these into the probability of one meaning and
    its interval: `Calibration.probability` (`calibration`).
 6. If it is not surely above ½, the firings are clustered into senses, each with its own probability: `sense_of_each`.
    `FiringComparison` (`firing_comparison`) does 3, 4 and 6 for many latents at a time.
 7. For each latent and sense, rules in words are searched in half of the text, counted exactly, and the best one is
    scored on the other half: `propose_rules` (`rule_search`, among `candidates`, by a `beam_search`), `count_rules`
    (`rule_counts`), `explain` (`explanations`). `text.rules` says what a rule is; `describe` (`senses`) adds what else
    is known of a sense.
 8. Every number stands beside its null, the same number on text shifted against the firings: `compare_measures` and
    `against_pooled_nulls` (`measure_nulls`).
 9. Measures from the literature stand beside it, and the probability that the model learnt the latent: `measure_values`
    (`measures`), `LearntFit.probability` (`learnt`).
10. Each latent gets its verdict in one word, and all of them one table, from monosemantic to polysemantic:
    `verdict_columns` (`verdicts`), `rank_features` (`ranking`, with its options in `ranking_config`).

`ranking_tables` shows and reads that table, `verdict_shares` counts its verdicts, and `fit_files` reads and writes the
two fits.
"""
