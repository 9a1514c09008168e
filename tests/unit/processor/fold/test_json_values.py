"""JSON and CloudEvents decode to the same rows as Avro, and to the same verdicts as the reader of one message."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from meterfold_processor.fold import json_index, json_values
from meterfold_processor.fold.decode import FIELDS, decode
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.schemas import Schemas
from meterfold_processor.fold.validate import invalid
from meterfold_schemas import usage_vectors
from meterfold_schemas.errors import Poison
from meterfold_schemas.framing import encode
from meterfold_schemas.periods import from_micros, micros
from meterfold_schemas.quantities import MAX_STORED, exact_unscaled, to_decimal
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import NAMES
from support.seeds import seed_of

PLAIN = {
    "id": "e1",
    "metric_key": "api.calls",
    "subject_type": "user",
    "subject_id": "ada",
    "quantity": 1,
    "timestamp": "2026-11-22T09:30:00Z",
}
AVRO = UsageRecorded(
    id="avro",
    metric_key="api.calls",
    subject_type="user",
    subject_id="ada",
    quantity=Decimal("-2.5"),
    timestamp=datetime(2026, 11, 22, tzinfo=UTC),
)


def consumed(values: list[bytes]) -> Consumed:
    size = len(values)
    where = np.zeros(size, np.int64)
    return Consumed(where, np.arange(size), where, [b"k"] * size, values)


def rows(*values: bytes) -> list[dict[str, Any]]:
    return decode(consumed(list(values))).frame.rows(named=True)


def as_json(fields: dict[str, Any], **how: Any) -> bytes:
    return json.dumps(fields, **how).encode()


def as_cloud_event(fields: dict[str, Any], *, moved: bool = True, **how: Any) -> bytes:
    """`moved`: id, timestamp and source are in the envelope alone."""
    data = dict(fields)
    envelope = {"specversion": "1.0", "type": "usage.recorded", "source": "/app", "id": "envelope"}
    if moved:
        envelope |= {"id": data.pop("id"), "time": data.pop("timestamp")}
        if data.get("source") is not None:
            envelope["source"] = data.pop("source")
        else:
            data["source"] = "/app"
    return json.dumps({**envelope, "extension": {"a": [1, "}"]}, "data": data}, **how).encode()


def verdict_of_one(value: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """(reason, fields) as the reader of one message says."""
    try:
        event = UsageRecorded.from_bytes(value)
    except Poison as poison:
        return poison.reason, None
    return None, {name: getattr(event, name) for name in NAMES}


def verdict_of_columns(row: dict[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """The same from a row of the batch, with the rules of the fold."""
    frame = pl.DataFrame([row], schema_overrides={**FIELDS, "detail": pl.String, "reason": pl.String})
    broken = invalid(frame)[0]
    reason = row["reason"] or ("invalid" if broken is not None else None)
    return reason, None if reason else {name: row[name] for name in NAMES}


def test_every_test_vector_decodes_to_the_row_of_its_avro_value() -> None:
    for vector in usage_vectors.stored():
        fields = {**vector.fields, "timestamp": from_micros(vector.fields["timestamp"]).isoformat()}
        (expected,) = rows(vector.value)
        found = rows(as_json(fields), as_json(fields, ensure_ascii=False), as_json(fields, indent=2))
        found += rows(as_cloud_event({**fields, "source": fields.get("source") or "x"}))
        for row in found[:3]:
            assert {name: row[name] for name in NAMES} == {name: expected[name] for name in NAMES}, vector.case
        assert found[3]["source"] == (fields.get("source") or "x")
        assert (found[3]["id"], found[3]["timestamp"]) == (expected["id"], expected["timestamp"])


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", '"', "\\", '\\"', "{", "}]", "\0", "null", "a,b:c", "\u2028", "\x7f", "x" * 513, "\\u0041", "{}"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {
        "id": TEXT,
        "org_id": TEXT,
        "metric_key": st.sampled_from(["api.calls", "API", "", "k" * 201]),
        "subject_type": TEXT,
        "subject_id": TEXT,
        "quantity": (st.integers(-MAX_STORED, MAX_STORED) | st.integers(-(10**11), 10**11)).map(to_decimal)
        | st.sampled_from(
            [Decimal(n) for n in ("0", "-0.000000001", "99999999999999999999.999999999", "1e20", "1e28")]
        ),
        "source": st.none() | TEXT,
        "resource_type": st.none() | TEXT,
        "resource_id": st.none() | TEXT,
        "metadata": st.none() | st.dictionaries(TEXT, JSON, max_size=3) | TEXT,
        "timestamp": st.integers(-(2**51), 2**52).map(from_micros),
    }
)
ZONES = [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=3, minutes=30))]


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(EVENTS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_an_event_decodes_to_the_same_row_and_verdict_in_every_format(
    events: list[dict[str, Any]], rng: random.Random
) -> None:
    avro, plain, enveloped = [], [], []
    for event in events:
        metadata = event["metadata"]
        text = json.dumps(metadata) if isinstance(metadata, dict) else metadata
        record = {**event, "metadata": text, "quantity": exact_unscaled(event["quantity"])}
        avro.append(encode("usage_recorded", {**record, "timestamp": micros(event["timestamp"])}))
        number = f"{event['quantity']:.9f}"
        fields: dict[str, Any] = {
            **event,
            "quantity": rng.choice([number, number.rstrip("0") + "0", number + "0000"]),
            "timestamp": event["timestamp"].astimezone(rng.choice(ZONES)).isoformat(timespec="microseconds"),
        }
        fields = {name: value for name, value in fields.items() if value is not None or rng.random() < 0.5}
        if not event["org_id"] and rng.random() < 0.5:
            del fields["org_id"]
        shuffled = dict(rng.sample(list(fields.items()), len(fields)))
        how = {"indent": rng.choice([None, 1]), "ensure_ascii": rng.random() < 0.5}
        plain.append(_with_number(as_json(shuffled, **how), fields["quantity"], rng))
        enveloped.append(_with_number(as_cloud_event(shuffled, moved=False, **how), fields["quantity"], rng))
    expected = [verdict_of_columns(row) for row in rows(*avro)]
    for others in (plain, enveloped):
        found = rows(*others)
        for want, value, row in zip(expected, others, found, strict=True):
            reason, got = verdict_of_columns(row)
            if want[1] is not None and want[1]["source"] is None and others is enveloped:
                want = None, {**want[1], "source": "/app"}
            assert (reason, got) == _reformatted(want, got), value
            assert verdict_of_one(value) == (reason, got), value
    mixed = [value for three in zip(avro, plain, enveloped, strict=True) for value in three]
    assert rows(*mixed)[1::3] == [{**row, **_place(n)} for n, row in zip(range(1, 99, 3), rows(*plain), strict=False)]


def _reformatted(want: Any, got: Any) -> Any:
    """An object keeps its own text, which an indented document spaces differently."""
    if want[1] is None or got is None or want[1]["metadata"] is None or not isinstance(got["metadata"], str):
        return want
    if json.loads(want[1]["metadata"]) == json.loads(got["metadata"]):
        return want[0], {**want[1], "metadata": got["metadata"]}
    return want


def _place(row: int) -> dict[str, int]:
    return {"row": row, "offset": row}


def _with_number(value: bytes, quantity: str, rng: random.Random) -> bytes:
    """The quantity as a JSON number instead of text, every other time."""
    text = f'"quantity": "{quantity}"'.encode()
    return value.replace(text, text.replace(b'"' + quantity.encode() + b'"', quantity.encode()), rng.randrange(2))


REFUSED = [
    (b"{", "not one JSON object"),
    (b"{}", "id is missing"),
    (b'{"id":"a"}{"id":"b"}', "not one JSON object"),
    (as_json(PLAIN) + b"," + as_json(PLAIN), "not one JSON object"),
    (as_json(PLAIN)[:-1] + b',"id":"again"}', "the field 'id' is there twice"),
    (as_json({**PLAIN, "recource_id": "r"}), "the field 'recource_id' is unknown"),
    (as_json({**PLAIN, "recource_id": None}), "the field 'recource_id' is unknown"),
    (as_cloud_event({**PLAIN, "recource_id": None}), "the field 'recource_id' is unknown"),
    (as_json({**PLAIN, "id": 7}), "id must be text, not 7"),
    (as_json({**PLAIN, "source": ["a"]}), "source must be text"),
    (as_json({**PLAIN, "quantity": True}), "quantity true must be a number or decimal text"),
    (as_json({**PLAIN, "quantity": {"n": 1}}), "must be a number or decimal text"),
    (as_json(PLAIN).replace(b'"quantity": 1', b'"quantity": NaN'), "not one JSON object"),
    (as_json(PLAIN).replace(b'"quantity": 1', b'"quantity": 1e999'), "not one JSON object"),
    (as_json({**PLAIN, "timestamp": 1763800000}), "ISO 8601"),
    (as_json({**PLAIN, "timestamp": "2026-11-22T09:30:00"}), "ISO 8601"),
    (as_json({**PLAIN, "timestamp": "2026-02-30T09:30:00Z"}), "ISO 8601"),
    (as_json({**PLAIN, "timestamp": "2026-11-22T24:00:00Z"}), "ISO 8601"),
    (as_json({**PLAIN, "timestamp": "2026-11-22T09:30:60Z"}), "ISO 8601"),
    (as_json({**PLAIN, "id": "\ud800"}), "not one JSON object"),
    (as_json({**PLAIN, "id": "x"}).replace(b"x", b"\xff"), "not one JSON object"),
    (as_cloud_event(PLAIN).replace(b'"1.0"', b'"0.3"'), "specversion '0.3' instead of '1.0'"),
    (as_cloud_event(PLAIN).replace(b"usage.recorded", b"api.calls"), "type"),
    (as_cloud_event(PLAIN).replace(b'"data"', b'"data_base64"'), "no JSON object as data"),
    (as_cloud_event({**PLAIN, "unknown": 1}), "the field 'unknown' is unknown"),
]


@pytest.mark.parametrize(("value", "detail"), REFUSED)
def test_a_value_that_is_no_event_is_refused_between_its_neighbours(value: bytes, detail: str) -> None:
    before, bad, after, avro = rows(as_json(PLAIN), value, as_cloud_event(PLAIN), AVRO.to_bytes())
    assert (bad["reason"], before["reason"], after["reason"], avro["reason"]) == ("undecodable", None, None, None)
    assert detail in bad["detail"]
    assert [bad[name] for name in NAMES] == [None] * len(NAMES)
    assert (before["id"], after["id"], avro["id"]) == ("e1", "e1", "avro")
    assert verdict_of_one(value) == ("undecodable", None)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("1e-7", "0.0000001"),
        ("1E+3", "1000"),
        ("-0", "0"),
        ("0.1", "0.1"),
        ("99999999999999999999.999999999", "99999999999999999999.999999999"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ('"+1.50"', "1.5"),
        ('".5"', "0.5"),
        ('"5."', "5"),
        ('"007"', "7"),
        ("1.0000000000000", "1"),
        ("0.30000000000000004", None),
        ("1e-10", None),
        ("1e20", None),
        ("1e300", None),
        ("1e00001", None),
        ('"1,5"', None),
        ('"NaN"', None),
        ('""', None),
        ("123456789012345678901234567890", None),
    ],
)
def test_a_quantity_is_exact_or_refused(quantity: str, expected: str | None) -> None:
    value = as_json(PLAIN).replace(b'"quantity": 1', b'"quantity": ' + quantity.encode())
    (row,) = rows(value)
    reason, fields = verdict_of_columns(row)
    if expected is None:
        assert reason == "invalid"
    else:
        assert fields is not None
        assert fields["quantity"] == Decimal(expected)
    assert verdict_of_one(value) == (reason, fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22t09:30:00z", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("2026-11-22 09:30:00.5+05:45", datetime(2026, 11, 22, 3, 45, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T09:30:00.123456789Z", datetime(2026, 11, 22, 9, 30, 0, 123_456, tzinfo=UTC)),
        ("0001-01-02T00:00:00Z", datetime(1, 1, 2, tzinfo=UTC)),
        ("9999-12-30T23:59:59.999999999-00:00", datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_timestamp_is_read_to_the_microsecond(text: str, expected: datetime) -> None:
    value = as_json({**PLAIN, "timestamp": text})
    assert rows(value)[0]["timestamp"] == expected
    assert UsageRecorded.from_bytes(value).timestamp == expected


PLAINLY_WRITTEN = st.fixed_dictionaries(
    {
        "id": TEXT,
        "org_id": st.none() | TEXT,
        "metric_key": st.sampled_from(["api.calls", "API"]),
        "subject_type": TEXT,
        "subject_id": TEXT,
        "quantity": st.from_regex(r"-?[0-9]{1,19}(\.[0-9]{1,9})?", fullmatch=True),
        "metadata": st.none() | st.dictionaries(TEXT, JSON, max_size=2),
        "timestamp": st.from_regex(
            r"[12][0-9]{3}-(0[1-9]|1[0-2])-([0-2][1-9]|3[01])T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,6})?"
            r"(Z|[+-][0-2][0-9]:[0-6][0-9])",
            fullmatch=True,
        ),
    }
)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(PLAINLY_WRITTEN, min_size=1, max_size=3))
def test_what_is_read_the_fast_way_is_read_alike_the_other_way(events: list[dict[str, Any]]) -> None:
    values = [as_json(event) for event in events]
    fast = json_values.read(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_plain", lambda _: None)
        assert json_values.read(values).equals(fast)
    assert fast.schema == json_values.read([as_json(PLAIN).replace(b"T", b" ")]).schema
    assert [verdict_of_columns(row) for row in fast.rows(named=True)] == [verdict_of_one(value) for value in values]


def test_plain_numbers_and_times_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_without_exponents", lambda _: pytest.fail("the thorough way"))
    events = [{**PLAIN, "quantity": n, "org_id": "a"} for n in (1, -2.5, "999999999999999999.123456789")]
    events += [{**PLAIN, "timestamp": f"2026-11-22T09:30:00{part}Z"} for part in ("", ".5", ".123456")]
    events += [{**PLAIN, "timestamp": f"2026-11-22T09:30:00{zone}"} for zone in ("+00:00", "-23:59")]
    quantities = [row["quantity"] for row in json_values.read(list(map(as_json, events))).rows(named=True)]
    assert quantities[:3] == [Decimal(1), Decimal("-2.5"), Decimal("999999999999999999.123456789")]


def test_many_messages_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_AT_ONCE", 3)
    values = [as_json({**PLAIN, "id": f"e{n}"}) for n in range(10)]
    values[3], values[5], values[9] = b"{", as_cloud_event({**PLAIN, "id": "e5"}), b'{"id":null}'
    assert json_values.read(values)["id"].to_list() == ["e0", "e1", "e2", None, "e4", "e5", "e6", "e7", "e8", None]


def test_metadata_keeps_every_digit() -> None:
    metadata = '{"b":123456789012345678901234567890, "a":[1.0,1e3,0.10],"\\u00e9":"\\/"}'
    value = as_json(PLAIN)[:-1] + b',"metadata":' + metadata.encode() + b"}"
    assert rows(value)[0]["metadata"] == metadata
    assert UsageRecorded.from_bytes(value).metadata == metadata
    assert rows(as_json({**PLAIN, "metadata": metadata}))[0]["metadata"] == metadata


def test_the_first_decoder_version_reads_no_json() -> None:
    frame = decode(consumed([as_json(PLAIN), AVRO.to_bytes()]), Schemas(json=False)).frame
    assert frame["reason"].to_list() == ["undecodable", None]
    assert frame["detail"][0] == "the bytes do not begin with c3 01; publish Avro in single-object encoding"


def damaged(rng: random.Random, value: bytes) -> bytes:
    """A byte of JSON's own characters written over one, put in, or left out, or the end cut off."""
    at = rng.randrange(1, len(value))
    byte = bytes([rng.choice(b'{}[]",:\\ \n0e-.nt\xff\x00u')])
    return rng.choice(
        [value[:at] + byte + value[at + 1 :], value[:at] + byte + value[at:], value[:at] + value[at + 1 :], value[:at]]
    )


def neighbours(read: Callable[[list[bytes]], pl.DataFrame]) -> list[str]:
    """What is wrong when damaged messages stand among sound ones: each must get the verdict that it gets alone."""
    rng = random.Random(seed_of("json neighbours"))
    found = []
    fields = {**PLAIN, "source": 'a"b\\', "metadata": {"a": [1, {"b": "}"}]}, "org_id": "\u00e9\n"}
    for _ in range(40):
        values = [rng.choice([as_json, as_cloud_event])({**fields, "id": f"e{n}"}) for n in range(12)]
        values = [damaged(rng, value) if rng.random() < 0.5 else value for value in values]
        values = [value if value.startswith(b"{") else b"{" for value in values]
        frame = read(values)
        for value, row in zip(values, frame.rows(named=True), strict=True):
            if verdict_of_columns(row) != verdict_of_one(value):
                found.append(f"{value!r}: {verdict_of_columns(row)}, alone {verdict_of_one(value)}")
    return found


def test_a_damaged_message_never_changes_its_neighbours() -> None:
    assert neighbours(json_values.read) == []


def test_a_reader_that_trusts_every_document_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proof that each document is whole, an open string or bracket shifts what comes after it."""

    monkeypatch.setattr(json_values, "_is_one_object", lambda text: text.is_not_null())

    def trusting(documents: list[bytes]) -> pl.DataFrame:
        try:
            return json_values.read(documents)
        except Exception:  # what comes of it has no meaning
            return json_values.read([b"{}"] * len(documents))

    assert neighbours(trusting)


def test_escapes_and_structure_are_found_as_a_parser_finds_them() -> None:
    rng = random.Random(seed_of("json index"))
    documents = []
    for _ in range(200):
        text = "".join(rng.choice('\\"{}[]:, nu\u00e9\U0001f389') for _ in range(rng.randrange(12)))
        document = {f"k{text}": [text, {"x": text}], "b": text, "c": {text: text, "d": 1}, text[:1]: rng.random()}
        documents.append(json.dumps(document, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2])).encode())
    index = json_index.JsonIndex(documents)
    for depth in (1, 2):
        members = index.members(depth)
        found: dict[int, list[tuple[str, Any]]] = {}
        for row, (name, is_text, value) in zip(members.row, members.cells.iter_rows(), strict=True):
            found.setdefault(int(row), []).append((name, value if is_text else json.loads(value)))
        for row, document in enumerate(documents):
            parsed = json.loads(document)
            inner = [one for one in parsed.values() if isinstance(one, dict)]
            expected = [parsed] if depth == 1 else inner
            assert found.get(row, []) == [pair for one in expected for pair in one.items()]
