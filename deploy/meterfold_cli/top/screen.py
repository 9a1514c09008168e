"""A frame as it is drawn. Pure: the time and the size of the terminal are passed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from meterfold_cli.console import decimal_text, time_text
from meterfold_schemas.plurals import plural
from meterfold_service.usage.subjects import busy_since

if TYPE_CHECKING:
    from meterfold_cli.top.looks import Frame
    from meterfold_processor.kafka.groups import Group as ConsumerGroup
    from meterfold_sink.busiest import BusySubject
    from meterfold_sink.threshold_levels import JudgedWindow

__all__ = ["drawn", "waiting"]

_GAUGE_CELLS: Final = 10
_WIDE: Final = 80
"""A terminal of this width has room for the gauges."""
_LEVELS: Final = {"exceeded": "bold red", "approaching": "yellow"}
_STATES: Final = {"behind": "yellow"}


def waiting(seconds: float) -> RenderableType:
    """Before the first look has ended."""
    return Text(f"meterfold top: asking Kafka and ClickHouse ({seconds:.0f} s) ...", style="dim")


def drawn(frame: Frame, now: datetime, *, rows: int, width: int, overdue_seconds: float = 0.0) -> RenderableType:
    """`rows`: at most this many lines of each table. `width`: of the terminal. `overdue_seconds`: how long ago the next
    look should have ended, 0 where it is on time."""
    return Group(*_parts(frame, now, rows, width, overdue_seconds))


def _parts(frame: Frame, now: datetime, rows: int, width: int, overdue_seconds: float) -> Iterator[RenderableType]:
    report = frame.report
    age = max(0.0, (now - report.at).total_seconds())
    yield Text.assemble(
        ("meterfold top", "bold"), f"  {time_text(report.at.replace(microsecond=0))}", (f"  {age:.0f} s ago", "dim")
    )
    if overdue_seconds:
        yield Text(f"no answer for {overdue_seconds:.0f} s; the numbers below are old", style="bold red")
    yield _servers(frame)
    yield _events(frame)
    for problem in report.problems:
        yield Text(f"! {problem}", style="bold red")
    yield _partitions(frame, rows)
    yield _subjects(frame.subjects, report.at, rows)
    yield _near(frame.near, rows, with_gauge=width >= _WIDE)


def _servers(frame: Frame) -> Text:
    kafka, clickhouse = frame.report.kafka, frame.report.clickhouse
    down = ("does not answer", "bold red")
    version = f"version {clickhouse.version}" if clickhouse.version else "up"
    return Text.assemble(
        ("Kafka ", "bold"),
        down if kafka.error is not None else plural(kafka.brokers, "broker"),
        ("  ClickHouse ", "bold"),
        down if clickhouse.error is not None else version,
        ("  fold ", "bold"),
        "-" if kafka.error is not None else _workers(kafka.fold_group),
        ("  checker ", "bold"),
        "-" if kafka.error is not None else _workers(kafka.checker_group),
    )


def _workers(group: ConsumerGroup | None) -> str | tuple[str, str]:
    if group is None or group.is_empty:
        return "not running", "bold red"
    return plural(group.members, "worker") if group.members is not None else "running"


def _events(frame: Frame) -> Text:
    report = frame.report
    lags = [partition.lag for partition in report.partitions if partition.lag is not None]
    checker = [partition.checker_lag for partition in report.partitions if partition.checker_lag is not None]
    waits = [partition.waiting_seconds for partition in report.partitions if partition.waiting_seconds is not None]
    parts = [
        f"recorded {_rate(frame.rates.recorded)}",
        f"folded {_rate(frame.rates.folded)}",
        f"lag {sum(lags):,}" if lags else "lag -",
        *([f"oldest waits {max(waits):.0f} s"] if waits else []),
        f"checker lag {sum(checker):,}" if checker else "checker lag -",
        f"pending alerts {'-' if frame.pending_alerts is None else f'{frame.pending_alerts:,}'}",
    ]
    if report.counted is not None:
        parts.append(
            f"total {report.counted:,} counted, {report.duplicates:,} duplicates, {report.rejected:,} rejected"
        )
    return Text("  ".join(parts))


def _rate(value: float | None) -> str:
    return "-/s" if value is None else f"{value:,.0f}/s"


def _partitions(frame: Frame, rows: int) -> RenderableType:
    """The partitions that are not up to date, those with the largest lag first."""
    behind = [one for one in frame.report.partitions if one.state != "ok"]
    behind.sort(key=lambda one: (-(one.lag or 0), one.partition))
    if not behind:
        return Text("")
    cells = [
        (
            str(one.partition),
            one.state,
            "-" if one.lag is None else f"{one.lag:,}",
            "-" if one.waiting_seconds is None else f"{one.waiting_seconds:.0f} s",
        )
        for one in behind[:rows]
    ]
    table = _table("Partitions behind", cells, ">partition", "state", ">lag", ">waiting")
    filled = _filled(table, cells, [_STATES.get(one.state, "bold red") for one in behind])
    more = len(behind) - rows
    return Group(filled, Text(f"and {more:,} more", style="dim")) if more > 0 else filled


def _subjects(subjects: Sequence[BusySubject] | None, at: datetime, rows: int) -> RenderableType:
    title = f"Busiest subjects since {busy_since(at):%H:%M} UTC"
    if not subjects:
        return _nothing(title, "ClickHouse does not answer" if subjects is None else "no usage")
    cells = [
        (f"{one.records:,}", _short(one.quantity), one.metric_key, _name(one.org_id, one.subject_type, one.subject_id))
        for one in subjects[:rows]
    ]
    return _filled(_table(title, cells, ">events", ">quantity", "metric", "subject"), cells)


def _near(near: Sequence[JudgedWindow] | None, rows: int, *, with_gauge: bool) -> RenderableType:
    title = "Thresholds near their limit"
    if not near:
        return _nothing(title, "ClickHouse does not answer" if near is None else "none")
    cells = [
        (
            *((_gauge(one.window.percentage_used),) if with_gauge else ()),
            "-" if one.window.percentage_used is None else f"{_short(one.window.percentage_used)} %",
            _short(one.window.value),
            _short(one.threshold),
            one.name,
            one.metric_key,
            _name(one.window.org_id, one.window.subject_type, one.window.subject_id),
        )
        for one in near[:rows]
    ]
    headers = (">value", ">limit", "threshold", "metric", "subject")
    table = _table(title, cells, *((">", ">used") if with_gauge else (">used",)), *headers)
    return _filled(table, cells, [_LEVELS.get(one.window.level, "") for one in near])


def _name(org_id: str, subject_type: str, subject_id: str) -> str:
    return f"{subject_type}:{subject_id}" + (f" of {org_id}" if org_id else "")


def _gauge(percentage: Decimal | None) -> str:
    """Full at 100 %, and not fuller beyond."""
    share = min(max(percentage or Decimal(0), Decimal(0)), Decimal(100))
    cells = int(share * _GAUGE_CELLS / 100)
    return "█" * cells + "░" * (_GAUGE_CELLS - cells)


def _short(value: Decimal | None) -> str:
    return "-" if value is None else decimal_text(round(value, 2))


def _table(title: str, cells: Sequence[Sequence[str]], *headers: str) -> Table:
    """A header that begins with `>` is of a column of numbers, which are never cut."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, header in enumerate(headers):
        number = header.startswith(">")
        table.add_column(
            header.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=True,
            min_width=max(len(row[place]) for row in cells) if number else None,
        )
    return table


def _filled(table: Table, cells: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> Table:
    for number, row in enumerate(cells):
        table.add_row(*(Text(text) for text in row), style=styles[number] if styles else None)
    return table


def _nothing(title: str, why: str) -> Text:
    return Text.assemble((f"{title}: ", "bold"), why, "\n")
