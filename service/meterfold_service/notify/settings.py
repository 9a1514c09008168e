"""Settings of a notifier: where mail goes out, how webhooks are signed, and which addresses they may reach."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from meterfold_schemas.settings import Settings

__all__ = ["NotifySettings"]

_ADDRESS: Final = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_KEY_BYTES: Final = range(24, 65)


def _words(value: object) -> object:
    """A variable has a comma-separated list."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or not value.isprintable():
        raise ValueError("give an e-mail address such as ops@example.com")
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith("whsec_") or len(key) not in _KEY_BYTES:
        raise ValueError("give whsec_ and 24 to 64 random bytes in base64; `meterfold notify new-secret` makes one")
    return value


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError(f"{value!r} must be a network such as 10.1.0.0/16") from None


def _scheme_of(url: SecretStr) -> str:
    return url.get_secret_value().partition("://")[0].lower()


Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]


class NotifySettings(Settings):
    """Table [notify], variables METERFOLD_NOTIFY_... Lists are comma-separated in a variable."""

    group_id: str = Field(default="meterfold-notify", min_length=1, max_length=200)
    group_protocol: Literal["consumer", "classic"] = "consumer"
    session_timeout_seconds: int = Field(default=30, ge=6, le=300)
    """Session timeout of the classic protocol; with the consumer protocol the broker sets it."""

    smtp_host: str = ""
    """The mail server; empty: mails wait until one is set."""
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_timeout_seconds: float = Field(default=30.0, ge=1, le=120)
    smtp_ca_file: str = ""
    """Certificates that are trusted instead of the system's."""
    mail_from: Address = "meterfold@localhost"
    operator_emails: Annotated[tuple[Address, ...], BeforeValidator(_words)] = ()
    """Who learns that an endpoint fails or is disabled."""

    webhook_secrets: Annotated[tuple[Secret, ...], BeforeValidator(_words)] = ()
    """Each endpoint's own secret is derived from these. The first is the newest; all of them sign."""
    webhook_timeout_seconds: float = Field(default=20.0, ge=1, le=60)
    """For a whole try, from the name's resolution to the status of the answer."""
    webhook_ports: Annotated[tuple[int, ...], BeforeValidator(_words)] = (443, 8443)
    allow_http: bool = False
    """Whether an http: URL is allowed; by default only https:."""
    allowed_networks: Annotated[tuple[Network, ...], BeforeValidator(_words)] = ()
    """Networks that webhooks may reach although they are not public."""
    webhook_ca_file: str = ""
    """Certificates that are trusted instead of the system's."""
    disable_after_days: float = Field(default=5.0, gt=0, le=365)
    """An endpoint whose tries have all failed for this long is disabled."""

    chat_urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_words)] = ()
    """Chat targets of the operators as Apprise URLs; they contain credentials."""
    chat_schemes: Annotated[tuple[str, ...], BeforeValidator(_words)] = (
        *("slack", "discord", "msteams", "mmosts", "rockets", "matrixs", "tgram", "gchat", "pagerduty", "opsgenie"),
    )
    """The schemes that a chat URL may have."""
    chat_events: Annotated[tuple[str, ...], BeforeValidator(_words)] = ("threshold.exceeded", "endpoint.changed")
    """The topics whose events go to the chat targets."""
    retry_hours: float = Field(default=72.0, gt=0, le=24 * 30)
    """How long a delivery is retried; an event older than this when it is first read is not sent."""

    @model_validator(mode="after")
    def _chats_are_allowed(self) -> NotifySettings:
        for url in self.chat_urls:
            scheme = _scheme_of(url)
            if scheme not in self.chat_schemes:
                shown = scheme if _SCHEME.fullmatch(scheme) else "(unreadable)"
                raise ValueError(
                    f"chat_urls: the scheme {shown} is not one of chat_schemes ({', '.join(self.chat_schemes)})"
                )
        return self
