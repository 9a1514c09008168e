"""Kafka's errors in our own tree: what went wrong, what a client said about it meanwhile, and whether to try again."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from meterfold_schemas.errors import Fatal, MeterfoldError, Retryable
from meterfold_schemas.kafka_refusals import REFUSALS
from meterfold_schemas.settings import KafkaSettings, librdkafka_refuses

AWAY_SECONDS = 5.0
"""How long no broker may be reachable before a question is given up."""

_FATAL = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError._INVALID_ARG,
    }
)
_AWAY = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._WAIT_COORD,
    }
)
#: `sasl_plaintext://host:9092/bootstrap: ` before, ` (after 0ms in state CONNECT)` behind what went wrong.
_ASIDE = re.compile(r"^\S+/(?:bootstrap|\d+): | \(after \d+ms in state [A-Z_]+.*$")


def as_error(error: KafkaError, doing: str) -> MeterfoldError:
    """The error in our tree: Fatal where trying again cannot help, Retryable otherwise."""
    message = f"Kafka, {doing}: {error.name()}: {error.str()}"
    if error.code() in _FATAL:
        return Fatal(f"{message}. Check the address, the credentials and their permissions")
    return Retryable(message)


class Heard:
    """What a client says aside; its setting `error_cb`. Calls only run out of time, and the reason comes here, from
    inside of the client's `poll` or `consume`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._servers = settings.bootstrap_servers
        self._reason = ""
        self.refused: KafkaError | None = None
        self.refusal: KafkaError | None = None
        """The first of REFUSALS: whoever asks only once need not ask again. A worker asks again after those that can
        pass, such as a broken TLS handshake with a broker that restarts."""
        self.unreachable = False
        """No broker could be reached since the client was made."""

    def __call__(self, error: KafkaError) -> None:
        if self.refusal is None and error.name() in REFUSALS:
            self.refusal = error
        if error.code() == KafkaError._AUTHENTICATION:
            self.refused = error
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.unreachable = True
        elif error.code() in _AWAY:
            self._reason = _ASIDE.sub("", error.str())

    def gives_up(self, waited: float) -> bool:
        """Whether waiting any longer is useless, after this many seconds."""
        return self.refused is not None or (self.unreachable and waited > AWAY_SECONDS)

    def explained(self, error: MeterfoldError, doing: str) -> MeterfoldError:
        """The error of a call, by what was heard meanwhile."""
        if self.refused is not None:
            return as_error(self.refused, doing)
        if self._reason and kafka_code(error) in _AWAY:
            return Retryable(
                f"Kafka at {self._servers} could not be reached, {doing}: {self._reason}. Check the address, and "
                "whether the brokers are running"
            )
        return error


def kafka_code(error: BaseException) -> int | None:
    """Kafka's code behind an error of ours."""
    cause: Any = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


class GaveUp(Fatal):
    """A client that will never have a partition again: fatal for the client, not for the worker that makes another."""


def consuming_error(error: KafkaError) -> MeterfoldError:
    """An error that came in place of a message. GaveUp where the client has given up for good: a coordinator that came
    back without a group that was just made makes librdkafka do so."""
    if error.fatal() or error.code() == KafkaError._FATAL:
        return GaveUp(f"Kafka, consuming: {error.str()}: this client has left its group for good")
    return as_error(error, "consuming")


def warn_or_raise(error: KafkaError, log: logging.Logger) -> None:
    """Log an error that came in place of a message and can pass. Raises Fatal for any other."""
    found = consuming_error(error)
    if isinstance(found, Fatal):
        raise found
    log.warning("%s", found)


@contextmanager
def settings_checked() -> Iterator[None]:
    """Around the making of any client. Raises InvalidSettings, which names the variable, for a setting that librdkafka
    does not have."""
    try:
        yield
    except (KafkaException, TypeError, ValueError) as error:
        cause = error.args[0] if error.args else error
        raise librdkafka_refuses(cause.str() if isinstance(cause, KafkaError) else str(cause)) from None
