"""`meterfold metric define|update|delete|get|list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_cli import console
from meterfold_cli.confirming import YesOption, confirm
from meterfold_cli.installation import ConfigOption, Installation, JsonOption
from meterfold_schemas.vocabulary import AggregationType, ResetPeriod
from meterfold_service.metrics import undefined

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.definitions import DefinitionCommands
    from meterfold_service.metrics.changes import MetricChange

app = typer.Typer(help="Define what is counted, and how its windows are read.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Of a-z, 0-9, '_', '.', '-'; such as api.calls.")]
NameOption = Annotated[str, typer.Option(help="Shown to people.")]
UnitOption = Annotated[str, typer.Option(help="What one is: calls, tokens, bytes.")]
DescriptionOption = Annotated[str | None, typer.Option(help="For people.")]
AggregationOption = Annotated[
    AggregationType | None, typer.Option("--aggregation", help="What a window's total means. [default: sum]")
]
ResetOption = Annotated[
    ResetPeriod | None, typer.Option("--reset-period", help="When it starts again. [default: monthly]")
]
PrecisionOption = Annotated[int | None, typer.Option(min=0, max=9, help="Digits shown. [default: 2]")]
OrgOption = Annotated[str, typer.Option("--org", help="An organization's own; without it for every organization.")]
CategoryOption = Annotated[str | None, typer.Option(help="To group metrics by.")]
OrderOption = Annotated[int | None, typer.Option("--display-order", help="Lower ones are shown first.")]
MetadataOption = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object.")]
ActiveOption = Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it is in use.")]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many rows.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Leave out so many rows at the beginning.")]


@app.command("define")
def define(
    key: KeyArgument,
    name: NameOption,
    unit: UnitOption,
    description: DescriptionOption = None,
    aggregation: AggregationOption = None,
    reset_period: ResetOption = None,
    precision: PrecisionOption = None,
    org: OrgOption = "",
    category: CategoryOption = None,
    display_order: OrderOption = None,
    metadata: MetadataOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a metric. The same definition again changes nothing; another one under the same key is refused.

    An organization's own definition hides the one for every organization. Where that changes totals of usage that
    exists, the command says so and asks.
    """
    fields = given(
        description=description,
        aggregation_type=aggregation,
        reset_period=reset_period,
        precision=precision,
        category=category,
        display_order=display_order,
        metadata=metadata,
    )
    run = commands(config)
    definition = {"key": key, "name": name, "unit": unit, "org_id": org, **fields}
    if org and not yes:
        _confirm("defining", key, org, run.preview_define(**definition))
    show(run.define_metric(**definition), as_json)


@app.command("update")
def update(
    key: KeyArgument,
    name: Annotated[str | None, typer.Option(help="Shown to people.")] = None,
    unit: Annotated[str | None, typer.Option(help="What one is: calls, tokens, bytes.")] = None,
    description: DescriptionOption = None,
    aggregation: AggregationOption = None,
    reset_period: ResetOption = None,
    precision: PrecisionOption = None,
    org: OrgOption = "",
    category: CategoryOption = None,
    display_order: OrderOption = None,
    metadata: MetadataOption = None,
    active: ActiveOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change fields of a metric. Nothing is counted again: windows keep the state of every aggregation type.

    A new aggregation type, unit or reset period changes how windows that exist are read, and --inactive stops
    thresholds. Then the command says what will change and asks.
    """
    from meterfold_service.metrics.changes import DECIDING

    changes = given(
        name=name,
        unit=unit,
        description=description,
        aggregation_type=aggregation,
        reset_period=reset_period,
        precision=precision,
        category=category,
        display_order=display_order,
        metadata=metadata,
        is_active=active,
    )
    run = commands(config)
    if not yes and changes.keys() & set(DECIDING):
        _confirm("changing", key, org, run.preview_update(key, org, **changes))
    show(run.update_metric(key, org, **changes), as_json)


@app.command("delete")
def delete(
    key: KeyArgument,
    org: OrgOption = "",
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a metric's definition. Its usage stays, without totals; its thresholds are no longer judged.

    Where usage or thresholds exist, the command says what will change and asks.
    """
    run = commands(config)
    if not yes:
        _confirm("deleting", key, org, run.preview_delete(key, org))
    run.delete_metric(key, org)
    if as_json:
        console.emit({"deleted": key, "org_id": org})
    else:
        console.say(f"metric {key} is deleted; its usage stays")


@app.command("get")
def get(
    key: KeyArgument,
    org: Annotated[str, typer.Option("--org", help="As this organization sees it.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one metric. An organization's own definition hides the one for every organization."""
    from meterfold_service.listing import get_metric

    row = get_metric(Installation.read(config).clickhouse(), key, org)
    if as_json:
        console.emit(row)
        return
    console.table(("field", "value"), [(name, value) for name, value in row.items() if value is not None])


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only of this organization.")] = None,
    category: Annotated[str | None, typer.Option(help="Only of this category.")] = None,
    active: ActiveOption = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List metrics."""
    from meterfold_service.listing import list_metrics

    settings = Installation.read(config).clickhouse()
    page = list_metrics(settings, org_id=org, category=category, is_active=active, limit=limit, offset=offset)
    if as_json:
        console.emit(page)
        return
    names = ("key", "org_id", "name", "unit", "aggregation_type", "reset_period", "category", "is_active")
    headers = ("key", "org", "name", "unit", "aggregation", "reset", "category", "active")
    console.table(headers, [[row[name] for name in names] for row in page.rows])
    console.note(f"{len(page.rows)} of {page.total}")
    for metric in page.undefined:
        console.note(f"note: {undefined.sentence(metric)}", style="yellow")


def given(**fields: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def commands(config: Any) -> DefinitionCommands:
    from meterfold_cli.logs import configure
    from meterfold_service.definitions import DefinitionCommands

    configure()
    installation = Installation.read(config)
    return DefinitionCommands(installation.kafka(), installation.clickhouse())


def _confirm(doing: str, key: str, org: str, change: MetricChange | None) -> None:
    from meterfold_service.metrics.words import effects, where

    if change is not None and change.changes_anything:
        confirm(f"{doing} the metric {key} of {where(org)}", effects(change))


def show(metric: MetricDefinition, as_json: bool) -> None:
    if as_json:
        console.emit(metric)
        return
    where = f" of organization {metric.org_id}" if metric.org_id else ""
    console.say(
        f"metric {metric.key}{where}: {metric.name}, {metric.aggregation_type} of {metric.unit}, "
        f"reset {metric.reset_period} (version {metric.version})"
    )
