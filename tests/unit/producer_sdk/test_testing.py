"""meterfold.testing and Meter(enabled=False): what the tests of an application rest on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from meterfold import AsyncMeter, Delivery, DeliveryCounts, InvalidSettings, InvalidUsage, Meter, MeterClosed, Subject
from meterfold.testing import AsyncInMemoryMeter, InMemoryMeter
from meterfold.testing.pytest_plugin import in_memory_async_meter, in_memory_meter  # noqa: F401

ADA, BOB = ("user", "ada"), ("user", "bob")


def test_what_was_recorded_is_kept_and_summed(in_memory_meter: InMemoryMeter) -> None:  # noqa: F811
    meter = in_memory_meter
    meter.record("api.calls", ADA, 3, id="a", org_id="acme", metadata={"route": "/x"})
    meter.record("api.calls", ADA, "0.5")
    meter.record("api.calls", BOB, 2)
    meter.record("api.calls", ADA, 3, id="a", org_id="acme")  # a repeat: kept, not counted
    meter.record("gpu.seconds", ("user", 7))
    assert [event.subject_id for event in meter.recorded] == ["ada", "ada", "bob", "ada", "7"]
    assert meter.recorded[0].metadata == '{"route":"/x"}'
    assert meter.total("api.calls") == Decimal("5.5")
    assert meter.total("api.calls", ADA) == Decimal("3.5")
    assert meter.total("api.calls", ADA, org_id="acme") == 3
    assert meter.total("unknown") == 0
    assert meter.totals("api.calls") == {ADA: Decimal("3.5"), BOB: Decimal(2)}
    assert meter.counts == DeliveryCounts(5, 5, 0)
    meter.clear()
    meter.assert_nothing_recorded()


def test_assertions_say_what_was_recorded_instead() -> None:
    meter = InMemoryMeter()
    with pytest.raises(AssertionError, match="nothing"):
        meter.assert_recorded("api.calls")
    meter.record("api.calls", ADA, 3, id="a")
    meter.assert_recorded("api.calls")
    meter.assert_recorded("api.calls", ADA, 3, times=1, id="a")
    meter.assert_recorded("api.calls", BOB, times=0)
    with pytest.raises(AssertionError, match=r"quantity=4.*at least once, found 0 of 1 event\.(.|\n)*\(user, ada\) 3"):
        meter.assert_recorded("api.calls", ADA, 4)
    with pytest.raises(AssertionError, match=r"exactly 2 times, found 1"):
        meter.assert_recorded("api.calls", ADA, times=2)
    with pytest.raises(AssertionError, match="expected no event"):
        meter.assert_nothing_recorded()


def rounding() -> dict[str, Any]:
    return {"rounding": "half_even"}


def rules() -> dict[str, Any]:
    return {"horizon_seconds": 3600, "future_tolerance_seconds": 60}


NOW = datetime.now(UTC)
WRONG: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"metric_key": "API"}),
    ({}, {"subject": "ada"}),
    ({}, {"subject": ("user", "")}),
    ({}, {"quantity": 0.12345678901}),
    ({}, {"quantity": True}),
    ({}, {"timestamp": NOW.replace(tzinfo=None)}),
    ({}, {"metadata": {1: 2}}),
    ({}, {"id": "x" * 513}),
    (rules(), {"timestamp": NOW - timedelta(days=1)}),
    (rules(), {"timestamp": NOW + timedelta(days=1)}),
]


@pytest.mark.parametrize(("options", "change"), WRONG)
def test_an_event_is_refused_exactly_as_the_real_meter_refuses_it(
    options: dict[str, Any], change: dict[str, Any]
) -> None:
    event = {"metric_key": "api.calls", "subject": ADA, **change}
    refusals = []
    for meter in (Meter("localhost:1", **options), InMemoryMeter(**options)):
        with pytest.raises(InvalidUsage) as caught:
            meter.record(**event)
        (result,) = meter.record_batch([event])
        assert type(result.error) is InvalidUsage
        refusals.append((caught.value.code, str(caught.value).split(" is too old")[0].split(" is in the future")[0]))
        assert meter.counts.recorded == 0
        meter.close()
    assert refusals[0] == refusals[1]


def test_it_takes_what_the_real_one_takes() -> None:
    meter = InMemoryMeter(resolver=lambda user: Subject("user", user), rounding="half_up", org_id="acme")
    meter.record("cpu.seconds", "resolved", 0.1234567895)
    assert (meter.recorded[0].org_id, meter.recorded[0].quantity) == ("acme", Decimal("0.123456790"))
    frame = pl.DataFrame({"metric_key": ["a", "b"], "subject_type": ["t", "t"], "subject_id": ["1", "2"]})
    assert meter.record_batch(frame).accepted == 2
    with pytest.raises(InvalidSettings):
        InMemoryMeter(rounding="up")  # type: ignore[arg-type]


def test_it_is_closed_and_reports_as_the_real_one() -> None:
    reports: list[Delivery] = []
    with InMemoryMeter(on_delivery=reports.append) as meter:
        meter.record("api.calls", ADA, id="a")
        meter.flush()
    assert [(report.event_id, report.delivered, report.offset) for report in reports] == [("a", True, 0)]
    with pytest.raises(MeterClosed):
        meter.record("api.calls", ADA)
    meter.assert_recorded("api.calls", times=1)


def test_in_asyncio(in_memory_async_meter: AsyncInMemoryMeter) -> None:  # noqa: F811
    async def main() -> None:
        async with in_memory_async_meter as meter:
            assert await meter.record("api.calls", ADA, id="a") == "a"
            report = await meter.record("api.calls", ADA, 2, id="b", confirm=True)
            assert (report.event_id, report.offset) == ("b", 1)
            assert (await meter.record_batch([{"metric_key": "api.calls", "subject": ADA}])).accepted == 1
            await meter.flush(1)
        with pytest.raises(MeterClosed):
            await meter.record("api.calls", ADA)
        assert meter.total("api.calls") == 4

    asyncio.run(main())


def test_it_reads_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERFOLD_CONFIG", "/nowhere.toml")
    monkeypatch.setenv("METERFOLD_SDK_ORG_ID", "production")
    meter = InMemoryMeter()
    meter.record("api.calls", ADA)
    assert meter.recorded[0].org_id == ""


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_disabled_meter_does_nothing_and_needs_no_broker(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "variable":
        monkeypatch.setenv("METERFOLD_SDK_ENABLED", "false")
    reports: list[Delivery] = []
    with Meter(enabled=False if how == "argument" else None, on_delivery=reports.append) as meter:
        assert meter.record("api.calls", ADA, id=7) == "7"
        assert len({meter.record("api.calls", ADA) for _ in range(3)}) == 3
        meter.record("NOT A KEY", object(), "not a number")  # type: ignore[arg-type]
        results = meter.record_batch([{"metric_key": "api.calls", "subject": ADA, "id": "a"}, {}])
        results.raise_refused()
        assert (results.accepted, results[0].id) == (2, "a")
        assert meter.record_batch(5).accepted == 0  # type: ignore[arg-type]
        meter.flush(1)
    assert (meter.counts, meter.trouble, reports) == (DeliveryCounts(0, 0, 0), None, [])
    meter.record("api.calls", ADA)  # also after close


def test_a_disabled_meter_in_asyncio() -> None:
    async def main() -> None:
        async with AsyncMeter(enabled=False) as meter:
            assert await meter.record("api.calls", ADA, id="a") == "a"
            report = await meter.record("api.calls", ADA, id="b", confirm=True)
            assert (report.event_id, report.partition) == ("b", None)
            assert (await meter.record_batch([{}])).accepted == 1
            await meter.flush(1)

    asyncio.run(main())


def test_pytest_is_needed_by_the_plugin_alone(tmp_path: Path) -> None:
    program = "import sys, meterfold, meterfold.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
