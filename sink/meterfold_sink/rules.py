"""The stored settings of an installation: they decide which events count, and identify the source topic.

`meterfold migrate` writes them once; every worker only compares. Two workers with different rules would fold the same
offsets into different windows, so a worker with different rules refuses to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from meterfold_schemas.errors import Fatal, InvalidSettings
from meterfold_schemas.periods import DAY_SECONDS, MICROS_PER_SECOND

__all__ = [
    "DECODER_VERSIONS",
    "DEFAULT_HOLD_SECONDS",
    "POISON",
    "POISON_FINGERPRINT",
    "UNKNOWN_SCHEMA_HOLD",
    "WITH_REGISTRY",
    "FoldRules",
]


#: fold_settings rows "poison_fingerprint:<16 hex digits>" of earlier versions: messages of that schema are rejected.
POISON_FINGERPRINT: Final = "poison_fingerprint:"

#: The fold_settings row with the seconds for which an unknown schema is held. It may change at any time.
UNKNOWN_SCHEMA_HOLD: Final = "unknown_schema_hold_seconds"
DEFAULT_HOLD_SECONDS: Final = 3600

#: What a worker of this version can run with.
DECODER_VERSIONS: Final = ("1", "2", "3")

#: The decision about a fingerprint whose messages are rejected.
POISON: Final = "poison"

#: The decoder version of installations that read the Confluent wire format.
WITH_REGISTRY: Final = "3"

_PROCEDURE: Final = (
    "Nothing was changed. To change a stored setting, stop all workers and run `meterfold settings set` "
    "(docs/operations.md, 'Changing stored settings')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRules:
    """The rows of fold_settings. Times in seconds.

    horizon: how old an event may be on arrival. future_tolerance: how far ahead its clock may be. slack: how far the
    brokers' clocks may step back. grace: how long after its end a window becomes final. record_retention and
    source_retention: how long usage_records and the topic usage.recorded keep an event. decoder_version: 1 reads Avro,
    2 reads JSON too, 3 also Avro in the Confluent wire format.
    """

    cluster_id: str
    topic_id: str
    partition_count: int
    decoder_version: str = "2"
    horizon_seconds: int = 35 * DAY_SECONDS
    future_tolerance_seconds: int = 300
    slack_seconds: int = DAY_SECONDS
    grace_seconds: int = 3600
    record_retention_seconds: int = 100 * DAY_SECONDS
    source_retention_seconds: int = 14 * DAY_SECONDS

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or value < 0):
                raise InvalidSettings(f"{field.name} must be a non-negative integer, not {value!r}")
        if self.partition_count < 1:
            raise InvalidSettings("partition_count must be at least 1")
        if self.horizon_seconds < 1:
            raise InvalidSettings("horizon_seconds must be at least 1: every event would be too old")
        # An identity must still be found when its retry, unread in the topic until the end, is read at last.
        needed = (
            self.horizon_seconds + self.future_tolerance_seconds + self.source_retention_seconds + self.slack_seconds
        )
        if self.record_retention_seconds < needed:
            raise InvalidSettings(
                f"record_retention_seconds {self.record_retention_seconds} is too short: it must be at least horizon + "
                f"future tolerance + source retention + slack = {needed}, otherwise a retry could count twice"
            )

    def arrivals(self, start: int, end: int) -> tuple[int, int]:
        """Between which broker's stamps an event with a time from `start` to `end` can have been accepted; all in UTC
        microseconds."""
        earliest = max(0, start - self.future_tolerance_seconds * MICROS_PER_SECOND)
        return earliest, end + self.horizon_seconds * MICROS_PER_SECOND

    @property
    def reads_json(self) -> bool:
        """Whether values that begin with { are events. Installations of the first version rejected them."""
        return self.decoder_version != "1"

    @property
    def reads_registry_ids(self) -> bool:
        """Whether values that begin with 00 are events with the id of a Schema Registry. Installations that were
        created without a registry reject them."""
        return self.decoder_version not in ("1", "2")

    @property
    def kept_seconds(self) -> int:
        """For how long after its timestamp the record of any event is kept: one arrives at most the tolerance before
        it."""
        return self.record_retention_seconds - self.future_tolerance_seconds

    @property
    def lookback_seconds(self) -> int:
        """How long an identity is remembered."""
        return self.horizon_seconds + self.future_tolerance_seconds

    @classmethod
    def from_rows(cls, rows: Mapping[str, str]) -> Self:
        """The rules of fold_settings' name -> value. Raises Fatal when one is missing or not readable."""
        missing = sorted({field.name for field in fields(cls)} - rows.keys())
        if missing:
            raise Fatal(f"fold_settings has no {', '.join(missing)}: run `meterfold migrate`")
        values: dict[str, str | int] = {}
        for field in fields(cls):
            text = rows[field.name]
            if field.type == "int" and not (text.isascii() and text.isdecimal()):
                raise Fatal(f"fold_settings: {field.name} is {text!r}, which is not an integer")
            values[field.name] = int(text) if field.type == "int" else text
        return cls(**values)  # type: ignore[arg-type]  # the loop above made each type right

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as the constructor takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_rows(self) -> dict[str, str]:
        """name -> value as fold_settings stores them."""
        return {name: str(value) for name, value in self.to_dict().items()}

    def differences(self, stored: FoldRules) -> list[str]:
        """The differences between these rules and the stored ones, as text."""
        mine, theirs = self.to_rows(), stored.to_rows()
        return [
            f"{name} is stored as {theirs[name]!r}, not {mine[name]!r}" for name in mine if mine[name] != theirs[name]
        ]

    def require_same(self, stored: FoldRules) -> None:
        """Raises Fatal, naming each difference, unless these are the stored rules."""
        if different := self.differences(stored):
            raise Fatal(f"the stored settings differ: {'; '.join(different)}. {_PROCEDURE}")
