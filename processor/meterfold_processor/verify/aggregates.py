"""What subscribers were told on `usage.aggregated`, against the stored windows.

A row is stored before it is published, and published before it is emitted. So the topic is read first, up to its end as
of the call: whatever it says, the stored windows say that, or something newer.

    each event once        of one window revisions only rise; at the same revision only `final` may follow
    the newest of a window its revision is not beyond the stored folded_through; at the same one all values are equal

What has not been emitted yet is no difference: windows are emitted at most once per interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meterfold_processor.verify.findings import Findings
from meterfold_processor.verify.groups import ends_of
from meterfold_processor.verify.report import Finding, WindowName
from meterfold_processor.verify.scan import Place, Scanner
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas import ids
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.events import UsageAggregated
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client

__all__ = ["Emissions", "compare_windows", "prove_aggregates"]

_NAME: Final = ("org_id", "metric_key", "subject_type", "subject_id", "period_type", "period_start")
_VALUES: Final = ("record_count", "sum", "min", "max", "last")
_WINDOWS: Final = """
SELECT org_id, metric_key, subject_type, subject_id, toString(w.period_type) AS period_type,
    toUnixTimestamp64Micro(w.period_start) AS period_start, record_count, sum, min, max, last, folded_through
FROM usage_windows AS w FINAL
WHERE partition = {partition:Int32} AND has({period_types:Array(String)}, toString(w.period_type))
    AND w.period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
"""


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


def compare_windows(emissions: Emissions, windows: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """`windows`: rows of usage_windows, with `period_start` in UTC microseconds; each window once. Takes what it finds
    out of `emissions.newest`."""
    for row in windows:
        key = ids.window_key(*(row[name] for name in _NAME))
        said = emissions.newest.pop(key, None)
        if said is None:
            continue
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
    for said in emissions.newest.values():
        yield emissions.finding(said.offset, said.window, "event of a window", "a stored window", "none")


def prove_aggregates(
    kafka: KafkaSettings,
    client: Client,
    scanner: Scanner,
    partition_count: int,
    findings: Findings,
    within: TimeRange | None,
    tell: Callable[[str], None],
) -> int:
    """How many events were looked at. Raises Retryable or Fatal."""
    topic, events = Topics(kafka.topic_prefix).usage_aggregated, 0
    starts, ends = ends_of(kafka, {topic: partition_count})
    for partition in range(partition_count):
        tell(f"comparing aggregates of partition {partition}")
        place, emissions = Place(topic, partition), Emissions(topic, partition, within)
        for batch in scanner.read({place: starts[place]}, {place: ends[place]}):
            for message in batch:
                findings.extend(emissions.take(message.key() or b"", message.value(), message.offset() or 0))
        events += emissions.events
        if emissions.newest:
            findings.extend(compare_windows(emissions, _stored(client, partition, emissions)))
    return events


def _stored(client: Client, partition: int, emissions: Emissions) -> Iterator[dict[str, Any]]:
    said = emissions.newest.values()
    parameters: dict[str, Any] = {
        "partition": partition,
        "period_types": sorted({newest.window.period_type for newest in said}),
        "start": min(micros(newest.window.period_start) for newest in said),
    }
    for batch in client.batches(_WINDOWS, parameters):
        yield from batch.to_pylist()


def _shown(revision: int, is_final: bool) -> str:
    return f"revision {revision}{', final' if is_final else ''}"
