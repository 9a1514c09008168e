"""The events on `usage.aggregated`, against the stored windows.

A row is stored before it is published, and published before it is emitted. So the topic is read first, up to its end as
of the call: the stored windows say the same, or something newer.

    each event once        of one window revisions only rise; at the same revision only `final` may follow
    the newest of a window its revision is not beyond the stored folded_through; at the same one all values are equal

What has not been emitted yet is not a difference: windows are emitted at most once per interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import pyarrow as pa

from meterfold_processor.garbage import PausedGC
from meterfold_processor.kafka.offsets import Place, bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_processor.verify.emission_suspects import EmissionSuspects
from meterfold_processor.verify.log import by_partition
from meterfold_processor.verify.report import Finding, Findings, WindowName
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas import ids
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.events import UsageAggregated
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.windows import stored_windows

__all__ = ["Emissions", "compare_window", "prove_aggregates", "without_window"]

_NAME: Final = ("org_id", "metric_key", "subject_type", "subject_id", "period_type", "period_start")
_VALUES: Final = ("record_count", "sum", "min", "max", "last")


@dataclass(frozen=True, slots=True)
class _Newest:
    window: WindowName
    revision: int
    is_final: bool
    values: tuple[Any, ...]
    offset: int


class Emissions:
    """One partition of the topic: the newest event of each window, by its key. About 500 bytes per window."""

    def __init__(self, topic: str, partition: int, within: TimeRange | None = None) -> None:
        self.topic, self.partition = topic, partition
        self.newest: dict[bytes, _Newest] = {}
        self.events = 0
        self._within = within

    def take(self, key: bytes, value: bytes | None, offset: int) -> Iterator[Finding]:
        """Messages in order; what is wrong with this one."""
        if value is None:
            self.newest.pop(key, None)  # the window is past remembering
            return
        try:
            event = UsageAggregated.from_bytes(value)
        except (Poison, UnknownSchema) as error:
            yield self.finding(offset, None, "message", "a usage.aggregated event", str(error))
            return
        window = WindowName(
            event.org_id,
            event.metric_key,
            event.subject_type,
            event.subject_id,
            event.period_type.value,
            event.period_start,
        )
        if self._within is not None and not self._within.holds(window):
            return
        self.events += 1
        if event.key != key:
            yield self.finding(offset, window, "key of an event", repr(event.key), repr(key))
        before, says = self.newest.get(key), (event.revision, event.is_final)
        if before is not None:
            said = (before.revision, before.is_final)
            if says <= said or (before.is_final and not event.is_final):
                what = f"event after the one at offset {before.offset}"
                yield self.finding(offset, window, what, f"one that follows {_shown(*said)}", _shown(*says))
        self.newest[key] = _Newest(window, *says, tuple(getattr(event, name) for name in _VALUES), offset)

    def finding(self, offset: int, window: WindowName | None, what: str, expected: str, found: str) -> Finding:
        return Finding(
            check="aggregates",
            place=self.topic,
            partition=self.partition,
            offset=offset,
            window=window,
            what=what,
            expected=expected,
            found=found,
        )


def compare_window(emissions: Emissions, row: Mapping[str, Any]) -> Iterator[Finding]:
    """`row`: of usage_windows, with `period_start` in UTC microseconds; each window once. Takes what it finds out of
    `emissions.newest`."""
    key = ids.window_key(*(row[name] for name in _NAME))
    said = emissions.newest.pop(key, None)
    if said is None:
        return
    if said.revision > row["folded_through"]:
        expected, found = f"at most {row['folded_through']}", str(said.revision)
        yield emissions.finding(
            said.offset, said.window, "revision, against folded_through of the stored window", expected, found
        )
    elif said.revision == row["folded_through"]:
        stored = tuple(row[name] for name in _VALUES)
        wrong = [place for place, name in enumerate(_VALUES) if stored[place] != said.values[place]]
        if wrong:
            yield emissions.finding(
                said.offset,
                said.window,
                "event, against the stored window of the same revision",
                ", ".join(f"{_VALUES[place]} {stored[place]}" for place in wrong),
                ", ".join(f"{_VALUES[place]} {said.values[place]}" for place in wrong),
            )


def without_window(emissions: Emissions) -> Iterator[Finding]:
    """What is left once every stored window was compared."""
    for said in emissions.newest.values():
        yield emissions.finding(said.offset, said.window, "event of a window", "a stored window", "none")


def prove_aggregates(
    kafka: KafkaSettings,
    client: Client,
    reader: TopicReader,
    groups: Sequence[Sequence[int]],
    findings: Findings,
    within: TimeRange | None,
    tell: Callable[[str], None],
) -> int:
    """How many events were looked at. `groups`: the partitions that are small enough to go together. Raises Retryable
    or Fatal."""
    topic = Topics(kafka.topic_prefix).usage_aggregated
    found = bounds(kafka, [Place(topic, partition) for group in groups for partition in group])
    events = 0
    for group in groups:
        tell(f"comparing aggregates of partition {group[0]}")
        places = [Place(topic, partition) for partition in group]
        starts, ends = ({place: found[place][edge] for place in places} for edge in (0, 1))
        suspects = {partition: EmissionSuspects(within) for partition in group}
        with PausedGC() as garbage:
            for batch in reader.scan(starts, ends):
                for partition, messages in by_partition(batch).items():
                    suspects[partition].take(messages)
                garbage.collect()
        for partition, one in suspects.items():
            one.close()
            if not one.is_empty:
                one.compare(stored_windows(client, [partition], one.period_types, one.earliest))
        events += sum(one.events for one in suspects.values())
        keys = {partition: one.keys for partition, one in suspects.items() if one.keys}
        if keys:
            _name(client, reader, topic, starts, ends, keys, findings, within)
    return events


def _name(
    client: Client,
    reader: TopicReader,
    topic: str,
    starts: Mapping[Place, int],
    ends: Mapping[Place, int],
    keys: Mapping[int, set[bytes]],
    findings: Findings,
    within: TimeRange | None,
) -> None:
    """What is wrong about the suspects: their events once more, one by one."""
    emissions = {partition: Emissions(topic, partition, within) for partition in keys}
    for batch in reader.scan(starts, ends):
        for message in batch:
            partition, key = message.partition() or 0, message.key() or b""
            if key in keys.get(partition, ()):
                findings.extend(emissions[partition].take(key, message.value(), message.offset() or 0))
    _compare(client, {partition: one for partition, one in emissions.items() if one.newest}, findings)


def _compare(client: Client, emissions: Mapping[int, Emissions], findings: Findings) -> None:
    said = [newest.window for one in emissions.values() for newest in one.newest.values()]
    if not said:
        return
    batches = stored_windows(
        client, sorted(emissions), {name.period_type for name in said}, min(micros(name.period_start) for name in said)
    )
    subjects = pl.Series(sorted({name.subject_id for name in said}), dtype=pl.String)
    for batch in batches:
        rows = pl.DataFrame(pa.Table.from_batches([batch])).filter(pl.col("subject_id").is_in(subjects.implode()))
        for row in rows.iter_rows(named=True):
            findings.extend(compare_window(emissions[row["partition"]], row))
    for one in emissions.values():
        findings.extend(without_window(one))


def _shown(revision: int, is_final: bool) -> str:
    return f"revision {revision}{', final' if is_final else ''}"
