"""CloudEvents in structured mode among JSON messages: the fields of the event are in `data`."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.fold.json_index import IS_NULL, Int64s, JsonIndex, Members
from meterfold_processor.fold.json_verdict import Verdict, described
from meterfold_schemas.topics import USAGE_RECORDED
from meterfold_schemas.usage_json import ENVELOPE

_REQUIRED: Final = {"specversion": "1.0", "type": USAGE_RECORDED}


def is_cloud_event(row: Int64s, cells: pl.DataFrame, size: int) -> npt.NDArray[np.bool_]:
    """By row: whether the message has a `specversion`."""
    enveloped = np.zeros(size, np.bool_)
    enveloped[row[(cells["name"] == "specversion").to_numpy()]] = True
    return enveloped


def of_cloud_events(
    index: JsonIndex, members: Members, rows: Int64s, enveloped: npt.NDArray[np.bool_], verdict: Verdict
) -> tuple[Int64s, pl.DataFrame]:
    """The rows and cells of all fields: those of plain messages, those in `data`, and what the attributes of a
    CloudEvent say where `data` has no such field."""
    top = members.cells.with_columns(row=pl.Series(rows[members.row]))
    is_attribute = enveloped[rows[members.row]]
    plain, attributes = top.filter(~is_attribute), top.filter(is_attribute)
    _refuse(attributes, pl.Series(np.flatnonzero(enveloped)), verdict)

    nested = index.members(2)
    parent = np.searchsorted(members.at, nested.at) - 1
    in_data = (top["name"] == "data").to_numpy()[parent] & is_attribute[parent]
    fields = nested.cells.with_columns(row=pl.Series(rows[nested.row])).filter(in_data)
    present = fields.filter(~IS_NULL).select("row", "name")
    instead = (
        attributes.filter(pl.col("name").is_in(list(ENVELOPE)))
        .with_columns(pl.col("name").replace_strict(ENVELOPE))
        .join(present, on=["row", "name"], how="anti")
    )
    fields = fields.join(instead, on=["row", "name"], how="anti")
    every = pl.concat([plain, fields, instead])
    return every["row"].to_numpy(), every.drop("row")


def _refuse(attributes: pl.DataFrame, envelopes: pl.Series, verdict: Verdict) -> None:
    known = attributes.filter(pl.col("name").is_in([*_REQUIRED, "data", *ENVELOPE]))
    repeated = known.filter(~known.select(pl.struct("row", "name").is_first_distinct()).to_series())
    verdict.refuse(repeated["row"], described("the field '{}' is there twice", repeated["name"]))
    for name, expected in _REQUIRED.items():
        own = attributes.filter(pl.col("name") == name)
        wrong = own.filter((pl.col("value") != expected) | ~pl.col("is_text"))
        detail = f"the CloudEvent has the {name} '{{}}' instead of '{expected}'"
        verdict.refuse(wrong["row"], described(detail, wrong["value"]))
        verdict.refuse(_without(envelopes, own["row"]), f"the CloudEvent has no {name}")
    data = attributes.filter((pl.col("name") == "data") & ~pl.col("is_text") & pl.col("value").str.starts_with("{"))
    verdict.refuse(_without(envelopes, data["row"]), "the CloudEvent has no JSON object as data")


def _without(rows: pl.Series, others: pl.Series) -> pl.Series:
    return rows.filter(~rows.is_in(others.implode()))
