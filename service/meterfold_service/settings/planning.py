"""Which changes of stored settings are possible, in which steps, and what follows from them. Pure.

The steps are in an order in which an interrupted change is harmless and can be repeated: at every moment, records are
kept at least as long as the stored settings say, and messages at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.periods import DAY_SECONDS, MICROS_PER_SECOND, from_micros
from meterfold_service.settings.durations import duration_seconds, duration_text
from meterfold_sink.rules import DECODER_VERSIONS, UNKNOWN_SCHEMA_HOLD, FoldRules

__all__ = ["CHANGEABLE", "Actual", "Change", "Plan", "history_needed", "parsed", "plan", "require_history"]

_FIXED: Final = {
    "partition_count": "Changing the partition count",
    "cluster_id": "Moving to another cluster",
    "topic_id": "A topic was created again",
}
CHANGEABLE: Final = (*(field.name for field in fields(FoldRules) if field.name not in _FIXED), UNKNOWN_SCHEMA_HOLD)
_HISTORY: Final = ("horizon_seconds", "future_tolerance_seconds", "source_retention_seconds", "slack_seconds")
"""For how long a retry may need the record of its event."""

_MONTH_SECONDS: Final = 31 * DAY_SECONDS
_LEAST_RETENTION: Final = 3600

Value = int | str


@dataclass(frozen=True, slots=True)
class Actual:
    """What is stored and in effect. `ttls`: table -> seconds, None where it has no such TTL. Retentions of
    usage.recorded and usage.rejected in milliseconds, -1 for ever."""

    rules: FoldRules
    hold_seconds: int
    ttls: Mapping[str, int | None]
    source_retention: int
    rejected_retention: int


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that changes: its text before and after."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order: raise the TTL of tables, lower the retention of topics, store, lower the TTL,
    raise the retention. `ttls` in seconds by table, retentions in milliseconds; None and empty: as it is. `effects` are
    sentences about what follows. `needs_rest`: every worker has to be stopped."""

    rules: FoldRules
    hold_seconds: int
    changes: tuple[Change, ...]
    longer_ttls: Mapping[str, int]
    shorter_ttls: Mapping[str, int]
    source_retention: int | None
    rejected_retention: int | None
    effects: tuple[str, ...]
    needs_rest: bool

    @property
    def is_empty(self) -> bool:
        """Whether everything is as wanted."""
        adjusted = (self.longer_ttls, self.shorter_ttls, self.source_retention, self.rejected_retention)
        return not self.changes and not any(adjusted)


def parsed(name: str, text: str) -> tuple[str, Value]:
    """A setting as somebody writes it: the name of its row, and its value. Raises InvalidSettings."""
    known = name.strip().lower().replace("-", "_")
    if f"{known}_seconds" in CHANGEABLE:
        known = f"{known}_seconds"
    if known in _FIXED:
        raise InvalidSettings(
            f"{known} cannot be changed: stored windows belong to one topic and its partitions. See "
            f"docs/operations.md, '{_FIXED[known]}'"
        )
    if known not in CHANGEABLE:
        raise InvalidSettings(f"{name!r} is not a stored setting. These can be changed: {', '.join(CHANGEABLE)}")
    if known == "decoder_version":
        if text not in DECODER_VERSIONS:
            raise InvalidSettings(f"decoder_version must be one of {', '.join(DECODER_VERSIONS)}, not {text!r}")
        return known, text
    seconds = duration_seconds(text)
    if seconds is None:
        raise InvalidSettings(
            f"{known} must be whole seconds, or a number with s, m, h, d or w such as 35d, not {text!r}"
        )
    return known, seconds


def plan(actual: Actual, wanted: Mapping[str, Value]) -> Plan:
    """`wanted`: names and values as `parsed` gives them. Raises InvalidSettings for rules that cannot work."""
    old = actual.rules
    hold = int(wanted.get(UNKNOWN_SCHEMA_HOLD, actual.hold_seconds))
    new = FoldRules(**{**old.to_dict(), **{name: value for name, value in wanted.items() if name in old.to_dict()}})
    if new.source_retention_seconds < min(_LEAST_RETENTION, old.source_retention_seconds):
        raise InvalidSettings(
            f"source_retention_seconds {new.source_retention_seconds} is too short: messages would be deleted before "
            f"workers read them. Give at least {_LEAST_RETENTION}"
        )
    before = {**old.to_rows(), UNKNOWN_SCHEMA_HOLD: str(actual.hold_seconds)}
    after = {**new.to_rows(), UNKNOWN_SCHEMA_HOLD: str(hold)}
    changes = tuple(Change(name, before[name], after[name]) for name in before if before[name] != after[name])
    kept, limit = new.record_retention_seconds, new.source_retention_seconds * 1000
    longer = {table: kept for table, ttl in actual.ttls.items() if ttl is not None and ttl < kept}
    # Without being asked nothing is deleted earlier: somebody may keep rows longer on purpose.
    shorter = {table: kept for table, ttl in actual.ttls.items() if ttl is None or ttl > kept}
    source: int | None = None
    rejected: int | None = None
    if actual.source_retention != limit and (
        "source_retention_seconds" in wanted or not 0 <= actual.source_retention <= limit
    ):
        source = limit
    same = actual.rejected_retention == old.source_retention_seconds * 1000
    if "source_retention_seconds" in wanted and same and actual.rejected_retention != limit:
        rejected = limit
    drafted = Plan(
        new,
        hold,
        changes,
        longer,
        shorter if "record_retention_seconds" in wanted else {},
        source,
        rejected,
        (),
        bool({change.name for change in changes} - {UNKNOWN_SCHEMA_HOLD}),
    )
    return replace(drafted, effects=tuple(_effects(old, drafted)))


def history_needed(old: FoldRules, new: FoldRules) -> int | None:
    """For how many seconds records must be complete for a change; None where no longer than before."""
    before, after = _memory(old), _memory(new)
    return after if after > before else None


def require_history(needed: int, complete_since: int, now: int) -> None:
    """Raises InvalidSettings where records of the last `needed` seconds may be missing: a retry of an event whose
    record has expired would count twice. `complete_since` and `now` in UTC microseconds."""
    if now - needed * MICROS_PER_SECOND < complete_since:
        possible = from_micros(complete_since + needed * MICROS_PER_SECOND)
        raise InvalidSettings(
            f"horizon + future tolerance + source retention + slack would be {duration_text(needed)}, but records "
            f"before {from_micros(complete_since):%Y-%m-%d %H:%M} UTC have expired: a retry could count twice. Raise "
            f"record_retention_seconds now, and change this from {possible:%Y-%m-%d %H:%M} UTC on"
        )


def _memory(rules: FoldRules) -> int:
    return sum(getattr(rules, name) for name in _HISTORY)


def _effects(old: FoldRules, planned: Plan) -> Iterator[str]:
    new = planned.rules
    changed = {change.name for change in planned.changes}
    if "horizon_seconds" in changed:
        yield (
            f"events that are folded afterwards may be up to {duration_text(new.horizon_seconds)} old when they "
            f"arrive, instead of {duration_text(old.horizon_seconds)}. Change [sdk] horizon_seconds of applications too"
        )
    if "future_tolerance_seconds" in changed:
        yield (
            f"events that are folded afterwards may be up to {duration_text(new.future_tolerance_seconds)} ahead when "
            f"they arrive, instead of {duration_text(old.future_tolerance_seconds)}. Change [sdk] "
            "future_tolerance_seconds of applications too"
        )
    if new.lookback_seconds != old.lookback_seconds:
        yield (
            f"an id counts once within {duration_text(new.lookback_seconds)}, instead of "
            f"{duration_text(old.lookback_seconds)}. Events that were folded before stay as they are; `meterfold "
            "verify` judges them by the new settings and reports ids that were used again between the two"
        )
    if "decoder_version" in changed:
        registry = f"ids of a Schema Registry are {'read' if new.reads_registry_ids else 'rejected'}"
        yield (
            f"in messages that are folded afterwards, JSON is {'read' if new.reads_json else 'rejected'} and "
            f"{registry}. Messages that were folded before stay as they are; `meterfold verify --contents` reports "
            "those that the new version would judge otherwise until they leave the log"
        )
    if "slack_seconds" in changed:
        yield f"brokers' clocks may step back by up to {duration_text(new.slack_seconds)}"
    if "grace_seconds" in changed:
        yield f"a window becomes final {duration_text(new.grace_seconds)} after its end"
    if tables := {**planned.longer_ttls, **planned.shorter_ttls}:
        yield (
            f"{', '.join(tables)} keep rows for {duration_text(new.record_retention_seconds)} after their arrival; "
            "ClickHouse adjusts stored parts in the background"
        )
    if "record_retention_seconds" in changed and new.kept_seconds < _MONTH_SECONDS + new.grace_seconds:
        yield "months can no longer be closed or recounted: their first records expire before they end"
    if planned.source_retention is not None:
        yield f"usage.recorded keeps messages for {duration_text(planned.source_retention // 1000)}"
    if planned.rejected_retention is not None:
        yield f"usage.rejected keeps messages for {duration_text(planned.rejected_retention // 1000)}"
    if UNKNOWN_SCHEMA_HOLD in changed:
        hold = planned.hold_seconds
        text = f"for {duration_text(hold)}" if hold else "until somebody decides"
        yield f"an unknown schema holds its partition {text}; workers notice within seconds"
