"""What the commands of metrics say: what will change, what differs from a definition that exists, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from meterfold_cli.wording.definitions import changes, define_command, define_instead, differing
from meterfold_schemas.plurals import listed, noun, plural
from meterfold_schemas.quantities import number_text

if TYPE_CHECKING:
    from meterfold_schemas.definitions import UsageThreshold
    from meterfold_service.errors import MetricKeyExists, MetricNotFound
    from meterfold_service.metrics.changes import MetricChange

__all__ = ["OPTIONS", "effects", "exists", "not_defined", "where"]

OPTIONS: Final = {
    "name": "--name",
    "unit": "--unit",
    "description": "--description",
    "aggregation_type": "--aggregation",
    "reset_period": "--reset-period",
    "precision": "--precision",
    "category": "--category",
    "display_order": "--display-order",
    "dimensions": "--dimension",
    "metadata": "--metadata",
    "is_active": "--active",
}
"""Field of a metric: its option on the command line."""
_NAMED: Final = 3


def where(org_id: str) -> str:
    return f"organization {org_id}" if org_id else "every organization"


def exists(error: MetricKeyExists) -> str:
    """METRIC_KEY_EXISTS, with the command that changes the existing definition."""
    known = error.known
    options = changes(OPTIONS, error.differences)
    org = ["--org", known.org_id] if known.org_id else []
    command = shlex.join(["meterfold", "metric", "update", known.key, *org])
    return (
        f"the metric {known.key!r} of {where(known.org_id)} exists and differs: "
        f"{differing(OPTIONS, error.differences)}. Change it with `{command}{' ' + options if options else ''}`"
    )


def not_defined(error: MetricNotFound) -> str:
    """METRIC_NOT_FOUND, with the organizations that define it, or a similar key."""
    others = error.defined_for
    if not others:
        shown = f"the metric {error.key!r} is not defined" + (f" for {where(error.org_id)}" if error.org_id else "")
        return f"{shown}: {define_instead(error.key, error.similar)}"
    shown = f"the metric {error.key!r} is not defined for {where(error.org_id or '')}"
    if not others[0]:
        return f"{shown}, only for every organization: leave out --org"
    return (
        f"{shown}, only for {noun(len(others), 'organization')} {listed(others[:_NAMED], len(others))}: name it with "
        f"--org {shlex.quote(others[0])}, or define it for every organization with {define_command(error.key)}"
    )


def effects(change: MetricChange) -> list[str]:
    """What will change, one sentence each; empty where nothing does."""
    found = []
    if change.usage.windows:
        windows = f"{plural(change.usage.windows, 'window')} of {plural(change.usage.subjects, 'subject')}"
        if change.after is None:
            found.append(f"{windows} will have no total; their records and quantities stay")
        for name, (before, after) in change.fields.items():
            if name == "aggregation_type":
                found.append(f"the total of {windows} changes from {before} to {after}, in past periods too")
            elif name == "unit":
                found.append(f"{windows} will be read as {after} instead of {before}; quantities are not converted")
            elif name == "reset_period":
                found.append(f"{windows} stay as they are; the reset period {after} applies to new thresholds")
        if found and change.example is not None:
            found.append(_example(change))
    there = f" for {where(change.org_id)}" if change.org_id else ""
    if change.resting:
        found.append(f"{_thresholds(change.resting)} will not be judged{there}, and alerts of open windows are cleared")
    if change.judging:
        found.append(f"{_thresholds(change.judging)} will be judged{there} by the new totals at once")
    return found


def _example(change: MetricChange) -> str:
    example = change.example
    assert example is not None
    subject = f"{example.subject_type} {example.subject_id}" + (f" of {example.org_id}" if example.org_id else "")
    after = "no total" if example.after is None else number_text(example.after)
    before = "no total" if example.before is None else number_text(example.before)
    return f"for example {subject} in {example.period_start:%Y-%m}: {before} -> {after}"


def _thresholds(thresholds: Collection[UsageThreshold]) -> str:
    names = [f"{threshold.name} ({threshold.id})" for threshold in thresholds]
    return f"{plural(len(names), 'threshold')} ({listed(names[:_NAMED], len(names))})"
