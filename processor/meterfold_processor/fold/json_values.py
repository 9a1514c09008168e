"""JSON messages to the columns of an event, for producers without Avro: all messages of a batch at once.

What is read how is said in meterfold_schemas.usage_json, which reads one message. The result is that of the same event
in Avro, and so are the rules that are applied to it afterwards. Here a message is refused that is not an event
(`undecodable`), or whose quantity no column can hold (`invalid`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import compress
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from meterfold_processor.fold.json_cloudevents import is_cloud_event, of_cloud_events
from meterfold_processor.fold.json_index import IS_NULL, Int64s, JsonIndex, Unbalanced
from meterfold_processor.fold.json_verdict import UNDECODABLE, Verdict, described
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.quantities import SCALE, to_decimal, to_unscaled
from meterfold_schemas.usage_fields import FIELDS

INVALID: Final = "invalid"

_NAMES: Final = [field.name for field in FIELDS]
_CODES: Final = {name: code for code, name in enumerate(_NAMES)}
_DEFAULTS: Final = {"org_id": ""}
_REQUIRED: Final = [field.name for field in FIELDS if not field.optional and field.name not in _DEFAULTS]

_AT_ONCE: Final = 8192
"""Messages that are looked at together: what is made of them stays in the caches of the processor."""

#: What nearly all producers write: `_plain` reads only these, and both much faster.
_PLAIN_NUMBER: Final = r"^-?[0-9]{1,18}(?:\.[0-9]{1,9})?$"
_PLAIN_MOMENT: Final = (
    r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
_NUMBER: Final = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)$"
_EXPONENT: Final = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][+-]?[0-9]{1,4}$"
_MOMENT: Final = (
    r"^(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}[Tt ]"
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
#: Digits before the point that decimal(38, 9) holds.
_INTEGER_DIGITS: Final = 29


def read(values: list[bytes]) -> pl.DataFrame:
    """One row per value: the fields of an event, `reason` and `detail`, which are null for an event."""
    if len(values) > _AT_ONCE:
        parts = [_readable(values[start : start + _AT_ONCE]) for start in range(0, len(values), _AT_ONCE)]
        return pl.concat(parts, rechunk=True)
    return _readable(values)


def _readable(values: list[bytes]) -> pl.DataFrame:
    try:
        return _read(values)
    except Unbalanced:
        # Two readers disagree about what valid JSON is. That was never seen; halving finds the message.
        if len(values) == 1:
            return _read([b"{"])
        middle = len(values) // 2
        return pl.concat([_readable(values[:middle]), _readable(values[middle:])])


def _read(values: list[bytes]) -> pl.DataFrame:
    size = len(values)
    verdict = Verdict(size)
    valid = _is_one_object(_decoded(values))
    verdict.refuse((~valid).arg_true(), "the value begins with { but is not one JSON object in UTF-8")
    rows = np.flatnonzero(valid.to_numpy())
    index = JsonIndex(values if len(rows) == size else list(compress(values, valid)))
    frame = _fields(index, rows, size, verdict)
    events = _plain(frame)
    if events is None:
        events = _thorough(frame, verdict)
    events = events.with_columns(verdict.reason, verdict.detail)
    # A refused message has no fields, as in Avro.
    return events.with_columns(_NOTHING_OF_REFUSED) if verdict.any else events


def _is_one_object(text: pl.Series) -> pl.Series:
    """Whether each text is one JSON document, and nothing else: polars' reader stops at any damage. Only such texts may
    be looked at together."""
    # An event has an id, which is faster to take out than the whole.
    valid = text.str.json_path_match("$.id").is_not_null()
    if valid.all():
        return valid
    rest = (~valid).arg_true()
    return valid.scatter(rest, text.gather(rest).str.json_path_match("$").is_not_null())


def _decoded(values: list[bytes]) -> pl.Series:
    """The values as text, null where one is not UTF-8."""
    try:
        return pl.Series(values, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_utf8(value) for value in values], dtype=pl.String)


def _utf8(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _fields(index: JsonIndex, rows: Int64s, size: int, verdict: Verdict) -> pl.DataFrame:
    """Two columns per field: its value, null where there is none, and whether that is a text."""
    members = index.members(1)
    row, cells = rows[members.row], members.cells
    if (enveloped := is_cloud_event(row, cells, size)).any():
        row, cells = of_cloud_events(index, members, rows, enveloped, verdict)
    code = cells["name"].replace_strict(_CODES, default=-1, return_dtype=pl.Int64).to_numpy()
    if (unknown := np.flatnonzero(code < 0)).size:
        verdict.refuse(pl.Series(row[unknown]), described("the field '{}' is unknown", cells["name"].gather(unknown)))
    known = np.flatnonzero(code >= 0)
    at = np.full((size, len(_NAMES)), -1)
    at[row[known], code[known]] = known
    if (repeated := known[at[row[known], code[known]] != known]).size:
        names = cells["name"].gather(repeated)
        verdict.refuse(pl.Series(row[repeated]), described("the field '{}' is there twice", names))
    nothing = cells.select(IS_NULL).to_series().arg_true().to_numpy()
    nothing = nothing[code[nothing] >= 0]
    at[row[nothing], code[nothing]] = -1
    places = [pl.Series(at[:, number]) for number in range(len(_NAMES))]
    places = [place.set(place < 0, None) for place in places] if (at < 0).any() else places
    return cells.select(
        *(pl.col("value").gather(place).alias(name) for name, place in zip(_NAMES, places, strict=True)),
        *(pl.col("is_text").gather(place).alias(f"{name}?") for name, place in zip(_NAMES, places, strict=True)),
    )


def _plain(frame: pl.DataFrame) -> pl.DataFrame | None:
    """The events if nothing is wrong with any of them and all write numbers and times as nearly everyone does, else
    None. It only saves time."""
    if not frame.select(_IS_PLAIN).item():
        return None
    moments = frame["timestamp"].to_arrow(compat_level=pl.CompatLevel.oldest())
    try:
        times = moments.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:  # such as February 30
        return None
    return frame.with_columns(pl.Series("timestamp", pl.from_arrow(times)), *_PLAIN_COLUMNS).select(_NAMES)


def _thorough(frame: pl.DataFrame, verdict: Verdict) -> pl.DataFrame:
    """The events, however they are written, and into `verdict` what is wrong."""
    frame = _without_exponents(frame)
    events = frame.select(_EVENT)
    wrong = events["wrong"]
    if wrong.any():
        found = frame.filter(wrong).select(_PROBLEM)
        verdict.refuse(wrong.arg_true(), found["detail"], found["reason"])
    return events.drop("wrong")


def _without_exponents(frame: pl.DataFrame) -> pl.DataFrame:
    """Numbers such as 1e-7, which programs write for the smallest and the largest: one by one, each number once."""
    numbers = frame["quantity"]
    exponents = numbers.str.contains(_EXPONENT)
    if not exponents.any():
        return frame
    written = {number: _written_out(number) for number in numbers.filter(exponents).unique()}
    return frame.with_columns(numbers.replace(written))


def _written_out(number: str) -> str:
    try:
        return f"{to_decimal(to_unscaled(number)):f}"
    except InvalidUsage:
        # Refused in any case; the digits only have to show why.
        too_small = Decimal(number).adjusted() < 20
        return f"0.{'1' * (SCALE + 1)}" if too_small else "1" * (_INTEGER_DIGITS + 1)


@dataclass(frozen=True, slots=True)
class _Check:
    """`detail` is said where `wrong`; a {} in it is the value of the field."""

    field: str
    wrong: pl.Expr
    detail: str
    reason: str = UNDECODABLE


def _quantity() -> tuple[pl.Expr, list[_Check]]:
    text, is_text = pl.col("quantity"), pl.col("quantity?")
    is_number = text.str.contains(_NUMBER)
    whole = text.str.extract(r"^[+-]?0*([0-9]*)").str.len_bytes()
    fraction = text.str.extract(r"\.([0-9]*?)0*$").str.len_bytes().fill_null(0)
    digits = text.str.replace(r"^\+", "").str.replace(r"^(-?)\.", "${1}0.").str.replace(r"(\.[0-9]*?)0*$", "$1")
    fits = is_number & (fraction <= SCALE) & (whole <= _INTEGER_DIGITS)
    exact = pl.when(fits).then(digits.str.strip_chars_end(".")).cast(pl.Decimal(38, SCALE))
    other_kind = ~is_text & ~text.str.contains(r"^[0-9-]")
    return exact.alias("quantity"), [
        _Check("quantity", other_kind, "quantity {} must be a number or decimal text"),
        _Check("quantity", ~is_number, "quantity '{}' is not a decimal number", INVALID),
        _Check("quantity", fraction > SCALE, f"quantity {{}} has more than {SCALE} decimals; round it first", INVALID),
        _Check(
            "quantity",
            whole > _INTEGER_DIGITS,
            "quantity {} has more than 20 integer digits; record it in parts or in a larger unit",
            INVALID,
        ),
    ]


def _timestamp() -> tuple[pl.Expr, list[_Check]]:
    readable = pl.col("timestamp?") & pl.col("timestamp").str.contains(_MOMENT)
    text = pl.when(readable).then(pl.col("timestamp").str.to_uppercase())
    text_of_format = (
        text.str.replace(" ", "T", literal=True)
        .str.replace("Z", "+00:00", literal=True)
        .str.replace(r"(\.[0-9]{6})[0-9]+", "$1")
    )
    time = text_of_format.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    time = time.dt.convert_time_zone("UTC")
    unread = pl.col("timestamp").is_not_null() & time.is_null()
    detail = "timestamp '{}' is not a time in ISO 8601 with an offset, such as 2026-11-22T09:30:00Z"
    return time.alias("timestamp"), [_Check("timestamp", unread, detail)]


def _event() -> tuple[list[pl.Expr], list[_Check]]:
    """The columns of an event, and what may be wrong with the raw ones."""
    columns, checks = [], []
    for field in FIELDS:
        match field.rule:
            case "quantity":
                column, more = _quantity()
            case "timestamp":
                column, more = _timestamp()
            case "metadata":  # an object, or what the rules refuse then
                column, more = pl.col("metadata"), []
            case _:
                column = pl.col(field.name)
                more = [_Check(field.name, ~pl.col(f"{field.name}?"), f"{field.name} must be text, not {{}}")]
        if field.name in _DEFAULTS:
            column = column.fill_null(_DEFAULTS[field.name])
        columns.append(column)
        checks += more
        if field.name in _REQUIRED:
            checks.append(_Check(field.name, pl.col(field.name).is_null(), f"{field.name} is missing"))
    return columns, sorted(checks, key=lambda check: check.reason != UNDECODABLE)


def _said(check: _Check) -> pl.Expr:
    return described(check.detail, pl.col(check.field)) if "{}" in check.detail else pl.lit(check.detail)


# Built once: these expressions take longer to build than to apply to a small batch.
_COLUMNS, _CHECKS = _event()
_EVENT: Final = [
    *_COLUMNS,
    pl.any_horizontal(check.wrong for check in _CHECKS).fill_null(value=False).alias("wrong"),
]
_PROBLEM: Final = (
    pl.coalesce([pl.when(check.wrong).then(_said(check)) for check in _CHECKS]).alias("detail"),
    pl.coalesce([pl.when(check.wrong).then(pl.lit(check.reason)) for check in _CHECKS]).alias("reason"),
)
_NOTHING_OF_REFUSED: Final = [pl.when(pl.col("reason").is_null()).then(pl.col(name)).alias(name) for name in _NAMES]
_IS_PLAIN: Final = pl.all_horizontal(
    pl.col("quantity").str.contains(_PLAIN_NUMBER).all(),
    pl.col("timestamp").str.contains(_PLAIN_MOMENT).all(),
    *(pl.col(name).is_not_null().all() for name in _REQUIRED),
    *(pl.col(f"{field.name}?").all() for field in FIELDS if field.rule not in ("quantity", "metadata")),
)
_PLAIN_COLUMNS: Final = [
    pl.col("quantity").cast(pl.Decimal(38, SCALE)),
    *(pl.col(name).fill_null(value) for name, value in _DEFAULTS.items()),
]
