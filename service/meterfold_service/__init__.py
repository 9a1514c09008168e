"""What people do with Meterfold, as one Python API: `Metering`, with `metrics`, `thresholds`, `alerts` and `usage`."""

from __future__ import annotations

from meterfold_service.errors import (
    AlertNotFound,
    CheckerNotRunning,
    DefinitionsBusy,
    Difference,
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
    "AlertNotFound",
    "CheckerNotRunning",
    "DefinitionsBusy",
    "Difference",
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
