"""The fields of a config are flags of a command; it gets those that were given."""

from typing import Annotated, Any

import pytest
import typer

from interp.activations.harvest_options import RowConfig
from interp.checks.errors import InterpError
from interp.cli.field_flags import FieldFlags, settings_of, with_field_flags
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
