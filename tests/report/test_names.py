"""The table of names, and what it says of a firing."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from interp.checks.errors import DamagedError
from interp.cli.command_arguments import write_page
from interp.display.segments import CharacterPart, Segments, Token, TokenGroup, TokenList
from interp.pipeline.execution import run_alone
from interp.pipeline.run import Run
from interp.report.json_text import encode
from interp.report.latent_words import LatentWords
from interp.report.names import LatentName, name_latents, names_in, read_names
from interp.report.naming import Described, Description, LatentFacts
from interp.report.page_data import PageData
from interp.runtime.progress import no_progress
from interp.text.short_rules import Clause


def letters(name: str) -> str:
    """Return the small letters: the page has signs for senses and white space, and shares and bytes of tokens, too."""
    return "".join(re.findall("[a-z]", re.sub(r"\\[nt]", "", name)))


def of_rule(segments: Segments, f1: float | None = 0.9) -> LatentFacts:
    return LatentFacts(descriptions=[Description("rule", segments, f1)], rule=[Clause(None, segments)])


@pytest.fixture
def named(tmp_path):
    """Return the names of latents, as they are read from the file of their table.
    tokens: on which each latent fires most often."""

    def names_of(*facts: LatentFacts, tokens: Sequence[str] = ()) -> list[LatentName]:
        features = SimpleNamespace(inputs={"tokens": "digest"})
        commonest = SimpleNamespace(tokens=[list(tokens)] * len(facts))
        name_latents(SimpleNamespace(facts=facts, features=features, commonest=commonest)).to_parquet(
            tmp_path / "names"
        )
        table = read_names(tmp_path / "names")
        assert table.attrs == {"features": {"tokens": "digest"}}, "so that it is not taken for that of another scan"
        return names_in(table)

    return names_of


def test_names_are_kept_as_text(named):
    half = Token("a⟨d7⟩", ("a", CharacterPart("א–ת…", "the first byte of a Hebrew letter")))
    senses = [Described(descriptions=[Description("rule", [Token("x"), " in code"], 0.9)]),
              Described(otherwise=["most strongly ", Token("y")])]  # fmt: skip
    several = LatentFacts(descriptions=[Description("tokens", [Token("x")], 0.9)], senses=senses)
    label = LatentFacts(descriptions=[Description("label", ["speech"], 0.6)], rule=[Clause(None, [Token("z")])])
    rule = of_rule([Token("\n"), " after ", Token(" will")])
    names = named(label, rule, several, of_rule([half]), LatentFacts(otherwise=["It never fired."]))
    assert [(name.title, name.short, name.named_by, name.f1) for name in names] == [
        ("speech", "speech", "label", 0.6),
        ('a newline after " will"', 'a newline after " will"', "rule", 0.9),
        ('"x" in code; most strongly "y"', '"x" in code; +1 sense', "senses", None),
        *[('"a" with the first byte of a Hebrew letter', '"a" with the first byte of a Hebrew letter', "rule", 0.9)],
        ("It never fired.", "It never fired.", None, None),
    ]


def test_of_latents_with_one_title_each_is_told_apart(named):
    speech = Description("label", ["speech"], 0.9)
    facts = [LatentFacts(descriptions=[speech], strongest=[Token(word)]) for word in "ab"]
    assert [name.title for name in named(*facts)] == ['speech, most strongly "a"', 'speech, most strongly "b"']
    assert [name.title for name in named(facts[0])] == ["speech"]


NUMBERS = TokenGroup("numbers", tuple(map(Token, "123")), 2)
LIST: Segments = [TokenList((NUMBERS, TokenGroup("", (Token("a"),), 1))), " after ", Token("\n")]
TWO = Described(descriptions=[Description("rule", [Token("a"), " or ", Token("b"), " in code"], 0.9)])
SENSES = [TWO, Described(otherwise=["most strongly ", Token("c")]),
          Described(descriptions=[Description("rule", LIST, 0.5)])]  # fmt: skip


@pytest.mark.parametrize(
    ("latent", "token", "here"),
    [
        (of_rule(LIST), "1", 'numbers "1" +3'),
        (of_rule(LIST), "3", '"3", "1", "2" …'),  # the rule lists it
        (of_rule(LIST), "\n", 'usually numbers "1" +3'),  # it stands before what the rule lists
        (of_rule(LIST), " will", '" will", a semicolon'),
        (LatentFacts(descriptions=[Description("label", ["speech"], 0.9)]), " will", "speech"),
        (LatentFacts(senses=SENSES), "1", 'numbers "1" +3'),
        (LatentFacts(senses=SENSES), "b", '"a" or "b" in code'),
        (of_rule(["lower-case tokens"]), "b", "lower-case tokens"),
        (of_rule(["lower-case tokens"], 0.45), "b", "usually lower-case tokens"),  # it fails for many firings
    ],
)  # fmt: skip
def test_a_latent_is_named_by_the_sense_that_lists_the_token_on_which_it_fires(latent, token, here, named):
    [name] = named(latent, tokens=[" will", ";"])
    assert name.at(token) == here


def test_the_page_draws_the_names_that_it_is_given_as_those_that_it_makes(tiny_run, tmp_path):
    inputs = tiny_run.report_inputs()
    assert inputs.names is not None and tiny_run.names.equals(inputs.names)
    made = replace(inputs, names=None)
    table, again = (encode(PageData(one).table()) for one in (inputs, made))
    assert table == again
    first = inputs.names.assign(title="mine")
    assert set(PageData(replace(inputs, names=first)).table()["columns"]["text"]) == {"mine"}
    name_latents(LatentWords(made)).to_parquet(tmp_path / "names.parquet")
    pd.testing.assert_frame_equal(read_names(tmp_path / "names.parquet"), tiny_run.names)


def test_the_names_of_a_run_are_what_its_page_shows(tiny_run, chromium):
    chromium.open(tiny_run.page.resolve().as_uri())
    drawn = "report.h('span', null, report.labelOrCaption(latent)).textContent"
    said = chromium.evaluate(f"report.columns.brief.map((_, latent) => {drawn})")
    titles = tiny_run.names["title"]
    assert len(titles) == len(said) == tiny_run.features.d_sae
    is_told = [not re.search("⟨|byte", text) for text in said]  # parts of characters stand in boxes there
    pairs = [(letters(title), letters(text)) for title, text, told in zip(titles, said, is_told, strict=True) if told]
    assert len(pairs) > 3
    assert [title for title, _ in pairs] == [text for _, text in pairs]


def test_a_run_shows_and_queries_its_names(tiny_run):
    latent = int(tiny_run.names["f1"].idxmax())
    title = tiny_run.names["title"][latent]
    assert repr(tiny_run.feature(latent)).startswith(f"latent {latent}: {title} (F1 0.")
    found = tiny_run.features.sql(
        f"select title, n_active from names join features using (latent) where latent={latent}"
    )
    assert found["title"].tolist() == [title]
    unnamed = tiny_run.features[latent]
    assert unnamed.name is None and title not in repr(unnamed)


def test_a_run_has_no_names_of_another_ranking(tiny_run, tmp_path):
    run = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    other = run.config.replace(ranking=replace(run.config.ranking, n_shifts=1))
    run_alone(run, "ranking", config=other, progress=no_progress)
    assert run.report_inputs().names is None and run.feature(0).name is None, "the page makes its own"
    with pytest.raises(
        ValueError, match="names was made with another ranking than the run now has: `interp run` makes"
    ):
        _ = run.names
    write_page(run, no_progress)
    assert run.report_inputs().names is not None and run.feature(0).name is not None


def test_a_table_of_another_version_is_refused(tmp_path):
    pd.DataFrame({"latent": [0], "title": ["speech"]}).to_parquet(tmp_path / "names.parquet")
    with pytest.raises(
        DamagedError, match=r"names.parquet has no column short, as it is of another version: `interp r"
    ):
        read_names(tmp_path / "names.parquet")
