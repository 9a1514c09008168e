"""`metering.metrics`: metric.define, update, delete, get and list."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from meterfold_service.errors import MetricKeyExists, MetricNotFound
from meterfold_service.pages import MAX_LIMIT, Page, RowOrder, check_page

if TYPE_CHECKING:
    from meterfold_processor.checker.definitions import Definitions
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.definition_log import DefinitionLog
    from meterfold_service.metrics.changes import MetricChange
    from meterfold_sink.metric_usage import UndefinedMetric
    from meterfold_sink.pool import ClientPool

__all__ = ["MetricPage", "Metrics", "metric_not_found"]

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class MetricPage(Page["MetricDefinition"]):
    """`undefined`: metric keys with usage this month or last month, and without a definition."""

    undefined: tuple[UndefinedMetric, ...]


class Metrics:
    """The operations on metrics; for any thread. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(self, log: Callable[[], DefinitionLog], clients: ClientPool, now: Now) -> None:
        self._log = log
        self._clients = clients
        self._now = now

    def define(self, **values: Any) -> MetricDefinition:
        """metric.define: `key`, `name`, `unit`, and what else a MetricDefinition has. The same definition again changes
        nothing and returns the existing one.

        Raises MetricKeyExists if the key has another content, and InvalidDefinition.
        """
        from meterfold_service.contents import differences, same_content

        wanted = _made(values, self._now())

        def decide(definitions: Definitions) -> MetricDefinition:
            known = definitions.own_metric(wanted.org_id, wanted.key)
            if known is None:
                return wanted
            if same_content(known, wanted):
                return known
            raise MetricKeyExists(known, differences(known, wanted, values.keys()))

        return self._log().define(decide)

    def update(self, key: str, org_id: str = "", **changes: Any) -> MetricDefinition:
        """metric.update: any field but key and org_id. Raises MetricNotFound and InvalidDefinition."""
        from meterfold_service.contents import same_content

        _refuse(changes)

        def decide(definitions: Definitions) -> MetricDefinition:
            known = _own(definitions, key, org_id)
            wanted = known.changed(**changes, updated_at=self._now(), version=-1)
            return known if same_content(known, wanted) else wanted

        return self._log().define(decide)

    def delete(self, key: str, org_id: str = "") -> None:
        """metric.delete: the usage stays, without totals; thresholds on it stop. Raises MetricNotFound."""
        self._log().delete(lambda definitions: _own(definitions, key, org_id))

    def get(self, key: str, org_id: str = "") -> MetricDefinition:
        """metric.get: as an organization sees it, whose own definition hides the one of every organization. Raises
        MetricNotFound."""
        from meterfold_schemas.definitions import MetricDefinition
        from meterfold_sink.definitions import defined_keys, visible_metric

        with self._clients.client() as client:
            row = visible_metric(client, key, org_id)
            known = defined_keys(client) if row is None else []
        if row is None:
            raise metric_not_found(key, org_id, known)
        return MetricDefinition(**row)

    def list(
        self,
        *,
        org_id: str | None = None,
        category: str | None = None,
        is_active: bool | None = None,
        seen_by: str | None = None,
        sort: str | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> MetricPage:
        """metric.list: by organization, then in the order they are displayed, or by `sort`: display_order, key, name,
        created_at or updated_at, with a minus sign in reverse. `seen_by`: those of one organization and of every
        organization. Raises InvalidUsage for a wrong page."""
        from meterfold_schemas.definitions import MetricDefinition
        from meterfold_sink.definitions import METRIC_SORTS, list_metrics
        from meterfold_sink.metric_usage import undefined_metrics

        check_page(limit, offset)
        order = RowOrder("metrics", METRIC_SORTS, "display_order")
        keys, after = order.start(sort, cursor)
        wanted = {"org_id": org_id, "category": category, "is_active": is_active}
        with self._clients.client() as client:
            page = list_metrics(client, wanted, keys, limit=limit, offset=offset, after=after, seen_by=seen_by)
            undefined = undefined_metrics(client, org_id=org_id if seen_by is None else seen_by)
        rows = tuple(MetricDefinition(**row) for row in page.rows)
        return MetricPage(page.total, rows, tuple(undefined), cursor=order.cursor(sort, page.end))

    def definitions(self, *, seen_by: str | None = None) -> Sequence[MetricDefinition]:
        """Up to 10,000 definitions, in the order they are displayed: as `list`, without a look at usage."""
        from meterfold_schemas.definitions import MetricDefinition
        from meterfold_sink.definitions import METRIC_SORTS, list_metrics

        keys, _ = RowOrder("metrics", METRIC_SORTS, "display_order").start(None, None)
        wanted = {"org_id": None, "category": None, "is_active": None}
        with self._clients.client() as client:
            page = list_metrics(client, wanted, keys, limit=MAX_LIMIT, offset=0, after=None, seen_by=seen_by)
        return [MetricDefinition(**row) for row in page.rows]

    def defined_keys(self) -> Sequence[tuple[str, str]]:
        """(org_id, key) of every defined metric, sorted; org_id "" is the global definition."""
        from meterfold_sink.definitions import defined_keys

        with self._clients.client() as client:
            return defined_keys(client)

    def preview_define(self, **values: Any) -> MetricChange | None:
        """What `define` would change for usage that exists: an organization's own definition hides the one of every
        organization. None where nothing is hidden."""
        wanted = _made(values, self._now())
        definitions = self._log().read()
        before = definitions.metric(wanted.org_id, wanted.key)
        if before is None or before.org_id == wanted.org_id:
            return None
        return self._preview(definitions, wanted.org_id, before, wanted)

    def preview_update(self, key: str, org_id: str = "", **changes: Any) -> MetricChange:
        """What `update` would change for usage that exists. Raises MetricNotFound."""
        _refuse(changes)
        definitions = self._log().read()
        known = _own(definitions, key, org_id)
        return self._preview(definitions, org_id, known, known.changed(**changes))

    def preview_delete(self, key: str, org_id: str = "") -> MetricChange:
        """What `delete` would change for usage that exists. Raises MetricNotFound."""
        definitions = self._log().read()
        known = _own(definitions, key, org_id)
        return self._preview(definitions, org_id, known, definitions.own_metric("", key) if org_id else None)

    def _preview(
        self, definitions: Definitions, org_id: str, before: MetricDefinition, after: MetricDefinition | None
    ) -> MetricChange:
        from meterfold_service.metrics import changes
        from meterfold_sink.metric_usage import metric_usage

        except_orgs = () if org_id else changes.hiding(definitions, before.key)
        with self._clients.client() as client:
            usage = metric_usage(client, before.key, org_id or None, except_orgs)
        resting, judging = changes.affected_thresholds(definitions, before.key, org_id, before, after)
        example = changes.example_of(usage.newest.to_pylist(), before, after)
        return changes.MetricChange(before, after, usage, example, resting, judging)


def metric_not_found(key: str, org_id: str | None, known: Collection[tuple[str, str]]) -> MetricNotFound:
    """The error, with what there is of `known` (org_id, key): the key in other organizations, or a similar key."""
    defined_for = sorted(org for org, name in known if name == key)
    import difflib

    similar = [] if defined_for else difflib.get_close_matches(key, {name for _, name in known}, 1)
    return MetricNotFound(key, org_id, defined_for=defined_for, similar=next(iter(similar), None))


def _made(values: dict[str, Any], now: datetime) -> MetricDefinition:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.contents import OWN, refuse_fields

    refuse_fields(values, OWN)
    return MetricDefinition(**values, id=str(uuid.uuid4()), created_at=now, updated_at=now)


def _refuse(changes: Collection[str]) -> None:
    from meterfold_service.contents import OWN, refuse_fields

    refuse_fields(changes, OWN | {"key", "org_id"})


def _own(definitions: Definitions, key: str, org_id: str) -> MetricDefinition:
    """The definition of exactly this organization."""
    known = definitions.own_metric(org_id, key)
    if known is None:
        raise metric_not_found(key, org_id, [(metric.org_id, metric.key) for metric in definitions.metrics()])
    return known
