"""`meterfold rejected list|show|redrive`: messages that cannot be counted, and sending them again."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import LimitOption, OffsetOption, metering
from meterfold_cli.commands.usage import FromOption, MonthOption, SinceOption, ToOption, ZoneOption, subject_of
from meterfold_cli.confirming import YesOption, confirm
from meterfold_cli.exits import FAILED, UNAVAILABLE, WrongInput
from meterfold_cli.installation import ConfigOption, JsonOption

if TYPE_CHECKING:
    from meterfold_service.rejected.operations import Selection
    from meterfold_service.rejected.results import RedriveReport, RejectedMessage

app = typer.Typer(help="Show rejected messages, and send them again with a correction.", no_args_is_help=True)


class Reason(StrEnum):
    """The choices of --reason."""

    UNDECODABLE = "undecodable"
    INVALID = "invalid"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"
    MISROUTED = "misrouted"


def _selection(
    reason: Annotated[Reason | None, typer.Option("--reason", help="Only messages with this reason.")] = None,
    org: Annotated[
        str | None, typer.Option("--org", help='Only this organization; "" for none or an unknown one. [default: all]')
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="KEY", help="Only this metric.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="TYPE:ID", help="Only this subject.")] = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only this partition.")] = None,
    month: MonthOption = None,
    since: SinceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    tz: ZoneOption = None,
) -> Selection:
    """The options that select messages, of every command that does; times are arrival times."""
    from meterfold_cli.spans import span

    begin = until = None
    if any(option is not None for option in (month, since, start, end)):
        begin, until = span(datetime.now(UTC), tz, month=month, since=since, start=start, end=end)
    return {
        "reason": None if reason is None else reason.value,
        "org_id": org,
        "metric_key": metric,
        "subject": None if subject is None else subject_of(subject),
        "partition": partition,
        "since": begin,
        "until": until,
    }


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `_selection` in the place of its parameter `selection`."""
    # `Selection` is imported for type checkers only: commands import what they run.
    options, own = (
        inspect.signature(function, eval_str=True, locals={"Selection": dict}).parameters
        for function in (_selection, command)
    )

    @functools.wraps(command)
    def run(**given: Any) -> None:
        selection = _selection(**{name: given.pop(name) for name in options})
        command(selection=selection, **given)

    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        parameters += options.values() if name == "selection" else [parameter]
    signature = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters])
    run.__signature__ = signature  # type: ignore[attr-defined]  # what Typer reads
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


@app.command("list")
@selecting
def list_(
    *,
    selection: Selection,
    redriven: Annotated[
        bool | None,
        typer.Option("--redriven/--open", help="Only messages that were, or were not, sent again. [default: both]"),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write the shown rows as JSON Lines, for `redrive --file`."),
    ] = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List rejected messages by arrival time, the newest first, and what became of those that were sent again.

    A message with an unknown schema is not rejected: it holds its partition until you decide with `meterfold schema`.

    Example: meterfold rejected list --reason misrouted --since 7d
    """
    from meterfold_cli.wording.rejected import json_message
    from meterfold_cli.wording.rejected import redriven as became

    with metering(config) as service:
        page = service.rejected.list(redriven=redriven, limit=limit, offset=offset, **selection)
        reasons = service.rejected.count(redriven=redriven, **selection)
    if write is not None:
        _write(write, page.rows)
    if as_json:
        rows = [json_message(one, raw=False) for one in page.rows]
        console.emit({"total": page.total, "reasons": reasons, "rows": rows})
        return
    console.table(
        ("position", "arrived", "reason", "org", "metric", "type", "subject", "redriven", "detail"),
        [
            (
                str(one.position),
                one.received_at.replace(microsecond=0),
                one.reason,
                one.org_id,
                one.metric_key,
                one.subject_type,
                one.subject_id,
                became(one),
                one.detail,
            )
            for one in page.rows
        ],
    )
    counts = ", ".join(f"{count:,} {name}" for name, count in reasons.items())
    console.note(f"{len(page.rows)} of {page.total}" + (f": {counts}" if counts else ""))


@app.command("show")
def show(
    position: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `rejected list` shows it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one rejected message: its fields, the rule that it breaks, its bytes, and what became of it.

    Bytes are shown in hexadecimal digits, and as text if they are text.

    Example: meterfold rejected show 3:1042
    """
    from meterfold_cli.correcting import position_of
    from meterfold_cli.wording.rejected import json_message, lines

    with metering(config) as service:
        message = service.rejected.get(position_of(position))
    if as_json:
        console.emit(json_message(message, raw=True))
        return
    shown = list(lines(message))
    width = max(len(name) for name, _ in shown)
    for name, text in shown:
        console.say(f"{name.ljust(width)}  {text}")


@app.command("redrive")
@selecting
def redrive(
    positions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PARTITION:OFFSET]...", help="Messages, as `rejected list` shows them."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set a field of every message. Repeatable. timestamp=received_at is the time of its arrival.",
        ),
    ] = None,
    drops: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="FIELD", help="Leave out an optional or unknown field. Repeatable."),
    ] = None,
    shift: Annotated[
        str | None, typer.Option("--shift", metavar="DURATION", help="Add to every timestamp, such as -2h or 90m.")
    ] = None,
    read_as: Annotated[
        str | None,
        typer.Option("--read-as", metavar="SCHEMA", help="Schema of the bytes after the header: usage_recorded.v1."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="JSON Lines of partition, offset and event: the fields to set."),
    ] = None,
    *,
    selection: Selection,
    every: Annotated[bool, typer.Option("--all", help="Every message that was not sent again yet.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Send at most this many of a selection, by partition and arrival. [default: all]"),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who does it. [default: your login name on this machine]")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Why; stored with it.")] = "",
    wait: Annotated[float, typer.Option(min=0, help="Wait this many seconds until the events are folded.")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send rejected messages again with a correction: named ones, those of a file, or every open one of a selection.

    Each event keeps its id and the other fields that you do not set, and gets the right key and partition. A message
    becomes one event at most, however often the command runs; another correction afterwards is refused. The message
    itself stays rejected.

    Example: meterfold rejected redrive --reason misrouted --since 1d --dry-run

    Example: meterfold rejected redrive 3:1042 --set timestamp=2026-11-22T10:00:00Z
    """
    from meterfold_cli.correcting import correction_of, corrections_in, position_of
    from meterfold_cli.wording.alerts import login_name
    from meterfold_cli.wording.rejected import event_fields, report_lines
    from meterfold_schemas.plurals import plural

    correction = correction_of(sets or [], drops or [], shift)
    selected = any(value is not None for value in selection.values())
    ways = sum((bool(positions), file is not None, selected, every))
    if ways != 1:
        raise WrongInput(
            "name messages, give --file, select them, such as --reason misrouted, or give --all; exactly one of these"
        )
    if limit is not None and not (selected or every):
        raise WrongInput("--limit is for a selection or --all")
    name = login_name() if by is None else by
    with metering(config) as service:
        if positions or file is not None:
            named = {position_of(text): correction for text in positions or []}
            corrections = named if file is None else corrections_in(file, correction)
            report = service.rejected.redrive(
                corrections, read_as=read_as, by=name, note=note, dry_run=dry_run, wait_seconds=wait
            )
        else:
            counts = service.rejected.count(redriven=False, **selection)
            total = min(sum(counts.values()), limit or sys.maxsize)
            if not (yes or dry_run):
                effects = [f"{count:,} rejected as {why}" for why, count in counts.items()]
                confirm(f"sending {plural(total, 'message')} again", effects or ["nothing is selected"])
            with console.progress("redriving", "messages") as progress:
                report = service.rejected.redrive_all(
                    correction,
                    read_as=read_as,
                    by=name,
                    note=note,
                    dry_run=dry_run,
                    wait_seconds=wait,
                    limit=limit,
                    on_progress=lambda done: progress(done, total),
                    **selection,
                )
    if as_json:
        shown = [{"partition": p.partition, "offset": p.offset, **event_fields(event)} for p, event in report.events]
        console.emit({**console.plain(report), "events": shown})
    else:
        if dry_run:
            for place, event in report.events:
                console.note(f"{place} -> {json.dumps(event_fields(event), ensure_ascii=False)}")
        for line in report_lines(report):
            console.say(line)
    _end(report)


def _end(report: RedriveReport) -> None:
    if report.refused_total or report.states.get("rejected"):
        raise typer.Exit(FAILED)
    if report.states.get("not folded"):
        raise typer.Exit(UNAVAILABLE)


def _write(path: Path, rows: tuple[RejectedMessage, ...]) -> None:
    from meterfold_cli.correcting import line_of

    try:
        with path.open("x", encoding="utf-8") as file:
            for one in rows:
                line = line_of(
                    one.position,
                    console.plain(one.event.fields),
                    reason=one.reason,
                    detail=one.detail,
                    problems=console.plain(one.event.problems),
                )
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except FileExistsError:
        raise WrongInput(f"--write {path}: the file exists. Choose another name") from None
    except OSError as error:
        raise WrongInput(f"--write {path}: {error}") from None
