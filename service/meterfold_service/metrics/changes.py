"""What deleting, changing or hiding a metric changes for usage that exists: said before it is done.

Windows keep the state of every aggregation type and are never counted again, so the definition decides what they say,
those of past periods included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from meterfold_processor.checker.definitions import Definitions
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.quantities import exact_unscaled, to_decimal
from meterfold_sink.metric_usage import MetricUsage

__all__ = ["DECIDING", "ChangedWindow", "MetricChange", "affected_thresholds", "changed_fields", "example_of", "hiding"]

DECIDING: Final = ("aggregation_type", "unit", "reset_period", "is_active")
"""The fields of a metric that change what windows and thresholds say which exist."""


@dataclass(frozen=True, slots=True)
class ChangedWindow:
    """One monthly window, and its total before and after. None: no total."""

    org_id: str
    subject_type: str
    subject_id: str
    period_start: datetime
    before: Decimal | None
    after: Decimal | None


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A definition as its organizations see it before and after; `after` None: the metric is undefined then.

    `resting`: thresholds that judge now and will not; `judging`: those that keep judging, by the new totals. `example`
    is a window whose total changes, if there is one among the newest.
    """

    before: MetricDefinition
    after: MetricDefinition | None
    usage: MetricUsage
    example: ChangedWindow | None
    resting: tuple[UsageThreshold, ...]
    judging: tuple[UsageThreshold, ...]

    @property
    def fields(self) -> Mapping[str, tuple[Any, Any]]:
        """Name of each deciding field that changes: before and after. Empty for an undefined metric."""
        return {} if self.after is None else changed_fields(self.before, self.after)

    @property
    def org_id(self) -> str:
        """The only organization that it concerns; "" for every one without a definition of its own."""
        return self.before.org_id or ("" if self.after is None else self.after.org_id)

    @property
    def changes_anything(self) -> bool:
        """Whether windows or thresholds that exist say something else afterwards."""
        windows = self.usage.windows > 0 and (self.after is None or bool(self.fields.keys() - {"is_active"}))
        return windows or bool(self.resting)


def changed_fields(before: MetricDefinition, after: MetricDefinition) -> dict[str, tuple[Any, Any]]:
    """The deciding fields that differ: before and after."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in DECIDING}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def hiding(definitions: Definitions, key: str) -> list[str]:
    """The organizations whose own definition hides the one for every organization."""
    return sorted(metric.org_id for metric in definitions.metrics() if metric.key == key and metric.org_id)


def affected_thresholds(
    definitions: Definitions, key: str, org_id: str, before: MetricDefinition, after: MetricDefinition | None
) -> tuple[tuple[UsageThreshold, ...], tuple[UsageThreshold, ...]]:
    """Of the thresholds that judge by the definition of `org_id` ("": every organization): those that will rest, and
    those that will judge other totals."""
    own = hiding(definitions, key)
    found = [threshold for threshold in definitions.watched() if threshold.metric_key == key and threshold.is_active]
    if org_id:
        found = [threshold for threshold in found if threshold.org_id in (org_id, None)]
    else:
        found = [threshold for threshold in found if threshold.org_id not in own]
    found.sort(key=lambda threshold: (threshold.name, threshold.id))
    if not before.is_active:
        return (), ()
    if after is None or not after.is_active:
        return tuple(found), ()
    return (), tuple(found) if after.aggregation_type != before.aggregation_type else ()


def example_of(
    windows: Iterable[Mapping[str, Any]], before: MetricDefinition, after: MetricDefinition | None
) -> ChangedWindow | None:
    """The first of the windows (rows of MetricUsage.newest) whose total changes."""
    # Brings numpy, which a command that changes nothing can do without.
    from meterfold_schemas.totals import WindowValues, total_of

    for row in windows:
        values = WindowValues(
            row["record_count"], *(exact_unscaled(row[name]) for name in ("sum", "min", "max", "last"))
        )
        was = total_of(before.aggregation_type, values)
        will_be = None if after is None else total_of(after.aggregation_type, values)
        if was != will_be:
            return ChangedWindow(
                row["org_id"],
                row["subject_type"],
                row["subject_id"],
                row["period_start"],
                to_decimal(was),
                None if will_be is None else to_decimal(will_be),
            )
    return None
