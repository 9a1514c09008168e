"""One import from its beginning to its end: check, send, wait for the fold, and say what happened."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import typer

from meterfold import Meter
from meterfold_cli import console, exits
from meterfold_cli.importing import resume
from meterfold_cli.importing.checking import Checked, TimeLimits, check
from meterfold_cli.importing.deliveries import Deliveries
from meterfold_cli.importing.outcome import Outcome, wait_for_fold
from meterfold_cli.importing.preflight import require_kafka
from meterfold_cli.importing.preview import Preview
from meterfold_cli.importing.run import Import, Summary
from meterfold_cli.importing.source import Source
from meterfold_cli.importing.words import (
    problems_of,
    require_none,
    say_checked,
    say_dry_run,
    say_outcome,
    say_summary,
)
from meterfold_cli.installation import Installation
from meterfold_cli.logs import quiet
from meterfold_schemas.errors import InvalidSettings, Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import connect
from meterfold_sink.fold_state import read_rules
from meterfold_sink.rules import FoldRules

__all__ = ["Session", "topic_name"]

#: An import waits in the SDK at most this long before it looks whether anything is delivered at all.
_BUFFER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Session:
    """`wait_seconds` None: do not wait for the fold. `rejects` None: the default name. `continued`: from where it
    broke off."""

    source: Source
    installation: Installation
    rejects: Path | None = None
    wait_seconds: float | None = None
    kafka_only: bool = False
    partial: bool = False
    continued: bool = False
    as_json: bool = False

    def run(self) -> None:
        """Exits with the code of docs/cli.md unless all went well. Raises errors of our tree."""
        quiet()
        source = self.source
        rows, plan = source.open()  # a wrong file is named before anything else is
        refused = source.rejects(rows, self.rejects)
        topic_id = require_kafka(self.installation.kafka())
        position = self._position(topic_id)
        rules = None if self.kafka_only else _stored_rules(self.installation.clickhouse())
        limits = None if rules is None else _limits(rules)
        through = 0 if position is None else position.line
        with console.progress(f"checking {source.name}") as tell:
            checked = check(rows, plan, self._default_org(), limits, tell, delivered_through=through)
        say_checked(checked, rows.what)
        problems = problems_of(checked, plan.id_columns, rows.what, rules)
        if not self.partial:
            require_none(problems, source.name)
        rows, plan = source.open()
        since = time.time_ns() // 1000 - (rules.slack_seconds if rules else 0) * 1_000_000
        deliveries = Deliveries()
        meter = Meter(
            config=self.installation.sources.path, on_delivery=deliveries.report, buffer_timeout=_BUFFER_SECONDS
        )
        saver = None if position is None else _Saver(source.path(), position)
        with console.progress(f"importing {source.name}") as tell:
            summary = Import(
                rows,
                plan,
                meter,
                refused,
                tell,
                limits=limits,
                conflicts=checked.conflicts,
                skip_through=through,
                checkpoint=saver,
            ).run()
        if saver is not None:
            summary = saver.ended(summary)
        self._report(summary, checked, rows.what, deliveries, since)

    def dry_run(self) -> NoReturn:
        """Reads and checks the file. Needs no server; without the stored settings no timestamps are checked."""
        rows, plan = self.source.open()
        self.source.rejects(rows, self.rejects)
        rules, unchecked = None, ""
        if not self.kafka_only:
            try:
                rules = _read_rules(self.installation.clickhouse())
            except (Retryable, InvalidSettings) as error:
                unchecked = str(error)
        preview = Preview()
        with console.progress(f"checking {self.source.name}") as tell:
            limits = None if rules is None else _limits(rules)
            checked = check(rows, plan, self._default_org(), limits, tell, observer=preview)
        say_checked(checked, rows.what)
        problems = problems_of(checked, plan.id_columns, rows.what, rules)
        if unchecked:
            console.note(f"timestamps were not compared with the stored horizon: {unchecked}", "yellow")
        if self.as_json:
            console.emit({**asdict(checked), "conflicts": len(checked.conflicts), **_preview_json(preview)})
        else:
            say_dry_run(checked, preview, problems, rows.what)
        clean = not (checked.unusable or len(checked.conflicts) or checked.untimely)
        raise typer.Exit(exits.OK if clean else exits.FAILED)

    def _position(self, topic_id: str) -> resume.Position | None:
        """Where to begin; None for what can't be resumed."""
        source = self.source
        if not source.resumable or source.mapping is None:
            if self.continued:
                raise exits.WrongInput("--resume needs a file; standard input cannot be read again")
            return None
        topic = topic_name(self.installation.kafka(), topic_id)
        begin = resume.fingerprint(source.path(), source.mapping, self._default_org(), topic)
        return resume.load(source.path(), begin) if self.continued else begin

    def _report(self, summary: Summary, checked: Checked, what: str, deliveries: Deliveries, since: int) -> None:
        outcome = None
        if self.wait_seconds is not None and summary.delivered and summary.complete:
            outcome = _outcome(self.installation.clickhouse(), deliveries, since, self.wait_seconds)
        if self.as_json:
            console.emit({**asdict(summary), "repeats": checked.repeats, **_outcome_json(outcome)})
        else:
            say_summary(summary, what)
            say_outcome(outcome, self.wait_seconds)
        _end(summary, outcome)

    def _default_org(self) -> str:
        from meterfold.settings import SdkSettings
        from meterfold_schemas.settings import load_settings

        return load_settings(SdkSettings, "sdk", sources=self.installation.sources).org_id


class _Saver:
    """Saves the position; a folder that cannot be written is one note and no error."""

    def __init__(self, file: Path, position: resume.Position) -> None:
        self._file = file
        self._position = position
        self._saved = position.line > 0

    def __call__(self, line: int) -> None:
        try:
            resume.save(self._file, self._position.at(line))
            self._saved = True
        except OSError as error:
            if self._saved or line:
                console.note(
                    f"the position cannot be saved in {resume.path_of(self._file)}: {error.strerror}", "yellow"
                )
            self._saved = False

    def ended(self, summary: Summary) -> Summary:
        """Forget the position after a complete import."""
        if summary.complete and not summary.failed:
            resume.forget(self._file)
            return summary
        return replace(summary, resume=self._saved)


def topic_name(settings: KafkaSettings, topic_id: str) -> str:
    """What a position calls the topic. The id tells apart topics of the same name, such as that of a stack that was
    made again: what the first one had delivered, the second one has not."""
    return f"{Topics(settings.topic_prefix).usage_recorded} ({topic_id}) at {settings.bootstrap_servers}"


def _read_rules(settings: ClickHouseSettings) -> FoldRules:
    with connect(settings, timeout_seconds=10) as client:
        return read_rules(client)


def _stored_rules(settings: ClickHouseSettings) -> FoldRules:
    try:
        return _read_rules(settings)
    except Retryable as error:
        raise Retryable(
            f"{error}. Nothing was sent, because the settings stored in ClickHouse decide which timestamps are "
            "accepted. Import again when ClickHouse answers, or use --kafka-only"
        ) from None


def _limits(rules: FoldRules) -> TimeLimits:
    return TimeLimits(rules.horizon_seconds, rules.future_tolerance_seconds)


def _outcome(settings: ClickHouseSettings, deliveries: Deliveries, since: int, seconds: float) -> Outcome | str:
    """The error as text if ClickHouse no longer answers; the events are delivered nevertheless."""
    try:
        with connect(settings) as client, console.progress("folding") as tell:
            return wait_for_fold(client, deliveries, since, seconds, tell)
    except Retryable as error:
        return str(error)


def _outcome_json(outcome: Outcome | str | None) -> dict[str, Any]:
    known = asdict(outcome) if outcome is not None and not isinstance(outcome, str) else {}
    return {
        name: known.get(name) for name in ("counted", "duplicates", "rejected", "pending", "unknown", "rejected_shown")
    }


def _preview_json(preview: Preview) -> dict[str, Any]:
    return {
        "first": preview.first,
        "metrics": {
            key: {"events": count.events, "quantity": count.quantity} for key, count in preview.metrics.items()
        },
        "subjects": [
            {"subject_type": kind, "subject_id": who, "events": count}
            for (kind, who), count in preview.subjects.items()
        ],
        "reasons": [asdict(reason) for reason in preview.reasons.values()],
        "counts_overflow": preview.overflow,
    }


def _end(summary: Summary, outcome: Outcome | str | None) -> None:
    if summary.interrupted:
        raise typer.Exit(exits.INTERRUPTED)
    if summary.failed or not summary.complete:
        raise typer.Exit(exits.UNAVAILABLE)
    if summary.refused or (outcome is not None and not isinstance(outcome, str) and outcome.rejected):
        raise typer.Exit(exits.FAILED)
    if isinstance(outcome, str) or (outcome is not None and (outcome.pending or outcome.unknown)):
        raise typer.Exit(exits.UNAVAILABLE)
