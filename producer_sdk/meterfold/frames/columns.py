"""The rows of a slice that are plainly valid, encoded column by column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterfold.frames import json_objects
from meterfold.frames.bytes_columns import joined, varints
from meterfold.frames.quantities import is_quantity, quantities
from meterfold.frames.texts import is_text, optional_text, plain_in_json, required_text, text_of
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_schemas.quantities import UNIT, to_avro_bytes
from meterfold_schemas.usage_fields import NAMES, OPTIONAL
from meterfold_schemas.usage_rules import METRIC_KEY

__all__ = ["Clock", "Encoded", "encoded", "takes"]

_IDS: Final = frozenset({"id", "subject_id", "org_id", "resource_id"})
_NEEDED: Final = ("metric_key", "subject_type", "subject_id")
_TEXTS: Final = frozenset({*_NEEDED, "id", "org_id", *OPTIONAL}) - {"metadata"}
#: Years 1 to 9999 in UTC microseconds: what a datetime holds.
_TIMES: Final = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_ONE: Final = bytes([2 * len(to_avro_bytes(UNIT))]) + to_avro_bytes(UNIT)


@dataclass(frozen=True, slots=True)
class Clock:
    """The present time and the range of timestamps that count, in UTC microseconds; None: not known."""

    now: int
    earliest: int | None
    latest: int | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """`valid` rows (numpy) with their `ids` (strings), `keys` and `values` (binary); other rows may be anything."""

    valid: Any
    ids: Any
    keys: Any
    values: Any


def takes(schema: Any, *, objects: bool = True) -> bool:
    """Whether these columns can be encoded here; otherwise every row takes the way of `record`. `objects`: whether
    structs and maps are what the frame holds (Arrow makes structs of pandas' dictionaries, with keys they lack)."""
    names = set(schema.names)
    if "subject" in names or not names.issuperset(_NEEDED):
        return False
    return all(_takes(field.name, field.type, objects) for field in schema)


def _takes(name: str, kind: Any, objects: bool) -> bool:
    if name in _TEXTS:
        return is_text(kind, integers=name in _IDS)
    if name == "quantity":
        return is_quantity(kind)
    if name == "timestamp":
        return pa.types.is_timestamp(kind) and kind.tz is not None
    return name == "metadata" and json_objects.takes(kind, objects=objects)


def encoded(
    batch: Any,
    header: bytes,
    default_org: str,
    clock: Clock,
    new_ids: Callable[[int], Any],
    is_defined: Callable[[str, str], bool] | None,
) -> Encoded:
    """A record batch that `takes` accepted. `new_ids` makes the ids (strings) of this many rows without an id;
    `is_defined` says whether an organization has a metric, None: it does not matter."""
    rows = batch.num_rows
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    texts = {name: text_of(columns[name]) for name in _TEXTS & columns.keys()}
    valid = np.ones(rows, bool)

    ids = texts["id"] if "id" in texts else new_ids(rows)
    org = texts["org_id"].fill_null(default_org) if "org_id" in texts else pa.array([default_org] * rows, pa.string())
    pieces: dict[str, tuple[Any, ...]] = {}
    required = {"id": ids, "org_id": org, **{name: texts[name] for name in _NEEDED}}
    for name, column in required.items():
        text = required_text(column, empty=name == "org_id")
        valid &= text.valid
        required[name], pieces[name] = text.texts, text.encoded
    valid &= _metric_keys(required["metric_key"])
    if is_defined is not None:
        valid &= _defined(required["org_id"], required["metric_key"], is_defined)
    subject = [required[name] for name in SUBJECT]
    for column in (subject[0], *subject[2:]):
        valid &= plain_in_json(column)
    keys = joined(b'["', *_with_commas([one.view(pa.binary()) for one in subject]), b'"]')

    if "quantity" in columns:
        right, quantity = quantities(columns["quantity"])
        valid &= right
        pieces["quantity"] = (quantity,)
    else:
        pieces["quantity"] = (_ONE,)
    if "timestamp" in columns:
        right, stamps = _timestamps(columns["timestamp"], clock)
        valid &= right
        pieces["timestamp"] = (varints(stamps),)
    else:
        pieces["timestamp"] = (varints(np.full(rows, clock.now, np.int64)),)
    for name in OPTIONAL:
        if name not in columns:
            pieces[name] = (b"\0",)
        elif name == "metadata":
            right, pieces[name] = json_objects.encoded(columns[name])
            valid &= right
        else:
            text = optional_text(texts[name])
            valid &= text.valid
            pieces[name] = text.encoded
    values = joined(header, *(piece for name in NAMES for piece in pieces[name]))
    return Encoded(valid, required["id"], keys, values)


def _with_commas(columns: list[Any]) -> list[Any]:
    return [piece for column in columns for piece in (column, b'","')][:-1]


def _metric_keys(texts: Any) -> Any:
    """Metrics are few: each is looked at once."""
    found = texts.dictionary_encode()
    right = pc.match_substring_regex(found.dictionary, rf"^{METRIC_KEY}$")
    return right.take(found.indices).to_numpy(zero_copy_only=False)


def _defined(orgs: Any, metrics: Any, is_defined: Callable[[str, str], bool]) -> Any:
    """Each pair is asked about once. No valid text has the separator."""
    found = pc.binary_join_element_wise(orgs, metrics, "\0").dictionary_encode()
    answers = [
        is_defined(org, metric) for org, _, metric in (pair.partition("\0") for pair in found.dictionary.to_pylist())
    ]
    return np.array(answers, bool)[found.indices.to_numpy()]


def _timestamps(column: Any, clock: Clock) -> tuple[Any, Any]:
    """(which are valid, UTC microseconds)."""
    valid = np.ones(len(column), bool)
    if column.null_count:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.fill_null(pa.scalar(0, column.type))
    stamps = column.cast(pa.int64()).to_numpy()
    per_second = _PER_SECOND[column.type.unit]
    if per_second > MICROS_PER_SECOND:
        valid &= stamps % (per_second // MICROS_PER_SECOND) == 0
        stamps = stamps // (per_second // MICROS_PER_SECOND)
    elif per_second < MICROS_PER_SECOND:
        factor = MICROS_PER_SECOND // per_second
        valid &= np.abs(stamps) <= _TIMES[1] // factor
        stamps = np.where(valid, stamps, 0) * factor
    earliest, latest = _TIMES if clock.earliest is None else (clock.earliest, _TIMES[1])
    if clock.latest is not None:
        latest = min(latest, clock.latest)
    valid &= (stamps >= max(earliest, _TIMES[0])) & (stamps <= latest)
    return valid, np.where(valid, stamps, 0)
