"""A name is registered once, but for a function that is defined again."""

from functools import partial
from operator import itemgetter
from threading import Thread

import pytest

from interp.runtime.registry import register
from interp.verdict.measures import MEASURES, measure


def test_a_function_that_is_defined_again_takes_its_own_place():
    known: dict = {}

    def definition(answer):
        def mine():
            return answer

        return mine

    for answer in (1, 2):
        register(known, "mine", definition(answer), "function", lambda function: function)
        register(known, "part", partial(definition(answer)), "function", lambda function: function)
        register(known, "object", itemgetter(answer), "function", lambda function: function)
    assert (known["mine"](), known["part"](), known["object"]("012")) == (2, 2, "2")
    with pytest.raises(ValueError, match="the function 'mine' is already registered"):
        register(known, "mine", register, "function", lambda function: function)
    assert known["mine"]() == 2


def test_a_thread_can_register():
    known: dict = {}
    thread = Thread(target=register, args=(known, "mine", register, "function", lambda function: function))
    thread.start()
    thread.join()
    assert known == {"mine": register}


def test_a_function_of_that_name_in_another_file_is_refused():
    def density(features):
        return features

    density.__qualname__ = "density"  # as at the top of a script
    before = MEASURES["density"]
    with pytest.raises(ValueError, match="the measure 'density' is already registered: choose another name"):
        measure("Mine", "of mine", sign=1, null="none")(density)
    assert MEASURES["density"] is before


@pytest.mark.parametrize("name", ["evenness", "n_senses", "learnt", "explanation_f1", "n_active", "evidence"])
def test_a_measure_cannot_be_called_like_another_column_of_the_ranking(name):
    def mine(features):
        return features

    mine.__name__ = name
    with pytest.raises(ValueError, match=f"the measure cannot be called '{name}', which means something else"):
        measure("Mine", "of mine", sign=1, null="none")(mine)
    assert name not in MEASURES
