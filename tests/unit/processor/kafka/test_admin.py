"""The admin client knows the leaders of topics before it asks for offsets: see Admin.know_leaders."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meterfold_processor.kafka import admin
from meterfold_schemas.settings import KafkaSettings

SETTINGS = KafkaSettings(bootstrap_servers="127.0.0.1:1")


def test_leaders_are_asked_for_when_they_are_not_known_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    now = 1000.0
    existing = ("a", "b")

    class Cluster(admin.Admin):
        def list_topics(self, *_: Any, **__: Any) -> Any:
            asked.append(existing)
            return SimpleNamespace(topics=dict.fromkeys(existing))

    monkeypatch.setattr(admin, "time", SimpleNamespace(monotonic=lambda: now))
    client = Cluster(SETTINGS)
    client.know_leaders(["a"])
    client.know_leaders(["a", "b"])
    assert asked == [("a", "b")]
    existing = ("a", "b", "c")
    client.know_leaders(["c"])
    assert asked == [("a", "b"), ("a", "b", "c")]
    client.know_leaders(["a", "b", "c"])
    now += 301.0
    client.know_leaders(["a"])
    assert len(asked) == 3
