"""The events of a request as messages: the same events as the fold reads from JSON, or the field and the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold.recorder import Recorder
from meterfold.subjects import Resolvers
from meterfold_schemas.errors import Poison
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import NAMES
from meterfold_service.http.event_requests import documents_in
from meterfold_service.ingest.batches import Batch, batch_of
from meterfold_service.ingest.documents import RepeatedField, documents_of, written
from meterfold_service.ingest.errors import TooManyEvents, UnreadableBody

EVENT = {
    "id": "r-1",
    "metric_key": "api.calls",
    "subject_type": "user",
    "subject_id": "ada",
    "quantity": 1,
    "timestamp": "2026-11-22T09:30:00Z",
}


def encoder() -> Recorder:
    return Recorder("", Resolvers())


def batch(body: str | bytes, org_id: str | None = None, **headers: str) -> Batch:
    raw = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return batch_of(documents_in(named, raw, 1000), encoder(), org_id)


def events(found: Batch) -> list[UsageRecorded]:
    return [UsageRecorded.from_bytes(value) for value in found.values]


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"quantity": "much"}, "quantity", "INVALID_USAGE"),
        ({"quantity": True}, "quantity", "INVALID_USAGE"),
        ({"quantity": 1e400}, None, None),
        ({"quantity": []}, "quantity", "INVALID_USAGE"),
        ({"metric_key": "API"}, "metric_key", "INVALID_USAGE"),
        ({"metric_key": None}, "metric_key", "INVALID_USAGE"),
        ({"subject_type": ""}, "subject_type", "INVALID_USAGE"),
        ({"subject_id": 1.5}, "subject_id", "INVALID_USAGE"),
        ({"subject_id": "x" * 513}, "subject_id", "INVALID_USAGE"),
        ({"id": ""}, "id", "INVALID_USAGE"),
        ({"id": ["a"]}, "id", "INVALID_USAGE"),
        ({"timestamp": "2026-11-22"}, "timestamp", "INVALID_USAGE"),
        ({"timestamp": 1764750600}, "timestamp", "INVALID_USAGE"),
        ({"source": "a\0b"}, "source", "INVALID_USAGE"),
        ({"source": "\ud800"}, "source", "INVALID_USAGE"),
        ({"resource_id": {}}, "resource_id", "INVALID_USAGE"),
        ({"metadata": [1]}, "metadata", "INVALID_USAGE"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata", "INVALID_USAGE"),
        ({"org_id": "other"}, "org_id", "FORBIDDEN"),
        ({"color": 1}, None, "INVALID_USAGE"),
    ],
)
def test_a_refused_event_names_the_field_and_leaves_its_neighbours_alone(
    change: dict[str, Any], field: str | None, code: str | None
) -> None:
    body = json.dumps([{**EVENT, "id": "before"}, {**EVENT, **change}, {**EVENT, "id": "after"}])
    if code is None:  # Infinity is not JSON
        with pytest.raises(UnreadableBody):
            batch(body)
        return
    found = batch(body, "acme")
    assert [event.id for event in events(found)] == ["before", "after"]
    assert {event.org_id for event in events(found)} == {"acme"}
    (refusal,) = found.refused.values()
    assert (refusal.field, refusal.code) == (field, code), refusal
    assert found.rows == [0, 2]


def test_a_quantity_is_read_digit_by_digit() -> None:
    for text in ("12345678901234567890.123456789", "0.1", "-1e-9", "1E3", "99999999999999999999"):
        (event,) = events(batch(json.dumps(EVENT).replace('"quantity": 1', f'"quantity": {text}')))
        assert f"{event.quantity:f}" == f"{UsageRecorded.of({**vars_of(event), 'quantity': text}).quantity:f}"
    for text in ("0.30000000000000004", "1e400", "123456789012345678901"):
        found = batch(json.dumps(EVENT).replace('"quantity": 1', f'"quantity": {text}'))
        assert found.refused[0].field == "quantity"


def vars_of(event: UsageRecorded) -> dict[str, Any]:
    return {name: getattr(event, name) for name in NAMES}


def test_a_repeated_event_is_sent_once_and_one_without_an_id_gets_one() -> None:
    no_id = {name: value for name, value in EVENT.items() if name != "id"}
    found = batch(json.dumps([EVENT, no_id, no_id, EVENT, {**EVENT, "subject_id": "bob"}, {**EVENT, "quantity": 9}]))
    assert len(set(found.ids)) == 3
    assert found.repeats == {3: 0, 5: 0}
    assert found.rows == [0, 1, 2, 4]


def test_a_field_that_comes_twice_is_refused_wherever_it_decides() -> None:
    whole = json.dumps(EVENT)
    twice = whole.replace('"quantity": 1', '"quantity": 1, "quantity": 2')
    spaced = whole.replace('"quantity": 1', '"quantity" : 1, "quantity" : 2')
    hidden = whole.replace('"r-1"', '"a\\\\"').replace('"quantity": 1', '"quantity": 1, "quantity": 2')
    for body in (twice, spaced, hidden):
        assert batch(f"[{body}, {whole}]").rows == [1]
        assert "quantity" in batch(body).refused[0].detail
    enveloped = json.dumps({"specversion": "1.0", "type": "usage.recorded", "id": "a", "data": 0})
    assert batch(enveloped.replace(": 0", f": {twice}")).refused[0].detail.startswith("data has the field 'quantity'")
    # In a text it is no field.
    quoted = {**EVENT, "source": '"quantity": 3', "metadata": {"a": '{"b": 1, "b": 2}', "c": {"d": [{"e": 1}]}}}
    assert batch(json.dumps(quoted)).rows == [0]


def test_a_cloud_event_is_read_as_the_fold_reads_it() -> None:
    data = {name: EVENT[name] for name in ("metric_key", "subject_type", "subject_id", "quantity")}
    whole = {
        "specversion": "1.0",
        "type": "usage.recorded",
        "source": "gateway",
        "id": "ce-1",
        "time": "2026-11-22T09:30:00.1234567+01:00",
        "subject": "ignored",
        "data": data,
    }
    (sent,) = events(batch(json.dumps(whole)))
    assert sent == UsageRecorded.from_bytes(json.dumps(whole).encode())
    headers = {f"ce_{name}": value for name, value in whole.items() if name != "data"}
    (binary,) = events(batch(json.dumps(data), **headers, content_type="application/json"))
    assert binary == sent
    for change in ({"type": "other"}, {"specversion": "0.3"}, {"data": "x"}, {"id": 7}):
        assert batch(json.dumps({**whole, **change})).refused


_texts = st.text(max_size=8)
_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**21), 10**21),
    st.floats(allow_nan=False, allow_infinity=False),
    _texts,
    st.sampled_from(["2026-11-22T09:30:00Z", "2026-11-22t09:30:00.5-05:00", "1.5", "api.calls"]),
    st.dictionaries(_texts, st.integers() | _texts, max_size=2),
)
_documents = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(NAMES, _values), "specversion": st.just("1.0"), "unknown": st.just(1)}
)


@given(_documents | st.dictionaries(_texts, _values, max_size=3), st.booleans())
def test_what_the_fold_would_count_is_accepted_and_is_the_same_event(document: dict[str, Any], whole: bool) -> None:
    document = {**EVENT, **document} if whole else document
    raw = json.dumps(document).encode()
    found = batch(raw)
    try:
        expected = UsageRecorded.from_bytes(raw)
    except Poison:
        return  # here an id and a timestamp may be missing, and ids may be integers
    (event,) = events(found)
    assert (event.identity, event.quantity, event.timestamp) == (
        expected.identity,
        expected.quantity,
        expected.timestamp,
    )
    assert json.loads(event.metadata or "null") == json.loads(expected.metadata or "null")


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b"NaN", b"[1" * 100_000, b"9" * 5_000, b"[]"])
def test_an_unreadable_body_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        documents_in({}, body, 1000)


def test_the_number_of_events_is_bounded() -> None:
    assert len(documents_of(b"[1, 2]")) == 2
    with pytest.raises(TooManyEvents, match="2 events; at most 1"):
        documents_in({}, b"[1, 2]", 1)


@pytest.mark.parametrize(
    "text",
    ["1", "-0", "18446744073709551615", "18446744073709551616", "0.10", "1.5e3", "100000000000000000000.5", '"0.10"'],
)
def test_a_number_is_read_as_it_is_written_by_either_reader(text: str) -> None:
    whole = f'[{{"a": {{"b": [{text}]}}, "quantity": {text}}}]'
    expected = json.loads(whole, parse_float=str, parse_int=str)
    (found,) = documents_of(whole.encode())
    for value, one in ((found["quantity"], expected[0]["quantity"]), (found["a"]["b"][0], expected[0]["a"]["b"][0])):
        assert str(written(value)) == ("0" if one == "-0" else one)


def test_a_field_that_is_there_twice_is_seen_by_either_reader() -> None:
    for number in ("1", "1.5"):
        (found,) = documents_of(b'{"a": 1, "a": 2, "b": %s}' % number.encode())
        assert isinstance(found, RepeatedField)


@pytest.mark.parametrize("depth", range(800, 1100, 10))
def test_a_body_of_any_depth_is_read_or_refused(depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    try:
        found = batch(json.dumps(EVENT)[:-1] + f', "metadata": {nested}}}')
    except UnreadableBody as error:
        assert "nested too deeply" in str(error)  # noqa: PT017
    else:
        assert found.rows == [0] or found.refused[0].field == "metadata"


def test_an_event_with_the_names_of_one_before_is_checked_as_that_one() -> None:
    found = batch(json.dumps([EVENT, {**EVENT, "id": None}, {**EVENT, "metric_key": None}, {**EVENT, "quantity": "x"}]))
    assert found.rows == [0, 1]
    assert [found.refused[row].field for row in (2, 3)] == ["metric_key", "quantity"]
