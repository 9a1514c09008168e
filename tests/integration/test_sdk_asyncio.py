"""AsyncMeter and a real broker: confirmed, awaited, cancelled, and kept waiting by a broker that is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from meterfold import AsyncMeter, BufferFull, Delivery, DeliveryCounts, UndeliveredEvents
from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from support.kafka import consume_all, create_topics

ADA = ("user", "ada")
NOBODY = "127.0.0.1:1"


@pytest.fixture
def topic(kafka_settings: KafkaSettings) -> str:
    (topic,) = create_topics(kafka_settings, "usage.recorded", partitions=3, message_timestamp_type="LogAppendTime")
    return topic


def meter_of(kafka: KafkaSettings, **options: Any) -> AsyncMeter:
    return AsyncMeter(
        kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=dict(kafka.librdkafka), **options
    )


def arrived(kafka: KafkaSettings, topic: str) -> Counter[str]:
    return Counter(UsageRecorded.from_bytes(message.value()).id for message in consume_all(kafka, topic))


class Ticker:
    """Counts the turns of the event loop that another task gets."""

    def __init__(self) -> None:
        self.ticks = 0

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0.01)


def test_a_confirmed_event_is_on_its_partition_at_its_offset(kafka_settings: KafkaSettings, topic: str) -> None:
    async def main() -> list[Delivery]:
        async with meter_of(kafka_settings) as meter:
            reports = [await meter.record("api.calls", ("user", f"u-{n % 3}"), confirm=True) for n in range(10)]
            # The broker has them already.
            found = consume_all(kafka_settings, topic)
            there = {(UsageRecorded.from_bytes(m.value()).id, m.partition(), m.offset()) for m in found}
            assert {(report.event_id, report.partition, report.offset) for report in reports} == there
            assert meter.counts == DeliveryCounts(10, 10, 0)
            return reports

    assert len(asyncio.run(main())) == 10


def test_many_tasks_with_a_small_buffer_send_every_event_once(kafka_settings: KafkaSettings, topic: str) -> None:
    async def work(meter: AsyncMeter, name: str) -> list[str]:
        return [await meter.record("api.calls", (name, f"u-{n % 50}")) for n in range(400)]

    async def main() -> list[str]:
        reported: list[str] = []
        async with meter_of(
            kafka_settings, buffer_events=300, on_delivery=lambda report: reported.append(report.event_id)
        ) as meter:
            made = await asyncio.gather(*(work(meter, f"t{number}") for number in range(50)))
            batch = await meter.record_batch([{"metric_key": "api.calls", "subject": ADA} for _ in range(2000)])
            batch.raise_refused()
            await meter.flush(60)
            ids = [one for some in made for one in some] + [result.id or "" for result in batch]
            assert Counter(reported) == Counter(ids)
        assert meter.counts == DeliveryCounts(22_000, 22_000, 0)
        return ids

    assert Counter(asyncio.run(main())) == arrived(kafka_settings, topic)


def test_what_is_cancelled_while_it_waits_for_room_is_not_sent_and_the_rest_is_sent_once(
    kafka_settings: KafkaSettings, topic: str
) -> None:
    async def main() -> tuple[set[str], set[str]]:
        async with meter_of(kafka_settings, buffer_events=20) as meter:
            tasks = {
                str(n): asyncio.create_task(meter.record("api.calls", ADA, id=str(n), confirm=n % 5 == 0))
                for n in range(2000)
            }
            for n in range(0, 2000, 3):
                await asyncio.sleep(0)
                tasks[str(n)].cancel()
            await asyncio.wait(tasks.values())
            await meter.flush(60)
            # Cancelled before it was taken, or (with confirm) after that: then it is sent all the same.
            cancelled = {name for name, task in tasks.items() if task.cancelled()}
            assert len(cancelled) > 100
            assert meter.counts.recorded == meter.counts.delivered
            surely_not = {name for name in cancelled if int(name) % 5}
            recorded = set(tasks) - cancelled
            assert len(recorded) <= meter.counts.recorded <= len(tasks) - len(surely_not)
            return recorded, surely_not

    recorded, not_recorded = asyncio.run(main())
    found = arrived(kafka_settings, topic)
    assert set(found.values()) == {1}
    assert recorded <= found.keys()
    assert not not_recorded & found.keys()


def test_a_full_buffer_without_a_broker_never_stops_the_event_loop() -> None:
    async def main() -> None:
        meter = AsyncMeter(NOBODY, buffer_events=10, buffer_timeout=2, delivery_timeout=600)
        for _ in range(10):
            await meter.record("api.calls", ADA)
        async with Ticker() as ticker:
            before = ticker.ticks
            with pytest.raises(BufferFull):
                await meter.record("api.calls", ADA)
            assert ticker.ticks - before > 10
            before = ticker.ticks
            with pytest.raises(UndeliveredEvents) as caught:
                await meter.close(1)
            assert ticker.ticks - before > 10
        assert caught.value.failed == len(caught.value.events) == 10
        assert meter.counts == DeliveryCounts(10, 0, 10)

    asyncio.run(main())


def test_a_broker_that_is_killed_and_comes_back_has_every_event_once(own_stack: LocalStack) -> None:
    settings = own_stack.kafka_settings("")
    (topic,) = create_topics(settings, "usage.recorded", partitions=3)

    async def main() -> list[str]:
        async with meter_of(settings, buffer_events=500, buffer_timeout=600) as meter, Ticker() as ticker:
            before = [await meter.record("api.calls", ADA) for _ in range(300)]
            await meter.flush(60)
            await asyncio.to_thread(own_stack.kafka.broker(1).kill)
            confirming = asyncio.create_task(meter.record("api.calls", ADA, id="confirmed", confirm=True))
            waiting = [asyncio.create_task(meter.record("api.calls", ("user", f"u-{n % 50}"))) for n in range(1500)]
            ticks = ticker.ticks
            while ticker.ticks < ticks + 50:
                await asyncio.sleep(0.01)
            assert meter.counts.outstanding == 500  # full, and the loop has had its turns
            assert not confirming.done()
            await asyncio.to_thread(own_stack.kafka.restart, 1)
            assert (await confirming).delivered
            during = list(await asyncio.gather(*waiting))
            await meter.flush(120)
            assert meter.counts == DeliveryCounts(1801, 1801, 0)
            return [*before, "confirmed", *during]

    assert Counter(asyncio.run(main())) == arrived(settings, topic)
