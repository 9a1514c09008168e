"""What the commands of thresholds say: whom one watches, what it differs in from one that exists, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from typing import Final

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.plurals import listed, noun
from meterfold_service.definition_words import changes, define_command, define_instead, differences, differing

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
    names = differing(OPTIONS, known, wanted, given)
    options = changes(OPTIONS, (name for name in names if name != "period_type"), wanted)
    remedies = []
    if options:
        remedies.append(f"Change it with `meterfold threshold update {known.id} {options}`.")
    if "period_type" in names:
        remedies.append(
            f"The period cannot change: use another --name, or delete it first with `meterfold threshold delete "
            f"{known.id}`."
        )
    found = differences(OPTIONS, names, known, wanted, given)
    return f"{_the(known)} exists (id {known.id}) and differs: {found}. {' '.join(remedies)}"


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
    if others:
        where = f"{noun(len(others), 'organization')} {listed(others[:3], len(others))}"
        if org_id is None:
            remedy = f"watch it there with --org {shlex.quote(others[0])}, or define it for every organization with"
        else:
            remedy = "define it for every organization with"
        return f"metric {key!r} is defined only for {where}: {remedy} {define_command(key)}"
    return f"metric {key!r} is not defined: {define_instead(key, (metric.key for metric in known))}"


def _the(threshold: UsageThreshold) -> str:
    return f"the threshold {threshold.name!r} on {threshold.metric_key} for {watched(*threshold.scope)}"
