"""Mails against a real SMTP server on loopback."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from meterfold_service.notify.mails import MailSender, mail_of
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.settings import NotifySettings
from support.certificates import authority
from support.deliveries import delivery, event
from support.receivers import Mailbox, mailbox

pytestmark = pytest.mark.loopback

NOW = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)


def send(box: Mailbox, target: str = "ada@example.com", **more: Any) -> Outcome:
    values = {
        "smtp_host": box.host,
        "smtp_port": box.port,
        "smtp_security": "none",
        "mail_from": "meterfold@example.com",
        **more,
    }

    async def run() -> Outcome:
        sender = MailSender(NotifySettings(**values))
        try:
            return await sender.send(delivery("email", target), NOW)
        finally:
            await sender.close()

    return asyncio.run(run())


def test_a_mail_has_a_text_and_an_html_part_and_an_id_of_its_event() -> None:
    with mailbox() as box:
        assert send(box) == send(box) == Outcome("delivered", 250)
    (recipient, mail), (_, again) = box.mails
    assert recipient == mail["To"] == "ada@example.com"
    assert mail["From"] == "Meterfold <meterfold@example.com>"
    assert mail["Subject"] == "[Meterfold] user ada has exceeded the limit on api.calls (120 %)"
    assert mail["Message-ID"] == again["Message-ID"] == f"<{event().event_id}@example.com>"
    assert (mail["References"], mail["Auto-Submitted"]) == (f"<{event().alert_id}@example.com>", "auto-generated")
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "Usage:        1200.5\n" in text.replace("\r\n", "\n")
    assert "monthly, 2026-11-01 to 2026-12-01 (UTC)" in text
    assert "<td>1200.5</td>" in html


def test_tls_and_login(tmp_path: Path) -> None:
    ca_file, tls = authority(tmp_path, "127.0.0.1")
    secure = {"smtp_security": "starttls", "smtp_ca_file": str(ca_file), "smtp_username": "mail"}
    with mailbox(tls, login=True) as box:
        assert send(box, smtp_password="s3cret", **secure) == Outcome("delivered", 250)
        wrong = send(box, smtp_password="wr0ng", **secure)
        assert (wrong.result, wrong.status) == ("retry", 535), "an operator can correct it"
        assert "wr0ng" not in wrong.error
        untrusted = send(box, smtp_password="s3cret", **(secure | {"smtp_ca_file": ""}))
        assert (untrusted.result, untrusted.status) == ("retry", 0)
    assert box.logins[0] == (b"mail", b"s3cret")
    assert len(box.mails) == 1


def test_what_a_refusal_means() -> None:
    with mailbox() as box:
        box.unknown.add("gone@example.com")
        assert send(box, "gone@example.com") == Outcome("refused", 550, "the mail server answered 550")
        box.answers += ["451 later", "554 spam"]
        assert send(box) == Outcome("retry", 451, "the mail server answered 451")
        assert send(box) == Outcome("refused", 554, "the mail server answered 554")
        assert send(box, "two words@example.com").result == "refused"
        assert box.mails == []


def test_a_server_that_is_away_is_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        outcome = send(Mailbox(port=free.getsockname()[1]))
    assert (outcome.result, outcome.status) == ("retry", 0)
    assert "could not be reached" in outcome.error
    assert "smtp_host" in send(Mailbox(host="", port=25)).error


@pytest.mark.parametrize("name", ["ada\r\nBcc: x@example.com", "<script>alert(1)</script>", "a\x00b", "\N{SNOWMAN}"])
def test_names_that_users_chose_change_neither_headers_nor_markup(name: str) -> None:
    of = event(subject_id=name)
    mail = mail_of(delivery("email", "ada@example.com", of), "meterfold@example.com", NOW)
    assert "Bcc" not in mail
    assert len(mail.get_all("To")) == 1
    raw = mail.as_bytes()
    assert b"\r\nBcc:" not in raw
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "<script>" not in html
    assert text.startswith("user ")


def test_a_lifetime_a_warning_and_an_end() -> None:
    subjects = []
    for of in (
        event(period_end=None, event_type="threshold.approaching", level="approaching"),
        event(event_type="threshold.cleared"),
    ):
        mail = mail_of(delivery("email", "ada@example.com", of), "meterfold@example.com", NOW)
        subjects.append(str(mail["Subject"]))
    assert "approaches the limit" in subjects[0]
    assert "is below the exceeded level" in subjects[1]
