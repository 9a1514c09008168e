"""Chats of the operators: only what settings name, and no URL shows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from meterfold_schemas.errors import InvalidSettings
from meterfold_service.notify.chats import ChatSender, chat_names
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.settings import NotifySettings
from support.deliveries import delivery
from support.receivers import endpoint

# Apprise imports a module that Python 3.13 does not have any more.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOW = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)


def send(settings: NotifySettings, target: str) -> Outcome:
    async def run() -> Outcome:
        sender = ChatSender(settings)
        try:
            return await sender.send(delivery("chat", target), NOW)
        finally:
            await sender.close()

    return asyncio.run(run())


def test_names_hold_no_credentials() -> None:
    urls = ["slack://T0KEN1/B0KEN2/C0KEN3", "tgram://123456789:T0KEN/5678"]
    names = chat_names(NotifySettings(chat_urls=urls))  # type: ignore[arg-type]
    assert [name.partition("-")[0] for name in names] == ["slack", "tgram"]
    assert len(names) == 2
    assert not any("0KEN" in name for name in names)


def test_a_url_that_apprise_cannot_read_is_named_without_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    settings = NotifySettings(chat_urls="slack://T0KEN")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match="cannot read the URL of slack-") as caught:
        ChatSender(settings)
    assert "T0KEN" not in str(caught.value) + caplog.text


@pytest.mark.loopback
def test_a_message_arrives_and_a_refusal_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A generic JSON endpoint of Apprise stands for the services, which differ in their API only."""
    caplog.set_level("DEBUG")
    with endpoint() as hooks:
        chosen: dict[str, Any] = {"chat_urls": f"json://127.0.0.1:{hooks.port}/T0KEN", "chat_schemes": "json"}
        settings = NotifySettings(**chosen)
        (name,) = chat_names(settings)
        hooks.each = 200
        assert send(settings, name) == Outcome("delivered")
        assert "has exceeded the limit on api.calls" in hooks.requests[0].event["title"]
        hooks.each = 500
        assert send(settings, name) == Outcome("retry", error="the chat service refused the message")
        assert send(settings, "json-removed").result == "refused"
        assert hooks.requests[0].path == "/T0KEN"
    assert "T0KEN" not in caplog.text
