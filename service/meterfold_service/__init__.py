"""What people do with Meterfold, as one Python API: `Metering` and the errors of its operations."""

from __future__ import annotations

from meterfold_service.errors import (
    AlertNotFound,
    CheckerNotRunning,
    DefinitionsBusy,
    Difference,
    EndpointNotFound,
    ExportIncomplete,
    LimitsNotReady,
    MetricKeyExists,
    MetricNotFound,
    NotAtRest,
    NotFoldedInTime,
    NotifierNotRunning,
    OperationError,
    PeriodNotClosed,
    PeriodNotEnded,
    PeriodRecordsExpired,
    RecordsExpired,
    RejectedNotFound,
    ThresholdExists,
    ThresholdNotFound,
    WindowsDiffer,
    WorkersRunning,
)
from meterfold_service.metering import Metering
from meterfold_service.pages import Page

__all__ = [
    "AlertNotFound",
    "CheckerNotRunning",
    "DefinitionsBusy",
    "Difference",
    "EndpointNotFound",
    "ExportIncomplete",
    "LimitsNotReady",
    "Metering",
    "MetricKeyExists",
    "MetricNotFound",
    "NotAtRest",
    "NotFoldedInTime",
    "NotifierNotRunning",
    "OperationError",
    "Page",
    "PeriodNotClosed",
    "PeriodNotEnded",
    "PeriodRecordsExpired",
    "RecordsExpired",
    "RejectedNotFound",
    "ThresholdExists",
    "ThresholdNotFound",
    "WindowsDiffer",
    "WorkersRunning",
]
