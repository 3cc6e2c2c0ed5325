"""Evidence for and against one meaning, each measure a function of tokens and codes; no language model, no label.

contexts    token vectors from the tokens' own co-occurrence, and the embedding of a firing's context
firings     one pass over the codes: mean contexts by group of sequences, and a stratified sample of firings
coherence   do the contexts of a latent's firings resemble each other, and at all strengths alike?
senses      into how many modes do they fall?
concepts    which labelled concept a latent is, where there are labels
"""
