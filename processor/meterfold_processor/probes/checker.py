"""The probes of a checker. Reads CheckerStatus only; counters start with the process."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric

from meterfold_processor.checker.status import CheckerStatus
from meterfold_processor.probes.families import counter, gauge, histogram
from meterfold_processor.probes.progress import PartitionPosition
from meterfold_processor.probes.verdict import Observation


class CheckerSubject:
    name = "checker"
    partitioned = True

    def __init__(self, status: CheckerStatus) -> None:
        self._status = status

    def observe(self) -> Observation:
        status, membership = self._status, self._status.membership.seen
        positions, ends = status.positions, {} if membership is None else membership.ends
        return Observation(
            {
                partition: PartitionPosition(positions.get(partition), ends.get(partition))
                for partition in status.assigned
            },
            dict(status.errors),
            membership,
        )

    def metrics(self) -> Iterator[Metric]:
        status = self._status
        yield counter("checker_consumed_windows", "Rows of usage.windows that were read.", status.consumed)
        yield counter("checker_damaged_messages", "Messages of usage.windows that could not be read.", status.damaged)
        yield gauge("checker_poison_definitions", "Definitions that cannot be read.", status.poison_definitions)
        yield counter("checker_emitted_messages", "Messages in committed transactions.", dict(status.emitted), "topic")
        yield counter("checker_transactions", "Committed transactions.", status.transactions)
        yield counter(
            "checker_transaction_aborts",
            "Steps that were repeated because the transaction was aborted or its outcome is unknown.",
            status.aborts,
        )
        yield histogram(
            "checker_step_seconds",
            "From the arrival of rows to their committed transaction.",
            status.durations,
        )
        since = status.seconds_since_step()
        yield gauge("checker_last_step_age_seconds", "Time since the last committed transaction.", since)
        yield gauge("checker_waiting_windows", "Windows whose aggregate has not been emitted yet.", status.waiting)
        yield gauge(
            "checker_pending_sweeps",
            "Ranges of stored windows to read: to judge them, to emit aggregates that do not fit into memory, or to "
            "forget them.",
            dict(status.sweeps),
            "purpose",
        )
        yield gauge("checker_windows", "Windows in memory.", status.windows)
        yield gauge("checker_memory_bytes", "Memory of judged and emitted states.", status.memory)
        yield counter("checker_mirrored_rows", "Rows copied to ClickHouse.", dict(status.mirrored), "table")
