"""How a client reaches the local cluster, and the question whether it answers."""

from __future__ import annotations

import logging
from collections.abc import Collection

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from meterfold_local.kafka.config import CLIENT_USER

# librdkafka reports every refused connection while a server is coming up; without a logger, on our standard error.
_quiet = logging.getLogger("meterfold.local.kafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def sasl_settings(password: str) -> dict[str, str]:
    """librdkafka's settings for a client of the local cluster (without bootstrap.servers)."""
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": CLIENT_USER,
        "sasl.password": password,
    }


class Probe:
    """Asks one broker, as an authenticated client, which brokers it knows.

    A broker answers clients only once it has caught up with the cluster's metadata and may serve them.
    """

    def __init__(self, address: str, password: str) -> None:
        self._admin = AdminClient(
            {
                "bootstrap.servers": address,
                **sasl_settings(password),
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 200,
                "socket.connection.setup.timeout.ms": 2000,
            },
            logger=_quiet,
        )

    def knows(self, node_ids: Collection[int], timeout: float = 1.0) -> bool:
        """Whether it answers within `timeout` seconds and counts all of these brokers as up."""
        try:
            return self._admin.list_topics(timeout=timeout).brokers.keys() >= set(node_ids)
        except KafkaException:
            return False
