"""`Metering` on the whole real stack: define, record with the SDK, fold, read; and two callers at the same time."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from meterfold import Delivery, Meter
from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.transactions import Transactions
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.errors import InvalidUsage, Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import (
    Metering,
    MetricKeyExists,
    MetricNotFound,
    NotFoldedInTime,
    OperationError,
    ThresholdExists,
)
from meterfold_service.definition_log import DefinitionLog
from support import consume_all
from support.checker.installation import Installation
from support.checker.installation import running as checker
from support.cli import answer, inside, running
from support.paths import ROOT


@pytest.fixture
def env(stack_environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    answer("migrate", "--partitions", "2", env=stack_environment)
    with (
        running("check", env=stack_environment, folder=tmp_path, ready="check: ready"),
        running("fold", env=stack_environment, folder=tmp_path, ready="fold: ready"),
    ):
        yield stack_environment


def test_define_record_and_read_a_month_and_an_hour(env: dict[str, str], settings_file: Path) -> None:
    at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    month = at.replace(day=1, hour=0)
    delivered: list[Delivery] = []
    with Metering(config=settings_file) as metering:
        metric = metering.metrics.define(key="api.calls", name="API calls", unit="calls")
        assert metering.metrics.get("api.calls") == metric
        assert [one.key for one in metering.metrics.list().rows] == ["api.calls"]
        with mock.patch.dict(os.environ, env), Meter(on_delivery=delivered.append) as meter:
            meter.record("api.calls", ("user", "ada"), "2.5", id="one", timestamp=at)
            meter.record("api.calls", ("user", "ada"), 4, id="two", timestamp=at + timedelta(minutes=1))
            meter.record("api.calls", ("user", "bob"), 10, id="three", timestamp=at)
            meter.record("api.calls", ("user", "nil"), 3, id="plus", timestamp=at)
            meter.record("api.calls", ("user", "nil"), -3, id="minus", timestamp=at)

        # What was just recorded is there, without a sleep.
        (row,) = metering.usage.get_summary("api.calls", period="monthly", start=month, at_least=delivered).rows
        assert (row.total_quantity, row.record_count, row.period_start) == (Decimal("16.5"), 5, month)
        ada = ("user", "ada")
        (row,) = metering.usage.get_summary(
            "api.calls", period="hourly", start=at, end=at + timedelta(hours=1), subject=ada
        ).rows
        assert (row.total_quantity, row.record_count, row.max_quantity, row.last_quantity) == (Decimal("6.5"), 2, 4, 4)
        assert (row.period_start, row.period_end) == (at, at + timedelta(hours=1))
        top = metering.usage.get_summary("api.calls", start=month, by_subject=True, top=2)
        assert [(row.subject_id, row.total_quantity) for row in top.rows] == [("bob", 10), ("ada", Decimal("6.5"))]
        # Nothing was recorded is not the same as 0.
        (zero,) = metering.usage.get_summary("api.calls", start=month, subject=("user", "nil")).rows
        assert (zero.total_quantity, zero.record_count) == (0, 2)
        nobody = ("user", "nobody")
        assert metering.usage.get_summary("api.calls", start=month, subject=nobody).rows == ()
        end = (month + timedelta(days=32)).replace(day=1)  # in the first hour of a month, `month` is the one before
        (empty,) = metering.usage.get_summary("api.calls", start=month, end=end, subject=nobody, empty=True).rows
        assert (empty.total_quantity, empty.record_count) == (None, 0)

        first = metering.usage.get("api.calls", ada, start=at, end=at + timedelta(hours=1), limit=1)
        assert ([one.id for one in first.records], first.total, first.total_quantity) == (["one"], 2, Decimal("6.5"))
        second = metering.usage.get("api.calls", ada, start=at, limit=1, cursor=first.cursor)
        assert [one.id for one in second.records] == ["two"]
        assert second.cursor is None

        with pytest.raises(MetricNotFound) as missing:
            metering.usage.get_summary("api.cals", start=month)
        assert (missing.value.key, missing.value.similar) == ("api.cals", "api.calls")
        with pytest.raises(InvalidUsage, match="cursor 'x' does not come from an earlier page"):
            metering.usage.get("api.calls", ada, start=at, cursor="x")

        changed = metering.metrics.update("api.calls", aggregation_type="max")
        assert changed.version > metric.version
        (row,) = metering.usage.get_summary("api.calls", start=month).rows
        assert row.total_quantity == 10
        metering.metrics.delete("api.calls")
        with pytest.raises(MetricNotFound):
            metering.metrics.get("api.calls")

    hurried = Metering(config=settings_file, wait_seconds=0.2)
    ahead = Delivery("x", partition=0, offset=10**6)
    with pytest.raises(NotFoldedInTime, match=r"offset 1000000 of partition 0 is not folded after 0\.2 s"):
        hurried.usage.get("api.calls", ada, start=at, at_least=ahead)


def test_an_asyncio_application_calls_it_in_threads(env: dict[str, str], settings_file: Path) -> None:
    async def application() -> list[MetricDefinition]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        with Metering(config=settings_file) as metering:
            ticking = asyncio.create_task(tick())
            keys = ("one", "two", "three")
            made = await asyncio.gather(
                *(asyncio.to_thread(metering.metrics.define, key=key, name=key, unit="x") for key in keys)
            )
            page = await asyncio.to_thread(metering.metrics.list)
            ticking.cancel()
        assert {one.key for one in page.rows} == set(keys)
        assert ticks > 10, "the loop stood still"
        return made

    assert [one.key for one in asyncio.run(application())] == ["one", "two", "three"]


def test_usage_on_the_command_line(env: dict[str, str]) -> None:
    defined = ("metric", "define", "api.calls", "--name", "API calls", "--unit", "calls", "--dimension", "route")
    assert answer(*defined, env=env)["dimensions"] == ["route"]
    assert "dimensions        route" in inside("metric", "get", "api.calls", env=env).stdout
    now = datetime.now(UTC)
    with mock.patch.dict(os.environ, env), Meter() as meter:
        meter.record("api.calls", ("user", "ada"), "1.5", id="one", metadata={"route": "/a"})
        meter.record("api.calls", ("user", "a:b"), 4, id="two")
    answer("status", "--wait", "60", env=env, code=None)
    month = ("--month", f"{now:%Y-%m}")
    page = answer("usage", "summary", "api.calls", *month, env=env)
    assert [(row["period_start"], row["total_quantity"]) for row in page["rows"]] == [
        (f"{now:%Y-%m}-01T00:00:00Z", "5.5")
    ]
    by_day = ("--by", "day", "--tz", "Asia/Kathmandu", "--since", "1d", "--empty", "--subject", "user:a:b")
    days = answer("usage", "summary", "api.calls", *by_day, env=env)["rows"]
    assert [row["total_quantity"] for row in days][-1:] == ["4"]
    assert days[0]["total_quantity"] is None
    shown = inside("usage", "summary", "api.calls", "--top", "1", env=env)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[1].split()[:5] == [f"{now:%Y-%m}", "user", "a:b", "4", "1"]
    drawn = inside(
        "usage", "summary", "api.calls", "--by", "day", "--since", "1d", "--plot", env={**env, "COLUMNS": "40"}
    )
    yesterday, today = drawn.stdout.splitlines()
    assert yesterday == f"{now - timedelta(days=1):%Y-%m-%d}{'-':>30}"
    assert today == f"{now:%Y-%m-%d} {'█' * 25} 5.5", drawn
    groups = inside("usage", "summary", "api.calls", "--by", "day", "--by-subject", "--plot", env=env).stdout
    assert [line for line in groups.splitlines() if "█" not in line] == ["user a:b", "user ada"]
    records = inside("usage", "get", "api.calls", "--subject", "user:ada", "--since", "1h", "--limit", "1", env=env)
    assert ('{"route":"/a"}' in records.stdout, "1 of 1, total 1.5" in records.stderr) == (True, True)
    assert "--cursor" not in records.stderr, "there is no other page"
    (by_route,) = answer(
        *("usage", "summary", "api.calls", "--every-org", "--group-by", "route", "--top", "1", "--unique", "subject"),
        *("--where", "route=/a", "--where", "route=/b"),
        env=env,
    )["rows"]
    assert (by_route["group"], by_route["total_quantity"], by_route["unique_count"]) == ({"route": "/a"}, "1.5", 1)
    table = inside("usage", "summary", "api.calls", "--group-by", "route", "--missing", "route", env=env)
    assert table.stdout.splitlines()[0].split()[:4] == ["period", "route", "total", "records"]
    assert table.stdout.splitlines()[1].split()[:4] == [f"{now:%Y-%m}", "-", "4", "1"]
    some = answer("usage", "get", "api.calls", "--subject", "user:ada", "--where", "route=/b", env=env)
    assert (some["total"], some["total_quantity"]) == (0, None)
    nothing = inside("usage", "get", "api.calls", "--subject", "user:nobody", env=env)
    assert (nothing.returncode, "nothing was recorded" in nothing.stderr) == (0, True)
    for arguments, code, words in (
        (("summary", "api.cals"), 1, "did you mean 'api.calls'?"),
        (("summary", "api.calls", "--tz", "Europe/Bärlin"), 2, "time zone 'Europe/Bärlin' is not known"),
        (("summary", "api.calls", "--plot", "--json"), 2, "--plot conflicts with --json"),
        (("summary", "api.calls", "--by", "billing"), 2, "needs an anchor"),
        (("summary", "api.calls", "--where", "route"), 2, "--where 'route' must be FIELD=VALUE"),
        (("summary", "api.calls", "--every-org", "--org", ""), 2, "--every-org conflicts with --org"),
        (("summary", "api.calls", "--group-by", "route", "--empty"), 2, "empty periods are shown of one subject"),
        (("get", "api.calls", "--subject", "ada"), 2, "--subject 'ada' must be TYPE:ID"),
        (("get", "api.calls", "--subject", "user:ada", "--since", "x"), 2, "--since 'x' must be a number with"),
    ):
        done = inside("usage", *arguments, env=env)
        assert (done.returncode, words in done.stderr) == (code, True), (arguments, done.stderr)

    with mock.patch.dict(os.environ, env), Meter() as meter:
        for view in ("first", "second"):
            meter.record("page.views", ("user", "ada"), id=view)
    answer("status", "--wait", "60", env=env, code=None)
    views = ("usage", "get", "page.views", "--subject", "user:ada", "--since", "1h")
    cursor = inside(*views, "--limit", "1", env=env).stderr.split("--cursor ")[1].strip()
    after = answer(*views, "--cursor", cursor, env=env)
    assert ([one["id"] for one in after["records"]], after["total"]) == (["second"], 2)


def test_the_pages_about_usage_and_the_python_client_run_from_top_to_bottom(env: dict[str, str]) -> None:
    names: dict[str, Any] = {}
    for page in ("usage.md", "python.md", "alerts.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            with mock.patch.dict(os.environ, env):
                if language == "python":
                    code = compile(block, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    # As in an application, a block goes on with what the one before it has made.
                    waiting = eval(code, names)  # noqa: S307
                    if waiting is not None:
                        asyncio.run(waiting)
                    continue
            for line in block.splitlines():
                command, *arguments = shlex.split(line, comments=True)
                assert command == "meterfold"
                done = inside(*arguments, env=env)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert names["page"].rows[-1].record_count == 1
    assert names["metric"].name == "API calls"


@pytest.fixture
def there(kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


def at_once(there: Installation, calls: list[Callable[[Metering], Any]]) -> list[Any]:
    """What each call answers or raises, in callers of their own that have all read the topics before one of them
    writes."""
    have_read = threading.Barrier(len(calls), timeout=60)
    read = DefinitionLog._read
    first = threading.local()

    def read_together(self: DefinitionLog, *arguments: Any) -> Definitions:
        definitions = read(self, *arguments)
        if not getattr(first, "done", False):
            first.done = True
            have_read.wait()
        return definitions

    def run(call: Callable[[Metering], Any]) -> Any:
        with Metering(kafka=there.kafka, clickhouse=there.clickhouse, wait_seconds=60) as metering:
            try:
                return call(metering)
            except OperationError as error:
                return error

    with mock.patch.object(DefinitionLog, "_read", read_together), ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_of_two_that_define_a_metric_at_once_one_wins_and_the_other_sees_it(there: Installation) -> None:
    def define(name: str) -> Callable[[Metering], Any]:
        return lambda metering: metering.metrics.define(key="api.calls", name=name, unit="calls")

    with checker(there, mirror=True):
        outcomes = at_once(there, [define(name) for name in ("one", "two", "three")])
        (won,) = [outcome for outcome in outcomes if isinstance(outcome, MetricDefinition)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, MetricKeyExists)]
        assert len(lost) == 2, outcomes
        assert [error.known for error in lost] == [won, won]
        messages = consume_all(there.kafka, there.topics.metric_defined)
        assert [message.offset() for message in messages] == [won.version]
        headers = dict(messages[0].headers() or ())
        assert (headers["ce_type"], headers["ce_subject"]) == (b"metric.defined", b"api.calls")
        assert headers["ce_id"] == won.event_id.encode()
        (row,) = there.client.rows("SELECT name, version FROM metric_definitions FINAL WHERE deleted = 0")
        assert (row["name"], row["version"]) == (won.name, won.version)
        # The same content at the same moment is one definition for both.
        same = at_once(there, [lambda metering: metering.metrics.define(key="b", name="b", unit="x")] * 2)
        assert same[0] == same[1]
        assert len(consume_all(there.kafka, there.topics.metric_defined)) == 2


@pytest.mark.parametrize("happened", [False, True])
def test_a_commit_whose_answer_is_lost_is_settled_and_not_repeated(there: Installation, happened: bool) -> None:
    commit = Transactions.commit
    lost: list[str] = []

    def once_without_answer(self: Transactions) -> None:
        if happened:
            commit(self)
        if not lost:
            lost.append("an answer")
            raise Retryable("Kafka, committing a transaction: Broker: Unknown broker error")
        if not happened:
            commit(self)

    with checker(there, mirror=True), Metering(kafka=there.kafka, clickhouse=there.clickhouse) as metering:
        with mock.patch.object(Transactions, "commit", once_without_answer):
            defined = metering.metrics.define(key="api.calls", name="Calls", unit="calls")
            assert lost
            lost.clear()
            metering.metrics.delete("api.calls")
            assert lost
        (first, second) = consume_all(there.kafka, there.topics.metric_defined)
        assert (first.offset(), first.value() is None) == (defined.version, False)
        assert (second.key(), second.value()) == (first.key(), None)


def test_of_two_that_create_a_threshold_at_once_one_wins_and_the_other_sees_it(there: Installation) -> None:
    def create(value: int) -> Callable[[Metering], Any]:
        return lambda metering: metering.thresholds.create(metric_key="api.calls", name="quota", threshold=value)

    with checker(there, mirror=True):
        with Metering(kafka=there.kafka, clickhouse=there.clickhouse) as metering:
            metering.metrics.define(key="api.calls", name="Calls", unit="calls")
        outcomes = at_once(there, [create(10), create(20)])
        (won,) = [outcome for outcome in outcomes if isinstance(outcome, UsageThreshold)]
        (lost,) = [outcome for outcome in outcomes if isinstance(outcome, ThresholdExists)]
        assert lost.known == won
        assert [(one.field, one.known) for one in lost.differences] == [("threshold", won.threshold)]
        (row,) = there.client.rows("SELECT id FROM thresholds FINAL WHERE deleted = 0")
        assert row["id"] == won.id
        headers = dict(consume_all(there.kafka, there.topics.threshold_defined)[0].headers() or ())
        assert (headers["ce_type"], headers["ce_subject"]) == (b"threshold.defined", won.id.encode())
        assert headers["ce_id"] == won.event_id.encode()
        # Two changes at once: the one that comes second is made of what the first one left.
        outcomes = at_once(
            there,
            [
                lambda metering: metering.thresholds.update(won.id, name="limit"),
                lambda metering: metering.thresholds.update(won.id, action="block"),
            ],
        )
        newest = max(outcomes, key=lambda threshold: threshold.version)
        assert (newest.name, newest.action) == ("limit", "block")
