"""A failed delivery gives back its event, and recorded again it is the same event."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError

import meterfold.base
from meterfold import Delivery, DeliveryCounts, Meter, UndeliveredEvents
from meterfold.account import Account
from meterfold.sender import Sender
from support.scripted_producer import Factory

LOST = KafkaError(KafkaError._MSG_TIMED_OUT)
EVENTS: list[dict[str, Any]] = [
    {"subject": ("user", "ada")},
    {
        "subject": ("user", "Zoë ☃"),
        "org_id": "acme",
        "quantity": "-0.000000001",
        "id": "mine",
        "timestamp": datetime(2026, 1, 1, 12, 30, 0, 1, tzinfo=UTC),
        "source": "",
        "resource_type": "gpu",
        "resource_id": "g-1",
        "metadata": {"é": [1, None]},
    },
]


def test_recorded_again_it_has_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory()
    monkeypatch.setattr(meterfold.base, "Sender", lambda *a, **options: Sender(*a, **options, make_producer=factory))
    reports: list[Delivery] = []
    # Another default organization by then: the event names its own.
    with Meter("localhost:1", org_id="default", on_delivery=reports.append) as meter:
        for event in EVENTS:
            meter.record("api.calls", **event)
        first = [(key, value) for key, value, _ in factory.made[0].held]
        factory.made[0].report(error=LOST)
        with pytest.raises(UndeliveredEvents) as caught:
            meter.flush(5)
        assert pickle.loads(pickle.dumps(caught.value)).events == caught.value.events  # noqa: S301
        assert [report.event for report in reports] == caught.value.events
        results = meter.record_batch(caught.value.events)
        assert [result.id for result in results] == [report.event_id for report in reports]
        assert [(key, value) for key, value, _ in factory.made[0].held] == first
        factory.made[0].report()
    assert [report.event for report in reports[2:]] == [None, None]
    assert meter.counts == DeliveryCounts(4, 2, 2)


def test_millions_of_failures_are_counted_and_as_many_as_the_buffer_holds_are_kept() -> None:
    account = Account(lambda generation: None, keep_events=1000, keep_bytes=10_000)
    report = Delivery("a", None, None, "lost", b"12345")
    for _ in range(2_000_000):
        with account.lock:
            account.recorded += 1
            account.present.outstanding += 1
        account.failed(account.present, report, raised=False)
    assert account.counts() == DeliveryCounts(2_000_000, 0, 2_000_000)
    failed, failures = account.take_failures()
    assert (failed, len(failures)) == (2_000_000, 1000)
    assert account.take_failures() == (0, ())


def test_the_kept_failures_are_bounded_in_bytes_and_the_first_is_always_there() -> None:
    account = Account(lambda generation: None, keep_events=1000, keep_bytes=10)
    for size in (12, 5, 5):
        account.put_back(Delivery("a", None, None, "lost", b"x" * size))
    assert [len(report.value or b"") for report in account.take_failures()[1]] == [12]
    for size in (5, 5, 1):
        account.put_back(Delivery("a", None, None, "lost", b"x" * size))
    assert [len(report.value or b"") for report in account.take_failures()[1]] == [5, 5]
