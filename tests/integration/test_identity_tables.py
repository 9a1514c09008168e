"""Identity tables in a real ClickHouse: built from records, found by the next owner, and built again where damaged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from meterfold_processor.fold import recall
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.opening import StoredHistory
from meterfold_processor.fold.partition import Folded, PartitionFold
from meterfold_processor.fold.remembered import week_of
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.store import Progress
from meterfold_processor.fold.stored_identities import StoredIdentities
from meterfold_schemas.periods import DAY, from_micros, micros
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink import identity_tables
from meterfold_sink.client import Client, connect
from meterfold_sink.rules import FoldRules

STORED = FoldRules(cluster_id="c", topic_id="t", partition_count=1)
RULES = Rules.of(STORED)
PARTITION = 0
EACH = 20_000
WEEKS = 3
NOW = micros(datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0))
SUBJECT = {"org_id": "", "metric_key": "api.calls", "subject_type": "user", "subject_id": "ann"}
KEY = '["","api.calls","user","ann"]'


@pytest.fixture
def client(tables: None, clickhouse_settings: ClickHouseSettings) -> Iterator[Client]:
    with connect(clickhouse_settings) as opened:
        yield opened


def arrived(number: int) -> int:
    """The stamp of the record at this offset: one after the other over the past weeks."""
    return NOW - WEEKS * 7 * DAY + number * (WEEKS * 7 * DAY // (WEEKS * EACH))


def fill(client: Client) -> Progress:
    """Records e0, e1, ... of one subject with their right hashes, twice as after a repeated insert."""
    for _ in range(2):
        client.command(
            "INSERT INTO usage_records (org_id, metric_key, subject_type, subject_id, id, quantity, timestamp, "
            "received_at, partition, offset, identity_hash) SELECT '', 'api.calls', 'user', 'ann', "
            "concat('e', toString(number)) AS event, 1, fromUnixTimestamp64Micro(stamp, 'UTC'), "
            f"fromUnixTimestamp64Micro(toInt64({arrived(0)} + number * {arrived(1) - arrived(0)}) AS stamp, 'UTC'), "
            f"{PARTITION}, number, xxHash64(concat({{key:String}}, event)) FROM numbers({WEEKS * EACH})",
            {"key": KEY},
        )
    last = WEEKS * EACH - 1
    return Progress(PARTITION, last + 1, 0, last + 1, 0, 0, arrived(last))


def opened(client: Client, progress: Progress) -> PartitionFold:
    history = StoredHistory(client, PARTITION, identity_tables.identity_source(STORED))
    return PartitionFold(progress, history, RULES, lambda: NOW, lambda: None, stored=True)


def load(fold: PartitionFold) -> int:
    """All that there is to load; the number of steps."""
    steps = 0
    while fold.recall.step():
        steps += 1
        assert steps < 1_000
    assert not fold.recall.is_loading
    return steps


def send(fold: PartitionFold, *names: str) -> Folded:
    size, at = len(names), fold.progress.next_offset
    events = [UsageRecorded(id=name, quantity=1, timestamp=from_micros(NOW), **SUBJECT) for name in names]
    consumed = Consumed(
        np.zeros(size, np.int64),
        np.arange(size) + at,
        np.full(size, NOW),
        [event.key for event in events],
        [event.to_bytes() for event in events],
    )
    folded = fold.fold(decode(consumed).frame, consumed.values, 1)
    assert folded is not None
    return folded


NAMES = ("e0", f"e{EACH}", "new", f"e{WEEKS * EACH - 1}", f"e{EACH * 2 + 7}")
DUPLICATES = {0: 0, 1: EACH, 3: WEEKS * EACH - 1, 4: EACH * 2 + 7}


def check(fold: PartitionFold) -> None:
    """Events that were counted weeks ago are duplicates of those; the new one counts."""
    first = fold.progress.next_offset
    folded = send(fold, *NAMES)
    found = folded.duplicates.select(["offset", "counted_offset"]).to_pylist()
    assert {row["offset"] - first: row["counted_offset"] for row in found} == DUPLICATES
    assert folded.records["id"].to_pylist() == ["new"]


def versions(client: Client) -> list[identity_tables.TableVersion]:
    return identity_tables.read_versions(client, identity_tables.identity_source(STORED), PARTITION)


def test_tables_are_built_found_and_built_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "FEW", 1_000)
    monkeypatch.setattr(recall, "STEP_IDENTITIES", 20_000)
    progress = fill(client)

    check(opened(client, progress))  # nothing is loaded: all of it is looked up
    first = opened(client, progress)
    load(first)
    check(first)
    stored = versions(client)
    assert [one.week for one in sorted(stored, key=lambda one: one.week)] == sorted(first._remembered.tables)
    assert min(one.week for one in stored) == week_of(arrived(0))
    tables = [table for _, table in first._remembered.tables.values()]
    assert sum(map(len, tables)) > 0.9 * WEEKS * EACH
    assert sum(table.nbytes for table in tables) <= 2.6 * sum(map(len, tables))

    reads: list[str] = []
    for name in ("load_hashes", "load_pieces"):
        real = getattr(StoredIdentities, name)
        monkeypatch.setattr(StoredIdentities, name, lambda *a, real=real, name=name: (reads.append(name), real(*a))[1])
    second = opened(client, progress)
    load(second)
    check(second)
    assert set(reads) == {"load_pieces"}, "the next owner found every table"
    assert len(second._remembered) == len(first._remembered)

    client.command(
        "INSERT INTO identity_tables SELECT * REPLACE (unhex('00') AS remainders) FROM identity_tables "
        "WHERE piece = 0 AND week = (SELECT max(week) FROM identity_tables)"
    )
    client.command("OPTIMIZE TABLE identity_tables FINAL")
    third = opened(client, progress)
    load(third)
    check(third)
    assert reads.count("load_hashes") >= 1, "the damaged table was built again"

    fourth = opened(client, progress)
    load(fourth)
    client.command("TRUNCATE TABLE identity_tables")
    check(fourth)  # its rests are gone: hits are looked up in the records
    fifth = opened(client, progress)
    load(fifth)
    check(fifth)
    assert {one.week for one in versions(client)} == set(first._remembered.tables)


def test_what_is_left_out_is_looked_up_in_the_time_of_its_table(client: Client) -> None:
    progress = fill(client)
    history = StoredHistory(client, PARTITION, "another log")
    assert history.table_versions() == []
    hashes = history.load_hashes((0, 2**62), 0, 2**64 - 1)
    assert len(hashes) == 2 * WEEKS * EACH
    middle = 2**63
    low, high = history.load_hashes((0, 2**62), 0, middle), history.load_hashes((0, 2**62), middle + 1, 2**64 - 1)
    assert sorted([*low, *high]) == sorted(hashes)
    assert history.count_records((arrived(10), arrived(20))) == 10
    assert history.count_records((0, 2**62)) == pytest.approx(WEEKS * EACH, rel=0.01)

    def offsets(*spans: tuple[int, int]) -> set[int]:
        return set(history.find_records(hashes, list(spans))["offset"].to_list())

    assert offsets((arrived(10), arrived(20))) == set(range(10, 20))
    assert offsets((arrived(10), arrived(12)), (arrived(30), arrived(31))) == {10, 11, 30}
    late, _ = history.load_identities((0, arrived(100)), 90)
    assert len(set(late.tolist())) == 10
    assert progress.next_offset == WEEKS * EACH
    assert from_micros(arrived(0)) < datetime.now(UTC) - timedelta(days=20)
