"""Events that flow while workers come and go."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event, Thread
from types import TracebackType
from typing import Self

from support.fold.installation import ORG, Installation, Outgoing, event

_CHUNK = 12
_PAUSE_SECONDS = 0.04


class Flow:
    """Sends from a thread of its own until the block ends, at most `most` events: subjects on every partition,
    credits, late events, some repeated, some broken."""

    def __init__(self, installation: Installation, seed: int, most: int = 20_000) -> None:
        print(f"flow: seed {seed}")  # noqa: T201
        self.sent = 0
        self._installation = installation
        self._random = random.Random(seed)
        self._most = most
        self._stop = Event()
        self._failure: BaseException | None = None
        self._earlier: list[Outgoing] = []
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while self.sent < self._most and not self._stop.wait(_PAUSE_SECONDS):
                self._installation.send(*(self._next() for _ in range(_CHUNK)))
                self.sent += _CHUNK
        except BaseException as failure:
            self._failure = failure

    def _next(self) -> Outgoing:
        chance = self._random.random()
        if chance < 0.08 and self._earlier:
            return self._random.choice(self._earlier)
        made = event(
            f"u{self._random.randrange(30)}",
            Decimal(self._random.randrange(-500, 5000)) / 100,
            metric_key=self._random.choice(["api.calls", "storage.bytes"]),
            org_id=self._random.choice([ORG, "", "other"]),
            timestamp=datetime.now(UTC) - timedelta(hours=self._random.choice([0, 0, 0, 0, 1, 30, 24 * 40])),
        )
        if chance > 0.99:
            return Outgoing((made.value or b"")[:-3], made.key)
        self._earlier = [*self._earlier[-400:], made]
        return made
