"""The texts of `meterfold import`: problems of a file before it is sent, and the result of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meterfold_cli import console
from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.checking import Checked
from meterfold_cli.importing.outcome import Outcome
from meterfold_cli.importing.run import Summary
from meterfold_schemas.plurals import plural
from meterfold_sink.rules import FoldRules

__all__ = ["problems_of", "require_none", "say_checked", "say_dry_run", "say_outcome", "say_summary"]

_SHOWN: Final = 5
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
            console.note(f"{what} {finding.line}: {finding.problem.detail}", "yellow")
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


def say_dry_run(checked: Checked, problems: Sequence[str]) -> None:
    """The result of --dry-run."""
    for problem in problems:
        console.note(problem, "yellow")
    console.say(
        f"{plural(checked.rows, 'row')} checked, nothing sent: {checked.unusable:,} not valid events, "
        f"{checked.repeats:,} exact repetitions, {len(checked.conflicts):,} with the id of another row but different "
        "contents, "
        f"{sum(checked.untimely.values()):,} with a timestamp that would be rejected"
    )


def say_summary(summary: Summary, what: str) -> None:
    """What was sent and refused."""
    rate = f" in {summary.seconds:.1f} s" if summary.seconds >= 0.1 else ""
    console.say(
        f"{plural(summary.read, 'row')} read{rate}: {summary.delivered:,} delivered, {summary.refused:,} refused"
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
        console.note(
            f"interrupted at {what} {summary.last_line:,}. Run the same command again; nothing counts twice", "yellow"
        )
    elif summary.failed:
        console.note(
            f"stopped at {what} {summary.last_line:,}: {plural(summary.failed, 'event')} not delivered "
            f"({summary.first_failure}). Run the same command again when Kafka is available; nothing counts twice",
            "red",
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
