"""What the commands of thresholds say: whom one watches, what it differs in from one that exists, and what to do."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any, Final

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold

__all__ = ["OPTIONS", "exists", "name_taken", "no_metric_to_watch", "watched"]

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


def watched(org_id: str | None, subject_type: str | None, subject_id: str | None) -> str:
    """Whom a threshold with this scope watches, such as "every user of every organization"."""
    if subject_type is None:
        subjects = "every subject"
    else:
        subjects = f"every {subject_type}" if subject_id is None else f"{subject_type} {subject_id}"
    if org_id is None:
        return f"{subjects} of every organization"
    return f"{subjects} of organization {org_id}" if org_id else f"{subjects} without an organization"


def exists(known: UsageThreshold, wanted: UsageThreshold, given: Collection[str]) -> str:
    """THRESHOLD_EXISTS: `known` has the metric, scope and name of `wanted`, and other contents. `given`: the fields
    that the caller has named; what differs only by a default is said only where nothing else differs."""
    differing = [name for name in OPTIONS if getattr(known, name) != getattr(wanted, name)]
    named = [name for name in differing if name in given] or differing
    differences = ", ".join(
        f"{OPTIONS[name]} is {_shown(getattr(known, name))}, not {_shown(getattr(wanted, name))}"
        f"{'' if name in given else ' (the default)'}"
        for name in named
    )
    changes = [part for name in named if name != "period_type" for part in _option(name, getattr(wanted, name))]
    remedies = []
    if changes:
        remedies.append(f"Change it with `meterfold threshold update {known.id} {shlex.join(changes)}`.")
    if "period_type" in named:
        remedies.append(
            f"The period cannot change: use another --name, or delete it first with `meterfold threshold delete "
            f"{known.id}`."
        )
    return f"{_the(known)} exists (id {known.id}) and differs: {differences}. {' '.join(remedies)}"


def name_taken(known: UsageThreshold) -> str:
    """THRESHOLD_EXISTS: another threshold is to get the name of `known`."""
    return (
        f"{_the(known)} exists (id {known.id}): choose another name, or delete that one with "
        f"`meterfold threshold delete {known.id}`"
    )


def no_metric_to_watch(key: str, org_id: str | None, metrics: Iterable[MetricDefinition]) -> str:
    """METRIC_NOT_FOUND, with the definitions that there are: of other organizations, or of a similar key."""
    known = list(metrics)
    others = sorted(metric.org_id for metric in known if metric.key == key)
    define = f"`meterfold metric define {key} --name NAME --unit UNIT`"
    if others:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        where = "organization" if len(others) == 1 else "organizations"
        if org_id is None:
            remedy = f"watch it there with --org {shlex.quote(others[0])}, or define it for every organization with"
        else:
            remedy = "define it for every organization with"
        return f"metric {key!r} is defined only for {where} {shown}: {remedy} {define}"
    similar = difflib.get_close_matches(key, {metric.key for metric in known}, 1)
    guess = f"did you mean {similar[0]!r}? Otherwise " if similar else ""
    return f"metric {key!r} is not defined: {guess}define it with {define}"


def _the(threshold: UsageThreshold) -> str:
    return f"the threshold {threshold.name!r} on {threshold.metric_key} for {watched(*threshold.scope)}"


def _option(name: str, value: Any) -> list[str]:
    if name == "is_active":
        return ["--active" if value else "--inactive"]
    if name == "notify_emails":
        return [part for email in value for part in ("--email", email)]
    return [] if value is None else [OPTIONS[name], _shown(value)]


def _shown(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "empty"
    return "empty" if value is None else str(value)
