"""`metering.settings`: the stored settings, shown and changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import Fatal, InvalidSettings
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_schemas.plurals import listed, noun, plural
from meterfold_schemas.topics import Topics, topic_specs
from meterfold_service.errors import NotAtRest, WorkersRunning
from meterfold_service.settings.planning import Actual, Change, Plan, history_needed, parsed, plan, require_history
from meterfold_sink import settings_change
from meterfold_sink.fold_state import read_progress, read_rules, read_settings
from meterfold_sink.migrate import check_schema
from meterfold_sink.rules import FoldRules
from meterfold_sink.schema_decisions import unknown_schema_hold
from meterfold_sink.server import server_now

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client
    from meterfold_sink.fold_state import ProgressRow
    from meterfold_sink.pool import ClientPool

__all__ = ["SettingsChange", "SettingsView", "StoredSettings"]

_FRESH_SECONDS: Final = 20
"""A flush that is younger shows a worker of a group that is not asked about."""
_DECIDING: Final = frozenset({"decoder_version", "horizon_seconds", "future_tolerance_seconds"})


@dataclass(frozen=True, slots=True)
class SettingsView:
    """What is stored, and what is in effect: table -> seconds (None: no such TTL), topic -> milliseconds (-1: ever).
    `problems` are sentences about what does not fit. `workers`: groups that have members -> how many."""

    rules: FoldRules
    unknown_schema_hold_seconds: int
    table_retentions: Mapping[str, int | None]
    topic_retentions: Mapping[str, int]
    problems: tuple[str, ...]
    workers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """`changes` of stored settings and the `effects` of everything that was done, or would be in a dry run. Both are
    empty where all of it was as wanted."""

    dry_run: bool
    changes: tuple[Change, ...]
    effects: tuple[str, ...]


class StoredSettings:
    """For any thread. Every operation raises Retryable or Fatal, and what it says itself.

    `groups`: the consumer groups of the workers, with the topic prefix.
    """

    def __init__(
        self,
        clients: ClientPool,
        kafka: Callable[[], KafkaSettings],
        groups: Callable[[], Sequence[str]],
    ) -> None:
        self._clients = clients
        self._kafka = kafka
        self._groups = groups

    def show(self) -> SettingsView:
        """The stored settings and what is in effect."""
        from meterfold_processor.kafka.admin import kept_admin

        kafka = self._kafka()
        with self._clients.client() as client, kept_admin(kafka):
            check_schema(client)
            actual = _actual(kafka, client)
            running = dict(self._running(kafka))
        topics = Topics(kafka.topic_prefix)
        return SettingsView(
            actual.rules,
            actual.hold_seconds,
            actual.ttls,
            {topics.usage_recorded: actual.source_retention, topics.usage_rejected: actual.rejected_retention},
            tuple(_problems(actual)),
            running,
        )

    def change(self, values: Mapping[str, str], *, dry_run: bool = False) -> SettingsChange:
        """Change stored settings, the tables' TTL and the topics' retention together; repeating it changes nothing.

        `values`: name -> text, such as {"horizon_seconds": "60d"}; seconds, or a number with s, m, h, d or w. Raises
        InvalidSettings for a value or a combination that cannot work, WorkersRunning while a worker runs, NotAtRest
        where a flush did not complete or messages would be deleted unread. Then nothing was changed.
        """
        from meterfold_processor.kafka.admin import kept_admin
        from meterfold_processor.kafka.topics import check_source

        wanted = _parsed(values)
        kafka = self._kafka()
        with self._clients.client() as client, kept_admin(kafka):
            check_schema(client)
            check_source(kafka, read_rules(client))
            actual = _actual(kafka, client)
            _check_topics(kafka, actual)
            planned = plan(actual, wanted)
            if not planned.is_empty:
                self._require_possible(kafka, client, actual, planned)
            effects = [*planned.effects, *_deleted(client, planned)]
            if not planned.is_empty and not dry_run:
                self._apply(kafka, client, actual, planned)
        return SettingsChange(dry_run, planned.changes, tuple(effects))

    def _require_possible(self, kafka: KafkaSettings, client: Client, actual: Actual, planned: Plan) -> None:
        """Raises InvalidSettings, WorkersRunning or NotAtRest."""
        now = server_now(client)
        progress = read_progress(client)
        needed = history_needed(actual.rules, planned.rules)
        if needed is not None:
            since = _complete_since(client, actual.rules, now)
            if now - needed * MICROS_PER_SECOND < since and settings_change.any_expired(client, progress.values()):
                require_history(needed, since, now)
        if planned.needs_rest:
            if running := self._running(kafka):
                raise WorkersRunning(running)
            fresh = [p for p, row in progress.items() if now - row.flushed_at < _FRESH_SECONDS * MICROS_PER_SECOND]
            if fresh:
                raise NotAtRest(
                    f"partition {min(fresh)} was flushed within the last {_FRESH_SECONDS} s: a worker runs, or ran "
                    f"until now. Stop it, and repeat the change {_FRESH_SECONDS} s later"
                )
            decides = not _DECIDING.isdisjoint(change.name for change in planned.changes)
            count = actual.rules.partition_count
            if decides and (unfinished := settings_change.unfinished(client, progress, count)):
                partition, offset = min(unfinished.items())
                raise NotAtRest(
                    f"partition {partition} has rows from offset {offset} on, of a flush that did not complete. Start "
                    "the fold workers with the present settings, wait until `meterfold status` shows no lag, stop them "
                    "with SIGTERM, and repeat the change"
                )
        if planned.source_retention is not None:
            self._require_read(kafka, progress, actual.rules, planned.source_retention, now)

    def _require_read(
        self, kafka: KafkaSettings, progress: Mapping[int, ProgressRow], rules: FoldRules, retention: int, now: int
    ) -> None:
        """Raises NotAtRest where the retention (milliseconds) would delete messages that are not folded."""
        from meterfold_processor.kafka.offsets import log_bounds, offsets_at

        topic = Topics(kafka.topic_prefix).usage_recorded
        partitions = range(rules.partition_count)
        kept = offsets_at(kafka, topic, partitions, now // 1000 - retention)
        ends = log_bounds(kafka, topic, partitions)
        for partition in partitions:
            start, end = ends[partition]
            until = kept[partition]
            lost = end if until is None else until
            folded = progress[partition].next_offset if partition in progress else start
            if folded < min(lost, end):
                raise NotAtRest(
                    f"usage.recorded would delete messages of partition {partition} from offset {folded} on before "
                    "they are folded. Start the fold workers, wait until `meterfold status` shows no lag, stop them, "
                    "and repeat the change"
                )

    def _apply(self, kafka: KafkaSettings, client: Client, actual: Actual, planned: Plan) -> None:
        from meterfold_processor.kafka.topics import set_retentions

        names = Topics(kafka.topic_prefix)
        wanted = {names.usage_recorded: planned.source_retention, names.usage_rejected: planned.rejected_retention}
        now_kept = {
            names.usage_recorded: actual.source_retention,
            names.usage_rejected: actual.rejected_retention,
        }
        topics = {topic: kept for topic, kept in wanted.items() if kept is not None}
        shorter = {topic: kept for topic, kept in topics.items() if now_kept[topic] < 0 or kept < now_kept[topic]}
        for table, seconds in planned.longer_ttls.items():
            settings_change.write_ttl(client, table, seconds)
        set_retentions(kafka, shorter)
        settings_change.write_settings(client, _rows(client, actual, planned))
        for table, seconds in planned.shorter_ttls.items():
            settings_change.write_ttl(client, table, seconds)
        set_retentions(kafka, {topic: kept for topic, kept in topics.items() if topic not in shorter})
        if planned.needs_rest and (running := self._running(kafka)):
            groups = listed([name for name, _ in running], len(running))
            raise Fatal(
                f"the settings were changed, but workers of {groups} started meanwhile, perhaps with the old ones: "
                "restart them"
            )

    def _running(self, kafka: KafkaSettings) -> list[tuple[str, int]]:
        """The groups that have members, and how many."""
        from meterfold_processor.kafka.groups import members

        found = [(group, len(members(kafka, group))) for group in self._groups()]
        return [(group, count) for group, count in found if count]


def _actual(kafka: KafkaSettings, client: Client) -> Actual:
    from meterfold_processor.kafka.topics import read_retentions

    topics = Topics(kafka.topic_prefix)
    retentions = read_retentions(kafka, [topics.usage_recorded, topics.usage_rejected])
    return Actual(
        read_rules(client),
        unknown_schema_hold(client),
        settings_change.read_ttls(client),
        retentions[topics.usage_recorded],
        retentions[topics.usage_rejected],
    )


def _check_topics(kafka: KafkaSettings, actual: Actual) -> None:
    """As `migrate` does, but for a retention that this operation mends. Raises Fatal or Retryable."""
    from meterfold_processor.kafka.topics import check_topics

    rules = actual.rules
    if 0 <= actual.source_retention <= rules.source_retention_seconds * 1000:
        limit = rules.source_retention_seconds
        check_topics(
            kafka, topic_specs(rules.partition_count, prefix=kafka.topic_prefix, source_retention_seconds=limit)
        )


def _parsed(values: Mapping[str, str]) -> dict[str, int | str]:
    """Raises InvalidSettings."""
    if not values:
        raise InvalidSettings("nothing is to be changed: give NAME=VALUE, such as horizon_seconds=60d")
    found: dict[str, int | str] = {}
    for name, text in values.items():
        known, value = parsed(name, text)
        if known in found:
            raise InvalidSettings(f"{known} is given twice")
        found[known] = value
    return found


def _complete_since(client: Client, rules: FoldRules, now: int) -> int:
    """The arrival time from which records cannot have expired, in UTC microseconds."""
    stored = read_settings(client).get(settings_change.COMPLETE_SINCE, "0")
    return max(int(stored), now - rules.record_retention_seconds * MICROS_PER_SECOND)


def _rows(client: Client, actual: Actual, planned: Plan) -> dict[str, str]:
    rows = {change.name: change.new for change in planned.changes}
    if planned.rules.record_retention_seconds > actual.rules.record_retention_seconds:
        # What has expired does not come back with a longer retention.
        rows[settings_change.COMPLETE_SINCE] = str(_complete_since(client, actual.rules, server_now(client)))
    return rows


def _deleted(client: Client, planned: Plan) -> list[str]:
    if not planned.shorter_ttls:
        return []
    kept = planned.rules.record_retention_seconds
    count = settings_change.records_before(client, server_now(client) - kept * MICROS_PER_SECOND)
    return [f"{plural(count, 'record')} that arrived earlier {noun(count, 'is', 'are')} deleted"] if count else []


def _problems(actual: Actual) -> list[str]:
    kept, limit = actual.rules.record_retention_seconds, actual.rules.source_retention_seconds
    found = [
        f"{table} keeps rows for {ttl} s, less than record_retention_seconds {kept}: a retry could count twice. Run "
        f"`meterfold settings set record_retention_seconds={kept}`"
        for table, ttl in actual.ttls.items()
        if ttl is not None and ttl < kept
    ]
    if not 0 <= actual.source_retention <= limit * 1000:
        found.append(
            f"usage.recorded keeps messages longer than source_retention_seconds {limit}: a retry could count twice. "
            f"Run `meterfold settings set source_retention_seconds={limit}`"
        )
    return found
