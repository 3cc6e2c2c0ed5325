"""The progress of long work, shown: lines in a log, a bar at a terminal and in a notebook, nothing in a pipe."""

import importlib
import inspect
import sys
import time
from types import SimpleNamespace

import pytest

import interp
import models
from interp import RunConfig, run_stages
from interp.cli import main
from interp.runtime import progress_bar
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import Bar, shows_progress

PACKAGES = interp, models, *map(importlib.import_module, ("interp.effects", "interp.compare", "interp.exchange"))


@shows_progress
def long_work(n, *, progress: Progress = no_progress):
    """Take two steps, then do the same work again inside."""
    for step in range(1, 3):
        progress(step, 2, f"outer {n}")
    return long_work(n - 1) if n else progress


@pytest.fixture
def terminal(monkeypatch):
    """Let a person watch standard error, on which bars appear at once."""
    monkeypatch.setattr(progress_bar, "_is_watched", lambda: True)
    monkeypatch.setattr(progress_bar, "_SECONDS_OF_SHORT_WORK", 0.0)


def test_progress_off_a_terminal_is_a_line_every_ten_seconds(monkeypatch, capsys):
    times = iter([0.0, 0.0, 0.0, 20.0, 31.0])
    monkeypatch.setattr("interp.runtime.progress_bar.time.monotonic", lambda: next(times))
    bar = Bar("sae")
    for done in (100, 300, 400):
        bar(done, 1000, "loss 0.123")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["sae: 300 of 1,000, 01:10 left, loss 0.123", "sae: 400 of 1,000, 01:02 left, loss 0.123"]


def test_progress_bar_disappears_from_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bar("sae") as bar:
        for step in range(1, 4):
            bar(step * 1000, 3000, "loss 0.123")
            time.sleep(0.11)
        bar(0, 7, "reading")
    drawn = capsys.readouterr().err
    assert "sae: 2,000 of 3,000" in drawn and "█" in drawn and "loss 0.123" in drawn and "\n" not in drawn


def test_a_long_function_shows_a_bar_at_a_terminal_and_what_it_calls_shows_none(terminal, monkeypatch, capsys):
    names = []
    monkeypatch.setattr(progress_bar, "Bar", lambda name, **options: names.append(name) or Bar(name, **options))
    assert long_work(2) is no_progress, "the innermost call has nothing to show it on"
    drawn = capsys.readouterr().err
    assert names == ["long_work"] and "long_work: " in drawn and "\n" not in drawn
    assert not progress_bar._shown


def test_short_work_shows_no_bar(terminal, monkeypatch, capsys):
    monkeypatch.setattr(progress_bar, "_SECONDS_OF_SHORT_WORK", 60.0)
    long_work(0)
    assert capsys.readouterr() == ("", "")


def test_a_bar_by_default_is_shown_neither_in_a_pipe_nor_with_progress_given_nor_in_a_command(
    monkeypatch, capsys, terminal
):
    long_work(0, progress=no_progress)
    monkeypatch.setattr("interp.cli._run", lambda words: long_work(0))
    assert main(["--version"]) == 0
    monkeypatch.setattr(progress_bar, "_is_watched", lambda: False)
    assert long_work(0) is no_progress
    assert capsys.readouterr() == ("", "")


def test_a_notebook_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress_bar, "_SECONDS_OF_SHORT_WORK", 0.0)
    shell = SimpleNamespace(kernel="a kernel")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    long_work(0)
    assert "long_work: " in capsys.readouterr().err
    shell.kernel = None
    long_work(0)
    assert capsys.readouterr() == ("", "")


def test_a_failed_function_leaves_no_bar_behind(terminal):
    @shows_progress
    def fails(*, progress: Progress = no_progress):
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert not progress_bar._shown


def test_every_public_function_with_progress_shows_it_by_default():
    silent = set()
    for package in PACKAGES:
        for name, value in ((name, getattr(package, name)) for name in dir(package) if not name.startswith("_")):
            public = [key for key in vars(value) if not key.startswith("_")] if inspect.isclass(value) else []
            parts = [getattr(value, key) for key in public] or [value]
            for function in (part for part in parts if inspect.isfunction(part) or inspect.ismethod(part)):
                is_shown = getattr(function, "__code__", None) is long_work.__code__
                if not is_shown and "progress" in inspect.signature(function).parameters:
                    silent.add(name)
    assert silent == {"run_stages"}, "which has a bar a stage"


def test_the_stages_of_a_run_show_bars_at_a_terminal(terminal, tmp_path, capsys):
    run_stages(RunConfig.tiny(), tmp_path / "run", until="corpus")
    assert "corpus: 0 of 1" in capsys.readouterr().err
