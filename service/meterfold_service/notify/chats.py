"""Chat targets of the operators, through Apprise (the extra notify-chat).

Only operators name them, in the settings: an Apprise URL holds credentials and can name any host or local program. A
target is known elsewhere by its scheme and a digest of its URL.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import datetime
from typing import Any, Final

from meterfold_schemas.errors import InvalidSettings
from meterfold_service.notify.messages import message_of
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.threads import DaemonThreads
from meterfold_sink.notifications import DueDelivery

__all__ = ["ChatSender", "chat_names"]

_SECONDS: Final = 30.0
_AT_ONCE: Final = 4


def chat_names(settings: NotifySettings) -> dict[str, str]:
    """The name of each chat target -> its URL, a secret."""
    found = {}
    for url in settings.chat_urls:
        text = url.get_secret_value()
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        found[f"{text.partition('://')[0].lower()}-{digest}"] = text
    return found


class ChatSender:
    """The channel `chat`. Raises InvalidSettings when it is made, if there are targets that Apprise cannot use."""

    def __init__(self, settings: NotifySettings) -> None:
        self._threads = DaemonThreads("meterfold-chat", _AT_ONCE)
        self._targets = {name: _target(name, url) for name, url in chat_names(settings).items()}

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        target = self._targets.get(delivery.target)
        if target is None:
            return Outcome("refused", error="the chat target is not in notify.chat_urls any longer")
        message = message_of(delivery.payload)
        call = self._threads.run(lambda: target.notify(title=message.subject, body=message.text, body_format="text"))
        try:
            sent = await asyncio.wait_for(call, _SECONDS)
        except TimeoutError:
            return Outcome("retry", error=f"no answer within {_SECONDS:g} s")
        except Exception as error:  # a plug-in's; its text can hold the URL
            return Outcome("retry", error=f"the chat service failed: {type(error).__name__}")
        return Outcome("delivered") if sent else Outcome("retry", error="the chat service refused the message")

    async def close(self) -> None:
        """Nothing is kept open."""


def _target(name: str, url: str) -> Any:
    try:
        import apprise
    except ModuleNotFoundError:
        raise InvalidSettings("notify.chat_urls needs Apprise: pip install 'meterfold[notify-chat]'") from None
    # Both write URLs into their messages.
    for noisy in ("apprise", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL + 1)
    target = apprise.Apprise()
    if not target.add(url):
        raise InvalidSettings(f"notify.chat_urls: Apprise cannot read the URL of {name}")
    return target
