"""Servers that go away under the checker: it goes on by itself afterwards, and nothing is lost or repeated."""

from __future__ import annotations

from meterfold_local.stack import LocalStack
from meterfold_schemas.periods import KEPT
from meterfold_sink.client import connect
from support import eventually
from support.checker.installation import Installation, running

UP = ("approaching approaching", "exceeded exceeded")


def test_clickhouse_and_kafka_are_killed(own_stack: LocalStack) -> None:
    settings = own_stack.clickhouse_settings("checker")
    connect(settings, create_database=True).close()
    there = Installation(own_stack.kafka_settings("down."), settings)
    there.define_metric()
    there.define_threshold()
    with running(there, mirror=True) as checker:
        checker.ready(2)
        there.use(60)
        name = lifetime(there)
        there._add(name, 70 * 10**9, 1, there.windows[name]["time"])
        there.offsets[0] = 2
        row = there.table([name])
        there.writer.insert("usage_windows", row)
        own_stack.clickhouse.kill()

        # Rows that arrive are judged without ClickHouse.
        there.publish(0, row)
        expected = [("t1", "u1", event, 1) for event in UP]
        there.seen_soon(expected)

        # A definition waits for it.
        there.define_threshold("t2", 130)
        eventually(lambda: "windows" in checker.worker.status.errors, 30, "the trouble shows")
        own_stack.clickhouse.restart()
        there.client = connect(settings)
        there.writer = type(there.writer)(there.client)
        expected += [("t2", "u1", event, 1) for event in UP]
        there.seen_soon(expected)
        eventually(lambda: not checker.worker.status.errors, 30, "all is well again")

        own_stack.kafka.kill()
        own_stack.kafka.restart(1)
        there.use(-129)
        expected += [(t, "u1", f"cleared {level}", 1) for t in ("t1", "t2") for level in ("approaching", "exceeded")]
        there.seen_soon(expected)
        checker.ready(2)
        checker.end()
    there.close()


def lifetime(there: Installation) -> tuple[object, ...]:
    """The lifetime window of u1."""
    return next(name for name in there.windows if name[5] is KEPT[-1])
