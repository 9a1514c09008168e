"""The thresholds as their topic says, read up to its end whenever events arrive.

Not from ClickHouse: the checker copies definitions there beside its judging, so an event can be here before the
definition that it was judged by.
"""

from __future__ import annotations

import logging
from typing import Final

from meterfold_processor.kafka.reader import PROMPT, Place, TopicReader
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.errors import InvalidDefinition, MeterfoldError, Poison
from meterfold_schemas.settings import KafkaSettings

__all__ = ["ThresholdFollower"]

_LOG = logging.getLogger("meterfold.notify")

_CALL_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.05


class ThresholdFollower:
    """For one thread. `catch_up` raises Retryable or Fatal."""

    def __init__(self, kafka: KafkaSettings, topic: str, group_id: str) -> None:
        self._kafka = kafka
        self._place = Place(topic, 0)
        self._group_id = group_id
        self._reader: TopicReader | None = None
        self._thresholds: dict[str, UsageThreshold] = {}

    def catch_up(self) -> None:
        """Read everything that is in the topic now."""
        try:
            if self._reader is None:
                self._reader = TopicReader(self._kafka, self._group_id, PROMPT)
                self._thresholds = {}
                ends = self._reader.ends([self._place.topic], _CALL_SECONDS)
                found = self._reader.read(ends, lambda: None)
            else:
                ends = self._reader.ends([self._place.topic], _CALL_SECONDS)
                found = self._reader.advance(ends)
        except MeterfoldError:
            self.close()
            raise
        for message in found[self._place]:
            self._apply(message.key() or b"", message.value())

    def get(self, threshold_id: str) -> UsageThreshold | None:
        """A threshold that is not deleted."""
        return self._thresholds.get(threshold_id)

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _apply(self, key: bytes, value: bytes | None) -> None:
        name = key.decode("utf-8", "replace")
        if value is None:
            self._thresholds.pop(name, None)
            return
        try:
            self._thresholds[name] = UsageThreshold.from_bytes(value)
        except (Poison, InvalidDefinition) as error:
            _LOG.error("the threshold %s cannot be read and notifies no one: %s", name, error)
