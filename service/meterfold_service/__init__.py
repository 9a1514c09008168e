"""What people do with Meterfold, as one Python API: `Metering`, with `metrics`, `thresholds` and `usage`."""

from __future__ import annotations

from meterfold_service.errors import (
    CheckerNotRunning,
    DefinitionsBusy,
    Difference,
    ExportIncomplete,
    MetricKeyExists,
    MetricNotFound,
    NotFoldedInTime,
    OperationError,
    RecordsExpired,
    ThresholdExists,
    ThresholdNotFound,
)
from meterfold_service.metering import Metering
from meterfold_service.pages import Page

__all__ = [
    "CheckerNotRunning",
    "DefinitionsBusy",
    "Difference",
    "ExportIncomplete",
    "Metering",
    "MetricKeyExists",
    "MetricNotFound",
    "NotFoldedInTime",
    "OperationError",
    "Page",
    "RecordsExpired",
    "ThresholdExists",
    "ThresholdNotFound",
]
