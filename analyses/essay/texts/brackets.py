"""Code-like text, and small problems whose answers need a stack or a copy.

    code_documents     def kumo(ba, tife):          names drawn anew for each function and used again in it,
                        zu = [ba, {tife}]           every bracket closed in the order of a stack
                        return kumo(zu, [ba])
    close              ([{}=])                      the brackets that are still open, from the inside out
    copy               mirota=mirota                the same letters once more
    stack              ab-c=ca                      what is left after pushes (a letter) and pops (-), from the top

The size of a problem is the number of characters in its answer.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from models.documents import Document

TASKS = ("close", "copy", "stack")
CLOSING = {"(": ")", "[": "]", "{": "}"}
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_LETTERS = "abdefgikmnort"


class Problem(NamedTuple):
    question: str
    """Up to and with the equals sign."""
    answer: str

    @property
    def line(self) -> str:
        return f"{self.question}{self.answer}\n"


def problem(task: str, size: int, rng: Random) -> Problem:
    """Return one problem with an answer of `size` ≥ 1 characters."""
    if task not in TASKS or size < 1:
        raise ValueError(f"task={task!r} must be one of {', '.join(TASKS)}, and size={size} at least 1")
    if task == "copy":
        letters = "".join(rng.choices(_LETTERS, k=size))
        return Problem(f"{letters}=", letters)
    steps = _walk(size, rng)
    kept: list[str] = []
    shown = ""
    for step in steps:
        if step > 0:
            kept.append(rng.choice("([{" if task == "close" else _LETTERS))
            shown += kept[-1]
        else:
            gone = kept.pop()
            shown += CLOSING[gone] if task == "close" else "-"
    answer = "".join(CLOSING[each] if task == "close" else each for each in reversed(kept))
    return Problem(f"{shown}=", answer)


def problem_documents(sizes: Sequence[int], rng: Random, *, lines: int = 12) -> Iterator[Document]:
    """Yield endless sheets of problems, tasks and sizes drawn evenly."""
    number = 0
    while True:
        text = "".join(problem(rng.choice(TASKS), rng.choice(sizes), rng).line for _ in range(lines))
        yield Document(text, (), "problems", f"problems-{number:06d}")
        number += 1


def code_documents(rng: Random, *, functions: int = 4, depth: int = 3) -> Iterator[Document]:
    """Yield endless modules of a few functions; an expression nests at most `depth` brackets."""
    number = 0
    while True:
        text = "".join(_function(rng, depth) for _ in range(functions))
        yield Document(text, (), "code", f"code-{number:06d}")
        number += 1


def _walk(size: int, rng: Random) -> list[int]:
    """Return pushes (+1) and pops (−1) that end at `size` and never go below zero. One or two pairs cancel out."""
    pops = rng.randint(1, 2)
    pushes, height, steps = size + pops, 0, []
    while pushes or pops:
        # Drawn as if all orders were alike, but for pops of an empty stack.
        up = pushes > 0 and (height == 0 or pops == 0 or rng.random() < pushes / (pushes + pops))
        steps.append(1 if up else -1)
        height += steps[-1]
        pushes, pops = pushes - up, pops - (not up)
    return steps


def _name(rng: Random) -> str:
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))


def _function(rng: Random, depth: int) -> str:
    name, *scope = (_name(rng) for _ in range(rng.randint(3, 4)))
    lines = [f"def {name}({', '.join(scope)}):"]
    for _ in range(rng.randint(1, 2)):
        new = _name(rng)
        lines.append(f" {new} = {_expression(rng, name, scope, depth)}")
        scope.append(new)
    lines.append(f" return {_expression(rng, name, scope, depth)}")
    return "\n".join(lines) + "\n"


def _expression(rng: Random, function: str, scope: Sequence[str], depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(scope)
    inside = ", ".join(_expression(rng, function, scope, depth - 1) for _ in range(rng.randint(1, 2)))
    opening = rng.choice("([{")
    return (function if opening == "(" else "") + opening + inside + CLOSING[opening]
