"""`meterfold notify` on the real stack: from a threshold that is exceeded to a verified webhook and a mail, and what
remains of it when the notifier is killed while its receivers are away."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service.notify.signing import endpoint_secrets
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
