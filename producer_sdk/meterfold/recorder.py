"""From what `record` and `record_batch` are given to the key and value of a message, without any I/O."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from meterfold.batch import BatchResults, Recorded
from meterfold.event_ids import EventIds
from meterfold.log import logger
from meterfold.metrics import MetricCheck
from meterfold.settings import SdkSettings
from meterfold.subjects import Resolvers, subject_parts
from meterfold.tables import FIELDS, Row, rows
from meterfold.values import Id, Quantity, id_text
from meterfold_schemas.errors import InvalidSettings, InvalidUsage, MeterfoldError
from meterfold_schemas.periods import MICROS_PER_SECOND, micros
from meterfold_schemas.quantities import ROUNDINGS, rounded
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_schemas.usage_fields import OPTIONAL
from meterfold_schemas.usage_rules import age_problem

if TYPE_CHECKING:
    from meterfold.frames.batch import FrameBatch

__all__ = ["Encoded", "Recorder"]


#: The id, key and value of an event that is ready to be sent. A plain tuple, since there is one for each event.
Encoded = tuple[str, bytes, bytes]


_RESOURCE_ID: Final = OPTIONAL.index("resource_id")
_ID: Final = FIELDS.index("id")


class Recorder:
    """Checks and encodes events. `horizon_seconds` and `future_tolerance_seconds` None: not known, not checked.
    `metrics` None: any metric is recorded."""

    def __init__(
        self,
        org_id: str,
        resolvers: Resolvers,
        *,
        horizon_seconds: int | None = None,
        future_tolerance_seconds: int | None = None,
        rounding: str | None = None,
        metrics: MetricCheck | None = None,
    ) -> None:
        if rounding is not None and rounding not in ROUNDINGS:
            raise InvalidSettings(f"rounding must be None or one of {', '.join(ROUNDINGS)}, not {rounding!r}")
        self._org_id = org_id
        self.resolvers = resolvers
        self.metrics = metrics
        self._rounding = rounding
        self.check_ages(horizon_seconds, future_tolerance_seconds)
        self._encoder = UsageEncoder()
        self._event_ids = EventIds()
        self._next_id = self._event_ids.next
        self.event_id_of = self._encoder.event_id_of

    @classmethod
    def of(
        cls,
        sdk: SdkSettings,
        resolvers: Resolvers,
        rounding: str | None,
        metrics: MetricCheck | None = None,
    ) -> Recorder:
        """As the settings say. Raises InvalidSettings for an unknown rounding."""
        return cls(
            sdk.org_id,
            resolvers,
            horizon_seconds=sdk.horizon_seconds,
            future_tolerance_seconds=sdk.future_tolerance_seconds,
            rounding=rounding,
            metrics=metrics,
        )

    def check_ages(self, horizon_seconds: int | None, future_tolerance_seconds: int | None) -> None:
        """From now on by these rules of the installation."""
        self._horizon = None if horizon_seconds is None else horizon_seconds * MICROS_PER_SECOND
        self._tolerance = None if future_tolerance_seconds is None else future_tolerance_seconds * MICROS_PER_SECOND

    def encode(
        self,
        metric_key: str,
        subject: object,
        quantity: Quantity,
        id: Id | None,
        timestamp: datetime | None,
        org_id: Id | None,
        optional: Sequence[Any],
    ) -> Encoded:
        """One event; `optional` has the values of usage_fields.OPTIONAL, or is empty. Raises InvalidUsage, and what
        `metrics` raises.

        An application pays for each line here with every event.
        """
        if type(subject) is tuple and len(subject) == 2:
            kind, name = subject
            own_org = None
        else:
            kind, name, own_org = subject_parts(subject, self.resolvers)
        org = org_id if org_id is not None else own_org if own_org is not None else self._org_id
        if type(name) is not str or type(org) is not str:
            name, org = id_text("subject_id", name), id_text("org_id", org)
        encoded = self._encoder.subject(org, metric_key, kind, name)
        if self.metrics is not None:
            self.metrics.check(org, metric_key)
        if id is None:
            id = self._next_id()
        elif type(id) is not str:
            id = id_text("id", id)
        if type(quantity) is not int and self._rounding is not None:
            quantity = rounded(quantity, self._rounding)
        stamp = time.time_ns() // 1000 if timestamp is None else self._checked(timestamp)
        if optional and (resource_id := optional[_RESOURCE_ID]) is not None and type(resource_id) is not str:
            text = id_text("resource_id", resource_id)
            optional = (*optional[:_RESOURCE_ID], text, *optional[_RESOURCE_ID + 1 :])
        value = self._encoder.value(id, encoded, quantity, stamp, *optional)
        return id, encoded.key, value

    def batch(self, events: Iterable[Mapping[str, Any]] | Any) -> Generator[Encoded, None, BatchResults]:
        """The events of a batch, one by one, to be sent; throw in the error of one that could not be."""
        ids: list[str | None] = []
        others: dict[int, Recorded] = {}
        seen: set[bytes] = set()
        for row in rows(events):
            event_id, event = self.encoded_row(row)
            if isinstance(event, MeterfoldError):
                others[len(ids)] = Recorded("refused", event_id, event)
            else:
                # Only an id that was given can come twice.
                identity = event[1] + event[0].encode() if row[_ID] is not None else None  # type: ignore[index]
                if identity in seen:
                    others[len(ids)] = Recorded("repeated", event_id)
                else:
                    try:
                        yield event
                    except MeterfoldError as error:
                        others[len(ids)] = Recorded("refused", event_id, error)
                    else:
                        if identity is not None:
                            seen.add(identity)
            ids.append(event_id)
        results = BatchResults(ids, others)
        self.warn(results)
        return results

    def encoded_row(self, row: Row | InvalidUsage) -> tuple[str | None, Encoded | MeterfoldError]:
        """One row of `tables.rows`: its id, as far as it is known, and the event or what is wrong with it."""
        event_id: str | None = None
        try:
            if isinstance(row, InvalidUsage):
                raise row
            metric_key, subject, kind, name, org_id, quantity, given, timestamp, *optional = row
            if given is not None:
                event_id = given = id_text("id", given)
            if subject is None:
                subject = kind, name
            elif kind is not None or name is not None:
                raise InvalidUsage("give either subject, or subject_type and subject_id")
            event = self.encode(metric_key, subject, quantity, given, timestamp, org_id, optional)
        except MeterfoldError as error:
            return event_id, error
        return event[0], event

    def frame(self, events: Any) -> FrameBatch | None:
        """A data frame or Arrow table, to be encoded by column; None for what has to be read row by row.

        Raises InvalidUsage for unknown columns, and where pyarrow or numpy is missing.
        """
        if type(events) is list:
            return None
        from meterfold.frames.sources import source_of

        source = source_of(events)
        if source is None:
            return None
        from meterfold.frames.batch import FrameBatch
        from meterfold.frames.columns import Clock, takes
        from meterfold.frames.generated_ids import new_ids

        if not takes(source.table.schema, objects=not hasattr(source.frame, "iloc")):
            return None

        def clock() -> Clock:
            now = time.time_ns() // 1000
            earliest = None if self._horizon is None else now - self._horizon
            return Clock(now, earliest, None if self._tolerance is None else now + self._tolerance)

        return FrameBatch(
            source,
            self,
            header=self._encoder.header,
            default_org=self._org_id,
            clock=clock,
            new_ids=partial(new_ids, self._event_ids),
            is_defined=None if self.metrics is None else partial(_is_defined, self.metrics),
        )

    def warn(self, results: BatchResults) -> None:
        """Log that events of a batch were refused, if any were."""
        if refused := results.refused:
            index, first = next(iter(refused.items()))
            logger.warning(
                "record_batch refused %d of %d events; the first is event %d: %s. raise_refused() of the result makes "
                "it an error",
                len(refused),
                len(results),
                index,
                first.error,
            )

    def _checked(self, timestamp: datetime) -> int:
        """UTC microseconds of a timestamp that counts, as far as the rules are known here."""
        stamp = micros(timestamp)
        problem = age_problem(stamp, time.time_ns() // 1000, self._horizon, self._tolerance)
        if problem is not None:
            raise InvalidUsage(str(problem), code=problem.reason.upper())
        return stamp


def _is_defined(metrics: MetricCheck, org_id: str, metric_key: str) -> bool:
    try:
        metrics.check(org_id, metric_key)
    except MeterfoldError:  # the row's own error is made where it is encoded alone
        return False
    return True
