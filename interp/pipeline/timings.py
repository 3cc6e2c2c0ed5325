"""Seconds that a unit of work takes beyond its operations: sorting, counting, writing, Python. Stages multiply them in
their `cost`.

They are seconds on two cores of an AMD EPYC 9B45, fitted to the demo and to SmolLM2's run; `costs.Speed.pace` is what
they are multiplied with on another machine. Once a change of the code makes a stage faster or slower,

    python -m analyses.bench.plan RUN …        runs that were made with nothing beside

prints for each stage the factor by which its constants here should be multiplied.
"""

READING_TEXT = 1.5
"""To open the sources of text and train the tokenizer."""
TEXT_CHARACTER = 5.9e-7
"""To read and tokenize a character."""
LOADED_BYTE = 2e-8
"""To load a byte of a pretrained model's weights."""
TRAINING_STEP = 6e-3
"""For a step of training, of the model or of a dictionary."""
STORED_BYTE = 1e-9
"""To shuffle, write and digest a byte of activations."""
COMPARED_VALUE = 5e-9
"""To find the largest of a row's values, per value."""
SCANNED_FIRING = 2e-7
"""To sort, keep and count a firing."""
SCANNED_LATENT = 8e-4
"""To write the examples of a latent."""
PAIR = ((1.1e6, 2.5e-9), (32e6, 1e-8), (float("inf"), 3.5e-8))
"""To count a pair of latents that fire together: the largest bytes of the counts, and the seconds a pair. The counts
are in the cache of a core, in the last-level cache, or in memory."""
CHOSEN_FIRING = 4e-8
"""To read a firing while the sequences are chosen in which latents are ablated."""
CHOSEN_ROW = 5e-8
"""The same for a row."""
CONCEPTS = 0.2
"""To compare the best latents with the best neurons."""
READING_PREDICATES = 3.0
"""To prepare the text for all verdicts."""
JUDGED_LATENT = 2e-3
"""To judge a latent: its senses, their rules and its nulls."""
JUDGED_ROW = 2.5e-6
"""To count predicates and rules on a row."""
NAMED_LATENT = 1.5e-3
"""To gather what may be said of a latent, and name it."""
NAMED_FIRING = 6e-8
"""To read a firing for the names."""
PAGE = 4.0
"""To write what a page has once."""
SHOWN_LATENT = 3.3e-3
"""To describe a latent on the page."""
SHOWN_ROW = 3.3e-7
"""To write a token of the text, with its labels."""
SHOWN_FIRING = 1.6e-7
"""To read a firing for all that the page shows of it."""


def pair_seconds(d_sae: int) -> float:
    """Return the seconds to count a pair of latents among d_sae."""
    return next(seconds for most_bytes, seconds in PAIR if 4 * d_sae**2 < most_bytes)
