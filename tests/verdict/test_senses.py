"""What is known about a sense in addition to its rule."""

import numpy as np

from interp.verdict.senses import promoted_share, tokens_following


def test_promoted_tokens_are_counted_among_what_follows_in_the_same_sequence():
    flat = np.array([5, 1, 7, 5, 2, 5])
    following = tokens_following(flat, 3, np.array([0, 2, 3]))
    assert promoted_share(following, [1]) == 0.5 and promoted_share(following, [1, 2]) == 1
    assert promoted_share(following, [5]) == 0
    assert (
        promoted_share(following, []) is None and promoted_share(tokens_following(flat, 3, np.array([2])), [1]) is None
    )
