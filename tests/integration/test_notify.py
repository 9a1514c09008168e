"""`meterfold notify` on the real stack: from a threshold that is exceeded to a verified webhook and a mail, and what
remains of it when the notifier is killed while its receivers are away."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import Metering
from meterfold_service.notify.signing import endpoint_secrets
from meterfold_service.notify.store import ClickHouseStore
from meterfold_sink import notifications
from meterfold_sink.client import Client, connect
from meterfold_sink.notification_tries import TryRow
from meterfold_sink.notifications import DeliveryKey
from support import eventually
from support.checker.installation import Installation, running
from support.cli import answer, inside
from support.cli import running as command
from support.receivers import OTHER_SECRET, SECRET, Endpoint, Mailbox, Request, endpoint, mailbox


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


def environment(base: dict[str, str], hooks: Endpoint, box: Mailbox, **more: str) -> dict[str, str]:
    settings = {
        "smtp_host": box.host,
        "smtp_port": str(box.port),
        "smtp_security": "none",
        "mail_from": "meterfold@example.com",
        "operator_emails": "ops@example.com",
        "webhook_secrets": f"{SECRET},{OTHER_SECRET}",
        "webhook_ports": str(hooks.port),
        "allow_http": "true",
        "allowed_networks": "127.0.0.0/8",
        **more,
    }
    return {**base, **{f"METERFOLD_NOTIFY_{name.upper()}": value for name, value in settings.items()}}


def deliveries(env: dict[str, str], *filters: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = answer("notify", "list", *filters, env=env)["rows"]
    return rows


def test_an_exceeded_threshold_is_a_verified_webhook_and_a_mail(
    there: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as ending:
        hooks, box = ending.enter_context(endpoint()), ending.enter_context(mailbox())
        there.define_metric()
        there.define_threshold(notify_emails=("ada@example.com",), notify_webhook=hooks.url)
        checker = ending.enter_context(running(there))
        checker.ready(2)
        there.use(130, "u2", partition=1)
        env = environment(stack_environment, hooks, box)
        notifier = ending.enter_context(command("notify", env=env, folder=tmp_path, ready="notify: ready"))
        eventually(lambda: len(hooks.requests) == 2 and len(box.mails) == 2, 60, "both events arrive at both")

        exceeded = next(request for request in hooks.requests if request.event["type"] == "threshold.exceeded")
        for secret in endpoint_secrets([SecretStr(SECRET), SecretStr(OTHER_SECRET)], hooks.url):
            # Another library's verifier; it raises for a wrong signature or an old timestamp.
            assert Webhook(secret.get_secret_value()).verify(exceeded.body, exceeded.headers) == exceeded.event
        data = exceeded.event["data"]
        assert exceeded.id == data["event_id"]
        assert (data["subject_id"], data["actual_value"], data["threshold"], data["revision"]) == (
            "u2",
            "130",
            "100",
            1,
        )
        recipient, mail = next(found for found in box.mails if found[1]["X-Meterfold-Event"] == "threshold.exceeded")
        assert (recipient, mail["Message-ID"]) == ("ada@example.com", f"<{exceeded.id}@example.com>")
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]

        # What the tables and the commands say
        eventually(lambda: Counter(row["state"] for row in deliveries(env)) == {"delivered": 4}, 40)
        pages, cursor = [], None
        while len(pages) < 5:
            page = answer("notify", "list", "--limit", "1", *(["--cursor", cursor] if cursor else []), env=env)
            pages += page["rows"]
            if (cursor := page["cursor"]) is None:
                break
        assert pages == deliveries(env)
        tries = answer("notify", "show", exceeded.id, env=env)
        assert [(row["channel"], row["attempt"], row["state"], row["status"]) for row in tries] == [
            ("email", 0, "pending", 0),
            ("email", 1, "delivered", 250),
            ("webhook", 0, "pending", 0),
            ("webhook", 1, "delivered", 204),
        ]

        # The real path of a test message, and of a redelivery
        assert answer("notify", "test", "webhook", hooks.url, env=env)["state"] == "delivered"
        assert hooks.requests[-1].event["type"] == "notify.test"
        refused = inside("notify", "test", "webhook", hooks.url.replace("127.0.0.1", "10.0.0.1"), env=env)
        assert (refused.returncode, "10.0.0.1 is not public" in refused.stderr) == (1, True), refused
        assert answer("notify", "redeliver", "--from", "2020-01", env=env) == {"deliveries": 1}, "the refused test"
        again = answer("notify", "redeliver", "--event", exceeded.id, "--channel", "webhook", "--all", env=env)
        assert again == {"deliveries": 1}
        repeated = eventually(lambda: [r for r in hooks.requests if r.id == exceeded.id][1:], 40, "it is sent again")
        assert repeated[0].body == exceeded.body

        # Gone: disabled at once, the operators learn of it, and it can be enabled again
        hooks.each = 410
        there.use(131, "u3", partition=0)
        eventually(lambda: "ops@example.com" in [to for to, _ in box.mails], 60, "the operators get a mail")
        (known,) = [row for row in answer("notify", "endpoints", env=env) if row["endpoint"] == hooks.url]
        assert known["state"] == "disabled"
        hooks.each = 204
        assert answer("notify", "enable", hooks.url, "--by", "ada", env=env)["state"] == "active"
        before = Counter(hooks.ids)
        assert answer("notify", "redeliver", "--from", "2020-01", "--target", hooks.url, env=env)["deliveries"] == 2
        eventually(lambda: sum((Counter(hooks.ids) - before).values()) == 2, 40, "what it missed arrives")

        assert notifier.terminate(60) == 0
        shown = notifier.output() + json.dumps(there.client.rows("SELECT * FROM notification_tries"), default=str)
        secrets = [
            SECRET,
            OTHER_SECRET,
            *(s.get_secret_value() for s in endpoint_secrets([SecretStr(SECRET)], hooks.url)),
        ]
        assert [secret for secret in secrets if secret.removeprefix("whsec_") in shown] == []
        assert "tenant=7" not in notifier.output(), "logs show no path and no query"


_HISTORY = """
INSERT INTO notification_tries
(occurred_at, event_id, channel, target, round, attempt, stage, state, due_at, give_up_at, event_type, topic, partition)
SELECT
    fromUnixTimestamp64Micro({now:Int64} - intDiv(number * 1728000000000, {deliveries:Int64}), 'UTC') AS at,
    concat('old', toString(number)), 'webhook', concat('https://', toString(number % 7), '.example.com/'), 0,
    attempt, attempt * 2, if(attempt = 0, 'pending', 'delivered'), at, at + toIntervalDay(3),
    'threshold.exceeded', 't', 1
FROM numbers({deliveries:Int64})
ARRAY JOIN [0, 1] AS attempt
"""


def _history(client: Client, now: datetime, deliveries: int) -> None:
    """Deliveries of the last 20 days that were successful at their first try."""
    client.command(_HISTORY, {"now": micros(now), "deliveries": deliveries})


def _rows_read(client: Client, sql: str, given: Mapping[str, Any]) -> int:
    return sum(row["rows"] for row in client.rows(f"EXPLAIN ESTIMATE {sql}", given))


def test_what_a_notifier_reads_each_second_does_not_grow_with_the_past(
    tables: None, clickhouse_settings: ClickHouseSettings
) -> None:
    client, now = connect(clickhouse_settings), datetime.now(UTC)
    store, granules = ClickHouseStore(clickhouse_settings), 8192

    def row(event_id: str, days: float = 0, **more: Any) -> TryRow:
        given: dict[str, Any] = {
            "occurred_at": now - timedelta(days=days), "event_id": event_id, "channel": "webhook", "target": "https://x/",
            "due_at": now, "give_up_at": now + timedelta(days=1), "event_type": "threshold.exceeded", "topic": "t",
            "partition": 1, "payload": f"{event_id} {more.get('round', 0)}",
        }  # fmt: skip
        return TryRow(**{**given, **more})

    retried = row("retried", 3)
    store.write([retried, row("new"), row("over"), row("interrupted", 1), row("elsewhere", partition=2)])
    store.write([
        replace(retried, attempt=1, stage=2, state="retrying", due_at=now + timedelta(hours=1), payload=""),
        replace(row("over"), attempt=1, stage=2, state="delivered", payload=""),
        replace(row("interrupted", 1), attempt=1, stage=1, state="sending", payload=""),
    ])  # fmt: skip

    def read() -> dict[str, int]:
        asked = store.open([("t", 1)], now - timedelta(days=30), 10)
        assert {one.key.event_id: one.due_at > now for one in asked} == {
            "retried": True,
            "new": False,
            "interrupted": False,
        }
        over = asked[0]._replace(key=DeliveryKey("over", "webhook", "https://x/"), occurred_at=now)
        states = sorted(store.states([*asked, over]), key=lambda one: one.event_id)
        assert [(one.event_id, one.state, one.attempt, one.payload) for one in states] == [
            ("interrupted", "sending", 1, "interrupted 0"),
            ("new", "pending", 0, "new 0"),
            ("retried", "retrying", 1, "retried 0"),
        ]
        times, keys = [micros(one.occurred_at) for one in asked], [" ".join(one.key) for one in asked]
        return {
            "states": _rows_read(client, notifications._STATES, {"times": times, "keys": keys}),
            "requests": _rows_read(client, notifications._REQUESTS, {"microseconds": 3_600_000_000}),
        }

    read()
    _history(client, now, 150_000)
    client.command("OPTIMIZE TABLE notification_tries FINAL")
    whole = client.value("SELECT count() FROM notification_tries")
    assert whole > 300_000
    after = read()
    assert after["states"] <= 2 * len(("retried", "new", "interrupted")) * granules, after
    assert after["requests"] == 0, after
    assert store.requests() == {}

    # A redelivery is found by its round; what is read for it is its own granules.
    with Metering(clickhouse=clickhouse_settings) as metering:
        assert metering.notifications.redeliver(event_id="over", states=("delivered",)) == 1
    ((number, rows),) = store.requests().items()
    assert rows == 1
    (again,) = store.requested([("t", 1)], [number], 10)
    (state,) = store.states([again])
    assert (state.event_id, state.round, state.attempt, state.payload) == ("over", number, 0, "over 0")
    assert store.requested([("t", 2)], [number], 10) == []
    assert _rows_read(client, notifications._REQUESTS, {"microseconds": 3_600_000_000}) <= 2 * granules
    store.close()


def test_a_notifier_that_is_killed_leaves_nothing_out(
    there: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    """Killed while a webhook is on its way and the mail server is away; the next one goes on from the rows."""
    arrived, released = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        arrived.set()
        released.wait(60)

    with ExitStack() as ending:
        hooks = ending.enter_context(endpoint())
        away = Mailbox(port=1)  # nobody listens there
        there.define_metric()
        there.define_threshold(notify_emails=("ada@example.com",), notify_webhook=hooks.url)
        checker = ending.enter_context(running(there))
        checker.ready(2)
        there.use_many([(f"u{number}", 130) for number in range(3)])
        hooks.hold = hold
        env = environment(stack_environment, hooks, away)
        (tmp_path / "first").mkdir()
        first = ending.enter_context(command("notify", env=env, folder=tmp_path / "first", ready="notify: ready"))
        assert arrived.wait(60)
        eventually(lambda: any(row["state"] == "retrying" and row["channel"] == "email" for row in deliveries(env)), 60)
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: not first.running, 20)
        released.set()
        hooks.hold = lambda _: None

        box = ending.enter_context(mailbox())
        env = environment(stack_environment, hooks, box)
        (tmp_path / "second").mkdir()
        second = ending.enter_context(command("notify", env=env, folder=tmp_path / "second", ready="notify: ready"))
        eventually(
            lambda: Counter(row["state"] for row in deliveries(env)) == {"delivered": 12}, 120, "all is delivered"
        )
        # A receiver that keys on the id sees each once; the mails have the ids of their events.
        wanted = {row["event_id"] for row in deliveries(env)}
        assert len(wanted) == 6
        assert set(hooks.ids) == wanted
        assert {mail["Message-ID"] for _, mail in box.mails} == {f"<{event_id}@example.com>" for event_id in wanted}
        assert len(box.mails) == 6
        interrupted = [row for row in deliveries(env, "--channel", "webhook") if row["attempts"] > 1]
        assert interrupted, "the webhook on its way was sent again, in a try of its own"
        assert second.terminate(60) == 0
