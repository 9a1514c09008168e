"""Whether ClickHouse answers, asked now and then: a worker that has nothing to write would not notice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from meterfold_schemas.errors import MeterfoldError, Retryable
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client, connect

_LOG = logging.getLogger("meterfold.health")

EVERY_SECONDS = 10.0
AGAIN_SECONDS = 2.0
_ANSWER_SECONDS = 10


class ClickHousePing:
    """Log in, find the database, get an answer. For one thread; raises Retryable or Fatal.

    The connection is kept while it is good: opening one costs more than asking.
    """

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    def __call__(self) -> None:
        if self._client is None:
            self._client = connect(self._settings, timeout_seconds=_ANSWER_SECONDS)
        try:
            self._client.command("SELECT 1")
        except MeterfoldError:
            self._client.close()
            self._client = None
            raise


class StoreCheck:
    """`report` hears of every failure, and None when it went well. Trouble makes a worker unready, nothing more: what
    ends it is for the worker itself to decide."""

    def __init__(self, ask: Callable[[], None], report: Callable[[Retryable | None], None]) -> None:
        self._ask = ask
        self._report = report

    def run(self, stop: Event) -> None:
        """Until `stop` is set; for a thread of its own."""
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
