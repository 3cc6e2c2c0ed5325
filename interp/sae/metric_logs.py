"""Send the metrics of a training elsewhere too: TensorBoard, Weights & Biases, or a function of the user's.

    log="tensorboard"        tensorboard/events.out.tfevents.…     look at it with: tensorboard --logdir FOLDER
    log="wandb"              wandb/…                               obeys WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, …

A resumed training sends its rows from the first one, and each step appears once in the result: TensorBoard's file is
written again, and a run at Weights & Biases receives the steps that it lacks. A user's function may receive the steps
after the last checkpoint twice.
"""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from interp.checks.errors import InterpError

Row = dict[str, float]
Log = str | Callable[[Row], None] | None
_WANDB_ID = "wandb-id.txt"


class OpenLog(NamedTuple):
    write: Callable[[Row], None]
    close: Callable[[], object]


def check_log(log: Log, out: object) -> None:
    """Check that rows can go to the log. Raises ValueError if it is unknown or not installed, or if it writes files and
    there is no folder."""
    if log is None or callable(log):
        return
    if log not in ("tensorboard", "wandb"):
        raise InterpError(f"log={log!r} must be 'tensorboard', 'wandb', a function of a row, or None")
    if out is None:
        raise InterpError(f"log={log!r} writes into the training's folder: name a folder with out=")
    if find_spec(log) is None:
        raise InterpError(f"log={log!r} needs a package that is not installed: pip install {log}")


def open_log(log: str, folder: Path, name: str, config: dict[str, Any], going_on: bool) -> OpenLog:
    return _tensorboard(folder) if log == "tensorboard" else _wandb(folder, name, config, going_on)


def _tensorboard(folder: Path) -> OpenLog:
    from torch.utils.tensorboard import SummaryWriter

    folder = folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(folder))

    def write(row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return OpenLog(write, writer.close)


def _wandb(folder: Path, name: str, config: dict[str, Any], going_on: bool) -> OpenLog:
    """Log to Weights & Biases. The id is kept in the folder, so that a resumed training continues the same run
    there."""
    import wandb

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "interp"),
            name=name,
            dir=folder,
            id=_wandb_id(folder, going_on),
            resume="allow",
            reinit="create_new",
            config=config,
        )
    except wandb.Error as error:
        raise InterpError(f"Weights & Biases took no run: {error} Or set WANDB_MODE=offline") from error
    first = run.step

    def write(row: Row) -> None:
        if row["step"] >= first:
            run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    return OpenLog(write, run.finish)


def _wandb_id(folder: Path, going_on: bool) -> str:
    """Return the id of the run. Offline runs of this training that were never uploaded are dropped: the new run repeats
    their rows."""
    file = folder / _WANDB_ID
    stored_id = file.read_text().strip() if file.exists() else None
    for unsent in (folder / "wandb").glob(f"offline-run-*-{stored_id}") if stored_id else ():
        if not list(unsent.glob("*.synced")):
            shutil.rmtree(unsent)
    if going_on and stored_id:
        return stored_id
    file.write_text(os.urandom(4).hex())
    return file.read_text()
