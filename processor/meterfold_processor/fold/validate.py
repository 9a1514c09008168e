"""Which events are invalid, by expressions over the whole batch.

The SDK makes the same checks and gives the caller an error. They are made again here because anyone can write to a
topic. The limits are those of meterfold_schemas.usage_rules; which of them a field keeps is declared in usage_fields.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from meterfold_schemas.quantities import MAX_UNSCALED, to_decimal
from meterfold_schemas.usage_fields import TEXTS
from meterfold_schemas.usage_rules import (
    ESCAPED_NUL,
    MAX_METADATA_BYTES,
    MAX_TEXT_BYTES,
    METRIC_KEY,
    METRIC_KEY_TEXT,
    AgeProblem,
    age_problem,
)

INVALID = "invalid"

_LONGEST_SHOWN = 80


def invalid(events: pl.DataFrame) -> pl.Series:
    """What is wrong with each decoded event, null where nothing is."""
    nothing = pl.Series("detail", dtype=pl.String).clear(events.height)
    wrong = events.select(_WRONG).to_series()
    if not wrong.any():
        return nothing
    return nothing.scatter(wrong.arg_true(), events.filter(wrong).select(_DETAIL).to_series())


def timely(time: pl.Expr, stamp: pl.Expr, horizon: int, future_tolerance: int) -> pl.Expr:
    """Whether an event's time is near enough to the broker's stamp; all in UTC microseconds."""
    return time.is_between(stamp - horizon, stamp + future_tolerance)


def untimely(events: pl.DataFrame, horizon: int, future_tolerance: int) -> pl.DataFrame:
    """`reason` and `detail` of events (columns `time` and `stamp`) that are not `timely`.

    One by one, as each rejected message is published separately anyway.
    """
    rows = events.select("time", "stamp").iter_rows()
    problems = [_problem(time, stamp, horizon, future_tolerance) for time, stamp in rows]
    return pl.DataFrame(
        {"reason": [problem.reason for problem in problems], "detail": [str(problem) for problem in problems]},
        schema={"reason": pl.String, "detail": pl.String},
    )


def _problem(time: int, stamp: int, horizon: int, future_tolerance: int) -> AgeProblem:
    problem = age_problem(time, stamp, horizon, future_tolerance)
    if problem is None:
        raise AssertionError(f"an event of {time} that arrived at {stamp} counts: timely and age_problem disagree")
    return problem


@dataclass(frozen=True, slots=True)
class _Check:
    """`detail` is what is said where `wrong`; each {} in it is one of the values."""

    wrong: pl.Expr
    detail: str
    values: tuple[pl.Expr, ...] = ()

    def said(self) -> pl.Expr:
        return pl.when(self.wrong).then(pl.format(self.detail, *self.values) if self.values else pl.lit(self.detail))


def _shown(name: str) -> pl.Expr:
    """The beginning of a text. Without control characters: it goes into logs and tables that people read."""
    return pl.col(name).str.slice(0, _LONGEST_SHOWN).str.replace_all(r"\p{Cc}", "?")


def _size(name: str) -> pl.Expr:
    return pl.col(name).str.len_bytes()


def _has_nul(name: str) -> pl.Expr:
    return pl.col(name).str.contains("\0", literal=True)


def _no_json_object(name: str) -> pl.Expr:
    text = pl.col(name)
    parses = text.str.json_path_match("$").is_not_null()
    return text.is_not_null() & ~(parses & text.str.strip_chars_start(" \t\r\n").str.starts_with("{"))


def _checks() -> list[_Check]:
    names = [field.name for field in TEXTS]
    required = [field.name for field in TEXTS if not field.may_be_empty]
    limits = pl.lit(to_decimal(-MAX_UNSCALED)), pl.lit(to_decimal(MAX_UNSCALED))
    too_long = f"has {{}} bytes; at most {MAX_TEXT_BYTES} are allowed"
    return [
        *(_Check(pl.col(name) == "", f"{name} must not be empty") for name in required),
        *(
            _Check(_size(name) > MAX_TEXT_BYTES, f"{name} '{{}}...' {too_long}", (_shown(name), _size(name)))
            for name in names
        ),
        *(_Check(_has_nul(name), f"{name} '{{}}' has a NUL character; remove it", (_shown(name),)) for name in names),
        _Check(
            ~pl.col("metric_key").str.contains(f"^{METRIC_KEY}$"),
            f"metric_key '{{}}' is not {METRIC_KEY_TEXT}",
            (_shown("metric_key"),),
        ),
        _Check(
            ~pl.col("quantity").is_between(*limits),
            "quantity {} has more than 20 integer digits; record it in parts or in a larger unit",
            (pl.col("quantity").cast(pl.String),),
        ),
        _Check(
            _size("metadata") > MAX_METADATA_BYTES,
            f"metadata has {{}} bytes; at most {MAX_METADATA_BYTES} are allowed",
            (_size("metadata"),),
        ),
        _Check(_no_json_object("metadata"), "metadata '{}' is not a JSON object", (_shown("metadata"),)),
        _Check(pl.col("metadata").str.contains(ESCAPED_NUL), "metadata has a NUL character (\\u0000); remove it"),
    ]


# Built once: some thirty expressions take longer to build than to apply to a small batch. What is said is formatted for
# the wrong events alone.
_WRONG = pl.any_horizontal(check.wrong for check in _checks()).fill_null(value=False).alias("wrong")
_DETAIL = pl.coalesce([check.said() for check in _checks()]).alias("detail")
