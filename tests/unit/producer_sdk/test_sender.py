"""The account of every event, against a scripted producer: what librdkafka can do at the worst moment."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

import meterfold.base
from meterfold import (
    BufferFull,
    Delivery,
    DeliveryCounts,
    FlushTimeout,
    InvalidSettings,
    Meter,
    MeterClosed,
    NotRecorded,
    UndeliveredEvents,
)
from meterfold.sender import Sender
from support.scripted_producer import Factory

NOTHING = DeliveryCounts(0, 0, 0)


def sender(factory: Callable[[dict[str, Any]], Any], **options: Any) -> Sender:
    options = {"buffer_timeout": 0.05, **options}
    return Sender({}, "usage.recorded", event_id_of=lambda value: value.decode(), make_producer=factory, **options)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_recorded_is_delivered_failed_or_outstanding() -> None:
    factory = Factory()
    made = sender(factory)
    for number in range(5):
        made.send(b"k", b"%d" % number)
    assert made.counts() == DeliveryCounts(5, 0, 0)
    assert made.counts().outstanding == 5
    factory.made[0].report(2)
    factory.made[0].report(1, KafkaError(KafkaError._MSG_TIMED_OUT))
    eventually(lambda: made.counts() == DeliveryCounts(5, 2, 1))
    factory.made[0].report()
    with pytest.raises(UndeliveredEvents):
        made.flush(60)
    assert made.counts() == DeliveryCounts(5, 4, 1)
    made.close(60)


def test_reports_arrive_while_the_application_is_idle() -> None:
    factory = Factory()
    seen: list[Delivery] = []
    made = sender(factory, on_delivery=seen.append)
    made.send(b"k", b"event-1")
    factory.made[0].report()
    eventually(lambda: seen == [Delivery("event-1", 3, 1)])
    assert seen[0].delivered
    made.close(60)


def test_nothing_is_reported_delivered_before_the_broker_says_so() -> None:
    factory = Factory()
    made = sender(factory)
    made.send(b"k", b"v")
    with pytest.raises(FlushTimeout) as caught:
        made.flush(0.05)
    assert caught.value.outstanding == 1
    assert made.counts().delivered == 0
    factory.made[0].report()
    made.flush(60)
    made.close(60)


def test_a_failure_is_raised_once_and_names_the_events() -> None:
    factory = Factory()
    made = sender(factory)
    made.send(b"k", b"lost")
    made.send(b"k", b"kept")
    factory.made[0].report(1, KafkaError(KafkaError._MSG_TIMED_OUT))
    factory.made[0].report(1)
    with pytest.raises(UndeliveredEvents, match=r"1 recorded event .* lost") as caught:
        made.flush(60)
    assert [report.event_id for report in caught.value.failures] == ["lost"]
    assert caught.value.code == "DELIVERY_FAILED"
    made.flush(60)
    made.close(60)


def test_a_failure_that_no_flush_has_raised_is_raised_by_close() -> None:
    factory = Factory()
    made = sender(factory)
    made.send(b"k", b"lost")
    factory.made[0].report(1, KafkaError(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(UndeliveredEvents):
        made.close(60)
    made.close(60)


def test_a_full_buffer_raises_after_the_stated_time_and_takes_nothing() -> None:
    factory = Factory(room=2)
    made = sender(factory, buffer_timeout=0.1)
    made.send(b"k", b"1")
    made.send(b"k", b"2")
    start = time.monotonic()
    with pytest.raises(BufferFull, match="2 events without a report") as caught:
        made.send(b"k", b"3")
    assert time.monotonic() - start >= 0.1
    assert isinstance(caught.value, NotRecorded)
    assert made.counts() == DeliveryCounts(2, 0, 0)
    factory.made[0].report()
    made.flush(60)
    made.close(60)


def test_a_full_buffer_goes_on_as_soon_as_there_is_room() -> None:
    factory = Factory(room=1)
    made = sender(factory, buffer_timeout=30)
    made.send(b"k", b"1")
    waiting = threading.Thread(target=made.send, args=(b"k", b"2"))
    waiting.start()
    factory.made[0].report()
    waiting.join(60)
    assert not waiting.is_alive()
    assert made.counts().recorded == 2
    factory.made[0].report()
    made.close(60)
    assert made.counts() == DeliveryCounts(2, 2, 0)


def test_close_reports_what_it_could_not_send_as_failed() -> None:
    factory = Factory()
    seen: list[Delivery] = []
    made = sender(factory, on_delivery=seen.append)
    made.send(b"k", b"stuck")
    start = time.monotonic()
    with pytest.raises(UndeliveredEvents, match="stuck"):
        made.close(0.1)
    assert time.monotonic() - start < 60
    assert factory.made[0].purged
    assert [(report.event_id, report.delivered) for report in seen] == [("stuck", False)]
    assert made.counts() == DeliveryCounts(1, 0, 1)


def test_a_closed_sender_takes_nothing() -> None:
    made = sender(Factory())
    made.close(0)
    with pytest.raises(MeterClosed, match="closed") as caught:
        made.send(b"k", b"v")
    assert caught.value.code == "CLOSED"
    assert made.counts() == NOTHING


def test_close_wakes_whoever_waits_for_room() -> None:
    factory = Factory(room=1)
    made = sender(factory, buffer_timeout=600)
    made.send(b"k", b"1")
    raised: list[BaseException] = []

    def wait_for_room() -> None:
        try:
            made.send(b"k", b"2")
        except BufferFull as error:
            raised.append(error)

    waiting = threading.Thread(target=wait_for_room)
    waiting.start()
    eventually(lambda: made.counts().recorded == 2)
    with pytest.raises(UndeliveredEvents):
        made.close(0.3)
    waiting.join(60)
    assert len(raised) == 1
    assert made.counts() == DeliveryCounts(1, 0, 1)


def test_after_a_fatal_error_a_new_producer_goes_on() -> None:
    factory = Factory()
    made = sender(factory)
    made.send(b"k", b"before")
    factory.made[0].fatal = KafkaError(KafkaError._FATAL, "out of order", fatal=True)
    made.send(b"k", b"after")
    assert len(factory.made) == 2
    assert [value for _, value, _ in factory.made[1].held] == [b"after"]
    factory.made[1].report()
    with pytest.raises(UndeliveredEvents, match="before"):
        made.flush(60)
    assert made.counts() == DeliveryCounts(2, 1, 1)
    made.close(60)


def test_an_event_that_librdkafka_refuses_is_not_counted() -> None:
    factory = Factory()
    made = sender(factory)
    factory.made[0].fatal = KafkaError(KafkaError._UNKNOWN_TOPIC)
    with pytest.raises(NotRecorded, match="meterfold migrate"):
        made.send(b"k", b"v")
    assert made.counts() == NOTHING
    made.close(60)


def test_a_callback_that_raises_does_not_stop_the_reports(caplog: pytest.LogCaptureFixture) -> None:
    factory = Factory()

    def broken(report: Delivery) -> None:
        raise RuntimeError("application")

    made = sender(factory, on_delivery=broken)
    made.send(b"k", b"1")
    made.send(b"k", b"2")
    factory.made[0].report()
    made.flush(60)
    assert made.counts() == DeliveryCounts(2, 2, 0)
    assert "the delivery callback raised for event 1" in caplog.text
    made.close(60)


def test_eight_threads_lose_no_count() -> None:
    factory = Factory(room=10**9)
    made = sender(factory)
    threads = [
        threading.Thread(target=lambda: [made.send(b"k", b"v") for _ in range(2000)])  # type: ignore[func-returns-value]
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        factory.made[0].report()
    factory.made[0].report()
    made.flush(10)
    assert made.counts() == DeliveryCounts(16_000, 16_000, 0)
    made.close(60)


def test_settings_that_librdkafka_refuses_are_named() -> None:
    with pytest.raises(InvalidSettings, match=r"no\.such\.thing"):
        Meter("localhost:1", librdkafka={"no.such.thing": "1"})


@pytest.mark.parametrize(
    ("librdkafka", "hint"),
    [
        ({"acks": "1"}, "requires acks=all"),
        ({"enable.idempotence": "false"}, "requires enable.idempotence=true"),
        ({"partitioner": "consistent_random"}, "murmur2_random"),
        ({"queue.buffering.max.messages": "5"}, "buffer_events"),
        ({"message.timeout.ms": "5"}, "delivery_timeout"),
        ({"transactional.id": "x"}, "transactional.id"),
    ],
)
def test_settings_that_would_break_a_promise_are_refused(librdkafka: dict[str, str], hint: str) -> None:
    with pytest.raises(InvalidSettings, match=hint):
        Meter("localhost:1", librdkafka=librdkafka)


def test_settings_that_repeat_a_promise_are_harmless() -> None:
    Meter("localhost:1", librdkafka={"acks": "all", "enable.idempotence": "True", "linger.ms": "0"}).close(0)


@pytest.mark.parametrize("change", [{"buffer_events": 0}, {"buffer_timeout": -1}, {"delivery_timeout": 0}])
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=f"sdk.{next(iter(change))}"):
        Meter("localhost:1", **change)


def test_a_dropped_meter_with_unsent_events_warns_and_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory()

    def made(*arguments: Any, **options: Any) -> Sender:
        return Sender(*arguments, **options, make_producer=factory)

    monkeypatch.setattr(meterfold.base, "Sender", made)
    meter = Meter("localhost:1", close_timeout=5)
    meter.record("api.calls", ("user", "u"))
    threading.Timer(0.05, lambda: factory.made[0].report()).start()
    dropped = [meter]
    del meter
    with pytest.warns(ResourceWarning, match="1 event had no report"):
        dropped.clear()
    assert not factory.made[0].purged
    assert not factory.made[0].held


def test_a_meter_whose_events_are_all_reported_goes_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        meter = Meter("localhost:1")
        del meter
        gc.collect()
