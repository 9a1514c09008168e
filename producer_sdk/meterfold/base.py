"""What Meter and AsyncMeter share: their settings, and what can be asked at any time."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from meterfold.closing import send_unclosed
from meterfold.delivery import DeliveryCallback, DeliveryCounts
from meterfold.disabled import Disabled, NoRecorder
from meterfold.metric_follower import MetricFollower, consumer_config
from meterfold.recorder import Recorder
from meterfold.sender import Sender
from meterfold.settings import SdkSettings, producer_config
from meterfold.subjects import Known, Resolver, Resolvers
from meterfold.tracing import TraceMode, producer_class
from meterfold.transport import Transport
from meterfold_schemas.settings import KafkaSettings, Sources, load_settings
from meterfold_schemas.topics import Topics

__all__ = ["BaseMeter"]

T = TypeVar("T")


class BaseMeter(Generic[Known]):
    """Settings: arguments, then METERFOLD_* variables, then the file that `config` or METERFOLD_CONFIG names."""

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        enabled: bool | None = None,
        org_id: str | None = None,
        resolver: Resolver[Known] | None = None,
        resolvers: Mapping[type[Any], Resolver[Any]] | None = None,
        on_delivery: DeliveryCallback | None = None,
        rounding: Literal["half_even", "half_up"] | None = None,
        topic_prefix: str | None = None,
        librdkafka: Mapping[str, str] | None = None,
        buffer_events: int | None = None,
        buffer_bytes: int | None = None,
        buffer_timeout: float | None = None,
        delivery_timeout: float | None = None,
        close_timeout: float | None = None,
        horizon_seconds: int | None = None,
        future_tolerance_seconds: int | None = None,
        strict: bool | None = None,
        propagate_trace: TraceMode | None = None,
        config: Path | str | None = None,
    ) -> None:
        """Raises InvalidSettings. Does not wait for the broker: events recorded before it is up are sent then."""
        callback = self._callback(on_delivery)
        sources = Sources.read(config=config)
        sdk = load_settings(
            SdkSettings,
            "sdk",
            sources=sources,
            enabled=enabled,
            org_id=org_id,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
            buffer_timeout=buffer_timeout,
            delivery_timeout=delivery_timeout,
            close_timeout=close_timeout,
            horizon_seconds=horizon_seconds,
            future_tolerance_seconds=future_tolerance_seconds,
            strict=strict,
            propagate_trace=propagate_trace,
        )
        if not sdk.enabled:
            self._begin(NoRecorder(), Disabled(), sdk)
            return
        kafka = KafkaSettings.load(
            sources=sources, bootstrap_servers=bootstrap_servers, topic_prefix=topic_prefix, librdkafka=librdkafka
        )
        self._connect(kafka, sdk, Resolvers(resolvers, resolver), rounding, callback)

    def _connect(
        self,
        kafka: KafkaSettings,
        sdk: SdkSettings,
        resolvers: Resolvers,
        rounding: str | None = None,
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        """The last step of making a Meter that records."""
        topics = Topics(kafka.topic_prefix)
        follower = None
        if sdk.strict:
            follow = consumer_config(kafka.client(), kafka.topic_prefix)
            follower = MetricFollower(follow, topics.metric_defined, sdk.buffer_timeout)
        recorder = Recorder.of(sdk, resolvers, rounding, follower)
        transport = Sender(
            producer_config(kafka, sdk),
            topics.usage_recorded,
            buffer_timeout=sdk.buffer_timeout,
            close_timeout=sdk.close_timeout,
            event_id_of=recorder.event_id_of,
            on_delivery=on_delivery,
            also_free=None if follower is None else follower.stop,
            keep_events=sdk.buffer_events,
            keep_bytes=sdk.buffer_bytes,
            producer_class=producer_class(sdk.propagate_trace),
        )
        self._begin(recorder, transport, sdk)

    def _begin(self, recorder: Recorder, transport: Transport, sdk: SdkSettings) -> None:
        self._recorder = recorder
        self._transport = transport
        self._buffer_timeout = sdk.buffer_timeout
        self._close_timeout = sdk.close_timeout
        # No __del__: an object in the middle of its own destruction should not talk to a broker.
        self._finalizer = weakref.finalize(self, send_unclosed, transport, sdk.close_timeout)

    def _callback(self, on_delivery: DeliveryCallback | None) -> DeliveryCallback | None:
        """What the transport calls with each report; the first step of making a Meter."""
        return on_delivery

    def resolver(self, kind: type[T]) -> Callable[[Resolver[T]], Resolver[T]]:
        """Decorator: the function turns objects of a type, and of its subclasses, into subjects.

            meter: Meter[Request | User] = Meter()

            @meter.resolver(Request)
            def caller(request: Request) -> Subject | None: ...

        The resolver of the nearest class applies, as with functools.singledispatch. Where it returns None, or no class
        matches, the Meter's `resolver=` is asked. Raises TypeError for what is no type.
        """

        def register(resolve: Resolver[T]) -> Resolver[T]:
            self._recorder.resolvers.add(kind, resolve)
            return resolve

        return register

    @property
    def counts(self) -> DeliveryCounts:
        """How many events were recorded, delivered, failed, and are outstanding."""
        return self._transport.counts()

    @property
    def trouble(self) -> str | None:
        """What keeps the client from delivering (broker away, wrong password, TLS), in librdkafka's words.

        None while nothing is known to be wrong, and again once events are delivered.
        """
        return self._transport.trouble

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._transport.closed else 'open'} {self.counts}>"
