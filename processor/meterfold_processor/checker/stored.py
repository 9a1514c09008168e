"""What the checker reads from ClickHouse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from meterfold_processor.checker.definitions import Affected
from meterfold_processor.checker.operations import LoadWindows
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import fold_state, reads
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import check_schema
from meterfold_sink.rules import FoldRules

__all__ = ["CheckerStore"]

_ROWS = 100_000
_MOST_QUERIES = 8
"""More changed metrics than this are cheaper to judge by reading every open window once."""


class CheckerStore:
    """For one thread. Every method raises Retryable or Fatal."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connected: Client | None = None

    def rules(self) -> FoldRules:
        """The stored rules; the schema is checked as well."""
        check_schema(self._client)
        return fold_state.read_rules(self._client)

    def stamps(self, partitions: tuple[int, ...], *, required: bool) -> dict[int, int | None] | None:
        """The broker's stamp of the last folded event; None where there is none. See operations.ReadStamps."""
        try:
            progress = fold_state.read_progress(self._client, partitions)
        except Retryable:
            if required:
                raise
            return None
        found = {partition: row.last_stamp for partition, row in progress.items()}
        return {partition: found.get(partition) or None for partition in partitions}

    def windows(self, wanted: LoadWindows) -> Iterator[pa.Table]:
        """The stored windows, in tables of at most _ROWS rows."""
        if not wanted.periods:
            return
        for org_id, metric_key in _queries(wanted.affected):
            table = reads.load_open_windows(
                self._client,
                wanted.partition,
                ends_after=wanted.ends_after,
                period_types=sorted(wanted.periods),
                org_id=org_id,
                metric_key=metric_key,
            )
            for first in range(0, table.num_rows, _ROWS):
                yield table.slice(first, _ROWS)

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()

    @property
    def _client(self) -> Client:
        if self._connected is None:
            self._connected = connect(self._settings)
        return self._connected


def _queries(affected: Affected | None) -> Iterable[tuple[str | None, str | None]]:
    """(org_id, metric_key) of each query; None: any."""
    if affected is None or len(affected) > _MOST_QUERIES:
        return [(None, None)]
    # A metric of every organization holds that of each one: no window twice.
    return sorted({(org, key) for org, key in affected if org is None or (None, key) not in affected}, key=str)
