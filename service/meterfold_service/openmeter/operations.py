"""`metering.openmeter`: the operations of OpenMeter's API, on one organization's meters and events."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import from_micros, micros
from meterfold_schemas.plurals import plural
from meterfold_service.errors import MetricNotFound, RecordsExpired
from meterfold_service.ingest.batches import Refusal
from meterfold_service.ingest.door import Door
from meterfold_service.openmeter.expansion import (
    EVENTS_METRIC,
    SUBJECT_TYPE,
    CloudEvent,
    event_of,
    problems_of,
    usage_of,
)
from meterfold_service.openmeter.meters import UNIQUE_VALUE, Meter, changed_values, definition_values
from meterfold_service.openmeter.queries import MOST_ROWS, SUBJECT, MeterQuery, spans_of
from meterfold_service.usage.pieces import pieces
from meterfold_service.usage.selection import grouping_of

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.ingest.known_metrics import KnownMetrics
    from meterfold_service.ingest.operations import Events, Pending
    from meterfold_service.metrics.operations import Metrics
    from meterfold_sink.pool import ClientPool

__all__ = ["Ingested", "ListedEvent", "MeterRow", "OpenMeter", "SubjectRow"]

_LOG = logging.getLogger("meterfold.openmeter")
_LISTED: Final = timedelta(hours=72)
MOST_LISTED: Final = 100


@dataclass(frozen=True, slots=True)
class Ingested:
    """What becomes of the events of a request. `refused`: place of an event -> why it was not taken at all.
    `problems`: why events that were taken do not count for a meter."""

    pending: Pending
    refused: Mapping[int, str]
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class MeterRow:
    """One row of a query's answer. `subject` and a group's value are None where they are added up or missing."""

    value: Decimal
    start: datetime
    end: datetime
    subject: str | None
    group_by: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event as it was sent. `problems`: why it does not count for the meters that exist now."""

    event: CloudEvent
    received_at: datetime
    stored_at: datetime
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A subject, and the days of its first and last event."""

    key: str
    first_day: datetime
    last_day: datetime


@dataclass(frozen=True, slots=True)
class _Meters:
    """The active meters of an organization, by slug and by the type of their events."""

    by_slug: Sequence[Meter]
    by_type: Mapping[str, Sequence[Meter]]

    @classmethod
    def of(cls, definitions: Mapping[str, MetricDefinition]) -> _Meters:
        by_type: dict[str, list[Meter]] = {}
        by_slug = []
        for _, definition in sorted(definitions.items()):
            meter = Meter.of(definition) if definition.is_active else None
            if meter is not None:
                by_slug.append(meter)
                by_type.setdefault(meter.event_type, []).append(meter)
        return cls(by_slug, by_type)


class OpenMeter(Door):
    """For any thread. `org_id` is the organization of the caller; "": none."""

    def __init__(
        self,
        clients: ClientPool,
        known: KnownMetrics,
        metrics: Callable[[], Metrics],
        events: Callable[[], Events],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(clients, known, events, now)
        self._metrics = metrics
        self._seen: dict[str, tuple[Mapping[str, MetricDefinition], _Meters]] = {}

    def begin(self, documents: Sequence[Any], org_id: str, on_end: Callable[[], None]) -> Ingested:
        """Take CloudEvents, as Events.begin takes usage events. An event that is not one does not affect the others."""
        meters = self._visible(org_id).by_type
        received = self._now()
        usage: list[dict[str, Any]] = []
        origin: list[int] = []
        refused: dict[int, str] = {}
        problems: list[str] = []
        for place, document in enumerate(documents):
            try:
                event = event_of(document)
            except InvalidUsage as error:
                refused[place] = str(error)
                continue
            mine, why = usage_of(event, meters.get(event.type, ()), received)
            usage += mine
            origin += [place] * len(mine)
            problems += [f"event {event.id}: {one}" for one in why]
        pending = self._events().begin(usage, org_id, on_end)
        for row, refusal in pending.batch.refused.items():
            self._note(usage[row], origin[row], refusal, refused, problems)
        if problems:
            _LOG.warning(
                "%s that an event does not count for a meter of its type; the first: %s",
                plural(len(problems), "time"),
                problems[0],
            )
        return Ingested(pending, refused, problems)

    def create(self, given: Mapping[str, Any], org_id: str) -> Meter:
        """A new meter. The same one again changes nothing. Raises InvalidDefinition and MetricKeyExists."""
        return self._changed(self._metrics().define(**definition_values(given, org_id)))

    def update(self, id_or_slug: str, given: Mapping[str, Any], org_id: str) -> Meter:
        """Raises MetricNotFound and InvalidDefinition."""
        meter = self._own(id_or_slug, org_id)
        return self._changed(self._metrics().update(meter.key, org_id, **changed_values(meter, given)))

    def delete(self, id_or_slug: str, org_id: str) -> None:
        """The usage stays. Raises MetricNotFound."""
        self._metrics().delete(self._own(id_or_slug, org_id).key, org_id)
        self._known.forget()

    def meters(self, org_id: str) -> Sequence[Meter]:
        """The active meters that an organization sees, by slug."""
        return self._visible(org_id).by_slug

    def get(self, id_or_slug: str, org_id: str) -> Meter:
        """Raises MetricNotFound."""
        for _ in range(2):  # it may have been made a moment ago, by another process
            for meter in self.meters(org_id):
                if id_or_slug in (meter.key, meter.definition.id):
                    return meter
            self._known.forget()
        raise MetricNotFound(id_or_slug, org_id)

    def query(self, id_or_slug: str, query: MeterQuery, org_id: str) -> tuple[Meter, list[MeterRow]]:
        """Rows by window, subject and groups. Raises MetricNotFound, RecordsExpired and InvalidUsage."""
        from meterfold_sink.fold_state import read_rules
        from meterfold_sink.usage_states import Of, Piece
        from meterfold_sink.usage_sums import missing_records, usage_sums

        meter = self.get(id_or_slug, org_id)
        query.check(meter)
        spans = spans_of(query, self._now())
        # OpenMeter's rows are of one subject each where subjects are asked for.
        by_subject = SUBJECT in query.group_by or bool(query.subjects)
        names = [name for name in query.group_by if name != SUBJECT]
        grouping = grouping_of(
            names,
            by_subject=by_subject,
            where={name: [value or None for value in values] for name, values in (query.filter_group_by or {}).items()},
            unique=UNIQUE_VALUE if meter.aggregation == "UNIQUE_COUNT" else None,
        )
        kinds = {"kinds": ()} if grouping.metadata_fields else {}
        parts = [
            Piece(number, *piece)
            for number, span in enumerate(spans)
            for piece in pieces(span.first, span.last, **kinds)
        ]
        if not parts:
            return meter, []
        rows: list[MeterRow] = []
        kind = meter.definition.aggregation_type.value
        with self._clients.client() as client:
            rules = read_rules(client)
            for subject in query.subjects or (None,):
                of = Of(meter.key, org_id, None if subject is None else (SUBJECT_TYPE, subject))
                sums, total = usage_sums(
                    client, rules, of, parts, grouping=grouping, top=None, limit=MOST_ROWS, offset=0, kind=kind
                )
                if total > MOST_ROWS:
                    raise InvalidUsage(
                        f"the answer has {total:,} rows; at most {MOST_ROWS:,} are allowed. Ask for a shorter time, or "
                        "for fewer groups"
                    )
                missing = missing_records(client, rules, of, parts, micros(self._now()))
                if missing is not None:
                    raise RecordsExpired(
                        meter.key, missing.hour, missing.missing, missing.kept_from, grouping.metadata_fields
                    )
                for one in sums:
                    span = spans[one.number]
                    value = Decimal(one.unique_count) if one.unique_count is not None else one.total
                    if value is not None:
                        groups = dict(zip(names, one.field_values, strict=True))
                        rows.append(
                            MeterRow(value, from_micros(span.start), from_micros(span.end), one.subject_id, groups)
                        )
        rows.sort(key=lambda row: (row.start, row.subject or ""))
        return meter, rows

    def list_events(
        self,
        org_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        received_from: datetime | None = None,
        received_until: datetime | None = None,
        subjects: Sequence[str] = (),
        ids: Sequence[str] = (),
        limit: int = MOST_LISTED,
    ) -> list[ListedEvent]:
        """The newest first, of the last 72 hours unless `start` says otherwise."""
        from meterfold_sink.fold_state import read_rules
        from meterfold_sink.listed_events import newest_events

        now = self._now()
        first, last = micros(start or now - _LISTED), micros(end or now + timedelta(days=1))
        meters = self.meters(org_id)
        with self._clients.client() as client:
            arrived_from, arrived_until = read_rules(client).arrivals(first, last)
            rows = newest_events(
                client,
                org_id=org_id,
                metric_key=EVENTS_METRIC,
                first=first,
                last=last,
                arrived_from=arrived_from if received_from is None else max(arrived_from, micros(received_from)),
                arrived_until=arrived_until if received_until is None else min(arrived_until, micros(received_until)),
                subject_ids=subjects,
                ids=ids,
                limit=limit,
            )
        found = []
        for row in rows:
            data = None if row["metadata"] is None else json.loads(row["metadata"])
            event = CloudEvent(
                row["resource_id"], row["source"], row["resource_type"], row["subject_id"], row["timestamp"], data
            )
            found.append(ListedEvent(event, row["received_at"], row["received_at"], problems_of(event, meters)))
        return found

    def subjects(
        self, org_id: str, *, meter: str | None = None, key: str | None = None, limit: int = MOST_ROWS
    ) -> list[SubjectRow]:
        """Who has used a meter, or (None) has had any event. `key`: only this one."""
        from meterfold_sink.listed_events import used_by

        metric_key = EVENTS_METRIC if meter is None else self.get(meter, org_id).key
        with self._clients.client() as client:
            rows = used_by(
                client,
                org_id=org_id,
                metric_key=metric_key,
                subject_type=SUBJECT_TYPE,
                subject_id=key,
                limit=limit,
            )
        return [SubjectRow(row["subject_id"], row["first_day"], row["last_day"]) for row in rows]

    def _own(self, id_or_slug: str, org_id: str) -> Meter:
        """The organization's own meter: those of every organization are not its to change."""
        meter = self.get(id_or_slug, org_id)
        if meter.definition.org_id != org_id:
            raise MetricNotFound(id_or_slug, org_id)
        return meter

    def _visible(self, org_id: str) -> _Meters:
        """Made once for what the organization sees, until that is read again."""
        definitions = self._known.of(org_id)
        seen = self._seen.get(org_id)
        if seen is None or seen[0] is not definitions:
            if len(self._seen) >= MOST_ROWS:
                self._seen.clear()
            seen = self._seen[org_id] = definitions, _Meters.of(definitions)
        return seen[1]

    def _changed(self, definition: MetricDefinition) -> Meter:
        self._known.forget()
        meter = Meter.of(definition)
        assert meter is not None
        return meter

    @staticmethod
    def _note(
        usage: Mapping[str, Any], place: int, refusal: Refusal, refused: dict[int, str], problems: list[str]
    ) -> None:
        """The event itself was refused, or only what it would have counted for a meter."""
        if usage["metric_key"] == EVENTS_METRIC:
            refused[place] = refusal.detail
        else:
            problems.append(f"event {usage['id']}: meter {usage['metric_key']}: {refusal.detail}")
