"""Threshold states and alerts against windows, on a running system.

In this order, so that changes during the verification are not differences:

    1. event topics up to their ends        every event there must follow from a state that is read later
    2. progress, then the end of usage.windows, then wait until the checker has passed it
    3. the ends of threshold.state, then those of the definitions; read both up to there
    4. the stored windows: one whose folded_through is below the progress of 2 was judged in the states of 3
    5. the mirror, then the event topics again: every event that follows from a state must be there

What differs in 4 is looked at again until it stays: a definition may be on its way to the checker.

A range of time narrows 3 to 5 to windows that lie in it as a whole; definitions and actions on alerts are always
compared with their mirror.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.checker.rules import WindowRules, mark_of
from meterfold_processor.kafka.groups import CommittedOffsets
from meterfold_processor.kafka.offsets import Place, bounds, topic_bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_processor.verify.actions import prove_actions
from meterfold_processor.verify.alerts import Crossed, expected_events
from meterfold_processor.verify.definitions import DefinitionTables
from meterfold_processor.verify.events import EventLog, read_mirror
from meterfold_processor.verify.mirrored import Alerts
from meterfold_processor.verify.report import Findings, ThresholdReport, Unproven
from meterfold_processor.verify.states import Compared, States, compare, name_of, read_states
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.fold_state import ProgressRow, read_progress
from meterfold_sink.reads import read_mirrored
from meterfold_sink.rules import FoldRules
from meterfold_sink.windows import open_windows

__all__ = ["SETTLE_SECONDS", "ThresholdProofs"]

SETTLE_SECONDS: Final = 3.0
"""Time for the checker and its mirror to finish their current work."""
_LOOK_SECONDS: Final = 0.1


class ThresholdProofs:
    """For one verification. `prove` raises Retryable or Fatal."""

    def __init__(
        self,
        kafka: KafkaSettings,
        client: Client,
        reader: TopicReader,
        rules: FoldRules,
        checker_group: str,
        wait_seconds: float,
        findings: Findings,
        within: TimeRange | None = None,
    ) -> None:
        self._within = within
        self._kafka = kafka
        self._client = client
        self._count = rules.partition_count
        self._rules = WindowRules.of(rules)
        self._findings = findings
        self._topics = Topics(kafka.topic_prefix)
        self._reader = reader
        self._checker = CommittedOffsets(kafka, checker_group)
        self._patience = max(wait_seconds, SETTLE_SECONDS)
        self._events = EventLog(kafka, reader, self._count, findings)
        self._definitions = Definitions()
        self._tables = DefinitionTables(kafka, client, reader, self._patience, findings)

    def close(self) -> None:
        self._checker.close()

    def prove(self, groups: Sequence[Sequence[int]], tell: Callable[[str], None]) -> ThresholdReport:
        """`groups`: the partitions that are small enough to go together."""
        tell("comparing definitions")
        definitions = self._tables.compare()
        actions = prove_actions(self._kafka, self._client, self._reader, self._patience, self._findings)
        tell("reading events and definitions")
        self._events.read_on()
        early = {event_id for event_id, seen in self._events.seen.items() if self._asked(seen.crossed)}
        self._read_definitions()
        thresholds = sum(1 for _ in self._definitions.watched())
        if not thresholds and not early and not self._any_state() and not read_mirror(self._client):
            return ThresholdReport(judged=True, definitions=definitions, actions=actions)
        tell("waiting for the checker")
        expected: dict[str, Crossed] = {}
        counts = [0, 0]
        progress = self._wait_for_checker()
        if progress is None:
            return ThresholdReport(judged=False, thresholds=thresholds, definitions=definitions, actions=actions)
        for states, compared in self._judged(groups, progress, tell):
            follows = expected_events(states.by_target.items())
            expected.update((event_id, crossed) for event_id, crossed in follows.items() if self._asked(crossed))
            counts[0] += compared.windows
            counts[1] += len(states.by_target)
        tell("comparing events")
        rows = self._compare_events(expected, early)
        return ThresholdReport(
            judged=True,
            thresholds=thresholds,
            windows=counts[0],
            states=counts[1],
            events=self._events.messages,
            mirrored=rows,
            definitions=definitions,
            actions=actions,
        )

    def _asked(self, crossed: Crossed) -> bool:
        return self._within is None or self._within.holds(name_of(crossed.target.window))

    def _judged(
        self, groups: Sequence[Sequence[int]], progress: dict[int, ProgressRow], tell: Callable[[str], None]
    ) -> Iterator[tuple[States, Compared]]:
        for group in groups:
            tell(f"judging the windows of partition {group[0]}")
            for partition, (states, compared) in self._compare(group, progress).items():
                if compared.findings or compared.in_flight:
                    yield self._judge(partition, progress)
                else:
                    yield states, compared

    def _judge(self, partition: int, progress: dict[int, ProgressRow]) -> tuple[States, Compared]:
        """Until nothing differs, or what differs has stayed the same for SETTLE_SECONDS. On a busy system it may always
        be something else, so not for ever."""
        first_seen, begun = None, time.monotonic()
        deadline = begun + self._patience + SETTLE_SECONDS
        while True:
            states, compared = self._compare([partition], progress)[partition]
            differences = [*compared.findings, *compared.in_flight]
            shown = [(finding.window, finding.name, finding.expected, finding.found) for finding in differences]
            if shown != first_seen:
                first_seen, begun = shown, time.monotonic()
            if not differences or time.monotonic() >= min(begun + SETTLE_SECONDS, deadline):
                break
            time.sleep(_LOOK_SECONDS)
            progress = self._wait_for_checker() or progress
        self._findings.extend(compared.findings)
        if compared.in_flight:
            self._findings.cannot(
                Unproven(
                    check="states",
                    place=self._topics.threshold_state,
                    partition=partition,
                    passing=True,
                    why=f"{len(compared.in_flight)} windows change faster than they can be compared; verify again",
                )
            )
        return states, compared

    def _compare(
        self, partitions: Sequence[int], progress: Mapping[int, ProgressRow]
    ) -> dict[int, tuple[States, Compared]]:
        topic = self._topics.threshold_state
        states = self._read_states(partitions)
        self._read_definitions()
        marks = {partition: self._mark(progress.get(partition)) for partition in partitions}
        windows = self._windows(states, marks)
        found = {}
        for partition in partitions:
            row = progress.get(partition)
            compared = compare(
                topic,
                partition,
                self._definitions,
                self._rules,
                states[partition],
                windows.get(partition, ()),
                marks[partition],
                row.next_offset if row else 0,
            )
            if self._within is not None:
                for findings in (compared.findings, compared.in_flight):
                    findings[:] = [one for one in findings if one.window is None or self._within.holds(one.window)]
            found[partition] = states[partition], compared
        return found

    def _read_states(self, partitions: Sequence[int]) -> dict[int, States]:
        topic = self._topics.threshold_state
        newest: dict[int, dict[bytes, bytes | None]] = {partition: {} for partition in partitions}
        edges = bounds(self._kafka, [Place(topic, partition) for partition in partitions])
        starts = {place: start for place, (start, _) in edges.items()}
        for batch in self._reader.scan(starts, {place: end for place, (_, end) in edges.items()}):
            for message in batch:
                newest[message.partition() or 0][message.key() or b""] = message.value()
        return {partition: read_states(topic, partition, found) for partition, found in newest.items()}

    def _windows(self, states: Mapping[int, States], marks: Mapping[int, int]) -> Mapping[int, Iterable[pa.Table]]:
        """The open windows that a threshold watches or a state is about, by partition."""
        watched = list(self._definitions.watched())
        targets = [target.window for one in states.values() for target in one.by_target]
        return open_windows(
            self._client,
            {partition: mark - self._rules.open_for for partition, mark in marks.items()},
            {threshold.period_type.value for threshold in watched} | {window.period.value for window in targets},
            {(threshold.org_id, threshold.metric_key) for threshold in watched}
            | {(window.subject[0], window.subject[1]) for window in targets},
        )

    def _compare_events(self, expected: dict[str, Crossed], early: set[str]) -> int:
        """The number of rows in the mirror."""
        begun = time.monotonic()
        while True:
            # The positions first: what they have passed was inserted before.
            mirror_at = read_mirrored(self._client)
            rows = read_mirror(self._client, self._within)
            if (
                early <= rows.keys()
                or time.monotonic() - begun >= self._patience
                or self._passed(mirror_at, early - rows.keys())
            ):
                break
            time.sleep(_LOOK_SECONDS)
        self._events.read_on()
        progress = read_progress(self._client)
        mark = max((self._mark(progress.get(partition)) for partition in range(self._count)), default=0)
        if self._within is not None:
            self._events.keep(self._asked)
        alerts = Alerts(self._events, self._client, self._rules, self._count, mark, self._findings)
        alerts.compare(expected, early, rows, mirror_at)
        return len(rows)

    def _passed(self, mirror_at: Mapping[tuple[str, int], int], event_ids: set[str]) -> bool:
        """Whether the mirror is beyond all of these events: then their rows do not come any more."""
        return all(
            offset < mirror_at.get(Place(topic, partition), 0)
            for event_id in event_ids
            for topic, partition, offset in self._events.seen[event_id].places[:1]
        )

    def _wait_for_checker(self) -> dict[int, ProgressRow] | None:
        """The progress up to which the checker has judged; None, and why, when it is not there in time."""
        progress = read_progress(self._client)
        starts, ends = topic_bounds(self._kafka, {self._topics.usage_windows: self._count})
        deadline = time.monotonic() + self._patience
        while True:
            found = self._checker.read(ends)
            behind = {place: end for place, end in ends.items() if end > max(found.get(place, 0), 0)}
            if not behind:
                return progress
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
        for place, end in sorted(behind.items()):
            lag = end - max(found.get(place, starts[place]), starts[place])
            self._findings.cannot(
                Unproven(
                    check="states",
                    place=place.topic,
                    partition=place.partition,
                    passing=True,
                    why=(
                        f"the checker (group {self._checker.group_id}) is {lag} messages behind: thresholds and alerts "
                        "were not compared"
                    ),
                )
            )
        return None

    def _read_definitions(self) -> None:
        starts, ends = topic_bounds(self._kafka, {self._topics.metric_defined: 1, self._topics.threshold_defined: 1})
        metric, threshold = Place(self._topics.metric_defined, 0), Place(self._topics.threshold_defined, 0)
        known = {metric: self._definitions.metric_position, threshold: self._definitions.threshold_position}
        at = {place: max(starts[place], position) for place, position in known.items()}
        records: list[DefinitionRecord] = []
        for batch in self._reader.scan(at, ends):
            records.extend(
                DefinitionRecord(
                    "metric" if message.topic() == metric.topic else "threshold",
                    message.key() or b"",
                    message.value(),
                    message.offset() or 0,
                )
                for message in batch
            )
        self._definitions.apply(DefinitionsRead(tuple(records), ends[metric], ends[threshold]))

    def _any_state(self) -> bool:
        _, ends = topic_bounds(self._kafka, {self._topics.threshold_state: self._count})
        return any(ends.values())

    def _mark(self, progress: ProgressRow | None) -> int:
        return mark_of(time.time_ns() // 1000, progress.last_stamp or None if progress else None)
