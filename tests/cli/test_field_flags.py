"""The fields of a config are flags of a command; it gets those that were given."""

import dataclasses
import re
from typing import Annotated, Any

import pytest
import typer

from interp.activations.harvest_options import RowConfig
from interp.checks.errors import InterpError
from interp.cli.field_flags import FieldFlags, settings_of, with_field_flags
from interp.cli.option_groups import GroupedCommand
from interp.exchange.neuronpedia import NeuronpediaOptions
from interp.verdict.ranking_config import RankingConfig

ROWS = FieldFlags(lambda: [RowConfig])
RANKING = FieldFlags(lambda: [RankingConfig])
NAMES = FieldFlags(lambda: [NeuronpediaOptions])
WORDS = FieldFlags(lambda: [RankingConfig], as_text=True)


def given(flags: FieldFlags, *words: str) -> dict[str, Any]:
    received: dict[str, Any] = {}

    def command(*, seed: int = 0, settings: Annotated[dict[str, Any], flags]) -> None:
        received.update(settings)

    app = typer.Typer()
    app.command()(with_field_flags(command))
    typer.main.get_command(app).main(list(words), standalone_mode=False)
    return received


@pytest.mark.parametrize(
    ("flags", "words", "values"),
    [
        (ROWS, "", {}),
        (ROWS, "--exclude-positions 0 --exclude-positions 5", {"exclude_positions": (0, 5)}),
        (ROWS, "--exclude-positions [0,5] --max-norm none", {"exclude_positions": (0, 5), "max_norm": None}),
        (ROWS, "--exclude-positions 3 --max-norm 8", {"exclude_positions": (3,), "max_norm": 8.0}),
        (ROWS, "--dtype float32 --batch-size 1e2", {"dtype": "float32", "batch_size": 100}),
        (RANKING, "--judge-faint --n-shifts 3", {"judge_faint": True, "n_shifts": 3}),
        (RANKING, "--no-judge-faint --seed 4", {"judge_faint": False}),
        (WORDS, "--judge-faint false", {"judge_faint": False}),
        (NAMES, "--model-id 12 --sae-set res", {"model_id": "12", "sae_set": "res"}),
    ],
)
def test_a_command_gets_the_fields_that_were_given(flags, words, values):
    """A field with the name of another parameter, here `seed`, is left to that."""
    assert given(flags, *words.split()) == values


def test_a_field_that_another_option_hides_is_refused_where_each_needs_a_flag():
    with pytest.raises(InterpError, match="RankingConfig has a field 'seed', which is another option of the command"):
        given(FieldFlags(lambda: [RankingConfig], each_field=True), "--n-shifts", "3")


def test_a_value_out_of_range_is_refused_before_the_command_runs():
    with pytest.raises(InterpError, match=r"batch_size=0 must be at least 1"):
        given(ROWS, "--batch-size", "0")


def test_a_command_of_several_configs_gets_the_fields_of_each():
    settings = given(FieldFlags(lambda: [RowConfig, RankingConfig]), "--n-shifts", "3", "--max-norm", "8")
    assert settings_of(RowConfig, settings) == {"max_norm": 8.0}
    assert settings_of(RankingConfig, settings) == {"n_shifts": 3}


def test_help_has_type_default_and_docstring():
    shown = {parameter.name: parameter.annotation.__metadata__[0] for parameter in RANKING.parameters(taken=["seed"])}
    assert list(shown) == ["n_shifts", "use_labels", "judge_faint"]
    assert shown["n_shifts"].metavar == "<int>"
    assert shown["n_shifts"].help == "Circular shifts of the text, which give the null of each measure (default: 2)"
    assert shown["judge_faint"].help.endswith("(default: off)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide:
    size: int
    """Its size. More on it."""
    rate: float = 0.5
    """Of all."""
    seed: int = 0
    k: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Narrow:
    size: int
    """Its size. Less on it."""
    rate: float = 0.25
    """Of all."""
    seed: int = 0


def test_help_groups_the_fields_of_what_one_chooses(capsys):
    """What must be given first, then what only some choices have, then what all have, and last how it runs; a default
    only if all agree on it."""

    flags = FieldFlags(lambda: {"wide": Wide, "narrow": Narrow}, choice="shape")

    def command(*, to: str = "wide", settings: Annotated[dict[str, Any], flags]) -> None:
        """Make one."""

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=GroupedCommand)(with_field_flags(command))
    typer.main.get_command(app).main(["--help"], standalone_mode=False)
    text = capsys.readouterr().out
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles == ["Needed", "Options", "Options of wide", "Options of any shape", "How it runs"]
    groups = dict(zip(titles, re.split(r"^\w.*:$", text, flags=re.MULTILINE)[1:], strict=True))
    flags_of = {title: re.findall(r"^  --([\w-]+)", group, re.MULTILINE) for title, group in groups.items()}
    assert flags_of["Needed"] == ["size"] and flags_of["Options of wide"] == ["k"]
    assert flags_of["Options of any shape"] == ["rate"] and flags_of["How it runs"] == ["seed"]
    assert "(default: 3)" in groups["Options of wide"] and "default" not in groups["Options of any shape"]


def test_fields_of_what_one_chooses_are_checked():
    flags = FieldFlags(lambda: {"wide": Wide, "narrow": Narrow}, choice="shape")
    assert given(flags, "--size", "3", "--k", "5") == {"size": 3, "k": 5}


def test_a_default_of_the_command_takes_the_place_of_a_needed_value():
    flags = FieldFlags(lambda: {"wide": Wide, "narrow": Narrow}, choice="shape", given={"size": "as large as it gets"})
    size = next(each for each in flags.parameters(taken=[]) if each.name == "size").annotation.__metadata__[0]
    assert size.help == "Its size (default: as large as it gets)" and size.rich_help_panel == "Options of any shape"
