"""What a subscriber that reads committed has seen of thresholds and aggregates, against windows added up by hand.

For thresholds that never change and sums that only rise the events are known exactly: one per level that the final
value reached. Where sums fall and definitions change, which values are judged is chance; there every crossing must have
exactly one event, and exactly one `cleared` unless it still holds, and the level that is left must be the level of the
final value under the final definitions.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from confluent_kafka import Message

from chaos.ground import GRACE_SECONDS, Ground
from meterfold_schemas import framing
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.events import ThresholdEvent, ThresholdState, UsageAggregated
from meterfold_schemas.periods import Period, from_micros, micros, period_end
from meterfold_schemas.vocabulary import Level
from simulation.fold.oracle import Window
from support import consume_all
from support.fold import Truth
from support.fold.truth import stamp_of

WindowKey = tuple[tuple[str, str, str, str], str, int]
_LEVELS = (Level.APPROACHING, Level.EXCEEDED)


@dataclass(frozen=True, slots=True)
class Alerts:
    """How much was compared."""

    events: int
    states: int
    aggregates: int
    finals: int


def check_alerts(ground: Ground, truth: Truth, fixed: Mapping[str, UsageThreshold]) -> Alerts:
    """AssertionError unless every event is there exactly once. May be called until the checker is at rest: what it
    must never do stays done."""
    windows: dict[WindowKey, Window] = {}
    for outcome in truth.outcomes.values():
        windows |= outcome.windows
    topics = ground.topics
    messages = _messages(ground)
    events = [ThresholdEvent.from_bytes(message.value()) for message in messages]
    states = _newest(ground, topics.threshold_state, ThresholdState)
    metrics = _newest(ground, topics.metric_defined, MetricDefinition)
    thresholds = _newest(ground, topics.threshold_defined, UsageThreshold)
    _check_ids(messages, events)
    _check_crossings(events, {(s.threshold_id, window_of(s)): s for s in states.values()})
    _check_exact(events, windows, fixed["guest-cap"])
    _check_exact(events, windows, fixed["steady-cap"])
    _check_exact(events, windows, fixed["hour-cap"])
    _check_exact(events, windows, fixed["every-cap"])
    _check_exact(events, {}, fixed["replaced"])
    _check_levels(
        {(s.threshold_id, window_of(s)): s.level for s in states.values()},
        windows,
        {metric.key: metric for metric in metrics.values()},
        list(thresholds.values()),
    )
    aggregates, finals = _check_aggregates(ground, truth)
    return Alerts(len(events), len(states), aggregates, finals)


def check_nothing_twice(ground: Ground) -> None:
    """AssertionError if an event was emitted again; what is missing is not asked for."""
    events = [ThresholdEvent.from_bytes(message.value()) for message in _messages(ground)]
    _check_once("threshold events", events)
    _check_once("aggregates", _aggregates(ground))


def window_of(event: Any) -> WindowKey:
    subject = (event.org_id, event.metric_key, event.subject_type, event.subject_id)
    return subject, str(event.period_type), micros(event.period_start)


def _messages(ground: Ground) -> list[Message]:
    topics = ground.topics
    names = (topics.threshold_approaching, topics.threshold_exceeded, topics.threshold_cleared)
    return list(itertools.chain.from_iterable(consume_all(ground.kafka, name, deadline=120) for name in names))


def _check_once(what: str, events: Iterable[ThresholdEvent | UsageAggregated]) -> None:
    again = [name for name, times in Counter(event.event_id for event in events).items() if times > 1]
    assert not again, f"{len(again)} {what} were emitted more than once, among them {again[:3]}"


def _newest(ground: Ground, topic: str, model: Any) -> dict[bytes, Any]:
    """The newest value under each key, without tombstones."""
    found: dict[bytes, Any] = {}
    for message in consume_all(ground.kafka, topic, deadline=120):
        if message.value() is None:
            found.pop(message.key(), None)
        else:
            found[message.key()] = model.from_bytes(message.value())
    return found


def _check_ids(messages: list[Message], events: list[ThresholdEvent]) -> None:
    """What a receiver drops a second message by: the id that was sent, in the body and in the header."""
    for message, event in zip(messages, events, strict=True):
        body = framing.decode(message.value() or b"")[1]
        sent = (body["event_id"], body["alert_id"], dict(message.headers() or ())["ce_id"])
        assert sent == (event.event_id, event.alert_id, event.event_id.encode()), (sent, event)
    _check_once("threshold events", events)


def _check_crossings(events: list[ThresholdEvent], states: dict[tuple[str, WindowKey], ThresholdState]) -> None:
    numbers: dict[tuple[str, WindowKey, Level], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for event in events:
        reached, cleared = numbers[event.threshold_id, window_of(event), event.level]
        (cleared if event.event_type == "threshold.cleared" else reached).append(event.crossing)
    for (threshold_id, window, level), (reached, cleared) in numbers.items():
        where = f"{threshold_id} {window} {level}"
        count = len(reached)
        assert sorted(reached) == list(range(1, count + 1)), f"{where}: reached {sorted(reached)}"
        state = states.get((threshold_id, window))
        assert state is not None, f"{where}: events, and no state"
        holds = state.level in _LEVELS[_LEVELS.index(level) :]
        ended = list(range(1, count + (0 if holds else 1)))
        assert sorted(cleared) == ended, (
            f"{where}: reached {count} times, level {state.level}, cleared {sorted(cleared)}"
        )
        counted = state.crossing_approaching if level is Level.APPROACHING else state.crossing_exceeded
        assert counted == count, f"{where}: the state counts {counted} crossings, there are {count} events"


def _check_exact(events: list[ThresholdEvent], windows: dict[WindowKey, Window], threshold: UsageThreshold) -> None:
    """Each level once where the final sum reaches it, and nothing is ever cleared: the sums only rise."""
    found = Counter((window_of(e), e.event_type, e.level) for e in events if e.threshold_id == threshold.id)
    expected = Counter(
        (key, f"threshold.{level}", level)
        for key, window in windows.items()
        if watches(threshold, key)
        for level, limit in zip(_LEVELS, (threshold.warn_threshold, threshold.threshold), strict=True)
        if window.sum >= limit
    )
    missing, more = expected - found, found - expected
    assert not missing, f"{threshold.name}: {len(missing)} events are missing, among them {list(missing)[:2]}"
    assert not more, f"{threshold.name}: {len(more)} events too many, among them {list(more)[:2]}"


def watches(threshold: UsageThreshold, key: WindowKey) -> bool:
    _, period, start = key
    end = period_end(Period(period), start)
    return (
        _covers(threshold, key)
        and str(threshold.period_type) == period
        and (end is None or end > micros(threshold.created_at))
    )


def _covers(threshold: UsageThreshold, key: WindowKey) -> bool:
    """Whether it is about this subject's use of this metric."""
    (org_id, metric, subject_type, subject_id), _, _ = key
    return (
        threshold.metric_key == metric
        and threshold.org_id in (None, org_id)
        and threshold.subject_type in (None, subject_type)
        and threshold.subject_id in (None, subject_id)
    )


def _check_levels(
    found: dict[tuple[str, WindowKey], Level],
    windows: dict[WindowKey, Window],
    metrics: dict[str, MetricDefinition],
    thresholds: list[UsageThreshold],
) -> None:
    """The level that is left, of every threshold in every window; deleted ones have none."""
    expected: dict[tuple[str, WindowKey], Level] = {}
    for key, window in windows.items():
        # A narrower one replaces a wider one of its name whatever its own period is.
        rivals = [t for t in thresholds if t.is_active and _covers(t, key)]
        for threshold in (t for t in rivals if watches(t, key)):
            if any(t.name == threshold.name and _narrowness(t) > _narrowness(threshold) for t in rivals):
                continue
            value = _value(metrics[key[0][1]], window)
            if value >= threshold.warn_threshold:
                level = Level.EXCEEDED if value >= threshold.threshold else Level.APPROACHING
                expected[threshold.id, key] = level
    holding = {name: level for name, level in found.items() if level is not Level.NONE}
    wrong = {name for name in expected.keys() | holding.keys() if expected.get(name) != holding.get(name)}
    shown = [(name, expected.get(name), holding.get(name)) for name in sorted(wrong, key=str)[:3]]
    assert not wrong, f"{len(wrong)} levels are not those of the final values (expected, found): {shown}"


def _narrowness(threshold: UsageThreshold) -> int:
    """An organization's own is narrower than every one of all organizations."""
    subject = (threshold.subject_type is not None) + (threshold.subject_id is not None)
    return subject + (0 if threshold.org_id is None else 10)


def _value(metric: MetricDefinition, window: Window) -> Decimal:
    assert window.max is not None
    assert window.last is not None
    values = {"sum": window.sum, "count": Decimal(window.count), "max": window.max, "last": window.last[2]}
    return values[str(metric.aggregation_type)]


def _check_aggregates(ground: Ground, truth: Truth) -> tuple[int, int]:
    """Each revision once, rising; the last one is the window to the digit, and final once its time has come."""
    last: dict[WindowKey, UsageAggregated] = {}
    aggregates = list(_aggregates(ground))
    for event in aggregates:
        key = window_of(event)
        before = last.get(key)
        if before is not None:
            older, newer = (before.revision, before.is_final), (event.revision, event.is_final)
            assert newer[0] > older[0] or (newer[0] == older[0] and newer[1] and not older[1]), (key, older, newer)
        last[key] = event
    _check_once("aggregates", aggregates)
    finals = 0
    for partition, outcome in truth.outcomes.items():
        stamps = [stamp_of(message) for (p, _), message in truth.messages.items() if p == partition]
        mark = max(stamps, default=0)
        for key, window in outcome.windows.items():
            found = last.get(key)
            assert found is not None, f"{key}: never emitted"
            amounts = (found.record_count, found.sum, found.min, found.max, found.revision)
            assert amounts == (window.count, window.sum, window.min, window.max, window.through), (key, found)
            end = period_end(Period(key[1]), key[2])
            due = end is not None and end + GRACE_SECONDS * 1_000_000 <= mark
            assert found.is_final == due, (
                f"{key}: final is {found.is_final}, its end {end}, the mark {from_micros(mark)}"
            )
            finals += due
    assert last.keys() <= {key for outcome in truth.outcomes.values() for key in outcome.windows}
    return len(aggregates), finals


def _aggregates(ground: Ground) -> Iterator[UsageAggregated]:
    for message in consume_all(ground.kafka, ground.topics.usage_aggregated, deadline=120):
        if message.value() is not None:
            yield UsageAggregated.from_bytes(message.value())
