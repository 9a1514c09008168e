"""`meterfold fold`: one fold worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli.installation import ConfigOption, Installation

if TYPE_CHECKING:
    from meterfold_cli.workers import Snapshot
    from meterfold_processor.fold.status import FoldStatus

VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log more, including messages of librdkafka.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print progress and log as JSON lines.")]


def fold(config: ConfigOption = None, as_json: JsonLinesOption = False, verbose: VerboseOption = False) -> None:
    """Run a fold worker: fold usage.recorded into ClickHouse, exactly once.

    Workers share the partitions, so start at most as many as there are partitions. SIGTERM or Ctrl-C stops the worker
    within 10 seconds (exit code 0). A fatal error is printed on standard error (exit code 1).

    Example: meterfold fold --config /etc/meterfold.toml
    """
    from meterfold_cli.logs import configure
    from meterfold_cli.telemetry import worker_spans
    from meterfold_cli.workers import run_probed
    from meterfold_processor.fold.opening import Opening
    from meterfold_processor.fold.registry import SchemaRegistry
    from meterfold_processor.fold.settings import FoldSettings
    from meterfold_processor.fold.worker import FoldWorker
    from meterfold_processor.probes.backups import BackupWatch
    from meterfold_processor.probes.fold import FoldSubject
    from meterfold_schemas.settings import load_settings

    configure(as_json=as_json, verbose=verbose)
    installation = Installation.read(config)
    kafka = installation.kafka()
    settings = load_settings(FoldSettings, "fold", sources=installation.sources)
    registry = installation.schema_registry()
    opening = Opening(kafka, installation.clickhouse(), SchemaRegistry(registry) if registry.url else None)
    worker = FoldWorker(settings, kafka, opening, spans=worker_spans("fold"))
    subject = FoldSubject(worker.status)
    watch = BackupWatch(worker.status)
    run_probed(
        *("fold", worker, subject, lambda: snapshot(worker.status), installation), as_json=as_json, also=watch.look
    )


def snapshot(status: FoldStatus) -> Snapshot:
    """A fold worker is ready when it has partitions."""
    from meterfold_cli.workers import Snapshot

    partitions = list(status.partitions)
    held = [f"partition {number} is held: unknown schema {name}" for number, name in dict(status.holds).items()]
    since = status.seconds_since_flush()
    flushed = "no flush yet" if since is None else f"last flush {since:.1f} s ago"
    return Snapshot(
        ready=bool(partitions),
        text=(
            f"partitions {', '.join(map(str, partitions)) or 'none'}; {status.counted:,} counted, "
            f"{status.duplicates:,} duplicates, {status.rejected:,} rejected; {flushed}"
        ),
        values={
            "partitions": partitions,
            "consumed": status.consumed,
            "counted": status.counted,
            "duplicates": status.duplicates,
            "rejected": status.rejected,
            "flushes": status.flushes,
            "step_seconds": {name: round(seconds, 3) for name, seconds in dict(status.step_seconds).items()},
        },
        troubles=[*dict(status.errors).values(), *held],
    )
