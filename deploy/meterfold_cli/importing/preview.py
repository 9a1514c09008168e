"""What a dry run shows: the first events, counts by metric and subject, and the refusals by reason. Bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from meterfold_schemas.quantities import to_decimal, to_unscaled

__all__ = ["MetricCount", "Preview", "ReasonCount"]

FIRST_EVENTS: Final = 5
_KEPT: Final = 100_000
_REASONS: Final = 1000
#: What differs between two refusals of the same kind: quoted values and numbers.
_VALUE: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d[\d.,:TZ+-]*")


@dataclass(slots=True)
class MetricCount:
    """Events of one metric, and the exact sum of their quantities."""

    events: int = 0
    unscaled: int = 0

    @property
    def quantity(self) -> Decimal:
        return to_decimal(self.unscaled)


@dataclass(slots=True)
class ReasonCount:
    """Rows that are refused alike, and the first of them."""

    rows: int
    line: int
    example: str


@dataclass(slots=True)
class Preview:
    """An Observer. `overflow`: there are more metrics or subjects than are counted one by one."""

    first: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, MetricCount] = field(default_factory=dict)
    subjects: dict[tuple[str, str], int] = field(default_factory=dict)
    reasons: dict[str, ReasonCount] = field(default_factory=dict)
    overflow: bool = False

    def event(self, line: int, event: dict[str, Any]) -> None:
        if len(self.first) < FIRST_EVENTS:
            self.first.append({"line": line, **event})
        key, subject = event["metric_key"], (event["subject_type"], event["subject_id"])
        metric = self.metrics.get(key)
        if metric is None:
            if len(self.metrics) >= _KEPT:
                self.overflow = True
                return
            metric = self.metrics[key] = MetricCount()
        metric.events += 1
        metric.unscaled += to_unscaled(event.get("quantity", 1))
        if subject in self.subjects:
            self.subjects[subject] += 1
        elif len(self.subjects) < _KEPT:
            self.subjects[subject] = 1
        else:
            self.overflow = True

    def refused(self, line: int, reason: str) -> None:
        kind = _VALUE.sub("…", reason)
        found = self.reasons.get(kind)
        if found is not None:
            found.rows += 1
        elif len(self.reasons) < _REASONS:
            self.reasons[kind] = ReasonCount(1, line, reason)
        else:
            self.overflow = True
