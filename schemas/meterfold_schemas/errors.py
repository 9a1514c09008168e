"""The error tree of Meterfold.

    MeterfoldError                 every error has a stable `code`
    ├── Retryable                  keep the input, back off, try again
    │   └── UnknownSchema          UNKNOWN_SCHEMA   readable after an upgrade: hold, never reject
    ├── Poison                     POISON           a message that can never be counted: reject it with its reason
    ├── Fatal                      FATAL            stop, exit non-zero
    │   └── InvalidSettings        INVALID_SETTINGS
    ├── InvalidUsage               INVALID_USAGE    an event the caller has to correct
    ├── InvalidDefinition          INVALID_DEFINITION (or PERIOD_NOT_KEPT) a metric or threshold to correct
    └── InvalidEvent               INVALID_EVENT    a record that does not fit its own schema (a defect in the caller)

The SDK adds its own, named after what happens to usage (meterfold/errors.py). A message says what was wrong, where, and
what to do. It never holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal

__all__ = [
    "Fatal",
    "InvalidDefinition",
    "InvalidEvent",
    "InvalidSettings",
    "InvalidUsage",
    "MeterfoldError",
    "Poison",
    "RejectReason",
    "Retryable",
    "UnknownSchema",
    "shown",
]

_LONGEST_SHOWN: Final = 80

RejectReason = Literal["undecodable", "invalid", "too_old", "in_future", "misrouted"]


class MeterfoldError(Exception):
    """Root of every error that Meterfold raises on purpose."""

    code: str = "METERFOLD_ERROR"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Retryable(MeterfoldError):
    """The same step may succeed later; nothing was lost and nothing was acknowledged."""

    code = "RETRYABLE"


class UnknownSchema(Retryable):
    """A value whose schema fingerprint this version does not know; an upgraded worker can read it."""

    code = "UNKNOWN_SCHEMA"

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(
            f"no schema with fingerprint {fingerprint.hex()} in this version of meterfold: upgrade this process"
        )
        self.fingerprint = fingerprint

    def __reduce__(self) -> tuple[type[UnknownSchema], tuple[bytes]]:
        return type(self), (self.fingerprint,)


class Poison(MeterfoldError):
    """A message that can never be counted. `reason` is one of RejectReason, `detail` says what was found."""

    code = "POISON"

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: RejectReason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Poison], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class Fatal(MeterfoldError):
    """To continue would give wrong numbers, or can never succeed: stop with this error."""

    code = "FATAL"


class InvalidSettings(Fatal):
    """A setting that is missing, unknown or out of range."""

    code = "INVALID_SETTINGS"


class InvalidUsage(MeterfoldError):
    """A usage event that breaks a rule of the contract."""

    code = "INVALID_USAGE"


class InvalidDefinition(MeterfoldError):
    """A metric or threshold that breaks a rule of the contract. `problems`: (field, what is wrong with it) of each
    problem; the field is empty where no single one is wrong."""

    code = "INVALID_DEFINITION"

    def __init__(self, message: str, *, code: str | None = None, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, code=code)
        self.problems = tuple(problems)


class InvalidEvent(MeterfoldError):
    """A record that does not fit the schema it is written with."""

    code = "INVALID_EVENT"


def shown(value: object) -> str:
    """A value in a message: as Python writes it, a member of an enum as its value, cut where it is long."""
    text = repr(value.value if isinstance(value, Enum) else value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
