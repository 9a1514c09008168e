"""One try of a webhook against a real endpoint on loopback: what counts as success, and where it does not go."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.signing import endpoint_secrets
from meterfold_service.notify.webhooks import WebhookSender
from support.certificates import authority
from support.deliveries import delivery
from support.receivers import SECRET, Endpoint, endpoint

pytestmark = pytest.mark.loopback

LOOPBACK = "127.0.0.0/8"


def settings(hooks: Endpoint | None = None, **more: Any) -> NotifySettings:
    values = {
        "webhook_secrets": SECRET,
        "webhook_ports": [hooks.port] if hooks else [443],
        "allow_http": True,
        "allowed_networks": LOOPBACK,
        **more,
    }
    return NotifySettings(**values)


def send(
    chosen: NotifySettings, *urls: str, resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None
) -> list[Outcome]:
    """The outcomes of one try to each URL, at the same time."""

    async def run() -> list[Outcome]:
        sender = WebhookSender(chosen, resolve)
        try:
            return list(
                await asyncio.gather(*(sender.send(delivery("webhook", url), datetime.now(UTC)) for url in urls))
            )
        finally:
            await sender.close()

    return asyncio.run(run())


def test_a_signed_post_over_tls_to_the_pinned_address(tmp_path: Path) -> None:
    """The name is resolved once and kept for TLS; another library verifies the signature."""
    ca_file, tls = authority(tmp_path, "hooks.example.com")
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    with endpoint(tls, "hooks.example.com") as hooks:
        chosen = settings(hooks, allow_http=False, webhook_ca_file=str(ca_file))
        (outcome,) = send(chosen, hooks.url, resolve=resolve)
    assert outcome == Outcome("delivered", 204)
    assert (asked, names) == (["hooks.example.com"], ["hooks.example.com"])
    (request,) = hooks.requests
    assert request.path == "/hook?tenant=7"
    assert request.headers["host"] == f"hooks.example.com:{hooks.port}"
    assert request.headers["connection"] == "close"
    (secret,) = endpoint_secrets(chosen.webhook_secrets, hooks.url)
    assert Webhook(secret.get_secret_value()).verify(request.body, request.headers) == request.event


def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    ca_file, tls = authority(tmp_path, "other.example.com")

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with endpoint(tls, "hooks.example.com") as hooks:
        (outcome,) = send(settings(hooks, webhook_ca_file=str(ca_file)), hooks.url, resolve=resolve)
    assert (outcome.result, hooks.requests) == ("retry", [])
    assert "certificate" in outcome.error.lower()


@pytest.mark.parametrize(
    ("status", "headers", "result"),
    [
        (200, {}, "delivered"),
        (299, {}, "delivered"),
        (301, {"Location": "http://169.254.169.254/"}, "retry"),
        (307, {"Location": "/elsewhere"}, "retry"),
        (400, {}, "retry"),
        (404, {}, "retry"),
        (410, {}, "gone"),
        (429, {"Retry-After": "120"}, "retry"),
        (503, {"Retry-After": "nonsense"}, "retry"),
    ],
)
def test_only_2xx_is_success(status: int, headers: dict[str, str], result: str) -> None:
    with endpoint() as hooks:
        hooks.answers.append((status, headers))
        before = datetime.now(UTC)
        (outcome,) = send(settings(hooks), hooks.url)
    assert (outcome.result, outcome.status, len(hooks.requests)) == (result, status, 1), "no redirect is followed"
    if headers.get("Retry-After") == "120":
        assert outcome.after is not None
        assert timedelta(seconds=100) < outcome.after - before < timedelta(seconds=300)
    else:
        assert outcome.after is None


def test_an_endpoint_that_answers_byte_by_byte_is_given_up() -> None:
    """A time-out of each read would never strike."""
    with dripping() as url:
        (slow,) = send(settings(webhook_ports=[port_of(url)], webhook_timeout_seconds=1.5), url)
    assert slow == Outcome("retry", error="no answer within 1.5 s")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
    ],
)
def test_an_address_inside_is_not_reached_however_it_is_written(url: str) -> None:
    with endpoint() as hooks:
        (outcome,) = send(settings(hooks, allowed_networks=""), url.format(port=hooks.port))
        assert (outcome.result, outcome.status, hooks.requests) == ("retry", 0, [])
        assert "refused" in outcome.error or "resolved" in outcome.error


def test_a_name_with_one_address_inside_is_refused_as_a_whole() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1", "10.0.0.7"]

    with endpoint() as hooks:
        (outcome,) = send(settings(hooks), f"http://mixed.example:{hooks.port}/", resolve=resolve)
        assert (outcome.result, hooks.requests) == ("retry", [])
    assert outcome.error.startswith("refused: the address 10.0.0.7")


def test_a_name_that_changes_between_check_and_connection_finds_nothing() -> None:
    """Rebinding: the first answer is allowed, any further one would be the metadata service."""
    answers = ["127.0.0.1", "169.254.169.254"]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return [answers.pop(0)]

    with endpoint() as hooks:
        url = f"http://rebinding.example:{hooks.port}/"
        (outcome,) = send(settings(hooks), url, resolve=resolve)
        assert (outcome.result, len(hooks.requests), answers) == ("delivered", 1, ["169.254.169.254"])
        (outcome,) = send(settings(hooks), url, resolve=resolve)
        assert (outcome.result, len(hooks.requests)) == ("retry", 1), "each try is checked"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"webhook_secrets": ""}, "webhook_secrets"),
        ({"allow_http": False}, "https://"),
        ({"webhook_ports": [443]}, "webhook_ports"),
    ],
)
def test_what_the_settings_do_not_allow_says_which_setting(more: dict[str, Any], says: str) -> None:
    with endpoint() as hooks:
        (outcome,) = send(settings(hooks, **more), hooks.url)
        assert (outcome.result, hooks.requests) == ("retry", [])
    assert says in outcome.error


def test_a_server_that_is_away_or_speaks_something_else() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        (outcome,) = send(settings(webhook_ports=[port]), f"http://127.0.0.1:{port}/")
        assert (outcome.result, outcome.status) == ("retry", 0)
        assert outcome.error
    with dripping(b"220 mail.example ESMTP\r\n", end=True) as url:
        (outcome,) = send(settings(webhook_ports=[port_of(url)]), url)
        assert outcome == Outcome("retry", error="the answer is not HTTP")
    (outcome,) = send(settings(), "https://does-not-exist.invalid/")
    assert (outcome.result, "resolved" in outcome.error) == ("retry", True)


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].strip("/"))


@contextmanager
def dripping(greeting: bytes = b"H", *, end: bool = False) -> Iterator[str]:
    """A server that sends a byte of its answer every tenth of a second, for ever."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)

    def serve() -> None:
        while not over.is_set():
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            with client:
                try:
                    client.recv(65_536)
                    client.sendall(greeting)
                    if end:
                        # Unread bytes of the request would turn the end into a reset, and lose the answer.
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(65_536):
                            pass
                    while not end and not over.wait(0.1):
                        client.sendall(b"x")
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    finally:
        over.set()
        thread.join(10)
        server.close()
