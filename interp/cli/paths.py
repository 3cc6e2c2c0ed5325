"""What the commands read and write: run folders, stores and tables, and places looked at before long work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.console import one_line
from interp.storage.files import atomic
from interp.storage.folders import verify

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore

TABLES = (".parquet", ".csv")
_MAX_ROWS, _MAX_BYTES, _ROWS_AT_ONCE = 1 << 24, 400_000_000, 256


def is_run(source: Path) -> bool:
    return (source / "run.toml").is_file()


def as_written(path: Path) -> Path:
    """The path of a file or folder, after it was compared with the manifest that lists it."""
    verify(path)
    return path


def opened_model(place: str) -> Any:
    """Any language model; a folder is compared with the manifest that lists it, where there is one."""
    from models import load_model

    if Path(place).exists():
        as_written(Path(place))
    return load_model(place)


def only_hook(store: Any, hook: str | None) -> str:
    """The one that is named, or that the store has. Raises ValueError where it is not said which, or has no name."""
    names = ", ".join(store.hook_names)
    if hook is None and len(store.hook_names) > 1:
        raise ValueError(f"the store holds {names}: say which with --hook")
    if hook is not None and not hook.strip():
        raise ValueError(f"--hook {hook!r} is no name: the store holds {names}")
    return store.hook_names[0] if hook is None else hook


def hook_to_scan(store: Any, hook: str | None, sae: Any) -> str:
    """The one named, else the dictionary's own, else the store's only one.

    A dictionary trained here goes to a hook of another name, or to another model's, only where --hook says so: one may
    ask what a dictionary finds elsewhere. One from elsewhere may call the same hook by its own library's name
    (`interp.activations.hooks.check_own_hook` warns).
    """
    from interp.activations.hooks import own_hook

    own = own_hook(sae)
    if hook is not None or own is None:
        return only_hook(store, hook)
    model = sae.metadata.get("model_weights")
    if None not in (model, store.weights) and model != store.weights:
        meant = f"say --hook {own if own in store.hook_names else 'NAME'} if it is meant"
        raise ValueError(f"the SAE was trained on activations of another model than {store.path} holds: {meant}")
    if own in store.hook_names:
        return own
    only = only_hook(store, None)
    if sae.config is not None and store.d(only) == sae.d_in and not own.endswith(f"/{only}"):
        raise ValueError(f"the SAE was trained on {own}, {store.path} holds {only}: --hook {only} if it is meant")
    return only


def open_features(source: Path) -> "FeatureStore":
    """Of a run folder, or of a feature store as scan writes it."""
    from interp.features.feature_store import FeatureStore

    if is_run(source) and not (source / "features" / "meta.json").is_file():
        raise ValueError(f"{source} has no features yet: `interp run` or `interp demo` makes them")
    return FeatureStore.open(source)


def read_table(flag: str, file: Path, columns: Sequence[str], of: "FeatureStore | None" = None) -> "pd.DataFrame":
    """A table of one row a latent with these columns, as `interp rank` writes it, and of these features."""
    import pandas as pd
    import pyarrow

    from interp.features.belonging import check_table

    check_ending(flag, file, *TABLES)
    if not file.is_file():
        raise ValueError(f"{flag} {file} is not there: `interp rank` writes such a file")
    verify(file)
    try:
        table = _parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, keep_default_na=False)
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{flag} {file} is no table that can be read ({one_line(error)}): rank again") from error
    if missing := sorted({"latent", *columns} - set(table.columns)):
        raise ValueError(f"{flag} {file} has no column {' and no '.join(missing)}")
    numbers = pd.to_numeric(table.latent, errors="coerce").astype(float)
    wrong = table.latent[~(numbers.ge(0) & numbers.mod(1).eq(0) & numbers.lt(2**31))]
    if len(wrong):
        raise ValueError(f"{flag} {file} has a latent {wrong.iloc[0]}: latents are whole numbers from 0 on")
    if numbers.duplicated().any():
        raise ValueError(f"{flag} {file} has latent {numbers[numbers.duplicated()].iloc[0]:.0f} twice: keep one row")
    table = table.assign(latent=numbers.astype(int))
    if of is not None:
        check_table(of, table.dropna(subset=list(columns)), f"{flag} {file}")
    return table


def _parquet(file: Path) -> "pd.DataFrame":
    """Raises ValueError for a small file that unpacks to a great deal, before that takes memory."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True) as stored:
        if stored.metadata.num_rows > _MAX_ROWS:
            raise ValueError(f"{stored.metadata.num_rows:,} rows are more than the latents of any dictionary")
        parts, size = [], 0
        for part in stored.iter_batches(batch_size=_ROWS_AT_ONCE):
            parts.append(part)
            size += part.nbytes
            if size > _MAX_BYTES:
                raise ValueError(f"its first {len(parts) * _ROWS_AT_ONCE:,} rows take more than {_MAX_BYTES:,} bytes")
        return pyarrow.Table.from_batches(parts, schema=stored.schema_arrow).to_pandas()


def write_table(table: "pd.DataFrame", out: Path) -> None:
    """As .parquet or .csv by the file's ending, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as file:
        if out.suffix == ".parquet":
            table.to_parquet(file, index=False, write_page_checksum=True)
        else:
            table.to_csv(file, index=False)


def check_writable(flag: str, out: Path, *endings: str) -> None:
    """ValueError where a file of one of these endings, or without any a folder's files, could not be put at `out`."""
    if endings:
        check_ending(flag, out, *endings)
    if out.exists() and out.is_dir() == bool(endings):
        this, other = ("folder", "file") if endings else ("file", "folder")
        raise ValueError(f"{flag} {out} is a {this}: name a {other}")
    there = next(place for place in (out.parents if endings else (out, *out.parents)) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{flag} {out} cannot be made: {there} is a file, not a folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{flag} {out} cannot be made: nothing may be written in {there}; name another place")


def check_ending(flag: str, file: Path, *endings: str) -> None:
    if file.suffix not in endings:
        raise ValueError(f"{flag} {file} must end in {' or '.join(endings)}")
