"""`meterfold periods close|due|list|adjustments`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console, exits
from meterfold_cli.commands.metric import LimitOption, OffsetOption, metering
from meterfold_cli.commands.usage import FromOption, MonthOption, ToOption, subject_of
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, JsonOption
from meterfold_schemas.plurals import noun, plural

if TYPE_CHECKING:
    from meterfold_service.periods.results import (
        Adjustment,
        CloseRun,
        ClosingFailure,
        DuePeriod,
        PeriodClosing,
    )

app = typer.Typer(
    help="Close periods: prove their numbers, keep them, and show what moved since.", no_args_is_help=True
)


class Kind(StrEnum):
    """The choices of --period."""

    HOURLY = "hourly"
    DAILY = "daily"
    MONTHLY = "monthly"


KindsOption = Annotated[
    list[Kind] | None, typer.Option("--period", help="Kind of period; can be repeated. [default: all three]")
]
KindOption = Annotated[Kind | None, typer.Option("--period", help="Only periods of this kind. [default: all three]")]
MetricOption = Annotated[str | None, typer.Option("--metric", metavar="KEY", help="Only this metric. [default: all]")]


@app.command("close")
def close(
    period: KindsOption = None,
    month: MonthOption = None,
    day: Annotated[str | None, typer.Option("--day", metavar="DAY", help="One day, such as 2026-10-05.")] = None,
    start: FromOption = None,
    end: ToOption = None,
    due: Annotated[
        bool, typer.Option("--due", help="Close everything that has ended and is not closed, or has moved since.")
    ] = False,
    metric: MetricOption = None,
    limit: Annotated[int, typer.Option(min=1, help="With --due: close at most this many periods.")] = 1000,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait up to this long for the fold to catch up.")
    ] = 30.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close periods, in UTC: wait for the fold, recount the windows from the records, compare, and store the numbers
    with their checksum.

    Repeating a closing changes nothing. After a late event, the next run stores another closing. With --due, for cron:
    the earliest periods first. Several runs at the same time do no harm.

    Exit code 0: all of them are closed. 1: windows differ from their records, or records have expired; the other
    periods are closed. Or a period has not ended. 3: a server does not answer, or a worker is behind; run it again
    later.

    Example: meterfold periods close --period monthly --month 2026-10
    """
    kinds = [kind.value for kind in period or ()]
    given = [name for name, value in _given(month, day, start, end).items() if value is not None]
    if due:
        if given or metric is not None:
            raise WrongInput(f"--due finds the periods: leave out {' and '.join([*given, *_named(metric)])}")
    elif not given:
        raise WrongInput("give --month, --day, or --from with --to, or --due for everything that has ended")
    elif len(kinds) > 1:
        raise WrongInput("close one kind of period at a time: give --period once, or --due")
    with metering(config) as service, console.progress("close") as meter:
        if due:
            run = service.periods.close_due(kinds or tuple(Kind), limit=limit, wait_seconds=wait, tell=meter)
        else:
            kind = kinds[0] if kinds else _kind_of(day)
            begin, until = _span(month, day, start, end)
            run = service.periods.close_many(kind, begin, until, metric, wait_seconds=wait, tell=meter)
    if as_json:
        console.emit(run)
    else:
        _show_run(run)
    if run.failures:
        raise typer.Exit(exits.FAILED)


@app.command("due")
def due(
    period: KindsOption = None,
    limit: LimitOption = 100,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the periods that `close --due` closes: ended, and not closed or moved since.

    Example: meterfold periods due --period daily
    """
    with metering(config) as service:
        found = service.periods.due([kind.value for kind in period or Kind], limit=limit)
    if as_json:
        console.emit(found)
        return
    console.table(["period", "start", "reason"], [[one.period_type, _shown(one), one.reason] for one in found.rows])
    console.note(f"{len(found.rows)} of {found.total}" if found.total else "nothing is due")
    _note_expired(found.expired)


@app.command("list")
def list_(
    period: KindOption = None,
    month: MonthOption = None,
    start: FromOption = None,
    end: ToOption = None,
    metric: MetricOption = None,
    newest: Annotated[bool, typer.Option("--newest", help="Only the newest closing of each period.")] = False,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List closings, the latest period first.

    Example: meterfold periods list --period monthly --newest
    """
    begin, until = _optional_span(month, start, end)
    with metering(config) as service:
        page = service.periods.list(
            None if period is None else period.value,
            start=begin,
            end=until,
            metric_key=metric,
            newest=newest,
            limit=limit,
            offset=offset,
        )
    if as_json:
        console.emit_list(page)
        return
    _show_closings(page.rows)
    console.note(f"{len(page.rows)} of {page.total}" if page.total else "nothing is closed")


@app.command("adjustments")
def adjustments(
    period: KindOption = None,
    month: MonthOption = None,
    start: FromOption = None,
    end: ToOption = None,
    metric: MetricOption = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organization. [default: all]")] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TYPE:ID", help="Only this subject, such as user:ada.")
    ] = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what moved since it was closed: what to invoice, or to credit if it is negative.

    Example: meterfold periods adjustments --period monthly --month 2026-10
    """
    begin, until = _optional_span(month, start, end)
    with metering(config) as service:
        page = service.periods.adjustments(
            None if period is None else period.value,
            start=begin,
            end=until,
            metric_key=metric,
            org_id=org,
            subject=None if subject is None else subject_of(subject),
            limit=limit,
            offset=offset,
        )
    if as_json:
        console.emit_list(page)
        return
    _show_adjustments(page.rows)
    console.note(f"{len(page.rows)} of {page.total}" if page.total else "nothing moved since it was closed")


def _given(month: str | None, day: str | None, start: str | None, end: str | None) -> dict[str, str | None]:
    return {"--month": month, "--day": day, "--from": start, "--to": end}


def _named(metric: str | None) -> list[str]:
    return [] if metric is None else ["--metric"]


def _kind_of(day: str | None) -> str:
    """A day is closed as a day, anything longer by months, unless --period says otherwise."""
    return Kind.MONTHLY.value if day is None else Kind.DAILY.value


def _span(month: str | None, day: str | None, start: str | None, end: str | None) -> tuple[datetime, datetime]:
    from meterfold_cli.spans import span

    if day is not None:
        if month is not None or start is not None or end is not None:
            raise WrongInput("give one of --month, --day, or --from with --to")
        try:
            first = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise WrongInput(f"--day {day!r} must be a day such as 2026-10-05") from None
        return first, first + timedelta(days=1)
    if month is None and (start is None or end is None):
        raise WrongInput("--from and --to are only valid together: give both, or --month")
    return span(datetime.now(UTC), None, month=month, start=start, end=end)


def _optional_span(month: str | None, start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    from meterfold_cli.spans import span

    if month is None and start is None and end is None:
        return None, None
    return span(datetime.now(UTC), None, month=month, start=start, end=end)


def _shown(one: PeriodClosing | DuePeriod | Adjustment) -> str:
    form = {"hourly": "%Y-%m-%d %H:%M", "daily": "%Y-%m-%d", "monthly": "%Y-%m"}
    return one.period_start.strftime(form[one.period_type])


def _show_run(run: CloseRun) -> None:
    new = sum(one.is_new for one in run.closings)
    if run.closings:
        _show_closings(run.closings)
        same = len(run.closings) - new
        unchanged = f", {same:,} {noun(same, 'was', 'were')} closed with the same numbers before" if same else ""
        console.note(f"closed {plural(new, 'period')}{unchanged}")
    elif not run.failures:
        console.note("nothing is due")
    for failure in run.failures:
        console.fail(f"{failure.message} [{failure.code}]")
        if failure.differences:
            _show_differences(failure)
    if run.remaining:
        console.note(f"{plural(run.remaining, 'more period')} {noun(run.remaining, 'is', 'are')} due; run it again")
    _note_expired(run.expired)


def _show_differences(failure: ClosingFailure) -> None:
    console.table(
        ["organization", "metric", "type", "subject", "finding", "records", "recounted", "sum", "recounted sum"],
        [
            [
                one.org_id,
                one.metric_key,
                one.subject_type,
                one.subject_id,
                one.finding,
                one.stored_count,
                one.recounted_count,
                one.stored_sum,
                one.recounted_sum,
            ]
            for one in failure.differences
        ],
    )
    if failure.total > len(failure.differences):
        console.note(f"{len(failure.differences)} of {plural(failure.total, 'window')} that differ")


def _note_expired(expired: int) -> None:
    if expired:
        console.note(
            f"{plural(expired, 'earlier period')} cannot be closed: {noun(expired, 'its', 'their')} records may have "
            "expired"
        )


def _show_closings(rows: Sequence[PeriodClosing]) -> None:
    console.table(
        ["period", "start", "metric", "revision", "windows", "records", "checksum", "closed at"],
        [
            [
                one.period_type,
                _shown(one),
                one.metric_key or "(all)",
                one.revision,
                one.window_count,
                one.record_count,
                one.checksum,
                one.closed_at,
            ]
            for one in rows
        ],
    )


def _show_adjustments(rows: Sequence[Adjustment]) -> None:
    console.table(
        ["period", "start", "organization", "metric", "type", "subject", "closed", "now", "difference", "events"],
        [
            [
                one.period_type,
                _shown(one),
                one.org_id,
                one.metric_key,
                one.subject_type,
                one.subject_id,
                one.old_quantity,
                one.new_quantity,
                one.difference,
                one.new_count - one.old_count,
            ]
            for one in rows
        ],
    )
