"""Names of latents, read from a written page as text."""

import json
import re

import pytest

from interp.report.json_text import encode, pack, unpack
from interp.report.page_names import names_of_page

RULE = [{"groups": [["numbers", [["1"], ["2"], ["3"]], 2], ["", [["a"]], 1]]}, " after ", ["\n"]]
PARTS = ["⟨d7⟩", [["א–ת…", "the first byte of a Hebrew letter"]]]


def letters(name: str) -> str:
    """Return the small letters: the page has signs for senses and white space, and shares and bytes of tokens, too."""
    return "".join(re.findall("[a-z]", re.sub(r"\\[nt]", "", name)))


@pytest.mark.parametrize(
    ("brief", "whole", "short"),
    [
        (None, 'numbers "1", "2" +1 or "a" after "\\n"', None),
        ([{"label": ["speech", True]}, {"f1": [0.8, "label "]}], "speech", None),
        (
            [{"muted": ["most strongly "]}, {"rule": [[" will"], " or ", PARTS]}, ", in speech", {"small": [" 60 %"]}],
            'most strongly " will" or the first byte of a Hebrew letter, in speech 60 %',
            '" will" or the first byte of a Hebrew letter, in speech',
        ),
        (
            [{"senses": [[[["a"], " in code"], 0.5, 0.9], [[], 0.2, None]]}, {"more_senses": [[[], 0.1, None]]},
             {"no_sense": 0.2}],
            '"a" in code; no rule and 1 more, of no sense 20 %',
            '"a" in code; no rule …',
        ),
        (
            [{"senses": [[[["a"], " in code"], 0.3, 0.9], [[], 0.2, None]]}, {"no_sense": 0.5}],
            '"a" in code; no rule, of no sense 50 %',
            "no clear senses",
        ),
        (
            [{"rule": 0}, {"apart": [", before ", {"rule": [["b"]]}]}],
            'numbers "1", "2" +1 or "a" after "\\n", before "b"',
            'numbers "1", "2" +1 or "a" after "\\n"',
        ),
        ([["a⟨d7⟩", ["a", ["א–ת…", "the first byte of a Hebrew letter"]]]],
         '"a" with the first byte of a Hebrew letter', None),
        ([{"muted": ["It never fired."]}], "It never fired.", None),
        ([["no_sense"], " in code"], '"no_sense" in code', None),  # a token with the name of a part
    ],
)  # fmt: skip
def test_a_name_is_written_as_its_page_says_it_and_in_short(brief, whole, short, tmp_path):
    columns = {"brief": [brief], "rule": [RULE], "tokens": [[" will", "⟨d7⟩"]]}
    (tmp_path / "data").mkdir()
    script = f"receive({json.dumps('table')},{json.dumps(encode({'columns': columns}), ensure_ascii=False)});\n"
    (tmp_path / "data" / "table.js").write_text(script, encoding="utf-16")
    assert names_of_page(tmp_path) == [(whole, short or whole)]


def test_the_names_of_a_run_are_those_of_its_page(tiny_run, chromium):
    chromium.open(tiny_run.page.resolve().as_uri())
    said = chromium.evaluate("report.columns.brief.map((_, latent) => report.labelOrCaptionText(latent))")
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
