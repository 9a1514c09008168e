"""How an installation is, put together from what Kafka and ClickHouse say, and what is wrong in plain words.

Everything here is a function of the two views, of what waits, and of the time that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from meterfold_processor.kafka.reader import open_transaction
from meterfold_schemas import catalog
from meterfold_schemas.plurals import listed, noun, plural
from meterfold_schemas.schema_keys import key_in, shown
from meterfold_service.status import undefined
from meterfold_service.status.clickhouse_view import ClickHouseView, StoredProgress
from meterfold_service.status.kafka_view import KafkaView, LogBounds, PendingHead, PendingHeads
from meterfold_service.status.notifier import NotifierStatus, endpoint_notes, notifier_problems, notifier_status
from meterfold_service.status.positions import age, next_of
from meterfold_sink.rejections import RecentRejections
from meterfold_sink.rules import DEFAULT_HOLD_SECONDS, POISON, UNKNOWN_SCHEMA_HOLD, WITH_REGISTRY

State = Literal["ok", "behind", "stuck", "held", "lost", "unknown"]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition of usage.recorded. Offsets are next-to-read; None where a server did not say.

    ok: nothing waits. behind: something waits, not for long. stuck: it has waited too long without a flush. held: the
    next event has a schema that this version does not know. lost: events were deleted before they were folded.
    """

    partition: int
    state: State
    log_start: int | None
    log_end: int | None
    next_offset: int | None
    lag: int | None
    waiting_seconds: float | None
    counted: int | None
    duplicates: int | None
    rejected: int | None
    last_stamp: datetime | None
    flushed_at: datetime | None
    checker_lag: int | None
    checker_waiting_seconds: float | None


@dataclass(frozen=True, slots=True)
class MirrorLag:
    """A partition with messages that the checker has not copied into ClickHouse yet: the definitions and threshold
    events that its tables still lack."""

    topic: str
    partition: int
    next_offset: int
    log_end: int
    waiting_seconds: float | None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """`problems` is empty when all is well; each says what is wrong, where, and what to do. `silent`: those of them
    about servers that did not answer. `notes` are worth knowing, and nothing is wrong with them."""

    at: datetime
    well: bool
    silent: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    kafka: KafkaView
    clickhouse: ClickHouseView
    partitions: tuple[PartitionStatus, ...]
    mirror_lag: tuple[MirrorLag, ...]
    notifier: NotifierStatus
    counted: int | None
    duplicates: int | None
    rejected: int | None


def make_report(
    kafka: KafkaView,
    clickhouse: ClickHouseView,
    waiting: PendingHeads,
    now: datetime,
    stuck_after: float,
    *,
    chats: bool = False,
) -> StatusReport:
    """`stuck_after` in seconds. `chats`: whether the settings name chat targets of the operators."""
    numbers = sorted({*kafka.recorded, *clickhouse.progress})
    partitions = tuple(_partition(n, kafka, clickhouse, waiting, now, stuck_after) for n in numbers)
    mirror_lag = tuple(_mirror_lag(kafka, clickhouse, waiting, now))
    notifier = notifier_status(kafka, clickhouse, waiting, now, chats)
    silent = tuple(_silent_servers(kafka, clickhouse))
    problems = (
        *silent,
        *_setup_problems(kafka, clickhouse),
        *_transaction_problems(kafka, now, stuck_after),
        *_fold_problems(partitions, kafka, clickhouse, waiting),
        *_checker_problems(partitions, kafka, stuck_after),
        *_mirror_problems(mirror_lag, stuck_after),
        *notifier_problems(notifier, kafka.notify_group, stuck_after),
        *(rejection(one, clickhouse.rejected_within, now) for one in clickhouse.rejections),
        *_backup_problems(kafka, clickhouse),
    )
    known = list(clickhouse.progress.values()) if clickhouse.error is None else None
    return StatusReport(
        at=now,
        well=not problems,
        silent=silent,
        problems=problems,
        notes=(*map(undefined.sentence, clickhouse.undefined), *endpoint_notes(clickhouse)),
        kafka=kafka,
        clickhouse=clickhouse,
        partitions=partitions,
        mirror_lag=mirror_lag,
        notifier=notifier,
        counted=None if known is None else sum(progress.counted for progress in known),
        duplicates=None if known is None else sum(progress.duplicates for progress in known),
        rejected=None if known is None else sum(progress.rejected for progress in known),
    )


def _partition(
    number: int, kafka: KafkaView, clickhouse: ClickHouseView, waiting: PendingHeads, now: datetime, stuck_after: float
) -> PartitionStatus:
    log, progress = kafka.recorded.get(number), clickhouse.progress.get(number)
    event, window = waiting.events.get(number), waiting.windows.get(number)
    position = progress.next_offset if progress else log.start if log and clickhouse.error is None else None
    # Offsets of transaction markers are no events: where nothing was found waiting, nothing is behind.
    asked = log is not None and position is not None and log.start <= position
    lag = (log.end - position if event else 0) if log is not None and position is not None and asked else None
    waited = age(event, now)
    return PartitionStatus(
        partition=number,
        state=_state(log, progress, position, event, waited, clickhouse, now, stuck_after),
        log_start=log.start if log else None,
        log_end=log.end if log else None,
        next_offset=progress.next_offset if progress else None,
        lag=lag,
        waiting_seconds=waited,
        counted=progress.counted if progress else None,
        duplicates=progress.duplicates if progress else None,
        rejected=progress.rejected if progress else None,
        last_stamp=progress.last_stamp if progress else None,
        flushed_at=progress.flushed_at if progress else None,
        checker_lag=_checker_lag(number, kafka, window),
        checker_waiting_seconds=age(window, now),
    )


def _state(
    log: LogBounds | None,
    progress: StoredProgress | None,
    position: int | None,
    event: PendingHead | None,
    waited: float | None,
    clickhouse: ClickHouseView,
    now: datetime,
    stuck_after: float,
) -> State:
    if log is None or position is None:
        return "unknown"
    if not log.start <= position <= log.end:
        return "lost"
    if event is None:
        return "ok"
    if _unknown_schema(event, clickhouse) is not None:
        return "held"
    flushed = (now - progress.flushed_at).total_seconds() if progress else float("inf")
    return "stuck" if (waited or 0.0) > stuck_after and flushed > stuck_after else "behind"


def _unknown_schema(event: PendingHead, clickhouse: ClickHouseView) -> str | None:
    """The schema that holds a partition: 16 hexadecimal digits, or id:N of a Schema Registry. One that this version
    knows holds it only for the seconds in which a worker decides it."""
    confluent = clickhouse.settings.get("decoder_version") == WITH_REGISTRY
    key = key_in(event.header, confluent=confluent)
    if key is None:
        return None
    facts = clickhouse.schemas.get(shown(key))
    if facts is None or facts.decision is None:
        return None if catalog.by_fingerprint(key) is not None else shown(key)
    readable = facts.decision == POISON or catalog.labelled(facts.decision) is not None
    return None if readable else shown(key)


def _what_holds(fingerprint: str, clickhouse: ClickHouseView) -> str:
    """How long it will, and what to do."""
    facts = clickhouse.schemas.get(fingerprint)
    if facts is not None and facts.decision is not None:
        return f"It was decided to be {facts.decision}, which this version does not know: upgrade the fold workers"
    hold = int(clickhouse.settings.get(UNKNOWN_SCHEMA_HOLD, DEFAULT_HOLD_SECONDS))
    if hold == 0 or (facts is not None and facts.waits):
        until = "It waits for a decision"
    elif facts is None:
        until = f"It is rejected {hold:,} s after a fold worker has met it"
    else:
        until = f"It is rejected in {max(0.0, hold - facts.seen_age):,.0f} s"
    return (
        f"{until}. Upgrade the fold workers, or decide what it is: `meterfold schema poison {fingerprint}`, "
        f"`meterfold schema alias {fingerprint} SCHEMA`, or `meterfold schema wait {fingerprint}`"
    )


def _silent_servers(kafka: KafkaView, clickhouse: ClickHouseView) -> Iterator[str]:
    if kafka.error is not None:
        yield f"{kafka.error}. Producers and workers wait for Kafka; nothing is lost"
    if clickhouse.error is not None:
        yield f"{clickhouse.error}. The fold waits for ClickHouse; nothing is lost"


def _setup_problems(kafka: KafkaView, clickhouse: ClickHouseView) -> Iterator[str]:
    if kafka.missing:
        yield f"topics are missing: {', '.join(kafka.missing)}. Run `meterfold migrate`"
    if clickhouse.missing:
        yield f"tables or views are missing: {', '.join(clickhouse.missing)}. Run `meterfold migrate`"
    stored = clickhouse.settings.get("partition_count")
    if stored is not None and kafka.recorded and int(stored) != len(kafka.recorded):
        yield (
            f"usage.recorded has {len(kafka.recorded)} partitions, {stored} were there when it was set up. Workers "
            "refuse to run: a subject would change its partition"
        )


def _transaction_problems(kafka: KafkaView, now: datetime, stuck_after: float) -> Iterator[str]:
    for one in kafka.open_transactions:
        seconds = 0.0 if one.stamp is None else now.timestamp() - one.stamp
        if seconds > stuck_after:
            yield f"{one.topic} partition {one.partition}: {open_transaction(one.offset, seconds)}"


def _fold_problems(
    partitions: tuple[PartitionStatus, ...], kafka: KafkaView, clickhouse: ClickHouseView, waiting: PendingHeads
) -> Iterator[str]:
    for status in partitions:
        where = f"partition {status.partition}"
        if status.state == "lost":
            yield (
                f"{where}: the next event to fold is at offset {status.next_offset}, the log holds {status.log_start} "
                f"to {status.log_end}. Events were deleted before they were folded, or the topic is another one"
            )
        elif status.state == "held":
            fingerprint = _unknown_schema(waiting.events[status.partition], clickhouse) or ""
            yield (
                f"{where}: the event at offset {status.next_offset} or behind has the unknown schema {fingerprint}. "
                f"{_what_holds(fingerprint, clickhouse)}"
            )
    stuck = [status for status in partitions if status.state == "stuck"]
    if stuck:
        names = ", ".join(str(status.partition) for status in stuck)
        waited = max(status.waiting_seconds or 0.0 for status in stuck)
        idle = kafka.fold_group is not None and kafka.fold_group.is_empty
        advice = "no fold worker runs: start `meterfold fold`" if idle else "the fold worker's log says why"
        yield f"partition {names}: nothing is folded, the oldest event has waited {waited:,.0f} s; {advice}"


def _checker_problems(partitions: tuple[PartitionStatus, ...], kafka: KafkaView, stuck_after: float) -> Iterator[str]:
    waited = max((status.checker_waiting_seconds or 0.0 for status in partitions), default=0.0)
    if waited > stuck_after and kafka.checker_group is not None and kafka.checker_group.is_empty:
        yield f"no checker runs and windows have waited for {waited:,.0f} s: start `meterfold check`"


def _mirror_lag(
    kafka: KafkaView, clickhouse: ClickHouseView, waiting: PendingHeads, now: datetime
) -> Iterator[MirrorLag]:
    for topic, heads in waiting.mirrored.items():
        for number, head in sorted(heads.items()):
            log = kafka.mirrored[topic][number]
            at = next_of(clickhouse.mirrored, topic, number, log)
            yield MirrorLag(topic, number, at, log.end, age(head, now))


def _mirror_problems(mirror_lag: tuple[MirrorLag, ...], stuck_after: float) -> Iterator[str]:
    for topic in sorted({lag.topic for lag in mirror_lag}):
        waited = max(lag.waiting_seconds or 0.0 for lag in mirror_lag if lag.topic == topic)
        if waited > stuck_after:
            yield (
                f"ClickHouse lacks messages of {topic} that are {waited:,.0f} s old: the checker copies them. Start "
                "`meterfold check`, or read its log"
            )


def rejection(one: RecentRejections, within: float, now: datetime) -> str:
    """What was rejected of one organization for one reason, `within` seconds until `now`."""
    whose = f"of organization {one.org_id!r}" if one.org_id else "without an organization"
    were = noun(one.count, "was", "were")
    ago = max(0.0, (now - one.last_at).total_seconds())
    return (
        f"{plural(one.count, 'message')} {whose} {were} rejected as {one.reason} within the last {within:,.0f} s; "
        f"the last one {ago:,.0f} s ago, partition {one.last_partition}, offset {one.last_offset}: {one.last_detail}. "
        "Correct them with `meterfold rejected redrive`"
    )


def _backup_problems(kafka: KafkaView, clickhouse: ClickHouseView) -> Iterator[str]:
    """The log itself decides; how long it will last is a matter of the metrics."""
    backup = clickhouse.backup
    if backup is None:
        return
    lost = [
        f"partition {partition} needs offset {offset}, and its log begins at {kafka.recorded[partition].start}"
        for partition, offset in backup.next_offsets.items()
        if partition in kafka.recorded and offset < kafka.recorded[partition].start
    ]
    if lost:
        yield (
            f"the newest backup {backup.name} can no longer be repaired from Kafka: {listed(lost[:3], len(lost))}. Run "
            "`meterfold backup create`"
        )


def _checker_lag(number: int, kafka: KafkaView, window: PendingHead | None) -> int | None:
    log = kafka.windows.get(number)
    if log is None:
        return None
    return log.end - max(kafka.checked.get(number, log.start), log.start) if window else 0
