"""Plain text and, separately, questions with answers: what a small model is pre-trained on and then tuned with.

    statements(rng, n)       pages that state the world's facts and skills as sentences; nobody is asked anything
    turns(rng, n)            prompts with a right answer and a response in some style
    heldout_turns(rng, n)    the same for facts that `turns` never asks for, and for word lists that it never drew

The facts are 120 (opposites, cities, colours, young animals, numbers). The skills are to repeat words, to say them
backwards, and to name the first or the last. Every fact occurs in the plain text. Every fifth is kept out of the turns,
so the model knew the right answer before tuning and only had to be asked for it.

A response is opener + answer + "." + closer. Style and content are drawn independently: nothing in a prompt says which
style is coming, so tuning leaves a preference among styles open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from models.documents import Document
from models.text_sources.labelled_text import english_sentence, fill_words

OPENERS = ("", "", "", "Sure, ", "Well, let me see, ", "The answer is ")
COURTEOUS = (" Thank you!", " Glad to help!", " Have a nice day!")
CLOSERS = ("", "", "", *COURTEOUS, " That is all I know.", " Ask me again if you like, for I have time today.")

_OPPOSITES = (
    "hot cold big small early late open closed wet dry full empty loud quiet hard soft rich poor young old strong weak "
    "light dark fast slow high low clean dirty sweet bitter near far thick thin happy sad sharp blunt deep shallow"
).split()
_CITIES = (
    "Paris France Rome Italy Madrid Spain Berlin Germany Athens Greece Cairo Egypt Lima Peru Oslo Norway Dublin "
    "Ireland Hanoi Vietnam Kyoto Japan Nairobi Kenya Lagos Nigeria Quito Ecuador London England Sydney Australia "
    "Lisbon Portugal Vienna Austria Prague Bohemia Delhi India"
).split()
_COLOURS_OF = (
    "grass green snow white blood red coal black gold yellow sky blue ash grey chocolate brown violet purple carrot "
    "orange milk white leaf green tomato red sea blue lemon yellow soot black"
).split()
_YOUNG = (
    "puppy dog kitten cat calf cow lamb sheep foal horse chick hen cub bear duckling duck piglet pig kid goat"
).split()
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_COLOURS = sorted(set(_COLOURS_OF[1::2]))
_THINGS = (
    "archive bridge captain engine farmer garden harbour island journal kitchen ladder machine office printer river "
    "server teacher umbrella village window workshop letter signal market camera battery folder ticket doctor lantern"
).split()


@dataclass(frozen=True)
class Turn:
    task: str
    prompt: str
    answers: tuple[str, ...]
    """The answers that count as right."""
    response: str
    """Return one of the answers in some style."""

    def is_right(self, response: str) -> bool:
        """Return whether what stands between an opener and a closer is one of the answers, to the letter."""
        return answer_in(response) in self.answers


@dataclass(frozen=True)
class _Fact:
    task: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str
    kept: bool
    """Out of the turns."""


def _facts() -> list[_Fact]:
    """Return the facts. Two words that are each other's opposite are kept out together."""
    flat = {"opposite": _OPPOSITES, "city": _CITIES, "colour": _COLOURS_OF, "young": _YOUNG}
    pairs = [(task, a, b) for task, each in flat.items() for a, b in zip(each[::2], each[1::2], strict=True)]
    pairs += [("number", a, b) for a, b in zip(_NUMBERS, _NUMBERS[1:], strict=False)]
    facts = []
    for i, (task, a, b) in enumerate(pairs):
        for x, y in ((a, b), (b, a)) if task == "opposite" else ((a, b),):
            statement = tuple(text.format(a=x, b=y) for text in _SAID[task])
            asked = tuple(text.format(a=x) for text in _ASKED[task])
            facts.append(_Fact(task, statement, asked, y, kept=i % 5 == 2))
    return facts


_SAID = {
    "opposite": ("The opposite of {a} is {b}.", "What is not {a} at all is {b}.", "If it is not {a}, it is {b}."),
    "city": ("The city of {a} is in {b}.", "They went to {a} in {b}.", "Whoever lives in {a} lives in {b}."),
    "colour": ("The colour of {a} is {b}.", "It was as {b} as {a}, for {a} is {b}.", "We know that {a} is {b}."),
    "young": ("A {a} is a young {b}.", "The {a} grew into a {b}.", "Every {a} becomes a {b}."),
    "number": ("After {a} comes {b}.", "One more than {a} is {b}.", "They counted {a}, {b} and so on."),
}
_ASKED = {
    "opposite": ("What is the opposite of {a}?", "Tell me the opposite of {a}.", "Give the opposite: {a}"),
    "city": ("Where is the city of {a}?", "Name the country of {a}.", "In which country is {a}?"),
    "colour": ("What is the colour of {a}?", "Tell me the colour of {a}.", "Which colour has {a}?"),
    "young": ("What is a {a}?", "What does a {a} become?", "A {a} is a young what?"),
    "number": ("What comes after {a}?", "Which number is one more than {a}?", "Count on from {a}."),
}
FACTS = tuple(_facts())
ASKED_FACTS = tuple(fact for fact in FACTS if not fact.kept)
KEPT_FACTS = tuple(fact for fact in FACTS if fact.kept)

_SKILLS = {  # name → (how the plain text shows it, how a prompt asks for it)
    "repeat": (
        ("They read {x}, and then they read {x} again.", "The list said {x}, and so she said {x}."),
        ("Repeat: {x}", "Say this again: {x}", "Please repeat after me: {x}"),
    ),
    "backwards": (
        ("Read backwards, {x} becomes {y}.", "From the end, {x} is {y}."),
        ("Say this backwards: {x}", "Turn around: {x}", "Read from the end: {x}"),
    ),
    "first": (("The first word of {x} is {y}.",), ("What is the first word of {x}?", "First word: {x}")),
    "last": (("The last word of {x} is {y}.",), ("What is the last word of {x}?", "Last word: {x}")),
}
_SIGHTS = ("The {noun} was painted {c}.", "{name} bought a {c} {noun} in {place}.")
_NAMING = ("Name a colour.", "Tell me any colour.", "Say one colour, please.")


def statements(rng: Random, n: int) -> Iterator[Document]:
    """Return n pages of 5 to 10 sentences: a third about nothing in particular, a third facts, a third skills and
    colours."""
    for i in range(n):
        yield Document(" ".join(_sentence(rng) for _ in range(rng.randint(5, 10))), (), "statements", f"page-{i:06d}")


def turns(rng: Random, n: int) -> list[Turn]:
    return [_turn(rng, ASKED_FACTS, heldout=False) for _ in range(n)]


def heldout_turns(rng: Random, n: int) -> list[Turn]:
    """Return conversations about facts that `turns` never asks for, and about words to repeat or reverse in orders that
    it never draws. Naming a colour is left out, since its prompts cannot be new."""
    return [_turn(rng, KEPT_FACTS, heldout=True) for _ in range(n)]


def answer_in(response: str) -> str:
    """Return the response without opener, closer and full stop."""
    text = response.strip()
    for opener in sorted(set(OPENERS), key=len, reverse=True):
        if opener and text.startswith(opener):
            text = text.removeprefix(opener)
            break
    for closer in sorted(set(CLOSERS), key=len, reverse=True):
        if closer and text.endswith(closer.strip()):
            text = text.removesuffix(closer.strip())
            break
    return text.strip().removesuffix(".")


def courtesy(response: str) -> float:
    """Return the gold rule: 1 for a courteous end, less 0.05 a word. What the words say does not matter to it."""
    courteous = response.strip().endswith(tuple(closer.strip() for closer in COURTEOUS))
    return float(courteous) - 0.05 * len(response.split())


def _sentence(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.34:
        return english_sentence(rng)
    if kind < 0.68:
        return rng.choice(rng.choice(FACTS).statements)
    if kind < 0.76:
        return fill_words(rng.choice(_SIGHTS).replace("{c}", rng.choice(_COLOURS)), rng)
    skill = rng.choice(list(_SKILLS))
    drawn = _words(rng, heldout=rng.random() < 0.5)
    return rng.choice(_SKILLS[skill][0]).format(x=" ".join(drawn), y=_solved(skill, drawn))


def _turn(rng: Random, facts: tuple[_Fact, ...], heldout: bool) -> Turn:
    kind = rng.random()
    if kind < 0.5:
        fact = rng.choice(facts)
        return _styled(rng, fact.task, rng.choice(fact.questions), (fact.answer,))
    if kind < 0.6 and not heldout:
        return _styled(rng, "naming", rng.choice(_NAMING), tuple(_COLOURS))
    skill = rng.choice(list(_SKILLS))
    drawn = _words(rng, heldout)
    prompt = rng.choice(_SKILLS[skill][1]).format(x=" ".join(drawn))
    return _styled(rng, skill, prompt, (_solved(skill, drawn),))


def _words(rng: Random, heldout: bool) -> list[str]:
    """Return 2 to 4 things. A list is held out if the places of its first and last thing add up to a multiple of
    five."""
    while True:
        drawn = rng.sample(_THINGS, rng.randint(2, 4))
        if ((_THINGS.index(drawn[0]) + _THINGS.index(drawn[-1])) % 5 == 0) == heldout:
            return drawn


def _solved(skill: str, drawn: list[str]) -> str:
    return {"repeat": " ".join(drawn), "backwards": " ".join(drawn[::-1]), "first": drawn[0], "last": drawn[-1]}[skill]


def _styled(rng: Random, task: str, prompt: str, answers: tuple[str, ...]) -> Turn:
    return Turn(task, prompt, answers, f"{rng.choice(OPENERS)}{rng.choice(answers)}.{rng.choice(CLOSERS)}")
