"""Three brokers, replication 3, two in sync: any one may be killed."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka.admin import NewTopic

from meterfold_local.stack import LocalStack
from support import consume_all, eventually, producer
from support.kafka import admin


def test_one_of_three_brokers_is_killed_and_comes_back(make_stack: Callable[..., LocalStack]) -> None:
    stack = make_stack(brokers=3)
    settings = stack.kafka_settings("t.")
    client = admin(settings)
    client.create_topics([NewTopic("t.numbers", num_partitions=3, replication_factor=3)])["t.numbers"].result(30)
    acknowledged: set[bytes] = set()
    with_all = producer(settings)

    def send(first: int, count: int) -> None:
        for number in range(first, first + count):
            with_all.produce(
                "t.numbers",
                str(number).encode(),
                on_delivery=lambda error, message: error or acknowledged.add(message.value()),
            )
        assert with_all.flush(30) == 0

    def in_sync() -> set[int]:
        partitions = client.list_topics("t.numbers", timeout=10).topics["t.numbers"].partitions
        return {len(partition.isrs) for partition in partitions.values()}

    send(0, 500)
    victim = client.list_topics("t.numbers", timeout=10).topics["t.numbers"].partitions[0].leader
    stack.kafka.broker(victim).kill()
    send(500, 500)
    assert len(acknowledged) == 1000
    eventually(lambda: in_sync() == {2}, 20, "the killed broker is out of sync")
    assert {message.value() for message in consume_all(settings, "t.numbers")} == acknowledged

    stack.kafka.restart(victim)
    eventually(lambda: in_sync() == {3}, 20, "the broker has caught up")

    # All at once, as in a power cut: they come back as one cluster with every acknowledged message.
    stack.kafka.kill()
    stack.kafka.restart(1, 2, 3)
    send(1000, 100)
    assert len(acknowledged) == 1100
    assert {message.value() for message in consume_all(settings, "t.numbers")} == acknowledged
