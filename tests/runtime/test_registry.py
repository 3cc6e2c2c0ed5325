"""A name is registered once, but for a function that is defined again."""

import pytest

from interp.runtime.registry import register


def test_a_name_is_taken_once():
    known: dict[str, int] = {}
    register(known, "a", 1, "the number")
    with pytest.raises(ValueError, match="the number 'a' is registered already: choose another name"):
        register(known, "a", 1, "the number")
    assert known == {"a": 1}


def test_a_function_that_is_defined_again_takes_its_own_place():
    known: dict = {}

    def definition(answer):
        def mine():
            return answer

        return mine

    for answer in (1, 2):
        register(known, "mine", definition(answer), "the function", lambda function: function)
    assert known["mine"]() == 2
    with pytest.raises(ValueError, match="the function 'mine' is registered already"):
        register(known, "mine", test_a_name_is_taken_once, "the function", lambda function: function)
    assert known["mine"]() == 2
