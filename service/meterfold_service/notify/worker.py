"""One notifier: plan the deliveries of events, and send what is due, until it is stopped."""

from __future__ import annotations

import logging
from datetime import timedelta
from threading import Event, Thread
from typing import Final

from meterfold_processor.backoff import Stopped
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.clients import producer, publish
from meterfold_processor.tracing import NO_SPANS, Spans
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service.notify.chats import ChatSender, chat_names
from meterfold_service.notify.consumer import EventConsumer
from meterfold_service.notify.delivery_spans import DeliverySpans
from meterfold_service.notify.dispatcher import Dispatcher
from meterfold_service.notify.endpoint_log import PUBLISH_SECONDS, PUBLISHER, message
from meterfold_service.notify.mails import MailSender
from meterfold_service.notify.outcomes import Sender
from meterfold_service.notify.planning import PlanRules
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.status import NotifyStatus
from meterfold_service.notify.store import ClickHouseStore
from meterfold_service.notify.webhooks import WebhookSender

__all__ = ["NotifyWorker", "plan_rules"]

_LOG = logging.getLogger("meterfold.notify")

_STOP_SECONDS: Final = 7.0


def plan_rules(settings: NotifySettings) -> PlanRules:
    return PlanRules(
        operator_emails=settings.operator_emails,
        chats=tuple(chat_names(settings)),
        chat_events=frozenset(settings.chat_events),
        retry=timedelta(hours=settings.retry_hours),
    )


class NotifyWorker:
    """`run` blocks until `stop` is set, or raises Fatal. Raises InvalidSettings when it is made."""

    def __init__(
        self, settings: NotifySettings, kafka: KafkaSettings, clickhouse: ClickHouseSettings, *, spans: Spans = NO_SPANS
    ) -> None:
        self.status = NotifyStatus()
        self._settings = settings
        self._kafka = kafka
        self._clickhouse = clickhouse
        self._spans = DeliverySpans(spans)
        self._rules = plan_rules(settings)
        self._senders: dict[str, Sender] = {
            "email": MailSender(settings),
            "webhook": WebhookSender(settings),
            "chat": ChatSender(settings),
        }
        self._failure: BaseException | None = None

    def run(self, stop: Event) -> None:
        for missing in _missing(self._settings):
            _LOG.warning("%s", missing)
        publisher = producer(self._kafka, **PUBLISHER)
        planning, sending = ClickHouseStore(self._clickhouse), ClickHouseStore(self._clickhouse)
        consumer = EventConsumer(
            self._kafka,
            self._settings,
            self._rules,
            planning,
            self.status,
            lambda found: dispatcher.planned(found),
            self._spans,
        )
        dispatcher = Dispatcher(
            sending,
            self._senders,
            lambda event: publish(publisher, [message(self._kafka, event)], PUBLISH_SECONDS),
            lambda: consumer.owned,
            timedelta(days=self._settings.disable_after_days),
            self.status,
            spans=self._spans,
        )
        inner = Event()  # a failure of one half ends the other
        thread = Thread(target=self._dispatch, args=(dispatcher, inner), name="meterfold-dispatch", daemon=True)
        thread.start()
        watch = Thread(target=_forward, args=(stop, inner), name="meterfold-notify-stop", daemon=True)
        watch.start()
        try:
            clients.with_fresh_clients(lambda: consumer.run(inner), inner, self.status.errors.of("group"))
        except Stopped:
            pass
        finally:
            inner.set()
            thread.join(_STOP_SECONDS)
            planning.close()
            if not thread.is_alive():
                sending.close()
        if self._failure is not None:
            raise self._failure

    def _dispatch(self, dispatcher: Dispatcher, inner: Event) -> None:
        try:
            dispatcher.run(inner)
        except BaseException as failure:
            self._failure = failure
        finally:
            inner.set()


def _forward(stop: Event, inner: Event) -> None:
    while not inner.is_set():
        if stop.wait(0.1):
            inner.set()


def _missing(settings: NotifySettings) -> list[str]:
    found = []
    if not settings.smtp_host:
        found.append("notify.smtp_host is not set: mails are not sent")
    if not settings.webhook_secrets:
        found.append("notify.webhook_secrets is not set: webhooks are not sent")
    if not settings.operator_emails:
        found.append("notify.operator_emails is not set: no one gets a mail when an endpoint fails")
    return found
