"""What a subscriber that reads committed has seen, held against a naive oracle.

Every state that was written must be the truth of its own positions and follow what was written before; every crossing
has exactly its events; and once everything is at rest the last level is the level of the final values under the final
definitions, and the last aggregate is the final row.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from meterfold_processor.checker.rules import CODES
from meterfold_schemas import framing
from meterfold_schemas.events import ThresholdEvent, ThresholdState, UsageAggregated
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import UNIT, exact_unscaled
from meterfold_schemas.vocabulary import Level
from simulation.checker.model_kafka import Entry
from simulation.checker.model_store import Name, Row
from simulation.checker.world import INTERVAL, RULES, TOPICS, World

LEVELS = [Level.NONE, Level.APPROACHING, Level.EXCEEDED]


class Violation(AssertionError):
    """What a checker promised did not hold."""


def require(holds: object, what: str, *about: object) -> None:
    if not holds:
        raise Violation(f"{what}: {', '.join(map(str, about))}")


@dataclass
class Seen:
    """Everything committed, in the order of each log (the world keeps what compaction removes, see `archive`)."""

    states: list[tuple[int, ThresholdState]]
    events: list[ThresholdEvent]
    event_ids: list[str]  # as they stand in the messages
    aggregates: list[tuple[Entry, UsageAggregated]]


def definitions_at(
    world: World, metric_position: int, threshold_position: int
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    return dict(world.history["metric"][:metric_position]), dict(world.history["threshold"][:threshold_position])


def value_of(kind: str, row: Row) -> int:
    if kind == "avg":
        exact = abs(row.sum) * 2 + row.count
        return exact // (2 * row.count) * (1 if row.sum >= 0 else -1)
    return {"count": row.count * UNIT, "sum": row.sum, "max": row.max, "min": row.min, "last": row.last}[kind]


def metric_of(metrics: dict[Any, Any], org_id: str) -> Any:
    return metrics.get((org_id, "api.calls")) or metrics.get(("", "api.calls"))


def applies(thresholds: dict[Any, Any], threshold_id: str, name: Name) -> bool:
    one = thresholds.get(threshold_id)
    if one is None or not one.is_active or not watches(one, name):
        return False
    if one.period_type != name.period or name.end <= micros(one.created_at):
        return False
    return not any(
        other is not None
        and other.is_active
        and other.name == one.name
        and watches(other, name)
        and narrowness(other) > narrowness(one)
        for other in thresholds.values()
    )


def watches(threshold: Any, name: Name) -> bool:
    org_id, _, subject_type, subject_id = name.subject
    return (
        threshold.org_id in (None, org_id)
        and threshold.subject_type in (None, subject_type)
        and threshold.subject_id in (None, subject_id)
    )


def narrowness(threshold: Any) -> int:
    """An organization's own threshold is narrower than every one of all organizations."""
    subject = (threshold.subject_type is not None) + (threshold.subject_id is not None)
    return subject + (0 if threshold.org_id is None else 10)


def level_at(metrics: dict[Any, Any], thresholds: dict[Any, Any], threshold_id: str, row: Row) -> int:
    metric = metric_of(metrics, row.name.subject[0])
    if metric is None or not metric.is_active or not applies(thresholds, threshold_id, row.name):
        return 0
    value = value_of(metric.aggregation_type.value, row)
    one = thresholds[threshold_id]
    return int(value >= exact_unscaled(one.warn_threshold)) + int(value >= exact_unscaled(one.threshold))


def read(world: World) -> Seen:
    states, events, event_ids, aggregates = [], [], [], []
    for partition in range(world.partitions):
        for entry in world.kafka.log(TOPICS.threshold_state, partition).committed()[0]:
            if entry.value is not None:
                states.append((partition, ThresholdState.from_bytes(entry.value)))
        for entry in world.kafka.log(TOPICS.usage_aggregated, partition).committed()[0]:
            if entry.value is not None:
                aggregates.append((entry, UsageAggregated.from_bytes(entry.value)))
        for topic in (TOPICS.threshold_approaching, TOPICS.threshold_exceeded, TOPICS.threshold_cleared):
            for entry in world.kafka.log(topic, partition).committed()[0]:
                assert entry.value is not None
                events.append(ThresholdEvent.from_bytes(entry.value))
                event_ids.append(framing.decode(entry.value)[1]["event_id"])
    return Seen(states, events, event_ids, aggregates)


def name_of(event: ThresholdState | ThresholdEvent | UsageAggregated) -> Name:
    subject = (event.org_id, event.metric_key, event.subject_type, event.subject_id)
    return Name(subject, event.period_type, micros(event.period_start))


def check(world: World) -> Seen:
    """Raises Violation. After a compaction histories are not complete: only events and last states are looked at."""
    seen = read(world)
    compacted = world.compacted
    check_events(seen)
    if not compacted:
        check_states(world, seen)
    check_last_levels(world, seen)
    check_aggregates(world, seen, compacted=compacted)
    check_tombstones(world)
    return seen


def check_events(seen: Seen) -> None:
    ids = seen.event_ids
    require(len(ids) == len(set(ids)), "an event id was used twice", len(ids) - len(set(ids)))
    last = {state.key: state for _, state in seen.states}
    counted: dict[Any, list[Any]] = defaultdict(lambda: [set(), set()])
    for event in seen.events:
        key = (event.threshold_id, name_of(event), event.level)
        numbers = counted[key][event.event_type == "threshold.cleared"]
        require(event.crossing not in numbers, "a crossing was emitted twice", event)
        numbers.add(event.crossing)
    for (threshold_id, name, level), (reached, cleared) in counted.items():
        require(reached == set(range(1, len(reached) + 1)), "crossings are not numbered from 1", threshold_id, name)
        require(cleared <= reached, "cleared without having been reached", threshold_id, name, level)
        require(len(reached) - len(cleared) in (0, 1), "a level was reached again before it was cleared", threshold_id)
        state = next((s for s in last.values() if s.threshold_id == threshold_id and name_of(s) == name), None)
        if state is not None:
            number = state.crossing_approaching if level is Level.APPROACHING else state.crossing_exceeded
            require(number == len(reached), "events and state count differently", threshold_id, name, level)
            holds = LEVELS.index(state.level) >= LEVELS.index(level)
            require(holds == (len(reached) > len(cleared)), "events and state end differently", threshold_id, name)


def check_states(world: World, seen: Seen) -> None:
    before: dict[bytes, ThresholdState] = {}
    for partition, state in seen.states:
        name = name_of(state)
        metrics, thresholds = definitions_at(world, state.metric_position, state.threshold_position)
        row = world.store.row(partition, name, state.folded_through)
        expected = level_at(metrics, thresholds, state.threshold_id, row)
        require(LEVELS[expected] is state.level, "a state is not what its positions say", expected, state)
        if expected:
            value = value_of(metric_of(metrics, name.subject[0]).aggregation_type.value, row)
            require(exact_unscaled(state.value) == value, "a state has another value", value, state)
        was = before.get(state.key)
        require((was.level if was else Level.NONE) is not state.level, "a state was written without a change", state)
        if was is not None:
            older = (was.folded_through, was.metric_position, was.threshold_position)
            newer = (state.folded_through, state.metric_position, state.threshold_position)
            require(all(a <= b for a, b in zip(older, newer, strict=True)), "a judgement went back", older, newer, name)
        before[state.key] = state


def mark(world: World, partition: int) -> int:
    stamp = world.store.stamps[partition]
    return 0 if stamp is None else min(stamp, world.wall_now)


def check_last_levels(world: World, seen: Seen) -> None:
    last = {(state.threshold_id, name_of(state)): state.level for _, state in seen.states}
    metrics, thresholds = definitions_at(world, 10**9, 10**9)
    known = {threshold_id for threshold_id, _ in world.history["threshold"]}
    for partition in range(world.partitions):
        for name, row in world.store.stored[partition].items():
            if not RULES.is_open(name.end, mark(world, partition)):
                continue
            for threshold_id in known:
                expected = LEVELS[level_at(metrics, thresholds, threshold_id, row)]
                found = last.get((threshold_id, name), Level.NONE)
                require(
                    found is expected, "the last level is not the level of the final value", threshold_id, name, row
                )


def check_aggregates(world: World, seen: Seen, *, compacted: bool) -> None:
    ids = [event.event_id for _, event in seen.aggregates]
    require(len(ids) == len(set(ids)), "an aggregate was emitted twice")
    last: dict[Name, tuple[Entry, UsageAggregated]] = {}
    for entry, event in seen.aggregates:
        name = name_of(event)
        row = world.store.row(event.partition, name, event.revision)
        require(row.through == event.revision, "no such revision", event)
        amounts = [exact_unscaled(x) for x in (event.sum, event.min, event.max, event.last)]
        require((event.record_count, amounts) == (row.count, [row.sum, row.min, row.max, row.last]), "amounts", event)
        require(name.period in world.aggregated, "a period that is not aggregated", event)
        if event.is_final:
            require(RULES.is_final(name.end, world.wall_now), "final before its time", event)
        was = last.get(name)
        if was is not None:
            older, newer = (was[1].revision, was[1].is_final), (event.revision, event.is_final)
            require(older < newer and (newer[1] or not older[1]), "a revision went back", older, newer)
            if not compacted:
                require(event.previous_total == was[1].total_quantity, "another previous total", event)
            if was[0].by == entry.by:
                require(
                    (event.occurred_at - was[1].occurred_at).total_seconds() >= INTERVAL,
                    "emitted twice within the interval",
                    event,
                )
        elif not compacted:
            require(event.previous_total is None, "a previous total out of nothing", event)
        last[name] = (entry, event)
    for partition in range(world.partitions):
        for name, row in world.store.stored[partition].items():
            at = mark(world, partition)
            if name.period in world.aggregated and RULES.is_open(name.end, at):
                require(name in last, "never emitted", name)
                final = RULES.is_final(name.end, at)
                emitted = (last[name][1].revision, last[name][1].is_final)
                require(emitted == (row.through, final), "the last aggregate is not the final row", emitted, row)


def check_tombstones(world: World) -> None:
    """State is gone when its window is past remembering, and not before it is closed."""
    for partition in range(world.partitions):
        at = mark(world, partition)
        for topic in (TOPICS.threshold_state, TOPICS.usage_aggregated):
            newest = {e.key: e for e in world.kafka.log(topic, partition).committed()[0]}
            for key, entry in newest.items():
                assert key is not None
                name = _name_in(key)
                forgotten = RULES.is_forgotten(name.end, at)
                require((entry.value is None) == forgotten, "state kept too long, or dropped too early", topic, name)


def _name_in(key: bytes) -> Name:
    import json

    parts = json.loads(key)[-6:]
    period = next(p for p in CODES if p.value == parts[4])
    return Name(tuple(parts[:4]), period, parts[5])
