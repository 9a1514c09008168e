"""Which events are invalid, by expressions over the whole batch.

The SDK makes the same checks and gives the caller an error. They are made again here because anyone can write to a
topic. Rules: an event's strings hold at most 512 bytes and no NUL; id, metric key and subject are not empty; a
quantity has at most 20 integer digits; metadata is a JSON object of at most 16 KiB.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from meterfold_processor.fold.rules import SECOND

INVALID = "invalid"
TOO_OLD = "too_old"
IN_FUTURE = "in_future"

MAX_STRING = 512
MAX_METADATA = 16 * 1024
MAX_QUANTITY = Decimal("99999999999999999999.999999999")
MIN_QUANTITY = MAX_QUANTITY.copy_negate()
"""Not `-MAX_QUANTITY`: that rounds to the 28 digits of the decimal context, up to a quantity of 21 integer digits."""

_REQUIRED = ["id", "metric_key", "subject_type", "subject_id"]
_SHORT = ["id", "org_id", "metric_key", "subject_type", "subject_id", "source", "resource_type", "resource_id"]

# JSON has no raw NUL. An escaped one has an even number of backslashes before its own.
_ESCAPED_NUL = r"[^\\](\\\\)*\\u0000"


def invalid(events: pl.DataFrame) -> pl.Series:
    """What is wrong with each decoded event, null where nothing is."""
    return events.select(_DETAIL).to_series()


def timely(time: pl.Expr, stamp: pl.Expr, horizon: int, future_tolerance: int) -> pl.Expr:
    """Whether an event's time is near enough to the broker's stamp; all in UTC microseconds."""
    return time.is_between(stamp - horizon, stamp + future_tolerance)


def untimely(events: pl.DataFrame, horizon: int, future_tolerance: int) -> pl.DataFrame:
    """`reason` and `detail` of events (columns `time` and `stamp`) that are not `timely`."""
    old = pl.col("time") < pl.col("stamp")
    # Seconds first: the distance of a damaged time in microseconds would not fit into 64 bits.
    age = pl.col("stamp") // SECOND - pl.col("time") // SECOND
    too_old = pl.format("{} s before its arrival, the horizon is {} s", age, pl.lit(horizon // SECOND))
    ahead = pl.format("{} s after its arrival, {} s are tolerated", -age, pl.lit(future_tolerance // SECOND))
    return events.select(
        reason=pl.when(old).then(pl.lit(TOO_OLD)).otherwise(pl.lit(IN_FUTURE)),
        detail=pl.when(old).then(too_old).otherwise(ahead),
    )


def _when(wrong: pl.Expr, detail: str) -> pl.Expr:
    return pl.when(wrong).then(pl.lit(detail))


def _has_nul(name: str) -> pl.Expr:
    return pl.col(name).str.contains("\0", literal=True)


def _no_json_object(name: str) -> pl.Expr:
    text = pl.col(name)
    parses = text.str.json_path_match("$").is_not_null()
    return text.is_not_null() & ~(parses & text.str.strip_chars_start(" \t\r\n").str.starts_with("{"))


def _checks() -> list[pl.Expr]:
    return [
        *(_when(pl.col(name) == "", f"{name} is empty") for name in _REQUIRED),
        *(_when(pl.col(name).str.len_bytes() > MAX_STRING, f"{name} is over {MAX_STRING} bytes") for name in _SHORT),
        *(_when(_has_nul(name), f"{name} holds a NUL") for name in _SHORT),
        _when(
            ~pl.col("metric_key").str.contains(r"^[a-z0-9_.-]{1,200}$"),
            "metric_key is not 1 to 200 characters of a-z 0-9 _ . -",
        ),
        _when(~pl.col("quantity").is_between(MIN_QUANTITY, MAX_QUANTITY), "quantity has over 20 integer digits"),
        _when(pl.col("metadata").str.len_bytes() > MAX_METADATA, f"metadata is over {MAX_METADATA} bytes"),
        _when(_no_json_object("metadata"), "metadata is not a JSON object"),
        _when(pl.col("metadata").str.contains(_ESCAPED_NUL), "metadata holds a NUL"),
    ]


_DETAIL = pl.coalesce(_checks()).alias("detail")
"""Built once: some thirty expressions take longer to build than to apply to a small batch."""
