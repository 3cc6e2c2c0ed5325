"""Read the arguments of commands (models by name, hooks, tables) and check output paths before long work."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Option

from interp.checks.errors import DamagedError, InterpError, OverwriteError
from interp.cli.error_lines import one_line
from interp.cli.option_groups import HOW_IT_RUNS
from interp.runtime.torchrun import is_first
from interp.storage.addresses import (
    RemoteAddress,
    address_of,
    as_local_path,
    as_path,
    has_object,
    read_object,
    remove_object,
    write_object,
)
from interp.storage.artifacts import find_artifact, is_run, looks_like_path

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore
    from interp.pipeline.run import Run
    from interp.runtime.progress import Progress

TABLES = (".parquet", ".csv")
OVERWRITE = Option("--overwrite", help="replace what an earlier command left there", rich_help_panel=HOW_IT_RUNS)


def load_named_model(name: str) -> Any:
    """Load any language model: a folder, a run folder, a .gguf file or a name that the hub or TransformerLens knows."""
    from models import load_model
    from models.pretrained import names_source

    if names_source(name) or not looks_like_path(name) or Path(name).expanduser().is_file():
        return load_model(name)
    from interp.pipeline.readers import open_any

    return open_any(name, "model")


def load_named_sae(name: str) -> Any:
    """Return a dictionary: its folder, the run folder that trained it, or RELEASE:ID, one of a SAELens release."""
    from interp.sae import load_sae

    if looks_like_path(name):
        return load_sae(find_artifact(name, "sae").path)
    release, _, sae_id = name.partition(":")
    return load_sae(release, sae_id or None)


def only_hook(store: Any, hook: str | None) -> str:
    """Return the named hook, or the only hook of the store. Raises ValueError if the store has several."""
    if hook is None and len(store.hook_names) > 1:
        raise InterpError(f"the store holds {', '.join(store.hook_names)}: choose one with --hook")
    return store.hook_names[0] if hook is None else store.name_of(hook)


def hook_to_scan(store: Any, hook: str | None, sae: Any) -> str:
    """Return the named hook, else the dictionary's own, else the only hook of the store.

    A dictionary trained by interp is used at a hook of another name, or of another model, only if --hook names it,
    since one may want to know what a dictionary finds elsewhere. A dictionary of another library may have another name
    for the same hook (`interp.activations.hooks.check_trained_hook` warns).
    """
    from interp.activations.hooks import trained_hook

    trained_on = trained_hook(sae)
    if hook is not None or trained_on is None:
        return only_hook(store, hook)
    model = sae.metadata.get("model_weights")
    if None not in (model, store.weights) and model != store.weights:
        raise InterpError(
            f"the SAE was trained on activations of another model than {store.path} holds: pass --hook "
            f"{trained_on if trained_on in store.hook_names else 'NAME'} if you mean this"
        )
    if any(trained_on in (name, *store.aliases.get(name, ())) for name in store.hook_names):
        return store.name_of(trained_on)
    only = only_hook(store, None)
    if sae.config is not None and store.d(only) == sae.d_in and not trained_on.endswith(f"/{only}"):
        raise InterpError(
            f"the SAE was trained on {trained_on}, {store.path} holds {only}: pass --hook {only} if you mean this"
        )
    return only


def check_source(source: Path, out: str | None, noun: str, *endings: str, overwrite: bool = False) -> bool:
    """Return whether the source is a run folder, which has a place for results. Raises ValueError, before slow
    libraries are imported, if it is neither a run folder nor a feature store, if --out is missing for a feature store,
    or if --out cannot be written: a file with one of the endings or, without any, a folder."""
    find_artifact(source, "run", "features")
    if out is not None and endings:
        check_writable_file("--out", out, *endings, overwrite=overwrite, anywhere=True)
    elif out is not None:
        check_writable_folder("--out", out, anywhere=True)
    elif is_run(source):
        check_writable_folder("the run folder", source, run=source)
        find_artifact(source, "features")
    else:
        raise InterpError(f"{source} is a feature store, not a run folder: name {noun} with --out")
    return is_run(source)


def print_used_hook(run: "Run") -> None:
    """If a run has several hooks, print which of them is used, and the folders that name the others."""
    if len(run.hooks) > 1:
        others = {name: part.path for name in run.hooks if (part := run.at(name)).path != run.path}
        listed = ", ".join(f"{name} is {path}" for name, path in others.items())
        print(f"at {run.hook_name}; of the other hooks {listed}")


def renew_page(run: "Run") -> None:
    """Write the page of a run again if another version of interp wrote it, whose code and data differ."""
    from interp.report import page_is_current
    from interp.runtime.progress_bar import Bar

    if not page_is_current(run.page.parent):
        with Bar("report: the page is of another version of interp") as bar:
            write_page(run, bar)


def write_page(run: "Run", progress: "Progress") -> Path:
    """Write the page of a run again, and before it its names, unless these are of its present ranking."""
    from interp.pipeline.execution import finished_alone, run_alone

    if finished_alone(run, "names", run.config) is None:
        run_alone(run, "names", progress=progress)
    return run.path / run_alone(run, "report", progress=progress)["results"]["page"]


def read_table(flag: str, file: Path, columns: Sequence[str], features: "FeatureStore | None" = None) -> "pd.DataFrame":
    """Return a table of one row per latent with these columns, as `interp rank` writes it, and of these features."""
    import pandas as pd
    import pyarrow

    from interp.features.scan_checks import check_table
    from interp.storage.format_numbers import check_format
    from interp.storage.manifests import verify
    from interp.verdict.ranking_tables import RANKING_FORMAT

    check_ending(flag, file, *TABLES)
    path = as_path(file)
    if isinstance(path, Path):
        if not path.is_file():
            raise InterpError(f"{flag} {file} does not exist: `interp rank` writes such a file")
        verify(path)
    source: Any = path if isinstance(path, Path) else BytesIO(read_object(path))
    try:
        table = (
            pd.read_parquet(source)
            if file.suffix == ".parquet"
            else pd.read_csv(source, keep_default_na=False, na_values=[""])
        )
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise DamagedError(f"{flag} {file} is not a readable table ({one_line(error)}): rank again") from error
    check_format(table.attrs.get("format"), RANKING_FORMAT, file)
    if missing := sorted({"latent", *columns} - set(table.columns)):
        raise InterpError(f"{flag} {file} has no column {' and no '.join(missing)}")
    numbers = pd.to_numeric(table.latent, errors="coerce").astype(float)
    wrong = table.latent[~(numbers.ge(0) & numbers.mod(1).eq(0) & numbers.lt(2**31))]
    if len(wrong):
        raise InterpError(f"{flag} {file} has a latent {wrong.iloc[0]}: latents are whole numbers from 0 up")
    if numbers.duplicated().any():
        raise InterpError(f"{flag} {file} has latent {numbers[numbers.duplicated()].iloc[0]:.0f} twice: keep one row")
    table = table.assign(latent=numbers.astype(int))
    if features is not None:
        check_table(features, table.dropna(subset=list(columns)), f"{flag} {file}")
    return table


def write_table(table: "pd.DataFrame", out: str | Path) -> None:
    """Write a table as .parquet or .csv by the file's ending, atomically."""
    from interp.storage.files import write_atomically

    data = BytesIO()
    if str(out).endswith(".parquet"):
        table.to_parquet(data, index=False, write_page_checksum=True)
    else:
        table.to_csv(data, index=False)
    out = as_path(out)
    if isinstance(out, RemoteAddress):
        return write_object(out, data.getvalue())
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as file:
        file.write_bytes(data.getbuffer())


def check_writable_file(
    flag: str, out: str | Path, *endings: str, overwrite: bool = False, anywhere: bool = False
) -> None:
    """Check that a command may write a file with one of these endings, before slow libraries are imported. Raises
    ValueError if it cannot be written, or if it exists and is not to be overwritten.

    anywhere: also accept an address, at which a test object is written now."""
    from interp.storage.folders import check_output_file

    address = address_of(out)
    out = Path(out)
    check_ending(flag, out, *endings)
    if anywhere and address is not None:
        if not overwrite and has_object(address):
            raise OverwriteError(f"{flag} {address} already exists: name another file, or replace it with --overwrite")
        write_object(trial := RemoteAddress(f"{address}.tmp"), b"")
        remove_object(trial)
        return
    out = as_local_path(out)
    if out.is_dir():
        raise InterpError(f"{flag} {out} is a folder: name a file")
    _check_creatable(flag, out, out.parent)
    check_output_file(out, overwrite=overwrite)


def check_writable_folder(flag: str, out: str | Path, *, run: Path | None = None, anywhere: bool = False) -> None:
    """Check that a command may write a folder, before slow libraries are imported. Raises ValueError if it cannot be
    written, if it belongs to a run other than `run`, and while another process holds it.

    anywhere: also accept an address, which is checked when the work begins (`folders.atomic_folder`)."""
    from interp.storage.folders import check_not_in_use, check_outside

    if anywhere and address_of(out) is not None:
        return
    out = as_local_path(out)
    if out.exists() and not out.is_dir():
        raise InterpError(f"{flag} {out} is a file: name a folder")
    _check_creatable(flag, out, out)
    check_outside(out, run=run)
    if is_first():
        check_not_in_use(out)


def _check_creatable(flag: str, out: Path, folder: Path) -> None:
    """Check that the folder, which holds the output or is it, exists and is writable or can be created."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise InterpError(f"{flag} {out} cannot be created: {existing} is a file, not a folder; name another path")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InterpError(f"{flag} {out} cannot be created: {existing} is not writable; name another path")


def check_ending(flag: str, file: Path, *endings: str) -> None:
    if file.suffix not in endings:
        raise InterpError(f"{flag} {file} must end in {' or '.join(endings)}")
