"""A topic is created only when every broker knows it: the next client may ask the one that learns of it last."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from meterfold_processor.kafka import topics
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import TopicSpec

SETTINGS = KafkaSettings(bootstrap_servers="one:1,two:2")
LATE_LOOKS = 3


class Cluster:
    """Two brokers; the second one hears of a new topic some looks later. Stands in for the admin client."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.looks: Counter[str] = Counter()

    def client(self, settings: KafkaSettings) -> Any:
        return SimpleNamespace(
            asks=settings.bootstrap_servers.split(",")[0],
            create_topics=lambda new, **_: {topic.topic: self.made.add(topic.topic) for topic in new},
            answer=lambda future, doing: None,
            list_topics=lambda timeout: SimpleNamespace(
                brokers={1: SimpleNamespace(host="one", port=1), 2: SimpleNamespace(host="two", port=2)}
            ),
        )

    def describe(self, admin: Any, names: list[str]) -> dict[str, Any]:
        self.looks[admin.asks] += 1
        if admin.asks == "two:2" and self.looks[admin.asks] < LATE_LOOKS:
            return {}
        leader = SimpleNamespace(leader=SimpleNamespace(id=1))
        return {name: SimpleNamespace(partitions=[leader]) for name in names if name in self.made}


def test_every_broker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    monkeypatch.setattr(topics, "admin_for", cluster.client)
    monkeypatch.setattr(topics, "_describe", cluster.describe)
    topics.create_topics(SETTINGS, [TopicSpec("usage.recorded", 1)])
    assert cluster.looks["two:2"] == LATE_LOOKS
    assert topics._describe(cluster.client(KafkaSettings(bootstrap_servers="two:2")), ["usage.recorded"])
