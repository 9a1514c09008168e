"""Messages that can never be counted: each ends in usage.rejected with reason and position, and spoils no neighbour."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from meterfold_processor.fold.subjects import Subjects
from meterfold_schemas import catalog, framing
from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.errors import Fatal, InvalidDefinition
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import schema_decisions
from meterfold_service.schema_decisions import SchemaDecided
from meterfold_sink.schema_decisions import write_unknown_schema_hold
from support import eventually
from support.fold import Installation, Outgoing, Running, check, event, in_json, raw_event, running, verify_contents
from support.fold.installation import METRIC, ORG, headers_of, send
from support.kafka import admin
from support.seeds import seed_of

PARTITIONS = 2
SUBJECT = "ann"
KEY = subject_key(ORG, METRIC, "user", SUBJECT)
HERE = partition_of(KEY, PARTITIONS)
ELSEWHERE = 1 - HERE


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    yield made
    made.close()


def _bad() -> dict[str, tuple[Outgoing, str]]:
    """What is wrong -> the message and the reason it is to be rejected with. All stand on ann's partition."""
    whole = event(SUBJECT).value or b""
    header = catalog.latest("usage_recorded").header
    now = datetime.now(UTC)
    other = framing.encode("metric_defined", _metric_record())

    def raw(value: bytes | None) -> Outgoing:
        return Outgoing(value, KEY, HERE)

    def fields(**broken: object) -> Outgoing:
        return replace(raw_event(**{"subject_id": SUBJECT, **broken}), key=KEY, partition=HERE)

    def as_json(**changed: object) -> Outgoing:
        return replace(in_json(event(SUBJECT), **changed), partition=HERE)

    text, envelope = as_json().value or b"", in_json(event(SUBJECT), cloud_event=True).value or b""
    nan = b"\x00\x00\x00\x00\x00\x00\xf8\x7f"
    return {
        "noise": (raw(random.Random(5).randbytes(80)), "undecodable"),
        "json": (raw(b'{"id": "x", "metric_key": "api.calls"}'), "undecodable"),
        "two JSON events": (raw(text + text), "undecodable"),
        "cut JSON": (raw(text[:-4]), "undecodable"),
        "JSON with an unknown field": (as_json(unknown="x"), "undecodable"),
        "JSON with a number for text": (as_json(id=7), "undecodable"),
        "JSON that is not UTF-8": (raw(text.replace(b"acme", b"ac\xff\xfe")), "undecodable"),
        "half of a surrogate pair": (as_json(source="\ud800"), "undecodable"),
        "a CloudEvent of another type": (raw(envelope.replace(b"usage.recorded", b"api.calls")), "undecodable"),
        "JSON with 10 decimals": (as_json(quantity=0.1234567891), "invalid"),
        "JSON with 21 integer digits": (as_json(quantity=10**20), "invalid"),
        "JSON with a NUL": (as_json(source="a\0b"), "invalid"),
        "old JSON": (as_json(timestamp="2020-01-01T00:00:00Z"), "too_old"),
        "short": (raw(b"\xc3\x01\x02"), "undecodable"),
        "no value": (raw(None), "undecodable"),
        "empty value": (raw(b""), "undecodable"),
        "header alone": (raw(header), "undecodable"),
        "cut": (raw(whole[:-4]), "undecodable"),
        "bytes behind": (raw(whole + b"\x00"), "undecodable"),
        "two records": (raw(whole + whole[10:]), "undecodable"),
        "two messages": (raw(whole + whole), "undecodable"),
        "not UTF-8": (raw(whole.replace(b"acme", b"ac\xff\xfe")), "undecodable"),
        "a double, not a number": (raw(_with_quantity(nan)), "undecodable"),
        "another event": (raw(other), "undecodable"),
        "21 integer digits": (fields(quantity=Decimal(10) ** 20), "invalid"),
        "21 negative digits": (fields(quantity=-(Decimal(10) ** 20)), "invalid"),
        "empty id": (fields(id=""), "invalid"),
        "long id": (fields(id="x" * 513), "invalid"),
        "long in bytes": (fields(source="ü" * 257), "invalid"),
        "NUL": (fields(resource_id="a\0b"), "invalid"),
        "empty subject": (fields(subject_id=""), "invalid"),
        "empty type": (fields(subject_type=""), "invalid"),
        "metric key": (fields(metric_key="Api Calls"), "invalid"),
        "long metric key": (fields(metric_key="m" * 201), "invalid"),
        "metadata is a list": (fields(metadata="[1]"), "invalid"),
        "metadata is NaN": (fields(metadata='{"x": NaN}'), "invalid"),
        "metadata is no JSON": (fields(metadata="{"), "invalid"),
        "long metadata": (fields(metadata='{"x": "' + "y" * 16_384 + '"}'), "invalid"),
        "metadata with NUL": (fields(metadata='{"x": "\\u0000"}'), "invalid"),
        "no key": (Outgoing(whole, None, HERE), "misrouted"),
        "empty key": (Outgoing(whole, b"", HERE), "misrouted"),
        "wrong key": (Outgoing(whole, subject_key(ORG, METRIC, "user", "bob"), HERE), "misrouted"),
        "key with spaces": (Outgoing(whole, KEY.replace(b",", b", "), HERE), "misrouted"),
        "wrong partition": (Outgoing(whole, KEY, ELSEWHERE), "misrouted"),
        "too old": (fields(timestamp=micros(now - timedelta(days=35, minutes=1))), "too_old"),
        "before the epoch": (fields(timestamp=-1), "too_old"),
        "in the future": (fields(timestamp=micros(now + timedelta(hours=1))), "in_future"),
        "no calendar's year": (fields(timestamp=2**62), "in_future"),
    }


def _with_quantity(raw: bytes) -> bytes:
    marked = raw_event(subject_id=SUBJECT, quantity=Decimal("0.000011239")).value or b""
    written = b"\x04\x2b\xe7"
    assert marked.count(written) == 1
    return marked.replace(written, raw)


def _metric_record() -> dict[str, object]:
    now = datetime.now(UTC)
    metric = MetricDefinition(id="m", key=METRIC, name="m", unit="u", created_at=now, updated_at=now)
    return framing.decode(metric.to_bytes())[1]


def test_each_bad_message_is_rejected_with_reason_and_position_and_its_neighbours_count(
    installation: Installation,
) -> None:
    bad = _bad()
    messages: list[Outgoing] = [event(SUBJECT)]
    for number, (message, _) in enumerate(bad.values()):
        sound = event(SUBJECT, 2)
        messages += [message, [sound, in_json(sound), in_json(sound, cloud_event=True)][number % 3]]
    positions = installation.send(*messages)
    expected = {position: reason for position, (_, reason) in zip(positions[1::2], bad.values(), strict=True)}
    with running(installation, batch_seconds=2.0) as worker:
        installation.wait_folded(worker)
        assert worker.status.errors == {}
    rejected = {(row["partition"], row["offset"]): row["reason"] for row in installation.rejects()}
    names = dict(zip(positions[1::2], bad, strict=True))
    assert {names[p]: reason for p, reason in rejected.items()} == {names[p]: r for p, r in expected.items()}

    published = {
        (int(headers["partition"]), int(headers["offset"])): (message, headers)
        for message in installation.published_rejects()
        for headers in [headers_of(message)]
    }
    assert published.keys() == expected.keys()
    for number, (position, reason) in enumerate(expected.items()):
        message, headers = published[position]
        sent = messages[2 * number + 1]
        assert headers["reason"] == reason
        assert headers["topic"] == installation.topics.usage_recorded
        assert len(headers["detail"]) > 10
        assert (message.value(), message.key()) == (sent.value or b"", sent.key)

    assert installation.folded() == len(messages)
    counted = installation.client.rows("SELECT count() AS n, sum(quantity) AS q FROM usage_records FINAL")
    assert counted == [{"n": len(bad) + 1, "q": 2 * len(bad) + 1}]


def test_random_damage_is_judged_like_a_reader_that_takes_one_message_at_a_time(installation: Installation) -> None:
    rng = random.Random(seed_of("random damage"))
    messages = []
    for number in range(400):
        good = event(f"u{number % 7}", number)
        if rng.random() < 0.5:
            good = in_json(good, cloud_event=rng.random() < 0.5)
        if rng.random() < 0.4:
            value = bytearray(good.value or b"")
            for _ in range(rng.choice([1, 1, 2, 5])):
                # Behind the header: a damaged fingerprint is an unknown schema.
                value[rng.randrange(10, len(value))] = rng.randrange(256)
            good = replace(good, value=bytes(value))
        messages.append(good)
    installation.send(*messages)
    with running(installation, batch_seconds=1.0) as worker:
        installation.wait_folded(worker)
    check(installation)


def test_history_18_a_foreign_partitioner_puts_one_subject_on_two_partitions(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka's own partitioner is not Kafka's: its events are rejected, or a retry through another client would
    count twice."""
    foreign = Producer(installation.kafka.client(partitioner="consistent_random"))
    events = [event(f"u{number}", 1) for number in range(40)]
    theirs = send(foreign, installation.topics.usage_recorded, tuple(events))
    ours = installation.send(*events)
    astray = [there for there, here in zip(theirs, ours, strict=True) if there[0] != here[0]]
    assert 5 < len(astray) < 35
    with running(installation) as worker:
        installation.wait_folded(worker)
    truth = check(installation)
    assert truth.rejected == dict.fromkeys(astray, "misrouted")
    assert len(truth.counted) == 40

    _forget(installation)
    monkeypatch.setattr(Subjects, "_rightly_placed", lambda _self, fresh: fresh)
    with running(installation) as worker:
        installation.wait_folded(worker)
    with pytest.raises(AssertionError, match="too many"):
        check(installation)


def test_history_16_poison_near_the_size_limit_goes_through(installation: Installation) -> None:
    limit = 1_048_588
    big = Producer(installation.kafka.client(**{"message.max.bytes": 2_000_000, "partitioner": "murmur2_random"}))
    # The broker counts the record batch: some 80 bytes around key and value.
    poison = random.Random(1).randbytes(limit - len(KEY) - 90)
    send(big, installation.topics.usage_recorded, (Outgoing(poison, KEY), Outgoing(poison, KEY[:-5]), event(SUBJECT)))
    with running(installation) as worker:
        installation.wait_folded(worker)
    truth = check(installation)
    assert sorted(truth.rejected.values()) == ["undecodable", "undecodable"]
    assert [len(message.value()) for message in installation.published_rejects()] == [len(poison)] * 2


@pytest.fixture
def quick_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, only faster."""
    monkeypatch.setattr("meterfold_processor.fold.assignment.HOLD_SECONDS", 0.2)
    for module in ("meterfold_processor.fold.schemas", "meterfold_service.schema_decisions"):
        monkeypatch.setattr(f"{module}.SETTLE_SECONDS", 1.0)


STRANGE = bytes.fromhex("0123456789abcdef")


def _with_fingerprint(fingerprint: bytes, one: Outgoing) -> Outgoing:
    return replace(one, value=catalog.MAGIC + fingerprint + (one.value or b"")[framing.HEADER_SIZE :])


@pytest.mark.usefixtures("quick_decisions")
def test_an_unknown_schema_holds_its_partition_until_a_command_says_what_it_is(installation: Installation) -> None:
    strange = replace(_with_fingerprint(STRANGE, event(SUBJECT)), key=KEY)
    before = installation.send(event(SUBJECT), event(SUBJECT))
    held_at = installation.send(strange)[0]
    behind = installation.send(event(SUBJECT), strange, event(SUBJECT))
    elsewhere = _subject_on(ELSEWHERE)
    with running(installation) as worker:
        eventually(lambda: worker.status.holds == {HERE: STRANGE.hex()}, 60, "the status says so")
        eventually(lambda: _next_offset(installation, HERE) == held_at[1], 60, "what stands before is flushed")
        # Other partitions go on, and so does the held one's membership.
        for _ in range(3):
            there = installation.send(event(elsewhere))[0]
            eventually(lambda end=there[1] + 1: _next_offset(installation, ELSEWHERE) == end, 60, "others go on")
        worker.require_running()
        assert _next_offset(installation, HERE) == held_at[1]
        assert worker.status.holds == {HERE: STRANGE.hex()}
        assert installation.rejects() == []
        assert {row["offset"] for row in installation.rows("usage_records") if row["partition"] == HERE} == {
            offset for _, offset in before
        }
        (waiting,) = schema_decisions.list_schemas(installation.client)
        assert (waiting.fingerprint, waiting.state) == (STRANGE.hex(), "waits")
        assert waiting.seen_where == f"partition {HERE}, offset {held_at[1]}"
        assert waiting.seconds_left is not None
        assert 3000 < waiting.seconds_left < 3600

        done = schema_decisions.poison(installation.client, STRANGE.hex(), "an experiment of Tuesday")
        assert (done.state, done.why) == ("poison", "an experiment of Tuesday")
        installation.wait_folded(worker)
        eventually(lambda: worker.status.holds == {}, 60, "nothing is held any more")
    truth = check(installation)
    assert truth.rejected == {held_at: "undecodable", behind[1]: "undecodable"}
    assert STRANGE.hex() in installation.rejects()[0]["detail"]
    assert installation.rejects()[0]["org_id"] == ORG
    with pytest.raises(SchemaDecided, match=r"is decided already: its messages are rejected \(by an experiment"):
        schema_decisions.alias(installation.client, STRANGE.hex(), "usage_recorded.v1")
    with pytest.raises(SchemaDecided):
        schema_decisions.wait(installation.client, STRANGE.hex())


@pytest.mark.usefixtures("quick_decisions")
def test_an_event_with_the_fingerprint_of_another_library_is_counted(installation: Installation) -> None:
    """hamba/avro's, which this version knows. It is written down before the first message is judged by it, and a worker
    of another version, which knows nothing of it, obeys that."""
    hamba = bytes.fromhex("f69a6eec52c0f203")
    theirs = [_with_fingerprint(hamba, event(f"u{number}", number)) for number in range(20)]
    installation.send(*theirs, *(event(f"u{number}", number) for number in range(20)))
    with running(installation) as worker:
        installation.wait_folded(worker)
        eventually(lambda: worker.status.holds == {}, 60, "nothing is held")
    truth = check(installation)
    assert (len(truth.counted), truth.rejected) == (40, {})
    (state,) = schema_decisions.list_schemas(installation.client)
    assert (state.fingerprint, state.state, state.schema) == (hamba.hex(), "read", "usage_recorded.v1")
    installation.send(*theirs)
    with running(installation) as worker:
        installation.wait_folded(worker)
    assert len(check(installation).duplicates) == 20


@pytest.mark.usefixtures("quick_decisions")
def test_what_was_rejected_stays_rejected_for_a_version_that_knows_the_schema(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older worker lets the hold time run out; a newer one folds the same log from its beginning."""
    hamba = bytes.fromhex("f69a6eec52c0f203")
    write_unknown_schema_hold(installation.client, 1)
    positions = installation.send(event(SUBJECT), _with_fingerprint(hamba, event(SUBJECT)), event(SUBJECT))
    known = catalog.default()._by_fingerprint
    with monkeypatch.context() as older:
        older.delitem(known, hamba)
        with running(installation) as worker:
            installation.wait_folded(worker)
    assert {(row["partition"], row["offset"]) for row in installation.rejects()} == {positions[1]}
    assert verify_contents(installation) == []
    _forget(installation)
    with running(installation) as worker:
        installation.wait_folded(worker)
    assert {(row["partition"], row["offset"]) for row in installation.rejects()} == {positions[1]}
    assert verify_contents(installation) == []
    (state,) = schema_decisions.list_schemas(installation.client)
    assert (state.state, state.why) == ("poison", "no decision within the hold time of 1 s")


@pytest.mark.usefixtures("quick_decisions")
def test_an_alias_that_an_operator_names_is_counted(installation: Installation) -> None:
    strange = [_with_fingerprint(STRANGE, event(f"u{number}", number)) for number in range(10)]
    installation.send(*strange)
    write_unknown_schema_hold(installation.client, 1)
    schema_decisions.wait(installation.client, STRANGE.hex())
    with running(installation) as worker:
        eventually(lambda: len(worker.status.holds) == PARTITIONS, 60, "every partition waits")
        seen = schema_decisions.list_schemas(installation.client)[0].seen_at
        assert seen is not None
        eventually(lambda: datetime.now(UTC) - seen > timedelta(seconds=4), 60, "the hold time is over")
        assert len(worker.status.holds) == PARTITIONS, "it waits for the operator"
        schema_decisions.alias(installation.client, "c301" + STRANGE.hex(), "usage_recorded.v1")
        installation.wait_folded(worker)
    assert len(installation.rows("usage_records")) == 10
    assert installation.rejects() == []
    assert verify_contents(installation) == []


@pytest.mark.parametrize(
    ("fingerprint", "why"),
    [
        ("0123", "16 hexadecimal digits"),
        ("zz" * 8, "16 hexadecimal digits"),
        ("f69a6eec52c0f203", "is known to this version"),
    ],
)
def test_fingerprints_about_which_nothing_can_be_decided_are_refused(
    installation: Installation, fingerprint: str, why: str
) -> None:
    with pytest.raises(InvalidDefinition, match=why):
        schema_decisions.poison(installation.client, fingerprint)
    with pytest.raises(InvalidDefinition, match=r"known: usage_recorded.v1"):
        schema_decisions.alias(installation.client, STRANGE.hex(), "metric_defined.v1")


@pytest.mark.usefixtures("quick_decisions")
def test_a_held_partition_is_held_again_after_a_restart_and_its_time_runs_on(installation: Installation) -> None:
    strange = Outgoing(b"\xc3\x01" + bytes(8) + b"whatever", KEY)
    first = installation.send(strange, event(SUBJECT))[0]
    for _ in range(2):
        with running(installation) as worker:
            eventually(lambda: worker.status.holds == {HERE: "00" * 8}, 60, "it is held")
            assert _next_offset(installation, HERE) == first[1]
    # It was seen long ago, by whichever worker; a process that begins anew does not begin anew to wait.
    write_unknown_schema_hold(installation.client, 1)
    with running(installation) as worker:
        installation.wait_folded(worker)
    assert check(installation).rejected == {first: "undecodable"}


def test_a_producers_clock_is_refused(installation: Installation) -> None:
    """Checked per message: whoever sets the topic back to CreateTime makes arrival times mean nothing."""
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, installation.topics.usage_recorded, incremental_configs=[entry])
    client = admin(installation.kafka)
    client.incremental_alter_configs([resource])[resource].result(30)

    def sent_with_its_own_clock() -> bool:
        installation.send(event(SUBJECT))
        return installation.log()[-1].timestamp()[0] == 1

    eventually(sent_with_its_own_clock, 60, "the broker applies the setting")
    worker = Running(installation)
    assert "message.timestamp.type=LogAppendTime" in worker.wait_for_failure(Fatal)
    first = next(message.offset() for message in installation.log() if message.timestamp()[0] == 1)
    assert all(row["offset"] < first for row in installation.rows("usage_records"))


def _subject_on(partition: int) -> str:
    names = (f"s{number}" for number in range(100))
    return next(n for n in names if partition_of(subject_key(ORG, METRIC, "user", n), PARTITIONS) == partition)


def _next_offset(installation: Installation, partition: int) -> int | None:
    row = installation.progress().get(partition)
    return None if row is None else row.next_offset


def _forget(installation: Installation) -> None:
    """Empty every table, so that another worker folds the same log."""
    for table in ("usage_records", "usage_duplicates", "usage_rejected", "usage_windows", "fold_progress"):
        installation.client.command(f"TRUNCATE TABLE {table}")
