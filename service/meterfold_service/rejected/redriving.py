"""Sends corrected events, one for each rejected message, also when redrives are repeated, race or are killed.

1. **claim**: the corrected event is stored in rejected_redrives. Of two claims of a message the first one stays.
2. wait SETTLE_SECONDS, until no earlier claim can turn up any more, and read which claim won
3. **send** the event of the winner only
4. **sent**: store where it was written

After a crash, the same command finds the claim and sends the same event again. The fold counts an identity once within
the horizon, and later than that the timestamp of the event is too old, so sending it twice never counts it twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, Message

from meterfold_processor.fold.schemas import SETTLE_SECONDS
from meterfold_processor.kafka.clients import producer
from meterfold_processor.kafka.errors import as_error
from meterfold_schemas.errors import Retryable
from meterfold_schemas.periods import micros
from meterfold_schemas.topics import Topics
from meterfold_sink.rejected import Claim, Place, RowKey, Sent, StoredRedrive, read_redrives, write_claims, write_sent

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client

__all__ = ["HEADER_OFFSET", "HEADER_PARTITION", "Redriver"]

HEADER_PARTITION: Final = "redriven-partition"
HEADER_OFFSET: Final = "redriven-offset"
"""Headers of an event that was sent again: the position of the rejected message, as decimal text."""

_DELIVERY_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Redriven:
    """`sent`: the keys that the events of these messages have in the tables. `lost`: messages that somebody else
    claimed first."""

    sent: Mapping[Place, RowKey]
    lost: Mapping[Place, StoredRedrive]


class Redriver:
    """For one thread. `settle_seconds` None: SETTLE_SECONDS."""

    def __init__(self, client: Client, kafka: KafkaSettings, settle_seconds: float | None = None) -> None:
        self._client = client
        self._topic = Topics(kafka.topic_prefix).usage_recorded
        self._settle_seconds = SETTLE_SECONDS if settle_seconds is None else settle_seconds
        self._producer = producer(kafka, **{"delivery.timeout.ms": int(_DELIVERY_SECONDS * 1000), "linger.ms": 5})

    def send(self, claims: Mapping[Place, Claim]) -> Redriven:
        """Claim and send. A claim that is stored already is sent as it is. Raises Retryable or Fatal: repeat it."""
        self.claim(claims)
        return self.send_claimed(claims)

    def claim(self, claims: Mapping[Place, Claim]) -> None:
        """Step 1 alone, so that several batches can wait side by side."""
        there = read_redrives(self._client, _keys(claims))
        write_claims(self._client, {place: claim for place, claim in claims.items() if place not in there})

    def send_claimed(self, claims: Mapping[Place, Claim]) -> Redriven:
        """Steps 2 to 4, for claims that were given to `claim`."""
        stored = self._settled(claims)
        won = {place: one.claim for place, one in stored.items() if _same(one.claim, claims[place])}
        lost = {place: one for place, one in stored.items() if place not in won}
        to_send = {place: claim for place, claim in won.items() if stored[place].sent is None}
        return Redriven(self._sent(to_send), lost)

    def _settled(self, claims: Mapping[Place, Claim]) -> dict[Place, StoredRedrive]:
        keys = _keys(claims)
        while True:
            found = read_redrives(self._client, keys)
            youngest = min((one.age for one in found.values()), default=self._settle_seconds)
            if len(found) == len(keys) and youngest >= self._settle_seconds:
                return found
            if len(found) < len(keys):
                raise Retryable("ClickHouse does not show claims that it has acknowledged. Repeat the redrive")
            time.sleep(max(_PAUSE_SECONDS, self._settle_seconds - youngest))

    def _sent(self, claims: Mapping[Place, Claim]) -> dict[Place, RowKey]:
        """Where each was written. What was written is stored even when others fail."""
        written: dict[Place, RowKey] = {}
        failures: list[KafkaError] = []
        try:
            self._publish(claims, written, failures)
        finally:
            write_sent(
                self._client, {place: Sent(claims[place].received_at, *key.place) for place, key in written.items()}
            )
        if failures:
            raise as_error(failures[0], f"publishing to {self._topic}")
        if missing := len(claims) - len(written):
            raise Retryable(f"Kafka, publishing to {self._topic}: {missing} not confirmed in {_DELIVERY_SECONDS:g} s")
        return written

    def _publish(self, claims: Mapping[Place, Claim], written: dict[Place, RowKey], failures: list[KafkaError]) -> None:
        def report(place: Place, error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None:
                failures.append(error)
            elif partition is not None and offset is not None:
                # The broker's stamp (LogAppendTime), which is the arrival in the tables.
                written[place] = RowKey(partition, message.timestamp()[1] * 1000, offset)

        for place, claim in claims.items():
            headers: list[tuple[str, str | bytes | None]] = [
                (HEADER_PARTITION, str(place[0])),
                (HEADER_OFFSET, str(place[1])),
            ]
            while not failures:
                try:
                    self._producer.produce(
                        self._topic,
                        claim.value,
                        claim.key,
                        headers=headers,
                        on_delivery=partial(report, place),
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
                except KafkaException as error:
                    raise as_error(error.args[0], f"publishing to {self._topic}") from error
            self._producer.poll(0)
        self._producer.flush(_DELIVERY_SECONDS + 5)


def _same(one: Claim, other: Claim) -> bool:
    return (one.key, one.value) == (other.key, other.value)


def _keys(claims: Mapping[Place, Claim]) -> list[RowKey]:
    return [RowKey(partition, micros(claim.received_at), offset) for (partition, offset), claim in claims.items()]
