"""The closed sets of words in definitions and events."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Action", "AggregationType", "AlertAction", "AlertStatus", "Level", "ResetPeriod"]


class AggregationType(StrEnum):
    """What a window's total means. A window keeps the state for all of them; the metric decides when it is read."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MAX = "max"
    MIN = "min"
    LAST = "last"


class ResetPeriod(StrEnum):
    """How often a metric starts again from nothing; `never` is the lifetime window."""

    NEVER = "never"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


class Level(StrEnum):
    """The level of a value relative to a threshold."""

    NONE = "none"
    APPROACHING = "approaching"
    EXCEEDED = "exceeded"


class Action(StrEnum):
    """What a threshold asks the application to do."""

    NONE = "none"
    ALERT = "alert"
    WARN = "warn"
    BLOCK = "block"
    DOWNGRADE = "downgrade"


class AlertAction(StrEnum):
    """What people do with an alert."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


class AlertStatus(StrEnum):
    """The state of an alert, derived when it is read."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
