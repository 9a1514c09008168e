"""`meterfold metric define|update|delete|get|list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_cli import console
from meterfold_cli.completing import complete_metric
from meterfold_cli.confirming import YesOption, confirm
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption
from meterfold_schemas.vocabulary import AggregationType, ResetPeriod

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service import Metering
    from meterfold_service.metrics.changes import MetricChange

app = typer.Typer(help="Define metrics.", no_args_is_help=True)

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Key of the metric (a-z, 0-9, '_', '.', '-'), such as api.calls.",
        autocompletion=complete_metric,
    ),
]
NameOption = Annotated[str, typer.Option(help="Display name.")]
UnitOption = Annotated[str, typer.Option(help="Unit of the quantity, such as calls, tokens or bytes.")]
DescriptionOption = Annotated[str | None, typer.Option(help="Description.")]
AggregationOption = Annotated[
    AggregationType | None, typer.Option("--aggregation", help="How the total of a window is computed. [default: sum]")
]
ResetOption = Annotated[
    ResetPeriod | None,
    typer.Option("--reset-period", help="How often the metric starts again from zero. [default: monthly]"),
]
PrecisionOption = Annotated[int | None, typer.Option(min=0, max=9, help="Displayed decimal digits. [default: 2]")]
OrgOption = Annotated[
    str, typer.Option("--org", help="Organization. [default: the global definition, for all organizations]")
]
CategoryOption = Annotated[str | None, typer.Option(help="Category.")]
OrderOption = Annotated[int | None, typer.Option("--display-order", help="Sort order, ascending. [default: 0]")]
DimensionOption = Annotated[
    list[str] | None,
    typer.Option("--dimension", metavar="FIELD", help="Metadata field that usage is grouped by. Repeatable."),
]
MetadataOption = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object.")]
ActiveOption = Annotated[
    bool | None,
    typer.Option("--active/--inactive", help="Active or not; thresholds of an inactive metric are not judged."),
]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="Show at most this many rows.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Skip this many rows.")]


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
    dimension: DimensionOption = None,
    metadata: MetadataOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a metric. Repeating a definition changes nothing; a different definition of the same key is refused.

    With --org, the definition hides the global one for that organization. If that changes totals of
    existing usage, the command shows the effects and asks for confirmation.

    Example: meterfold metric define api.calls --name "API calls" --unit calls
    """
    fields = given(
        description=description,
        aggregation_type=aggregation,
        reset_period=reset_period,
        precision=precision,
        category=category,
        display_order=display_order,
        dimensions=tuple(dimension) if dimension else None,
        metadata=metadata,
    )
    definition = {"key": key, "name": name, "unit": unit, "org_id": org, **fields}
    with metering(config) as service:
        if org and not yes:
            _confirm("defining", key, org, service.metrics.preview_define(**definition))
        metric = service.metrics.define(**definition)
    show(metric, as_json)


@app.command("update")
def update(
    key: KeyArgument,
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the quantity, such as calls, tokens or bytes.")] = None,
    description: DescriptionOption = None,
    aggregation: AggregationOption = None,
    reset_period: ResetOption = None,
    precision: PrecisionOption = None,
    org: OrgOption = "",
    category: CategoryOption = None,
    display_order: OrderOption = None,
    dimension: DimensionOption = None,
    no_dimensions: Annotated[bool, typer.Option("--no-dimensions", help="Remove all dimensions.")] = False,
    metadata: MetadataOption = None,
    active: ActiveOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change fields of a metric. Nothing is counted again: windows keep the state for every aggregation type.

    A new aggregation type, unit or reset period changes how existing windows are read, and --inactive stops the
    thresholds. In these cases the command shows the effects and asks for confirmation.

    Example: meterfold metric update api.calls --aggregation count
    """
    from meterfold_service.metrics.changes import DECIDING

    if dimension and no_dimensions:
        raise WrongInput("--dimension conflicts with --no-dimensions; give one of them")
    changes = given(
        name=name,
        unit=unit,
        description=description,
        aggregation_type=aggregation,
        reset_period=reset_period,
        precision=precision,
        category=category,
        display_order=display_order,
        dimensions=() if no_dimensions else tuple(dimension) if dimension else None,
        metadata=metadata,
        is_active=active,
    )
    with metering(config) as service:
        if not yes and changes.keys() & set(DECIDING):
            _confirm("changing", key, org, service.metrics.preview_update(key, org, **changes))
        metric = service.metrics.update(key, org, **changes)
    show(metric, as_json)


@app.command("delete")
def delete(
    key: KeyArgument,
    org: OrgOption = "",
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the definition of a metric. Its usage is kept but has no totals; its thresholds are not judged any more.

    If usage or thresholds exist, the command shows the effects and asks for confirmation.

    Example: meterfold metric delete api.calls --org acme
    """
    with metering(config) as service:
        if not yes:
            _confirm("deleting", key, org, service.metrics.preview_delete(key, org))
        service.metrics.delete(key, org)
    if as_json:
        console.emit({"deleted": key, "org_id": org})
    else:
        console.say(f"metric {key} is deleted; its usage stays")


@app.command("get")
def get(
    key: KeyArgument,
    org: Annotated[str, typer.Option("--org", help="Show the definition that applies to this organization.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one metric. With --org: the organization's own definition, or else the global one.

    Example: meterfold metric get api.calls --org acme
    """
    with metering(config) as service:
        metric = service.metrics.get(key, org)
    if as_json:
        console.emit(metric)
        return
    console.table(("field", "value"), [(name, value) for name, value in metric if value not in (None, ())])


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only metrics of this organization.")] = None,
    category: Annotated[str | None, typer.Option(help="Only metrics of this category.")] = None,
    active: ActiveOption = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List metrics.

    Example: meterfold metric list --active --json
    """
    from meterfold_service.status import undefined

    with metering(config) as service:
        page = service.metrics.list(org_id=org, category=category, is_active=active, limit=limit, offset=offset)
    if as_json:
        console.emit_list(page)
        return
    names = ("key", "org_id", "name", "unit", "aggregation_type", "reset_period", "dimensions", "category", "is_active")
    headers = ("key", "org", "name", "unit", "aggregation", "reset", "dimensions", "category", "active")
    console.table(headers, [[getattr(metric, name) for name in names] for metric in page.rows])
    console.note(f"{len(page.rows)} of {page.total}")
    for key in page.undefined:
        console.note(f"note: {undefined.sentence(key)}", style="yellow")


def given(**fields: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def metering(config: Path | None) -> Metering:
    """The operations on the installation that a command speaks to."""
    from meterfold_cli.logs import configure
    from meterfold_service import Metering

    configure()
    return Metering(sources=Installation.read(config).sources)


def _confirm(doing: str, key: str, org: str, change: MetricChange | None) -> None:
    from meterfold_cli.wording.metrics import effects, where

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
