"""What a caption says of a latent, by hand-made facts, and the words for parts of characters."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.display.segments import Family, Token, TokenList, to_text, tokens_of
from interp.features.feature_store import FeatureStore
from interp.report.byte_words import ByteReader, SeenCharacters
from interp.report.captions import Caption, caption_of
from interp.report.characters import characters_of_parts, characters_of_token
from interp.report.latent_facts import rule_facts
from interp.report.naming import MOST, LabelFacts, LatentFacts, RuleFacts, SenseFacts, Surroundings, TokenFacts
from interp.report.rule_reader import RuleReader, with_main_tokens
from interp.report.whole_words import WholeWords
from interp.text.rules import Rule, plain_atom
from interp.text.short_rules import clauses_of, segments_of
from tests.planted_rules import a_rule, an_atom, tokens

A, AB, ER = a_rule(token=["a"]), a_rule(token=["a", "b"]), a_rule(token=["er"])
AFTER_X, A_IN_X = a_rule(previous=["x"]), a_rule(token=["a"], topic_10=[tokens("x")])
ER_OR_X = a_rule(token=["er", "x"])
ER_IN_X, ER_BEFORE_X = a_rule(token=["er"], topic_10=[tokens("x")]), a_rule(token=["er"], next=["x"])
IN_X = a_rule(topic_10=[tokens("x")])
A_BEFORE_X = a_rule(token=["a"], next=["x"])
IN_HEBREW = a_rule(label=["hebrew words"])
OF_CASE = a_rule(shape=["lower-case tokens"], previous=["x"])
LONG = a_rule(token=["a" * 90])
IN_TOPICS = a_rule(token=["a"], topic_10=[tokens("x"), tokens("y"), tokens("z")])


def caption(rule: Rule = AB, **known: Any) -> Caption:
    """The caption of a latent that fires mostly on "a", unless something else is known."""
    facts = {"rule_f1": 0.6, "at_strongest": 1.0}
    facts |= {"tokens": ["a", "b"], "shares": [0.6, 0.09], "strongest": ["a"]} | known
    name, of_kind = facts.pop("label", None), facts.pop("kind", None)
    label = {"f1": facts.pop("label_f1", None)}
    kind_share = facts.pop("kind_share", 0.7)
    kind = None if of_kind is None else Surroundings(of_kind, kind_share, of_kind, lift=9)
    measured = {"f1": facts.pop("rule_f1"), "precision": facts.pop("precision", None)}
    on_token = with_main_tokens(rule, facts["tokens"][:1]) if max(facts["shares"], default=0) >= MOST else None
    measured["in_common"] = facts.get("shared_by_strongest", ())
    measured["with_token"] = None if on_token is None else clauses_of(on_token)
    if shared := facts.pop("shared", None):
        facts["shared"] = clauses_of(*shared)
    return caption_of(
        LatentFacts(
            rule=rule_facts(clauses_of(rule), kind, at_strongest=facts.pop("at_strongest"), **measured),
            label=None if name is None else LabelFacts(name=name, **label),
            kind=kind,
            tokens=TokenFacts(
                texts=facts.pop("tokens"),
                anywhere=facts.pop("anywhere", ()),
                **{name: facts.pop(name) for name in ("shares", "strongest")},
            ),
            **facts,
        )
    )


def said(segments: list, rule: list) -> str:
    """The text of the JSON of a caption."""
    return "".join(words_of(one, rule) for one in segments)


def words_of(segment: Any, rule: list) -> str:
    if isinstance(segment, str):
        return segment
    if isinstance(segment, list):
        return segment[1] if len(segment) > 1 and isinstance(segment[1], str) else f'"{segment[0]}"'
    ((kind, content),) = segment.items()
    match kind:
        case "rule":
            return said(content or rule, rule)
        case "f1":
            return "" if content[0] is None else f" {content[1]}F1 {content[0]:.2f}"
        case "label":
            return content[0]
        case "sense":
            return f"{'ABC'[content[0]]}: {said(content[1], rule)}"
        case "of_sense":
            return f"sense {content}"
    return said(content, rule)


def title(**known: Any) -> str:
    one = caption(**known)
    return said(one.title, one.rule)


OF_TOKENS = '"a" 60 %, "b" 9.0 %'
LISTED = f"{OF_TOKENS} F1 0.60"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, LISTED),
        ({"rule": A}, '"a" F1 0.60'),
        ({"tokens": ["a", "c"], "rule_f1": 0.8}, '"a" or "b" F1 0.80'),
        ({"kind": "dna", "kind_share": 0.97}, LISTED),
        ({"tokens": ["a", "c"], "rule_f1": 0.45, "kind": "latex"}, '"a" 60 %, "c" 9.0 %, mostly in latex'),
        (
            {"rule": A_IN_X, "kind": "latex", "kind_share": 0.95},
            '"a", in latex F1 0.60',
        ),
        (
            {"rule": a_rule(token=["a"], topic_10=[tokens("x", "\n"), tokens("y")], before=["z"]), "kind": "latex"},
            '"a" soon after "z", mostly in latex F1 0.60',
        ),
        (
            {"rule": a_rule(token=["a"], topic_10=[tokens("x")], label=["old"]), "kind": "latex"},
            '"a" in old F1 0.60',
        ),
        ({"rule": a_rule(topic_10=[tokens("x")]), "kind": "latex"}, '"a" 60 %, mostly in latex F1 0.60'),
        (
            {"rule": a_rule(repeats=["that repeat the token before"])},
            '"a" that repeat the token before 60 % F1 0.60',
        ),
        (
            {"rule": a_rule(shape=["tokens in capitals", "numbers"]), "precision": 0.7},
            "tokens in capitals or numbers F1 0.60",
        ),
        (
            {"rule": a_rule(last_2=[("tokens that end in ", Token("er"))]), "precision": 0.7},
            'tokens that end in "er" F1 0.60',
        ),
        ({"shared_by_strongest": ["in hex"]}, f"{OF_TOKENS}, most strongly in hex F1 0.60"),
        (
            {"shared_by_strongest": ["in hex"], "rule": IN_X, "shares": [0.2], "rule_f1": 0.55, "precision": 0.6},
            "tokens, most strongly in hex F1 0.55",
        ),
        (
            {"shared_by_strongest": ["in hex"], "rule": IN_X, "shares": [0.2], "rule_f1": 0.7},
            'tokens in text with "x" F1 0.70',
        ),
        ({"shared_by_strongest": ["in hex"], "rule_f1": 0.1}, f"{OF_TOKENS}, most strongly in hex"),
        ({"shared_by_strongest": ["in hex"], "rule": A_BEFORE_X}, '"a" before "x" F1 0.60'),
        (
            {"shared_by_strongest": ["in ", Token("Bath")], "rule": A_BEFORE_X, "rule_f1": 0.5},
            '"a" before "x", most strongly in "Bath" F1 0.50',
        ),
        (
            {"shared_by_strongest": ["before ", Token("x")], "rule": A_BEFORE_X, "rule_f1": 0.5},
            '"a" before "x" F1 0.50',
        ),
        ({"shared_by_strongest": ["in hex"], "rule": LONG, "shares": [0.09, 0.09]}, f'"{"a" * 90}" F1 0.60'),
        (
            {"shared_by_strongest": ["in hex"], "rule_f1": 0.1, "shares": [0.2, 0.1]},
            'most strongly "a" in hex',
        ),
        (
            {"shared_by_strongest": ["in hex"], "label": "dna", "label_f1": 0.45, "rule_f1": 0.4},
            'dna label F1 0.45, most strongly "a" in hex',
        ),
        ({"rule_f1": 0.45, "shares": [0.2, 0.1]}, 'most strongly "a"'),
        ({"rule_f1": 0.45}, OF_TOKENS),
        ({"rule_f1": 0.1, "tokens": [], "shares": [], "strongest": []}, "No rule in words holds."),
        ({"tokens": ["a"], "shares": [1.0], "rule_f1": 0.1}, '"a"'),
        (
            {"rule_f1": 0.1, "shares": [0.2, 0.1], "strongest": ["b"]},
            'most strongly "b"',
        ),
        (
            {"rule_f1": 0.1, "shares": [0.2, 0.1], "strongest": ["b"], "kind": "latex", "kind_share": 0.95},
            'most strongly "b", in latex',
        ),
        ({"rule_f1": 0.1, "tokens": list("abc"), "shares": [0.6, 0.1, 0.03]}, '"a" 60 %, "b" 10 %'),
        (
            {"rule": A_IN_X, "rule_f1": 0.1, "kind": "dna", "kind_share": 0.7},
            '"a" 60 %, "b" 9.0 %, mostly in dna',
        ),
        ({"strongest": ["c", "d"]}, LISTED),
        ({"rule": AFTER_X}, '"a" after "x" 60 % F1 0.60'),
        ({"rule": AFTER_X, "shares": [0.95]}, '"a" after "x" F1 0.60'),
        ({"rule": AFTER_X, "shares": [0.4]}, 'tokens after "x" F1 0.60'),
        ({"rule": AFTER_X, "shares": [0.4], "kind": "latex"}, 'tokens after "x", mostly in latex F1 0.60'),
        (
            {"rule": a_rule(script=["tokens in Hebrew script"]), "shares": [0.4], "kind": "hebrew"},
            "tokens in Hebrew script F1 0.60",
        ),
        ({"rule": A_IN_X, "rule_f1": 0.55, "precision": 0.7, "kind": "latex"}, '"a" 45 %, mostly in latex F1 0.55'),
        ({"rule": AFTER_X, "shares": [0.4], "precision": 0.45}, 'tokens after "x" F1 0.60'),
        (
            {"rule": OF_CASE, "shares": [0.4], "precision": 0.7},
            'lower-case tokens after "x" F1 0.60',
        ),
        ({"rule": AFTER_X, "shares": [0.4], "precision": 0.9}, 'tokens after "x" F1 0.60'),
        (
            {"rule": AFTER_X, "rule_f1": 0.45, "shares": [0.2, 0.1], "precision": 0.6, "kind": "latex"},
            'tokens after "x", mostly in latex F1 0.45',
        ),
        (
            {"rule": AFTER_X, "rule_f1": 0.45, "precision": 0.6},
            OF_TOKENS,
        ),
        (
            {"rule": AFTER_X, "rule_f1": 0.45, "shares": [0.2, 0.1], "precision": 0.4},
            'most strongly "a"',
        ),
        (
            {"rule": a_rule(shape=["numbers"]), "rule_f1": 0.45, "shares": [0.2, 0.1], "precision": 0.6},
            "numbers F1 0.45",
        ),
        ({"rule": LONG}, OF_TOKENS),
        ({"rule": LONG, "shares": [0.09, 0.09]}, f'"{"a" * 90}" F1 0.60'),
        ({"rule": IN_TOPICS}, '"a" F1 0.60'),
        ({"rule": A, "shares": [0.6, 0.12]}, '"a" 60 %, "b" 12 % F1 0.60'),
        (
            {"rule": A, "tokens": list("abcd"), "shares": [0.5, 0.2, 0.1, 0.1]},
            '"a" 50 %, "b" 20 %, "c" 10 %, "d" 10 % F1 0.60',
        ),
        ({"rule": AFTER_X, "shares": [0.6, 0.3]}, '"a" after "x" 60 % F1 0.60'),
        ({"rule_f1": 0.59, "precision": 0.5}, f"{OF_TOKENS} F1 0.59"),
        ({"rule_f1": 0.55, "precision": 0.7}, f"{OF_TOKENS} F1 0.55"),
        ({"rule_f1": 0.55, "precision": 0.38}, f"{OF_TOKENS} F1 0.55"),
        ({"at_strongest": 0.3}, OF_TOKENS),
        ({"at_strongest": 0.3, "strongest": ["c", "d"]}, OF_TOKENS),
        (
            {"at_strongest": 0.3, "strongest": ["e"], "tokens": list("abcde"), "shares": [0.4, *[0.1] * 4]},
            '"a" 40 %, "b" 10 %, "c" 10 %, "d" 10 %; most strongly "e"',
        ),
        (
            {"rule": A_BEFORE_X, "rule_f1": 0.45, "precision": 0.4, "anywhere": [2.4, 0.6]},
            '"a" before "x" 51 % F1 0.45',
        ),
        (
            {"rule": A_BEFORE_X, "rule_f1": 0.45, "precision": 0.6, "anywhere": [2.4, 0.6]},
            f"{OF_TOKENS} tokens F1 0.34",
        ),
        ({"rule_f1": 0.45, "anywhere": [0.7, 0.2]}, f"{OF_TOKENS} tokens F1 0.73"),
        ({"rule_f1": 0.2, "shared": A, "anywhere": [1.4, 0.2]}, '"a" 60 % tokens F1 0.50'),
        ({"rule_f1": 0.2, "shared": AFTER_X, "shared_share": 0.8, "anywhere": [1.4, 0.2]}, 'after "x" 80 %'),
        ({"rule": AFTER_X, "rule_f1": 0.4, "shared": IN_HEBREW, "shares": [0.2]}, 'most strongly "a"'),
        (
            {"rule": AFTER_X, "rule_f1": 0.4, "shared": a_rule(shape=["numbers"]), "shares": [0.2]},
            'tokens after "x" F1 0.40',
        ),
        ({"rule": AFTER_X, "rule_f1": 0.45, "shares": [0.02], "strongest": ["a"]}, 'tokens after "x" F1 0.45'),
        (
            {"rule": AB, "tokens": list("acd"), "shares": [0.4, 0.04, 0.03]},
            '"a" or "b" F1 0.60',
        ),
        (
            {"rule": AB, "tokens": list("abcde"), "shares": [0.3, 0.1, 0.04, 0.03, 0.03]},
            '"a" 30 %, "b" 10 % and others such as "c" or "d" F1 0.60',
        ),
        ({"at_strongest": 0.3, "strongest": ["c"], "shares": [0.1, 0.1]}, 'most strongly "c"'),
        ({"rule": AFTER_X, "rule_f1": 0.2}, OF_TOKENS),
        ({"rule": IN_HEBREW, "kind": "hebrew", "kind_share": 1.0}, '"a" in hebrew words 60 % F1 0.60'),
        ({"rule_f1": 0.2, "shared": AFTER_X}, 'most strongly "a"'),
        ({"rule_f1": 0.2, "shared": AFTER_X, "shared_share": 0.8}, 'after "x" 80 %'),
        ({"rule_f1": 0.2, "shared": AB, "kind": "latex"}, '"a" or "b" 69 %, mostly in latex'),
        ({"rule_f1": 0.8, "shared": AFTER_X}, f"{OF_TOKENS} F1 0.80"),
        ({"rule_f1": 0.2, "shared": a_rule(shape=["numbers"])}, OF_TOKENS),
        ({"rule_f1": 0.2, "shared": a_rule(shape=["numbers"]), "shares": [0.2]}, 'most strongly "a"'),
        ({"rule": A_BEFORE_X, "rule_f1": 0.4, "shared": A, "precision": 0.6}, '"a" before "x" 30 % F1 0.40'),
        ({"rule": A_BEFORE_X, "rule_f1": 0.4, "shared": A, "precision": 0.4}, '"a" 60 %'),
        ({"rule": A_BEFORE_X, "rule_f1": 0.4, "shared": AB, "precision": 0.6}, '"a" or "b" 69 %'),
        ({"rule": AFTER_X, "rule_f1": 0.4, "shared": AB, "precision": 0.6}, '"a" after "x" 30 % F1 0.40'),
        ({"rule": A_IN_X, "rule_f1": 0.4, "shared": A, "precision": 0.6}, '"a" 60 %'),
        (
            {"rule": a_rule(token=["a", "ש"]), "tokens": ["ש", "a"], "kind": "code"},
            '"ש" 60 %, "a" 9.0 % F1 0.60',
        ),
        ({"label": "python code", "label_f1": 0.57}, "python code label F1 0.57"),
        ({"label": "python code", "label_f1": 0.5}, LISTED),
        ({"has_text": False}, "No label describes where it fires."),
    ],
)
def test_a_title_says_what_tells_most_of_the_firings(known, words):
    assert title(**known) == words


def test_a_title_of_several_senses_tells_each_and_the_rest():
    senses = [
        SenseFacts(clauses=clauses_of(A), f1=0.9, share=0.5, tokens=TokenFacts(strongest=["a"])),
        SenseFacts(
            clauses=clauses_of(an_atom("previous", "b")),
            f1=0.2,
            share=0.3,
            tokens=TokenFacts(strongest=["c", "d", "c"]),
        ),
        SenseFacts(clauses=[], f1=None, share=0.05, tokens=TokenFacts(strongest=["e"])),
    ]
    assert title(senses=senses) == (
        "A: sense 0\u00a050 % of activation, F1 0.90B: sense 1\u00a030 % of activation, F1 0.20"
        'C: most strongly "e"\u00a05.0 % of activationof no sense\u00a015 % of activation'
    )
    own = caption(rule=A, rule_f1=0.7, senses=senses)
    assert own.brief == [
        {"senses": [[[["a"]], 0.5, 0.9], [["after ", ["b"]], 0.3, 0.2], [[], 0.05, None]]},
        {"no_sense": 0.15},
    ]
    assert own.f1 == 0.2, "the smaller one of its first two senses, and none that of a rule for all firings"
    assert caption(rule=A, rule_f1=0.7, senses=senses[::2]).f1 is None, "one of them has no rule"
    small = [replace(one, share=0.1) for one in senses]
    assert title(senses=small) == (
        "A: sense 0\u00a010 % of activation, F1 0.90B: sense 1\u00a010 % of activation, F1 0.20"
        'C: most strongly "e"\u00a010 % of activationof no sense\u00a070 % of activation'
    )
    assert {"more_senses": [[["after ", ["b"]], 0.1, 0.2], [[], 0.1, None]]} in caption(senses=small).brief
    of_five = title(senses=[*small, small[1], small[1]])
    assert of_five.endswith("F1 0.904 more senses\u00a040 % of activationof no sense\u00a050 % of activation")
    assert "A: sense 0\u00a0F1 0.90B: sense 1" in title(senses=[replace(one, share=None) for one in senses])
    unknown = [replace(one, share=None) for one in senses]
    assert "more_senses" not in str(caption(senses=unknown).brief), "all are told where shares are not known"


def test_a_brief_is_the_rule_unless_something_else_tells_more():
    assert caption(rule=A).brief is None
    assert caption(rule=AFTER_X).brief == [{"rule": 0}, {"small": [" 60 %"]}], "it has the token that is most of them"
    assert caption(rule=a_rule(shape=["numbers"])).brief is None
    assert caption(rule=(plain_atom("in verse"),)).brief is None, "words of a person may"
    assert caption(fires=False).brief == [{"muted": ["It never fired."]}]
    assert caption(rule_f1=0.1).brief == [
        {"rule": [["a"]]},
        {"small": [" 60 %"]},
        ", ",
        {"rule": [["b"]]},
        {"small": [" 9.0 %"]},
    ]
    of_label = caption(label="dna", label_f1=0.9).brief
    assert of_label == [{"label": ("dna", True)}]
    for none_or_many in ([], list("abcd")):
        assert caption(label="dna", label_f1=0.9, strongest=none_or_many).brief == [{"label": ("dna", True)}]


def test_the_rule_stands_below_a_title_that_is_something_else_unless_it_fails_at_all_strongest_firings():
    assert caption().below is None
    assert caption(rule=a_rule(token=["a", "z"]), rule_f1=0.45).below is not None
    assert caption(rule=a_rule(token=["a", "z"]), rule_f1=0.45, at_strongest=0.001).below is None
    assert caption(rule_f1=0.45).below is None, "its tokens are those of the title"
    assert caption(rule=AFTER_X, rule_f1=0.45).below is not None
    dna = {"label": "dna", "label_f1": 0.9}
    again = caption(rule=a_rule(label=["dna"]), shares=[0.2], **dna)
    assert again.below is None and again.rule == [] and "in dna" in str(again.measured), "it says the label again"
    more = caption(rule=a_rule(label=["dna"], previous=["x"]), shares=[0.2], **dna)
    assert more.below is not None and "dna" not in str(more.rule) and "dna" in str(more.measured), "it says it once"
    assert "in dna" in str(more.below), "below, the rule is whole, as its F1 is"
    told = caption(rule=A_IN_X, kind="latex", kind_share=0.95)
    assert told.below is None, "nothing stands below that the title says"
    assert "in text with" in str(told.measured) and caption().measured is None, "its F1 is that of all of the rule"


OF_BERLIN = WholeWords(("er",), ("Berlin", "owner"), share=0.62, f1=0.7)


@pytest.mark.parametrize(
    ("whole", "known", "words"),
    [
        ({}, {"rule": ER_OR_X}, '"er" in "Berlin" or "owner" 62 % F1 0.70'),
        ({}, {"rule": ER_IN_X}, '"er" in "Berlin" or "owner" 62 % F1 0.70'),
        ({"words": ("Berlin",), "share": 0.95}, {"rule": ER_BEFORE_X}, '"er" in "Berlin" F1 0.70'),
        ({}, {"rule_f1": 0.9, "tokens": ["a", "b"], "strongest": ["a"]}, '"a" or "b" F1 0.90'),
        ({}, {"rule": ER, "rule_f1": 0.9}, '"er", in "Berlin" or "owner" 62 % F1 0.90'),
        (
            {"words": ("Yusuf",), "f1": 0.64},
            {"rule": AFTER_X, "rule_f1": 0.71},
            '"er" in "Yusuf" 62 % F1 0.64',
        ),
        ({"f1": 0.2}, {"rule": ER, "rule_f1": 0.1}, '"er" in "Berlin" or "owner" 62 % F1 0.20'),
        (
            {"share": 0.9},
            {"rule": AFTER_X, "kind": "latex", "kind_share": 0.95, "strongest": ["c"]},
            '"er" in "Berlin" or "owner", in latex F1 0.70',
        ),
    ],
)
def test_a_piece_of_a_word_is_told_with_the_words_that_its_firings_are_in(whole, known, words):
    facts = {"whole": OF_BERLIN._replace(**whole), "tokens": ["er"], "shares": [1.0], "strongest": ["er"]} | known
    assert title(**facts) == words
    is_told = known.get("rule") is not ER_OR_X
    assert (caption(**facts).below is None) == is_told, "the rule stands below a title that says less than its tokens"


def seen(ended: str = "", begun: str = "", passed: str = "") -> SeenCharacters:
    return SeenCharacters(Counter(ended), Counter(begun), Counter(passed))


@pytest.mark.parametrize(
    ("token", "own", "parts"),
    [
        ("⟨a9⟩", seen(ended="שש"), [("…ש", "the last byte of the Hebrew letter ש")]),
        ("⟨b7⟩", seen(ended="בבבбз"), [("…ב б", "the last byte of ב, б …")]),
        (
            "⟨94⟩",
            seen(ended="ה" * 12 + "销" * 12 + "Δ"),
            [("…ה 销", "the last byte of ה, 销 …")],
        ),
        ("⟨88⟩", seen(ended="么览览"), [("…览 么", "the last byte of 览, 么")]),
        ("⟨e6⟩⟨9c⟩", seen(begun="期本"), [("期 本…", "the first two bytes of 期, 本")]),
        ("⟨93⟩", seen(ended="道ΓГ"), [("…道 Γ", "the last byte of 道, Γ …")]),
        ("⟨d9⟩", seen(begun="ـ"), [("ف–ي…", "the first byte of the Arabic tatweel")]),
        ("⟨b8⟩", seen(passed="中", ended=""), [("…中", "the middle byte of 中")]),
        (" קו⟨d7⟩", seen(begun="דש"), [" קו", ("א–ת…", "the first byte of another Hebrew letter")]),
        ("⟨d0⟩", seen(begun="баг"), [("А–п…", "the first byte of a Cyrillic letter from А to п")]),
        ("⟨d1⟩", seen(begun="ф" * 42 + "ххх"), [("р–я…", "the first byte of a Cyrillic letter from р to я")]),
        ("⟨e2⟩⟨80⟩", seen(begun="—"), [("—…", "the first two bytes of —")]),
        (
            "⟨9c⟩⟨d7⟩",
            seen(ended="ל", begun="אב"),
            [("…ל", "the last byte of the Hebrew letter ל"), ("א–ת…", "the first byte of a Hebrew letter")],
        ),
    ],
)
def test_parts_of_characters_are_named_by_those_that_stand_where_a_latent_fires(token, own, parts):
    assert ByteReader({token: own}).token(token) == Token(token, tuple(parts))


def test_a_part_that_was_not_seen_is_named_by_those_seen_elsewhere_or_its_bytes():
    elsewhere = {"⟨88⟩": (["么 览 …", "ш"], [])}
    assert ByteReader({}, elsewhere).token("⟨88⟩").pieces == (("…么 览", "a later byte of 么, 览 …"),)
    own = ByteReader({"⟨88⟩": seen(ended="出览")}, elsewhere, "Han character").token("⟨88⟩").pieces
    assert own == (("…么 览", "the last byte of 么, 览"),), "as wherever the page draws it"
    of_cyrillic = ByteReader({}, elsewhere, "Cyrillic letter")
    assert of_cyrillic.token("⟨88⟩").pieces == (("…ш", "the last byte of the Cyrillic letter ш"),)
    assert ByteReader().token("⟨d7⟩").pieces == (("א–ת…", "the first byte of a Hebrew letter"),)
    assert ByteReader().token("⟨ff⟩").pieces == (("…ff", "a later byte of a character"),)
    assert ByteReader().token("⟨f0⟩").pieces[0].label == "f0… emoji"
    assert ByteReader({"⟨8e⟩": seen(ended="َ")}).token("⟨8e⟩").pieces[0].label == "…arabic fatha"
    assert ByteReader().token("plain") == Token("plain") and ByteReader().family("plain") is None
    assert ByteReader().family("⟨d7⟩") == Family("parts of Hebrew letters", ("Hebrew letters",))


def test_a_part_is_never_named_by_characters_of_another_script():
    elsewhere = {"⟨82⟩": (["如 育 …"], [])}
    own = ByteReader({"⟨82⟩": seen(ended="あ" * 20)}, elsewhere).token("⟨82⟩").pieces
    assert own == (("…あ", "the last byte of the kana letter あ"),)


def test_the_part_of_a_character_on_which_it_mostly_fires_is_told_in_words_with_and_without_a_space():
    reader = ByteReader({text: seen(begun="рст") for text in ("⟨d1⟩", " ⟨d1⟩")} | {"⟨e6⟩": seen(begun="明")})
    texts = [" ⟨d1⟩", "⟨d1⟩", "⟨e6⟩"]
    listed = clauses_of(a_rule(token=["⟨d1⟩", " ⟨d1⟩", "⟨e6⟩", "⟨e7⟩", "⟨e8⟩"]), reader.family)
    rule = RuleFacts(clauses=listed, f1=0.9, at_strongest=1.0)
    tokens = TokenFacts(texts=texts, shares=[0.5, 0.2, 0.1], strongest=["⟨d1⟩"])
    one = LatentFacts(rule=rule, tokens=tokens, reader=reader)
    assert said(caption_of(one).title, []) == '"⟨d1⟩" 70 %, "⟨e6⟩" 10 %'
    lead = ByteReader({**reader.seen, "⟨d0⟩": seen(begun="абв")})
    tokens = replace(tokens, texts=["⟨d1⟩", "⟨d0⟩", "⟨e6⟩"], shares=[0.3, 0.2, 0.1])
    of_two = replace(one, rule=RuleFacts(f1=0.9), tokens=tokens, reader=lead)
    assert said(caption_of(of_two).title, []).startswith("parts of Cyrillic letters 50 %")


def test_parts_of_characters_of_one_script_are_told_together(hebrew_rules):
    def read_rule(**said):
        return segments_of(hebrew_rules(0, a_rule(**said)))

    (parts,) = read_rule(token=["⟨a9⟩", "⟨90⟩"])
    assert isinstance(parts, TokenList) and parts.groups[0].name == "parts of Hebrew letters (ש, א)"
    assert to_text(read_rule(token=["⟨a9⟩", "x"])) == 'the last byte of the Hebrew letter ש or "x"'
    mixed = read_rule(token=[" קו⟨d7⟩", " י⟨d7⟩", " ב⟨d7⟩"])
    assert [token.text for token in tokens_of(mixed)] == [" קו⟨d7⟩", " י⟨d7⟩", " ב⟨d7⟩"], "with letters each is told"


def test_the_rule_of_a_sense_begins_with_the_one_or_two_tokens_on_which_it_fires(hebrew_rules):
    def rule_on(fires_on: list[str], rule: Any) -> str:
        return to_text(segments_of(hebrew_rules.of_sense(0, {"fires_on": fires_on}, rule)))

    assert rule_on(["x"] * 5, AFTER_X) == rule_on(["x"] * 5, an_atom("previous", "x")) == '"x" after "x"'
    assert rule_on([*"aabba"], AFTER_X) == '"a" or "b" after "x"'
    assert rule_on([*"aaaab"], AFTER_X) == 'tokens after "x"', "one firing on a token may be a straggler"
    assert rule_on(["x"] * 5, A_BEFORE_X) == '"a" before "x"'
    assert rule_on([], AFTER_X) == 'tokens after "x"'


@pytest.fixture
def hebrew_rules(tmp_path) -> RuleReader:
    """A reader of rules over a text in which latent 0 fires on tokens that end in the first byte of a Hebrew letter."""
    vocab = ["x", " קו⟨d7⟩", " י⟨d7⟩", " ב⟨d7⟩", "⟨a9⟩", "⟨90⟩"]
    tokens = torch.tensor([[1, 4, 2, 5, 3, 4, 0, 0]]).int()
    z = scipy.sparse.csr_matrix(np.isin(tokens.reshape(-1, 1), [1, 2, 3]).astype(np.float32))
    store = FeatureStore.from_codes(tokens, z, tmp_path / "store", vocab=vocab)
    return RuleReader(store, [[" קו⟨d7⟩"]], characters_of_parts(vocab, tokens.numpy()))


def test_the_characters_of_a_token_are_those_that_it_begins_ends_or_passes():
    assert list(characters_of_token(["x", "⟨d7⟩", "⟨a9⟩⟨d7⟩", "⟨90⟩"], 2)) == [("ש", False, True), ("א", True, False)]
    assert list(characters_of_token(["⟨e4⟩", "⟨b8⟩", "⟨ad⟩"], 1)) == [("中", False, False)]
    assert list(characters_of_token(["a", "b"], 1)) == []
