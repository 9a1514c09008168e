"""The errors of the service as the command line says them: with options and commands."""

from __future__ import annotations

from meterfold_cli.wording import alerts, metrics, thresholds
from meterfold_schemas.errors import MeterfoldError
from meterfold_service import errors

__all__ = ["worded"]


def worded(error: MeterfoldError) -> str:
    """What happened, and the command that mends it."""
    match error:
        case errors.MetricNotFound():
            return metrics.not_defined(error)
        case errors.MetricKeyExists():
            return metrics.exists(error)
        case errors.ThresholdExists():
            return thresholds.exists(error)
        case errors.ThresholdNotFound():
            return thresholds.not_found(error)
        case errors.AlertNotFound():
            return alerts.not_found(error)
        case errors.CheckerNotRunning():
            return (
                f"{error.name} is published (offset {error.version}), but ClickHouse does not show it after "
                f"{error.seconds:g} s: the checker is not running. Start it with `meterfold check`, then run "
                f"the command "
                "again, which is safe"
            )
        case errors.NotifierNotRunning():
            return (
                f"the test message was not sent in {error.seconds:g} s: no notifier is running. Start it with "
                "`meterfold notify`; if one is running, its log says more"
            )
        case _:
            return str(error)
