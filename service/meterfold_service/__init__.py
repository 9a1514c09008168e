"""What people do with Meterfold, as one Python API: `Metering`, with `metrics`, `thresholds`, `usage` and `periods`."""

from __future__ import annotations

from meterfold_service.errors import (
    CheckerNotRunning,
    DefinitionsBusy,
    Difference,
    MetricKeyExists,
    MetricNotFound,
    NotFoldedInTime,
    OperationError,
    PeriodNotClosed,
    PeriodNotEnded,
    PeriodRecordsExpired,
    RecordsExpired,
    ThresholdExists,
    ThresholdNotFound,
    WindowsDiffer,
)
from meterfold_service.metering import Metering
from meterfold_service.pages import Page

__all__ = [
    "CheckerNotRunning",
    "DefinitionsBusy",
    "Difference",
    "Metering",
    "MetricKeyExists",
    "MetricNotFound",
    "NotFoldedInTime",
    "OperationError",
    "Page",
    "PeriodNotClosed",
    "PeriodNotEnded",
    "PeriodRecordsExpired",
    "RecordsExpired",
    "ThresholdExists",
    "ThresholdNotFound",
    "WindowsDiffer",
]
