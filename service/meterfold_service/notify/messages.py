"""The text of an event for people: subject, lines and table of a mail, title and body of a chat message. Pure.

Made from the stored payload, so a retry says the same as the first try.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["Message", "message_of"]


@dataclass(frozen=True, slots=True)
class Message:
    """`thread` is the same for messages about one matter."""

    subject: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    thread: str

    @property
    def text(self) -> str:
        width = max((len(name) for name, _ in self.facts), default=0)
        lines = [f"{name + ':':<{width + 1}} {value}" for name, value in self.facts]
        return "\n".join([self.summary, "", *lines, ""])

    @property
    def html(self) -> str:
        rows = "".join(
            f'<tr><th align="left">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in self.facts
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"></head><body>'
            f"<p>{escape(self.summary)}</p><table>{rows}</table></body></html>\n"
        )


def message_of(payload: str) -> Message:
    """The message of a stored payload."""
    event = json.loads(payload)
    data = {name: _printable(value) for name, value in event["data"].items()}
    if event["type"] == "endpoint.changed":
        return _endpoint(data, event)
    if event["type"] == "notify.test":
        summary = "This is a test of Meterfold's notifications. Nothing has to be done."
        return Message("[Meterfold] Test", summary, (("Sent", event["timestamp"]),), data["event_id"])
    return _alert(data, event)


def _alert(data: dict[str, str], event: dict[str, Any]) -> Message:
    subject = f"{data['subject_type']} {data['subject_id']}"
    used = _percent(data["percentage_used"])
    match event["type"]:
        case "threshold.exceeded":
            title = f"{subject} has exceeded the limit on {data['metric_key']} ({used})"
        case "threshold.approaching":
            title = f"{subject} approaches the limit on {data['metric_key']} ({used})"
        case _:
            title = f"{subject} is below the {data['level']} level on {data['metric_key']} again ({used})"
    facts = [
        ("Metric", data["metric_key"]),
        ("Subject", subject),
        ("Organization", data["org_id"]),
        ("Period", _period(event["data"])),
        ("Usage", data["actual_value"]),
        ("Warning at", data["warn_threshold"]),
        ("Limit", data["threshold"]),
        ("Used", used),
        ("Action", data["action"]),
        ("Time", data_time(event)),
        ("Alert", data["alert_id"]),
    ]
    return Message(
        f"[Meterfold] {title}", f"{title}.", tuple((name, value) for name, value in facts if value), data["alert_id"]
    )


def _endpoint(data: dict[str, str], event: dict[str, Any]) -> Message:
    verb = {"failing": "is failing", "disabled": "is disabled", "active": "is active again"}[data["state"]]
    title = f"Webhook endpoint {data['endpoint']} {verb}"
    advice = {
        "failing": "Deliveries to it are retried.",
        "disabled": "Nothing is sent to it until you run `meterfold notify enable URL`; then `meterfold notify "
        "redeliver` sends what it has missed.",
        "active": "Deliveries go to it as usual.",
    }[data["state"]]
    facts = (
        ("Endpoint", data["endpoint"]),
        ("State", data["state"]),
        ("Since", data["since"]),
        ("Failed tries", data["failures"]),
        ("Last result", data["reason"]),
        ("Time", data_time(event)),
    )
    return Message(f"[Meterfold] {title}", f"{title}. {advice}", facts, data["endpoint"])


def data_time(event: dict[str, Any]) -> str:
    return str(event["timestamp"])


def _period(data: dict[str, Any]) -> str:
    if data["period_end"] is None:
        return "lifetime"
    return f"{data['period_type']}, {_day(data['period_start'])} to {_day(data['period_end'])} (UTC)"


def _day(time: str) -> str:
    return time.removesuffix("Z").removesuffix(".000000").removesuffix("T00:00:00")


def _percent(text: str) -> str:
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits[:1]} %" if digits[:1].strip("0") else f"{whole} %"


def _printable(value: object) -> str:
    """Names that users chose go into header fields and lines: no control characters."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
