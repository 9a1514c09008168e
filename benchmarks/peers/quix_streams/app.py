"""The windows as a Quix Streams application: exactly-once, state in RocksDB with a changelog topic, a checkpoint every
second.

One stateful function keeps the four windows of a subject and the ids that it has seen; the library's own tumbling
windows would need one store each, and calendar months are not among them. Its state has no expiry: ids stay for ever.
"""

import os
from typing import Any

import usage
from quixstreams import Application, State
from quixstreams.kafka.configuration import ConnectionConfig
from quixstreams.sinks.base import BatchingSink, SinkBatch

decode = usage.decoder()
started = False


def fold(value: bytes, key: str, timestamp: int, headers: Any, state: State) -> list[tuple[int, int, list[int]]]:
    """The states of the four windows after this event; nothing for an id that was seen before."""
    global started
    if not started:
        started = True
        print("ready", flush=True)
    event_id, quantity, hour = decode(value)
    if state.exists(event_id):
        return []
    state.set(event_id, 1)
    changed = []
    for period, start in usage.starts(hour):
        name = f"{period}:{start}"
        window = state.get(name)
        if window is None:
            window = [1, quantity, quantity, quantity]
        else:
            count, total, least, most = window
            window = [count + 1, total + quantity, min(least, quantity), max(most, quantity)]
        state.set(name, window)
        changed.append((period, start, window))
    return changed


class WindowSink(BatchingSink):
    """Writes the last state of each window with every checkpoint. A repeated checkpoint repeats the same rows."""

    def setup(self) -> None:
        self._target = usage.Target()

    def write(self, batch: SinkBatch) -> None:
        windows = {}
        for item in batch:
            period, start, state = item.value
            windows[item.key, period, start] = state
        self._target.insert(windows)


login = usage.kafka()
app = Application(
    broker_address=ConnectionConfig(
        bootstrap_servers=login["bootstrap.servers"],
        security_protocol="sasl_plaintext",
        sasl_mechanism="PLAIN",
        sasl_username=login["sasl.username"],
        sasl_password=login["sasl.password"],
    ),
    consumer_group=os.environ["PEER_GROUP"],
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    commit_interval=1.0,
    state_dir=os.environ["PEER_STATE"],
    loglevel="WARNING",
)
topic = app.topic(os.environ["PEER_TOPIC"], key_deserializer="str", value_deserializer="bytes")
frame = app.dataframe(topic).apply(fold, stateful=True, metadata=True, expand=True)
frame.sink(WindowSink())

if __name__ == "__main__":
    app.run()
