"""What the receivers of a chaos run do to a sender: each harm does what its name says, and what was taken is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from chaos.receivers import GONE, HOOK_HARMS, MAIL_HARMS, Receivers
from meterfold_schemas.settings import load_settings
from meterfold_service.notify.mails import MailSender
from meterfold_service.notify.outcomes import Outcome, Sender
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.webhooks import WebhookSender
from support.deliveries import delivery
from support.receivers import OTHER_SECRET

pytestmark = pytest.mark.loopback

STATUS = {"status 500": 500, "status 429": 429, "status 307": 307, "busy": 451, "refuses": 550}
TAKEN = ("slow", "reset")
"""Harms after the message was taken: it comes again."""
ANSWERED = ("status 500", "status 429", "status 307", GONE)


def settings_of(receivers: Receivers) -> NotifySettings:
    return load_settings(NotifySettings, "notify", environ=receivers.environment())


def sent(sender: Sender, channel: str, target: str) -> Outcome:
    return asyncio.run(_sent(sender, channel, target))


async def _sent(sender: Sender, channel: str, target: str) -> Outcome:
    try:
        return await sender.send(delivery(channel, target), datetime.now(UTC))
    finally:
        await sender.close()


@pytest.mark.parametrize(
    ("server", "harm"),
    [*(("mail server", harm) for harm in MAIL_HARMS), *(("endpoint", harm) for harm in (*HOOK_HARMS, GONE))],
)
def test_a_harm_does_what_it_says_and_ends(server: str, harm: str) -> None:
    with Receivers() as receivers:
        settings = settings_of(receivers)

        def attempt() -> Outcome:
            if server == "endpoint":
                return sent(WebhookSender(settings), "webhook", target)
            return sent(MailSender(settings), "email", target)

        target = receivers.url(GONE) if server == "endpoint" else "ada@example.com"
        receivers.harm(server, harm)
        outcome = attempt()
        assert outcome.result == ("gone" if harm == GONE else "retry"), outcome
        assert outcome.status == (410 if harm == GONE else STATUS.get(harm, 0))
        assert ((target, delivery("email", "x").event_id) in receivers.accepted) == (harm in TAKEN)
        receivers.heal(server)
        assert attempt().result == "delivered"
        times = len(receivers.contents[target, delivery("email", "x").event_id])
        assert times == 1 + (harm in TAKEN or harm in ANSWERED), "refused requests are kept too"
        assert receivers.forged == []


def test_gone_is_one_endpoint_only() -> None:
    with Receivers() as receivers:
        receivers.harm("endpoint", GONE)
        assert sent(WebhookSender(settings_of(receivers)), "webhook", receivers.url("steady")).result == "delivered"


def test_a_signature_of_another_secret_is_noticed() -> None:
    with Receivers() as receivers:
        other = settings_of(receivers).model_copy(update={"webhook_secrets": (SecretStr(OTHER_SECRET),)})
        assert sent(WebhookSender(other), "webhook", receivers.url("steady")).result == "delivered"
        assert len(receivers.forged) == 1
