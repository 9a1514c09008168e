"""Every page of the console and every query route beside millions of stored windows; limits, and open live views.

    python benchmarks/pages.py [--windows N] [--times N] [--keep FOLDER] [--only TEXT]

`make bench ARGS="--only pages"` does the same. No worker runs: ClickHouse makes the rows (see pages_stored.py).
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

import machine
import pages_stored
from meterfold_cli import console
from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.kafka.clients import Outgoing, publish
from meterfold_processor.kafka.clients import producer as make_producer
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.events import ThresholdState
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_schemas.topics import Topics
from meterfold_schemas.vocabulary import Action, Level
from meterfold_service import Metering
from meterfold_service.console.links import sign_in_link

WINDOWS = 10_000_000
TIMES = 30
LIVE_VIEWS = 1_000
LIMIT_CALLS = 3_000
STATES = 20_000
KEY = "k" * 32
AIM_PAGE, AIM_LIMITS = 0.2, 0.005
_OK = 200


@dataclass(frozen=True)
class Asked:
    """Wall seconds of each answer, and CPU seconds of ClickHouse and of the server for each."""

    seconds: list[float]
    clickhouse: float
    server: float

    def cells(self, what: str, aim: float) -> list[object]:
        p50, p99 = statistics.median(self.seconds), percentile(self.seconds)
        mark = "" if p99 <= aim else "over"
        cpu = [f"{value * 1e3:.0f}" for value in (self.clickhouse, self.server)]
        return [what, f"{p50 * 1e3:.0f}", f"{p99 * 1e3:.0f}", *cpu, mark]


HEADERS = ["", "p50 ms", "p99 ms", "ClickHouse CPU ms", "server CPU ms", "aim 200 ms"]


def percentile(seconds: list[float], part: float = 0.99) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def pages(subject: tuple[str, str, str], now: datetime) -> dict[str, str]:
    """Name -> path of each page."""
    org_id, metric_key, subject_id = subject
    one = {"subject_type": "user", "subject_id": subject_id, "org": org_id}
    month = {"period": "daily", "start": f"{pages_stored.first_day(now):%Y-%m-%d}", "metric": "api.calls"}
    return {
        "Overview": "/",
        "Overview, what needs a person": "/overview/attention",
        "Usage": "/usage",
        "Usage of one organization": f"/usage?{urlencode({**month, 'org': org_id})}",
        "Usage by subject": f"/usage?{urlencode({**month, 'org': org_id, 'period': 'monthly', 'group': 'subject'})}",
        "Usage, compared": f"/usage?{urlencode({**month, 'org': org_id, 'compare': 1})}",
        "Usage of one subject": f"/usage?{urlencode({**month, **one, 'metric': metric_key})}",
        "Records": f"/usage/records?{urlencode({**one, 'metric': metric_key, 'start': month['start']})}",
        "Subjects": "/subjects",
        "Subjects, a search": "/subjects?q=user-00012",
        "One subject": f"/subjects/one?{urlencode(one)}",
        "Metrics": "/metrics",
        "Change a metric": "/metrics/edit?key=api.calls",
        "Thresholds": "/thresholds",
        "Change a threshold": "/thresholds/edit?id=t-0",
        "Alerts": "/alerts",
        "Alerts that are pending": "/alerts?status=pending",
        "One alert": "/alerts/one?id=exceeded-50",
        "Overview, the busiest subjects": "/overview/busiest",
        "Periods": "/periods",
        "Periods, adjustments": "/periods/adjustments",
        "Verify": "/verify",
        "Rejected": "/rejected",
        "Deliveries": "/deliveries",
        "Tokens": "/tokens",
    }


def routes(subject: tuple[str, str, str], now: datetime) -> dict[str, str]:
    """Each query route with what it needs."""
    org_id, metric_key, subject_id = subject
    start = pages_stored.first_day(now).isoformat()
    org = {"org_id": org_id}
    one = {**org, "subject_type": "user", "subject_id": subject_id, "start": start}
    summary = f"/v1/usage/{metric_key}/summary"
    return {
        "/v1/metrics": "",
        "/v1/metrics/{key}": "/v1/metrics/api.calls",
        "/v1/usage/{metric_key}/summary, one subject": f"{summary}?{urlencode(one)}",
        "/v1/usage/{metric_key}/summary, one organization by day": (
            f"{summary}?{urlencode({**org, 'start': start, 'period': 'daily'})}"
        ),
        "/v1/usage/{metric_key}/records": f"/v1/usage/{metric_key}/records?{urlencode(one)}",
        "/v1/thresholds": "",
        "/v1/thresholds/{threshold_id}": "/v1/thresholds/t-0",
        "/v1/alerts": "",
        "/v1/alerts/{alert_id}": "/v1/alerts/exceeded-50",
        "/v1/periods": "",
        "/v1/periods/due": "",
        "/v1/periods/adjustments": "",
        "/v1/rejected": "",
        "/v1/rejected/count": "",
        "/v1/notifications": "",
        "/v1/notifications/endpoints": "",
        "/v1/notifications/{event_id}/tries": "/v1/notifications/exceeded-exceeded-7/tries",
        "/v1/tokens": "",
        "/v1/settings": "",
        "/v1/status": "",
    }


def report(stack: LocalStack, windows: int, times: int, only: str = "") -> None:
    """Fill the database of this size, serve it, measure and print."""
    prefix, database = "bench-pages.", f"bench_pages_{windows}"
    kafka, clickhouse = stack.kafka_settings(prefix), stack.clickhouse_settings(database)
    config = stack.data_dir / f"{database}.toml"
    write_settings(config, kafka, clickhouse)
    migrate_all(kafka, clickhouse, MigrationOptions(partition_count=pages_stored.PARTITIONS))
    subjects = pages_stored.fill(clickhouse, windows, console.say)
    tell_states(kafka, min(STATES, subjects))
    server = stack.spawn(
        "bench-pages-serve",
        command("serve"),
        {"METERFOLD_CONFIG": str(config), "METERFOLD_HTTP_TOKEN_KEY": KEY, "METERFOLD_HTTP_PORT": "0"},
    )
    url = server.wait_for_line("serve: ready", 60).split("listening on ")[1].split(";")[0].strip()
    with Metering(kafka=kafka, clickhouse=clickhouse, sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)) as metering:
        token = metering.tokens.create(name="bench", scopes=["admin"]).text
        link = sign_in_link(metering, url, name="bench", now=datetime.now(UTC))
    pids = (stack.clickhouse.process.pid, server.pid)
    subject, now = pages_stored.subject_of(subjects // 3), datetime.now(UTC)
    with httpx.Client(base_url=url, timeout=120) as browser:
        sign_in(browser, link)
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

        def page(path: str) -> None:
            _check(path, browser.get(path))

        _table("page", pages(subject, now), page, pids, times, only, windows)
    with httpx.Client(base_url=url, timeout=120, headers={"Authorization": f"Bearer {token}"}) as client:

        def route(path: str) -> None:
            _check(path, client.get(path))

        _table("query route", routes(subject, now), route, pids, times, only, windows)
    if not only or only in "limits":
        _limits(url, token, server)
    if not only or only in "live":
        asyncio.run(_live(url, cookies, server))
    stack.end(server)


def _table(
    what: str,
    paths: dict[str, str],
    ask: Callable[[str], None],
    pids: tuple[int, int],
    times: int,
    only: str,
    windows: int,
) -> None:
    rows = []
    for name, path in paths.items():
        if only.lower() in name.lower():
            rows.append(_repeated(lambda path=path or name: ask(path), pids, times).cells(name, AIM_PAGE))  # type: ignore[misc]
    if rows:
        console.say()
        console.table([f"{what}, {windows:,} windows", *HEADERS[1:]], rows)


def _repeated(ask: Callable[[], None], pids: tuple[int, int], times: int) -> Asked:
    """Once before, which opens connections."""
    ask()
    before = [machine.sample(pid).cpu for pid in pids]
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - begun)
    used = [(machine.sample(pid).cpu - cpu) / times for pid, cpu in zip(pids, before, strict=True)]
    return Asked(seconds, *used)


def _check(path: str, answer: httpx.Response) -> None:
    if answer.status_code != _OK:
        raise SystemExit(f"{path}: {answer.status_code} {answer.text[:500]}")


def sign_in(browser: httpx.Client, link: str) -> None:
    """Raises SystemExit if the link does not sign in."""
    form = browser.get(link)
    csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', form.text)
    text = re.search(r'name="link" value="([^"]+)"', form.text)
    if csrf is None or text is None:
        raise SystemExit(f"the link leads to no form: {form.text[:500]}")
    values = {"csrf": csrf[1], "link": text[1]}
    _check("/sign-in/link", browser.post("/sign-in/link", data=values, follow_redirects=True))


def tell_states(kafka: KafkaSettings, count: int) -> None:
    """The state of thresholds on this many subjects, which /v1/limits answers from."""
    now = datetime.now(UTC)
    states = []
    for number in range(count):
        org_id, metric_key, subject_id = pages_stored.subject_of(number)
        values: dict[str, Any] = {
            **dict.fromkeys(("crossing_approaching", "crossing_exceeded", "folded_through"), 1),
            **dict.fromkeys(("metric_position", "threshold_position"), 1),
            "threshold_id": "t-0",
            "name": "quota",
            "org_id": org_id,
            "metric_key": metric_key,
            "subject_type": "user",
            "subject_id": subject_id,
            "period_type": Period.MONTHLY,
            "occurred_at": now,
            "period_start": now,
            "period_end": now + timedelta(days=1),
            "level": Level.EXCEEDED,
            "action": Action.BLOCK,
            "value": Decimal(11),
            "threshold": Decimal(10),
            "warn_threshold": Decimal(8),
        }
        states.append(ThresholdState(**values))
    topic = Topics(kafka.topic_prefix).threshold_state
    messages = [Outgoing(topic, one.to_bytes(), one.key, n % pages_stored.PARTITIONS) for n, one in enumerate(states)]
    publish(make_producer(kafka), messages, 60)


def _limits(url: str, token: str, server: ManagedProcess) -> None:
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    headers = {"Authorization": f"Bearer {token}"}
    seconds: list[float] = []
    before = machine.sample(server.pid).cpu
    for number in range(LIMIT_CALLS):
        org_id, _, subject_id = pages_stored.subject_of(number % STATES)
        begun = time.perf_counter()
        link.request("GET", f"/v1/limits/user/{subject_id}?org_id={org_id}", headers=headers)
        answer = link.getresponse()
        body = answer.read()
        seconds.append(time.perf_counter() - begun)
        if answer.status != _OK:
            raise SystemExit(f"{answer.status}: {body[:300]!r}")
    cpu = (machine.sample(server.pid).cpu - before) / LIMIT_CALLS
    console.say()
    console.say(
        f"GET /v1/limits, {STATES:,} states in memory, one connection: p50 {statistics.median(seconds) * 1e3:.1f} ms, "
        f"p99 {percentile(seconds) * 1e3:.1f} ms, server {cpu * 1e6:.0f} us of CPU each; aim {AIM_LIMITS * 1e3:.0f} ms"
    )


async def _live(url: str, cookies: str, server: ManagedProcess) -> None:
    """Server-sent events to this many browsers, each of which has received two."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parts = urlsplit(url)
    before = machine.sample(server.pid)
    request = f"GET /live HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookies}\r\nAccept: text/event-stream\r\n\r\n"

    async def view() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request.encode())
        for _ in range(2):
            await reader.readuntil(b"event: totals")
        return writer

    open_views = [
        await asyncio.wait_for(asyncio.gather(*(view() for _ in range(100))), 120) for _ in range(LIVE_VIEWS // 100)
    ]
    begun = machine.sample(server.pid)
    await asyncio.sleep(10)
    after = machine.sample(server.pid)
    for writers in open_views:
        for writer in writers:
            writer.close()
    console.say()
    console.say(
        f"{LIVE_VIEWS:,} open live views: the server takes {after.memory / 1e6:.0f} MB, {before.memory / 1e6:.0f} MB "
        f"without, {(after.memory - before.memory) / LIVE_VIEWS / 1e3:.0f} kB each, and "
        f"{(after.cpu - begun.cpu) * 10:.0f} % of a core"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--times", type=int, default=TIMES, help="Requests of each page and route.")
    parser.add_argument("--keep", type=Path, help="Folder of the stack, for the next run.")
    parser.add_argument("--only", default="", help="Pages and routes whose name has this text; limits; live.")
    arguments = parser.parse_args()
    console.say(machine.describe())
    with (
        tempfile.TemporaryDirectory() as temporary,
        LocalStack(arguments.keep or temporary, kafka_port=0, clickhouse_port=0) as stack,
    ):
        report(stack, arguments.windows, arguments.times, arguments.only)


if __name__ == "__main__":
    main()
