"""The metrics of a training, as they come, for TensorBoard, Weights & Biases or a function of the user's.

In: the rows of metrics.jsonl: step, tokens, loss, fvu, l0, dead, lr, tokens_per_second. Out, in the run's folder:

    "tensorboard"    tensorboard/events.out.tfevents.…     look at it with: tensorboard --logdir FOLDER
    "wandb"          wandb/…                               WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, … hold

A training that goes on gives its rows from the first one on, and each step stands once in what comes out: TensorBoard's
file is written anew, a run at Weights & Biases takes the steps that it lacks. A function may get those after the last
checkpoint twice.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, float]
Log = str | Callable[[Row], None] | None

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}
_WANDB_ID = "wandb-id.txt"


class RowLog(NamedTuple):
    write: Callable[[Row], None]
    close: Callable[[], object]


def check_log(log: Log, out: object) -> None:
    """Raises ValueError for a log that is not known or not installed, and for one of files without a folder."""
    if log is None or callable(log):
        return
    if log not in _PACKAGES:
        raise ValueError(f"log={log!r} must be 'tensorboard', 'wandb', a function of a row, or None")
    if out is None:
        raise ValueError(f"log={log!r} writes into the folder of the run: name one with out=")
    if find_spec(_PACKAGES[log]) is None:
        raise ValueError(f"log={log!r} needs a package that is not installed: pip install {_PACKAGES[log]}")


def open_log(log: Log, folder: Path | None, config: dict[str, Any], rows: Sequence[Row]) -> RowLog | None:
    """`rows`: those of before the training was cut off. A function gets the new ones only."""
    if callable(log):
        write = log
        return RowLog(lambda row: write(dict(row)), bool)
    if log is None or folder is None:
        return None
    opened = _tensorboard(folder) if log == "tensorboard" else _wandb(folder, config, going_on=bool(rows))
    for row in rows:
        opened.write(row)
    return opened


def numbered(log: Log, run: int) -> Log:
    """For a sweep: a function learns which config its rows are of."""
    return (lambda row: log({"run": run, **row})) if callable(log) else log


def _tensorboard(folder: Path) -> RowLog:
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "tensorboard"
    shutil.rmtree(place, ignore_errors=True)
    writer = SummaryWriter(str(place))

    def write(row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return RowLog(write, writer.close)


def _wandb(folder: Path, config: dict[str, Any], going_on: bool) -> RowLog:
    """The id is kept in the folder, so that a training that goes on is the same run there."""
    import wandb

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "interp"),
            name="/".join(folder.resolve().parts[-2:]),
            dir=folder,
            id=_wandb_id(folder, going_on),
            resume="allow",
            reinit="create_new",
            config=config,
        )
    except wandb.Error as error:
        raise ValueError(f"Weights & Biases took no run: {error} Or set WANDB_MODE=offline") from error
    first = run.step

    def write(row: Row) -> None:
        if row["step"] >= first:
            run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    return RowLog(write, run.finish)


def _wandb_id(folder: Path, going_on: bool) -> str:
    """Runs of this training that were kept offline and never sent are dropped: the new one repeats their rows."""
    file = folder / _WANDB_ID
    there = file.read_text().strip() if file.exists() else None
    for unsent in (folder / "wandb").glob(f"offline-run-*-{there}") if there else ():
        if not list(unsent.glob("*.synced")):
            shutil.rmtree(unsent)
    if going_on and there:
        return there
    file.write_text(os.urandom(4).hex())
    return file.read_text()
