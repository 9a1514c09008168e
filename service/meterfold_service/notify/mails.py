"""Mail by SMTP: one message for each recipient, with a text and an HTML part."""

from __future__ import annotations

import smtplib
import ssl
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from meterfold_schemas.errors import InvalidSettings
from meterfold_service.notify.messages import message_of
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.threads import DaemonThreads
from meterfold_sink.notifications import DueDelivery

__all__ = ["MailSender", "mail_of"]

_AT_ONCE: Final = 4
_PERMANENT: Final = range(500, 600)


def mail_of(delivery: DueDelivery, sender: str, now: datetime) -> EmailMessage:
    """The mail of a delivery. Its Message-ID is made of the event's id, so a mailbox that gets it twice can tell."""
    message = message_of(delivery.payload)
    domain = sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("Meterfold", addr_spec=sender)
    mail["To"] = Address(addr_spec=delivery.target)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{delivery.event_id}@{domain}>"
    if delivery.alert_id:
        mail["References"] = f"<{delivery.alert_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Meterfold-Event"] = delivery.event_type
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    return mail


class MailSender:
    """The channel `email`. Raises InvalidSettings when it is made."""

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings
        self._threads = DaemonThreads("meterfold-smtp", _AT_ONCE)
        try:
            self._tls = ssl.create_default_context(cafile=settings.smtp_ca_file or None)
        except OSError as error:
            raise InvalidSettings(f"notify.smtp_ca_file: {settings.smtp_ca_file} cannot be read: {error}") from None

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        if not self._settings.smtp_host:
            return Outcome("retry", error="no mail server is configured: set notify.smtp_host")
        return await self._threads.run(lambda: self._send(delivery, now))

    async def close(self) -> None:
        """Nothing is kept open."""

    def _send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        settings = self._settings
        try:
            mail = mail_of(delivery, settings.mail_from, now)
        except (ValueError, IndexError, MessageError):  # what the email package raises for odd addresses
            return Outcome("refused", error="the recipient is not an e-mail address")
        try:
            with self._connected() as server:
                refused = server.send_message(mail, settings.mail_from, [delivery.target])
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except smtplib.SMTPResponseException as error:
            # The mail itself may be refused for good. A login or a sender that is refused is the operator's to correct.
            final = isinstance(error, smtplib.SMTPDataError) and error.smtp_code in _PERMANENT
            return Outcome("refused" if final else "retry", error.smtp_code, _answer(error.smtp_code))
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return Outcome("retry", error=_failure(error))
        for code, _ in refused.values():
            return Outcome("refused" if code in _PERMANENT else "retry", code, _answer(code))
        return Outcome("delivered", 250)

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        where = (settings.smtp_host, settings.smtp_port)
        if settings.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(*where, timeout=settings.smtp_timeout_seconds, context=self._tls)
        else:
            server = smtplib.SMTP(*where, timeout=settings.smtp_timeout_seconds)
        try:
            if settings.smtp_security == "starttls":
                server.starttls(context=self._tls)
            if settings.smtp_username:
                server.login(settings.smtp_username, settings.smtp_password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server


def _answer(code: int) -> str:
    return f"the mail server answered {code}"


def _failure(error: Exception) -> str:
    """Without what the server said: it can repeat what was sent to it."""
    if isinstance(error, TimeoutError):
        return "the mail server did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return f"the mail server could not be reached: {error.strerror}"
    return f"the mail server failed: {type(error).__name__}"
