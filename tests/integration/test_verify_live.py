"""`verify` while everything runs, while things are missing, and as a command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from confluent_kafka import TopicPartition

from meterfold_cli import exits
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.verify import TimeRange, VerifyResult
from meterfold_schemas.errors import Retryable
from meterfold_service.status.kafka_view import KafkaInspector, PendingPositions
from support import eventually
from support.cli import answer, inside, meterfold
from support.kafka import admin, producer
from support.verify.history import History, folded, installed


@pytest.fixture
def history(stack: LocalStack) -> Iterator[History]:
    with installed(stack) as history:
        yield history


@contextmanager
def sending(history: History) -> Iterator[None]:
    """Events without a pause, up and down through the threshold, every third of them twice."""
    stop, failures = Event(), list[BaseException]()

    def run() -> None:
        try:
            number = 0
            while not stop.is_set():
                number += 1
                event = history.event(f"e{number}", f"u{number % 5}", 45 if number % 50 < 25 else -45)
                history.send(*([event] * (1 + (number % 3 == 0))))
        except BaseException as failure:
            failures.append(failure)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
    assert not failures, failures


def test_history_35_a_running_system_shows_no_difference(history: History) -> None:
    with history.checking(), history.folding():
        with sending(history):
            for _ in range(2):
                report = history.verify(contents=True)
                assert not report.findings, [*map(str, report.findings)]
        report = history.verify(wait_seconds=60)
        assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]
        assert sum(p.counted for p in report.partitions) > 0
        assert report.thresholds.events > 0


def test_history_36_markers_at_the_end_of_the_log_are_folded(history: History) -> None:
    """And what stands between them is proven: committed events are counted, aborted ones are no gaps."""
    with history.checking(), history.folding():
        for number in range(3):
            committed = [history.event(f"c{number}-{i}", f"u{i}", 1) for i in range(6)]
            history.send_in_transactions(committed, [history.event(f"a{number}-{i}", f"u{i}", 1) for i in range(6)])
        report = history.verify(wait_seconds=60)
    assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]
    assert report.unfolded == []
    assert sum(p.counted for p in report.partitions) == 18
    # The last markers are never passed by a progress row, so the offsets behind it are not among these.
    assert sum(p.no_message for p in report.partitions) >= 2 * 18 // 3
    assert any(p.next_offset is not None and p.next_offset < p.log_end for p in report.partitions)


def test_what_is_missing_is_said_and_is_no_difference(history: History) -> None:
    report = history.verify()
    assert report.verdict is VerifyResult.UNPROVEN
    assert {(u.check, u.place, u.passing) for u in report.unproven} == {
        ("definitions", "metric_definitions", True),
        ("definitions", "thresholds", True),
    }
    with history.checking():
        client = history.there.client
        eventually(lambda: client.value("SELECT count() FROM thresholds FINAL") == 1, 30, "the threshold is mirrored")
        eventually(lambda: client.value("SELECT count() FROM metric_definitions") == 1, 30, "the metric is mirrored")
    report = history.verify()
    assert report.verdict is VerifyResult.PROVEN, [*map(str, report.unproven)]  # no event at all
    history.send(history.event("e1", "u1", 150))
    partition = history.partition_of("u1")
    report = history.verify()
    assert (report.verdict, report.unfolded) == (VerifyResult.PROVEN, [partition])
    report = history.verify(wait_seconds=0.2)
    assert report.verdict is VerifyResult.UNPROVEN
    (unproven,) = report.unproven
    assert (unproven.partition, unproven.offset, unproven.passing) == (partition, 0, True)
    with history.folding():
        folded(history)
    report = history.verify()
    assert (report.verdict, report.unfolded, report.thresholds.judged) == (VerifyResult.UNPROVEN, [], False)
    (unproven,) = report.unproven
    assert (unproven.place, unproven.partition, unproven.passing) == (
        history.there.topics.usage_windows,
        partition,
        True,
    )
    assert "the checker" in unproven.why
    with history.checking():
        report = history.verify(wait_seconds=30)
        assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]


def test_an_open_transaction_is_named(history: History) -> None:
    """The fold cannot read past it, and neither can anybody else."""
    topic, partition = history.there.topics.usage_recorded, history.partition_of("u1")
    sender = producer(history.kafka, **{"transactional.id": f"{history.kafka.topic_prefix}endless"})
    sender.init_transactions(20)
    with history.checking(), history.folding():
        history.send(history.event("e1", "u1", 1))
        folded(history)
        sender.begin_transaction()
        event = history.event("e2", "u1", 1)
        sender.produce(topic, event.to_bytes(), event.key, partition)
        assert sender.flush(20) == 0
        report = history.verify(wait_seconds=0.2)
        (unproven,) = (one for one in report.unproven if one.check == "progress")
        assert (unproven.partition, unproven.offset, unproven.passing) == (partition, 1, True)
        assert "the transaction at offset 1 is open and blocks read_committed consumers" in unproven.why
        inspector = KafkaInspector(history.kafka, "fold", history.checker_group)
        try:
            (found,) = inspector.look().open_transactions
            assert (found.topic, found.partition, found.offset) == (topic, partition, 1)
            assert found.stamp is not None
            assert abs(found.stamp - event.timestamp.timestamp()) < 600
            sender.commit_transaction(20)
            eventually(lambda: not inspector.look().open_transactions, 30, "the transaction has ended")
            (head,) = inspector.waiting(inspector.look(), PendingPositions({partition: 1}, {})).events.values()
            assert head.header == event.to_bytes()[:10]
            assert inspector.waiting(inspector.look(), PendingPositions({partition: 2}, {})).events == {}
        finally:
            inspector.close()
        report = history.verify(wait_seconds=60)
        assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]


def test_messages_that_have_left_the_log_are_named(history: History) -> None:
    """The rows are still counted and their windows recounted; what had a row and has none any more is found by the
    counters of the whole, and not by a range of time, which says so."""
    partition, client = history.partition_of("u1"), history.there.client
    first = history.event("e1", "u1", 1)
    with history.checking(), history.folding():
        history.send(first, first, *(history.event(f"e{n}", "u1", 1) for n in range(2, 6)))
        folded(history)
        assert history.verify(wait_seconds=30, contents=True).verdict is VerifyResult.PROVEN
    place = TopicPartition(history.there.topics.usage_recorded, partition, 4)
    kafka = admin(history.kafka)  # kept: its answers end with it
    for future in kafka.delete_records([place]).values():
        future.result(30)
    day = timedelta(days=1)
    within = TimeRange(first.timestamp - day, first.timestamp + day)
    for more in ({}, {"within": within}):
        report = history.verify(**more)
        assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]
        assert (report.partitions[partition].log_start, report.partitions[partition].began_at) == (4, 0)
    report = history.verify(contents=True)
    assert report.findings == ()
    (unproven,) = report.unproven
    assert (unproven.check, unproven.partition, unproven.offset, unproven.last_offset, unproven.passing) == (
        "contents",
        partition,
        0,
        3,
        False,
    )
    assert "messages of 4 rows" in unproven.why
    assert report.partitions[partition].compared == 2

    client.command(f"DELETE FROM usage_duplicates WHERE partition = {partition}")
    report = history.verify()
    lost = [f for f in report.findings if f.offset is not None]
    assert [(f.partition, f.offset, f.last_offset, f.expected) for f in lost] == [(partition, 1, 1, "1 more")]
    report = history.verify(within=within)
    (unproven,) = report.unproven
    assert report.findings == ()
    assert (unproven.check, unproven.partition, unproven.offset, unproven.last_offset) == (
        "conservation",
        partition,
        1,
        1,
    )


def test_the_command(history: History, stack: LocalStack, tmp_path: Path) -> None:
    settings = tmp_path / "meterfold.toml"
    write_settings(settings, history.kafka, history.there.clickhouse)
    env = {
        **stack.environment(),
        "METERFOLD_CONFIG": str(settings),
        "METERFOLD_CHECKER_GROUP_ID": history.checker_group,
    }
    history.send(history.event("e1", "u1", 1), history.event("e2", "u2", 1))
    with history.checking(), history.folding():
        done = meterfold("verify", "--wait", "30", "--contents", env=env)
    assert done.returncode == exits.OK, done.stdout + done.stderr
    assert "proven: 2 records in 8 windows, every one once" in done.stdout
    today = datetime.now(UTC).date()
    days = ("--from", str(today - timedelta(days=1)), "--to", f"{today + timedelta(days=1)}T00:00:00Z")
    part = answer("verify", *days, env=env)
    assert (part["verdict"], part["range_start"]) == ("proven", f"{today - timedelta(days=1)}T00:00:00Z")
    assert sum(p["windows"] for p in part["partitions"]) == 4
    for wrong in (days[:2], (*days[:2], "--to", "soon"), (*days[2:], "--from", "2026-01-01T00:00")):
        assert inside("verify", *wrong, env=env).returncode == exits.USAGE
    history.there.client.command("DELETE FROM usage_records WHERE id = 'e1'")
    done = meterfold("verify", "--json", env=env)
    assert done.returncode == exits.FAILED, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["verdict"] == "different"
    lost = next(f for f in told["findings"] if f["offset"] is not None)
    assert (lost["partition"], lost["offset"], lost["found"]) == (history.partition_of("u1"), 0, "none")
    away = tmp_path / "away.toml"
    kafka = history.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    clickhouse = history.there.clickhouse.model_copy(update={"url": "http://127.0.0.1:1"})
    for servers, address, server in (
        ((history.kafka, clickhouse), "http://127.0.0.1:1", "ClickHouse"),
        ((kafka, history.there.clickhouse), "127.0.0.1:1", "Kafka at 127.0.0.1:1"),
    ):
        write_settings(away, *servers)
        done = meterfold("verify", "--config", away, env=env)
        assert done.returncode == exits.UNAVAILABLE, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"meterfold: {server} could not be reached")
        assert address in line
        assert "Check the address" in line
        assert done.stdout == ""


def test_a_server_that_is_down_is_no_answer(history: History) -> None:
    away = history.there.clickhouse.model_copy(update={"url": "http://127.0.0.1:1"})
    with pytest.raises(Retryable):
        history.verify(away)
