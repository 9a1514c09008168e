"""`record` and `record_batch` up to the sender: every event has its own result, and tables are read as they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from meterfold import BatchResults, BufferFull, InvalidUsage, Meter, Recorded, Subject
from meterfold.transport import Transport
from meterfold_schemas.usage import UsageRecorded

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


class Kept:
    """In the place of the sender: keeps what it is given, and is full from `room` on."""

    def __init__(self) -> None:
        self.sent: list[UsageRecorded] = []
        self.room = 10**9
        self.waits: list[float | None] = []

    def send(self, key: bytes, value: bytes, wait: float | None = None, on_report: object = None) -> None:
        self.waits.append(wait)
        if len(self.sent) >= self.room:
            raise BufferFull("full")
        event = UsageRecorded.from_bytes(value)
        assert event.key == key
        self.sent.append(event)


@pytest.fixture(scope="module")
def meter() -> Iterator[Meter]:
    with Meter("localhost:1", org_id="acme", resolver=resolver) as made:
        yield made


@pytest.fixture
def kept(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept()
    monkeypatch.setattr(meter._transport, "send", kept.send)
    monkeypatch.setattr(meter._transport, "send_many", partial(Transport.send_many, meter._transport))
    return kept


class User:
    def __init__(self, name: str) -> None:
        self.name = name


def resolver(thing: object) -> Subject | None:
    if isinstance(thing, User):
        if thing.name == "broken":
            raise RuntimeError("no such user")
        return Subject("user", thing.name, "their-org")
    return "nonsense" if thing == "nonsense" else None  # type: ignore[return-value]


def event(**changes: Any) -> dict[str, Any]:
    return {"metric_key": "api.calls", "subject_type": "user", "subject_id": "u-1", **changes}


def test_an_event_with_nothing_but_a_subject(meter: Meter, kept: Kept) -> None:
    before = datetime.now(UTC)
    event_id = meter.record("api.calls", ("user", "u-1"))
    (sent,) = kept.sent
    assert (sent.id, sent.org_id, sent.quantity) == (event_id, "acme", 1)
    assert UUID(event_id).version == 7
    assert before - timedelta(milliseconds=1) <= sent.timestamp <= datetime.now(UTC)


def test_an_event_with_everything(meter: Meter, kept: Kept) -> None:
    given = meter.record(
        "api.calls",
        Subject("user", "u-1"),
        Decimal("2.5"),
        id="mine",
        timestamp=NOW,
        org_id="",
        source="api",
        resource_type="gpu",
        resource_id="g-1",
        metadata={"b": [1, "é"], "a": None},
    )
    assert given == "mine"
    assert kept.sent == [
        UsageRecorded(
            id="mine",
            metric_key="api.calls",
            subject_type="user",
            subject_id="u-1",
            quantity=Decimal("2.5"),
            timestamp=NOW,
            source="api",
            resource_type="gpu",
            resource_id="g-1",
            metadata='{"b":[1,"é"],"a":null}',
        )
    ]


@pytest.mark.parametrize(
    ("subject", "org_id", "expected"),
    [
        (("user", "a"), None, ("acme", "user", "a")),
        (("user", "a"), "other", ("other", "user", "a")),
        (Subject("team", "t"), None, ("acme", "team", "t")),
        (Subject("team", "t", "own"), None, ("own", "team", "t")),
        (Subject("team", "t", ""), None, ("", "team", "t")),
        (Subject("team", "t", "own"), "other", ("other", "team", "t")),
        (User("ann"), None, ("their-org", "user", "ann")),
        (User("ann"), "other", ("other", "user", "ann")),
    ],
)
def test_who_it_is(meter: Meter, kept: Kept, subject: Any, org_id: str | None, expected: tuple[str, ...]) -> None:
    meter.record("api.calls", subject, org_id=org_id)
    meter.record_batch([{"metric_key": "api.calls", "subject": subject, "org_id": org_id}])
    for sent in kept.sent:
        assert (sent.org_id, sent.subject_type, sent.subject_id) == expected
    assert len(kept.sent) == 2


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("u-1", r"""not the str 'u-1', and no resolver knows it"""),
        (("user",), "tuple"),
        (("user", ""), "subject_id must not be empty"),
        (("user", 1.5), "subject_id must be"),
        (User("broken"), "the resolver failed for a User"),
        ("nonsense", "must return a Subject or None"),
        (None, "NoneType"),
    ],
)
def test_a_subject_nobody_knows(meter: Meter, kept: Kept, subject: Any, reason: str) -> None:
    with pytest.raises(InvalidUsage, match=reason):
        meter.record("api.calls", subject)
    assert kept.sent == []


def test_a_bad_event_never_spoils_its_neighbours(meter: Meter, kept: Kept) -> None:
    bad: list[Any] = [
        event(quantity="abc"),
        event(quantity=None),
        event(metric_key=None),
        event(quantty=1),
        event(timestamp=pd.NaT),
        event(timestamp=5),
        event(id=["x"]),
        event(id=""),
        event(id="\ud800"),
        event(subject=User("broken"), subject_type=None, subject_id=None),
        event(subject=("user", "x")),
        {},
        "not a mapping",
        None,
        event(metadata={"a": object()}),
    ]
    results = meter.record_batch(
        [entry for one in bad for entry in (event(id=f"good-{id(one)}"), one)] + [event(id="end")]
    )
    assert [result.status for result in results] == ["accepted", "refused"] * len(bad) + ["accepted"]
    assert len(kept.sent) == len(bad) + 1
    assert all(isinstance(result.error, InvalidUsage) for result in results.refused.values())
    assert list(results.refused) == list(range(1, 2 * len(bad), 2))
    assert results[3].error is not None
    assert "quantity None" in str(results[3].error)
    assert "did you mean quantity" in str(results[7].error)


def test_a_repeated_identity_is_sent_once(meter: Meter, kept: Kept) -> None:
    results = meter.record_batch(
        [
            event(id="a"),
            event(id="b"),
            event(id="a", quantity=5),
            event(id="a", subject_id="u-2"),
            event(id="a", org_id="other"),
            event(),
            event(),
            event(id="a", quantity="bad"),
            event(id="a", timestamp=NOW),
        ]
    )
    assert [result.status[:3] for result in results] == ["acc", "acc", "rep", "acc", "acc", "acc", "acc", "ref", "rep"]
    assert (results.accepted, results.repeated, len(results.refused)) == (6, 2, 1)
    assert results[2] == Recorded("repeated", "a")
    assert len(kept.sent) == 6


def test_an_event_whose_first_attempt_was_refused_is_not_a_repeat(meter: Meter, kept: Kept) -> None:
    results = meter.record_batch([event(id="a", quantity="bad"), event(id="a")])
    assert [result.status for result in results] == ["refused", "accepted"]


def test_a_full_buffer_is_waited_for_once_per_batch(meter: Meter, kept: Kept) -> None:
    kept.room = 2
    results = meter.record_batch([event(id=str(number)) for number in range(5)])
    assert [result.status for result in results] == ["accepted"] * 2 + ["refused"] * 3
    assert kept.waits == [None, None, None, 0.0, 0.0]
    assert all(isinstance(results[index].error, BufferFull) and results[index].id == str(index) for index in (2, 3, 4))


def test_results_are_a_sequence(meter: Meter, kept: Kept) -> None:
    results = meter.record_batch([event(id="a"), event(id="a"), event(id="b")])
    assert isinstance(results, BatchResults)
    assert len(results) == 3
    assert results[-1] == results[2] == Recorded("accepted", "b")
    assert results[1:] == list(results)[1:]
    assert repr(results) == "<BatchResults 2 accepted, 1 repeated, 0 refused>"
    with pytest.raises(IndexError):
        results[3]


def test_any_iterable_of_mappings_will_do(meter: Meter, kept: Kept) -> None:
    assert meter.record_batch(event(id=str(number)) for number in range(3)).accepted == 3
    assert len(meter.record_batch([])) == 0


@pytest.mark.parametrize("wrong", [event(), 5, None])
def test_what_is_no_batch_is_refused_as_a_whole(meter: Meter, kept: Kept, wrong: Any) -> None:
    with pytest.raises(InvalidUsage, match="record_batch takes"):
        meter.record_batch(wrong)


COLUMNS: dict[str, list[Any]] = {
    "id": ["e-1", "e-2", "e-3"],
    "metric_key": ["api.calls", "gpu.seconds", "API"],
    "subject_type": ["user"] * 3,
    "subject_id": ["u-1", "u-2", "u-3"],
    "quantity": [1, 2, 3],
    "timestamp": [NOW, NOW + timedelta(microseconds=1), NOW],
    "source": ["api", None, None],
    "metadata": ['{"a":1}', None, None],
}
ARROW = pa.table({**COLUMNS, "timestamp": pa.array(COLUMNS["timestamp"], pa.timestamp("us", "UTC"))})


class OnlyTheProtocol:
    """A table of a library nobody here knows."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return ARROW.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS),
        ARROW,
        ARROW.to_batches()[0],
        OnlyTheProtocol(),
        pa.table(
            {**ARROW.to_pydict(), "quantity": pa.array([Decimal(1), Decimal(2), Decimal(3)], pa.decimal128(38, 9))}
        ),
    ],
    ids=["polars", "pandas", "arrow", "record batch", "any other", "arrow decimals"],
)
def test_a_table_is_read_row_by_row(meter: Meter, kept: Kept, table: Any) -> None:
    results = meter.record_batch(table)
    assert [(result.status, result.id) for result in results] == [
        ("accepted", "e-1"),
        ("accepted", "e-2"),
        ("refused", "e-3"),
    ]
    assert kept.sent == [
        UsageRecorded(
            id=COLUMNS["id"][row],
            org_id="acme",
            metric_key=COLUMNS["metric_key"][row],
            subject_type="user",
            subject_id=COLUMNS["subject_id"][row],
            quantity=COLUMNS["quantity"][row],
            timestamp=COLUMNS["timestamp"][row],
            source=COLUMNS["source"][row],
            metadata=COLUMNS["metadata"][row],
        )
        for row in (0, 1)
    ]


@pytest.mark.parametrize("column", ["quantity", "id", "timestamp", "metric_key", "subject_id"])
@pytest.mark.parametrize("make", [pl.DataFrame, pd.DataFrame, pa.table], ids=["polars", "pandas", "arrow"])
def test_a_null_is_never_guessed(meter: Meter, kept: Kept, make: Any, column: str) -> None:
    holes = {**COLUMNS, "metric_key": ["a", "b", "c"]}
    holes[column] = [holes[column][0], None, holes[column][2]]
    results = meter.record_batch(make(holes))
    assert [result.status for result in results] == ["accepted", "refused", "accepted"]


def test_columns_that_are_left_out_have_defaults(meter: Meter, kept: Kept) -> None:
    meter.record_batch(pl.DataFrame({name: COLUMNS[name][:2] for name in ("metric_key", "subject_type", "subject_id")}))
    assert [sent.quantity for sent in kept.sent] == [1, 1]
    assert len({sent.id for sent in kept.sent}) == 2


def test_a_large_table_is_read_in_slices(meter: Meter, kept: Kept) -> None:
    rows = 10_003
    table = pl.DataFrame({"id": [str(row) for row in range(rows)]}).with_columns(
        metric_key=pl.lit("api.calls"), subject_type=pl.lit("user"), subject_id=pl.lit("u")
    )
    assert meter.record_batch(table).accepted == rows
    assert [sent.id for sent in kept.sent] == [str(row) for row in range(rows)]


@pytest.mark.parametrize("make", [pl.DataFrame, pd.DataFrame, pa.table], ids=["polars", "pandas", "arrow"])
def test_an_unknown_column_is_refused_before_anything_is_sent(meter: Meter, kept: Kept, make: Any) -> None:
    with pytest.raises(InvalidUsage, match="unknown column quantty; did you mean quantity"):
        meter.record_batch(make({**COLUMNS, "quantty": [1, 2, 3]}))
    assert kept.sent == []


def test_without_a_resolver_a_strange_subject_says_so() -> None:
    with (
        Meter("localhost:1") as made,
        pytest.raises(InvalidUsage, match=r'such as \("user", "ada"\), .* not the int 5$'),
    ):
        made.record("api.calls", 5)  # type: ignore[arg-type]
