"""Mappings: what options and TOML files say, what is wrong with them, and the events that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing import mapping_file
from meterfold_cli.importing.mapping import Mapping
from meterfold_cli.importing.mapping_problems import KEYS
from meterfold_cli.importing.metric_keys import key_of_text
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.plan import Plan
from meterfold_cli.importing.planning import make_plan
from meterfold_cli.importing.resolving import resolve
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.quantities import ROUNDINGS, to_unscaled
from meterfold_schemas.usage_rules import metric_key_bytes

BASE = """
id = "id"
timestamp = "at"

[[subjects]]
type = "user"
column = "user"
"""
COLUMNS = ("id", "at", "user", "kind", "amount", "unit", "tags", "region")


def mapping(text: str) -> Mapping:
    return mapping_file.parse(text, "m.toml")


def plan(tables: str, columns: Sequence[str] = COLUMNS, top: str = "") -> Plan:
    return make_plan(columns, mapping(f"{top}\n{BASE}\n{tables}"), {}, "m.toml")


def event(tables: str, **cells: Any) -> dict[str, Any]:
    (found,) = plan(tables).events(row(**cells))
    return found


def row(**cells: Any) -> list[Any]:
    return [{"id": "e1", "at": "t", "user": "ada", **cells}.get(column, "") for column in COLUMNS]


METRIC = '[metric]\nvalue = "m"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id = \n", r"m.toml is not valid TOML: .*line 1"),
        (BASE, r"m.toml: give one of metric, measures; none of them is given"),
        (
            BASE + METRIC + "[quantity]\ncolum = 'x'",
            r"m.toml, line 11: quantity.colum: unknown key; did you mean column",
        ),
        (
            BASE + "[metric]\nvalue = 'Big'",
            r"m.toml, line 9: metric.value: metric_key 'Big' is not 1 to 200 characters",
        ),
        (
            BASE + METRIC + "[quantity]\ncolumn = 'x'\nscale = 0.1",
            r"line 12: .*0.1 must be a number in quotes, such as",
        ),
        (BASE + METRIC + "[quantity]\ncolumn = 'x'\nscale = '0'", r"must be a finite number other than 0"),
        (BASE + METRIC + "[quantity]\ncolumn = 'x'\nunit_column = 'u'", "unit_column and units belong together"),
        (BASE.replace("timestamp", "time"), r"m.toml, line 3: time: unknown key; did you mean timezone|timestamp"),
        (
            BASE + "type_column = 'kind'\n" + METRIC,
            r"m.toml, line 5: subjects.0: give one of type, type_column; type and",
        ),
        ("where = ['kind']" + BASE + METRIC, r"m.toml, line 1: where.0: 'kind' must have the form COLUMN=VALUE"),
        (BASE + METRIC + "strip = 'yes'", "unknown key"),
        ("strip = 'yes'" + BASE + METRIC, r"m.toml, line 1: strip: must be true or false, not 'yes'"),
        (
            BASE + "[[measures]]\nmetric = 'a'\ncolumn = 'x'\n[[measures]]\nmetric = 'a'\ncolumn = 'y'",
            "two measures have the same metric",
        ),
        (
            BASE + METRIC + "[fields]\nresource = 'x'",
            r"m.toml, line 11: fields.resource: unknown field 'resource'; fields",
        ),
        ("id_from = ['a']" + BASE + METRIC, "give one of id, id_from; id and id_from are given"),
        (BASE + "[metric]\ncolumn = 'kind'\nothers = 'skip'", "others needs a table"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        mapping(text)


def test_a_column_that_the_file_lacks_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(WrongInput, match=r"m.toml: quantity: the file has no column 'amonut'; did you mean 'amount'\?"):
        plan(METRIC + "[quantity]\ncolumn = 'amonut'")
    with pytest.raises(WrongInput, match=r"m.toml: where colour=red: the file has no column 'colour'"):
        plan(METRIC, top="where = ['colour=red']")
    assert plan(METRIC + "[fields]\nresource_id = { column = 'gone', optional = true }").events(row())


@given(st.text(max_size=60), st.sampled_from("_.-"))
def test_the_rule_makes_a_metric_key_of_every_text_or_refuses_it(text: str, separator: str) -> None:
    if not any(c.isascii() and (c.isalnum() or c in "_.-") for c in text.lower()):
        with pytest.raises(InvalidUsage, match="translate it with a table"):
            key_of_text(text, separator)
        return
    key = key_of_text(text, separator)
    metric_key_bytes(key)
    assert key_of_text(key, separator) == key


@pytest.mark.parametrize(
    ("metric", "cells", "key"),
    [
        ("column = 'kind'", {"kind": "api.calls"}, "api.calls"),
        ("column = 'kind'\nrule = 'key'", {"kind": "GB Month (Standard)"}, "gb_month_standard"),
        ("column = 'kind'\nrule = 'key'\nseparator = '-'\nprefix = 'aws.'", {"kind": "Box:Usage"}, "aws.box-usage"),
        ("columns = ['kind', 'unit']\nrule = 'key'", {"kind": "Amazon EC2", "unit": "Hrs"}, "amazon_ec2.hrs"),
        ("columns = ['kind', 'unit']\nrule = 'key'", {"kind": "Amazon EC2", "unit": ""}, "amazon_ec2"),
        ("column = 'kind'\n[metric.table]\n'Amazon EC2' = 'ec2'", {"kind": "Amazon EC2"}, "ec2"),
        ("column = 'kind'\nrule = 'key'\n[metric.table]\n'Amazon EC2' = 'ec2'", {"kind": "Amazon S3"}, "amazon_s3"),
    ],
)
def test_metrics_by_table_and_by_rule(metric: str, cells: dict[str, str], key: str) -> None:
    assert event(f"[metric]\n{metric}", **cells)["metric_key"] == key


def test_a_text_that_the_table_lacks_is_refused_or_left_out() -> None:
    table = "[metric]\ncolumn = 'kind'\n{}\n[metric.table]\nEC2 = 'ec2'"
    made = plan(table.format(""))
    with pytest.raises(
        InvalidUsage, match="the table has no entry for 'S3'; add it with --metric-key S3=KEY"
    ) as raised:
        made.events(row(kind="S3"))
    assert made.explained(str(raised.value), row(kind="S3")).startswith("column 'kind': metric_key: the table")
    with pytest.raises(InvalidUsage, match="metric_key is empty"):
        made.events(row(kind=""))
    assert plan(table.format("others = 'skip'")).events(row(kind="S3")) == ()


DECIMALS = st.decimals(-(10**9), 10**9, places=9, allow_nan=False, allow_infinity=False)
FACTORS = st.sampled_from(["1", "1000", "0.001", "1073741824", "0.000000001", "-1", "1e6", "0.333"])


@given(DECIMALS, FACTORS, st.sampled_from(["", "half_even", "half_up"]))
def test_a_scale_multiplies_exactly_or_refuses(value: Decimal, factor: str, rounding: str) -> None:
    tables = f"{METRIC}[quantity]\ncolumn = 'amount'\nscale = '{factor}'\n"
    made = plan(tables + (f"rounding = '{rounding}'" if rounding else ""))
    exact = int(value.scaleb(9)) * int(Decimal(factor).scaleb(12))  # of scale 21
    fits = exact % 10**12 == 0
    if not fits and not rounding:
        with pytest.raises(InvalidUsage, match=r"times .* has more than 9 decimals; round it with --rounding"):
            made.events(row(amount=f"{value:f}"))
        return
    (found,) = made.events(row(amount=f"{value:f}"))
    unscaled, rest = divmod(abs(exact), 10**12)
    up = rest > 5 * 10**11 or (rest == 5 * 10**11 and (rounding == "half_up" or unscaled % 2 == 1))
    assert to_unscaled(found["quantity"]) == (unscaled + up) * (1 if exact >= 0 else -1)
    assert made.tally.rounded == (not fits)


def test_the_roundings_are_those_of_the_sdk() -> None:
    for name in ROUNDINGS:
        assert event(f"{METRIC}[quantity]\ncolumn = 'amount'\nrounding = '{name}'", amount="1")["quantity"] == 1


def test_units_are_factors_by_the_text_of_a_column() -> None:
    units = f"{METRIC}[quantity]\ncolumn = 'amount'\nunit_column = 'unit'\nunits = {{ GB = '1000', MB = 1 }}"
    assert event(units, amount="1.5", unit="GB")["quantity"] == 1500
    assert event(units, amount="1.5", unit="MB")["quantity"] == Decimal("1.5")
    with pytest.raises(
        InvalidUsage, match="quantity has the unit 'TB' in column 'unit', and units has no factor for it"
    ):
        event(units, amount="1", unit="TB")
    with pytest.raises(InvalidUsage, match="quantity is empty"):
        event(units, unit="GB")


MEASURES = """
[[measures]]
metric = "in"
column = "amount"

[[measures]]
metric = "out"
column = "unit"
skip_zero = true
"""


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [("1", "2", [("in", 1), ("out", 2)]), ("0", "0.0", [("in", 0)]), ("", "3", [("out", 3)]), ("", "", [])],
)
def test_the_measures_of_a_row_are_events_with_one_id(amount: str, unit: str, expected: list[tuple[str, int]]) -> None:
    found = plan(MEASURES).events(row(amount=amount, unit=unit))
    assert [(made["metric_key"], made["quantity"]) for made in found] == expected
    assert {made["id"] for made in found} <= {"e1"}


def test_a_measure_that_is_not_a_number_refuses_its_row_and_names_its_column() -> None:
    with pytest.raises(InvalidUsage, match="column 'unit': quantity 'much' is not a decimal number"):
        plan(MEASURES).events(row(amount="1", unit="much"))


@pytest.mark.parametrize(
    ("where", "kinds"),
    [
        (["kind=a"], "a"),
        (["kind=a", "kind=b"], "ab"),
        (["kind!=a"], "bc-"),
        (["kind!=a", "kind!=b"], "c-"),
        (["kind!="], "abc"),
        (["kind="], "-"),
        (["kind=a", "region=eu"], ""),
        (["kind=a", "region!=eu"], "a"),
    ],
)
def test_rows_are_chosen_by_conditions(where: list[str], kinds: str) -> None:
    made = plan(METRIC, top=f"where = {json.dumps(where)}")
    assert "".join(kind for kind in "abc-" if made.events(row(kind=kind.replace("-", ""), region="us"))) == kinds


METADATA = "metadata_from = ['tags']\n"


def test_metadata_comes_from_json_columns_and_from_single_ones() -> None:
    made = plan(METRIC + "[metadata]\nregion = 'region'\nunit = { column = 'unit', json = true }", top=METADATA)
    cells = {"tags": '{"env":"prod","region":"x"}', "region": "eu", "unit": "[1, 2.50]"}
    (found,) = made.events(row(**cells))
    assert found["metadata"] == {"env": "prod", "region": "eu", "unit": [1, 2.5]}
    (bare,) = made.events(row())
    assert "metadata" not in bare
    with pytest.raises(InvalidUsage, match=r"column 'tags': '\[1\]' is not a JSON object"):
        made.events(row(tags="[1]"))
    with pytest.raises(InvalidUsage, match=r"column 'tags': '\{' is not JSON"):
        made.events(row(tags="{"))


TAGGED = (*COLUMNS, "tag/env", "tag/user:team", "tag/", "other/env")


def tagged(tables: str, **cells: Any) -> dict[str, Any]:
    named = {"id": "e1", "at": "t", "user": "ada", "tag/env": "prod", "tag/user:team": "red", **cells}
    (found,) = plan(METRIC + "[metadata]\n" + tables, TAGGED).events([named.get(column, "") for column in TAGGED])
    return found.get("metadata", {})


def test_a_pattern_makes_an_entry_of_every_column_that_matches() -> None:
    assert tagged('"*" = "tag/*"') == {"env": "prod", "user:team": "red"}
    assert tagged('"tag.*" = "tag/*"', **{"tag/env": ""}) == {"tag.user:team": "red"}
    assert tagged('"*.env" = "*/env"', **{"other/env": "x"}) == {"tag.env": "prod", "other.env": "x"}
    assert tagged('"*" = { column = "tag/*", json = true }', **{"tag/env": "[1]", "tag/user:team": "2"}) == {
        "env": [1],
        "user:team": 2,
    }
    # An entry of its own wins, wherever it stands.
    assert tagged('env = "region"\n"*" = "tag/*"', region="eu") == {"env": "eu", "user:team": "red"}
    assert tagged('"*" = { column = "nothing/*", optional = true }') == {}
    with pytest.raises(WrongInput, match=r"metadata.\*: the file has no column that matches 'nothing/\*'"):
        tagged('"*" = "nothing/*"')
    with pytest.raises(WrongInput, match="the columns 'tag/env' and 'other/env' both provide 'env'"):
        tagged('"*" = "tag/*"\n"*v" = "other/*v"')


def test_a_pattern_in_an_option_stands_for_its_columns() -> None:
    columns = ("id", "metric_key", "subject_type", "subject_id", "timestamp", "tag/env", "tag/team", "tag/cost")
    given = {"tag/*": "metadata.tag.*", "tag/cost": "quantity"}
    found = resolve(columns, options(mapping=given))
    assert {name: value.column for name, value in found.metadata.items()} == {
        "tag.env": "tag/env",
        "tag.team": "tag/team",
    }
    assert found.quantity is not None
    assert found.quantity.column == "tag/cost"
    with pytest.raises(WrongInput, match=r"--map x/\*: the file has no column 'x/\*'"):
        resolve(columns, options(mapping={"x/*": "metadata.*"}))


def test_a_single_json_column_is_taken_to_the_digit() -> None:
    text = '{"price": 1.10, "big": 12345678901234567890.123}'
    assert plan(METRIC, top=METADATA).events(row(tags=text))[0]["metadata"] == text


def test_the_subject_is_the_first_column_that_has_one() -> None:
    text = (
        "id = 'id'\ntimestamp = 'at'\n"
        + METRIC
        + "".join(
            f"[[subjects]]\n{subject}\n"
            for subject in (
                "type = 'user'\ncolumn = 'user'",
                "type = 'team'\ncolumn = 'gone'\noptional = true",
                "type_column = 'kind'\ncolumn = 'region'",
                "type = 'organization'\nvalue = 'acme'",
            )
        )
    )
    made = make_plan(COLUMNS, mapping(text), {})

    def subject(**cells: str) -> tuple[str, str]:
        (found,) = made.events(row(**cells))
        return found["subject_type"], found["subject_id"]

    assert subject() == ("user", "ada")
    assert subject(user="", kind="zone", region="eu") == ("zone", "eu")
    assert subject(user="") == ("organization", "acme")
    with pytest.raises(InvalidUsage, match="subject_type is empty"):
        subject(user="", region="eu")


def options(**given_options: Any) -> Options:
    return Options(**{"mapping": {}, "fixed": {}, "id_from": [], "ignore_others": False, **given_options})


FOCUSED = options(base=mapping_file.preset("litellm"), base_name="preset litellm")
SPEND = (
    "request_id",
    "startTime",
    "user",
    "api_key",
    "prompt_tokens",
    "completion_tokens",
    "spend",
    "model",
    "call_type",
)


def changed(**given_options: Any) -> Mapping:
    base = {"base": FOCUSED.base, "base_name": FOCUSED.base_name}
    return resolve((*SPEND, "metadata", "tenant"), options(**given_options, **base))


def test_options_change_a_mapping() -> None:
    kept = changed()
    assert kept == FOCUSED.base
    assert changed(fixed={"org_id": "acme"}).fields["org_id"].value == "acme"
    assert changed(mapping={"tenant": "org_id"}).fields["org_id"].column == "tenant"
    assert changed(where=["call_type=chat"]).where == ("call_type=chat",)
    assert changed(id_from=["user", "startTime"]).id is None
    assert [s.column for s in changed(subjects=[("tenant", "tenant")]).subjects] == ["tenant"]
    assert changed(mapping={"metadata": "metadata", "tenant": "metadata.tenant"}).metadata_from[0].column == "metadata"
    assert changed(time_format="unix").timestamp.format == "unix"
    assert changed(time_format="unix").timestamp.timezone == "UTC"
    refusing = changed(rounding="refuse")
    assert {measure.rounding for measure in refusing.measures} == {None}
    assert [m.metric for m in changed(measures=[("tokens", "prompt_tokens")]).measures] == ["tokens"]
    with pytest.raises(WrongInput, match="the mapping has 4 subjects, so one part of one cannot be replaced"):
        changed(fixed={"subject_type": "team"})
    assert changed(fixed={"subject_type": "team", "subject_id": "red"}).subjects[0].value == "red"


def test_another_column_keeps_how_the_quantity_is_read() -> None:
    base = mapping(BASE + METRIC + "[quantity]\ncolumn = 'amount'\nscale = '0.001'\nrounding = 'half_up'")
    changed_base = resolve((*COLUMNS, "n"), options(base=base, base_name="m.toml", mapping={"n": "quantity"}))
    assert changed_base.quantity == model.Quantity.model_validate(
        {"column": "n", "scale": "0.001", "rounding": "half_up"}
    )


@pytest.mark.parametrize(
    ("columns", "given_options", "message"),
    [
        (("id", "at", "user"), {"measures": [("m", "gone")]}, "--measure gone: the file has no column"),
        (("id", "at", "user"), {"where": ["gone=1"]}, "--where gone: the file has no column"),
        (("id", "at", "user"), {"metric_table": {"a": "b"}}, "--metric-key needs a column of metrics"),
        (
            ("id", "at", "user", "kind"),
            {"metric_table": {"a": "B"}, "mapping": {"kind": "metric_key"}},
            "--metric-key: metric_",
        ),
        (("id", "at", "user", "n"), {"measures": [("M", "n")]}, "--measure: metric_key 'M' is not"),
        (("id", "at", "user"), {"scale": "many"}, "--scale: 'many' is not a number"),
        (
            ("id", "at", "user", "n"),
            {"measures": [("m", "n")], "fixed": {"metric_key": "m"}},
            "--measure gives the metric",
        ),
    ],
)
def test_a_wrong_option_is_named(columns: tuple[str, ...], given_options: dict[str, Any], message: str) -> None:
    wanted: dict[str, Any] = {"mapping": {}, "fixed": {}, **given_options}
    wanted["mapping"] = {"at": "timestamp", "user": "subject_id", **wanted["mapping"]}
    wanted["fixed"] = {"subject_type": "user", **wanted["fixed"]}
    if "measures" not in wanted and "kind" not in columns:
        wanted["fixed"]["metric_key"] = "m"
    with pytest.raises(WrongInput, match=message):
        resolve(columns, options(**wanted))


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)


@given(st.dictionaries(TEXTS, TEXTS, max_size=3), TEXTS, st.sampled_from(list(mapping_file.presets())))
def test_a_mapping_that_is_written_is_read_back(table: dict[str, str], text: str, name: str) -> None:
    base = mapping_file.preset(name).plain()
    base.pop("measures", None)
    metric = {"column": text, "table": dict.fromkeys(table, "m")}
    metadata = {key: {"column": value} for key, value in table.items()}
    made = Mapping.model_validate({**base, "metric": metric, "description": text, "metadata": metadata})
    assert mapping_file.parse(mapping_file.text_of(made), "m") == made


def test_a_written_mapping_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    mapping_file.write(mapping_file.preset("litellm"), path)
    assert mapping_file.read(path) == mapping_file.preset("litellm")
    with pytest.raises(WrongInput, match="the file exists; choose another name or delete it"):
        mapping_file.write(mapping_file.preset("focus-1.3"), path)
    with pytest.raises(WrongInput, match=r"gone.toml cannot be read: No such file"):
        mapping_file.read(tmp_path / "gone.toml")
    with pytest.raises(WrongInput, match=r"--preset 'focus' is unknown; give one of aws-cur"):
        mapping_file.preset("focus")


ANYTHING = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text("abM1._ \"'=!", max_size=4) | st.sampled_from(["a", "user", "key"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*KEYS, "x", "a.b"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def tried(kind: type[Exception], function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """(result, text of the error)"""
    try:
        return function(*arguments), ""
    except kind as error:
        return None, str(error)


WHOLE = {"id": "id", "timestamp": "at", "subjects": [{"type": "user", "column": "user"}], "metric": {"value": "m"}}


@given(st.dictionaries(st.sampled_from([*Mapping.model_fields, "x"]), ANYTHING, max_size=5), st.booleans())
def test_any_file_is_a_mapping_or_an_error_that_names_it(values: dict[str, Any], complete: bool) -> None:
    given_values = {**WHOLE, **values} if complete else values
    text = "\n".join(f"{name} = {mapping_file._value(value)}" for name, value in given_values.items())
    made, error = tried(WrongInput, mapping_file.parse, text, "m.toml")
    if made is None:
        assert error.startswith("m.toml")
        return
    assert mapping_file.parse(mapping_file.text_of(made), "again") == made
    planned, error = tried(WrongInput, make_plan, COLUMNS, made, {}, "m.toml")
    assert error.startswith("m.toml: ") if planned is None else planned.used <= set(COLUMNS)


CELLS = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(['{"a":1}', "[1]", "1.5"])


@given(st.lists(CELLS, min_size=len(COLUMNS), max_size=len(COLUMNS)))
def test_any_row_is_events_or_a_refusal(cells: list[Any]) -> None:
    """Of a mapping that uses every kind of source."""
    made = plan(
        MEASURES + "[fields]\nsource = { column = 'kind', default = 'none' }\n"
        "[metadata]\nregion = 'region'\nkind = { column = 'kind', json = true }",
        top="metadata_from = ['tags']\nstrip = true\nwhere = ['region!=us']",
    )
    found, error = tried(InvalidUsage, made.events, cells)
    if found is None:
        assert made.explained(error, cells)
        return
    assert len(found) <= 2
    assert {event["metric_key"] for event in found} <= {"in", "out"}
