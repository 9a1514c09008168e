"""`metering.rejected`: rejected messages, and sending them again with a correction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, get_args

from meterfold_schemas.errors import InvalidUsage, RejectReason
from meterfold_service.errors import RejectedNotFound
from meterfold_service.pages import Page, RowOrder, check_page
from meterfold_service.rejected.results import Position, RedriveReport, RejectedMessage
from meterfold_sink.rejected import (
    REJECTED_SORTS,
    Place,
    RejectionFilter,
    RowKey,
    count_rejected,
    find_keys,
    find_partitions,
    keys_at,
    list_rejected,
    rejected_rows,
)

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_service.rejected.corrections import Correction
    from meterfold_service.rejected.running import Run
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool

__all__ = ["REASONS", "Rejected", "Selection"]

REASONS: Final = get_args(RejectReason)

_MESSAGES: Final = 20_000
_BYTES: Final = 32_000_000
"""Messages that are claimed and sent together, by number and size."""


class Selection(TypedDict, total=False):
    """Which rejected messages; what is left out or None selects any.

    They arrived from `since` until before `until`. `org_id` "": without an organization, or of an unknown one. Messages
    are found for the record retention.
    """

    reason: str | None
    org_id: str | None
    metric_key: str | None
    subject: tuple[str, str] | None
    partition: int | None
    since: datetime | None
    until: datetime | None


class Rejected:
    """For any thread. Every operation raises Retryable or Fatal, and what it says itself."""

    def __init__(
        self, clients: ClientPool, kafka: Callable[[], KafkaSettings], now: Callable[[], datetime], wait_seconds: float
    ) -> None:
        self._clients = clients
        self._kafka = kafka
        self._now = now
        self._wait_seconds = wait_seconds

    def list(
        self,
        *,
        redriven: bool | None = None,
        sort: str | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
        **selection: Unpack[Selection],
    ) -> Page[RejectedMessage]:
        """Rejected messages, the newest first, or with `sort` received_at the oldest; with `redriven` only those that
        were, or were not, sent again.

        Raises InvalidUsage for a wrong selection or page.
        """
        from meterfold_service.rejected.reading import messages

        check_page(limit, offset)
        order = RowOrder("rejected", REJECTED_SORTS, "-received_at")
        keys, after = order.start(sort, cursor)
        wanted = _filter(redriven, selection)
        with self._clients.client() as client:
            page = list_rejected(client, wanted, keys, limit=limit, offset=offset, after=after)
            return Page(page.total, tuple(messages(client, page.rows)), cursor=order.cursor(sort, page.end))

    def count(self, *, redriven: bool | None = None, **selection: Unpack[Selection]) -> dict[str, int]:
        """reason -> messages, the most frequent reason first. Raises InvalidUsage for a wrong selection."""
        with self._clients.client() as client:
            return count_rejected(client, _filter(redriven, selection))

    def get(self, position: Position) -> RejectedMessage:
        """One message. Raises RejectedNotFound."""
        from meterfold_service.rejected.reading import messages

        place = position.partition, position.offset
        with self._clients.client() as client:
            rows = list(rejected_rows(client, keys_at(client, [place])))
            if not rows:
                raise RejectedNotFound(*place)
            (message,) = messages(client, rows)
            return message

    def redrive(
        self,
        corrections: Mapping[Position, Correction],
        *,
        read_as: str | None = None,
        by: str = "",
        note: str = "",
        dry_run: bool = False,
        wait_seconds: float | None = None,
    ) -> RedriveReport:
        """Send these messages again, each with its correction.

        Each message becomes at most one event: repeating a redrive changes nothing, and another correction of a message
        that was sent again is refused. An event that would be rejected again is refused and not sent; the others are
        sent. `read_as`: the schema of the bytes after the header, such as usage_recorded.v1, whatever the header says.
        Waits until the events are folded, at most `wait_seconds` (default: that of Metering). Raises InvalidUsage.
        """
        places = {(position.partition, position.offset): wanted for position, wanted in corrections.items()}
        with self._clients.client() as client:
            run = self._run(client, read_as, by, note, dry_run=dry_run)
            for part in _parts(list(places)):
                rows = {row.place: row for row in rejected_rows(client, keys_at(client, part))}
                run.take([(row, places[place]) for place, row in rows.items()], named=True)
                for place in part:
                    if place not in rows:
                        run.refuse(place, str(RejectedNotFound(*place)))
            return run.report(self._wait_seconds if wait_seconds is None else wait_seconds)

    def redrive_all(
        self,
        correction: Correction,
        *,
        read_as: str | None = None,
        by: str = "",
        note: str = "",
        dry_run: bool = False,
        wait_seconds: float | None = None,
        limit: int | None = None,
        on_progress: Callable[[int], None] = lambda done: None,
        **selection: Unpack[Selection],
    ) -> RedriveReport:
        """Send every message of a selection that was not sent again yet, all with one correction; else as `redrive`.

        `limit`: at most this many, by partition and arrival. `on_progress` gets the number of messages that were looked
        at.
        """
        wanted = _filter(False, selection)
        with self._clients.client() as client:
            run = self._run(client, read_as, by, note, dry_run=dry_run)
            for part in _pages(client, wanted, limit):
                run.take([(row, correction) for row in rejected_rows(client, part)], named=False)
                on_progress(run.looked_at)
            return run.report(self._wait_seconds if wait_seconds is None else wait_seconds)

    def _run(self, client: Client, read_as: str | None, by: str, note: str, *, dry_run: bool) -> Run:
        from meterfold_service.rejected.decoding import schema_labelled
        from meterfold_service.rejected.running import Run

        schema = None if read_as is None else schema_labelled(read_as)
        kafka = None if dry_run else self._kafka()
        return Run(client, kafka, read_as=schema, by=by, note=note, now=self._now)


def _pages(client: Client, wanted: RejectionFilter, limit: int | None) -> Iterator[list[RowKey]]:
    """All such messages, or the first ones, in parts that may be in memory at once."""
    part: list[RowKey] = []
    left, size = limit, 0
    for partition in find_partitions(client, wanted):
        after: RowKey | None = None
        while left is None or left > 0:
            most = _MESSAGES - len(part) if left is None else min(_MESSAGES - len(part), left)
            found = find_keys(client, wanted, partition, after=after, limit=most)
            for key, more in found:
                if part and size + more > _BYTES:
                    yield part
                    part, size = [], 0
                part.append(key)
                size += more
                after = key
            left = None if left is None else left - len(found)
            if len(part) >= _MESSAGES:
                yield part
                part, size = [], 0
            if len(found) < most:
                break
    if part:
        yield part


def _parts(places: Sequence[Place]) -> Iterator[list[Place]]:
    for first in range(0, len(places), _MESSAGES):
        yield list(places[first : first + _MESSAGES])


def _filter(redriven: bool | None, selection: Selection) -> RejectionFilter:
    """Raises InvalidUsage."""
    reason = selection.get("reason")
    if reason is not None and reason not in REASONS:
        raise InvalidUsage(f"reason must be one of {', '.join(REASONS)}, not {reason!r}")
    since, until = selection.get("since"), selection.get("until")
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidUsage(f"{name} must be a timezone-aware datetime")
    subject_type, subject_id = selection.get("subject") or (None, None)
    return RejectionFilter(
        reason=reason,
        org_id=selection.get("org_id"),
        metric_key=selection.get("metric_key"),
        subject_type=subject_type,
        subject_id=subject_id,
        partition=selection.get("partition"),
        since=since,
        until=until,
        redriven=redriven,
    )
