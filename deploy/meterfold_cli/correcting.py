"""Corrections of rejected messages as people give them: options, or a file with one line of JSON per message."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from meterfold_cli.exits import WrongInput
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.usage_fields import NAMES
from meterfold_service.rejected.corrections import AS_RECEIVED, Correction
from meterfold_service.rejected.results import Position

__all__ = ["correction_of", "corrections_in", "line_of", "position_of"]

_POSITION: Final = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_SHIFT: Final = re.compile(r"([+-]?)(\d{1,9})(s|m|h|d)", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LINE: Final = frozenset({"partition", "offset", "event"})
_SHOWN_ONLY: Final = frozenset({"reason", "detail", "received_at", "problems"})
"""What `rejected list --write` adds for the reader of its file."""


def position_of(text: str) -> Position:
    """PARTITION:OFFSET. Raises WrongInput."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise WrongInput(f"{text!r} must be a partition and an offset, such as 3:1042")
    return Position(int(found[1]), int(found[2]))


def correction_of(sets: Sequence[str], drops: Sequence[str], shift: str | None) -> Correction:
    """The options --set, --drop and --shift. Raises WrongInput."""
    fields: dict[str, Any] = {}
    for text in sets:
        name, separator, value = text.partition("=")
        if not separator:
            raise WrongInput(f"--set {text!r} must be FIELD=VALUE, such as --set org_id=acme")
        if name in fields:
            raise WrongInput(f"--set gives {name} twice")
        fields[name] = _value(f"--set {text!r}", name, value)
    try:
        return Correction(fields, frozenset(drops), timedelta(0) if shift is None else _shift(shift))
    except InvalidUsage as error:
        raise WrongInput(str(error)) from None


def corrections_in(path: Path, common: Correction) -> dict[Position, Correction]:
    """The corrections of a file, each on top of `common`. Raises WrongInput with the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(f"--file {path} cannot be read: {error}") from None
    found: dict[Position, Correction] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        position, fields = _line(where, line)
        if position in found:
            raise WrongInput(f"{where}: the message {position} is in the file twice")
        try:
            found[position] = common.with_fields(fields)
        except InvalidUsage as error:
            raise WrongInput(f"{where}: {error}") from None
    if not found:
        raise WrongInput(f"--file {path} has no corrections")
    return found


def _line(where: str, text: str) -> tuple[Position, dict[str, Any]]:
    try:
        # A number stays as it is written: a quantity never passes through a float.
        line = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{where}: not JSON: {error}") from None
    if not isinstance(line, dict) or not line.keys() - _SHOWN_ONLY <= _LINE or not line.keys() >= _LINE:
        raise WrongInput(f'{where}: must be an object such as {{"partition": 3, "offset": 1042, "event": {{...}}}}')
    event = line["event"]
    if not isinstance(event, dict):
        raise WrongInput(f"{where}: event must be an object with fields of an event")
    raw_metadata = event.get("metadata")
    if isinstance(raw_metadata, dict):
        event["metadata"] = json.dumps(json.loads(text)["event"]["metadata"], ensure_ascii=False)
    fields = {
        name: None if value is None else _value(where, name, value if isinstance(value, str) else json.dumps(value))
        for name, value in event.items()
    }
    return position_of(f"{line['partition']}:{line['offset']}"), fields


def _value(where: str, name: str, text: str) -> Any:
    if name not in NAMES:
        raise WrongInput(f"{where}: an event has no field {name!r}; it has {', '.join(NAMES)}")
    if name != "timestamp" or text == AS_RECEIVED:
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise WrongInput(
            f"{where}: timestamp {text!r} must be a time with an offset, such as 2026-11-22T10:00:00Z, or {AS_RECEIVED}"
        )
    return moment.astimezone(UTC)


def _shift(text: str) -> timedelta:
    found = _SHIFT.fullmatch(text)
    if found is None:
        raise WrongInput(f"--shift {text!r} must be a duration with s, m, h or d, such as -2h or 90m")
    sign, number, unit = found.groups()
    duration = timedelta(**{_UNITS[unit]: int(number)})
    return -duration if sign == "-" else duration


def line_of(position: Position, fields: Mapping[str, Any], **shown: Any) -> dict[str, Any]:
    """What `corrections_in` reads back."""
    return {"partition": position.partition, "offset": position.offset, **shown, "event": dict(fields)}
