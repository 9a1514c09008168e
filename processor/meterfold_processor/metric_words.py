"""What the commands of metrics say: what will change, what differs from a definition that exists, and what to do."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection
from decimal import Decimal
from typing import Any, Final

from meterfold_processor.metric_changes import MetricChange
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.plurals import plural

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
    "metadata": "--metadata",
    "is_active": "--active",
}
"""Field of a metric: its option on the command line."""
_NAMED: Final = 3


def where(org_id: str) -> str:
    return f"organization {org_id}" if org_id else "every organization"


def exists(known: MetricDefinition, wanted: MetricDefinition, given: Collection[str]) -> str:
    """METRIC_KEY_EXISTS. `given`: the fields that the caller has named; what differs only by a default is said only
    where nothing else differs."""
    differing = [name for name in OPTIONS if getattr(known, name) != getattr(wanted, name)]
    named = [name for name in differing if name in given] or differing
    differences = ", ".join(
        f"{OPTIONS[name]} is {_shown(getattr(known, name))}, not {_shown(getattr(wanted, name))}"
        f"{'' if name in given else ' (the default)'}"
        for name in named
    )
    changes = shlex.join(part for name in named for part in _option(name, getattr(wanted, name)))
    org = ["--org", known.org_id] if known.org_id else []
    command = shlex.join(["meterfold", "metric", "update", known.key, *org])
    return (
        f"the metric {known.key!r} of {where(known.org_id)} exists and differs: {differences}. "
        f"Change it with `{command}{' ' + changes if changes else ''}`"
    )


def not_defined(key: str, org_id: str, known: Collection[tuple[str, str]]) -> str:
    """METRIC_NOT_FOUND, with what is defined of `known` (org_id, key): for other organizations, or a similar key."""
    shown = f"the metric {key!r} is not defined" + (f" for {where(org_id)}" if org_id else "")
    others = sorted(other for other, name in known if name == key)
    if others and not others[0]:
        return f"{shown}, only for every organization: leave out --org"
    if others:
        return f"{shown}, only for {_listed([where(other) for other in others], len(others))}: name it with --org"
    similar = difflib.get_close_matches(key, {name for _, name in known}, 1)
    guess = f"did you mean {similar[0]!r}? Otherwise define" if similar else "define"
    return f"{shown}: {guess} it with `meterfold metric define {shlex.quote(key)} --name NAME --unit UNIT`"


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
    if change.resting:
        found.append(f"{_thresholds(change.resting)} will not be judged, and alerts of open windows are cleared")
    if change.judging:
        found.append(f"{_thresholds(change.judging)} will be judged by the new totals at once")
    return found


def _example(change: MetricChange) -> str:
    example = change.example
    assert example is not None
    subject = f"{example.subject_type} {example.subject_id}" + (f" of {example.org_id}" if example.org_id else "")
    after = "no total" if example.after is None else _number(example.after)
    before = "no total" if example.before is None else _number(example.before)
    return f"for example {subject} in {example.period_start:%Y-%m}: {before} -> {after}"


def _thresholds(thresholds: Collection[UsageThreshold]) -> str:
    names = [f"{threshold.name} ({threshold.id})" for threshold in thresholds]
    return f"{plural(len(names), 'threshold')} ({_listed(names[:_NAMED], len(names))})"


def _listed(some: list[str], number: int) -> str:
    """The first of `number` things, and how many more there are."""
    shown = some[:_NAMED]
    return ", ".join(shown) + (f" and {number - len(shown):,} more" if number > len(shown) else "")


def _option(name: str, value: Any) -> list[str]:
    if name == "is_active":
        return ["--active" if value else "--inactive"]
    return [] if value is None else [OPTIONS[name], str(value)]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "empty" if value is None else str(value)


def _number(value: Decimal) -> str:
    # Not normalize(): that rounds to the 28 digits of the decimal context.
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
