"""A periodic ping of ClickHouse, because a worker that has nothing to write would not notice an outage."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from meterfold_schemas.errors import MeterfoldError, Retryable
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client, connect
from meterfold_sink.server import ping

_LOG = logging.getLogger("meterfold.health")

EVERY_SECONDS = 10.0
AGAIN_SECONDS = 2.0
_ANSWER_SECONDS = 10


def ping_clickhouse(settings: ClickHouseSettings, also: Callable[[Client], None] | None = None) -> Callable[[], None]:
    """A function that logs in and runs a statement, and then `also`. For one thread; it raises Retryable or Fatal.

    The connection is kept while it works, because opening one costs more than the query.
    """
    kept: list[Client] = []

    def ping_kept() -> None:
        if not kept:
            kept.append(connect(settings, timeout_seconds=_ANSWER_SECONDS))
        try:
            ping(kept[0])
            if also is not None:
                also(kept[0])
        except MeterfoldError:
            kept.pop().close()
            raise

    return ping_kept


class StoreCheck:
    """`report` gets every failure, and None after a success. A failure only makes the worker unready; the worker
    decides when to end."""

    def __init__(self, ask: Callable[[], None], report: Callable[[Retryable | None], None]) -> None:
        self._ask = ask
        self._report = report

    def run(self, stop: Event) -> None:
        """Run until `stop` is set, in a separate thread."""
        failing = False
        while not stop.is_set():
            try:
                self._ask()
            except MeterfoldError as error:
                self._report(error if isinstance(error, Retryable) else Retryable(str(error)))
                if not failing:
                    _LOG.warning("not ready: %s", error)
                failing = True
            else:
                self._report(None)
                failing = False
            stop.wait(AGAIN_SECONDS if failing else EVERY_SECONDS)
