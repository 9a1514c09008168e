"""A connection to ClickHouse: statements, Arrow in both directions, and errors of our own tree.

Values always travel as bound parameters, `{name:Type}` in the statement, and never as part of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client as Driver
from clickhouse_connect.driver.exceptions import ClickHouseError

from meterfold_schemas.errors import Fatal
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.errors import MISSING_DATABASE, code_of, mapped

__all__ = ["Client", "connect"]

#: A column of Arrow strings that is not valid UTF-8 breaks its readers, so types are kept as they are in the table.
_READ: Final[Mapping[str, Any]] = {
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_compression_method": "lz4_frame",
}
_ALWAYS: Final[Mapping[str, Any]] = {
    # With async inserts an acknowledgement would come before the rows are on the disk.
    "async_insert": 0,
    # Where tables are replicated: most replicas have the rows before an insert is acknowledged, and whoever reads sees
    # all that was. A progress row that another replica does not show yet would be read as an older one. Tables of one
    # server do not mind.
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
}
"""On every request."""

Parameter = str | int | datetime | list[int] | list[str] | None


def connect(settings: ClickHouseSettings, *, create_database: bool = False, timeout_seconds: int = 300) -> Client:
    """Open a connection of its own, for one thread at a time.

    `create_database` makes the database when it is not there, as `migrate` does. Raises Retryable or Fatal.
    """
    if create_database:
        with closing(_open(settings, "default", timeout_seconds)) as first:
            first.command(f"CREATE DATABASE IF NOT EXISTS `{settings.database}`")
    return _open(settings, settings.database, timeout_seconds)


def _open(settings: ClickHouseSettings, database: str, timeout_seconds: int) -> Client:
    parts = urlsplit(settings.url)
    secure = parts.scheme == "https"
    where = f"connecting to {settings.url} as {settings.username!r}"
    # Its warnings repeat what our errors say; without any handler Python prints them on the terminal.
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    with mapped(where):
        driver = clickhouse_connect.get_client(
            interface=parts.scheme,
            host=parts.hostname,
            port=parts.port or (8443 if secure else 8123),
            proxy_path=parts.path,
            username=settings.username,
            password=settings.password,
            database=database,
            settings=dict(_ALWAYS),
            connect_timeout=10,
            send_receive_timeout=timeout_seconds,
            query_retries=0,  # the callers retry, with backoff and bad health
            autogenerate_session_id=False,  # a session allows one query at a time and lives on the server
            dedicated_pool=True,
            compress=False,
            client_name="meterfold",
        )
    return Client(driver, database)


class Client:
    """One connection; not for several threads at once. Every method raises Retryable or Fatal."""

    def __init__(self, driver: Driver, database: str) -> None:
        self._driver = driver
        self.database = database

    def command(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a statement that returns no rows."""
        with mapped(f"running {_shown(sql)}"):
            self._driver.command(sql, parameters=_bound(parameters), settings=dict(settings or {}))

    def query(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """The whole result. Decimals are decimal128 (decimal256 above 38 digits), times timestamp[us, UTC]."""
        with mapped(f"reading {_shown(sql)}"):
            data = self._driver.raw_query(
                sql, parameters=_bound(parameters), settings={**_READ, **(settings or {})}, fmt="ArrowStream"
            )
            return _table(data)

    def batches(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The result piece by piece, in constant memory. The connection is busy until the last piece was taken."""
        with mapped(f"reading {_shown(sql)}"):
            stream: Any = self._driver.raw_stream(
                sql, parameters=_bound(parameters), settings={**_READ, **(settings or {})}, fmt="ArrowStream"
            )
            with closing(stream):
                try:
                    yield from pa.ipc.open_stream(stream)
                except pa.ArrowInvalid as error:
                    raise _broken(error) from error

    def rows(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The result as dictionaries of Python values: for small results."""
        return self.query(sql, parameters, settings).to_pylist()

    def value(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Any:
        """The only value of the only row."""
        table = self.query(sql, parameters)
        if table.num_rows != 1 or table.num_columns != 1:
            raise Fatal(
                f"{_shown(sql)} answered {table.num_rows} rows of {table.num_columns} columns; one was expected"
            )
        return table.column(0)[0].as_py()

    def insert_stream(self, table: str, columns: list[str], body: bytes, settings: Mapping[str, Any]) -> None:
        """Insert an Arrow IPC stream. clickhouse-connect may send it twice: the table must not mind."""
        with mapped(f"inserting into {table}"):
            self._driver.raw_insert(table, columns, body, settings=dict(settings), fmt="ArrowStream")

    def exists(self) -> bool:
        """Whether the database is there."""
        try:
            self.command("SELECT 1")
        except Fatal as error:
            if code_of(error) == MISSING_DATABASE:
                return False
            raise
        return True

    def close(self) -> None:
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bound(parameters: Mapping[str, Parameter] | None) -> dict[str, Any] | None:
    return dict(parameters) if parameters else None


def _table(data: bytes) -> pa.Table:
    try:
        return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    except pa.ArrowInvalid as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ClickHouseError:
    """An answer that ends in the middle: the server died or ran into an error while it was sending."""
    return ClickHouseError(f"the answer is incomplete: {error}")


def _shown(sql: str) -> str:
    text = " ".join(sql.split())
    return f"`{text}`" if len(text) <= 120 else f"`{text[:117]}...`"
