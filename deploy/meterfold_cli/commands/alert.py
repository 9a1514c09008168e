"""`meterfold alert list|acknowledge|resolve`."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import LimitOption, OffsetOption, metering
from meterfold_cli.completing import complete_metric
from meterfold_cli.installation import ConfigOption, JsonOption
from meterfold_schemas.vocabulary import AlertAction, AlertStatus, Level

if TYPE_CHECKING:
    from meterfold_service.alerts.operations import UsageAlert

app = typer.Typer(help="List alerts, acknowledge and resolve them.", no_args_is_help=True)


class ReachedLevel(StrEnum):
    """The choices of --level."""

    APPROACHING = Level.APPROACHING
    EXCEEDED = Level.EXCEEDED


IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the alert, as shown by `alert list`.")]
ByOption = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it. [default: your login name on this machine]")
]


@app.command("list")
def list_(
    metric: Annotated[
        str | None, typer.Option(help="Only alerts on this metric.", autocompletion=complete_metric)
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TYPE:ID", help="Only alerts of this subject, such as user:ada.")
    ] = None,
    org: Annotated[
        str | None,
        typer.Option("--org", help='Only alerts of this organization ("": of subjects without one).'),
    ] = None,
    threshold: Annotated[str | None, typer.Option(metavar="ID", help="Only alerts of this threshold.")] = None,
    status: Annotated[AlertStatus | None, typer.Option(help="Only alerts with this status.")] = None,
    level: Annotated[ReachedLevel | None, typer.Option(help="Only alerts of this level.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only alerts of the last 90m, 12h, 7d or 4w.")
    ] = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List alerts, the newest first.

    An alert is pending until somebody acknowledges or resolves it, the value falls back, or the window ends.

    Example: meterfold alert list --status pending --since 7d
    """
    from meterfold_cli.commands.usage import subject_of
    from meterfold_cli.spans import span

    with metering(config) as service:
        page = service.alerts.list(
            metric_key=metric,
            subject=None if subject is None else subject_of(subject),
            org_id=org,
            threshold_id=threshold,
            status=status,
            level=level,
            since=None if since is None else span(datetime.now(UTC), since=since)[0],
            limit=limit,
            offset=offset,
        )
    if as_json:
        console.emit_list(page)
        return
    headers = ("id", "status", "level", "metric", "org", "type", "subject", "window from", "value", "used", "since")
    console.table(
        [*headers, "by"],
        [
            (
                alert.id,
                alert.status,
                alert.level,
                alert.metric_key,
                alert.org_id,
                alert.subject_type,
                alert.subject_id,
                alert.period_start,
                alert.actual_value,
                f"{_rounded(alert)} %",
                alert.triggered_at.replace(microsecond=0),
                alert.resolved_by or alert.acknowledged_by,
            )
            for alert in page.rows
        ],
    )
    console.note(f"{len(page.rows)} of {page.total}")


@app.command("acknowledge")
def acknowledge(
    alert_id: IdArgument, by: ByOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Say that you take care of an alert. The first person wins; others see that person's name.

    Example: meterfold alert acknowledge 4c1b6bd4-3c5c-5a41-9d3f-0a4f5f2c7f10 --by ada
    """
    _act(AlertAction.ACKNOWLEDGE, alert_id, by, config, as_json)


@app.command("resolve")
def resolve(
    alert_id: IdArgument, by: ByOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Close an alert before the value falls back or the window ends. The first person wins.

    Example: meterfold alert resolve 4c1b6bd4-3c5c-5a41-9d3f-0a4f5f2c7f10 --by ada
    """
    _act(AlertAction.RESOLVE, alert_id, by, config, as_json)


def _act(action: AlertAction, alert_id: str, by: str | None, config: ConfigOption, as_json: bool) -> None:
    from meterfold_cli.wording.alerts import login_name, state

    name = login_name() if by is None else by
    with metering(config) as service:
        operation = service.alerts.acknowledge if action is AlertAction.ACKNOWLEDGE else service.alerts.resolve
        alert = operation(alert_id, by=name)
    if as_json:
        console.emit(alert)
    else:
        console.say(state(alert))


def _rounded(alert: UsageAlert) -> str:
    return console.decimal_text(round(alert.percentage_used, 2))
