"""Why the events of a request were not taken. In each case nothing was taken."""

from __future__ import annotations

from meterfold_schemas.errors import InvalidUsage, Retryable
from meterfold_service.errors import OperationError

__all__ = ["KafkaUnavailable", "TooManyEvents", "UnreadableBody"]


class UnreadableBody(InvalidUsage):
    """The body of a request is not what its headers say, so no event in it can be looked at."""

    code = "UNREADABLE_BODY"


class TooManyEvents(OperationError):
    """A request has more events, or more bytes, than the server allows."""

    code = "TOO_LARGE"


class KafkaUnavailable(Retryable):
    """Kafka does not answer, so events could only be kept in memory."""

    code = "KAFKA_UNAVAILABLE"

    @classmethod
    def of(cls, what: str, trouble: str | None = None) -> KafkaUnavailable:
        return cls(f"{what}{f' ({trouble})' if trouble else ''}; nothing was taken, send the request again later")
