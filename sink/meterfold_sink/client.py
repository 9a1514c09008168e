"""A connection to ClickHouse: statements, Arrow in both directions, and Meterfold's errors.

Values always travel as bound parameters, `{name:Type}` in the statement, and never as part of it. Whoever only asks for
a few rows pays for nothing else: clickhouse-connect and pyarrow are imported when they are first needed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from meterfold_schemas.errors import Fatal
from meterfold_schemas.periods import from_micros
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.errors import MISSING_DATABASE, ServerError, code_of, mapped
from meterfold_sink.small import CONNECT_SECONDS, NotSmall, Parameter, SmallResults

if TYPE_CHECKING:
    import pyarrow as pa
    from clickhouse_connect.driver.client import Client as Driver

    from meterfold_sink.arrow_reader import ArrowReader

__all__ = ["Client", "connect", "to_rows"]

#: A column of Arrow strings that is not valid UTF-8 breaks its readers, so types are kept as they are in the table.
_READ: Final[Mapping[str, Any]] = {
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_compression_method": "lz4_frame",
    # Pieces of up to 65,536 rows. With the default of 1 MB they have 8,192, and the work per piece is as much as that
    # for the rows.
    "preferred_block_size_bytes": 16 << 20,
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


def connect(
    settings: ClickHouseSettings,
    *,
    create_database: bool = False,
    timeout_seconds: int = 300,
    connect_seconds: float = CONNECT_SECONDS,
) -> Client:
    """Open a separate connection, for one thread at a time.

    `create_database` makes the database when it is not there, as `migrate` does. The server may take
    `connect_seconds` to accept the connection, and `timeout_seconds` to answer. Raises Retryable or Fatal.
    """
    if create_database:
        with closing(_open(settings, "default", timeout_seconds, connect_seconds)) as first:
            first.command(f"CREATE DATABASE IF NOT EXISTS `{settings.database}`")
    return _open(settings, settings.database, timeout_seconds, connect_seconds)


def _open(settings: ClickHouseSettings, database: str, timeout_seconds: int, connect_seconds: float) -> Client:
    connection = Connection(settings, database, timeout_seconds, connect_seconds)
    try:
        with mapped(f"connecting to {settings.url} as {settings.username!r}"):
            if connection.small.goes_through_proxy:
                connection.driver()
            else:
                connection.small.select("SELECT 1", None, None)
    except BaseException:
        connection.close()
        raise
    return Client(connection, database)


class Connection:
    """Both ways to the server: `small` for a few rows, and clickhouse-connect's `driver` for everything else."""

    def __init__(
        self, settings: ClickHouseSettings, database: str, timeout_seconds: int, connect_seconds: float
    ) -> None:
        self.small = SmallResults(settings, database, _ALWAYS, timeout_seconds, connect_seconds)
        self._connect_seconds = connect_seconds
        self._settings = settings
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._driver: Driver | None = None

    def driver(self) -> Driver:
        """Connected when it is first needed. Raises what `mapped` translates."""
        if self._driver is None:
            self._driver = self._connect()
        return self._driver

    def close(self) -> None:
        self.small.close()
        if self._driver is not None:
            self._driver.close()

    def _connect(self) -> Driver:
        import clickhouse_connect

        # Its warnings repeat what our errors say; without any handler Python prints them on the terminal.
        logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
        parts = urlsplit(self._settings.url)
        secure = parts.scheme == "https"
        return clickhouse_connect.get_client(
            interface=parts.scheme,
            host=parts.hostname,
            port=parts.port or (8443 if secure else 8123),
            proxy_path=parts.path,
            username=self._settings.username,
            password=self._settings.password.get_secret_value(),
            database=self._database,
            settings=dict(_ALWAYS),
            connect_timeout=max(1, round(self._connect_seconds)),
            send_receive_timeout=self._timeout_seconds,
            query_retries=0,  # the callers retry, with backoff and bad health
            autogenerate_session_id=False,  # a session allows one query at a time and lives on the server
            dedicated_pool=True,
            compress=False,
            client_name="meterfold",
        )


class Client:
    """One connection; not for several threads at once. Every method raises Retryable or Fatal."""

    def __init__(self, connection: Connection, database: str) -> None:
        self._connection = connection
        self.database = database

    def command(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a statement that returns no rows."""
        with mapped(f"running {_shown(sql)}"):
            self._connection.driver().command(sql, parameters=_bound(parameters), settings=dict(settings or {}))

    def query(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """The whole result. Decimals are decimal128 (decimal256 above 38 digits), times timestamp[us, UTC]."""
        with mapped(f"reading {_shown(sql)}"):
            data = self._connection.driver().raw_query(
                sql, parameters=_bound(parameters), settings={**_READ, **(settings or {})}, fmt="ArrowStream"
            )
            return _table(data)

    def batches(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """The result piece by piece, in constant memory. The connection is busy until the last piece was taken."""
        with closing(self.reader(sql, parameters, settings)) as reader:
            yield from reader

    def reader(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> ArrowReader:
        """As `batches`, with the schema, which is known before the first row. The caller closes it."""
        from meterfold_sink.arrow_reader import ArrowReader

        doing = f"reading {_shown(sql)}"
        with mapped(doing):
            stream: Any = self._connection.driver().raw_stream(
                sql, parameters=_bound(parameters), settings={**_READ, **(settings or {})}, fmt="ArrowStream"
            )
        return ArrowReader(stream, doing)

    def rows(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The result as dictionaries of Python values: for small results."""
        if not self._connection.small.goes_through_proxy:
            with mapped(f"reading {_shown(sql)}"), suppress(NotSmall):
                return self._connection.small.select(sql, parameters, settings)
        return to_rows(self.query(sql, parameters, settings))

    def value(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Any:
        """The only value of the only row."""
        rows = self.rows(sql, parameters)
        if len(rows) != 1 or len(rows[0]) != 1:
            found = f"{plural(len(rows), 'row')} of {plural(len(rows[0]) if rows else 0, 'column')}"
            raise Fatal(f"{_shown(sql)} answered {found}; expected one value")
        return next(iter(rows[0].values()))

    def insert_stream(self, table: str, columns: list[str], body: memoryview, settings: Mapping[str, Any]) -> None:
        """Insert an Arrow IPC stream. clickhouse-connect may send it twice: the table must not mind. It sends a view as
        it is, and would copy bytes behind the statement."""
        with mapped(f"inserting into {table}"):
            self._connection.driver().raw_insert(
                table,
                columns,
                body,  # type: ignore[arg-type]
                settings=dict(settings),
                fmt="ArrowStream",
            )

    def exists(self) -> bool:
        """Whether the database exists."""
        try:
            self.rows("SELECT 1")
        except Fatal as error:
            if code_of(error) == MISSING_DATABASE:
                return False
            raise
        return True

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def to_rows(data: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Arrow as dictionaries of Python values, times in UTC.

    As `to_pylist`, which imports pandas, where that is installed, to make a datetime: half a second.
    """
    import pyarrow as pa

    columns = [
        [None if value is None else from_micros(value) for value in column.cast(pa.int64()).to_pylist()]
        if column.type == pa.timestamp("us", "UTC")
        else column.to_pylist()
        for column in data.columns
    ]
    return [dict(zip(data.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _bound(parameters: Mapping[str, Parameter] | None) -> dict[str, Any] | None:
    return dict(parameters) if parameters else None


def _table(data: bytes) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    except pa.ArrowInvalid as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ServerError:
    """An answer that ends in the middle: the server died or ran into an error while it was sending."""
    return ServerError(f"the answer is incomplete: {error}")


def _shown(sql: str) -> str:
    text = " ".join(sql.split())
    return f"`{text}`" if len(text) <= 120 else f"`{text[:117]}...`"
