"""`meterfold threshold create|update|delete|list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_deploy import console
from meterfold_deploy.commands.metric import (
    ActiveOption,
    LimitOption,
    MetadataOption,
    OffsetOption,
    commands,
    given,
)
from meterfold_deploy.installation import ConfigOption, Installation, JsonOption
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action

if TYPE_CHECKING:
    from meterfold_deploy.levels import WindowNow
    from meterfold_schemas.definitions import UsageThreshold

app = typer.Typer(help="Watch a metric: events when a value comes near, reaches or leaves it.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `threshold list` shows it.")]
# Text, so that no digit is lost on the way.
WarnOption = Annotated[
    str | None, typer.Option("--warn", metavar="VALUE", help="Approaching from here on. [default: 80 %]")
]
ActionOption = Annotated[Action | None, typer.Option(help="What the application is to do. [default: alert]")]
EmailOption = Annotated[list[str] | None, typer.Option("--email", help="Whom to notify. Repeatable.")]
WebhookOption = Annotated[str | None, typer.Option("--webhook", metavar="URL", help="What to notify.")]


@app.command("create")
def create(
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="The metric's key.")],
    name: Annotated[str, typer.Option(help="A narrower threshold replaces a wider one of the same name.")],
    value: Annotated[str, typer.Option("--value", metavar="VALUE", help="Exceeded from here on.")],
    warn: WarnOption = None,
    subject_type: Annotated[str | None, typer.Option(help="Only subjects of this type.")] = None,
    subject_id: Annotated[str | None, typer.Option(help="Only this subject.")] = None,
    period: Annotated[
        Period | None, typer.Option(help="Hourly, daily, monthly or lifetime. [default: the metric's own]")
    ] = None,
    org: Annotated[str, typer.Option("--org", help="The organization whose usage it watches.")] = "",
    action: ActionOption = None,
    email: EmailOption = None,
    webhook: WebhookOption = None,
    metadata: MetadataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a threshold on a metric: of one subject, of all of a type, or (the default) of each by itself.

    It judges windows that end from now on. The same threshold again changes nothing.
    """
    fields = given(
        warn_threshold=warn,
        subject_type=subject_type,
        subject_id=subject_id,
        period_type=period,
        action=action,
        notify_emails=tuple(email) if email else None,
        notify_webhook=webhook,
        metadata=metadata,
    )
    show(
        commands(config).create_threshold(metric_key=metric, org_id=org, name=name, threshold=value, **fields), as_json
    )


@app.command("update")
def update(
    threshold_id: IdArgument,
    name: Annotated[
        str | None, typer.Option(help="A narrower threshold replaces a wider one of the same name.")
    ] = None,
    value: Annotated[str | None, typer.Option("--value", metavar="VALUE", help="Exceeded from here on.")] = None,
    warn: WarnOption = None,
    action: ActionOption = None,
    email: EmailOption = None,
    webhook: WebhookOption = None,
    metadata: MetadataOption = None,
    active: ActiveOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a threshold. Its open windows are judged again at once."""
    changes = given(
        name=name,
        threshold=value,
        warn_threshold=warn,
        action=action,
        notify_emails=tuple(email) if email else None,
        notify_webhook=webhook,
        metadata=metadata,
        is_active=active,
    )
    show(commands(config).update_threshold(threshold_id, **changes), as_json)


@app.command("delete")
def delete(threshold_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Delete a threshold. What it had raised is cleared."""
    commands(config).delete_threshold(threshold_id)
    if as_json:
        console.emit({"deleted": threshold_id})
    else:
        console.say(f"threshold {threshold_id} is deleted")


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only of this organization.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only on this metric.")] = None,
    subject_type: Annotated[str | None, typer.Option(help="Only of this subject type.")] = None,
    subject_id: Annotated[str | None, typer.Option(help="Only of this subject.")] = None,
    active: ActiveOption = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    windows: Annotated[int, typer.Option(min=0, max=1000, help="At most so many windows of each threshold.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List thresholds, with the level and the value now of each current window that has reached a level.

    A threshold on one subject shows its window in any case. A level is as new as the checker, a value as the fold.
    """
    from meterfold_deploy.listing import list_thresholds

    page = list_thresholds(
        Installation.read(config).clickhouse(),
        org_id=org,
        metric_key=metric,
        subject_type=subject_type,
        subject_id=subject_id,
        is_active=active,
        limit=limit,
        offset=offset,
        windows=windows,
    )
    if as_json:
        console.emit(page)
        return
    names = ("id", "metric_key", "org_id", "name", "threshold", "warn_threshold", "period_type", "action", "is_active")
    headers = ("id", "metric", "org", "name", "value", "warn", "period", "action", "active", "subject")
    more = ("exceeded", "approaching")
    rows = [
        [
            *(row[name] for name in names),
            _subject(row["subject_type"], row["subject_id"]),
            *(getattr(row["standing"], level) for level in more),
        ]
        for row in page.rows
    ]
    console.table((*headers, *more), rows)
    _show_windows(page.rows)
    console.note(f"{len(page.rows)} of {page.total}")


def _show_windows(rows: list[dict[str, Any]]) -> None:
    shown = [
        (row["name"], row["metric_key"], w.subject_type, w.subject_id, w.period_start, w.level, w.value, _percent(w))
        for row in rows
        for w in row["standing"].windows
    ]
    if shown:
        console.say()
        console.table(("threshold", "metric", "type", "subject", "window from", "level", "value now", "used"), shown)


def _percent(window: WindowNow) -> str | None:
    return None if window.percentage_used is None else f"{_text(window.percentage_used)} %"


def show(threshold: UsageThreshold, as_json: bool) -> None:
    if as_json:
        console.emit(threshold)
        return
    console.say(
        f"threshold {threshold.id}: {threshold.name}, {threshold.metric_key} {threshold.period_type} of "
        f"{_subject(threshold.subject_type, threshold.subject_id)}, approaching {_text(threshold.warn_threshold)}, "
        f"exceeded {_text(threshold.threshold)}"
    )


def _subject(kind: str | None, name: str | None) -> str:
    if kind is None:
        return "every subject"
    return f"every {kind}" if name is None else f"{kind} {name}"


def _text(value: object) -> str:
    return str(console.plain(value))
