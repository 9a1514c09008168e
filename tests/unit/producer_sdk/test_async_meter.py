"""AsyncMeter against a scripted producer: nothing blocks the loop, and no cancellation loses or repeats an event."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from confluent_kafka import KafkaError

import meterfold.base
from meterfold import (
    AsyncMeter,
    BufferFull,
    Delivery,
    DeliveryCounts,
    FlushTimeout,
    InvalidUsage,
    MeterClosed,
    UndeliveredEvents,
    WrongEventLoop,
)
from meterfold.sender import Sender
from support.scripted_producer import Factory, ScriptedProducer

ADA = ("user", "ada")
LOST = KafkaError(KafkaError._MSG_TIMED_OUT)
DEADLINE = 30.0


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Factory:
    made = Factory()
    monkeypatch.setattr(meterfold.base, "Sender", lambda *a, **options: Sender(*a, **options, make_producer=made))
    return made


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE):
            await main

    asyncio.run(bounded())


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def waits(task: asyncio.Task[Any]) -> None:
    """It has had many turns, and is not done."""
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not task.done()


def held(producer: ScriptedProducer) -> int:
    return len(producer.held)


def test_record_returns_the_id_and_confirm_the_delivery(factory: Factory) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            assert await meter.record("api.calls", ADA, id="a") == "a"
            confirming = asyncio.create_task(meter.record("api.calls", ADA, id="b", confirm=True))
            await waits(confirming)  # the broker does not have it yet
            factory.made[0].report()
            report = await confirming
            assert (report.event_id, report.partition, report.delivered) == ("b", 3, True)
            assert report.offset is not None
            await meter.flush(5)
            assert meter.counts == DeliveryCounts(2, 2, 0)

    run(main())


def test_a_full_buffer_is_awaited_in_order_while_the_loop_keeps_running(factory: Factory) -> None:
    factory.options["room"] = 1

    async def main() -> None:
        async with AsyncMeter("localhost:1", buffer_timeout=DEADLINE) as meter:
            await meter.record("api.calls", ADA, id="0")
            waiting = [asyncio.create_task(meter.record("api.calls", ADA, id=str(n))) for n in range(1, 6)]
            await waits(waiting[0])
            assert meter.counts.recorded == 1
            for _ in range(6):
                await eventually(lambda: held(factory.made[0]) == 1)
                factory.made[0].report()
            assert await asyncio.gather(*waiting) == ["1", "2", "3", "4", "5"]
        assert meter.counts == DeliveryCounts(6, 6, 0)
        assert factory.made[0].taken == [b"0", b"1", b"2", b"3", b"4", b"5"]

    run(main())


def test_a_newcomer_does_not_overtake_those_who_wait_for_room(factory: Factory) -> None:
    factory.options["room"] = 1

    async def main() -> None:
        async with AsyncMeter("localhost:1", buffer_timeout=DEADLINE) as meter:
            await meter.record("api.calls", ADA, id="0")
            first = asyncio.create_task(meter.record("api.calls", ADA, id="1"))
            await waits(first)
            factory.made[0].report()
            while not meter.counts.delivered:  # without a turn of the loop: there is room, and nobody has taken it
                time.sleep(0.001)
            late = asyncio.create_task(meter.record("api.calls", ADA, id="2"))
            for _ in range(2):
                await eventually(lambda: held(factory.made[0]) == 1)
                factory.made[0].report()
            await asyncio.gather(first, late)
        assert factory.made[0].taken == [b"0", b"1", b"2"]

    run(main())


def test_without_room_in_time_nothing_is_taken(factory: Factory) -> None:
    factory.options["room"] = 2

    async def main() -> None:
        meter = AsyncMeter("localhost:1", buffer_timeout=0.05)
        for _ in range(2):
            await meter.record("api.calls", ADA)
        with pytest.raises(BufferFull, match=r"2 events without a report.*0\.05 s"):
            await meter.record("api.calls", ADA)
        results = await meter.record_batch([{"metric_key": "api.calls", "subject": ADA} for _ in range(4)])
        assert [type(result.error) for result in results] == [BufferFull] * 4
        assert meter.counts == DeliveryCounts(2, 0, 0)
        factory.made[0].report()
        await meter.close()
        assert meter.counts == DeliveryCounts(2, 2, 0)

    run(main())


def test_a_record_that_is_cancelled_while_it_waits_for_room_was_not_taken(factory: Factory) -> None:
    factory.options["room"] = 1

    async def main() -> None:
        async with AsyncMeter("localhost:1", buffer_timeout=DEADLINE) as meter:
            await meter.record("api.calls", ADA, id="first")
            first, second, third = (
                asyncio.create_task(meter.record("api.calls", ADA, id=name)) for name in ("x", "y", "z")
            )
            await waits(third)
            first.cancel()  # the one that holds the queue
            second.cancel()  # one that waits in it
            await asyncio.wait((first, second))
            factory.made[0].report()
            assert await third == "z"
            await eventually(lambda: held(factory.made[0]) == 1)
            factory.made[0].report()
        assert factory.made[0].taken == [b"first", b"z"]
        assert meter.counts == DeliveryCounts(2, 2, 0)

    run(main())


def test_a_failed_confirmation_is_raised_once_by_the_one_who_waits(factory: Factory) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            confirming = asyncio.create_task(meter.record("api.calls", ADA, id="a", confirm=True))
            await waits(confirming)
            factory.made[0].report(error=LOST)
            with pytest.raises(UndeliveredEvents) as caught:
                await confirming
            assert [event["id"] for event in caught.value.events] == ["a"]
            await meter.flush(5)
        assert meter.counts == DeliveryCounts(1, 0, 1)

    run(main())


@pytest.mark.parametrize("when", ["before the report", "in the turn of the report"])
def test_the_failure_of_a_cancelled_confirmation_is_raised_by_flush(factory: Factory, when: str) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            confirming = asyncio.create_task(meter.record("api.calls", ADA, id="a", confirm=True))
            await waits(confirming)
            if when == "before the report":
                confirming.cancel()
                await asyncio.wait((confirming,))
                factory.made[0].report(error=LOST)
            else:
                post = meter._loop.call

                def settle_and_cancel(settle: Callable[..., None], *report: Any) -> bool:
                    def both() -> None:  # the task has its report, and is cancelled before it runs again
                        settle(*report)
                        confirming.cancel()

                    return post(both)

                meter._loop.call = settle_and_cancel  # type: ignore[method-assign]
                factory.made[0].report(error=LOST)
                await asyncio.wait((confirming,))
            assert confirming.cancelled()
            with pytest.raises(UndeliveredEvents) as caught:
                await meter.flush(5)
            assert [report.event_id for report in caught.value.failures] == ["a"]
        assert meter.counts == DeliveryCounts(1, 0, 1)

    run(main())


def test_a_cancelled_flush_leaves_the_failure_to_the_next(factory: Factory) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            await meter.record("api.calls", ADA)
            flushing = asyncio.create_task(meter.flush())
            await waits(flushing)
            flushing.cancel()
            await asyncio.wait((flushing,))
            factory.made[0].report(error=LOST)
            with pytest.raises(UndeliveredEvents):
                await meter.flush(5)

    run(main())


def test_a_flush_waits_for_what_was_recorded_before_it(factory: Factory) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            await meter.record("api.calls", ADA)
            with pytest.raises(FlushTimeout, match="1 event has no report"):
                await meter.flush(0.05)
            flushing = asyncio.create_task(meter.flush())
            await waits(flushing)
            await meter.record("api.calls", ADA)
            factory.made[0].report(1)
            await flushing
            assert meter.counts.outstanding == 1
            factory.made[0].report()

    run(main())


def test_a_batch_gives_other_tasks_a_turn(factory: Factory) -> None:
    factory.options["room"] = 10**6

    async def main() -> None:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async with AsyncMeter("localhost:1") as meter:
            results = await meter.record_batch([{"metric_key": "api.calls", "subject": ADA} for _ in range(5000)])
            assert results.accepted == 5000
            assert turns >= 5
            factory.made[0].report()
        ticking.cancel()

    run(main())


def test_bad_events_are_refused_as_meter_refuses_them(factory: Factory) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            with pytest.raises(InvalidUsage, match="not the str 'ada'"):
                await meter.record("api.calls", "ada")  # type: ignore[call-overload]
            good = {"metric_key": "api.calls", "subject": ADA, "id": "1"}
            results = await meter.record_batch([good, {**good, "id": "2", "quantity": "x"}, good])
            assert [result.status for result in results] == ["accepted", "refused", "repeated"]
            factory.made[0].report()

    run(main())


class Stop(Exception):
    """The application's own."""


@pytest.mark.parametrize("kind", [Stop, asyncio.CancelledError, KeyboardInterrupt])
def test_an_exception_of_the_application_is_not_replaced(
    factory: Factory, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1", close_timeout=3600) as meter:
            await meter.record("api.calls", ADA, id="stuck")
            raise kind

    with pytest.raises(kind) as caught:
        run(main())
    (note,) = caught.value.__notes__
    assert "1 recorded event was not delivered; the first is stuck" in note
    assert "stuck" in caplog.text
    assert factory.made[0].purged


def test_close_reports_what_it_could_not_send_and_wakes_everyone(factory: Factory) -> None:
    factory.options["room"] = 1

    async def main() -> None:
        meter = AsyncMeter("localhost:1", buffer_timeout=3600)
        confirming = asyncio.create_task(meter.record("api.calls", ADA, id="a", confirm=True))
        await eventually(lambda: bool(factory.made) and held(factory.made[0]) == 1)
        waiting = [asyncio.create_task(meter.record("api.calls", ADA)) for _ in range(3)]
        flushing = asyncio.create_task(meter.flush())
        await waits(waiting[0])
        await meter.close(0.05)
        outcome = await asyncio.gather(confirming, *waiting, flushing, return_exceptions=True)
        assert [type(one) for one in outcome] == [UndeliveredEvents, *[MeterClosed] * 3, type(None)]
        with pytest.raises(MeterClosed):
            await meter.record("api.calls", ADA)
        assert meter.counts == DeliveryCounts(1, 0, 1)
        await meter.close()

    run(main())


def test_closing_refuses_what_waits_for_room_at_once_and_keeps_sending(factory: Factory) -> None:
    factory.options["room"] = 1

    async def main() -> None:
        meter = AsyncMeter("localhost:1", buffer_timeout=3600)
        await meter.record("api.calls", ADA)
        waiting = [asyncio.create_task(meter.record("api.calls", ADA)) for _ in range(3)]
        await waits(waiting[0])
        closing = asyncio.create_task(meter.close(3600))
        outcome = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in outcome] == [MeterClosed] * 3
        assert not closing.done()
        factory.made[0].report()
        await closing
        assert meter.counts == DeliveryCounts(1, 1, 0)

    run(main())


def test_a_cancelled_close_still_gives_every_event_its_report(factory: Factory) -> None:
    async def main() -> None:
        reports: list[Delivery] = []
        meter = AsyncMeter("localhost:1", on_delivery=reports.append)
        await meter.record("api.calls", ADA, id="a")
        closing = asyncio.create_task(meter.close(3600))
        await waits(closing)
        closing.cancel()
        await asyncio.wait((closing,))
        await eventually(lambda: meter.counts == DeliveryCounts(1, 0, 1))
        await eventually(lambda: [report.event_id for report in reports] == ["a"])
        with pytest.raises(UndeliveredEvents):
            await meter.close()

    run(main())


def test_on_delivery_is_called_in_the_event_loop(factory: Factory) -> None:
    async def main() -> None:
        threads: list[int] = []
        async with AsyncMeter("localhost:1", on_delivery=lambda report: threads.append(threading.get_ident())) as meter:
            await meter.record("api.calls", ADA)
            factory.made[0].report()
            await meter.flush(5)
            assert threads == [threading.get_ident()]

    run(main())


@pytest.mark.parametrize(
    "use",
    [
        lambda meter: meter.record("api.calls", ADA),
        lambda meter: meter.record_batch([]),
        lambda meter: meter.flush(),
        lambda meter: meter.close(),
        lambda meter: meter.__aenter__(),
    ],
)
def test_another_event_loop_is_refused(factory: Factory, use: Callable[[AsyncMeter], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with AsyncMeter("localhost:1") as meter:
            raised: list[BaseException] = []

            def elsewhere() -> None:
                async def misuse() -> None:
                    await use(meter)

                try:
                    asyncio.run(misuse())
                except WrongEventLoop as error:
                    raised.append(error)

            await asyncio.to_thread(elsewhere)
            assert "make one AsyncMeter for each event loop" in str(raised[0])
            assert isinstance(raised[0], RuntimeError)

    run(main())


def test_without_an_event_loop_the_error_says_so(factory: Factory) -> None:
    recording = AsyncMeter("localhost:1").record("api.calls", ADA)
    with pytest.raises(WrongEventLoop, match="needs a running asyncio event loop"):
        recording.send(None)


def test_a_closed_event_loop_makes_way_for_the_next(factory: Factory) -> None:
    meter = AsyncMeter("localhost:1")

    async def record() -> None:
        await meter.record("api.calls", ADA)

    run(record())
    run(record())
    factory.made[0].report()
    run(meter.close())
    assert meter.counts == DeliveryCounts(2, 2, 0)


def test_a_dropped_meter_warns_and_sends(factory: Factory) -> None:
    async def main() -> None:
        meter = AsyncMeter("localhost:1", close_timeout=5, on_delivery=lambda report: None)
        gone = weakref.ref(meter)
        await meter.record("api.calls", ADA)
        threading.Timer(0.05, factory.made[0].report).start()
        dropped = [meter]
        del meter
        with pytest.warns(ResourceWarning, match="1 event had no report"):
            dropped.clear()
        assert gone() is None
        assert not factory.made[0].held
        assert not factory.made[0].purged

    run(main())
