"""`meterfold migrate`: tables, views, topics and the stored settings."""

from __future__ import annotations

from typing import Annotated

import typer

from meterfold_cli import console
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

_DAY = 86_400


def migrate(
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Partitions of usage.recorded; fixed afterwards. [default: 6]")
    ] = None,
    replication: Annotated[int, typer.Option(min=1, help="Replication factor of new topics.")] = 1,
    horizon_days: Annotated[
        float | None, typer.Option(min=0.001, help="Maximum age of an event when it arrives. [default: 35]")
    ] = None,
    future_tolerance_seconds: Annotated[
        int | None, typer.Option(min=0, help="Allowed clock skew of an event into the future. [default: 300]")
    ] = None,
    slack_seconds: Annotated[
        int | None, typer.Option(min=0, help="How far a broker's clock may step back. [default: 86400]")
    ] = None,
    grace_seconds: Annotated[
        int | None, typer.Option(min=0, help="Delay before an ended window becomes final. [default: 3600]")
    ] = None,
    record_retention_days: Annotated[
        float | None, typer.Option(min=0.001, help="Retention of usage_records. [default: 100]")
    ] = None,
    source_retention_days: Annotated[
        float | None, typer.Option(min=0.001, help="Retention of usage.recorded. [default: 14]")
    ] = None,
    unknown_schema_hold_seconds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How long a message with an unknown schema holds its partition before it is rejected; 0: until you "
            "decide with `meterfold schema`. Can be changed at any time. [default: 3600]",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create missing tables, views, topics and stored settings, and check existing ones. Safe to repeat.

    The stored settings decide which events count. They are written once. An option that is not given keeps the stored
    value; a different value is refused.

    Example: meterfold migrate --partitions 12 --replication 3
    """
    from meterfold_cli.logs import configure
    from meterfold_processor.migration import MigrationOptions, migrate_all

    configure(as_json=as_json)
    installation = Installation.read(config)
    wanted = MigrationOptions(
        partition_count=partitions,
        replication=replication,
        horizon_seconds=_seconds(horizon_days),
        future_tolerance_seconds=future_tolerance_seconds,
        slack_seconds=slack_seconds,
        grace_seconds=grace_seconds,
        record_retention_seconds=_seconds(record_retention_days),
        source_retention_seconds=_seconds(source_retention_days),
        unknown_schema_hold_seconds=unknown_schema_hold_seconds,
        schema_registry=bool(installation.schema_registry().url),
    )
    done = migrate_all(installation.kafka(), installation.clickhouse(), wanted)
    if as_json:
        console.emit(done)
    else:
        console.say(f"tables    {_done(done.migrations, 'applied')}")
        console.say(f"topics    {_done(done.topics, 'created')}")
        if done.adjusted:
            console.say(f"topics    compression set to gzip: {', '.join(done.adjusted)}")
        stored = {**console.plain(done.rules), "unknown_schema_hold_seconds": done.unknown_schema_hold_seconds}
        settings = ", ".join(f"{name} {value}" for name, value in stored.items())
        console.say(f"settings  {settings}")


def _seconds(days: float | None) -> int | None:
    return None if days is None else round(days * _DAY)


def _done(names: list[str], what: str) -> str:
    return f"{what} {', '.join(names)}" if names else "up to date"
