"""What names a latent, by hand-made facts, and the words for parts of characters."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.display.segments import Family, Token, TokenList, name_of_letter, to_text, tokens_of
from interp.features.feature_store import FeatureStore
from interp.report.byte_words import ByteReader, SeenCharacters
from interp.report.captions import caption_of
from interp.report.characters import characters_of_parts, characters_of_token
from interp.report.latent_facts import Surroundings, in_brief
from interp.report.naming import (
    LEAST_F1,
    MARGIN,
    N_LISTED,
    Described,
    Description,
    LatentFacts,
    growing_lists,
    name_of,
    share_among,
)
from interp.report.rule_reader import RuleReader
from interp.text.rules import plain_atom
from interp.text.short_rules import clauses_of, segments_of
from tests.planted_rules import a_rule, an_atom, short, tokens

AFTER_X, A_BEFORE_X = a_rule(previous=["x"]), a_rule(token=["a"], next=["x"])
LABEL = Description("label", ["python"], 0.6)
ONE = Description("tokens", [Token("a")], 0.5)
TWO = Description("tokens", [Token("a"), " or ", Token("b")], 0.7)
RULE = Description("rule", segments_of(short(previous=["x"])), 0.8)


def named(*descriptions: Description, **known: Any) -> str:
    name = name_of(Described(descriptions=descriptions, **{"otherwise": ["most strongly ", Token("z")]} | known))
    return to_text([*name.segments, *([", most strongly ", *name.after] if name.after else [])])


def test_the_best_description_names_a_latent():
    assert named(LABEL, ONE, TWO, RULE) == 'tokens after "x"'
    assert named(LABEL, ONE, TWO) == '"a" or "b"'
    in_words = Description("rule", ["in verse"], None)
    assert named(LABEL, TWO, in_words) == "in verse", "the words of a person are taken to hold"


def test_a_description_that_is_easier_to_read_may_be_worse_by_the_margin():
    near = RULE.f1 - MARGIN
    assert named(LABEL._replace(f1=near), TWO._replace(f1=near), RULE) == "python", "a label is easiest"
    in_words = Description("words", [Token("a"), " in ", Token("cab")], near)
    assert named(in_words, TWO, RULE) == '"a" in "cab"', "then whole words"
    assert named(ONE._replace(f1=near), TWO._replace(f1=near), RULE) == '"a"', "of several lists, the shortest"
    assert named(LABEL._replace(f1=near - 0.01), RULE) == 'tokens after "x"'


def test_where_no_description_holds_the_name_says_so_and_has_no_f1():
    weak = ONE._replace(f1=LEAST_F1 - 0.01)
    assert named(weak) == named() == 'most strongly "z"'
    assert name_of(Described(descriptions=[weak])).f1 is None and name_of(Described(descriptions=[ONE])).f1 == 0.5
    mostly = ["mostly before ", Token("x")]
    assert named(weak, otherwise=mostly, in_common=["in hex"]) == 'mostly before "x", most strongly in hex'
    assert named(weak, otherwise=mostly, in_common=["after ", Token("x")]) == 'mostly before "x"', "it has that token"


def test_the_strongest_firings_are_told_where_the_description_does_not_hold_at_most_of_them():
    past = TWO._replace(at_strongest=0.4)
    assert named(past, strongest=[Token("c")], in_common=["in hex"]) == '"a" or "b", most strongly "c"'
    assert named(past, strongest=[Token("a"), " or ", Token("b")]) == '"a" or "b"', "they are told"
    assert named(TWO, strongest=[Token("c")], in_common=["in hex"]) == '"a" or "b"', "it holds at them"


def test_of_one_token_it_is_told_what_its_strongest_firings_have_in_common():
    assert named(ONE, in_common=["in hex"]) == '"a", most strongly in hex'
    assert named(LABEL, in_common=["in hex"]) == "python"
    assert named(Description("rule", [Token("a"), " in hex"], 0.9), in_common=["in hex"]) == '"a" in hex'


def test_a_token_stands_with_the_longer_words_that_it_is_in_unless_its_strongest_firings_tell_some():
    mostly, also = ["mostly in ", Token("cab")], ["also in longer words"]
    in_words = ["in ", Token("bar")]
    assert caption_of(facts(ONE._replace(beyond=mostly))).text == '"a", mostly in "cab"'
    both = caption_of(facts(ONE._replace(beyond=mostly), in_common=["in hex"]))
    assert both.text == '"a", mostly in "cab", most strongly in hex'
    assert [*map(list, both.brief)] == [["rule"], ["apart"], ["apart"]]
    assert both.short == [["a"], ", mostly in ", ["cab"]]
    assert caption_of(facts(ONE._replace(beyond=mostly), in_common=in_words)).text == '"a", mostly in "cab"'
    assert caption_of(facts(ONE._replace(beyond=also), in_common=in_words)).text == '"a", most strongly in "bar"'


def test_a_name_that_another_latent_has_stands_with_what_tells_its_strongest_firings():
    taken = name_of(Described(descriptions=[LABEL], strongest=[Token("c")]), is_taken=True)
    assert taken.after == [Token("c")] and name_of(Described(descriptions=[LABEL], strongest=[Token("c")])).after == []
    told = name_of(Described(descriptions=[LABEL], strongest=[Token("c")], in_common=["in hex"]), is_taken=True)
    assert told.after == ["in hex"]


def test_a_rule_that_names_no_token_stands_with_those_of_its_strongest_firings():
    vague = Description("rule", ["tokens inside a word in dna"], 0.9)
    assert named(vague, strongest=[Token("c"), " ", "in dna"]) == 'tokens inside a word in dna, most strongly "c"'
    numbers = Description("rule", ["numbers in dna"], 0.9)
    assert named(numbers, strongest=[Token("c")]) == "numbers in dna", "it says what they are"


def test_unlike_tokens_that_no_description_covers_are_said_to_have_no_clear_rule():
    unlike = {"otherwise": ["most strongly ", Token("z"), " or ", Token("y")], "is_unclear": True}
    one = caption_of(LatentFacts(**unlike))
    assert one.text == 'no clear rule; most strongly "z" or "y"' and one.short[0] == "most strongly "
    assert one.brief == [{"muted": ["no clear rule; ", {"rule": ["most strongly ", ["z"], " or ", ["y"]]}]}]
    assert named(ONE, **unlike) == '"a"'


def test_a_letter_that_is_all_of_a_name_is_called_by_its_name():
    letter = caption_of(facts(Description("tokens", [Token(" ק")], 0.9)))
    assert letter.text == '" ק" (Hebrew qof)' and letter.short == [[" ק"]]
    assert name_of_letter("\u0651") == "shadda" and name_of_letter("q") is name_of_letter("קק") is None


def test_lists_grow_by_what_raises_the_f1_most():
    counts = {"often": (0.4, 4.0), "most": (0.4, 0.5), "part": (0.2, 0.2), "rest": (0.1, 3.0)}
    assert list(growing_lists(counts)) == [
        (["most"], round(2 * 0.4 / 1.5, 3)),
        (["most", "part"], round(2 * 0.6 / 1.7, 3)),
    ]
    even = {str(k): (0.1, 0.1) for k in range(9)}
    assert [len(listed) for listed, _ in growing_lists(even)] == [*range(1, N_LISTED + 1)]
    assert list(growing_lists({})) == []


def test_shares_are_of_those_listed():
    assert share_among(["a", "b", "a", "c"], ["a", "c"]) == 0.75
    assert share_among([], ["a"]) == 1, "nothing is left out"


def test_a_kind_of_text_that_is_told_by_tokens_has_the_label_of_most_firings_instead():
    in_x, kind = short(token=["a"], topic_10=[tokens("x")]), Surroundings("latex", 0.7, "latex", lift=9)
    assert to_text(segments_of(in_brief(in_x, kind))) == '"a" in latex'
    assert to_text(segments_of(in_brief(in_x, None))) == '"a" in some kinds of text'
    of_label = short(token=["a"], label=["old"])
    assert in_brief(of_label, kind) == of_label


def facts(*descriptions: Description, rule: Any = AFTER_X, **known: Any) -> LatentFacts:
    return LatentFacts(descriptions=descriptions, rule=clauses_of(rule), **known)


def test_a_brief_is_none_where_the_rule_is_the_name():
    one = caption_of(facts(RULE))
    assert (one.brief, one.text, one.f1, one.head) == (None, 'tokens after "x"', 0.8, "tokens")
    past = caption_of(facts(RULE._replace(at_strongest=0), strongest=[Token("c")]))
    assert past.brief == [{"rule": 0}, {"apart": [", most strongly ", ["c"]]}]
    assert past.text == 'tokens after "x", most strongly "c"' and past.short == ["tokens after ", ["x"]]
    of_person = caption_of(facts(Description("rule", ["in verse"], 0.9), rule=(plain_atom("in verse"),)))
    assert of_person.brief is None and of_person.rule == ["in verse"]


def test_a_brief_has_what_else_names_it():
    assert caption_of(facts(ONE)).brief == [{"rule": [["a"]]}]
    assert caption_of(LatentFacts(otherwise=["It never fired."])).brief == [{"rule": ["It never fired."]}]
    assert caption_of(facts(LABEL)).brief == [{"label": "python"}]


def test_a_label_that_names_a_latent_is_not_told_again_by_its_rule():
    again = caption_of(facts(LABEL, rule=a_rule(label=["python"])))
    assert again.rule == [] and again.measured is not None and "in python" in str(again.measured)
    more = caption_of(facts(LABEL, rule=a_rule(label=["python"], previous=["x"])))
    assert more.rule == ["tokens after ", ["x"]] and "python" in str(more.measured)
    assert caption_of(facts(ONE)).measured is None, "its F1 is that of the rule shown"


def sense(word: str, f1: float | None = None, share: float | None = 0.2) -> Described:
    descriptions = [] if f1 is None else [Description("rule", [Token(word)], f1)]
    return Described(descriptions=descriptions, otherwise=["most strongly ", Token(word)], share=share)


def test_senses_are_named_in_the_same_way_and_the_first_ones_are_told():
    several = caption_of(facts(RULE, senses=[sense("a", 0.9, 0.5), sense("b"), sense("c", 0.8)]))
    assert several.brief == [
        {"senses": [[[["a"]], 0.5, 0.9], [["most strongly ", ["b"]], 0.2, None], [[["c"]], 0.2, 0.8]]}
    ]
    assert several.f1 is None, "one of its first two has none"
    assert several.text == '"a"; most strongly "b"; "c"'
    assert several.short == [{"sense": [0, [["a"]]]}, "; +2 senses"]
    two = caption_of(facts(RULE, senses=[sense("a", 0.9), sense("b", 0.7)]))
    assert two.f1 == 0.7 and two.short[1] == "; +1 sense"
    many = caption_of(facts(senses=[sense(word, 0.9) for word in "abcdef"]))
    assert many.brief is not None and many.brief[1] == {"more_senses": [[[["e"]], 0.2, 0.9], [[["f"]], 0.2, 0.9]]}
    assert many.text == '"a"; "b"; "c"; "d" and 2 more'
    assert caption_of(facts(LABEL, senses=[sense("a", 0.9)] * 2)).brief == [{"label": "python"}], "a label is of all"


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


def test_parts_of_characters_of_one_script_are_told_together(hebrew_rules):
    def read_rule(**said):
        return segments_of(hebrew_rules(0, a_rule(**said)))

    (parts,) = read_rule(token=["⟨a9⟩", "⟨90⟩"])
    assert isinstance(parts, TokenList) and parts.groups[0].name == "parts of Hebrew letters (ש, א)"
    assert to_text(read_rule(token=["⟨a9⟩", "x"])) == 'the last byte of the Hebrew letter ש or "x"'
    mixed = read_rule(token=[" קו⟨d7⟩", " י⟨d7⟩", " ב⟨d7⟩"])
    assert [token.text for token in tokens_of(mixed)] == [" קו⟨d7⟩", " י⟨d7⟩", " ב⟨d7⟩"], "with letters each is told"


def test_tokens_that_differ_in_the_space_before_them_are_told_once(hebrew_rules):
    assert to_text(hebrew_rules.tokens(0, [" x", "a", "x", " a b"])) == '"x", "a" or " a b"'
    assert to_text(hebrew_rules.tokens(0, [" ", "\n"])) == "a space or a newline"
    assert to_text(hebrew_rules.tokens(0, ["⟨a9⟩", "⟨90⟩"])) == "parts of Hebrew letters (ש, א)"


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
