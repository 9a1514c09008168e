"""`make bench`: what the fold does per second and per event, beside a bare copy on the same machine in the same run.

    python benchmarks/bench.py [--events N] [--runs N] [--seed N] [--identities N] [--windows N]
                               [--rate N] [--seconds N] [--keys N]
                               [--only dense|sparse|checker|latency|export|verify|queries|frames|identities|http|pages]
    python benchmarks/bench.py --growth [--subjects N ...] [--partitions N ...] [--workers N ...] [--events N]

Every result is compared with polars' own group by over the same events before it is printed; a difference ends the run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

import backlog
import checker
import checker_stack
import exports
import frames
import growth
import http_events
import identities
import latency
import machine
import pages
import queries
import stages
import verifying
from meterfold_cli import console
from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.garbage import PausedGC
from meterfold_processor.kafka import clients
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink import fold_state
from meterfold_sink.client import connect

PARTITIONS = 4
DEADLINE = 300.0
AIMS = {"dense": 150_000, "sparse": 80_000}


@dataclass(frozen=True)
class Place:
    """One topic prefix and one database, and the settings file that names them."""

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    config: Path


@dataclass(frozen=True)
class Run:
    """`seconds` from ready to done; `cpu` in microseconds per event by process; `memory` of the worker in bytes."""

    seconds: float
    cpu: dict[str, float]
    memory: int


def main() -> None:
    if "--growth" in sys.argv:
        growth.main(sys.argv[1:])
        return
    arguments = _arguments()
    console.say(f"{machine.describe()}; seed {arguments.seed}")
    if arguments.only in (None, "checker"):
        _checker()
    with tempfile.TemporaryDirectory() as folder, LocalStack(folder, kafka_port=0, clickhouse_port=0) as stack:
        for name in ("dense", "sparse"):
            if arguments.only in (None, name):
                _bench(stack, name, arguments)
        if arguments.only in (None, "latency"):
            _latency(stack, arguments)
        if arguments.only in (None, "checker"):
            _checker_stack(stack, arguments)
        if arguments.only in (None, "export"):
            _export(stack, arguments)
        if arguments.only in (None, "verify"):
            _verify(stack, arguments)
        if arguments.only in (None, "http"):
            _http(stack, arguments)
        if arguments.only == "queries":
            # Not in a plain run: ten million windows take minutes to make, and two gigabytes of disk.
            settings = stack.clickhouse_settings("bench_queries")
            queries.report(settings, stack.clickhouse.process.pid, arguments.windows)
        if arguments.only == "pages":
            pages.report(stack, arguments.windows, pages.TIMES)
        if arguments.only == "identities":
            _identities(stack, arguments)
    if arguments.only in (None, "frames"):
        _frames(arguments)


def _bench(stack: LocalStack, name: str, arguments: argparse.Namespace) -> None:
    now = int(time.time() * 1e6)
    made = backlog.make(name, now, arguments.seed, arguments.events)
    source = _place(stack, name, f"{name}_fold_0")
    migrate_all(source.kafka, source.clickhouse, MigrationOptions(partition_count=PARTITIONS))
    backlog.send(made, source.kafka, PARTITIONS)
    expected = backlog.expected_windows(made)

    folds: list[Run] = []
    copies: list[Run] = []
    for number in range(arguments.runs):
        place = _place(stack, name, f"{name}_fold_{number}")
        migrate_all(place.kafka, place.clickhouse, MigrationOptions(partition_count=PARTITIONS))
        folds.append(_fold(stack, place, number, arguments.events))
        _compare(place, expected, made)
        target = _place(stack, name, f"{name}_copy_{number}")
        migrate_all(target.kafka, target.clickhouse, MigrationOptions(partition_count=PARTITIONS))
        copies.append(_copy(stack, target, number, arguments.events))
        for used in (place, target):
            with connect(used.clickhouse) as client:
                client.command(f"DROP DATABASE `{used.clickhouse.database}`")
    _report(name, arguments.events, folds, copies)
    _stages(stack, name, arguments.events)


def _place(stack: LocalStack, name: str, database: str) -> Place:
    prefix = f"bench-{name}."
    config = stack.data_dir / f"{database}.toml"
    place = Place(stack.kafka_settings(prefix), stack.clickhouse_settings(database), config)
    write_settings(config, place.kafka, place.clickhouse)
    return place


def _fold(stack: LocalStack, place: Place, number: int, events: int) -> Run:
    environment = {"METERFOLD_CONFIG": str(place.config), "METERFOLD_FOLD_GROUP_ID": f"fold-{number}-{time.time_ns()}"}
    worker = stack.spawn(f"fold-{place.clickhouse.database}", command("fold"), environment)
    worker.wait_for_line("fold: ready", 60)
    with connect(place.clickhouse) as client:

        def folded() -> bool:
            rows = fold_state.read_progress(client).values()
            return sum(row.counted + row.duplicates + row.rejected for row in rows) >= events

        return _timed(stack, worker, events, folded)


def _copy(stack: LocalStack, place: Place, number: int, events: int) -> Run:
    script = str(Path(__file__).with_name("bare_copy.py"))
    process = stack.spawn(
        f"copy-{number}", [sys.executable, script, str(events)], {"METERFOLD_CONFIG": str(place.config)}
    )
    process.wait_for_line("ready", 60)
    return _timed(stack, process, events, lambda: "done" in process.output())


def _timed(stack: LocalStack, process: ManagedProcess, events: int, done: Callable[[], bool]) -> Run:
    pids = {
        "worker": process.pid,
        "ClickHouse": stack.clickhouse.process.pid,
        "Kafka": stack.kafka.brokers[0].process.pid,
    }
    before = {name: machine.sample(pid) for name, pid in pids.items()}
    begun = time.monotonic()
    while not done():
        stack.check()
        if time.monotonic() - begun > DEADLINE:
            raise SystemExit(f"{process.name} was not done after {DEADLINE:.0f} s{process.quote()}")
        time.sleep(0.25)
    seconds = time.monotonic() - begun
    after = {name: machine.sample(pid) for name, pid in pids.items()}
    stack.end(process)
    cpu = {name: (after[name].cpu - before[name].cpu) / events * 1e6 for name in pids}
    return Run(seconds, cpu, after["worker"].memory)


def _compare(place: Place, expected: pl.DataFrame, made: backlog.Backlog) -> None:
    """Every window, to the digit, and the number of records and duplicates."""
    keys = pl.DataFrame(
        [(key, *backlog.subject(key)) for key in range(backlog.KEYS)],
        schema=["key", "org_id", "metric_key", "subject_type", "subject_id"],
        orient="row",
    )
    names = ["org_id", "metric_key", "subject_type", "subject_id"]
    with connect(place.clickhouse) as client:
        stored = pl.DataFrame(
            client.query(
                "SELECT org_id, metric_key, subject_type, subject_id, toString(period_type) AS period_type, "
                "period_start, record_count AS count, sum, min, max FROM usage_windows FINAL"
            )
        )
        counted = client.value("SELECT count() FROM usage_records FINAL")
        duplicates = client.value("SELECT count() FROM usage_duplicates FINAL")
    number = pl.col("sum", "min", "max").cast(pl.Int64)
    columns = expected.columns
    found = stored.with_columns(pl.col(names).cast(pl.String), number).join(keys, on=names).select(columns)
    order = ["period_type", "period_start", "key"]
    same = found.sort(order).equals(expected.select(columns).cast(dict(found.schema)).sort(order))
    if not same or counted != made.counted().height or counted + duplicates != len(made.key):
        raise SystemExit(f"{made.name}: the fold's result differs from the oracle's; the figures would mean nothing")


def _report(name: str, events: int, folds: list[Run], copies: list[Run]) -> None:
    def rate(runs: list[Run]) -> float:
        return events / statistics.median(run.seconds for run in runs)

    def cells(what: str, runs: list[Run]) -> list[object]:
        cpu = {process: statistics.median(run.cpu[process] for run in runs) for process in runs[0].cpu}
        return [
            what,
            round(rate(runs)),
            *(f"{value:.1f}" for value in cpu.values()),
            f"{sum(cpu.values()):.1f}",
            f"{statistics.median(run.memory for run in runs) / 1e6:.0f}",
        ]

    console.say()
    console.table(
        [f"{name}, median of {len(folds)}", "events/s", "worker us", "ClickHouse us", "Kafka us", "CPU us/event", "MB"],
        [cells("fold into ClickHouse", folds), cells("bare copy", copies)],
    )
    console.say(
        f"{name}: {rate(folds) / rate(copies):.2f} of the bare copy; aim {AIMS[name]:,} events/s; equal to the oracle"
    )


def _stages(stack: LocalStack, name: str, events: int) -> None:
    place = _place(stack, name, f"{name}_stages")
    migrate_all(place.kafka, place.clickhouse, MigrationOptions(partition_count=PARTITIONS))
    consumer = clients.consumer(place.kafka, "bench-stages", "consumer", **{"fetch.min.bytes": 1_000_000})
    try:
        with PausedGC():
            found = stages.measure(
                place.kafka,
                Topics(place.kafka.topic_prefix).usage_recorded,
                Opening(place.kafka, place.clickhouse),
                consumer,
                events,
                FoldSettings().batch_events,
            )
    finally:
        consumer.close()
    console.say()
    rows = [[stage, f"{value:.2f}"] for stage, value in found.items()]
    console.table([f"{name}: the worker's stages", "CPU us/event"], [*rows, ["sum", f"{sum(found.values()):.2f}"]])


def _latency(stack: LocalStack, arguments: argparse.Namespace) -> None:
    place = _place(stack, "latency", "latency")
    migrate_all(place.kafka, place.clickhouse, MigrationOptions(partition_count=PARTITIONS))
    environment = {"METERFOLD_CONFIG": str(place.config)}
    workers = [stack.spawn(f"latency-{kind}", command(kind), environment) for kind in ("fold", "check")]
    workers[0].wait_for_line("fold: ready", 60)
    workers[1].wait_for_line("check: ready", 60)
    stages = latency.measure(
        place.kafka, place.clickhouse, PARTITIONS, arguments.rate, arguments.seconds, arguments.keys
    )
    for worker in workers:
        stack.end(worker)
    whole = [sum(found) for found in stages]
    console.say()
    console.say(
        f"latency: event to threshold.exceeded at {arguments.rate:,} events/s of {arguments.keys:,} subjects for "
        f"{arguments.seconds} s, {len(whole)} crossings; aim p99 1.5 s"
    )
    columns = [*zip(latency.STAGES, zip(*stages, strict=True), strict=True), ("all of it", whole)]
    console.table(
        ["stage", "p50 s", "p99 s", "most s"],
        [
            [
                name,
                f"{statistics.median(found):.3f}",
                f"{statistics.quantiles(found, n=100)[98]:.3f}",
                f"{max(found):.3f}",
            ]
            for name, found in columns
        ],
    )


def _export(stack: LocalStack, arguments: argparse.Namespace) -> None:
    settings = stack.clickhouse_settings("bench_export")
    exports.fill(settings, arguments.events)
    found = {kind: exports.measure(settings, kind) for kind in exports.KINDS}
    with connect(settings) as client:
        client.command(f"DROP DATABASE `{settings.database}`")
    base = found["stream"].seconds
    console.say()
    console.table(
        [f"export of {arguments.events:,} records", "rows/s", "seconds / stream", "CPU us/row", "peak MB", "MB"],
        [
            [
                "clickhouse-connect's Arrow stream" if kind == "stream" else kind,
                round(arguments.events / run.seconds),
                f"{run.seconds / base:.2f}",
                f"{run.cpu / arguments.events * 1e6:.2f}",
                f"{run.peak / 1e6:.0f}",
                f"{run.size / 1e6:.0f}",
            ]
            for kind, run in found.items()
        ],
    )


def _verify(stack: LocalStack, arguments: argparse.Namespace) -> None:
    made = backlog.make("dense", int(time.time() * 1e6), arguments.seed, arguments.events)
    place = _place(stack, "verify", "bench_verify")
    migrate_all(place.kafka, place.clickhouse, MigrationOptions(partition_count=PARTITIONS))
    backlog.send(made, place.kafka, PARTITIONS)
    _fold(stack, place, 0, arguments.events)
    _compare(place, backlog.expected_windows(made), made)
    environment = {"METERFOLD_CONFIG": str(place.config)}
    runs = list(verifying.measure(environment, stack.clickhouse.process.pid, stack.data_dir / "verify.log"))
    console.say()
    console.table(
        [f"verify of {arguments.events:,} records", "records/s", "verify us", "ClickHouse us", "peak MB"],
        [
            [
                run.way,
                round(arguments.events / run.seconds),
                *(f"{seconds / arguments.events * 1e6:.1f}" for seconds in run.cpu),
                f"{run.peak / 1e6:.0f}",
            ]
            for run in runs
        ],
    )


def _http(stack: LocalStack, arguments: argparse.Namespace) -> None:
    place = _place(stack, "http", "bench_http")
    migrate_all(place.kafka, place.clickhouse, MigrationOptions(partition_count=PARTITIONS))
    runs = list(http_events.measure(stack, place.kafka, place.clickhouse, place.config, arguments.seconds))
    console.say()
    console.table(
        ["POST /v1/events, events per request", "events/s", "server us/event", "Kafka us/event", "p50 ms", "p99 ms"],
        [
            [
                run.batch,
                round(run.rate),
                *(f"{value:.1f}" for value in run.cpu.values()),
                f"{run.p50 * 1e3:.1f}",
                f"{run.p99 * 1e3:.1f}",
            ]
            for run in runs
        ],
    )
    console.say(
        f"http: {http_events.CONNECTIONS} connections; aim 20,000 events/s in batches of 100; every accepted event was "
        "counted"
    )


def _frames(arguments: argparse.Namespace) -> None:
    found = frames.measure(min(arguments.events, 300_000), arguments.seed)
    one_by_one = found["encode the same rows one by one"]
    rows = [[what, f"{cpu:.2f}", f"{cpu / one_by_one:.2f}"] for what, cpu in found.items()]
    console.say()
    console.table(["record_batch of a polars frame", "CPU us/event", "of one by one"], rows)


def _identities(stack: LocalStack, arguments: argparse.Namespace) -> None:
    """Only when asked for: it takes a minute and 2.6 bytes for each of a hundred million identities."""
    now = int(time.time() * 1e6)
    found = identities.look_ups(arguments.identities, arguments.seed, now)
    console.say()
    console.table(
        ["identities", "tables", "MB", "bytes each", "build s/30 M", "CPU us/event", "false hits/event"],
        [
            [
                f"{found.identities:,}",
                found.tables,
                f"{found.memory / 1e6:.0f}",
                f"{found.bytes_each:.2f}",
                f"{found.build:.2f}",
                f"{found.cpu:.2f}",
                f"{found.false_hits:.5f}",
            ]
        ],
    )
    stored = min(arguments.identities, 100_000_000)
    settings = stack.clickhouse_settings("bench_identities")
    served = identities.serving(settings, stored, stored // 10, arguments.seed, now)
    with connect(settings) as client:
        client.command(f"DROP DATABASE `{settings.database}`")
    console.say(
        f"{stored:,} stored identities, {served.records:,} records: the first {identities.BATCH:,} events were folded "
        f"{served.first_batches:.1f} s after the assignment (a batch took {served.before:.2f} s), all was loaded after "
        f"{served.loaded:.1f} s (a batch took {served.after:.2f} s)"
    )


def _checker() -> None:
    rows = [
        [
            f"{subjects:,}",
            f"{one.first:.2f}",
            f"{one.row:.2f}",
            f"{one.emit:.2f}",
            f"{one.read_back:.2f}",
            f"{one.memory:.0f}",
        ]
        for subjects, one in checker.measured()
    ]
    console.say()
    console.table(
        [
            "checker: subjects",
            "judge stored us/row",
            "judge stream us/row",
            "emit us/aggregate",
            "read back us/aggregate",
            "bytes/window",
        ],
        rows,
    )


def _checker_stack(stack: LocalStack, arguments: argparse.Namespace) -> None:
    rows = []
    for subjects in (size for size in checker.SIZES if size <= arguments.subjects):
        place = _place(stack, f"checker{subjects}", f"checker_{subjects}")
        found = checker_stack.measure(stack, place.kafka, place.clickhouse, str(place.config), subjects)
        seconds = [f"{found.seconds[name]:.1f}" for name in ("assigned", "stored", "changed", "restarted")]
        memory = [f"{found.memory[name] / 1e6:.0f}" for name in ("checker", "ClickHouse")]
        rows.append([f"{subjects:,}", *seconds, round(found.rate), f"{found.cpu:.1f}", *memory])
    console.say()
    head = ["subjects", "first event s", "all events s", "changed s", "restart to a fresh event s"]
    console.table([*head, "aggregates/s", "us/aggregate", "checker MB", "ClickHouse MB"], rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=backlog.EVENTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--only",
        choices=[
            "dense",
            "sparse",
            "checker",
            "latency",
            "export",
            "verify",
            "queries",
            "frames",
            "identities",
            "http",
            "pages",
        ],
    )
    parser.add_argument("--windows", type=int, default=queries.WINDOWS, help="Stored windows, for queries and pages.")
    parser.add_argument("--identities", type=int, default=100_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--keys", type=int, default=backlog.KEYS, help="subjects and metrics of the latency part")
    parser.add_argument("--subjects", type=int, default=checker.SIZES[-1], help="the most subjects of a checker")
    return parser.parse_args()


if __name__ == "__main__":
    main()
