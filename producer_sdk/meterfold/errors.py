"""The errors of the SDK, named after what happens to usage.

MeterfoldError               every error has a stable `code`
├── InvalidSettings          INVALID_SETTINGS   a setting is missing, unknown or out of range
├── InvalidUsage             INVALID_USAGE, TOO_OLD, IN_FUTURE   the event breaks a rule: correct it
│   └── MetricNotFound       METRIC_NOT_FOUND   strict recording: the metric is not defined, or not active
├── NotRecorded              NOT_RECORDED       the event was not taken: record it again
│   ├── BufferFull           BUFFER_FULL        no room within buffer_timeout
│   ├── DefinitionsUnavailable   DEFINITIONS_UNAVAILABLE   strict recording: the definitions could not be read
│   └── MeterClosed          CLOSED             the Meter was closed before
├── RefusedEvents            REFUSED_EVENTS     events of a batch were not taken (`raise_refused`)
├── UndeliveredEvents        DELIVERY_FAILED    events were taken, but the broker did not confirm them
├── FlushTimeout             FLUSH_TIMEOUT      events are still on their way; also a TimeoutError
└── WrongEventLoop           WRONG_EVENT_LOOP   an AsyncMeter is used outside of its event loop; also a RuntimeError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_schemas.errors import InvalidSettings, InvalidUsage, MeterfoldError, Retryable
from meterfold_schemas.plurals import noun, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterfold.batch import Recorded
    from meterfold.delivery import Delivery
    from meterfold.events import UsageEvent

__all__ = [
    "BufferFull",
    "DefinitionsUnavailable",
    "FlushTimeout",
    "InvalidSettings",
    "InvalidUsage",
    "MeterClosed",
    "MeterfoldError",
    "MetricNotFound",
    "NotRecorded",
    "RefusedEvents",
    "UndeliveredEvents",
    "WrongEventLoop",
]


class NotRecorded(MeterfoldError):
    """The event was not taken, so it will not be sent. Record it again, with the same id or without one."""

    code = "NOT_RECORDED"


class BufferFull(NotRecorded, Retryable):
    """The buffer had no room for the event within buffer_timeout. Record it again later, or slow down."""

    code = "BUFFER_FULL"


class DefinitionsUnavailable(NotRecorded, Retryable):
    """Strict recording: the definitions of metrics could not be read yet, so no event can be checked."""

    code = "DEFINITIONS_UNAVAILABLE"


class MetricNotFound(InvalidUsage):
    """Strict recording: the metric is not defined for the organization ("": none), or `is_inactive`. `similar`: the
    defined key that looks most like it, if any. The event was not taken."""

    code = "METRIC_NOT_FOUND"

    def __init__(
        self, metric_key: str, org_id: str = "", *, is_inactive: bool = False, similar: str | None = None
    ) -> None:
        state = "inactive" if is_inactive else "not defined"
        if similar is not None:
            remedy = f"did you mean {similar!r}? Otherwise define it"
        else:
            remedy = "activate it" if is_inactive else "define it"
        command = "update" if is_inactive else "define"
        super().__init__(
            f"metric {metric_key!r} is {state}{f' for organization {org_id}' if org_id else ''}: {remedy} with "
            f"`meterfold metric {command}`"
        )
        self.metric_key = metric_key
        self.org_id = org_id
        self.is_inactive = is_inactive
        self.similar = similar

    def __reduce__(self) -> tuple[type[MetricNotFound], tuple[str, str], dict[str, object]]:
        return type(self), (self.metric_key, self.org_id), {**self.__dict__, "args": self.args}


class MeterClosed(NotRecorded):
    """The Meter was closed before."""

    code = "CLOSED"


class RefusedEvents(MeterfoldError):
    """Events of a batch that were not taken: `refused` has them by their index, `total` is the size of the batch."""

    code = "REFUSED_EVENTS"

    def __init__(self, refused: Mapping[int, Recorded], total: int) -> None:
        index, first = next(iter(refused.items()))
        reason = str(first.error)
        stop = "" if reason.endswith("?") else "."
        super().__init__(
            f"{len(refused)} of {total} events were refused; the first is event {index}: {reason}{stop} The others "
            "were taken; correct the refused ones and record them again"
        )
        self.refused = dict(refused)
        self.total = total

    def __reduce__(self) -> tuple[type[RefusedEvents], tuple[dict[int, Recorded], int]]:
        return type(self), (self.refused, self.total)


class UndeliveredEvents(MeterfoldError):
    """The broker did not confirm `failed` events that were recorded. The outcome of each is unknown.

    `failures` has their reports in order, as many as fit into the bounds of the buffer (buffer_events, buffer_bytes);
    `on_delivery` gets every report. `events` has the events themselves, with their ids and timestamps:

        meter.record_batch(error.events)

    records them again. One that did arrive counts once, since its id is the same.
    """

    code = "DELIVERY_FAILED"

    def __init__(self, failed: int, failures: tuple[Delivery, ...]) -> None:
        first = failures[0]
        super().__init__(
            f"{plural(failed, 'recorded event')} {noun(failed, 'was', 'were')} not delivered; the first is "
            f"{first.event_id}: {first.error}. Record them again with the same ids: one that did arrive counts once"
        )
        self.failed = failed
        self.failures = failures

    @property
    def events(self) -> list[UsageEvent]:
        """The events of `failures`, as `record_batch` takes them."""
        return [event for report in self.failures if (event := report.event) is not None]

    def __reduce__(self) -> tuple[type[UndeliveredEvents], tuple[int, tuple[Delivery, ...]]]:
        return type(self), (self.failed, self.failures)


class FlushTimeout(Retryable, TimeoutError):
    """`outstanding` events had no report after `seconds`. They stay in the buffer and are still being sent.

    `trouble` is what keeps the client from delivering, as far as it is known.
    """

    code = "FLUSH_TIMEOUT"

    def __init__(self, outstanding: int, seconds: float, trouble: str | None = None) -> None:
        super().__init__(
            f"{plural(outstanding, 'event')} {noun(outstanding, 'has', 'have')} no report from the broker after "
            f"{seconds:g} s and will still be sent" + (f"; the last trouble was: {trouble}" if trouble else "")
        )
        self.outstanding = outstanding
        self.seconds = seconds
        self.trouble = trouble

    def __reduce__(self) -> tuple[type[FlushTimeout], tuple[int, float, str | None]]:
        return type(self), (self.outstanding, self.seconds, self.trouble)


class WrongEventLoop(MeterfoldError, RuntimeError):
    """An AsyncMeter belongs to the event loop that used it first, until that loop is closed."""

    code = "WRONG_EVENT_LOOP"
