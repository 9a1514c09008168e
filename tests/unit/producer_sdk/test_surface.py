"""What an application sees: the names, their types, and how little comes with them."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
import typing
from pathlib import Path

import meterfold
import meterfold.errors
import meterfold_schemas
from meterfold_schemas import errors

PUBLIC = {
    "AsyncMeter",
    "BatchResults",
    "BufferFull",
    "DefinitionsUnavailable",
    "Delivery",
    "DeliveryCounts",
    "FlushTimeout",
    "InvalidSettings",
    "InvalidUsage",
    "Meter",
    "MeterClosed",
    "MeterfoldError",
    "MetricNotFound",
    "NotRecorded",
    "Recorded",
    "RefusedEvents",
    "Resolver",
    "Subject",
    "UndeliveredEvents",
    "UsageEvent",
    "WrongEventLoop",
}

CONSUMER = """
import asyncio
from datetime import datetime, timezone
from decimal import Decimal

from meterfold import (
    AsyncMeter, BufferFull, Delivery, FlushTimeout, Meter, Recorded, Subject, UndeliveredEvents, UsageEvent
)
from meterfold.testing import AsyncInMemoryMeter, InMemoryMeter


class User:
    name = "ada"


def on_delivery(report: Delivery) -> None:
    print(report.event_id, report.partition, report.offset, report.error)


def resolver(user: User) -> Subject | None:
    return Subject("user", user.name, "acme")


with Meter("localhost:9092", on_delivery=on_delivery, resolver=resolver, librdkafka={"ssl.ca.location": "x"}) as meter:
    event_id: str = meter.record("api.calls", ("user", "u-17"))
    meter.record("gpu.seconds", User(), Decimal("1.5"), id="x", metadata={"a": 1})
    meter.record("gpu.seconds", ("user", "u"), timestamp=datetime.now(timezone.utc))
    results = meter.record_batch([
        {"metric_key": "api.calls", "subject_type": "user", "subject_id": "u"},
        {"metric_key": "api.calls", "subject": ("user", "u")},
        {"metric_key": "api.calls", "subject": User()},
    ])
    first: Recorded = results[0]
    print(first.status, first.id, first.error, results.accepted, results.refused)
    try:
        meter.flush(5.0)
    except FlushTimeout as late:
        timeout: TimeoutError = late
        print(late.outstanding)
    except UndeliveredEvents as lost:
        print(lost.failed, [report.event_id for report in lost.failures])
        meter.record_batch(lost.events)
    except BufferFull as full:
        print(full.code)
    print(meter.counts.recorded, meter.counts.outstanding)


both: Meter[User | int] = Meter(resolvers={User: resolver, int: lambda number: Subject("team", number)})
both.record("api.calls", User())
both.record("api.calls", 7)


@both.resolver(User)
def again(user: User) -> Subject:
    return Subject("user", user.name)


def plain(meter: Meter) -> None:
    meter.record("api.calls", ("user", "ada"))


plain(Meter())
plain(meter)
plain(InMemoryMeter())


async def main() -> None:
    event: UsageEvent = {"metric_key": "api.calls", "subject": ("user", "ada")}
    async with AsyncMeter("localhost:9092", resolver=resolver) as meter:
        event_id: str = await meter.record("api.calls", User())
        report: Delivery = await meter.record("api.calls", ("user", "ada"), confirm=True)
        print(event_id, report.partition, report.offset, (await meter.record_batch([event])).accepted)
        await meter.flush(5.0)
    memory: AsyncMeter = AsyncInMemoryMeter()
    await memory.close()


asyncio.run(main())
"""

WRONG = """
from meterfold import AsyncMeter, Meter

meter = Meter()
meter.record("api.calls", "ada")
meter.record_batch([{"metric_key": "api.calls", "subject": "ada"}])
meter.record_batch([{"metric_key": "api.calls", "subject": ("user", "ada"), "quantitty": 1}])
meter.resolver(int)(lambda number: "ada")


async def main() -> None:
    await AsyncMeter().record("api.calls", "ada")
"""

FORBIDDEN = ("polars", "pyarrow", "numpy", "pandas", "clickhouse_connect", "chdb", "typer", "rich")


def test_the_public_names() -> None:
    assert set(meterfold.__all__) == PUBLIC
    assert all(hasattr(meterfold, name) for name in PUBLIC)


def test_public_things_are_documented() -> None:
    for name in PUBLIC - {"Resolver"}:
        assert inspect.getdoc(getattr(meterfold, name))
    for meter in (meterfold.Meter, meterfold.AsyncMeter):
        public = {name for name in dir(meter) if not name.startswith("_")}
        assert public == {"record", "record_batch", "flush", "close", "counts", "resolver", "trouble"}
        assert all(inspect.getdoc(getattr(meter, name)) for name in public)


def test_async_meter_takes_what_meter_takes() -> None:
    for name in ("__init__", "record", "record_batch", "flush", "close"):
        sync, awaited = (
            inspect.signature(getattr(meter, name)).parameters for meter in (meterfold.Meter, meterfold.AsyncMeter)
        )
        assert [awaited[parameter] for parameter in sync] == list(sync.values())
        assert set(awaited) - set(sync) == ({"confirm"} if name == "record" else set())


def test_every_error_is_a_meterfold_error_with_a_code() -> None:
    kinds: list[typing.Any] = [
        kind
        for module in (errors, meterfold.errors)
        for name in module.__all__
        if inspect.isclass(kind := getattr(module, name))
    ]
    assert all(issubclass(kind, errors.MeterfoldError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(set(kinds))


def test_a_timeout_is_a_timeout_error_and_shows_its_message() -> None:
    late = meterfold.FlushTimeout(2, 30.0, "broker away")
    assert isinstance(late, TimeoutError)
    assert str(late) == (
        "2 events have no report from the broker after 30 s and will still be sent; the last trouble was: broker away"
    )
    assert (late.outstanding, late.seconds, late.trouble) == (2, 30.0, "broker away")
    again = pickle.loads(pickle.dumps(late))  # noqa: S301
    assert (type(again), str(again), again.outstanding) == (type(late), str(late), 2)


def checked(program: str, folder: Path) -> str:
    """What mypy --strict prints."""
    consumer = folder / "consumer.py"
    consumer.write_text(program)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            folder / "cache",
            consumer,
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        env={"MYPYPATH": ":".join(str(Path(module.__path__[0]).parent) for module in (meterfold, meterfold_schemas))},
    ).stdout


def test_a_consumer_checks_under_strict_mypy_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    right = checked(CONSUMER, tmp_path)
    assert right.startswith("Success"), right
    wrong = checked(WRONG, tmp_path)
    lines = [line for line, text in enumerate(WRONG.splitlines(), 1) if '"ada"' in text]
    assert sorted(set(map(int, re.findall(r"consumer.py:(\d+): error", wrong)))) == lines, wrong


def test_the_sdk_brings_nothing_of_the_server(tmp_path: Path) -> None:
    program = (
        "import sys, meterfold, meterfold_schemas.definitions, meterfold_schemas.events, meterfold_schemas.settings\n"
        "meter = meterfold.Meter('localhost:1', librdkafka={'reconnect.backoff.ms': '1000'})\n"
        "import pkgutil, importlib, meterfold_schemas\n"
        "for package in (meterfold, meterfold_schemas):\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        if module.name != 'avro_columns':\n"  # for frames, an extra, and for the server
        "            importlib.import_module(f'{package.__name__}.{module.name}')\n"
        "meter.close(0)\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_importing_reads_and_starts_nothing(tmp_path: Path) -> None:
    """A broken settings file and variable must not break an import: nothing is read before a Meter is made."""
    (tmp_path / "meterfold.toml").write_text("not toml at all [")
    program = "import threading, meterfold; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"METERFOLD_NONSENSE": "1"},
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")
