"""Metric keys that have usage and no definition, in words: most often a typo of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_schemas.plurals import listed, noun, plural

if TYPE_CHECKING:
    from meterfold_sink.metric_usage import UndefinedMetric

__all__ = ["sentence"]


def sentence(metric: UndefinedMetric) -> str:
    """What was found, and what to do."""
    if metric.guess is not None:
        remedy = f"Did you mean {metric.guess!r}? Correct the application, or define the metric"
    elif metric.elsewhere:
        remedy = "Other organizations have defined it; define it for these too,"
    elif metric.deleted:
        remedy = "Its definition was deleted. Define it again"
    else:
        remedy = "Define it"
    return (
        f"metric {metric.key!r} has usage and no definition: {plural(metric.records, 'record')} this month and last "
        f"month, {_where(metric)}. {remedy} with `meterfold metric define`"
    )


def _where(metric: UndefinedMetric) -> str:
    if metric.organizations == ("",):
        return "without an organization"
    count = metric.organization_count
    shown = [repr(org) if org else "none" for org in metric.organizations]
    return f"in {noun(count, 'organization')} {listed(shown, count)}"
