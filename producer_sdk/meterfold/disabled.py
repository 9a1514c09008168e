"""A Meter with `enabled=False`: nothing is checked, encoded, counted or sent, and no broker is needed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, Final

from meterfold.account import Cut
from meterfold.batch import BatchResults
from meterfold.delivery import Delivery, ReportCallback
from meterfold.recorder import Encoded, Recorder
from meterfold.subjects import Resolvers
from meterfold.tables import FIELDS, rows
from meterfold.transport import Transport
from meterfold.values import Id
from meterfold_schemas.errors import InvalidUsage

__all__ = ["Disabled", "NoRecorder"]

_NO_KEY: Final = b""
_ID: Final = FIELDS.index("id")


class NoRecorder(Recorder):
    """Gives every event its id, and checks nothing."""

    def __init__(self) -> None:
        super().__init__("", Resolvers())

    def encode(self, metric_key: Any, subject: Any, quantity: Any, id: Id | None, *others: Any) -> Encoded:
        event_id = self._next_id() if id is None else str(id)
        return event_id, _NO_KEY, event_id.encode("utf-8", "replace")

    def frame(self, events: Any) -> None:
        """A frame is read row by row, for its ids alone."""

    def batch(self, events: Iterable[Mapping[str, Any]] | Any) -> Generator[Encoded, None, BatchResults]:
        """No event to send; every event of the batch counts as accepted."""
        ids: list[str | None] = []
        try:
            for row in rows(events):
                given = None if isinstance(row, InvalidUsage) else row[_ID]
                ids.append(self._next_id() if given is None else str(given))
        except InvalidUsage:  # not even a batch
            pass
        yield from ()  # a generator, as Recorder.batch is
        return BatchResults(ids, {})


class Disabled(Transport):
    """Takes every event and drops it."""

    def send(
        self, key: bytes, value: bytes, wait: float | None = None, on_report: ReportCallback | None = None
    ) -> None:
        if on_report is not None:
            on_report(Delivery(value.decode(), None, None))

    def wait_for(self, cut: Cut, timeout: float | None, idle: float | None = None) -> None:
        """Nothing is ever outstanding."""

    def free(self) -> None:
        """Nothing is held."""

    @property
    def trouble(self) -> str | None:
        return None

    @property
    def freed(self) -> bool:
        return self._closed
