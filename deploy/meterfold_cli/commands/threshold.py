"""`meterfold threshold create|update|delete|list`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import ActiveOption, LimitOption, MetadataOption, OffsetOption, given, metering
from meterfold_cli.completing import complete_metric
from meterfold_cli.installation import ConfigOption, JsonOption
from meterfold_schemas.errors import InvalidDefinition
from meterfold_schemas.periods import Period
from meterfold_schemas.plurals import plural
from meterfold_schemas.vocabulary import Action

if TYPE_CHECKING:
    from meterfold_schemas.definitions import UsageThreshold
    from meterfold_service.thresholds.operations import ListedThreshold
    from meterfold_sink.threshold_levels import WindowNow
    from meterfold_sink.thresholds import WatchedSubjects


class KeptPeriod(StrEnum):
    """The choices of --period: periods.KEPT."""

    HOURLY = Period.HOURLY
    DAILY = Period.DAILY
    MONTHLY = Period.MONTHLY
    LIFETIME = Period.LIFETIME


app = typer.Typer(help="Define thresholds on metrics.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the threshold, as shown by `threshold list`.")]
# Text, so that no digit is lost on the way.
WarnOption = Annotated[
    str | None,
    typer.Option("--warn", metavar="VALUE", help="Warning value, or a percentage of --value. [default: 80%]"),
]
ActionOption = Annotated[Action | None, typer.Option(help="What the application should do. [default: alert]")]
EmailOption = Annotated[list[str] | None, typer.Option("--email", help="E-mail address to notify. Repeatable.")]
WebhookOption = Annotated[str | None, typer.Option("--webhook", metavar="URL", help="URL to notify.")]


@app.command("create")
def create(
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="Key of the metric.", autocompletion=complete_metric)],
    name: Annotated[str, typer.Option(help="Name. A narrower threshold replaces a wider one with the same name.")],
    value: Annotated[str, typer.Option("--value", metavar="VALUE", help="Value at which the threshold is exceeded.")],
    warn: WarnOption = None,
    subject_type: Annotated[str | None, typer.Option(help="Only subjects of this type.")] = None,
    subject_id: Annotated[str | None, typer.Option(help="Only this subject.")] = None,
    period: Annotated[
        KeptPeriod | None,
        typer.Option(
            help="Period of the windows; fixed at creation. [default: the metric's reset period]",
        ),
    ] = None,
    org: Annotated[
        str | None,
        typer.Option(
            "--org", help='Only subjects of this organization; "": those without one. [default: all organizations]'
        ),
    ] = None,
    action: ActionOption = None,
    email: EmailOption = None,
    webhook: WebhookOption = None,
    metadata: MetadataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a threshold on a metric, for one subject, all subjects of a type, or (by default) all subjects.

    Each subject of each organization is judged separately, in windows that end after now. Of several thresholds
    with one name, only the narrowest judges a subject. Repeating the command changes nothing.

    Example: meterfold threshold create api.calls --name quota --value 1000 --warn 90% --subject-type user
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
    if subject_id is not None and subject_type is None:
        raise typer.BadParameter("--subject-id needs --subject-type")
    with option_names(), metering(config) as service:
        threshold = service.thresholds.create(metric_key=metric, org_id=org, name=name, threshold=value, **fields)
        found = service.thresholds.watched_subjects(threshold.id)
    if as_json:
        console.emit({**threshold.model_dump(), "watched_subjects": found.watched})
    else:
        show(threshold, as_json)
    console.note(watches(threshold, found), "yellow" if not found.watched else "dim")


@app.command("update")
def update(
    threshold_id: IdArgument,
    name: Annotated[
        str | None, typer.Option(help="Name. A narrower threshold replaces a wider one with the same name.")
    ] = None,
    value: Annotated[
        str | None, typer.Option("--value", metavar="VALUE", help="Value at which the threshold is exceeded.")
    ] = None,
    warn: WarnOption = None,
    action: ActionOption = None,
    email: EmailOption = None,
    webhook: WebhookOption = None,
    metadata: MetadataOption = None,
    active: ActiveOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a threshold. Its open windows are judged again immediately.

    Example: meterfold threshold update 4c1b6bd4-3c5c-5a41-9d3f-0a4f5f2c7f10 --value 2000
    """
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
    with option_names(), metering(config) as service:
        threshold = service.thresholds.update(threshold_id, **changes)
    show(threshold, as_json)


@app.command("delete")
def delete(threshold_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Delete a threshold. Levels that it has reached are cleared.

    Example: meterfold threshold delete 4c1b6bd4-3c5c-5a41-9d3f-0a4f5f2c7f10
    """
    with metering(config) as service:
        service.thresholds.delete(threshold_id)
    if as_json:
        console.emit({"deleted": threshold_id})
    else:
        console.say(f"threshold {threshold_id} is deleted")


@app.command("list")
def list_(
    org: Annotated[
        str | None,
        typer.Option("--org", help='Only thresholds for this organization ("": for subjects without one).'),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Only thresholds on this metric.", autocompletion=complete_metric)
    ] = None,
    subject_type: Annotated[str | None, typer.Option(help="Only thresholds for this subject type.")] = None,
    subject_id: Annotated[str | None, typer.Option(help="Only thresholds for this subject.")] = None,
    active: ActiveOption = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    windows: Annotated[
        int, typer.Option(min=0, max=1000, help="Show at most this many windows of each threshold.")
    ] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List thresholds, with the current level and value of each window that has reached a level.

    A threshold on one subject also shows windows below the warning value. Levels are as recent as the checker, values
    as the fold.

    Example: meterfold threshold list --metric api.calls --active
    """
    from meterfold_service.thresholds.scope import watched

    with metering(config) as service:
        page = service.thresholds.list(
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
        console.emit({"total": page.total, "rows": [_flat(row) for row in page.rows]})
        return
    names = ("id", "metric_key", "name", "threshold", "warn_threshold", "period_type", "action")
    headers = (
        "id",
        "metric",
        "name",
        "value",
        "warn",
        "period",
        "action",
        "watches",
        "state",
        "exceeded",
        "approaching",
    )
    rows = [
        [
            *(getattr(row.threshold, name) for name in names),
            watched(*row.threshold.scope),
            "judging" if row.resting is None else f"resting: {row.resting}",
            row.standing.exceeded,
            row.standing.approaching,
        ]
        for row in page.rows
    ]
    console.table(headers, rows)
    _show_windows(page.rows)
    for row in page.rows:
        for text in row.notes:
            console.say(f"threshold {row.threshold.id}: {text}")
    console.note(f"{len(page.rows)} of {page.total}")


def _flat(row: ListedThreshold) -> dict[str, Any]:
    return {
        **row.threshold.model_dump(),
        "standing": row.standing,
        "resting": row.resting,
        "notes": row.notes,
    }


def _show_windows(rows: Sequence[ListedThreshold]) -> None:
    headers = ("threshold", "metric", "org", "type", "subject", "window from", "level", "value now", "used")
    shown = [
        (
            row.threshold.name,
            row.threshold.metric_key,
            *(w.org_id, w.subject_type, w.subject_id, w.period_start, w.level, w.value),
            _percent(w),
        )
        for row in rows
        for w in row.standing.windows
    ]
    if shown:
        console.say()
        console.table(headers, shown)


def _percent(window: WindowNow) -> str | None:
    return None if window.percentage_used is None else f"{_text(window.percentage_used)} %"


def show(threshold: UsageThreshold, as_json: bool) -> None:
    from meterfold_service.thresholds.scope import watched

    if as_json:
        console.emit(threshold)
        return
    console.say(
        f"threshold {threshold.id}: {threshold.name}, {threshold.metric_key} {threshold.period_type} of "
        f"{watched(*threshold.scope)}, approaching {_text(threshold.warn_threshold)}, "
        f"exceeded {_text(threshold.threshold)}"
    )


def watches(threshold: UsageThreshold, found: WatchedSubjects) -> str:
    """How many subjects it watches now, and where none: why."""
    if found.watched:
        beside = f"; narrower thresholds named {threshold.name!r} watch {found.replaced} more" if found.replaced else ""
        return f"it watches {plural(found.watched, 'subject')} now{beside}"
    if not threshold.is_active:
        why = "it is inactive"
    elif not found.subjects:
        why = f"{threshold.metric_key} has no usage yet"
    elif found.matching:
        reasons = []
        if found.replaced:
            reasons.append(f"narrower thresholds named {threshold.name!r} watch {found.replaced}")
        if found.undefined:
            reasons.append(f"metric {threshold.metric_key} is not active for {found.undefined}")
        why = f"of {plural(found.matching, 'subject')} that match, {' and '.join(reasons)}"
    else:
        groups = [
            f"{plural(group.subjects, 'subject')} of type {group.subject_type} "
            + (f"in organization {group.org_id}" if group.org_id else "without an organization")
            for group in found.groups
        ]
        more = found.subjects - sum(group.subjects for group in found.groups)
        groups += [f"{more} more"] if more else []
        why = f"{threshold.metric_key} has usage of {', '.join(groups)}"
    return f"warning: it watches no subject now: {why}"


@contextmanager
def option_names() -> Iterator[None]:
    """A definition that is refused names the options of the command line."""
    try:
        yield
    except InvalidDefinition as error:
        from meterfold_cli.wording.thresholds import OPTIONS

        found = [f"{OPTIONS.get(field.partition('.')[0], field)}: {text}" for field, text in error.problems if field]
        if len(found) != len(error.problems) or not found:
            raise
        raise InvalidDefinition("; ".join(found), code=error.code) from None


def _text(value: object) -> str:
    return str(console.plain(value))
