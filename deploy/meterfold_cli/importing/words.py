"""The texts of `meterfold import`: problems of a file before it is sent, and the result of its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from meterfold_cli import console
from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.checking import Checked
from meterfold_cli.importing.outcome import Outcome
from meterfold_cli.importing.preview import Preview
from meterfold_cli.importing.run import Summary
from meterfold_schemas.plurals import plural
from meterfold_schemas.usage_fields import NAMES
from meterfold_sink.rules import FoldRules

__all__ = ["problems_of", "require_none", "say_checked", "say_dry_run", "say_outcome", "say_summary"]

_SHOWN: Final = 5
_REASONS: Final = 20
_COUNTS: Final = 50
_SUBJECTS: Final = 10
_ASK: Final = (
    "`meterfold status --wait` waits for the fold. Importing the file again shows the result and counts nothing twice"
)
_REMEDIES: Final = {
    "in_future": "Check the clock of this machine, and the unit and time zone of the timestamps",
    "too_old": "Remove old rows, or raise the horizon first (docs/operations.md, 'Changing stored settings'; in a new "
    "installation, run `meterfold migrate --horizon-days N` before the first event)",
}


def problems_of(checked: Checked, id_columns: Sequence[str], what: str, rules: FoldRules | None) -> list[str]:
    """Why a part of the file would not be counted; notes name the lines. `what` is "line" or "row", `id_columns` those
    of --id-from."""
    problems = []
    if len(checked.conflicts):
        for line, other in checked.conflicts[:_SHOWN]:
            console.note(f"{what} {line}: same id as {what} {other}, but different contents", "yellow")
        problems.append(_conflicts(len(checked.conflicts), id_columns))
    if checked.untimely and rules is not None:
        for finding in checked.untimely_shown:
            column = f"column {finding.column!r}: " if finding.column not in (None, "timestamp") else ""
            console.note(f"{what} {finding.line}: {column}{finding.problem.detail}", "yellow")
        problems.append(_untimely(checked, rules))
    return problems


def require_none(problems: Sequence[str], name: str) -> None:
    """Raises WrongInput."""
    if problems:
        raise WrongInput(
            f"{name}: nothing was sent. {'. '.join(problems)}. To import the other rows and write these to the rejects "
            "file, use --partial"
        )


def _conflicts(number: int, id_columns: Sequence[str]) -> str:
    cause = (
        f"--id-from {','.join(id_columns)} does not identify a row: add a column that distinguishes them"
        if id_columns
        else "give each event its own id"
    )
    return (
        f"{plural(number, 'row')} share an id with a row that has different contents, and only one row per id counts; "
        f"{cause}"
    )


def _untimely(checked: Checked, rules: FoldRules) -> str:
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in sorted(checked.untimely.items()))
    return (
        f"The fold would reject {plural(sum(checked.untimely.values()), 'row')} because of the timestamp ({reasons}): "
        f"the horizon is {_span(rules.horizon_seconds)}, the future tolerance {_span(rules.future_tolerance_seconds)}. "
        f"{'. '.join(_REMEDIES[reason] for reason in sorted(checked.untimely))}"
    )


def say_checked(checked: Checked, what: str) -> None:
    """Notes that do not stop the import."""
    if checked.repeats:
        console.note(f"{plural(checked.repeats, 'exact repetition')} of earlier rows; each event counts once")
    if checked.spaced:
        console.note(
            f"spaces around org_id, subject_type or subject_id: {plural(checked.spaced, 'row')}, the first is {what} "
            f"{checked.first_spaced}. They are part of the value unless you use --strip",
            "yellow",
        )


def say_dry_run(checked: Checked, preview: Preview, problems: Sequence[str], what: str) -> None:
    """The result of --dry-run."""
    for event in preview.first:
        fields = (f"{name}={_cell(event[name])}" for name in NAMES if name in event)
        console.say(f"{what} {event['line']}: {'  '.join(fields)}")
    if preview.metrics:
        _say_counts(preview)
    for reason in sorted(preview.reasons.values(), key=lambda found: -found.rows)[:_REASONS]:
        console.note(
            f"{plural(reason.rows, 'row')} refused, the first is {what} {reason.line}: {reason.example}", "yellow"
        )
    if len(preview.reasons) > _REASONS:
        console.note(f"and {plural(len(preview.reasons) - _REASONS, 'other reason')}", "yellow")
    for problem in problems:
        console.note(problem, "yellow")
    left_out = f", {checked.left_out:,} left out by the mapping" if checked.left_out else ""
    rounded = f", {plural(checked.rounded, 'quantity', 'quantities')} rounded to 9 decimals" if checked.rounded else ""
    console.say(
        f"{plural(checked.rows, 'row')} checked, nothing sent: {checked.unusable:,} not valid events, "
        f"{checked.repeats:,} exact repetitions, {len(checked.conflicts):,} with the id of another row but different "
        "contents, "
        f"{sum(checked.untimely.values()):,} with a timestamp that would be rejected{left_out}{rounded}"
    )


def _say_counts(preview: Preview) -> None:
    metrics = sorted(preview.metrics.items(), key=lambda item: (-item[1].events, item[0]))
    console.table(
        ("metric", "events", "sum of quantities"),
        [(key, count.events, count.quantity) for key, count in metrics[:_COUNTS]],
    )
    if len(metrics) > _COUNTS:
        console.note(f"and {plural(len(metrics) - _COUNTS, 'other metric')}")
    subjects = sorted(preview.subjects.items(), key=lambda item: (-item[1], item[0]))
    console.table(("subject", "events"), [(f"{kind}:{who}", count) for (kind, who), count in subjects[:_SUBJECTS]])
    if len(subjects) > _SUBJECTS:
        console.note(f"and {plural(len(subjects) - _SUBJECTS, 'other subject')}")
    if preview.overflow:
        console.note("there are more metrics, subjects or reasons than these counts include")


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(console.plain(value), ensure_ascii=False, default=str)
    return str(console.plain(value))


def say_summary(summary: Summary, what: str) -> None:
    """What was sent and refused."""
    rate = f" in {summary.seconds:.1f} s" if summary.seconds >= 0.1 else ""
    left_out = f", {summary.left_out:,} left out by the mapping" if summary.left_out else ""
    skipped = f", {summary.skipped:,} delivered before" if summary.skipped else ""
    console.say(
        f"{plural(summary.read, 'row')} read{rate}: {summary.delivered:,} delivered, {summary.refused:,} refused"
        f"{left_out}{skipped}"
    )
    for text in summary.first_refusals:
        console.note(text, "yellow")
    if summary.refused:
        more = summary.refused - len(summary.first_refusals)
        console.note(
            f"{f'and {more:,} more. ' if more else ''}Refused rows are in {summary.rejects}. Correct them and import "
            "that file with the same options",
            "yellow",
        )
    if summary.interrupted:
        console.note(f"interrupted at {what} {summary.last_line:,}. {_again(summary, what, '')}", "yellow")
    elif summary.failed or not summary.complete:
        console.note(
            f"stopped at {what} {summary.last_line:,}: {plural(summary.failed, 'event')} not delivered "
            f"({summary.first_failure}). {_again(summary, what, ' when Kafka is available')}",
            "red",
        )


def _again(summary: Summary, what: str, when: str) -> str:
    if not summary.resume:
        return f"Run the same command again{when}; nothing counts twice"
    return (
        f"Run the same command with --resume{when}: it continues after {what} {summary.delivered_through:,}, up to "
        "which everything is delivered. Nothing counts twice"
    )


def say_outcome(outcome: Outcome | str | None, seconds: float | None) -> None:
    """The result of the fold. None: not requested. Text: the error of ClickHouse."""
    if outcome is None:
        return
    if isinstance(outcome, str):
        console.note(f"the result of the fold is unknown: {outcome}. {_ASK}", "red")
        return
    rejected = sum(outcome.rejected.values())
    console.say(f"{outcome.counted:,} counted, {plural(outcome.duplicates, 'duplicate')}, {rejected:,} rejected")
    if rejected:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in outcome.rejected.items())
        console.note(f"the fold rejected {plural(rejected, 'event')} ({reasons}), for example:", "red")
        for text in outcome.rejected_shown:
            console.note(text, "red")
    if outcome.pending:
        partitions = ", ".join(map(str, outcome.waiting))
        console.note(
            f"not folded within {seconds:g} s: {plural(outcome.pending, 'event')} of partition {partitions}; "
            f"`meterfold status` shows the reason. {_ASK}",
            "yellow",
        )
    if outcome.unknown:
        console.note(
            f"delivered, but not found by position: {plural(outcome.unknown, 'event')}; `meterfold verify` checks the "
            "whole installation",
            "yellow",
        )


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return plural(seconds // size, unit)
    return plural(seconds, "second")
