"""Who gets the notifications of a run: a mail server and webhook endpoints, which do harm on order.

They keep what they got, whatever they answered: a message that was taken and not acknowledged is sent again.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self, TypeVar

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from meterfold_service.notify.signing import endpoint_secrets
from support.receivers import SECRET, Endpoint, Mailbox, Request, endpoint, mailbox

__all__ = ["GONE", "HARMS", "OPERATOR", "SERVERS", "Receivers"]

SERVERS: Final = ("mail server", "endpoint")
DOMAIN: Final = "example.com"
MAIL_HARMS: Final = ("away", "slow", "busy", "refuses")
HOOK_HARMS: Final = ("away", "slow", "status 500", "status 429", "status 307", "reset")
GONE: Final = "gone"
HARMS: Final = (
    *(f"mail server: {harm}" for harm in MAIL_HARMS),
    *(f"endpoint: {harm}" for harm in (*HOOK_HARMS, GONE)),
)
TIMEOUT_SECONDS: Final = 1
"""How long notifiers wait for an answer here (20 and 30 s when shipped): "slow" takes longer."""
OPERATOR: Final = "ops@example.com"
_SLOW_SECONDS: Final = TIMEOUT_SECONDS + 0.7
_ANSWERS: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "status 500": (500, {}),
    "status 429": (429, {"Retry-After": "2"}),
    "status 307": (307, {"Location": "/elsewhere"}),
    GONE: (410, {}),
}
_MAIL_ANSWERS: Final = {"busy": "451 try again later", "refuses": "550 this sender is not welcome"}


class Receivers:
    """Started when entered. `harm` and `heal` are for any thread; "gone" concerns one path only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = {server: ExitStack() for server in SERVERS}
        self._ports = dict.fromkeys(SERVERS, 0)
        self._harms: dict[str, str] = {}
        self._gone = ""
        self._hooks: list[Endpoint] = []
        self._boxes: list[Mailbox] = []
        self._accepted: set[tuple[str, str]] = set()
        self.forged: list[str] = []
        """Webhooks whose signature was wrong when they came."""

    def __enter__(self) -> Self:
        for server in SERVERS:
            self._listen(server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for closing in self._closing.values():
            closing.close()

    def url(self, path: str) -> str:
        """The endpoint of this name."""
        return f"http://127.0.0.1:{self._ports['endpoint']}/{path}"

    def environment(self) -> dict[str, str]:
        """Where notifiers find them."""
        settings = {
            "smtp_host": "127.0.0.1",
            "smtp_port": self._ports["mail server"],
            "smtp_security": "none",
            "smtp_timeout_seconds": TIMEOUT_SECONDS,
            "mail_from": f"meterfold@{DOMAIN}",
            "operator_emails": OPERATOR,
            "webhook_secrets": SECRET,
            "webhook_ports": self._ports["endpoint"],
            "webhook_timeout_seconds": TIMEOUT_SECONDS,
            "allow_http": "true",
            "allowed_networks": "127.0.0.0/8",
        }
        return {f"METERFOLD_NOTIFY_{name.upper()}": str(value) for name, value in settings.items()}

    def harm(self, server: str, kind: str) -> None:
        """`server` is one of SERVERS, `kind` one of its harms."""
        with self._lock:
            self._harms[server] = kind
        if kind == "away":
            self._closing[server].close()

    def heal(self, server: str) -> None:
        with self._lock:
            kind = self._harms.pop(server, "")
        if kind == "away":
            self._listen(server)

    @property
    def contents(self) -> dict[tuple[str, str], list[bytes]]:
        """(target, event id) -> the contents, each time it came. The id of a webhook is its webhook-id, that of a mail
        is in its Message-ID."""
        found: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        for hooks in list(self._hooks):
            for request in list(hooks.requests):
                found[self.url(request.path.lstrip("/")), request.id].append(request.body)
        for box in list(self._boxes):
            for address, mail in list(box.mails):
                parts = [part.get_content() for part in mail.iter_parts()]
                name = str(mail["Message-ID"]).removeprefix("<").removesuffix(f"@{DOMAIN}>")
                found[address, name].append("\n".join([str(mail["Subject"]), *parts]).encode())
        return found

    @property
    def accepted(self) -> set[tuple[str, str]]:
        """(target, event id) of what was taken, whether or not the notifier heard of it."""
        mails = {(address, name) for address, name in self.contents if "://" not in address}
        with self._lock:
            return mails | self._accepted

    def _listen(self, server: str) -> None:
        """On the same port every time."""
        port, closing = self._ports[server], ExitStack()
        if server == "endpoint":
            hooks = _persist(lambda: closing.enter_context(endpoint(port=port)))
            hooks.hold, hooks.answer = self._hold, self._answer
            self._hooks.append(hooks)
            self._ports[server] = hooks.port
        else:
            box = _persist(lambda: closing.enter_context(mailbox(port=port)))
            box.greylisted, box.hold = self._refusal, self._mail_seconds
            self._boxes.append(box)
            self._ports[server] = box.port
        self._closing[server] = closing

    def _answer(self, request: Request) -> tuple[int, dict[str, str]]:
        url = self.url(request.path.lstrip("/"))
        secret = endpoint_secrets([SecretStr(SECRET)], url)[0].get_secret_value()
        try:
            Webhook(secret).verify(request.body, request.headers)
        except WebhookVerificationError as error:
            self.forged.append(f"{url} {request.id}: {error}")
        with self._lock:
            kind = self._harms.get("endpoint", "")
            if kind in _ANSWERS and (kind != GONE or request.path == f"/{GONE}"):
                return _ANSWERS[kind]
            self._accepted.add((url, request.id))
        return 204, {}

    def _hold(self, request: Request) -> None:
        kind = self._harms.get("endpoint", "")
        if kind == "slow":
            time.sleep(_SLOW_SECONDS)
        elif kind == "reset":
            raise ConnectionResetError("the endpoint took it and says nothing")

    def _refusal(self) -> str:
        return _MAIL_ANSWERS.get(self._harms.get("mail server", ""), "")

    def _mail_seconds(self) -> float:
        return _SLOW_SECONDS if self._harms.get("mail server", "") == "slow" else 0.0


T = TypeVar("T")


def _persist(listen: Callable[[], T], seconds: float = 30) -> T:
    """While the port is away a connection of somebody else can have it."""
    until = time.monotonic() + seconds
    while True:
        try:
            return listen()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
