"""The rules a usage event keeps, one function each. All raise InvalidUsage with the field and the offending value.

Hand-written rather than a pydantic model: an application pays for them with every event it records.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, NoReturn

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.periods import from_micros, span_text

__all__ = [
    "ESCAPED_NUL",
    "MAX_METADATA_BYTES",
    "MAX_TEXT_BYTES",
    "METRIC_KEY",
    "METRIC_KEY_TEXT",
    "AgeProblem",
    "age_problem",
    "metadata_text",
    "metric_key_bytes",
    "text_bytes",
]

MAX_TEXT_BYTES: Final = 512
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 100

#: A metric key as a whole, as a pattern that Python and Rust read alike.
METRIC_KEY: Final = r"[a-z0-9_.-]{1,200}"
METRIC_KEY_TEXT: Final = "1 to 200 characters of a-z, 0-9, '_', '.' and '-'"
#: An escaped NUL in JSON: an even number of backslashes precedes its own. JSON has no raw one.
ESCAPED_NUL: Final = r"[^\\](\\\\)*\\u0000"

_METRIC_KEY = re.compile(METRIC_KEY, re.ASCII)
_ESCAPED_NUL = re.compile(ESCAPED_NUL)
# Past 10^308 many JSON readers fail, the fold's among them.
_HUGE_INTEGER = re.compile(r"\d{309}")
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class AgeProblem(NamedTuple):
    """Why the fold rejects an event by its time. `reason` is the RejectReason; the text of the whole is `str()`."""

    reason: Literal["too_old", "in_future"]
    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.detail}. {self.remedy}"


def age_problem(timestamp: int, arrival: int, horizon: int | None, future_tolerance: int | None) -> AgeProblem | None:
    """What is wrong with an event's time when it arrives at `arrival`; None if it counts. All in UTC microseconds.

    An event counts from `arrival - horizon` to `arrival + future_tolerance`, both included. A limit that is None is
    unknown and not checked. Who does not know the broker's stamp yet gives the present time.
    """
    if horizon is not None and timestamp < arrival - horizon:
        return AgeProblem(
            "too_old",
            f"timestamp {_time_text(timestamp)} is too old: the oldest that counts is {_time_text(arrival - horizon)}, "
            f"{span_text(horizon)} (the horizon) before the event arrives",
            "Leave the event out, or raise the stored horizon_seconds first (docs/operations.md, 'Changing stored "
            "settings')",
        )
    if future_tolerance is not None and timestamp > arrival + future_tolerance:
        return AgeProblem(
            "in_future",
            f"timestamp {_time_text(timestamp)} is in the future: the latest that counts is "
            f"{_time_text(arrival + future_tolerance)}, {span_text(future_tolerance)} (the future tolerance) after "
            "the event arrives",
            "Check the clock that made the timestamp, its time zone and its unit",
        )
    return None


def _time_text(micros: int) -> str:
    try:
        return from_micros(micros).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{micros} (microseconds since 1970)"


def text_bytes(field: str, value: str, *, empty: bool = False) -> bytes:
    """UTF-8 of a text of at most 512 bytes without NUL; not empty unless `empty`."""
    try:
        raw = value.encode("utf-8")
    except AttributeError:
        raise InvalidUsage(f"{field} must be text, not {type(value).__name__} {shown(value)}") from None
    except UnicodeEncodeError:
        raise InvalidUsage(f"{field} {shown(value)} is not valid Unicode (a lone surrogate)") from None
    if type(raw) is not bytes:
        raise InvalidUsage(f"{field} must be text, not {type(value).__name__}")
    if len(raw) > MAX_TEXT_BYTES:
        raise InvalidUsage(f"{field} {shown(value)} has {len(raw)} bytes; at most {MAX_TEXT_BYTES} are allowed")
    if not raw and not empty:
        raise InvalidUsage(f"{field} must not be empty")
    if b"\0" in raw:
        raise InvalidUsage(f"{field} {shown(value)} has a NUL character")
    return raw


def metric_key_bytes(value: str) -> bytes:
    """A metric key: 1 to 200 characters of [a-z0-9_.-]."""
    if not isinstance(value, str) or _METRIC_KEY.fullmatch(value) is None:
        raise InvalidUsage(f"metric_key {shown(value)} is not {METRIC_KEY_TEXT}")
    return value.encode("ascii")


def metadata_text(metadata: Mapping[str, Any] | str) -> str:
    """A JSON object as compact text; text that is a JSON object already stays as it is."""
    if isinstance(metadata, str):
        text = str(metadata)
        _check_object(text)
    else:
        text = _written(metadata)
    _check_size(text)
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise InvalidUsage("metadata has a NUL character")
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(text)
    if len(text) > 308 and _HUGE_INTEGER.search(_STRINGS.sub("", text)):
        raise InvalidUsage("metadata has a number of more than 308 digits; write it as text")
    if text.count("{") + text.count("[") > MAX_METADATA_DEPTH:
        _check_depth(text)
    return text


def _written(metadata: object) -> str:
    if not isinstance(metadata, Mapping):
        raise InvalidUsage(f"metadata must be a mapping, not {type(metadata).__name__} {shown(metadata)}")
    for name in metadata:
        if not isinstance(name, str):
            raise InvalidUsage(f"metadata has the key {shown(name)}; keys must be text")
    try:
        return _ENCODER.encode(metadata if isinstance(metadata, dict) else dict(metadata))
    except (TypeError, ValueError) as error:
        raise InvalidUsage(f"metadata cannot be written as JSON: {error}") from None
    except RecursionError:
        _too_deep()


def _check_surrogates(text: str) -> None:
    """Half of a surrogate pair, written as an escape, is JSON that no UTF-8 text can represent."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidUsage("metadata has half of a surrogate pair, which is not Unicode text") from None


def _check_object(text: str) -> None:
    try:
        parsed = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except ValueError as error:
        raise InvalidUsage(f"metadata is not JSON: {error}: {shown(text)}") from None
    except RecursionError:
        _too_deep()
    if not isinstance(parsed, dict):
        raise InvalidUsage(f"metadata must be a JSON object: {shown(text)}")


def _check_size(text: str) -> None:
    try:
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidUsage("metadata is not valid Unicode (a lone surrogate)") from None
    if size > MAX_METADATA_BYTES:
        raise InvalidUsage(f"metadata has {size} bytes as JSON; at most {MAX_METADATA_BYTES} are allowed")


def _check_depth(text: str) -> None:
    depth = 0
    for character in _STRINGS.sub("", text):
        if character in "{[":
            depth += 1
            if depth > MAX_METADATA_DEPTH:
                _too_deep()
        elif character in "}]":
            depth -= 1


def _too_deep() -> NoReturn:
    raise InvalidUsage(f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels") from None


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{shown(number)} is out of range for a JSON number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
