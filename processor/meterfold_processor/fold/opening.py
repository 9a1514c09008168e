"""How a worker and a partition begin: the checks at the start, and a partition's state from ClickHouse."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold.decode import Hold
from meterfold_processor.fold.flush import progress_rows
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.registry import SchemaRegistry
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import Decided, Recognized, Schemas, Wait, decided, look
from meterfold_processor.fold.store import Progress
from meterfold_processor.fold.stored_identities import StoredIdentities
from meterfold_processor.fold.subjects import SUBJECT
from meterfold_processor.kafka import errors
from meterfold_processor.kafka.admin import Admin
from meterfold_processor.kafka.offsets import log_edge
from meterfold_processor.kafka.topics import ask_source, check_source
from meterfold_schemas import catalog
from meterfold_schemas.errors import Fatal
from meterfold_schemas.keys import Name
from meterfold_schemas.periods import Period
from meterfold_schemas.plurals import plural
from meterfold_schemas.schema_keys import registry_id
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink import fold_state, fold_windows, reads
from meterfold_sink.client import Client, connect
from meterfold_sink.identity_tables import identity_source
from meterfold_sink.migrate import check_schema
from meterfold_sink.rules import DECODER_VERSIONS, FoldRules
from meterfold_sink.schema_decisions import SchemaFacts, read_schema_facts, unknown_schema_hold, write_fact
from meterfold_sink.windows import has_windows
from meterfold_sink.writers import Writer

_TIMEOUT = 10.0
_ASKING_SECONDS = 2.0


class StoredHistory(StoredIdentities):
    """store.History from ClickHouse, for one partition; for the worker's own thread."""

    def load_windows(self, period: Period, starts: npt.NDArray[np.int64]) -> pl.DataFrame:
        found = reads.load_windows(self._client, self._partition, period, starts.tolist())
        return pl.DataFrame(found).select(WINDOWS.names)

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        return fold_windows.count_windows(self._client, self._partition, period, starts)

    def find_windows(self, period: Period, wanted: pl.DataFrame, low: Name) -> pl.DataFrame:
        starts = wanted["start"].unique().to_list()
        keys = wanted["key"].to_list() if wanted.height <= fold_windows.FEW else []
        hashes = _window_hashes(wanted)
        found = fold_windows.find_windows(self._client, self._partition, period, starts, hashes, keys, low)
        return pl.DataFrame(found).select(WINDOWS.names)

    def names_apart(self, period: Period, start: int, size: int) -> list[Name]:
        return fold_windows.names_apart(self._client, self._partition, period, start, size)

    def load_part(self, period: Period, start: int, low: Name, high: Name | None) -> Iterator[pl.DataFrame]:
        for found in fold_windows.load_part(self._client, self._partition, period, start, low, high):
            yield pl.DataFrame(found).select(WINDOWS.names)


def _window_hashes(wanted: pl.DataFrame) -> npt.NDArray[np.uint64]:
    """The hashes by which fold_windows.find_windows looks for windows."""
    hashes = wanted.select(plh.col(name).nchash.xxhash64() for name in SUBJECT)
    total = wanted["start"].to_numpy().astype(np.uint64) * np.uint64(fold_windows.START_FACTOR)
    for name, factor in fold_windows.HASH_FACTORS.items():
        total += hashes[name].to_numpy() * np.uint64(factor)
    return total


class Opening:
    """ClickHouse and the source topic, as a fold worker needs them when it starts and when it is given a partition."""

    def __init__(
        self,
        kafka_settings: KafkaSettings,
        clickhouse_settings: ClickHouseSettings,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._kafka = kafka_settings
        self._clickhouse = clickhouse_settings
        self._registry = registry
        self._topic = Topics(kafka_settings.topic_prefix).usage_recorded
        self._connected: Client | None = None
        self._stored: FoldRules | None = None
        self._admin: Admin | None = None

    @property
    def _client(self) -> Client:
        if self._connected is None:
            self._connected = connect(self._clickhouse)
        return self._connected

    def close(self) -> None:
        """Close the connection to ClickHouse; the next use opens another one."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def check(self) -> None:
        """Compare tables, stored settings and topic with what this version works with.

        Raises Fatal where they do not fit, Retryable where a server does not answer.
        """
        check_schema(self._client)
        stored = fold_state.read_rules(self._client)
        if stored.decoder_version not in DECODER_VERSIONS:
            raise Fatal(
                f"fold_settings says decoder_version {stored.decoder_version}, this worker has "
                f"{', '.join(DECODER_VERSIONS)}: "
                "workers of different versions would judge the same events differently. Run the version that the "
                "settings name, or stop all workers and follow docs/operations.md, 'Changing stored settings'"
            )
        if self._registry is not None and not stored.reads_registry_ids:
            raise Fatal(
                f"[schema_registry] is set, but fold_settings says decoder_version {stored.decoder_version}, which "
                "rejects the Confluent wire format. Remove the setting, or stop all workers and store "
                "decoder_version 3 as docs/operations.md, 'Changing stored settings', says"
            )
        check_source(self._kafka, stored)
        self._stored = stored

    def check_source(self) -> None:
        """Fatal unless the topic is still the one that was folded so far; asked again at each assignment."""
        check_source(self._kafka, self._stored_settings)

    def ask_source(self) -> Callable[[], None]:
        """Ask without waiting whether what was consumed so far came from that topic: see topics.ask_source. The group
        can notice a topic that was created again some seconds late; until then its offsets seem to continue the old
        ones."""
        if self._admin is None:
            self._admin = Admin(self._kafka, _ASKING_SECONDS)
        return ask_source(self._admin, self._kafka, self._stored_settings)

    def schemas(self) -> Schemas:
        """The schema fingerprints that are decided."""
        return self._decided(read_schema_facts(self._client))

    def look_at(self, hold: Hold) -> tuple[Wait | Decided, Schemas]:
        """Make sure that a held fingerprint gets a decision. Returns its state, and all decisions so far."""
        step, stored = look(
            hold.fingerprint,
            lambda: self._recognize(hold.fingerprint),
            unknown_schema_hold(self._client),
            f"partition {hold.partition}, offset {hold.offset}",
            lambda: read_schema_facts(self._client),
            lambda fingerprint, write: write_fact(self._client, fingerprint, write.fact, write.value, write.detail),
        )
        return step, self._decided(stored)

    def _recognize(self, key: bytes) -> Recognized:
        number = registry_id(key)
        if number is None:
            return Recognized(catalog.by_fingerprint(key))
        if self._registry is None:
            return Recognized(None, "this worker has no Schema Registry (url under [schema_registry])")
        return self._registry.look_up(number)

    def _decided(self, stored: Mapping[bytes, SchemaFacts]) -> Schemas:
        rules = self._stored_settings
        return decided(stored, json=rules.reads_json, confluent=rules.reads_registry_ids)

    def writer(self) -> Writer:
        """A writer on a connection of its own, for the thread that flushes."""
        return Writer(connect(self._clickhouse))

    def open(self, partition: int, consumer: Consumer) -> PartitionFold:
        """Begin a partition at its progress row; a new one gets its first. Identities and windows are read later, so
        after that row."""
        self.check_partition_count(consumer)
        progress = stored = self._read_progress(partition)
        # After the progress row: a predecessor that is still writing may be ahead of an end that was read before.
        log_start = self._log_edge(partition, consumer, OFFSET_BEGINNING)
        if progress is None:
            self._refuse_lost_progress(partition, log_start)
            first = Progress(partition, log_start, log_start, 0, 0, 0, None)
            insert = progress_rows([first])
            Writer(self._client).insert(insert.table, insert.rows)
            # If we slept between look and write, somebody else may have begun meanwhile: then their row counts.
            progress = self._read_progress(partition) or first
        else:
            _check_bounds(progress, log_start, self._log_edge(partition, consumer, OFFSET_END))
        has_history = stored is not None or progress.next_offset > progress.log_start
        return PartitionFold(
            progress,
            StoredHistory(self._client, partition, identity_source(self._stored_settings)),
            Rules.of(self._stored_settings),
            clock=lambda: time.time_ns() // 1000,
            check_partition_count=lambda: self.check_partition_count(consumer),
            stored=has_history,
        )

    def _refuse_lost_progress(self, partition: int, log_start: int) -> None:
        """A whole log gives everything again. One that was cut would start again above windows that hold what is gone,
        and replace them."""
        if log_start and has_windows(self._client, partition) and not self._read_progress(partition):
            raise Fatal(
                f"partition {partition} has windows but no progress row in ClickHouse, and its log begins at offset "
                f"{log_start}: the events before it cannot be folded again. Restore fold_progress from the backup that "
                "the other tables come from"
            )

    def _read_progress(self, partition: int) -> Progress | None:
        stored = fold_state.read_progress(self._client, [partition]).get(partition)
        if stored is None:
            return None
        return Progress(
            partition,
            stored.next_offset,
            stored.log_start,
            stored.counted,
            stored.duplicates,
            stored.rejected,
            stored.last_stamp or None,
        )

    def check_partition_count(self, consumer: Consumer) -> None:
        """Fatal when the topic has another number of partitions than when it was migrated."""
        try:
            topic = consumer.list_topics(self._topic, timeout=_TIMEOUT).topics[self._topic]
        except KafkaException as error:
            raise errors.as_error(error.args[0], "reading the partition count") from error
        if topic.error is not None:
            raise errors.as_error(topic.error, f"reading the partition count of {self._topic}")
        expected = self._stored_settings.partition_count
        if len(topic.partitions) != expected:
            raise Fatal(
                f"{self._topic} has {plural(len(topic.partitions), 'partition')}, the stored settings say {expected}. "
                "With another count the events of one subject would be on two partitions. Restore the count, or follow "
                "docs/operations.md, 'Changing the partition count'"
            )

    @property
    def _stored_settings(self) -> FoldRules:
        if self._stored is None:
            raise Fatal("a partition was opened before the stored settings were checked")
        return self._stored

    def _log_edge(self, partition: int, consumer: Consumer, edge: int) -> int:
        return log_edge(consumer, self._topic, [partition], edge, _TIMEOUT)[partition]


def _check_bounds(progress: Progress, log_start: int, log_end: int) -> None:
    where = f"partition {progress.partition}: folded up to offset {progress.next_offset}"
    if progress.next_offset < log_start:
        raise Fatal(
            f"{where}, but the log begins at {log_start}: {plural(log_start - progress.next_offset, 'offset')} of it "
            "were deleted before they were folded. Kafka cannot give their events back. Restore the topic, or follow "
            "docs/operations.md, 'A topic was created again'"
        )
    if progress.next_offset > log_end:
        raise Fatal(
            f"{where}, but the log ends at {log_end}: {plural(progress.next_offset - log_end, 'folded offset')} are "
            "missing. The topic was created again or restored from an older copy, and new events would look like "
            "replays. Restore the topic as it was"
        )
