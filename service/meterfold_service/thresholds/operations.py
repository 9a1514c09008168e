"""`metering.thresholds`: threshold.create, update, delete and list."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from meterfold_service.errors import ThresholdExists, ThresholdNotFound
from meterfold_service.metrics.operations import metric_not_found
from meterfold_service.pages import Page, RowOrder, check_page
from meterfold_service.thresholds.resting import Condition, condition

if TYPE_CHECKING:
    from meterfold_processor.checker.definitions import Definitions
    from meterfold_schemas.definitions import UsageThreshold
    from meterfold_service.definition_log import DefinitionLog
    from meterfold_service.thresholds.changes import ThresholdChange
    from meterfold_sink.pool import ClientPool
    from meterfold_sink.threshold_levels import JudgedWindow, Standing
    from meterfold_sink.thresholds import WatchedSubjects

__all__ = ["ListedThreshold", "Thresholds"]

_FIXED: Final = frozenset({"org_id", "metric_key", "subject_type", "subject_id", "period_type"})


@dataclass(frozen=True, slots=True)
class ListedThreshold:
    """A threshold, its current state, why it judges nothing (`resting`, None where it judges), and what limits it or
    judges beside it."""

    threshold: UsageThreshold
    standing: Standing
    resting: str | None
    notes: tuple[str, ...]


class Thresholds:
    """The operations on thresholds; for any thread. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(self, log: Callable[[], DefinitionLog], clients: ClientPool, now: Callable[[], datetime]) -> None:
        self._log = log
        self._clients = clients
        self._now = now

    def create(self, *, metric_key: str, org_id: str | None = None, **values: Any) -> UsageThreshold:
        """threshold.create: as a UsageThreshold, without id and times. The same threshold again changes nothing and
        returns the existing one. `watched_subjects` says how many subjects it watches now.

        `org_id` None is every organization, and needs a metric of every organization. Raises MetricNotFound,
        ThresholdExists, and InvalidDefinition (with the code PERIOD_NOT_KEPT for a weekly or yearly period).
        """
        return self._log().define(self._creation(metric_key, org_id, values))

    def update(self, threshold_id: str, **changes: Any) -> UsageThreshold:
        """threshold.update: any field but metric, subject and period. A warn threshold that was never given follows the
        threshold. Raises ThresholdNotFound, ThresholdExists where another one has the new name, and InvalidDefinition.
        """
        return self._log().define(self._change(threshold_id, changes))

    def delete(self, threshold_id: str) -> None:
        """threshold.delete: what it had raised is cleared. Raises ThresholdNotFound."""
        self._log().delete(lambda definitions: _known(definitions, threshold_id))

    def preview_create(self, *, metric_key: str, org_id: str | None = None, **values: Any) -> ThresholdChange:
        """What `create` would find at once. Raises what `create` raises."""
        wanted = self._creation(metric_key, org_id, values)(self._log().read())
        return self._preview(wanted if wanted.version >= 0 else None, wanted)

    def preview_update(self, threshold_id: str, **changes: Any) -> ThresholdChange:
        """What `update` would change at once. Raises what `update` raises."""
        definitions = self._log().read()
        return self._preview(_known(definitions, threshold_id), self._change(threshold_id, changes)(definitions))

    def preview_delete(self, threshold_id: str) -> ThresholdChange:
        """What `delete` would clear. Raises ThresholdNotFound."""
        return self._preview(_known(self._log().read(), threshold_id), None)

    def get(self, threshold_id: str) -> UsageThreshold:
        """One threshold. Raises ThresholdNotFound."""
        from meterfold_schemas.definitions import UsageThreshold
        from meterfold_sink.definitions import list_thresholds

        with self._clients.client() as client:
            rows = list_thresholds(client, {"id": threshold_id}, limit=1).rows
        if not rows:
            raise ThresholdNotFound(threshold_id)
        return UsageThreshold(**rows[0])

    def list(
        self,
        *,
        org_id: str | None = None,
        metric_key: str | None = None,
        subject_type: str | None = None,
        subject_id: str | None = None,
        is_active: bool | None = None,
        windows: int = 20,
        seen_by: str | None = None,
        sort: str | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[ListedThreshold]:
        """threshold.list: those of every organization first, then by organization, metric, name and value; or by
        `sort`: scope, name, created_at or updated_at, with a minus sign in reverse. `windows`: at most this many
        current windows of each.

        `org_id`: those that name this organization ("": those for subjects without one). `seen_by`: those of this
        organization and of every organization, with windows, counts and notes of this organization alone. Raises
        InvalidUsage for a wrong page.
        """
        from meterfold_schemas.definitions import UsageThreshold
        from meterfold_sink.definitions import THRESHOLD_SORTS, list_thresholds
        from meterfold_sink.threshold_levels import standings

        check_page(limit, offset)
        order = RowOrder("thresholds", THRESHOLD_SORTS, "scope")
        keys, after = order.start(sort, cursor)
        wanted = {
            "org_id": org_id,
            "metric_key": metric_key,
            "subject_type": subject_type,
            "subject_id": subject_id,
            "is_active": is_active,
        }
        with self._clients.client() as client:
            page = list_thresholds(client, wanted, keys, limit=limit, offset=offset, after=after, seen_by=seen_by)
            rows = page.rows
            # Side by side: neither needs the other, and both take long.
            with ThreadPoolExecutor(1) as beside:
                conditions_of = beside.submit(self._conditions, rows, seen_by)
                found = standings(client, rows, limit=windows, seen_by=seen_by) if rows else {}
                conditions = conditions_of.result()
        return Page(
            page.total,
            tuple(
                ListedThreshold(
                    UsageThreshold(**row), found[row["id"]], conditions[row["id"]].resting, conditions[row["id"]].notes
                )
                for row in rows
            ),
            cursor=order.cursor(sort, page.end),
        )

    def nearest(self, *, limit: int = 10, seen_by: str | None = None) -> tuple[JudgedWindow, ...]:
        """The current windows of all thresholds that are approaching their limit or exceed it, the highest first. As
        recent as the checker. `seen_by`: those of one organization. Raises InvalidUsage for a wrong limit."""
        from meterfold_sink.threshold_levels import nearest_windows

        check_page(limit)
        with self._clients.client() as client:
            return tuple(nearest_windows(client, limit=limit, seen_by=seen_by))

    def of_subject(self, subject: tuple[str, str], *, org_id: str = "") -> tuple[JudgedWindow, ...]:
        """The active thresholds that judge a subject, each with its current window, also where that has reached
        nothing; the highest level first. Values are as recent as the fold, levels as the checker."""
        from meterfold_sink.threshold_levels import thresholds_of_subject

        with self._clients.client() as client:
            return tuple(thresholds_of_subject(client, subject, org_id=org_id, now=self._now()))

    def watched_subjects(self, threshold_id: str, *, seen_by: str | None = None) -> WatchedSubjects:
        """How many of the subjects that have used its metric a threshold judges now, and why the others are not.
        `seen_by`: only those of one organization. Raises ThresholdNotFound."""
        from meterfold_sink.thresholds import watched_subjects

        self.get(threshold_id)
        with self._clients.client() as client:
            return watched_subjects(client, threshold_id, seen_by=seen_by)

    def _creation(
        self, metric_key: str, org_id: str | None, values: Mapping[str, Any]
    ) -> Callable[[Definitions], UsageThreshold]:
        from meterfold_schemas.definitions import UsageThreshold
        from meterfold_service.contents import OWN, differences, refuse_fields, same_content

        refuse_fields(values, OWN)
        now = self._now()
        own = {"id": str(uuid.uuid4()), "org_id": org_id, "created_at": now, "updated_at": now}

        def decide(definitions: Definitions) -> UsageThreshold:
            metric = definitions.metric(org_id or "", metric_key)
            if metric is None:
                known = [(metric.org_id, metric.key) for metric in definitions.metrics()]
                raise metric_not_found(metric_key, org_id, known)
            wanted = UsageThreshold.for_metric(metric, **values, **own)
            same = _same_names(definitions, wanted)
            for one in same:
                if same_content(one, wanted):
                    return one
            if same:
                raise ThresholdExists(same[0], differences(same[0], wanted, values.keys()))
            return wanted

        return decide

    def _change(self, threshold_id: str, changes: Mapping[str, Any]) -> Callable[[Definitions], UsageThreshold]:
        from meterfold_schemas.definitions import default_warn_threshold
        from meterfold_service.contents import OWN, refuse_fields, same_content

        refuse_fields(changes, OWN | _FIXED)

        def decide(definitions: Definitions) -> UsageThreshold:
            known = _known(definitions, threshold_id)
            more: dict[str, Any] = {"updated_at": self._now(), "version": -1}
            if "threshold" in changes and known.warn_threshold == default_warn_threshold(known.threshold):
                more["warn_threshold"] = None
            wanted = known.changed(**{**more, **changes})
            if same_content(known, wanted):
                return known
            if wanted.name != known.name and (same := _same_names(definitions, wanted)):
                raise ThresholdExists(same[0])
            return wanted

        return decide

    def _preview(self, before: UsageThreshold | None, after: UsageThreshold | None) -> ThresholdChange:
        from meterfold_service.thresholds.changes import ThresholdChange
        from meterfold_sink.threshold_preview import Reached, reached

        now = self._now()
        with self._clients.client() as client:
            was, will_be = (Reached() if one is None else reached(client, one, now) for one in (before, after))
        return ThresholdChange(before, after, was, will_be)

    def _conditions(self, rows: Sequence[Mapping[str, Any]], seen_by: str | None) -> dict[str, Condition]:
        """Threshold id: why it rests."""
        from meterfold_sink.thresholds import metric_definers, narrower_thresholds, same_thresholds

        if not rows:
            return {}
        ids = [row["id"] for row in rows]
        metric_keys = sorted({row["metric_key"] for row in rows})
        org_ids = sorted({row["org_id"] for row in rows if row["org_id"]})
        with self._clients.client() as client:
            definers = metric_definers(client, metric_keys, org_ids, seen_by=seen_by)
            narrower = narrower_thresholds(client, ids, seen_by=seen_by)
            same = same_thresholds(client, ids, seen_by=seen_by)
        none: tuple[int, list[Any]] = (0, [])
        return {
            row["id"]: condition(
                row, definers[row["metric_key"]], narrower.get(row["id"], none), same.get(row["id"], none)
            )
            for row in rows
        }


def _known(definitions: Definitions, threshold_id: str) -> UsageThreshold:
    known = definitions.threshold(threshold_id)
    if known is None:
        raise ThresholdNotFound(threshold_id)
    return known


def _same_names(definitions: Definitions, wanted: UsageThreshold) -> Sequence[UsageThreshold]:
    """The other thresholds of the same metric, name and scope, the newest first. There is one at most, unless a version
    that allowed it has made two."""
    name = (wanted.metric_key, wanted.name, wanted.scope)
    found = [
        known
        for known in definitions.watched()
        if (known.metric_key, known.name, known.scope) == name and known.id != wanted.id
    ]
    return sorted(found, key=lambda known: known.version, reverse=True)
