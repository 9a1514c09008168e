"""Why JSON messages are refused: one reason and detail per row."""

from __future__ import annotations

from typing import Final, overload

import polars as pl

UNDECODABLE: Final = "undecodable"

_LONGEST_SHOWN: Final = 80


class Verdict:
    """What is wrong with each row; the first problem that is found counts."""

    def __init__(self, size: int) -> None:
        self.reason = pl.Series("reason", dtype=pl.String).clear(size)
        self.detail = pl.Series("detail", dtype=pl.String).clear(size)
        self.any = False

    def refuse(self, rows: pl.Series, detail: pl.Series | str, reason: pl.Series | str = UNDECODABLE) -> None:
        """`rows`: row numbers. `detail` and `reason`: one for all, or one for each."""
        if not len(rows):
            return
        found = pl.DataFrame({"row": rows}).with_columns(detail=_each(detail), reason=_each(reason))
        found = found.unique("row", keep="first", maintain_order=True)
        found = found.filter(self.reason.gather(found["row"]).is_null())
        self.reason = self.reason.scatter(found["row"], found["reason"])
        self.detail = self.detail.scatter(found["row"], found["detail"])
        self.any = True


def _each(text: pl.Series | str) -> pl.Series | pl.Expr:
    return pl.lit(text) if isinstance(text, str) else text


@overload
def described(detail: str, values: pl.Series) -> pl.Series: ...
@overload
def described(detail: str, values: pl.Expr) -> pl.Expr: ...
def described(detail: str, values: pl.Series | pl.Expr) -> pl.Series | pl.Expr:
    """`detail` with the beginning of each value, without control characters: people read it in logs and tables."""
    if isinstance(values, pl.Series):
        return values.alias("shown").to_frame().select(described(detail, pl.col("shown"))).to_series()
    return pl.format(detail, values.str.slice(0, _LONGEST_SHOWN).str.replace_all(r"\p{Cc}", "?"))
