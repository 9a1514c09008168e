"""`metering.usage`: usage.get, usage.getSummary, and usage.export, which `Exporting` adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import MICROS_PER_SECOND, from_micros, micros
from meterfold_service.errors import NotFoldedInTime, RecordsExpired
from meterfold_service.exports.exporting import Exporting
from meterfold_service.metrics.operations import metric_not_found
from meterfold_service.pages import Page, check_page, cursor_of, next_offset, offset_of, position_of
from meterfold_service.usage.calendar import EARLIEST, LATEST, Calendar, Window
from meterfold_service.usage.closed import with_closings
from meterfold_service.usage.pieces import RECORDS, pieces
from meterfold_service.usage.results import UsagePage, UsageRecord, UsageSummary
from meterfold_service.usage.selection import Where, filters_of, grouping_of
from meterfold_service.usage.subjects import Subjects, checked_subject
from meterfold_sink.closed_usage import complete_closings
from meterfold_sink.definitions import defined_keys
from meterfold_sink.fold_state import read_progress, read_rules
from meterfold_sink.keyset import Key, micros_of
from meterfold_sink.summary_facts import summary_facts
from meterfold_sink.usage_groups import Grouping
from meterfold_sink.usage_records import usage_records
from meterfold_sink.usage_states import Of, Piece
from meterfold_sink.usage_sums import MissingRecords, UsageSum, missing_records, usage_sums

if TYPE_CHECKING:
    from meterfold.delivery import Delivery
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool
    from meterfold_sink.rules import FoldRules

__all__ = ["MAX_PERIODS", "Usage"]

MAX_PERIODS: Final = 10_000
"""The most periods of one answer."""
_RECORD: Final = tuple(field.name for field in fields(UsageRecord))
_LOOK_SECONDS: Final = 0.03
_RECORDS: Final = "records"
_RECORD_KEYS: Final = (micros_of("timestamp"), Key("offset", "Int64"))
_SUMMARIES: Final = "summaries"


class Usage(Subjects, Exporting):
    """The operations on usage; for any thread. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(
        self,
        clients: ClientPool,
        now: Callable[[], datetime],
        wait_seconds: float,
        kafka: Callable[[], KafkaSettings] | None = None,
    ) -> None:
        """`kafka` is asked whether all is folded where the stamps of the events do not say so; None: never."""
        self._kafka = kafka
        self._clients = clients
        self._now = now
        self._wait_seconds = wait_seconds

    def get(
        self,
        metric_key: str,
        subject: tuple[str, str],
        *,
        start: datetime,
        end: datetime | None = None,
        org_id: str = "",
        filter: Where | None = None,
        limit: int = 100,
        cursor: str | None = None,
        at_least: Delivery | Iterable[Delivery] | None = None,
    ) -> UsagePage:
        """usage.get: one subject's records with start <= timestamp < end (default: now), by timestamp.

        `filter`: only records with these values of metadata fields, see get_summary. `cursor` of a page asks for the
        next one. `at_least` waits first until these deliveries are folded. Raises
        RecordsExpired if records from start to end have expired, NotFoldedInTime, and InvalidUsage.
        """
        check_page(limit)
        after = None if cursor is None else position_of(cursor, _RECORDS, _RECORD_KEYS)
        filters = filters_of(filter)
        first, last = self._span(start, end)
        of = Of(metric_key, org_id, checked_subject(subject))
        with self._clients.client() as client:
            self._wait(client, at_least)
            rules = read_rules(client)
            page = usage_records(client, rules, of, first, last, filters=filters, after=after, limit=limit)
            # Asked afterwards: what is there now was there before.
            whole = Piece(0, RECORDS, first, last)
            missing = missing_records(client, rules, of, [whole], micros(self._now()))
        if missing is not None:
            raise _expired(metric_key, missing)
        records = tuple(UsageRecord(*(row[name] for name in _RECORD)) for row in page.rows)
        return UsagePage(
            records, page.total, page.total_quantity, None if page.end is None else cursor_of(_RECORDS, page.end)
        )

    def get_summary(
        self,
        metric_key: str,
        *,
        period: str = "monthly",
        start: datetime,
        end: datetime | None = None,
        tz: str | None = None,
        anchor: int | None = None,
        subject: tuple[str, str] | None = None,
        org_id: str | None = "",
        by_subject: bool = False,
        group_by: str | Iterable[str] = (),
        filter: Where | None = None,
        unique_count: str | None = None,
        top: int | None = None,
        empty: bool = False,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
        at_least: Delivery | Iterable[Delivery] | None = None,
    ) -> Page[UsageSummary]:
        """usage.getSummary: the period that holds `start`, and those that begin before `end` (default: now), in order.

        period      hourly, daily, weekly (from Monday), monthly, yearly, lifetime, or billing, which begins on the day
                    `anchor` of each month (the last day of a shorter one)
        tz          the IANA time zone of the periods; UTC by default
        subject     (type, id); without it a row sums up all subjects
        org_id      "" are subjects without an organization; None is every organization, each in rows of its own
        group_by    metadata fields, and "subject": a row for each combination of their values; by_subject=True is
                    the same as "subject"
        filter      only usage with these values of metadata fields: {"region": "eu", "model": ["a", "b"]} is one of
                    two models in one region; None is a record without the field
        unique_count  also count the distinct values of this metadata field, or of "subject"
        top         only the groups with the largest totals, this many of each period and organization
        empty       also a row for periods in which nothing was recorded; of one subject, or of all of one organization
        at_least    waits first until these deliveries are folded

        The value of a metadata field is text: a JSON string itself, any other value as JSON, such as 12 or true; null
        is the same as a missing field. So 12 and "12" are one group.

        Days and months whose records have expired are read from their closings, where the fields are dimensions of the
        metric that were kept by them.

        Raises MetricNotFound, RecordsExpired where records are needed that are no longer kept (for metadata fields, and
        where a period begins or ends within a UTC hour), NotFoldedInTime, and InvalidUsage.
        """
        check_page(limit, offset)
        offset = offset if cursor is None else offset_of(_SUMMARIES, cursor)
        calendar = Calendar.of(period, tz, anchor)
        grouping = grouping_of(
            group_by, by_subject=by_subject or subject is not None, where=filter, unique=unique_count
        )
        is_grouped = bool(grouping.fields) or (grouping.by_subject and subject is None)
        if top is not None and not is_grouped:
            raise InvalidUsage("top keeps the largest groups of each period; give it with by_subject or group_by")
        if top is not None and top < 1:
            raise InvalidUsage(f"top must be 1 or more, not {top}")
        if empty and (org_id is None or is_grouped):
            raise InvalidUsage("empty periods are shown of one subject, or of all of one organization together")
        first, last = self._span(start, end)
        windows = calendar.windows(first, last, MAX_PERIODS)
        parts = [Piece(number, *piece) for number, window in enumerate(windows) for piece in _pieces(window, grouping)]
        of = Of(metric_key, org_id, None if subject is None else checked_subject(subject))
        with self._clients.client() as client:
            self._wait(client, at_least)
            # Progress before the numbers, so that they are no older than it says; expired records after them.
            facts = summary_facts(client, metric_key, org_id)
            rules = facts.rules
            if not facts.kinds:
                raise metric_not_found(metric_key, org_id, defined_keys(client))
            if grouping.metadata_fields:
                parts = self._with_closings(client, rules, of, parts, grouping)
            page = (MAX_PERIODS, 0) if empty else (limit, offset)
            sums, total = usage_sums(
                client,
                rules,
                of,
                parts,
                grouping=grouping,
                top=top,
                limit=page[0],
                offset=page[1],
                kind=None if org_id is None else facts.kind_of(org_id),
            )
            missing = missing_records(client, rules, of, parts, micros(self._now()))
        if missing is not None:
            raise _expired(metric_key, missing, grouping.metadata_fields)
        closed = micros(self._now()) - rules.grace_seconds * MICROS_PER_SECOND
        rows = [
            _summary(of, calendar, grouping, windows[one.number], one, facts.stamps, closed, rules.grace_seconds)
            for one in sums
        ]
        if empty:
            found = {row.period_start: row for row in rows}
            every = [
                found.get(from_micros(window.start)) or _nothing(of, calendar, grouping, window) for window in windows
            ]
            rows, total = every[offset : offset + limit], len(every)
        return Page(total, tuple(rows), cursor=next_offset(_SUMMARIES, offset, limit, total))

    def _with_closings(
        self, client: Client, rules: FoldRules, of: Of, parts: list[Piece], grouping: Grouping
    ) -> list[Piece]:
        """Closed days and months in place of records that may have expired."""
        kept_from = micros(self._now()) - rules.kept_seconds * MICROS_PER_SECOND
        first = min(part.start for part in parts)
        if first >= kept_from:
            return parts
        complete = complete_closings(
            client, of.conditions(), of.parameters(rules), grouping.metadata_fields, max(first, 0), kept_from
        )
        return with_closings(parts, complete)

    def _span(self, start: datetime, end: datetime | None) -> tuple[int, int]:
        first, last = micros(start), micros(self._now() if end is None else end)
        if not micros(EARLIEST) <= first < micros(LATEST) or last >= micros(LATEST):
            raise InvalidUsage("start and end must be in the years 1901 to 2298")
        if end is not None and last < first:
            raise InvalidUsage(f"end {end.isoformat()} is before start {start.isoformat()}")
        return first, last

    def _wait(self, client: Client, at_least: Delivery | Iterable[Delivery] | None) -> None:
        """Until the fold has passed these deliveries."""
        needed: dict[int, int] = {}
        for delivery in () if at_least is None else at_least if isinstance(at_least, Iterable) else (at_least,):
            if delivery.partition is None or delivery.offset is None:
                raise InvalidUsage(f"event {delivery.event_id} was not delivered: {delivery.error}")
            needed[delivery.partition] = max(delivery.offset, needed.get(delivery.partition, -1))
        until = time.monotonic() + self._wait_seconds
        while needed:
            folded = read_progress(client)
            needed = {p: at for p, at in needed.items() if p not in folded or folded[p].next_offset <= at}
            if needed:
                if time.monotonic() > until:
                    raise NotFoldedInTime(*next(iter(needed.items())), self._wait_seconds)
                time.sleep(_LOOK_SECONDS)


def _pieces(window: Window, grouping: Grouping) -> list[tuple[str, int, int]]:
    """What a window is made of. Windows have no metadata, so that its fields need the records."""
    if grouping.metadata_fields:
        if window.end is None:
            return [(RECORDS, micros(EARLIEST), micros(LATEST))]
        return [*pieces(window.start, window.end, ())]
    if window.end is None:  # a lifetime is one stored window, at the epoch
        return [("lifetime", window.start, window.start + 1)]
    return [*pieces(window.start, window.end)]


def _summary(
    of: Of,
    calendar: Calendar,
    grouping: Grouping,
    window: Window,
    found: UsageSum,
    stamps: Mapping[int, int],
    closed: int,
    grace_seconds: int,
) -> UsageSummary:
    # 0 for a partition that has no event yet.
    stamp = min(stamps.get(partition, 0) for partition in found.partitions)
    passed = min(closed, stamp - grace_seconds * MICROS_PER_SECOND)
    return UsageSummary(
        org_id=found.org_id,
        metric_key=of.metric_key,
        subject_type=found.subject_type,
        subject_id=found.subject_id,
        period_type=calendar.period,
        period_start=from_micros(window.start),
        period_end=None if window.end is None else from_micros(window.end),
        total_quantity=found.total,
        record_count=found.record_count,
        sum=found.sum,
        min_quantity=found.min,
        max_quantity=found.max,
        avg_quantity=found.avg,
        last_quantity=found.last,
        is_final=window.end is not None and stamp > 0 and window.end <= passed,
        updated_at=from_micros(stamp) if stamp else None,
        group=dict(zip(grouping.fields, found.field_values, strict=True)),
        unique_count=found.unique_count,
    )


def _nothing(of: Of, calendar: Calendar, grouping: Grouping, window: Window) -> UsageSummary:
    """A period in which nothing was recorded; an event may still come, so it is never final."""
    subject_type, subject_id = of.subject or (None, None)
    return UsageSummary(
        org_id=of.org_id or "",
        metric_key=of.metric_key,
        subject_type=subject_type,
        subject_id=subject_id,
        period_type=calendar.period,
        period_start=from_micros(window.start),
        period_end=None if window.end is None else from_micros(window.end),
        total_quantity=None,
        record_count=0,
        sum=None,
        min_quantity=None,
        max_quantity=None,
        avg_quantity=None,
        last_quantity=None,
        is_final=False,
        updated_at=None,
        unique_count=None if grouping.unique is None else 0,
    )


def _expired(metric_key: str, missing: MissingRecords, fields: Sequence[str] = ()) -> RecordsExpired:
    return RecordsExpired(metric_key, missing.hour, missing.missing, missing.kept_from, fields)
