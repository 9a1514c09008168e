"""What an application sees: the names, their types, and how little comes with them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import meterfold
import meterfold_schemas
from meterfold_schemas import errors

PUBLIC = {
    "BatchResults",
    "BufferFull",
    "Delivery",
    "DeliveryCounts",
    "DeliveryFailed",
    "Fatal",
    "FlushTimeout",
    "InvalidSettings",
    "InvalidUsage",
    "Meter",
    "MeterfoldError",
    "Recorded",
    "RefusedEvents",
    "Resolver",
    "Retryable",
    "Subject",
    "UndeliveredEvents",
}

CONSUMER = """
from datetime import datetime, timezone
from decimal import Decimal

from meterfold import BufferFull, Delivery, FlushTimeout, Meter, Recorded, Subject, UndeliveredEvents


def on_delivery(report: Delivery) -> None:
    print(report.event_id, report.partition, report.offset, report.error)


def resolver(thing: object) -> Subject | None:
    return Subject("user", str(thing), "acme")


with Meter("localhost:9092", on_delivery=on_delivery, resolver=resolver, librdkafka={"ssl.ca.location": "x"}) as meter:
    event_id: str = meter.record("api.calls", ("user", "u-17"))
    meter.record("gpu.seconds", object(), Decimal("1.5"), id="x", metadata={"a": 1})
    meter.record("gpu.seconds", ("user", "u"), timestamp=datetime.now(timezone.utc))
    results = meter.record_batch([{"metric_key": "api.calls", "subject_type": "user", "subject_id": "u"}])
    first: Recorded = results[0]
    print(first.status, first.id, first.error, results.accepted, results.refused)
    try:
        meter.flush(5.0)
    except FlushTimeout as late:
        print(late.outstanding)
    except UndeliveredEvents as lost:
        print(lost.failed, [report.event_id for report in lost.failures])
    except BufferFull as full:
        print(full.code)
    print(meter.counts.recorded, meter.counts.outstanding)
"""

FORBIDDEN = ("polars", "pyarrow", "numpy", "pandas", "clickhouse_connect", "chdb", "typer", "rich")


def test_the_public_names() -> None:
    assert set(meterfold.__all__) == PUBLIC
    assert all(hasattr(meterfold, name) for name in PUBLIC)


def test_public_things_are_documented() -> None:
    for name in PUBLIC - {"Resolver"}:
        assert inspect.getdoc(getattr(meterfold, name))
    public = [name for name in vars(meterfold.Meter) if not name.startswith("_")]
    assert public == ["record", "record_batch", "flush", "close", "counts", "trouble"]
    assert all(inspect.getdoc(getattr(meterfold.Meter, name)) for name in public)


def test_every_error_is_a_meterfold_error_with_a_code() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if inspect.isclass(getattr(errors, name))]
    kinds += [meterfold.FlushTimeout, meterfold.UndeliveredEvents]
    codes = [kind.code for kind in kinds if kind is not meterfold.UndeliveredEvents]
    assert all(issubclass(kind, errors.MeterfoldError) for kind in kinds)
    assert len(set(codes)) == len(codes)


def test_a_consumer_checks_under_strict_mypy(tmp_path: Path) -> None:
    consumer = tmp_path / "consumer.py"
    consumer.write_text(CONSUMER)
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            tmp_path / "cache",
            consumer,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        env={"MYPYPATH": ":".join(str(Path(module.__path__[0]).parent) for module in (meterfold, meterfold_schemas))},
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_sdk_brings_nothing_of_the_server(tmp_path: Path) -> None:
    program = (
        "import sys, meterfold, meterfold_schemas.definitions, meterfold_schemas.events, meterfold_schemas.settings\n"
        "meter = meterfold.Meter('localhost:1', librdkafka={'reconnect.backoff.ms': '1000'})\n"
        "import pkgutil, importlib, meterfold_schemas\n"
        "for package in (meterfold, meterfold_schemas):\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'{package.__name__}.{module.name}')\n"
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
