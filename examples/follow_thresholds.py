"""Follow threshold events with a plain Kafka client. Ends after as many as it is asked for.

python examples/follow_thresholds.py 2
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer

from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else None
    settings = KafkaSettings.load()
    topics = Topics(settings.topic_prefix)
    # `client` adds addresses and credentials (for a local stack: SASL) to what is given here.
    consumer = Consumer(
        settings.client(
            **{
                "group.id": settings.topic_prefix + "threshold-example",
                "auto.offset.reset": "earliest",
                # Events are written in transactions: only committed ones count.
                "isolation.level": "read_committed",
            }
        )
    )
    consumer.subscribe([topics.threshold_approaching, topics.threshold_exceeded, topics.threshold_cleared])
    seen = 0
    try:
        while wanted is None or seen < wanted:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                print(f"waiting: {message.error().str()}", file=sys.stderr)
                continue
            event = ThresholdEvent.from_bytes(message.value())
            seen += 1
            print(
                f"{event.event_type}  {event.subject_type} {event.subject_id}  {event.metric_key} "
                f"{event.actual_value:.2f} of {event.threshold:.2f} ({event.percentage_used:.0f} %)"
            )
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
