"""`metering.events`: usage.record and usage.recordBatch for whoever sends events over the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterfold_service.ingest.batches import Batch, batch_of
from meterfold_service.ingest.documents import Document
from meterfold_service.ingest.errors import KafkaUnavailable

if TYPE_CHECKING:
    from meterfold.gateway import Gateway
    from meterfold.sent_batch import SentBatch
    from meterfold.settings import SdkSettings
    from meterfold_schemas.settings import KafkaSettings

__all__ = ["Events", "Pending"]

_STALLED_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Pending:
    """The events of a request that were taken. `sent` is None where there are none."""

    batch: Batch
    sent: SentBatch | None


class Events:
    """Records events through the SDK; for any thread."""

    def __init__(self, kafka: Callable[[], KafkaSettings], sdk: Callable[[], SdkSettings]) -> None:
        self._kafka = kafka
        self._sdk = sdk
        self._lock = threading.Lock()
        self._gateway: Gateway | None = None

    def begin(self, documents: Iterable[Document], org_id: str | None, on_end: Callable[[], None]) -> Pending:
        """Take the events. `on_end` is called once, when each of them is delivered or has failed, from any thread.

        Raises KafkaUnavailable, BufferFull, NotRecorded, and with strict recording DefinitionsUnavailable: then nothing
        was taken.
        """
        gateway = self._open()
        stalled = gateway.seconds_without_report
        if stalled > _STALLED_SECONDS:
            trouble = gateway.trouble
            raise KafkaUnavailable(
                f"Kafka has confirmed no event for {stalled:.0f} s{f' ({trouble})' if trouble else ''}; nothing was "
                "taken, send the request again later"
            )
        batch = batch_of(documents, gateway, org_id)
        if not batch.keys:
            on_end()
            return Pending(batch, None)
        return Pending(batch, gateway.take(batch.keys, batch.values, on_end))

    def close(self) -> None:
        with self._lock:
            gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.close()

    def _open(self) -> Gateway:
        gateway = self._gateway
        if gateway is None:
            from meterfold.gateway import Gateway

            with self._lock:
                if self._gateway is None:
                    self._gateway = Gateway(self._kafka(), self._sdk())
                gateway = self._gateway
        return gateway
