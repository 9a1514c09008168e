"""`usage.recorded` as JSON, for producers without Avro: one event at a time, as UsageRecorded.from_bytes reads it.

A value that begins with `{` is JSON in UTF-8: the fields of an event, or a CloudEvent in structured mode with the
fields in `data`. The fold reads whole batches of them by the same rules (a test compares both).

- `quantity`: a number or decimal text, read as it is written; it never passes through a float.
- `timestamp`: ISO 8601 with an offset or Z. Digits beyond microseconds are cut off.
- `metadata`: an object, kept as it is written, or the text of one.
- `org_id` may be left out. Null is the same as left out. An unknown or repeated field is an error.
- A CloudEvent has the type usage.recorded; its id, time and source are taken where `data` has no id, timestamp, source.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any, Final

from meterfold_schemas.errors import Poison, shown
from meterfold_schemas.topics import USAGE_RECORDED
from meterfold_schemas.usage_fields import FIELDS

__all__ = ["ENVELOPE", "OPENING", "fields_of", "moment_of", "readable_fields"]

#: The first byte of a JSON value.
OPENING: Final = b"{"
#: An attribute of a CloudEvent -> the field that it gives where `data` does not have it.
ENVELOPE: Final = {"id": "id", "time": "timestamp", "source": "source"}

_SPACE = re.compile(r"[ \t\r\n]*")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:(\.\d{1,6})\d*)?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_DECODER: Final = json.JSONDecoder()
_RULES: Final = {field.name: field for field in FIELDS}


def fields_of(data: bytes) -> dict[str, Any]:
    """The fields of an event, as UsageRecorded takes them. Raises Poison("undecodable") for what is no event."""
    try:
        text = data.decode()
        whole = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_finite)
        if "\\u" in text:  # half of a surrogate pair is no text
            json.dumps(whole, ensure_ascii=False).encode()
        members = _members(text)
    except (ValueError, RecursionError) as error:
        raise Poison("undecodable", f"the value is not one JSON object in UTF-8: {error}") from None
    envelope: dict[str, str] = {}
    if any(name == "specversion" for name, _ in members):
        envelope, members = _of_cloud_event(members)
    given = _once(members)
    for name in given:
        if name not in _RULES:
            raise Poison("undecodable", f"the field {shown(name)} is unknown")
    given = {**envelope, **{name: raw for name, raw in given.items() if raw != "null"}}
    values = {name: _value(name, raw) for name, raw in given.items()}
    for field in FIELDS:
        if not field.optional and field.name != "org_id" and field.name not in values:
            raise Poison("undecodable", f"{field.name} is missing")
    return values


def readable_fields(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """What can be read of an event that `fields_of` may refuse: the fields, and of every other member what is wrong.

    It shows and corrects rejected events; it never decides about one. Raises Poison("undecodable") for what is not one
    JSON object in UTF-8.
    """
    try:
        text = data.decode()
        whole = json.loads(text)
        if not isinstance(whole, dict):
            raise ValueError(f"it is {shown(whole)}")
        members = _members(text.strip())
    except (ValueError, RecursionError) as error:
        raise Poison("undecodable", f"the value is not one JSON object in UTF-8: {error}") from None
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    envelope = dict(members)
    if "specversion" in envelope and envelope.get("data", "").startswith("{"):
        members = [(ENVELOPE[name], raw) for name, raw in members if name in ENVELOPE]
        members = list({**dict(members), **dict(_members(envelope["data"]))}.items())
    for name, raw in members:
        if name not in _RULES:
            problems[name] = "unknown field"
        elif raw != "null":
            try:
                values[name] = _value(name, raw)
            except Poison as problem:
                problems[name] = problem.detail
    return values, problems


def _of_cloud_event(members: list[tuple[str, str]]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The fields that the attributes give, and the members of `data`."""
    known = {"specversion", "type", "data", *ENVELOPE}
    attributes = _once([(name, raw) for name, raw in members if name in known])
    for name, expected in (("specversion", "1.0"), ("type", USAGE_RECORDED)):
        raw = attributes.get(name, "null")
        if not raw.startswith('"') or json.loads(raw) != expected:
            raise Poison("undecodable", f"the CloudEvent has the {name} {raw[:80]} instead of {expected}")
    data = attributes.get("data", "")
    if not data.startswith("{"):
        raise Poison("undecodable", "the CloudEvent has no JSON object as data")
    envelope = {field: attributes[name] for name, field in ENVELOPE.items() if attributes.get(name, "null") != "null"}
    return envelope, _members(data)


def _once(members: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(members)
    if len(found) != len(members):
        names = [name for name, _ in members]
        raise Poison("undecodable", f"the field {shown(next(n for n in names if names.count(n) > 1))} is there twice")
    return found


def _members(text: str) -> list[tuple[str, str]]:
    """(name, text of the value as it is written) of each member of a valid JSON object."""
    members = []
    at = _after_space(text, 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        begin = _after_space(text, _after_space(text, at) + 1)
        _, end = _DECODER.raw_decode(text, begin)
        members.append((name, text[begin:end]))
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return members


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _value(name: str, raw: str) -> Any:
    is_text = raw.startswith('"')
    text = json.loads(raw) if is_text else raw
    match _RULES[name].rule:
        case "metadata":
            return text
        case "quantity" if raw[0] in '"-0123456789':
            return text
        case "quantity":
            raise Poison("undecodable", f"quantity {raw[:80]} must be a number or decimal text")
        case "timestamp":
            return _moment(raw, text if is_text else "")
    if not is_text:
        raise Poison("undecodable", f"{name} must be text, not {raw[:80]}")
    return text


def moment_of(text: str) -> datetime | None:
    """The time in ISO 8601 with an offset or Z; None for any other text."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    day, time, fraction, offset = found.groups()
    offset = "+00:00" if offset in "Zz" else offset
    try:
        return datetime.fromisoformat(f"{day}T{time}{(fraction or '.0').ljust(7, '0')}{offset}")
    except ValueError:
        return None


def _moment(raw: str, text: str) -> datetime:
    found = moment_of(text)
    if found is None:
        raise Poison("undecodable", f"timestamp {raw[:80]} is not a time in ISO 8601 with an offset")
    return found


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{shown(number)} is out of range for a JSON number")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
