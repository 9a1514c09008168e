"""Webhooks: one signed POST per try. Only a status of 2xx is success, and no redirect is followed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import httpcore

from meterfold_schemas.errors import InvalidSettings
from meterfold_service.notify import signing
from meterfold_service.notify.addresses import EndpointRules, Refused, endpoint_of
from meterfold_service.notify.network import PinnedBackend, Resolve, connection_pool, resolver
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.schedule import retry_after
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.threads import DaemonThreads
from meterfold_sink.notifications import DueDelivery

__all__ = ["WebhookSender", "rules_of"]

_GONE: Final = 410
_REDIRECTS: Final = range(300, 400)
_SUCCESS: Final = range(200, 300)
_RESOLVERS: Final = 64


def rules_of(settings: NotifySettings) -> EndpointRules:
    return EndpointRules(settings.webhook_ports, settings.allow_http, settings.allowed_networks)


class WebhookSender:
    """The channel `webhook`. Raises InvalidSettings when it is made."""

    def __init__(self, settings: NotifySettings, resolve: Resolve | None = None) -> None:
        self._secrets = settings.webhook_secrets
        self._seconds = settings.webhook_timeout_seconds
        self._rules = rules_of(settings)
        self._threads = DaemonThreads("meterfold-resolve", _RESOLVERS)
        backend = PinnedBackend(self._rules, resolve or resolver(self._threads))
        try:
            self._pool = connection_pool(backend, settings.webhook_ca_file)
        except OSError as error:
            raise InvalidSettings(
                f"notify.webhook_ca_file: {settings.webhook_ca_file} cannot be read: {error}"
            ) from None

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        if not self._secrets:
            return Outcome("retry", error="webhooks cannot be signed: set notify.webhook_secrets")
        try:
            # Of the whole try: a time-out of each read would let a receiver send one byte after the other for ever.
            async with asyncio.timeout(self._seconds):
                return await self._post(delivery, now)
        except TimeoutError:
            return Outcome("retry", error=f"no answer within {self._seconds:g} s")
        except Refused as error:
            return Outcome("retry", error=f"refused: {error}")
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            return Outcome("retry", error=_text(error) or "the connection failed")
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError):
            return Outcome("retry", error="the answer is not HTTP")
        except (ssl.SSLError, OSError) as error:
            return Outcome("retry", error=_text(error) or "the connection failed")

    async def close(self) -> None:
        await self._pool.aclose()

    async def _post(self, delivery: DueDelivery, now: datetime) -> Outcome:
        endpoint = endpoint_of(delivery.target, self._rules)
        body = delivery.payload.encode()
        secrets = signing.endpoint_secrets(self._secrets, delivery.target)
        default = 443 if endpoint.secure else 80
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        sent = [
            ("Host", host if endpoint.port == default else f"{host}:{endpoint.port}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", "meterfold"),
            ("Accept", "*/*"),
            ("Connection", "close"),
            *signing.headers(secrets, delivery.event_id, now, body),
        ]
        url = httpcore.URL(
            scheme=b"https" if endpoint.secure else b"http",
            host=endpoint.host.encode(),
            port=endpoint.port,
            target=endpoint.target.encode(),
        )
        async with self._pool.stream("POST", url, headers=sent, content=body) as answer:
            return _judged(answer.status, answer.headers, now)


def _judged(status: int, headers: Iterable[tuple[bytes, bytes]], now: datetime) -> Outcome:
    """The body is not read: it says nothing that counts, and what it says must not come into logs."""
    if status in _SUCCESS:
        return Outcome("delivered", status)
    if status == _GONE:
        return Outcome("gone", status, "the receiver answered 410 Gone")
    if status in _REDIRECTS:
        return Outcome("retry", status, f"the receiver answered {status}; redirects are not followed")
    after = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return Outcome(
        "retry", status, f"the receiver answered {status}", retry_after(after.decode("latin-1"), now) if after else None
    )


def _text(error: Exception) -> str:
    text = str(error).strip()
    return text[:200] if text.isprintable() else type(error).__name__
