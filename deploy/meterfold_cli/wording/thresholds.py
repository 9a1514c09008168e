"""What the commands of thresholds say: what a threshold differs in from one that exists, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterfold_cli.wording.definitions import changes, differing
from meterfold_service.thresholds.scope import watched

if TYPE_CHECKING:
    from meterfold_service.errors import ThresholdExists, ThresholdNotFound

__all__ = ["OPTIONS", "exists", "not_found"]

OPTIONS: Final = {
    "name": "--name",
    "threshold": "--value",
    "warn_threshold": "--warn",
    "org_id": "--org",
    "subject_type": "--subject-type",
    "subject_id": "--subject-id",
    "period_type": "--period",
    "action": "--action",
    "notify_emails": "--email",
    "notify_webhook": "--webhook",
    "metadata": "--metadata",
    "is_active": "--active",
}
"""Field of a threshold: its option on the command line."""


def exists(error: ThresholdExists) -> str:
    """THRESHOLD_EXISTS: another threshold has the metric, subjects and name."""
    known = error.known
    there = f"the threshold {known.name!r} on {known.metric_key} for {watched(*known.scope)} exists (id {known.id})"
    if not error.differences:
        return f"{there}: choose another name, or delete that one with `meterfold threshold delete {known.id}`"
    changeable = [one for one in error.differences if one.field != "period_type"]
    remedies = []
    if options := changes(OPTIONS, changeable):
        remedies.append(f"Change it with `meterfold threshold update {known.id} {options}`.")
    if len(changeable) < len(error.differences):
        remedies.append(
            f"The period cannot change: use another --name, or delete it first with `meterfold threshold delete "
            f"{known.id}`."
        )
    return f"{there} and differs: {differing(OPTIONS, error.differences)}. {' '.join(remedies)}"


def not_found(error: ThresholdNotFound) -> str:
    """THRESHOLD_NOT_FOUND."""
    return f"no threshold has the id {error.threshold_id!r}; `meterfold threshold list` shows the ids"
