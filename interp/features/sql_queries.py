"""Query Parquet files with DuckDB: a query sees the files that it is given, reaches no other, and changes nothing."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from interp.checks.errors import InterpError

if TYPE_CHECKING:
    import duckdb


def query_tables(
    query: str, tables: Mapping[str, Path], views: Mapping[str, Path | Callable[[], Path]]
) -> pd.DataFrame:
    """Return the result of a query.

    tables: Parquet files by the names of their views. views: further ones, or functions that return them, which are
    called if the query has their name; they need not exist. Only those that the query names are opened, or all tables
    if it names none, as `show tables` does.
    Raises ValueError for a query that fails, is empty, ends in a change, or begins or ends a transaction, and what a
    view raises if the query needs it."""
    import duckdb
    import pyarrow.dataset

    with _database(os.getpid()).cursor() as connection:
        connection.begin()  # never committed: the next query finds nothing that this one made
        refusal = None
        known = {**views, **tables}
        for name in [name for name in known if name.lower() in query.lower()] or tables:
            view = known[name]
            try:
                file = view() if callable(view) else view
                if name in tables or file.exists():
                    connection.register(name, pyarrow.dataset.dataset(file))
            except InterpError as error:
                refusal = error
        try:
            statements = connection.extract_statements(query)
            if not statements:
                raise InterpError("the query is empty: write one, such as select * from features")
            if any(statement.type == duckdb.StatementType.TRANSACTION for statement in statements):
                raise InterpError("a query cannot begin or end a transaction: leave that statement out")
            if duckdb.ExpectedResultType.CHANGED_ROWS in statements[-1].expected_result_type:
                raise InterpError("a query changes nothing, and must end in what returns rows: select them")
            return connection.execute(query).df()
        except duckdb.Error as error:
            if refusal is not None and isinstance(error, duckdb.CatalogException):
                raise refusal from error
            raise InterpError(f"query failed: {error}") from error


@cache
def _database(process: int) -> "duckdb.DuckDBPyConnection":
    """Return an empty database in memory, in which the queries of a process are run, each at a cursor of its own. To
    open one takes longer than most queries do."""
    import duckdb

    return duckdb.connect(config={"enable_external_access": "false", "lock_configuration": "true"})
