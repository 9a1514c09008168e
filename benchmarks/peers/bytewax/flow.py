"""The windows as a Bytewax dataflow with recovery: a snapshot of each changed subject and of the offsets every second.

One stateful step keeps the four windows of a subject and the ids that it has seen.
"""

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import usage
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

Event = tuple[str, int, int]
Changed = tuple[int, int, tuple[int, int, int, int]]

decode = usage.decoder()
started = False


def event(message: KafkaSourceMessage) -> tuple[str, Event]:
    global started
    if not started:
        started = True
        print("ready", flush=True)
    return message.key.decode(), decode(message.value)


class Subject(StatefulBatchLogic):
    """The windows and ids of one subject."""

    def __init__(self, snapshot: tuple[dict[Any, Any], set[str]] | None) -> None:
        self._windows, self._seen = snapshot or ({}, set())

    def on_batch(self, values: list[Event]) -> tuple[Iterable[Changed], bool]:
        changed = {}
        for event_id, quantity, hour in values:
            if event_id in self._seen:
                continue
            self._seen.add(event_id)
            for window in usage.starts(hour):
                state = self._windows.get(window)
                if state is None:
                    state = (1, quantity, quantity, quantity)
                else:
                    count, total, least, most = state
                    state = (count + 1, total + quantity, min(least, quantity), max(most, quantity))
                self._windows[window] = changed[window] = state
        return [(period, start, state) for (period, start), state in changed.items()], StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple[dict[Any, Any], set[str]]:
        return self._windows.copy(), self._seen.copy()


class WindowPartition(StatelessSinkPartition):
    """Writes each batch before its epoch ends, so at least once; a repeated row replaces the first."""

    def __init__(self) -> None:
        self._target = usage.Target()

    def write_batch(self, items: list[tuple[str, Changed]]) -> None:
        self._target.insert({(key, period, start): state for key, (period, start, state) in items})


class WindowSink(DynamicSink):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> WindowPartition:
        return WindowPartition()


login = usage.kafka()
source = KafkaSource(
    [login.pop("bootstrap.servers")],
    [os.environ["PEER_TOPIC"]],
    add_config={**login, "queued.min.messages": "200000"},
    batch_size=10_000,
)
flow = Dataflow("windows")
events = op.map("decode", op.input("usage", flow, source), event)
op.output("clickhouse", op.stateful_batch("fold", events, Subject), WindowSink())

if __name__ == "__main__":
    folder = Path(os.environ["PEER_STATE"])
    init_db_dir(folder, 1)
    cli_main(
        flow, workers_per_process=1, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(str(folder))
    )
