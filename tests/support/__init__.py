"""What tests on the real stack share: waiting, topics, reading a topic to its end."""

from support.kafka import consume_all, create_topics, delete_topics, producer
from support.waiting import eventually

__all__ = ["consume_all", "create_topics", "delete_topics", "eventually", "producer"]
