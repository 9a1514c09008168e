"""Strict recording without a broker: which metrics are known, and what happens while definitions cannot be read."""

from __future__ import annotations

import os
import pickle
import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import ClusterMetadata, TopicMetadata
from hypothesis import given
from hypothesis import strategies as st

from meterfold import DefinitionsUnavailable, InvalidSettings, InvalidUsage, MetricNotFound
from meterfold.metric_follower import MetricFollower, consumer_config
from meterfold.metrics import DefinedMetrics
from meterfold.testing import AsyncInMemoryMeter, InMemoryMeter
from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.keys import metric_definition_key
from support.waiting import eventually

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY, VALUE = b'["","api.calls"]', b""


def definition(key: str = "api.calls", org_id: str = "", *, active: bool = True) -> MetricDefinition:
    values = {"id": f"m-{key}", "name": key, "unit": "x", "created_at": NOW, "updated_at": NOW}
    return MetricDefinition(key=key, org_id=org_id, is_active=active, **values)


def message(key: str = "api.calls", org_id: str = "", *, active: bool = True) -> tuple[bytes, bytes]:
    metric = definition(key, org_id, active=active)
    return metric.message_key, metric.to_bytes()


def known(metrics: DefinedMetrics, org_id: str, key: str) -> bool:
    try:
        metrics.check(org_id, key)
    except MetricNotFound:
        return False
    return True


def test_an_organizations_own_definition_hides_the_global_one() -> None:
    metrics = DefinedMetrics()
    metrics.apply(*message())
    metrics.apply(*message(org_id="acme", active=False))
    metrics.apply(*message("gpu.seconds", "acme"))
    assert known(metrics, "", "api.calls")
    assert known(metrics, "other", "api.calls")
    with pytest.raises(MetricNotFound, match=r"'api\.calls' is inactive for organization acme: activate it") as refused:
        metrics.check("acme", "api.calls")
    assert refused.value.is_inactive
    assert known(metrics, "acme", "gpu.seconds")
    assert not known(metrics, "", "gpu.seconds")
    metrics.apply(metric_definition_key("acme", "api.calls"), None)
    assert known(metrics, "acme", "api.calls")


def test_the_error_guesses_a_key_of_the_organization() -> None:
    metrics = DefinedMetrics([("", "api.calls"), ("acme", "gpu.seconds"), ("other", "api.cals2")])
    with pytest.raises(MetricNotFound) as refused:
        metrics.check("acme", "api.cals")
    assert str(refused.value) == (
        "metric 'api.cals' is not defined for organization acme: did you mean 'api.calls'? Otherwise define it with "
        "`meterfold metric define`"
    )
    assert isinstance(refused.value, InvalidUsage)
    assert (refused.value.code, refused.value.similar) == ("METRIC_NOT_FOUND", "api.calls")
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301
    assert (str(again), again.similar) == (str(refused.value), "api.calls")
    metrics.apply(metric_definition_key("", "api.calls"), None)  # a guess is not remembered beyond a change
    with pytest.raises(MetricNotFound) as refused:
        metrics.check("acme", "api.cals")
    assert refused.value.similar is None


def test_what_cannot_be_read_changes_nothing_and_a_newer_schema_counts_as_defined() -> None:
    metrics = DefinedMetrics()
    key, value = message()
    metrics.apply(key, value)
    for bad_key, bad_value in (
        (b"x", value),
        (b'["","other"]', value),
        (key, b"\xff"),
        (key, value[:-3]),
        (b"1", None),
    ):
        metrics.apply(bad_key, bad_value)
    assert known(metrics, "", "api.calls")
    assert not known(metrics, "", "other")
    metrics.apply(b'["","new"]', b"\xc3\x01\x00\x00\x00\x00\x00\x00\x00\x00rest")
    assert known(metrics, "", "new")


ORGS, KEYS = ("", "acme", "other"), ("a", "b")
CHANGES = st.lists(st.tuples(st.sampled_from(ORGS), st.sampled_from(KEYS), st.sampled_from([True, False, None])))


@given(CHANGES)
def test_it_agrees_with_the_checkers_view_of_the_same_messages(changes: list[tuple[str, str, bool | None]]) -> None:
    from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead

    metrics, records = DefinedMetrics(), []
    for offset, (org_id, key, active) in enumerate(changes):
        name = metric_definition_key(org_id, key)
        value = None if active is None else definition(key, org_id, active=active).to_bytes()
        metrics.apply(name, value)
        records.append(DefinitionRecord("metric", name, value, offset))
    theirs = Definitions()
    theirs.apply(DefinitionsRead(tuple(records), len(records), 0))
    for org_id in ORGS:
        for key in KEYS:
            metric = theirs.metric(org_id, key)
            assert known(metrics, org_id, key) == (metric is not None and metric.is_active)


class Message:
    def __init__(self, key: bytes | None, value: bytes | None, error: KafkaError | None = None) -> None:
        self._key, self._value, self._error = key, value, error

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> KafkaError | None:
        return self._error


END = Message(None, None, KafkaError(KafkaError._PARTITION_EOF))


class Topic:
    """In the place of librdkafka's consumer: hands out what the test puts in."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()
        self.opened = self.closed = 0

    def __call__(self, config: dict[str, Any]) -> Topic:
        assert config["isolation.level"] == "read_committed"
        self.opened += 1
        return self

    def list_topics(self, topic: str, timeout: float) -> ClusterMetadata:
        found = ClusterMetadata()
        found.topics = {topic: TopicMetadata()}
        return found

    def assign(self, places: list[Any]) -> None:
        assert [(place.topic, place.partition) for place in places] == [("metric.defined", 0)]

    def consume(self, count: int, seconds: float) -> list[Message]:
        try:
            return [self.messages.get(timeout=seconds) if seconds else self.messages.get_nowait()]
        except queue.Empty:
            return []

    def close(self) -> None:
        self.closed += 1

    def put(self, *messages: tuple[bytes, bytes | None] | Message) -> None:
        for one in messages:
            self.messages.put(one if isinstance(one, Message) else Message(*one))


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def follower(topic: Topic) -> Iterator[MetricFollower]:
    made = MetricFollower(consumer_config({}), "metric.defined", 30, make_consumer=topic)
    yield made
    made.stop()


def test_the_first_event_waits_for_the_end_of_the_topic(topic: Topic, follower: MetricFollower) -> None:
    assert topic.opened == 0  # lazily
    topic.put(message(), message("b", active=False), (metric_definition_key("", "api.calls"), None), message("c"), END)
    follower.check("", "c")
    assert follower.is_read
    for key in ("api.calls", "b"):
        with pytest.raises(MetricNotFound):
            follower.check("", key)
    topic.put(message("b"))
    eventually(lambda: known_to(follower, "b"), 10, "a later definition is followed")


def test_while_nothing_could_be_read_events_are_refused_and_do_not_wait_again(topic: Topic) -> None:
    follower = MetricFollower(consumer_config({}), "metric.defined", 0.3, make_consumer=topic)
    topic.put(Message(None, None, KafkaError(KafkaError._UNKNOWN_PARTITION)))
    with pytest.raises(DefinitionsUnavailable, match=r"metric.defined in 0\.3 s: .*`meterfold migrate` creates"):
        follower.check("", "api.calls")
    begun = time.monotonic()
    for _ in range(200):
        with pytest.raises(DefinitionsUnavailable):
            follower.check("", "api.calls")
    assert time.monotonic() - begun < 10  # 200 waits would take a minute
    topic.put(message(), END)
    eventually(lambda: follower.is_read, 10, "they are read after all")
    follower.check("", "api.calls")
    follower.stop()
    assert topic.closed == topic.opened


def test_the_last_known_definitions_apply_while_kafka_is_away(topic: Topic, follower: MetricFollower) -> None:
    topic.put(message(), END)
    follower.check("", "api.calls")
    topic.put(Message(None, None, KafkaError(KafkaError._AUTO_OFFSET_RESET)))  # read again, from a topic without an end
    eventually(lambda: topic.opened >= 2, 20, "a second reading has begun")
    topic.put(message("b"))
    eventually(lambda: topic.messages.empty(), 10, "the message is taken")
    follower.check("", "api.calls")
    assert not known_to(follower, "b"), "a state that is read in part applies"
    topic.put(END)
    eventually(lambda: known_to(follower, "b"), 10, "the second reading applies")
    assert not known_to(follower, "api.calls")


def known_to(follower: MetricFollower, key: str) -> bool:
    try:
        follower.check("", key)
    except MetricNotFound:
        return False
    return True


def test_settings_that_librdkafka_refuses_are_an_error_of_the_first_event() -> None:
    follower = MetricFollower(consumer_config({"fetch.min.bytes": "many"}), "metric.defined", 30)
    with pytest.raises(InvalidSettings, match=r"fetch\.min\.bytes"):
        follower.check("", "api.calls")


def test_a_forked_child_follows_by_itself_and_begins_with_what_its_parent_knew(topic: Topic) -> None:
    follower = MetricFollower(consumer_config({}), "metric.defined", 0.5, make_consumer=topic)
    topic.put(message(), END)
    follower.check("", "api.calls")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            follower.check("", "api.calls")  # nothing can be read here in 0.5 s: what the parent knew applies
            inherited = not follower.is_read
            topic.put(message("b"), END)
            eventually(lambda: known_to(follower, "b"), 10, "the child's own reading applies")
            code = 0 if inherited and not known_to(follower, "api.calls") else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    follower.check("", "api.calls")
    follower.stop()


def test_meters_of_tests_take_the_metrics_that_are_defined() -> None:
    meter = InMemoryMeter(metrics=["api.calls", ("acme", "gpu.seconds")])
    meter.record("api.calls", ("user", "ada"))
    meter.record("gpu.seconds", ("user", "ada"), org_id="acme")
    with pytest.raises(MetricNotFound):
        meter.record("gpu.seconds", ("user", "ada"))
    results = meter.record_batch(
        [{"metric_key": key, "subject": ("user", "ada")} for key in ("api.calls", "api.cals", "API")]
    )
    assert [one.error.code if one.error else None for one in results] == [None, "METRIC_NOT_FOUND", "INVALID_USAGE"]
    assert len(meter.recorded) == 3
    assert AsyncInMemoryMeter(metrics=()).counts.recorded == 0
    InMemoryMeter().record("anything", ("user", "ada"))
