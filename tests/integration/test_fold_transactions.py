"""Producers with transactions: what they abort is never counted, and their markers leave gaps between offsets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from meterfold_processor.kafka import clients
from meterfold_processor.kafka.offsets import log_bounds
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support.fold import Installation, Outgoing, check, event, running
from support.fold.installation import send


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings)
    yield made
    made.close()


def test_history_36_aborted_events_are_not_counted_and_markers_do_not_hold_up_folded(
    installation: Installation,
) -> None:
    committed, aborted = _send_in_transactions(installation)
    with running(installation) as worker:
        installation.wait_folded(worker)
    truth = check(installation)
    assert set(committed) == truth.counted
    assert not set(aborted) & truth.counted

    # Behind the last event stand markers, which nobody ever folds.
    bounds = log_bounds(installation.kafka, installation.topics.usage_recorded, [0, 1])
    rows = installation.progress()
    gaps = {partition: bounds[partition][1] - row.next_offset for partition, row in rows.items()}
    assert max(gaps.values()) > 0
    with running(installation) as worker:
        worker.wait_for_partitions(2)
        installation.send(*(event(f"v{number}") for number in range(6)))
        installation.wait_folded(worker)
    check(installation)


def test_a_reader_of_uncommitted_events_would_count_what_was_aborted(installation: Installation) -> None:
    _send_in_transactions(installation)

    def careless() -> object:
        group = installation.kafka.topic_prefix + "careless"
        return clients.consumer(installation.kafka, group, "consumer", **{"isolation.level": "read_uncommitted"})

    with running(installation, consumer=careless) as worker:
        installation.wait_folded(worker)
    with pytest.raises(AssertionError, match=r"usage_records: .* too many"):
        check(installation)


def _send_in_transactions(installation: Installation) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Positions of what was committed and of what was aborted."""
    writer = Producer(
        installation.kafka.client(
            **{
                "transactional.id": f"{installation.kafka.topic_prefix}application",
                "partitioner": "murmur2_random",
            }
        )
    )
    writer.init_transactions(60)
    committed, aborted = [], []
    topic = installation.topics.usage_recorded
    for number, kept in enumerate([True, False, True, False, True, False]):
        writer.begin_transaction()
        whole: list[Outgoing] = [event(f"u{n}", number + 1) for n in range(10)]
        positions = send(writer, topic, tuple(whole))
        if kept:
            writer.commit_transaction(60)
            committed += positions
        else:
            writer.abort_transaction(60)
            aborted += positions
    return committed, aborted
