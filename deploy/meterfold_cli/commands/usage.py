"""`meterfold usage get|summary`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import LimitOption, OffsetOption, metering
from meterfold_cli.completing import complete_metric
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, JsonOption

if TYPE_CHECKING:
    from meterfold_service.usage.results import UsageSummary

app = typer.Typer(help="Show usage: totals by period, or single records.", no_args_is_help=True)


class By(StrEnum):
    """The choices of --by."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    BILLING = "billing"
    LIFETIME = "lifetime"


PERIOD_OF = {
    By.HOUR: "hourly",
    By.DAY: "daily",
    By.WEEK: "weekly",
    By.MONTH: "monthly",
    By.YEAR: "yearly",
    By.BILLING: "billing",
    By.LIFETIME: "lifetime",
}
_TIME = "2026-10, 2026-10-05, 2026-10-05T12:30, or a time with an offset"

MetricArgument = Annotated[
    str, typer.Argument(metavar="METRIC", help="The metric's key.", autocompletion=complete_metric)
]
OrgOption = Annotated[str | None, typer.Option("--org", help="Organization. [default: subjects without one]")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Only usage with this value of a metadata field. Repeatable: values of one field are alternatives.",
    ),
]
MissingOption = Annotated[
    list[str] | None,
    typer.Option("--missing", metavar="FIELD", help="Only usage without this metadata field. Repeatable."),
]
MonthOption = Annotated[str | None, typer.Option("--month", metavar="MONTH", help="One month, such as 2026-10.")]
SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", help="The last 90m, 12h, 7d or 4w.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help=f"Start: {_TIME}.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End, not included. [default: now]")]
ZoneOption = Annotated[
    str | None, typer.Option("--tz", metavar="ZONE", help="Time zone, such as Europe/Berlin. [default: UTC]")
]


@app.command("summary")
def summary(
    metric: MetricArgument,
    by: Annotated[By, typer.Option("--by", help="Period of a row. Weeks begin on Monday.")] = By.MONTH,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TYPE:ID", help="Only this subject. [default: all together]")
    ] = None,
    org: OrgOption = None,
    month: MonthOption = None,
    since: SinceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    tz: ZoneOption = None,
    anchor: Annotated[
        int | None, typer.Option(min=1, max=31, help="Day of the month on which billing periods begin.")
    ] = None,
    every_org: Annotated[
        bool, typer.Option("--every-org", help="All organizations, each in rows of its own, and subjects without one.")
    ] = False,
    by_subject: Annotated[bool, typer.Option("--by-subject", help="Show one row per subject.")] = False,
    group_by: Annotated[
        list[str] | None,
        typer.Option("--group-by", metavar="FIELD", help="Show one row per value of this metadata field. Repeatable."),
    ] = None,
    where: WhereOption = None,
    missing: MissingOption = None,
    unique: Annotated[
        str | None,
        typer.Option(
            "--unique", metavar="FIELD", help='Also count distinct values of this metadata field, or of "subject".'
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Only this many groups with the largest totals of each period. [default group: subject]",
        ),
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Also show periods in which nothing was recorded.")] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the totals as bars, with periods in which nothing was recorded.")
    ] = False,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show totals by period: of this month so far, unless you give a time.

    Every period that overlaps the time is shown as a whole. Periods in which nothing was recorded have no row; a total
    of 0 means that the recorded quantities add up to 0.

    Example: meterfold usage summary api.calls --subject user:ada --by day --since 7d

    Example: meterfold usage summary api.calls --by day --since 4w --plot

    Example: meterfold usage summary llm.tokens --group-by model --where region=eu --top 10 --unique user_id
    """
    from meterfold_cli.spans import span

    if every_org and org is not None:
        raise WrongInput("--every-org conflicts with --org; give one of them")
    if plot and as_json:
        raise WrongInput("--plot conflicts with --json; give one of them")
    begin, until = span(datetime.now(UTC), tz, month=month, since=since, start=start, end=end)
    with metering(config) as service:
        page = service.usage.get_summary(
            metric,
            period=PERIOD_OF[by],
            start=begin,
            end=until,
            tz=tz,
            anchor=anchor,
            subject=None if subject is None else subject_of(subject),
            org_id=None if every_org else org or "",
            by_subject=by_subject or (top is not None and not group_by),
            group_by=group_by or (),
            filter=filter_of(where, missing),
            unique_count=unique,
            top=top,
            empty=empty or (plot and not (by_subject or top or group_by or every_org)),
            limit=limit,
            offset=offset,
        )
    if as_json:
        console.emit_list(page)
        return
    if plot:
        _plot(page.rows, by, tz)
    else:
        _show(page.rows, by, tz, every_org)
    console.note(f"{len(page.rows)} of {page.total}" if page.total else "nothing was recorded")


@app.command("get")
def get(
    metric: MetricArgument,
    subject: Annotated[str, typer.Option("--subject", metavar="TYPE:ID", help="Whose records, such as user:ada.")],
    org: OrgOption = None,
    month: MonthOption = None,
    since: SinceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    tz: ZoneOption = None,
    where: WhereOption = None,
    missing: MissingOption = None,
    limit: LimitOption = 100,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Continue behind an earlier page, which shows it.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the records of one subject by timestamp, and their total: of this month so far, unless you give a time.

    Example: meterfold usage get api.calls --subject user:ada --from 2026-10-05 --to 2026-10-06
    """
    from meterfold_cli.spans import span

    begin, until = span(datetime.now(UTC), tz, month=month, since=since, start=start, end=end)
    with metering(config) as service:
        page = service.usage.get(
            metric,
            subject_of(subject),
            start=begin,
            end=until,
            org_id=org or "",
            filter=filter_of(where, missing),
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        console.emit(page)
        return
    names = ("timestamp", "quantity", "id", "source", "resource_type", "resource_id", "metadata")
    shown = [name for name in names if any(getattr(record, name) is not None for record in page.records)] or names
    console.table(shown, [[getattr(record, name) for name in shown] for record in page.records])
    total = "" if page.total_quantity is None else f", total {console.plain(page.total_quantity)}"
    console.note(f"{len(page.records)} of {page.total}{total}" if page.total else "nothing was recorded")
    if page.cursor is not None:
        console.note(f"next page: --cursor {page.cursor}")


def filter_of(where: Sequence[str] | None, missing: Sequence[str] | None) -> dict[str, list[str | None]]:
    """`region=eu` and `model=a`, `model=b`: the values that each metadata field may have. Raises WrongInput."""
    found: dict[str, list[str | None]] = {}
    for text in where or ():
        field, equals, value = text.partition("=")
        if not (field and equals):
            raise WrongInput(f"--where {text!r} must be FIELD=VALUE, such as region=eu")
        found.setdefault(field, []).append(value)
    for field in missing or ():
        found.setdefault(field, []).append(None)
    return found


def subject_of(text: str) -> tuple[str, str]:
    """`user:ada`; the id may have colons. Raises WrongInput."""
    kind, colon, name = text.partition(":")
    if not (kind and colon and name):
        raise WrongInput(f"--subject {text!r} must be TYPE:ID, such as user:ada")
    return kind, name


def _plot(rows: Sequence[UsageSummary], by: By, tz: str | None) -> None:
    """One chart per group, all of one scale and with the same periods."""
    from meterfold_cli.charts import ASCII, BLOCKS, Bar, bars

    charts: dict[str, dict[str, Bar]] = {}
    for row in rows:
        label = _period(row, by, tz)
        text = "-" if row.total_quantity is None else str(console.plain(row.total_quantity))
        charts.setdefault(_title(row), {})[label] = Bar(label, row.total_quantity, text)
    periods = {label: None for chart in charts.values() for label in chart}
    if len(charts) > 1:
        periods = dict.fromkeys(sorted(periods))
    lines = [chart.get(label, Bar(label, None, "-")) for chart in charts.values() for label in periods]
    out = console.out()
    drawn = bars(lines, out.width, BLOCKS if out.encoding.startswith("utf") else ASCII)
    for number, title in enumerate(charts):
        if title:
            console.say(title, "bold")
        for line in drawn[number * len(periods) : (number + 1) * len(periods)]:
            console.say(line)


def _title(row: UsageSummary) -> str:
    """What tells a group from the others; empty where there is one group only."""
    subject = [] if row.subject_type is None else [f"{row.subject_type} {row.subject_id}"]
    fields = [f"{name} {'-' if text is None else text}" for name, text in row.group.items()]
    return ", ".join([*([f"organization {row.org_id}"] if row.org_id else []), *subject, *fields])


def _period(row: UsageSummary, by: By, tz: str | None) -> str:
    from meterfold_schemas.zones import zone_of

    if by is By.LIFETIME:
        return "lifetime"
    form = {By.HOUR: "%Y-%m-%d %H:%M", By.MONTH: "%Y-%m", By.YEAR: "%Y"}.get(by, "%Y-%m-%d")
    return row.period_start.astimezone(zone_of(tz)).strftime(form)


def _show(rows: Sequence[UsageSummary], by: By, tz: str | None, orgs: bool) -> None:
    subjects = any(row.subject_id is not None for row in rows)
    fields = list(rows[0].group) if rows else []
    uniques = any(row.unique_count is not None for row in rows)
    headers = ["period", *(["org"] if orgs else []), *(["type", "subject"] if subjects else []), *fields]
    headers += ["total", "records", *(["unique"] if uniques else []), "min", "max", "avg", "last"]
    console.table(
        [*headers, "final"],
        [
            [
                _period(row, by, tz),
                *((row.org_id,) if orgs else ()),
                *((row.subject_type, row.subject_id) if subjects else ()),
                *row.group.values(),
                row.total_quantity,
                row.record_count,
                *((row.unique_count,) if uniques else ()),
                row.min_quantity,
                row.max_quantity,
                row.avg_quantity,
                row.last_quantity,
                row.is_final,
            ]
            for row in rows
        ],
    )
