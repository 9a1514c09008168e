"""What the commands of alerts say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_cli.console import time_text
from meterfold_cli.exits import WrongInput

if TYPE_CHECKING:
    from meterfold_service.alerts.operations import UsageAlert
    from meterfold_service.errors import AlertNotFound

__all__ = ["login_name", "not_found", "state"]


def state(alert: UsageAlert) -> str:
    """Whether an alert is acknowledged or resolved, by whom and when."""
    subject = f"{alert.subject_type} {alert.subject_id}" + (f" of {alert.org_id}" if alert.org_id else "")
    shown = f"alert {alert.id}: {alert.metric_key} of {subject}, {alert.level}, {alert.status}"
    if alert.resolved_at is not None:
        how = f"by {alert.resolved_by}" if alert.resolved_by is not None else "automatically"
        shown += f" {how} at {time_text(alert.resolved_at)}"
    if alert.acknowledged_at is not None:
        word = "acknowledged " if alert.resolved_at is not None else ""
        separator = ", " if word else " "
        shown += f"{separator}{word}by {alert.acknowledged_by} at {time_text(alert.acknowledged_at)}"
    return shown


def not_found(error: AlertNotFound) -> str:
    """ALERT_NOT_FOUND."""
    return (
        f"there is no alert {error.alert_id!r}; `meterfold alert list` shows the ids. A new alert is listed about a "
        "second after its event"
    )


def login_name() -> str:
    """The name of the user of this process. Raises WrongInput where the system knows none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise WrongInput("the system has no login name for this process: give --by NAME") from None
