"""Writes `usage.recorded` values for producers, in about 2 us per event where fastavro's general writer takes 6.

The bytes are those of UsageRecorded.to_bytes (a test compares them), and so are the checks. It is fast because an
application records the same subjects, quantities and sources repeatedly: their encoded forms are remembered,
within a bound. It may be used from many threads: what is remembered can always be computed again.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NamedTuple, SupportsIndex

from meterfold_schemas import catalog
from meterfold_schemas.errors import Fatal, InvalidUsage
from meterfold_schemas.framing import HEADER_SIZE, avro_long
from meterfold_schemas.keys import SUBJECT, subject_key
from meterfold_schemas.quantities import to_avro_bytes, to_unscaled
from meterfold_schemas.usage_fields import NAMES, OPTIONAL, SCHEMA
from meterfold_schemas.usage_rules import MAX_TEXT_BYTES, metadata_text, metric_key_bytes, text_bytes

__all__ = ["EncodedSubject", "UsageEncoder"]

_NULL: Final = b"\x00"
_VALUE: Final = b"\x02"  # the second branch of ["null", "string"]
_MAX_LONG: Final = 2**63 - 1


def _before_timestamp() -> int:
    """How many optional fields the schema has before the timestamp; all others come first."""
    head = ("id", *SUBJECT, "quantity")
    if NAMES[: len(head)] != head or set(NAMES[len(head) :]) != {"timestamp", *OPTIONAL}:
        raise Fatal(f"the fields of {SCHEMA} are in an order that the encoder does not write: {', '.join(NAMES)}")
    return NAMES[len(head) :].index("timestamp")


_BEFORE_TIMESTAMP: Final = _before_timestamp()
#: Metadata that is given as text and is this short, in bytes, is remembered: a service sends a few combinations of
#: routes and regions with most of its events.
_SHORT_METADATA: Final = 256
_MOST_METADATA: Final = 8_192


class EncodedSubject(NamedTuple):
    """A subject of a metric: the message key, and the four fields as encoded in the value."""

    key: bytes
    fields: bytes


class UsageEncoder:
    """Turns the parts of an event into its key and value. `remembered` bounds each of its memories, in entries."""

    __slots__ = (
        "_header",
        "_metadata",
        "_nothing",
        "_options",
        "_pairs",
        "_quantities",
        "_remembered",
        "_rests",
        "_sizes",
        "_subjects",
        "_tails",
    )

    def __init__(self, remembered: int = 65_536) -> None:
        self._header = catalog.latest(SCHEMA).header
        nothing = _NULL * _BEFORE_TIMESTAMP, _NULL * (len(OPTIONAL) - _BEFORE_TIMESTAMP)
        self._nothing: dict[tuple[Any, ...], tuple[bytes, bytes]] = {
            (): nothing,
            (None,) * len(OPTIONAL): nothing,
        }
        self._rests = dict(self._nothing)
        self._remembered = remembered
        self._subjects: dict[tuple[str, str, str, str], EncodedSubject] = {}
        self._quantities: dict[int, bytes] = {}
        self._options: dict[str, bytes] = {}
        self._metadata: dict[str, bytes] = {}
        self._tails: dict[int, bytes] = {}
        self._sizes = [avro_long(size) for size in range(MAX_TEXT_BYTES + 1)]
        # Two continued bytes of a varint for each value of 14 bits.
        self._pairs = [bytes((low | 128, high | 128)) for high in range(128) for low in range(128)]

    @property
    def header(self) -> bytes:
        """The bytes before the body of each value."""
        return self._header

    def subject(self, org_id: str, metric_key: str, subject_type: str, subject_id: str) -> EncodedSubject:
        """Raises InvalidUsage for a part that breaks a rule."""
        parts = (org_id, metric_key, subject_type, subject_id)
        try:
            return self._subjects[parts]
        except (KeyError, TypeError):  # not seen yet, or not even text
            pass
        sizes = self._sizes
        fields = []
        for raw in (
            text_bytes("org_id", org_id, empty=True),
            metric_key_bytes(metric_key),
            text_bytes("subject_type", subject_type),
            text_bytes("subject_id", subject_id),
        ):
            fields += [sizes[len(raw)], raw]
        subject = EncodedSubject(subject_key(*parts), b"".join(fields))
        if len(self._subjects) >= self._remembered:
            self._subjects.clear()
        self._subjects[parts] = subject
        return subject

    def value(
        self,
        event_id: str,
        subject: EncodedSubject,
        quantity: int | Decimal | str | float | SupportsIndex,
        timestamp: int,
        *optional: Any,
    ) -> bytes:
        """The framed value of one event. `timestamp` in UTC microseconds. Raises InvalidUsage.

        `optional` has the values of usage_fields.OPTIONAL in that order, None where there is none, or is left out.
        """
        try:
            raw = event_id.encode()
        except (AttributeError, UnicodeEncodeError):
            raw = b""
        if not 0 < len(raw) <= MAX_TEXT_BYTES or b"\0" in raw:
            raw = text_bytes("id", event_id)  # raises, and says which rule
        amount = self._quantities.get(quantity) if type(quantity) is int else None
        try:
            rest = self._rests.get(optional)
        except TypeError:  # metadata as a mapping
            rest = None
        before, after = rest or self._rest(optional)
        return b"".join(
            (
                self._header,
                self._sizes[len(raw)],
                raw,
                subject[1],
                self._quantity(quantity) if amount is None else amount,
                before,
                self._timestamp(timestamp),
                after,
            )
        )

    def event_id_of(self, value: bytes) -> str:
        """The event id in a value that this encoder wrote."""
        start = HEADER_SIZE + 1
        size = value[HEADER_SIZE] >> 1
        if size > 63:  # two bytes
            size, start = size & 63 | value[start] << 6, start + 1
        return value[start : start + size].decode("utf-8")

    def _quantity(self, quantity: int | Decimal | str | float | SupportsIndex) -> bytes:
        raw = to_avro_bytes(to_unscaled(quantity))
        encoded = self._sizes[len(raw)] + raw
        # Only true integers are looked up: 1, 1.0, True and Decimal(1) would be one key.
        if type(quantity) is int:
            if len(self._quantities) >= self._remembered:
                self._quantities.clear()
            self._quantities[quantity] = encoded
        return encoded

    def _rest(self, optional: tuple[Any, ...]) -> tuple[bytes, bytes]:
        """The optional fields before and after the timestamp."""
        known = self._options
        pieces = []
        repeats = True
        for name, value in zip(OPTIONAL, optional, strict=True):
            if value is None:
                pieces.append(_NULL)
            elif name == "metadata":
                if type(value) is str and value in self._metadata:
                    pieces.append(self._metadata[value])
                else:
                    repeats = False
                    pieces.append(self._some_metadata(value))
            elif type(value) is str and value in known:
                pieces.append(known[value])
            else:
                repeats = False
                pieces.append(self._option(name, value))
        if len(pieces) == _BEFORE_TIMESTAMP:
            rest = b"".join(pieces), b""
        else:
            rest = b"".join(pieces[:_BEFORE_TIMESTAMP]), b"".join(pieces[_BEFORE_TIMESTAMP:])
        if repeats:  # each of them was there before
            if len(self._rests) >= self._remembered:
                self._rests = dict(self._nothing)
            self._rests[optional] = rest
        return rest

    def _option(self, field: str, text: str) -> bytes:
        raw = text_bytes(field, text, empty=True)
        encoded = _VALUE + self._sizes[len(raw)] + raw
        if len(self._options) >= self._remembered:
            self._options.clear()
        self._options[text] = encoded
        return encoded

    def _some_metadata(self, metadata: Any) -> bytes:
        raw = metadata_text(metadata).encode("utf-8")
        encoded = _VALUE + avro_long(len(raw)) + raw
        if type(metadata) is str and len(raw) <= _SHORT_METADATA:
            if len(self._metadata) >= min(self._remembered, _MOST_METADATA):
                self._metadata.clear()
            self._metadata[metadata] = encoded
        return encoded

    def _timestamp(self, micros: int) -> bytes:
        try:
            zigzag = (micros << 1) ^ (micros >> 63)
        except TypeError:  # what datetime arithmetic makes of pandas' NaT
            raise InvalidUsage(f"timestamp {micros!r} is not in whole microseconds") from None
        pairs = self._pairs
        if (tail := self._tails.get(zigzag >> 28)) is not None:
            return pairs[zigzag & 0x3FFF] + pairs[zigzag >> 14 & 0x3FFF] + tail
        if not -_MAX_LONG <= micros <= _MAX_LONG:
            raise InvalidUsage(f"timestamp {micros} is out of range")
        encoded = avro_long(micros)
        if len(encoded) > 4:  # the last bytes stay the same for two minutes
            if len(self._tails) >= self._remembered:
                self._tails.clear()
            self._tails[zigzag >> 28] = encoded[4:]
        return encoded
