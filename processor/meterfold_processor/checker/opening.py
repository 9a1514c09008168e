"""The checks of a checker at its start."""

from __future__ import annotations

from confluent_kafka import KafkaException

from meterfold_processor.checker.rules import WindowRules
from meterfold_processor.checker.stored import CheckerStore
from meterfold_processor.kafka import errors
from meterfold_processor.kafka.admin import Admin
from meterfold_processor.kafka.topics import check_source
from meterfold_schemas.errors import Fatal
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.rules import FoldRules

__all__ = ["check"]

_CALL_SECONDS = 15.0


def check(settings: KafkaSettings, stored: CheckerStore) -> WindowRules:
    """What the stored rules say about windows, if tables, rules and topics fit together.

    Raises Fatal where they do not, Retryable where a server does not answer.
    """
    rules = stored.rules()
    check_source(settings, rules)
    _check_counts(settings, rules)
    return WindowRules.of(rules)


def _check_counts(settings: KafkaSettings, rules: FoldRules) -> None:
    """State and aggregates use the partition number of their source, so the partition counts must be equal."""
    topics = Topics(settings.topic_prefix)
    wanted = {
        topics.usage_windows: rules.partition_count,
        topics.usage_aggregated: rules.partition_count,
        topics.threshold_state: rules.partition_count,
        topics.metric_defined: 1,
        topics.threshold_defined: 1,
    }
    try:
        found = Admin(settings).list_topics(timeout=_CALL_SECONDS).topics
    except KafkaException as error:
        raise errors.as_error(error.args[0], "looking at the topics") from error
    for name, count in wanted.items():
        there = len(found[name].partitions) if name in found else 0
        if there != count:
            raise Fatal(
                f"Kafka's topic {name} has {plural(there, 'partition')}, expected {count}: run `meterfold migrate`, "
                "which creates missing topics and says what to do about the others"
            )
