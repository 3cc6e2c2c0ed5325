"""Evidence for and against one meaning, each measure a function of tokens and codes; no language model, no label.

contexts    token vectors from the tokens' own co-occurrence, and the embedding of a firing's context
firings     one pass over the codes: mean contexts by group of sequences, and a stratified sample of firings
respects    in what two firings may be alike: surroundings, the token, its spelling, its neighbours
splits      can the firings be parted in two that have nothing in common?
unity       how much they have in common, all told;   senses   the parts that they fall into
evidence    all of that for every latent, beside shifted text;   nulls   how far a statistic stands above it
calibration from evidence to the probability of one meaning, fitted to planted worlds

tokens, logits, directions, twins, embeddings, intervals    the known single measures, each on its page
concepts    which labelled concept a latent is, and is it that one only
table       all single measures side by side, with the direction that means one meaning
shifted     each of them beside its null: recount, on shifted text;   chance   in closed form, or of random directions
"""
