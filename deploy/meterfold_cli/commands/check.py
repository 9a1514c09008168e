"""`meterfold check`: one checker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_cli.commands.fold import JsonLinesOption, VerboseOption
from meterfold_cli.installation import ConfigOption, Installation
from meterfold_schemas.plurals import plural

if TYPE_CHECKING:
    from meterfold_cli.workers import Snapshot
    from meterfold_processor.checker.status import CheckerStatus


def check(config: ConfigOption = None, as_json: JsonLinesOption = False, verbose: VerboseOption = False) -> None:
    """Run a checker: compare windows with thresholds, and publish threshold events and aggregates.

    It also copies definitions and threshold events to ClickHouse. Checkers that run at the same time need one slot each
    (METERFOLD_CHECKER_SLOT); a second one with the same slot exits with code 1, and the first one continues. SIGTERM or
    Ctrl-C stops the checker within 10 seconds (exit code 0). A fatal error is printed on standard error (exit code 1).

    Example: meterfold check --config /etc/meterfold.toml
    """
    from meterfold_cli.logs import configure
    from meterfold_cli.telemetry import worker_spans
    from meterfold_cli.workers import run_probed
    from meterfold_processor.checker.settings import CheckerSettings
    from meterfold_processor.checker.slots import SlotTaken
    from meterfold_processor.checker.worker import CheckerWorker
    from meterfold_processor.probes.checker import CheckerSubject
    from meterfold_schemas.settings import load_settings

    configure(as_json=as_json, verbose=verbose)
    installation = Installation.read(config)
    settings = load_settings(CheckerSettings, "checker", sources=installation.sources)
    spans = worker_spans("check")
    worker = CheckerWorker(settings, installation.kafka(), installation.clickhouse(), spans=spans)
    subject = CheckerSubject(worker.status)
    try:
        run_probed("check", worker, subject, lambda: snapshot(worker.status), installation, as_json=as_json)
    except SlotTaken as taken:
        raise SlotTaken(taken.holder, _of_local_stack(installation, taken.holder.pid)) from None


def _of_local_stack(installation: Installation, pid: int) -> str:
    """Where `meterfold up` runs the process, for an error message; "" where it does not."""
    if installation.sources.path is None:
        return ""
    try:
        from meterfold_local.stack_state import running_stack
    except ModuleNotFoundError:  # without the extra there is no local stack
        return ""
    folder = installation.sources.path.parent.absolute()
    state = running_stack(folder)
    if state is None or all(process.pid != pid for process in state.processes):
        return ""
    return f", run by `meterfold up` in {folder}"


def snapshot(status: CheckerStatus) -> Snapshot:
    """A checker is ready when it judges partitions."""
    from meterfold_cli.workers import Snapshot

    partitions = list(status.partitions)
    emitted = dict(status.emitted)
    since = status.seconds_since_step()
    stepped = "no step yet" if since is None else f"last step {since:.1f} s ago"
    damaged = [f"{plural(status.damaged, 'message')} of usage.windows could not be read"] if status.damaged else []
    return Snapshot(
        ready=bool(partitions),
        text=(
            f"partitions {', '.join(map(str, partitions)) or 'none'}; {status.consumed:,} windows, "
            f"{sum(emitted.values()):,} messages emitted; {stepped}"
        ),
        values={
            "partitions": partitions,
            "consumed": status.consumed,
            "emitted": emitted,
            "mirrored": dict(status.mirrored),
            "transactions": status.transactions,
            "aborts": status.aborts,
            "waiting": status.waiting,
        },
        troubles=[*dict(status.errors).values(), *damaged],
    )
