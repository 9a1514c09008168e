"""What `flush` waits for, how `with Meter()` ends after an exception, and the values that an event may be made of."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from meterfold import FlushTimeout, InvalidUsage, Meter, RefusedEvents
from meterfold.account import Account
from meterfold_schemas.usage import UsageRecorded

NOBODY = "localhost:1"
ID = UUID("01936b8e-7f2c-7000-8000-000000000001")


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    with Meter(NOBODY) as made:
        yield made


def sent_by(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> list[UsageRecorded]:
    sent: list[UsageRecorded] = []

    def send(key: bytes, value: bytes, wait: float | None = None) -> None:
        sent.append(UsageRecorded.from_bytes(value))

    monkeypatch.setattr(meter._transport, "send", send)
    return sent


def test_a_flush_waits_for_what_was_recorded_before_it_and_only_for_that() -> None:
    account = Account(lambda generation: generation, keep_events=1, keep_bytes=1)
    with account.lock:
        account.recorded += 1
        before = account.present
        before.outstanding += 1
    cut = account.cut()
    with account.lock:  # another thread records after the call
        account.recorded += 1
        later = account.present
        later.outstanding += 1
    assert later is not before
    account.delivered(later)  # reports of several partitions come in any order
    assert not cut.done
    account.delivered(before)
    assert cut.done


def test_a_flush_times_out_after_its_time_while_other_threads_record() -> None:
    meter = Meter(NOBODY, close_timeout=0)
    meter.record("api.calls", ("user", "ada"))
    over = threading.Event()

    def others() -> None:
        while not over.wait(0.001):
            meter.record("api.calls", ("user", "bob"))

    thread = threading.Thread(target=others)
    thread.start()
    start = time.monotonic()
    try:
        with pytest.raises(FlushTimeout):
            meter.flush(0.5)
        assert time.monotonic() - start >= 0.5
    finally:
        over.set()
        thread.join()
        with pytest.raises(Exception, match="not delivered"):
            meter.close(0)


class Stop(Exception):
    """The application's own."""


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_an_exception_of_the_application_is_not_replaced_and_not_held_up(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "meterfold")

    def application() -> None:
        with Meter(NOBODY, close_timeout=120) as meter:
            meter.record("api.calls", ("user", "ada"), id="lost")
            raise kind

    start = time.monotonic()
    with pytest.raises(kind) as caught:
        application()
    assert time.monotonic() - start < 60  # close_timeout would be 120
    (note,) = caught.value.__notes__
    assert "1 recorded event was not delivered" in note
    assert "lost" in note
    assert "1 recorded event was not delivered" in caplog.text


def test_integers_of_numpy_and_uuids_are_taken(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_by(meter, monkeypatch)
    assert meter.record("api.calls", ("user", ID), np.int64(7), id=ID) == str(ID)
    assert meter.record("api.calls", ("user", 42), id=17) == "17"
    assert [(event.id, event.subject_id, event.quantity) for event in sent] == [(str(ID), str(ID), 7), ("17", "42", 1)]
    with pytest.raises(InvalidUsage):
        meter.record("api.calls", ("user", True))
    with pytest.raises(InvalidUsage):
        meter.record("api.calls", ("user", "ada"), np.True_)


def test_a_float_with_more_decimals_is_refused_with_the_recipe_or_rounded_when_asked(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidUsage, match=r"round\("):
        meter.record("cpu.seconds", ("user", "ada"), 0.12345678901234)
    with Meter(NOBODY, rounding="half_even") as rounding:
        sent = sent_by(rounding, monkeypatch)
        rounding.record("cpu.seconds", ("user", "ada"), 0.12345678901234)
        rounding.record("cpu.seconds", ("user", "ada"), "0.0000000005")
    assert [event.quantity for event in sent] == [Decimal("0.123456789"), Decimal("0")]


@pytest.mark.parametrize(("ago", "code"), [(timedelta(days=36), "TOO_OLD"), (-timedelta(seconds=600), "IN_FUTURE")])
def test_timestamps_that_would_not_count_are_refused_where_the_rules_are_set(
    ago: timedelta, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: dict[str, Any] = {"horizon_seconds": 35 * 86_400, "future_tolerance_seconds": 300}
    with Meter(NOBODY, **rules) as knowing:
        sent = sent_by(knowing, monkeypatch)
        with pytest.raises(InvalidUsage) as caught:
            knowing.record("api.calls", ("user", "ada"), timestamp=datetime.now(UTC) - ago)
        assert caught.value.code == code
        assert sent == []
        knowing.record("api.calls", ("user", "ada"), timestamp=datetime.now(UTC) - timedelta(days=34))
        assert len(sent) == 1


def test_refused_rows_of_a_batch_are_loud_and_never_an_exception_in_the_middle(
    meter: Meter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = sent_by(meter, monkeypatch)
    good = {"metric_key": "api.calls", "subject": ("user", "ada")}
    results = meter.record_batch([good, {**good, "quantitty": 2}, {**good, "quantitty": 3}, good])
    assert len(sent) == 2
    ours = [record.levelname for record in caplog.records if record.name == "meterfold"]  # librdkafka's have their own
    assert ours == ["WARNING"]
    assert "2 of 4" in caplog.text
    assert "quantitty" in caplog.text
    with pytest.raises(RefusedEvents, match="2 of 4 events were refused") as caught:
        results.raise_refused()
    assert sorted(caught.value.refused) == [1, 2]
    meter.record_batch([good]).raise_refused()
