"""Watches how far fold and checker are, from outside: recovery is a condition on that, never a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread

from confluent_kafka import OFFSET_END, Consumer, KafkaException

from chaos.ground import Ground
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.offsets import at, log_edge
from meterfold_schemas.errors import MeterfoldError
from meterfold_sink import fold_state
from meterfold_sink.client import Client, connect

_LOOK_SECONDS = 0.4
_CALL_SECONDS = 2.0

Offsets = dict[int, int]


class Lookout:
    """A thread that looks all the time. `wait_fold` and `wait_checker` are for any thread; once it is `hopeless`
    nobody waits any more."""

    def __init__(self, ground: Ground, hopeless: Callable[[], bool] = lambda: False) -> None:
        self._ground = ground
        self._hopeless = hopeless
        self._changed = Condition()
        self._over = False
        self.ends: Offsets = {}
        self.window_ends: Offsets = {}
        self._ends_at = self._windows_at = 0.0
        self.progress: Offsets = {}
        self.judged: Offsets = {}
        self._client: Client | None = None
        self._consumer: Consumer | None = None
        self._thread = Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over = True
        if self._thread.is_alive():
            self._thread.join(30)

    def wait_fold(self, seconds: float) -> bool:
        """Until everything that is on usage.recorded now is folded; False when the time was up."""
        end = time.monotonic() + seconds
        ends = self._fresh(lambda: (self._ends_at, self.ends), end)
        return ends is not None and self.wait(lambda: all(self.progress.get(p, -1) >= o for p, o in ends.items()), end)

    def wait_checker(self, seconds: float) -> bool:
        """Until everything that is on usage.windows now is judged and committed."""
        end = time.monotonic() + seconds
        ends = self._fresh(lambda: (self._windows_at, self.window_ends), end)
        return ends is not None and self.wait(
            lambda: all(o == 0 or self.judged.get(p, 0) >= o for p, o in ends.items()), end
        )

    def wait(self, condition: Callable[[], bool], end: float) -> bool:
        with self._changed:
            while not condition():
                left = end - time.monotonic()
                if left <= 0 or self._over or self._hopeless():
                    return False
                self._changed.wait(left)
        return True

    def _fresh(self, look: Callable[[], tuple[float, Offsets]], end: float) -> Offsets | None:
        """What a look that begins after this call sees."""
        now = time.monotonic()
        return dict(look()[1]) if self.wait(lambda: look()[0] > now, end) else None

    def _run(self) -> None:
        while not self._over:
            begun = time.monotonic()
            self._look_at_kafka()
            with suppress(MeterfoldError):
                if self._client is None:
                    self._client = connect(self._ground.clickhouse, timeout_seconds=5)
                self.progress = {p: row.next_offset for p, row in fold_state.read_progress(self._client).items()}
            with self._changed:
                self._changed.notify_all()
            time.sleep(max(0.0, _LOOK_SECONDS - (time.monotonic() - begun)))
        if self._consumer is not None:
            self._consumer.close()

    def _look_at_kafka(self) -> None:
        begun = time.monotonic()
        topics, partitions = self._ground.topics, range(self._ground.partitions)
        try:
            consumer = self._consumer = self._consumer or self._new_consumer()
            self.ends = self._ends(consumer, topics.usage_recorded)
            self._ends_at = begun
            self.window_ends = self._ends(consumer, topics.usage_windows)
            self._windows_at = begun
            places = [at(topics.usage_windows, p) for p in partitions]
            found = consumer.committed(places, _CALL_SECONDS)
            self.judged |= {place.partition: place.offset for place in found if place.error is None}
        except (KafkaException, MeterfoldError):
            # After a broker's restart a client may ask with an old leader epoch for ever: the next one is fresh.
            if self._consumer is not None:
                self._consumer.close()
            self._consumer = None

    def _ends(self, consumer: Consumer, topic: str) -> Offsets:
        return log_edge(consumer, topic, range(self._ground.partitions), OFFSET_END, _CALL_SECONDS)

    def _new_consumer(self) -> Consumer:
        """In the checker's group without ever joining it, to read its offsets; a transaction that is open does not
        hold it up."""
        group = self._ground.kafka.topic_prefix + CheckerSettings().group_id
        return clients.consumer(self._ground.kafka, group, "classic", **{"isolation.level": "read_uncommitted"})
