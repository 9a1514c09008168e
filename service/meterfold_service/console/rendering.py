"""Templates: escaped always, and how numbers, times and addresses are written."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from meterfold_schemas.plurals import noun, plural
from meterfold_schemas.vocabulary import AggregationType

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition

__all__ = ["ago", "environment", "moment", "org_text", "quantity", "shown_precision", "static_url", "url"]

_ASSETS: Final = files("meterfold_service.console") / "static"
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
NONE: Final = "\N{EN DASH}"
"""Where there is no value."""


@cache
def environment() -> Environment:
    """Every template; an undefined name is an error."""
    made = Environment(
        loader=PackageLoader("meterfold_service.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        enable_async=False,
    )
    made.filters.update(
        quantity=quantity, moment=moment, ago=ago, day=_day, count=_count, noun=noun, plural=plural, org=_org
    )
    made.globals.update(url=url, static=static_url, org_text=org_text, plural=plural)
    return made


@cache
def static_url(name: str) -> str:
    """The address of a static file, which changes with its content."""
    content = _ASSETS.joinpath(*name.split("/")).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


def url(path: str, **query: Any) -> str:
    """An address of ours; parameters that are None or empty are left out."""
    pairs = [(name.rstrip("_"), str(value)) for name, value in query.items() if value not in (None, "", ())]
    return quote(path) + (f"?{urlencode(pairs)}" if pairs else "")


def quantity(value: Decimal | int | None, precision: int | None = None) -> str:
    """All digits, grouped by three; with `precision` at least this many decimals."""
    if value is None:
        return NONE
    text = f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0").ljust(precision or 0, "0")
    return f"{whole}.{decimals}" if decimals else whole


def shown_precision(metric: MetricDefinition) -> int:
    """Decimals that a total of the metric has at least; a number of events has none."""
    return 0 if metric.aggregation_type is AggregationType.COUNT else metric.precision


def _count(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def moment(value: datetime | None, seconds: bool = True) -> Markup | str:
    """A time in UTC."""
    if value is None:
        return NONE
    at = value.astimezone(UTC)
    text = f"{at:%Y-%m-%d %H:%M:%S}" if seconds else f"{at:%Y-%m-%d %H:%M}"
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), text)


def _day(value: datetime | None) -> Markup | str:
    return NONE if value is None else moment(value, seconds=False)


def ago(value: datetime | None, now: datetime) -> str:
    """How long ago, in one unit."""
    return NONE if value is None else f"{span((now - value).total_seconds())} ago"


def span(seconds: float) -> str:
    """A length of time in one unit."""
    seconds = max(0.0, seconds)
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def org_text(org_id: str | None) -> str:
    """An organization as the field of a form: empty is every one, "" in quotes is none."""
    return "" if org_id is None else org_id or '""'


def _org(org_id: str | None) -> Markup | str:
    if org_id is None:
        return Markup('<span class="muted">every organization</span>')
    return escape(org_id) if org_id else Markup('<span class="muted">{}</span>').format(NONE)
