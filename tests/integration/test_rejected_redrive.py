"""`meterfold rejected`: every kind of rejected message is found, shown and sent again, and counts once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meterfold_processor.verify import verify
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from meterfold_service import Metering
from meterfold_service.rejected import operations, redriving
from meterfold_service.rejected.corrections import Correction
from meterfold_service.rejected.results import Position, RedriveReport
from meterfold_sink.client import Client
from meterfold_sink.rejected import Claim, write_claims
from meterfold_sink.rejections import recent_rejections
from support.cli import answer, inside
from support.fold import Installation, Outgoing, check, event, in_json, raw_event, running
from support.fold.installation import METRIC, ORG, headers_of

PARTITIONS = 2


def place(position: tuple[int, int]) -> str:
    return str(Position(*position))


def misrouted(message: Outgoing) -> Outgoing:
    """The same event without a key, on the partition where its subject does not belong."""
    there = partition_of(UsageRecorded.from_bytes(message.value or b"").key, PARTITIONS)
    return Outgoing(message.value, None, 1 - there)


@pytest.fixture
def installation(
    tables: None,
    kafka_settings: KafkaSettings,
    clickhouse_settings: ClickHouseSettings,
    stack_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Installation]:
    monkeypatch.setattr(redriving, "SETTLE_SECONDS", 0.5)
    answer("migrate", "--partitions", str(PARTITIONS), env=stack_environment)
    made = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    yield made
    made.close()


def test_every_kind_of_rejected_message_is_sent_again_once(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    there = partition_of(subject_key(ORG, METRIC, "user", "u1"), PARTITIONS)
    sent_twice = event("cid", 5)
    lost = [misrouted(event("ann", 2)), misrouted(event("bob", 3)), misrouted(sent_twice)]
    noise = Outgoing(b"\x00noise", b"\xff", there)
    json_event = Outgoing((in_json(event("u1"), id=7, unknown="x").value), None, there)
    places = dict(
        zip(
            ("good", "ann", "bob", "cid", "future", "no id", "noise", "json"),
            installation.send(
                sent_twice,
                *lost,
                raw_event(timestamp=micros(now + timedelta(hours=2)), id="early"),
                raw_event(id=""),
                noise,
                json_event,
            ),
            strict=True,
        )
    )

    def rejected(*arguments: str, code: int = 0) -> Any:
        return answer("rejected", *arguments, env=stack_environment, code=code)

    def refused(*arguments: str) -> str:
        done = inside("rejected", "redrive", *arguments, env=stack_environment)
        assert done.returncode in (1, 2), done
        return done.stdout + done.stderr

    with running(installation) as worker:
        installation.wait_folded(worker)

        # What there is, and one of each.
        listed = rejected("list")
        assert listed["reasons"] == {"misrouted": 3, "undecodable": 2, "in_future": 1, "invalid": 1}
        assert listed["total"] == len(listed["rows"]) == 7
        assert [row["offset"] for row in rejected("list", "--reason", "invalid")["rows"]] == [places["no id"][1]]
        assert rejected("list", "--org", "nobody")["total"] == 0
        assert rejected("list", "--from", "2019-01-01", "--to", "2020-01-01")["total"] == 0

        shown = rejected("show", place(places["ann"]))
        assert (shown["event"]["subject_id"], shown["event"]["quantity"]) == ("ann", "2")
        assert bytes.fromhex(shown["value_hex"]) == lost[0].value
        assert rejected("show", place(places["noise"]))["value_hex"] == b"\x00noise".hex()
        assert rejected("show", place(places["json"]))["problems"].keys() == {"id", "unknown"}
        assert "REJECTED_NOT_FOUND" in inside("rejected", "show", place(places["good"]), env=stack_environment).stderr

        # Misrouted ones need nothing but the right key.
        before = len(installation.log())
        planned = rejected("redrive", "--reason", "misrouted", "--dry-run")
        assert (planned["sent"], len(planned["events"]), len(installation.log())) == (3, 3, before)
        assert "sending 3 messages again" in refused("--reason", "misrouted")
        done = rejected("redrive", "--reason", "misrouted", "--yes", "--by", "eve", "--note", "wrong partitioner")
        assert (done["sent"], done["states"]) == (3, {"counted": 2, "duplicate": 1})
        assert rejected("redrive", "--reason", "misrouted", "--yes")["sent"] == 0
        shown = rejected("show", place(places["ann"]))["redrive"]
        assert (shown["state"], shown["by"], shown["note"]) == ("counted", "eve", "wrong partitioner")
        by_place = {(m.partition(), m.offset()): m for m in installation.log()}
        headers = headers_of(by_place[(shown["partition"], shown["offset"])])
        assert headers == {"redriven-partition": str(places["ann"][0]), "redriven-offset": str(places["ann"][1])}
        assert rejected("show", place(places["cid"]))["redrive"]["detail"] == f"counted at {place(places['good'])}"

        # A message becomes one event, whatever is asked for later.
        future = place(places["future"])
        assert "in the future" in refused(future)
        assert rejected("redrive", future, "--shift", "-2h")["states"] == {"counted": 1}
        assert rejected("redrive", future, "--shift", "-2h")["already"] == 1
        assert "redriven with another correction" in refused(future, "--set", "id=other")
        assert "id must not be empty" in refused(place(places["no id"]))
        assert rejected("redrive", place(places["no id"]), "--set", "id=given")["states"] == {"counted": 1}

        # What cannot be read is given, or only the fields that are wrong.
        assert "cannot be read from the message" in refused(place(places["noise"]), "--set", "id=n")
        assert "unknown field" in refused(place(places["json"]), "--set", "id=seven")
        assert rejected("redrive", place(places["json"]), "--set", "id=seven", "--drop", "unknown")["sent"] == 1
        file = tmp_path / "corrections.jsonl"
        rejected("list", "--reason", "undecodable", "--open", "--write", str(file))
        line = json.loads(file.read_text())
        assert (line["partition"], line["offset"], line["event"]) == (*places["noise"], {})
        line["event"] = {
            "id": "n-1", "org_id": ORG, "metric_key": METRIC, "subject_type": "user", "subject_id": "noise",
            "quantity": 0.1, "timestamp": now.isoformat(),
        }  # fmt: skip
        file.write_text(json.dumps(line) + "\n")
        assert rejected("redrive", "--file", str(file))["states"] == {"counted": 1}
        assert rejected("redrive", "--file", str(file))["already"] == 1

        assert rejected("list", "--open")["total"] == 0
        assert {row["redrive"]["state"] for row in rejected("list", "--redriven")["rows"]} == {"counted", "duplicate"}
        assert recent_rejections(installation.client, 3600) == []
        installation.wait_folded(worker)

    # produced = counted + duplicate + rejected, and every window, against a model of the log.
    check(installation)
    assert installation.folded() == len(installation.log()) == 8 + 7
    report = verify(installation.kafka, installation.clickhouse, contents=True)
    assert report.findings == ()


def test_whoever_breaks_off_or_races_sends_one_event(
    installation: Installation, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    broken, raced = installation.send(misrouted(event("ann", 1, id="a")), misrouted(event("bob", 1, id="b")))
    with running(installation) as worker, Metering(kafka=kafka_settings, clickhouse=clickhouse_settings) as metering:
        installation.wait_folded(worker)

        # Somebody claimed it and was killed before the event was sent.
        (row,) = (one for one in metering.rejected.list().rows if one.position == Position(*broken))
        claimed = UsageRecorded.of({**row.event.fields, "subject_id": "eve"})
        claim = Claim(row.received_at, claimed.key, claimed.to_bytes(), "eve", "")
        write_claims(installation.client, {broken: claim})
        report = metering.rejected.redrive({Position(*broken): Correction({"subject_id": "ann2"})})
        assert report.sent == 0
        assert "another correction" in report.refused[0].why
        stored = metering.rejected.get(Position(*broken)).redrive
        assert stored is not None
        assert stored.state == "not sent"
        assert metering.rejected.redrive_all(Correction(), org_id=ORG, partition=broken[0]).sent >= 1
        stored = metering.rejected.get(Position(*broken)).redrive
        assert stored is not None
        assert (stored.state, stored.event.subject_id) == ("counted", "eve")

    position = Position(*raced)

    def redrive(subject: str) -> RedriveReport:
        with Metering(kafka=kafka_settings, clickhouse=clickhouse_settings, wait_seconds=60) as own:
            return own.rejected.redrive({position: Correction({"subject_id": subject})})

    with running(installation) as worker, Metering(kafka=kafka_settings, clickhouse=clickhouse_settings) as metering:
        before = len(installation.log())
        with ThreadPoolExecutor(6) as pool:
            reports = list(pool.map(redrive, [f"racer-{number}" for number in range(6)]))
        installation.wait_folded(worker)
        stored = metering.rejected.get(position).redrive
        assert sum(report.sent for report in reports) == 1
        assert stored is not None
        assert len(installation.log()) == before + 1
    check(installation)


def test_of_very_many_rejected_messages_few_granules_are_read(
    installation: Installation, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Arrivals tie, so pages and keys also depend on the offset."""
    rows, begin = 200_000, micros(datetime.now(UTC) - timedelta(hours=1))
    for partition in range(PARTITIONS):
        installation.client.command(
            "INSERT INTO usage_rejected (partition, offset, received_at, reason, detail, key, value, org_id) "
            f"SELECT {partition}, number, fromUnixTimestamp64Micro({begin} + intDiv(number, 1000) * 1000000, 'UTC'), "
            f"if(number % 1000 = 7, 'invalid', 'undecodable'), 'd', '', 'noise', 'o' FROM numbers({rows // PARTITIONS})"
        )
    statements: list[tuple[str, Any]] = []
    asked = Client.rows

    def noting(self: Client, sql: str, parameters: Any = None, settings: Any = None) -> list[dict[str, Any]]:
        statements.append((sql, parameters))
        return asked(self, sql, parameters, settings)

    with Metering(kafka=kafka_settings, clickhouse=clickhouse_settings) as metering:
        assert metering.rejected.count() == {"undecodable": rows - 200, "invalid": 200}
        newest = metering.rejected.list(reason="invalid", limit=3, offset=1)
        assert (newest.total, [str(one.position) for one in newest.rows]) == (200, ["0:99007", "1:98007", "0:98007"])
        monkeypatch.setattr(operations, "_MESSAGES", 30)
        seen: list[int] = []
        refused = metering.rejected.redrive_all(Correction(), dry_run=True, reason="invalid", on_progress=seen.append)
        assert (refused.sent, refused.refused_total, seen) == (0, 200, [30, 60, 90, 120, 150, 180, 200])
        few = metering.rejected.redrive_all(Correction(), dry_run=True, reason="invalid", limit=150)
        assert few.refused_total == 150

        monkeypatch.setattr(Client, "rows", noting)
        assert metering.rejected.get(Position(1, 31_337)).position == Position(1, 31_337)
        metering.rejected.redrive_all(Correction(), dry_run=True, partition=1, limit=90)
    monkeypatch.undo()
    wide = [(sql, given) for sql, given in statements if "FROM usage_rejected" in sql and "hex(value)" in sql]
    assert len(wide) == 1 + 3
    for sql, given in wide:
        plan = installation.client.rows(f"EXPLAIN indexes = 1 {sql}", given)
        text = "\n".join(next(iter(row.values())) for row in plan)
        read = [tuple(map(int, found)) for found in re.findall(r"Granules: (\d+)/(\d+)", text)]
        assert read[-1][0] <= 3 < read[0][1], f"{sql}\n{text}"
