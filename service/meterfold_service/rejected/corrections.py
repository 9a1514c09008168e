"""What is changed in a rejected message before it is sent again. Pure: the same message and correction always make the
same event, so a repeated redrive sends the same identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import MICROS_PER_SECOND, micros
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import FIELDS, NAMES
from meterfold_schemas.usage_rules import age_problem
from meterfold_service.rejected.decoding import DecodedEvent
from meterfold_sink.rules import FoldRules

__all__ = ["AS_RECEIVED", "Correction", "corrected", "too_early_or_late"]

AS_RECEIVED: Final = "received_at"
"""As a timestamp: the time at which the rejected message arrived."""

_REQUIRED: Final = tuple(field.name for field in FIELDS if not field.optional and field.name != "org_id")


@dataclass(frozen=True, slots=True)
class Correction:
    """`fields` replace those of the message; None removes one. A timestamp may be AS_RECEIVED. `drop`: fields that are
    left out, also unknown ones. `shift` is added to the timestamp. Raises InvalidUsage for a field that events do not
    have, and for a shift of a timestamp that is replaced."""

    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    drop: frozenset[str] = frozenset()
    shift: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if unknown := sorted(self.fields.keys() - set(NAMES)):
            raise InvalidUsage(f"an event has no field {', '.join(unknown)}; it has {', '.join(NAMES)}")
        if self.shift and "timestamp" in self.fields:
            raise InvalidUsage("give either a timestamp or a shift of it, not both")
        if both := sorted(self.fields.keys() & self.drop):
            raise InvalidUsage(f"{', '.join(both)} cannot be set and dropped")

    def with_fields(self, fields: Mapping[str, Any]) -> Correction:
        """The same with further fields, which win."""
        return Correction({**self.fields, **fields}, self.drop - fields.keys(), self.shift)


def corrected(event: DecodedEvent, correction: Correction, received_at: datetime) -> UsageRecorded:
    """The event to send. Raises InvalidUsage, naming the field, where it would be rejected again."""
    fields: dict[str, Any] = {**event.fields, **correction.fields}
    fields = {name: value for name, value in fields.items() if name not in correction.drop and value is not None}
    wrong = [
        f"{name}: {problem}"
        for name, problem in event.problems.items()
        if name not in correction.fields and name not in correction.drop
    ]
    if wrong:
        raise InvalidUsage(f"{'; '.join(wrong)}. Set each of these fields, or drop it")
    if missing := [name for name in _REQUIRED if name not in fields]:
        because = f" ({event.problem})" if event.problem else ""
        raise InvalidUsage(f"{', '.join(missing)} cannot be read from the message{because}. Give {_them(missing)}")
    if fields["timestamp"] == AS_RECEIVED:
        fields["timestamp"] = received_at
    elif correction.shift:
        try:
            fields["timestamp"] += correction.shift
        except OverflowError:
            raise InvalidUsage(f"timestamp {fields['timestamp']} cannot be shifted by {correction.shift}") from None
    return UsageRecorded.of(fields)


def too_early_or_late(event: UsageRecorded, rules: FoldRules, now: datetime) -> str | None:
    """Why an event that arrives now would be rejected by its time, if it would."""
    problem = age_problem(
        micros(event.timestamp),
        micros(now),
        rules.horizon_seconds * MICROS_PER_SECOND,
        rules.future_tolerance_seconds * MICROS_PER_SECOND,
    )
    return None if problem is None else str(problem)


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"
