"""The errors by which a Kafka broker refuses a client: trying again with the same settings does not help.

By name, so that this package needs no Kafka client. The SDK and the command line use the same set.
"""

from __future__ import annotations

from typing import Final

__all__ = ["REFUSALS"]

#: What `KafkaError.name()` returns.
REFUSALS: Final = frozenset(
    {
        "_AUTHENTICATION",
        "_SSL",
        "SASL_AUTHENTICATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "ILLEGAL_SASL_STATE",
        "CLUSTER_AUTHORIZATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED",
    }
)
