"""deploy/kafka on a real broker with its authorizer, by SASL and TLS: the whole pipeline runs under these users, and
the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from meterfold import Meter
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.errors import Fatal
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import NAMES
from meterfold_schemas.usage import UsageRecorded
from meterfold_service.schema_decisions import poison
from support import eventually, kafka_users
from support.cli import answer, meterfold, running
from support.http_server import Served, served
from support.kafka_users import Rule, settings_of
from support.receivers import SECRET, Endpoint, Mailbox, endpoint, mailbox

pytestmark = pytest.mark.stack

DEADLINE = 120.0
ENDED = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
"""On a day whose grace period is over, too."""
USERS = sorted({rule.user for rule in kafka_users.rules()})
GROUPS = ("meterfold-fold", "meterfold-checker", "meterfold-notify")
TRANSACTIONS = ("meterfold-checker-0", "meterfold-definitions")
AUTHORIZATION = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch, make_stack: Callable[..., LocalStack], tmp_path: Path) -> LocalStack:
    """A stack whose broker refuses what no ACL allows, and who comes without TLS."""
    kafka_users.with_authorizer(monkeypatch, tmp_path / "tls")
    return make_stack()


def test_the_pipeline_runs_under_its_users_and_everything_else_is_refused(guarded: LocalStack, tmp_path: Path) -> None:
    kafka = guarded.kafka_settings("least.")
    assert kafka.librdkafka["security.protocol"] == "SASL_SSL"
    kafka_users.create(kafka)
    clickhouse = guarded.clickhouse_settings("least")

    def environment(part: str, **more: str) -> dict[str, str]:
        path = tmp_path / part / "meterfold.toml"
        write_settings(path, settings_of(f"meterfold-{part}", kafka), clickhouse)
        return {**guarded.environment(), "METERFOLD_CONFIG": str(path), **more}

    migrated = meterfold("migrate", "--partitions", "2", env=environment("migrate"))
    assert migrated.returncode == 0, migrated.stderr
    with (
        endpoint() as hooks,
        mailbox() as box,
        running("fold", env=environment("fold"), folder=tmp_path, ready="fold: ready") as fold,
        running("check", env=environment("check"), folder=tmp_path, ready="check: ready") as check,
        running(
            "notify", env=environment("notify", **_receivers(hooks, box)), folder=tmp_path, ready="notify: ready"
        ) as notify,
    ):
        service = environment("service")
        answer("metric", "define", "api.calls", "--name", "Calls", "--unit", "calls", env=service)
        quota = ("--name", "quota", "--value", "5", "--period", "daily")
        notified = ("--email", "ada@example.com", "--webhook", hooks.url)
        answer("threshold", "create", "api.calls", *quota, *notified, env=service)
        with Meter(**settings_of("meterfold-app", kafka).model_dump(), strict=True) as meter:
            for number in range(10):
                meter.record("api.calls", ("user", "ada"), id=str(number))
            meter.record("api.calls", ("user", "ada"), id="earlier", timestamp=ENDED)
        eventually(lambda: answer("alert", "list", env=service)["total"] >= 1, DEADLINE, "the alert is in ClickHouse")
        answer("status", "--wait", "60", env=service)
        _notified(service, hooks, box)
        _closed_and_exported(service, tmp_path)
        with served(settings_of("meterfold-serve", kafka), clickhouse) as server:
            _served(server)
        # No key: the fold rejects it wherever it lands.
        lost = UsageRecorded(
            id="lost", metric_key="api.calls", subject_type="user", subject_id="bob", quantity=Decimal(1),
            timestamp=datetime.now(UTC),
        )  # fmt: skip
        app = Producer(settings_of("meterfold-app", kafka).client())
        app.produce(f"{kafka.topic_prefix}usage.recorded", lost.to_bytes())
        assert app.flush(60) == 0
        answer("status", "--wait", "60", env=service, code=None)
        sent = answer("rejected", "redrive", "--reason", "misrouted", "--yes", env=environment("redrive"))
        assert (sent["sent"], sent["states"]) == (1, {"counted": 1})
        report = answer("verify", "--wait", "60", env=environment("verify"))
        assert sum(partition["counted"] for partition in report["partitions"]) == 13
        assert (report["closings"], report["thresholds"]["actions"]) == (1, 1)
        assert fold.terminate(20) == 0
        assert check.terminate(20) == 0
        assert notify.terminate(20) == 0
    for process in (fold, check, notify):
        assert "AUTHORIZATION" not in process.output().upper(), process.output()

    _each_user_writes_and_reads_what_the_rules_say(guarded.kafka_settings("matrix."))


def _served(server: Served) -> None:
    """Events arrive, and what they add up to is read, as this principal of Kafka and with this role of ClickHouse; and
    neither a token without the scope nor the server itself can do more."""
    with server.client("ingest", "read") as sending, server.client("read") as reading:
        event = {"id": "http", "metric_key": "api.calls", "subject_type": "user", "subject_id": "ada", "quantity": "2"}
        sent = sending.post("/v1/events", json=[event])
        assert (sent.status_code, sent.json()["accepted"]) == (200, 1), sent.text
        day = {"period": "daily", "start": f"{ENDED + timedelta(days=1):%Y-%m-%d}T00:00:00Z"}

        def total() -> Any:
            found = reading.get("/v1/usage/api.calls/summary", params=day)
            assert found.status_code == 200, found.text
            return [row["total_quantity"] for row in found.json()["data"]]

        eventually(lambda: total() == ["12"], DEADLINE, "the event is counted")
        limits = reading.get("/v1/limits/user/ada")
        assert [one["name"] for one in limits.json()["limits"]] == ["quota"], limits.text
        refused = reading.post("/v1/events", json=[event])
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN"), refused.text
    needed = r"INSERT ON meterfold\.schema_decisions"
    with pytest.raises(Fatal, match=needed), server.metering.clients.client() as client:
        poison(client, "00000000000000ff")


def _receivers(hooks: Endpoint, box: Mailbox) -> dict[str, str]:
    settings = {
        "smtp_host": box.host,
        "smtp_port": str(box.port),
        "smtp_security": "none",
        "operator_emails": "ops@example.com",
        "webhook_secrets": SECRET,
        "webhook_ports": str(hooks.port),
        "allow_http": "true",
        "allowed_networks": "127.0.0.0/8",
    }
    return {f"METERFOLD_NOTIFY_{name.upper()}": value for name, value in settings.items()}


def _notified(service: dict[str, str], hooks: Endpoint, box: Mailbox) -> None:
    """An event reaches both receivers; a gone endpoint is an event that the notifier writes itself, reads and mails;
    and the user of the service sees the group and enables the endpoint."""
    eventually(lambda: {"threshold.exceeded"} <= {r.event["type"] for r in hooks.requests}, DEADLINE, "the webhook")
    eventually(lambda: "ada@example.com" in {to for to, _ in box.mails}, DEADLINE, "the mail")
    exceeded = next(request for request in hooks.requests if request.event["type"] == "threshold.exceeded")
    hooks.each = 410
    again = ("redeliver", "--event", exceeded.id, "--channel", "webhook", "--all")
    assert answer("notify", *again, env=service) == {"deliveries": 1}
    eventually(lambda: "ops@example.com" in {to for to, _ in box.mails}, DEADLINE, "the mail about the endpoint")
    hooks.each = 204
    assert answer("notify", "enable", hooks.url, "--by", "ann", env=service)["state"] == "active"
    assert answer("notify", "test", "webhook", hooks.url, env=service)["state"] == "delivered"
    eventually(lambda: not answer("status", env=service)["notifier"]["lag"], DEADLINE, "the group has read everything")
    notifier = answer("status", env=service)["notifier"]
    assert (notifier["members"], notifier["wanted"], notifier["endpoints"]["disabled"]) == (1, True, 0)


def _closed_and_exported(service: dict[str, str], folder: Path) -> None:
    """A day is closed, adjusted and exported, and an alert acknowledged, by the user of the service."""
    day = f"{ENDED:%Y-%m-%d}"
    closed = answer("periods", "close", "--period", "daily", "--day", day, env=service)
    assert [one["revision"] for one in closed["closings"]] == [1], closed
    assert answer("periods", "list", env=service)["total"] == 1
    assert answer("periods", "due", env=service) is not None
    assert answer("periods", "adjustments", env=service)["total"] == 0
    for what, rows in (("records", 11), ("summaries", 2), ("adjustments", 0)):
        file = folder / f"{what}.csv"
        answer("usage", "export", what, "--output", file, "--since", "3d", env=service)
        assert len(file.read_text().splitlines()) == rows + 1, what
    (alert, *_) = answer("alert", "list", env=service)["rows"]
    answer("alert", "acknowledge", alert["id"], "--by", "ann", env=service)


def _each_user_writes_and_reads_what_the_rules_say(kafka: KafkaSettings) -> None:
    """Every user against every topic; and nobody but `migrate` creates topics, nobody deletes one."""
    kafka_users.create(kafka)
    topics = [kafka.topic_prefix + name for name in NAMES]
    administrator = AdminClient(kafka.client())
    for future in administrator.create_topics([NewTopic(name, 1, 1) for name in topics]).values():
        future.result(30)
    rules = set(kafka_users.rules())
    for user in USERS:
        own = settings_of(user, kafka)
        for operation, done in (("Write", _written(own, topics)), ("Read", _read(own, topics))):
            allowed = {
                kafka.topic_prefix + name for name in NAMES if Rule(user, "topic", name, False, operation) in rules
            }
            assert done == allowed, (user, operation)
        admin = AdminClient(own.client())
        for future in admin.delete_topics(topics[:1], request_timeout=20).values():
            with pytest.raises(KafkaException, match="AUTHORIZATION"):
                future.result(30)
        for future in admin.create_topics([NewTopic(f"{kafka.topic_prefix}more", 1, 1)], request_timeout=20).values():
            with pytest.raises(KafkaException, match="AUTHORIZATION"):
                future.result(30)
        _groups_and_transactions_of_others_are_refused(user, kafka, rules)
    _notifier_changes_nothing(settings_of("meterfold-notify", kafka))


def _groups_and_transactions_of_others_are_refused(user: str, kafka: KafkaSettings, rules: set[Rule]) -> None:
    """No part commits offsets of another part's group, or takes part in its transactions."""
    own = settings_of(user, kafka)
    admin = AdminClient(own.client())
    for group in GROUPS:
        if not any(_covers(rule, user, "group", group, "Read") for rule in rules):
            place = TopicPartition(f"{kafka.topic_prefix}usage.windows", 0, 0)
            wanted = ConsumerGroupTopicPartitions(kafka.topic_prefix + group, [place])
            for future in admin.alter_consumer_group_offsets([wanted], request_timeout=20).values():
                assert "AUTHORIZATION" in _refusal(future), (user, group)
    for name in TRANSACTIONS:
        if not any(_covers(rule, user, "transactionalId", name, "Write") for rule in rules):
            producer = Producer(own.client(**{"transactional.id": kafka.topic_prefix + name}))
            with pytest.raises(KafkaException, match="AUTHORIZATION"):
                producer.init_transactions(30)


def _refusal(future: Any) -> str:
    """Why offsets were not changed: of the group, or of each partition."""
    try:
        (place,) = future.result(30).topic_partitions
    except KafkaException as error:
        return str(error)
    return str(place.error)


def _covers(rule: Rule, user: str, resource: str, name: str, operation: str) -> bool:
    matches = name.startswith(rule.name) if rule.prefix else name == rule.name
    return (rule.user, rule.resource, rule.operation) == (user, resource, operation) and matches


def _notifier_changes_nothing(own: KafkaSettings) -> None:
    """What a notifier that was taken over would try: retention, records, groups, and rights."""
    admin = AdminClient(own.client())
    exceeded = f"{own.topic_prefix}threshold.exceeded"
    entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    changes = [ConfigResource(ResourceType.TOPIC, exceeded, incremental_configs=[entry])]
    every = AclBinding(
        ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, "User:meterfold-notify", "*", AclOperation.ALL,
        AclPermissionType.ALLOW,
    )  # fmt: skip
    futures = [
        *admin.incremental_alter_configs(changes, request_timeout=20).values(),
        *admin.delete_records([TopicPartition(exceeded, 0, 0)], request_timeout=20).values(),
        *admin.delete_consumer_groups([f"{own.topic_prefix}meterfold-fold"], request_timeout=20).values(),
        *admin.create_acls([every], request_timeout=20).values(),
    ]
    assert len(futures) == 4
    for future in futures:
        with pytest.raises(KafkaException, match="AUTHORIZATION"):
            future.result(30)


def _written(own: KafkaSettings, topics: list[str]) -> set[str]:
    """The topics that take a message of this user."""
    results: dict[str, KafkaError | None] = {}
    producer = Producer(own.client(**{"delivery.timeout.ms": 20_000, "topic.metadata.propagation.max.ms": 1_000}))
    for topic in topics:
        producer.produce(
            topic, b"x", on_delivery=lambda error, _message, topic=topic: results.__setitem__(topic, error)
        )
    assert producer.flush(60) == 0
    assert {error.code() for error in results.values() if error is not None} <= AUTHORIZATION, results
    return {topic for topic, error in results.items() if error is None}


def _read(own: KafkaSettings, topics: list[str]) -> set[str]:
    """The topics that this user can read to their end. What it cannot describe, librdkafka does not even ask for."""
    found: set[str] = set()
    refused: set[str] = set()
    consumer = Consumer(own.client(**{"group.id": "none", "enable.auto.commit": False, "enable.partition.eof": True}))
    try:
        visible = set(topics) & consumer.list_topics(timeout=30).topics.keys()
        consumer.assign([TopicPartition(topic, 0, 0) for topic in visible])

        def answered() -> bool:
            message = consumer.poll(1.0)
            error = None if message is None else message.error()
            if message is not None and error is not None and message.topic():
                (found if error.code() == KafkaError._PARTITION_EOF else refused).add(message.topic() or "")
            return found | refused == visible

        eventually(answered, DEADLINE, f"of {visible} these can be read: {found}, and these not: {refused}")
    finally:
        consumer.close()
    return found
