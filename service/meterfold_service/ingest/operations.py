"""`metering.events`: usage.record and usage.recordBatch for whoever sends events over the network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import MeterfoldError
from meterfold_service.ingest.batches import Batch, batch_of
from meterfold_service.ingest.documents import Document
from meterfold_service.ingest.errors import KafkaUnavailable, TooManyEvents

if TYPE_CHECKING:
    from meterfold.gateway import Gateway
    from meterfold.sent_batch import SentBatch
    from meterfold.settings import SdkSettings
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_service.ingest.reachable import Reachable
    from meterfold_sink.rules import FoldRules

__all__ = ["Events", "Pending"]

_LOG = logging.getLogger("meterfold.events")

_STALLED_SECONDS: Final = 2.0
_RULES_SECONDS: Final = 60.0
_LINGER_MS: Final = "2"
"""A request waits for it; the SDK's default is for applications that do not wait."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The events of a request, and what the broker reported about those that were taken. `sent` None: none was."""

    batch: Batch
    sent: SentBatch | None


class Events:
    """Records events through the SDK; for any thread."""

    def __init__(
        self,
        kafka: Callable[[], KafkaSettings],
        sdk: Callable[[], SdkSettings],
        rules: Callable[[], FoldRules],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rules`: the stored ones, of which timestamps have to keep."""
        self._kafka = kafka
        self._sdk = sdk
        self._rules = rules
        self._clock = clock
        self._rules_due = -1.0
        self._lock = threading.Lock()
        self._opened: tuple[Gateway, Reachable] | None = None

    def refresh(self) -> None:
        """Open the producer, and read the stored rules once a minute. Raises InvalidSettings.

        Without ClickHouse the rules that are known remain, or timestamps are not checked: then the fold rejects.
        """
        gateway, _ = self._open()
        if (now := self._clock()) < self._rules_due:
            return
        self._rules_due = now + _RULES_SECONDS
        try:
            rules = self._rules()
        except MeterfoldError as error:
            _LOG.warning("the stored rules cannot be read, so the age of events is not checked by new ones: %s", error)
        else:
            gateway.check_ages(rules.horizon_seconds, rules.future_tolerance_seconds)

    @property
    def is_doubtful(self) -> bool:
        """Whether Kafka may be away, so that `check` should be called first."""
        return self._open()[0].trouble is not None

    def check(self) -> None:
        """Ask Kafka, for less than 2 s. Raises KafkaUnavailable."""
        self._open()[1].check()

    def begin(self, documents: Iterable[Document], org_id: str | None, on_end: Callable[[], None]) -> Pending:
        """Take the events, without waiting. `on_end` is called once, when each of them is delivered or has failed, from
        any thread. `org_id`: the organization that the sender speaks for; None: any.

        Raises KafkaUnavailable, BufferFull, TooManyEvents, and with strict recording DefinitionsUnavailable: then
        nothing was taken, and `on_end` is not called.
        """
        from meterfold.errors import BufferFull, MeterClosed, NotRecorded

        gateway, _ = self._open()
        if (stalled := gateway.seconds_without_report) > _STALLED_SECONDS:
            raise KafkaUnavailable.of(f"Kafka has confirmed no event for {stalled:.0f} s", gateway.trouble)
        batch = batch_of(documents, gateway, org_id)
        if not batch.keys:
            on_end()
            return Pending(batch, None)
        try:
            return Pending(batch, gateway.take(batch.keys, batch.values, on_end))
        except BufferFull:
            raise
        except MeterClosed:
            raise KafkaUnavailable.of("this server is stopping") from None
        except NotRecorded as error:
            raise TooManyEvents(str(error)) from None

    def close(self) -> None:
        """Give up what has no report yet, after a moment."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()
            opened[1].close()

    def _open(self) -> tuple[Gateway, Reachable]:
        opened = self._opened
        if opened is None:
            from meterfold.gateway import Gateway
            from meterfold_service.ingest.reachable import Reachable

            with self._lock:
                opened = self._opened
                if opened is None:
                    kafka, sdk = self._kafka(), self._sdk()
                    quick = kafka.model_copy(update={"librdkafka": {"linger.ms": _LINGER_MS, **kafka.librdkafka}})
                    opened = self._opened = Gateway(quick, sdk), Reachable(kafka, self._clock)
        return opened
