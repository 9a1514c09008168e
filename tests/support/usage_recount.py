"""Usage counted again from its records, in plain Python: Decimal, zoneinfo and json."""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from meterfold_schemas.keys import partition_of, subject_key
from meterfold_service.usage.operations import Usage
from meterfold_service.usage.results import UsageSummary
from meterfold_sink.client import Client
from support.sink.database import RULES
from support.sink.rows import Record

EXACT = Context(prec=120)


class OneClient:
    """A pool of the test's own connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @contextmanager
    def client(self) -> Iterator[Client]:
        yield self._client


def usage_at(client: Client, now: datetime) -> Usage:
    return Usage(OneClient(client), lambda: now, 5.0)  # type: ignore[arg-type]


def define_metric(client: Client, kind: str = "sum", key: str = "calls", org_id: str = "") -> None:
    version = client.value("SELECT toInt64(max(version)) + 1 FROM metric_definitions")
    columns = "org_id, key, aggregation_type, version"
    client.command(f"INSERT INTO metric_definitions ({columns}) VALUES ('{org_id}', '{key}', '{kind}', {version})")


def calls(
    number: int,
    when: datetime,
    quantity: Any,
    org: str = "",
    kind: str = "user",
    name: str = "ada",
    metadata: str | None = None,
) -> Record:
    """A record of the metric `calls` on the partition of its subject."""
    partition = partition_of(subject_key(org, "calls", kind, name), RULES.partition_count)
    return Record(
        number,
        when,
        quantity,
        org_id=org,
        subject_type=kind,
        subject_id=name,
        partition=partition,
        metric_key="calls",
        more={"metadata": metadata},
    )


def first_day(period: str, day: date, anchor: int) -> date:
    """The first day of the period that holds a day."""
    match period:
        case "weekly":
            return day - timedelta(days=day.weekday())
        case "monthly":
            return day.replace(day=1)
        case "yearly":
            return day.replace(month=1, day=1)
        case "billing":
            for back in range(62):
                one = day - timedelta(days=back)
                if one.day == min(anchor, monthrange(one.year, one.month)[1]):
                    return one
            raise AssertionError
        case _:
            return day


def begins(period: str, when: datetime, zone: tzinfo, anchor: int) -> datetime:
    """When the period that holds `when` begins, in UTC. Only for zones whose clocks never jump over midnight."""
    local = when.astimezone(zone)
    if period == "lifetime":
        return datetime(1970, 1, 1, tzinfo=UTC)
    if period == "hourly":
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    day = first_day(period, local.date(), anchor)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def recounted(records: list[Record], kind: str) -> tuple[Any, ...]:
    """(total, records, sum, min, max, avg, last)."""
    quantities = [Decimal(one.quantity) for one in records]
    total = Decimal(0)
    for quantity in quantities:
        total = EXACT.add(total, quantity)
    exact = EXACT.divide(total, Decimal(len(records)))
    average = exact.quantize(Decimal("1e-9"), rounding=ROUND_HALF_UP, context=EXACT)
    last = Decimal(max(records, key=lambda one: (one.timestamp, one.partition, one.offset)).quantity)
    lowest, highest = min(quantities), max(quantities)
    totals = {"count": len(records), "sum": total, "avg": average, "max": highest, "min": lowest, "last": last}
    return (totals[kind], len(records), total, lowest, highest, average, last)


def numbers(row: UsageSummary) -> tuple[Any, ...]:
    """What `recounted` answers, of a row."""
    return (
        row.total_quantity,
        row.record_count,
        row.sum,
        row.min_quantity,
        row.max_quantity,
        row.avg_quantity,
        row.last_quantity,
    )


def field_text(record: Record, field: str) -> str | None:
    """The value of a metadata field as text."""
    metadata = record.more["metadata"]
    return None if metadata is None else value_text(json.loads(metadata, object_pairs_hook=_first_wins).get(field))


def value_text(value: Any) -> str | None:
    """As docs/usage.md says it: text itself, everything else as JSON, numbers as JavaScript writes them."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _shortest(value)
        case list():
            return f"[{','.join(map(_json, value))}]"
        case _:
            return "{" + ",".join(f"{_json(name)}:{_json(entry)}" for name, entry in value.items()) + "}"


def _json(value: Any) -> str:
    if value is None:
        return "null"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value_text(value))


def _shortest(value: float) -> str:
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text, point = "".join(map(str, digits)), len(digits) + exponent
    if -6 < point <= 21:
        whole, rest = (text[:point].ljust(point, "0"), text[point:]) if point > 0 else ("0", "0" * -point + text)
        shown = f"{whole}.{rest}" if rest else whole
    else:
        shown = f"{text[0]}{'.' if text[1:] else ''}{text[1:]}e{point - 1}"
    return "-" * sign + shown


def _first_wins(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found
