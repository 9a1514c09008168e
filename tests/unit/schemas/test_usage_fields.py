"""The fields of a usage event are those of its Avro schema, wherever they are written by name."""

from __future__ import annotations

import inspect
from dataclasses import fields

import polars as pl
import pytest

from meterfold.events import EventDetails
from meterfold.meter import Meter
from meterfold.tables import FIELDS as ROW_FIELDS
from meterfold_cli.importing.resolving import FIELDS as IMPORT_FIELDS
from meterfold_processor.fold.decode import FIELDS as DECODED
from meterfold_schemas import catalog, usage_fields
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink.comments import COMMENTS

NEWEST = catalog.latest(usage_fields.SCHEMA)


def test_names_and_order_are_those_of_the_newest_schema() -> None:
    assert list(NEWEST.fields) == list(usage_fields.NAMES)
    assert [entry["name"] for entry in NEWEST.definition["fields"] if "default" in entry] == list(usage_fields.OPTIONAL)


def test_the_value_has_every_field() -> None:
    assert {field.name for field in fields(UsageRecorded)} == set(usage_fields.NAMES)


def test_the_sdk_takes_every_field() -> None:
    subject = {"subject_type", "subject_id"}
    assert set(ROW_FIELDS) == {*usage_fields.NAMES, "subject"}
    assert set(EventDetails.__annotations__) == set(usage_fields.OPTIONAL)
    others = set(inspect.signature(Meter.record).parameters) - {"self", "details"}
    assert others | set(usage_fields.OPTIONAL) == {*usage_fields.NAMES, "subject"} - subject
    with pytest.raises(TypeError, match=r"record\(\) got an unexpected keyword argument 'recource_id'"):
        Meter("unused:9092").record("a", ("user", "u"), recource_id="r")  # type: ignore[call-arg]


def test_the_import_and_the_decoder_take_every_field() -> None:
    assert IMPORT_FIELDS == usage_fields.NAMES
    assert tuple(DECODED) == usage_fields.NAMES
    kinds = {"decimal": pl.Decimal(38, 9), "timestamp": pl.Datetime("us", "UTC"), "plain": pl.String()}
    assert {name: kinds[kind] for name, kind in NEWEST.fields.items()} == DECODED


def test_the_records_have_a_described_column_for_every_field() -> None:
    assert set(usage_fields.NAMES) <= set(COMMENTS["usage_records"].columns)
