"""Names of latents, read from a written page as text."""

import json
import re

import pytest

from interp.report.json_text import encode, pack, unpack
from interp.report.page_names import names_of_page


def letters(name: str) -> str:
    """Return the small letters: the page has signs for senses and white space, and shares and bytes of tokens, too."""
    return "".join(re.findall("[a-z]", re.sub(r"\\[nt]", "", name)))


def write_table(folder, columns: dict) -> None:
    """Write the table of a page."""
    script = f"receive({json.dumps('table')},{json.dumps(encode({'columns': columns}), ensure_ascii=False)});\n"
    (folder / "data").mkdir()
    (folder / "data" / "table.js").write_text(script, encoding="utf-16")


def test_names_are_read_as_text(tmp_path):
    parts = ["a⟨d7⟩", ["a", ["א–ת…", "the first byte of a Hebrew letter"]]]
    columns = {
        "text": ["speech", "many words", '"x" in code; "y"', "…"],
        "short": [["speech"], [["\n", "a newline"], " after ", [" will"]], [{"sense": [0, [["x"], " in code"]]}, " +1"],
                  [parts]],
    }  # fmt: skip
    write_table(tmp_path, columns | dict.fromkeys(("brief", "rule", "tokens"), [[]] * 4) | {"f1": [None] * 4})
    assert [(name.whole, name.short) for name in names_of_page(tmp_path)] == [
        ("speech", "speech"),
        ("many words", 'a newline after " will"'),
        ('"x" in code; "y"', '"x" in code +1'),
        ("…", '"a" with the first byte of a Hebrew letter'),
    ]


LIST = [{"groups": [["numbers", [["1"], ["2"], ["3"]], 2], ["", [["a"]], 1]]}, " after ", ["\n", "a newline"]]


@pytest.mark.parametrize(
    ("brief", "short", "token", "here"),
    [
        (None, ['numbers "1" +3'], "1", 'numbers "1" +3'),
        (None, ['numbers "1" +3'], "3", '"3", "1", "2" …'),  # the rule lists it
        (None, ["short"], "\n", "usually short"),  # it stands before what the rule lists
        (None, ["short"], " will", '" will", a semicolon'),
        ([{"label": "speech"}], ["speech"], " will", "speech"),
        ([{"senses": [[[["a"], " or ", ["b"], " in code"], 0.3, 0.9], [["most strongly ", ["c"]], 0.1, None]]},
          {"more_senses": [[LIST, 0.1, 0.5]]}], [{"sense": [0, [["a"]]]}, " +2"],
         "1", 'numbers "1" +3'),
        (["lower-case tokens"], ["lower-case tokens"], "b", "lower-case tokens"),
    ],
)  # fmt: skip
def test_a_latent_is_named_by_the_sense_that_lists_the_token_on_which_it_fires(brief, short, token, here, tmp_path):
    table = {"text": ["whole"], "short": [short], "brief": [brief], "rule": [LIST], "tokens": [[" will", ";"]]}
    write_table(tmp_path, table | {"f1": [0.9]})
    assert names_of_page(tmp_path)[0].at(token) == here


def test_a_name_that_fails_for_many_firings_is_usual(tmp_path):
    table = {"text": ["whole"], "short": [["speech"]], "brief": [[{"label": "speech"}]], "rule": [[]], "tokens": [[]]}
    write_table(tmp_path, table | {"f1": [0.4]})
    assert names_of_page(tmp_path)[0].at("b") == "usually speech"


def test_the_names_of_a_run_are_those_of_its_page(tiny_run, chromium):
    chromium.open(tiny_run.page.resolve().as_uri())
    drawn = "report.h('span', null, report.labelOrCaption(latent)).textContent"
    said = chromium.evaluate(f"report.columns.brief.map((_, latent) => {drawn})")
    names = names_of_page(tiny_run.page.parent)
    assert len(names) == len(said) == tiny_run.features.d_sae
    is_told = [not re.search("⟨|byte", text) for text in said]  # parts of characters stand in boxes there
    pairs = [
        (letters(name.whole), letters(text)) for name, text, told in zip(names, said, is_told, strict=True) if told
    ]
    assert len(pairs) > 3
    assert [name for name, _ in pairs] == [text for _, text in pairs]


def test_packed_text_comes_back():
    for text in ("", "a", "thou ␣ שלום", "x" * 1000):
        assert unpack(pack(text)) == text
