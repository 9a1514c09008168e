"""What the commands about rejected messages show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from meterfold_cli.console import plain, time_text
from meterfold_schemas.plurals import plural

if TYPE_CHECKING:
    from meterfold_schemas.usage import UsageRecorded
    from meterfold_service.rejected.results import RedriveReport, RejectedMessage

__all__ = ["event_fields", "json_message", "lines", "redriven", "report_lines"]


def redriven(message: RejectedMessage) -> str:
    """What became of a message that was sent again; a dash if it was not."""
    redrive = message.redrive
    if redrive is None:
        return "-"
    if redrive.sent is None:
        return "not sent: run the redrive again"
    detail = f" ({redrive.detail})" if redrive.detail else ""
    return f"{redrive.state} at {redrive.sent}{detail}"


def event_fields(event: UsageRecorded) -> dict[str, Any]:
    """The fields that an event has."""
    return {name: value for name, value in plain(event).items() if value is not None}


def json_message(message: RejectedMessage, *, raw: bool) -> dict[str, Any]:
    """As --json shows it; `raw`: with the bytes, as hexadecimal digits."""
    redrive = message.redrive
    shown = {
        "partition": message.position.partition,
        "offset": message.position.offset,
        "received_at": message.received_at,
        "reason": message.reason,
        "detail": message.detail,
        "org_id": message.org_id,
        "metric_key": message.metric_key,
        "subject_type": message.subject_type,
        "subject_id": message.subject_id,
        "format": message.event.format,
        "event": message.event.fields,
        "problems": message.event.problems,
        "redrive": None
        if redrive is None
        else {
            "state": redrive.state,
            "at": redrive.at,
            "by": redrive.by,
            "note": redrive.note,
            "partition": None if redrive.sent is None else redrive.sent.partition,
            "offset": None if redrive.sent is None else redrive.sent.offset,
            "detail": redrive.detail,
            "event": event_fields(redrive.event),
        },
    }
    if raw:
        shown |= {"key_hex": message.key.hex(), "value_hex": message.value.hex()}
    return shown


def lines(message: RejectedMessage) -> Iterator[tuple[str, str]]:
    """(name, text) of everything that is known about a message."""
    yield "position", f"partition {message.position.partition}, offset {message.position.offset}"
    yield "arrived", time_text(message.received_at)
    yield "rejected as", message.reason
    yield "because", message.detail
    for name, value in message.event.fields.items():
        yield name, str(plain(value))
    for name, problem in message.event.problems.items():
        yield name, f"! {problem}"
    if message.event.problem:
        yield "fields", f"! cannot be read: {message.event.problem}"
    yield "format", message.event.format or "unknown"
    yield "key", _bytes(message.key)
    yield "value", _bytes(message.value)
    yield "redriven", redriven(message)
    if message.redrive is not None:
        yield "redriven by", f"{message.redrive.by or 'unknown'} at {time_text(message.redrive.at)}"
        if message.redrive.note:
            yield "note", message.redrive.note
        for name, value in event_fields(message.redrive.event).items():
            yield f"sent {name}", str(value)


def report_lines(report: RedriveReport) -> Iterator[str]:
    """What a redrive did, or would do."""
    verb = "would be sent again" if report.dry_run else "sent again"
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(report.states.items()))
    yield f"{plural(report.sent, 'message')} {verb}" + (f": {states}" if states else "")
    if report.already:
        yield f"{plural(report.already, 'message')} sent again before; nothing to do"
    for refusal in report.refused:
        yield f"! {refusal.position} was not sent: {refusal.why}"
    if (more := report.refused_total - len(report.refused)) > 0:
        yield f"! {more:,} more not sent"


def _bytes(raw: bytes) -> str:
    """Text where it is text, and the digits always."""
    if not raw:
        return "empty"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.hex()
    return f"{text}  ({raw.hex()})" if text.isprintable() else raw.hex()
