"""Each operation on a database with millions of stored windows, beside the statement that a person would write by hand.

No worker runs: ClickHouse makes the rows (see stored.py). Run as a program, it keeps its database in a folder for
the next run: python benchmarks/queries.py --keep FOLDER.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine
import stored
from meterfold_cli import console
from meterfold_local.clickhouse_process import ClickHouseProcess
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import Period, micros
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_service import Metering
from meterfold_service.periods.closing import close_periods
from meterfold_sink.client import Client, connect
from meterfold_sink.fold_state import read_progress, read_rules
from meterfold_sink.proof import prove_partitions

WINDOWS = 10_000_000
LOOKUPS = 100
_FINAL = {"do_not_merge_across_partitions_select_final": 1}
_LOOKUP = """
SELECT record_count, sum, min, max, last FROM usage_windows FINAL
WHERE partition = {partition:Int32} AND period_type = 'monthly'
    AND period_start = fromUnixTimestamp64Micro({start:Int64}, 'UTC') AND org_id = {org_id:String}
    AND metric_key = {metric_key:String} AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}
"""
_VIEW = """
SELECT * FROM usage_monthly
WHERE period_start = fromUnixTimestamp64Micro({start:Int64}, 'UTC') AND org_id = {org_id:String}
    AND metric_key = {metric_key:String} AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}
"""
_TOP = """
SELECT subject_type, subject_id, sum, record_count FROM usage_windows FINAL
WHERE period_type = 'monthly' AND period_start = fromUnixTimestamp64Micro({start:Int64}, 'UTC')
    AND org_id = {org_id:String} AND metric_key = {metric_key:String}
ORDER BY sum DESC, subject_id LIMIT 10
"""
_DAYS = """
SELECT period_start, sum(sum) AS total, sum(record_count) AS n FROM usage_windows FINAL
WHERE period_type = 'daily' AND period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
    AND period_start < fromUnixTimestamp64Micro({end:Int64}, 'UTC')
    AND org_id = {org_id:String} AND metric_key = {metric_key:String}
GROUP BY period_start ORDER BY period_start
"""


@dataclass(frozen=True)
class Measured:
    """Wall seconds of each call, and CPU seconds and the peak memory of ClickHouse in bytes over all of them."""

    seconds: list[float]
    cpu: float
    peak: int

    def cells(self, what: str, base: Measured | None = None) -> list[object]:
        ordered = sorted(self.seconds)
        each = self.cpu / len(ordered)
        ratio = "" if base is None else f"{each / (base.cpu / len(base.seconds)):.2f}"
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        p50 = statistics.median(ordered)
        return [what, f"{p50 * 1e3:.1f}", f"{p99 * 1e3:.1f}", f"{each * 1e3:.1f}", ratio, f"{self.peak / 1e6:.0f}"]


HEADERS = ["operation", "p50 ms", "p99 ms", "ClickHouse CPU ms", "of by hand", "peak MB"]


class Queries:
    """`pid` is that of the ClickHouse server."""

    def __init__(self, settings: ClickHouseSettings, pid: int, windows: int) -> None:
        self._settings, self._pid = settings, pid
        self.windows, self._subjects = stored.fill(settings, windows, console.say)
        self._month = stored.first_month(datetime.now(UTC))
        self._next = (self._month + timedelta(days=32)).replace(day=1)
        self._random = random.Random(7)

    def lookups(self) -> list[list[object]]:
        """One subject and month, and what is asked about one organization."""
        with Metering(clickhouse=self._settings) as metering, connect(self._settings) as client:
            summary, days = metering.usage.get_summary, timedelta(days=1)
            month = {"start": self._month, "end": self._month + days}

            def one(number: int) -> dict[str, Any]:
                org_id, metric_key, *subject = stored.subject_of(number)
                name = {"org_id": org_id, "metric_key": metric_key}
                key = subject_key(org_id, metric_key, *subject)
                partition = partition_of(key, stored.PARTITIONS)
                found = {"partition": partition, "start": micros(self._month), "end": micros(self._next)}
                return {**name, **dict(zip(("subject_type", "subject_id"), subject, strict=True)), **found}

            def asked(number: int) -> object:
                org_id, metric_key, *subject = stored.subject_of(number)
                return summary(metric_key, subject=(subject[0], subject[1]), org_id=org_id, **month)

            def org(number: int) -> dict[str, Any]:
                org_id, metric_key, *_ = stored.subject_of(number)
                return {"metric_key": metric_key, "org_id": org_id}

            by_hand = self._repeat(LOOKUPS, lambda n: client.rows(_LOOKUP, one(n), _FINAL))
            rows = [
                by_hand.cells("primary key, by hand"),
                self._repeat(LOOKUPS, asked).cells("get_summary of one subject and month", by_hand),
                self._repeat(LOOKUPS, lambda n: client.rows(_VIEW, one(n))).cells(
                    "the same from usage_monthly", by_hand
                ),
            ]
            top = self._repeat(20, lambda n: client.rows(_TOP, one(n), _FINAL))
            found = self._repeat(20, lambda n: summary(**org(n), by_subject=True, top=10, **month))
            rows += [top.cells("top 10 of a month, by hand"), found.cells("get_summary of the top 10", top)]
            hand = self._repeat(20, lambda n: client.rows(_DAYS, one(n), _FINAL))
            span = {"start": self._month, "end": self._next}
            found = self._repeat(20, lambda n: summary(**org(n), period="daily", **span))
            rows += [hand.cells("total of an organization by day, by hand"), found.cells("get_summary by day", hand)]
            lists: dict[str, Callable[[int], object]] = {
                "thresholds.list": lambda n: metering.thresholds.list(),
                "alerts.list": lambda n: metering.alerts.list(),
                "periods.list": lambda n: metering.periods.list(),
                "periods.adjustments": lambda n: metering.periods.adjustments(),
            }
            rows += [self._repeat(10, call).cells(name) for name, call in lists.items()]
        return rows

    def proofs(self, *, view: bool) -> list[list[object]]:
        """Recounts of everything: the view, verify's own, and a closing of a month with its hours."""
        rows = []
        with connect(self._settings, timeout_seconds=4 * 3600) as client:
            records = client.value("SELECT toInt64(count()) FROM usage_records FINAL")

            def proven(_: int) -> None:
                for partition in range(stored.PARTITIONS):
                    (proof,) = prove_partitions(client, [partition])
                    if not proof.proven:
                        raise SystemExit(f"partition {partition} differs: {proof.differences[:3]}")

            found = self._repeat(1, proven)
            console.say(f"recount of verify: {records / found.seconds[0]:,.0f} records/s")
            rows.append(found.cells("windows against records, as verify does"))
            if view:
                found = self._repeat(1, lambda _: _nothing(client, "SELECT * FROM usage_reconciliation"))
                rows.append(found.cells("usage_reconciliation"))
            for period in (Period.MONTHLY, Period.DAILY):
                found = self._repeat(1, lambda _, period=period: self._close(client, period))  # type: ignore[misc]
                rows.append(found.cells(f"closing, {period.value}"))
            total = self._repeat(1, lambda _: client.value("SELECT toInt64(count()) FROM usage_closed"))
            rows.append(total.cells("rows of usage_closed"))
        return rows

    def _close(self, client: Client, period: Period) -> None:
        """The month, or every day of it."""
        next_offsets = {partition: row.next_offset for partition, row in read_progress(client).items()}
        days = [self._month + timedelta(days=number) for number in range((self._next - self._month).days)]
        starts = [micros(self._month)] if period is Period.MONTHLY else [micros(day) for day in days]
        for closing in close_periods(client, read_rules(client), next_offsets, period, starts, "", 0):
            if isinstance(closing, Exception):
                raise closing

    def _repeat(self, times: int, call: Callable[[int], object]) -> Measured:
        seconds = []
        with self._peak() as peak:
            before = machine.sample(self._pid).cpu
            for _ in range(times):
                number = self._random.randrange(self._subjects)
                begun = time.perf_counter()
                call(number)
                seconds.append(time.perf_counter() - begun)
            cpu = machine.sample(self._pid).cpu - before
        console.say(f"  {times} x in {sum(seconds):.1f} s")
        return Measured(seconds, cpu, max(peak))

    @contextmanager
    def _peak(self) -> Iterator[list[int]]:
        found, stop = [machine.sample(self._pid).memory], threading.Event()

        def watch() -> None:
            while not stop.wait(0.05):
                found.append(machine.sample(self._pid).memory)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield found
        finally:
            stop.set()
            watching.join()


def _nothing(client: Client, sql: str) -> None:
    if rows := client.rows(sql):
        raise SystemExit(f"{sql} found {rows[:3]}")


def report(settings: ClickHouseSettings, pid: int, windows: int, *, view: bool = True) -> None:
    """Fill the database, measure and print."""
    queries = Queries(settings, pid, windows)
    console.say()
    console.say(f"{queries.windows:,} windows")
    console.table(HEADERS, queries.lookups())
    console.table(HEADERS, queries.proofs(view=view))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--keep", type=Path, help="Folder of the database, for the next run.")
    parser.add_argument("--no-view", action="store_true", help="Leave usage_reconciliation out.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        server = ClickHouseProcess(folder / "clickhouse", "bench", port=0)
        (folder / "clickhouse").mkdir(parents=True, exist_ok=True)
        server.start()
        try:
            settings = ClickHouseSettings(
                url=server.url, username="default", password="bench", database=f"queries_{arguments.windows}"
            )
            report(settings, server.process.pid, arguments.windows, view=not arguments.no_view)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
