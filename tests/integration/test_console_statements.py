"""What pages and query routes ask ClickHouse: a few statements each, however many rows there are, which read what the
sort key finds. No time is measured here: `make bench ARGS="--only pages"` does that with 10 million windows."""

from __future__ import annotations

import csv
import html
import io
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

import meterfold_service
from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.console.links import sign_in_link
from meterfold_service.http.app import create_app
from meterfold_service.http.context import HttpService
from meterfold_service.http.settings import HttpSettings
from meterfold_service.tokens.authentication import Authentication
from meterfold_sink.client import connect
from meterfold_sink.migrate import migrate
from meterfold_sink.reads import write_settings_once
from meterfold_sink.rules import FoldRules
from support.http_server import KEY
from support.http_world import patient
from support.paths import ROOT
from support.statements import Statement, statements

sys.path.append(str(ROOT / "benchmarks"))
import pages
import pages_stored

URL = "http://127.0.0.1:8888"
SUBJECTS = 40_000
WINDOWS = SUBJECTS * pages_stored.PER_SUBJECT
NOW = datetime.now(UTC)
SUBJECT = pages_stored.subject_of(SUBJECTS // 3)
#: What neither asks ClickHouse alone nor is asked often.
LEFT_OUT = {"Overview, what needs a person", "/v1/status"}


@pytest.fixture(scope="module")
def filled(stack: LocalStack) -> Iterator[ClickHouseSettings]:
    settings = stack.clickhouse_settings("console_statements")
    rules = FoldRules(cluster_id="cluster", topic_id="topic", partition_count=pages_stored.PARTITIONS)
    with connect(settings, create_database=True) as client:
        migrate(client, rules)
        write_settings_once(client, rules)
        pages_stored.fill(settings, WINDOWS, lambda text: None)
        yield settings
        client.command(f"DROP DATABASE {settings.database}")


@pytest.fixture
def metering(kafka_settings: KafkaSettings, filled: ClickHouseSettings) -> Iterator[Metering]:
    sources = Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)
    with Metering(kafka=kafka_settings, clickhouse=filled, sources=sources) as found:
        yield found


@pytest.fixture
def browser(metering: Metering) -> Iterator[TestClient]:
    """Signed in."""
    authentication = Authentication(metering.tokens, lambda: NOW, lambda: 0.0)
    app = create_app(patient(HttpService(metering, authentication, HttpSettings(token_key=SecretStr(KEY)))))
    app.state.desk.spent._clock = lambda: 0.0
    with TestClient(app, base_url=URL) as found:
        pages.sign_in(found, sign_in_link(metering, URL, name="ada", now=datetime.now(UTC)))
        yield found


def asked(browser: TestClient, path: str, **headers: str) -> list[Statement]:
    """What a page asks when the session is known."""
    with statements() as found:
        answer = browser.get(path, headers=headers)
    assert answer.status_code == 200, (path, answer.text)
    return [one for one in found if one.sql != "SELECT 1"]  # which opens a connection


#: page -> the most statements, and the most rows that they may read of 200,000 windows and 84,000 events of thresholds.
PAGES = {
    "Overview": (1, 10),
    "Overview, the busiest subjects": (1, 70_000),
    "Usage": (3, 130_000),
    "Usage of one organization": (3, 130_000),
    "Usage by subject": (3, 180_000),
    "Usage, compared": (5, 210_000),
    "Usage of one subject": (3, 20_000),
    "Records": (3, 90_000),
    "Subjects": (2, 130_000),
    "Subjects, a search": (2, 130_000),
    "One subject": (7, 420_000),
    "Metrics": (3, 170_000),
    "Change a metric": (1, 100),
    "Thresholds": (9, 350_000),
    "Change a threshold": (1, 5_000),
    "Alerts": (2, 200_000),
    "Alerts that are pending": (2, 200_000),
    "One alert": (3, 400_000),
    "Periods": (6, 180_000),
    "Periods, adjustments": (1, 1_200_000),
    "Verify": (1, 10),
    "Rejected": (7, 50_000),
    "Deliveries": (4, 450_000),
    "Tokens": (1, 10),
}


def test_every_page_asks_a_few_statements_that_read_little(browser: TestClient) -> None:
    browser.get("/metrics")
    paths = pages.pages(SUBJECT, NOW)
    assert PAGES.keys() == paths.keys() - LEFT_OUT
    found = {name: asked(browser, paths[name]) for name in PAGES}
    counts = {name: (len(some), sum(one.rows for one in some)) for name, some in found.items()}
    over = {name: count for name, count in counts.items() if count[0] > PAGES[name][0] or count[1] > PAGES[name][1]}
    assert not over, (over, counts)


def test_a_subject_has_the_totals_of_each_metric_in_two_statements(metering: Metering) -> None:
    org_id, metric_key, subject_id = SUBJECT
    subject = ("user", subject_id)
    month = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    with statements() as found:
        (one,) = metering.usage.metrics_of(subject, org_id=org_id)
    assert len(found) <= 3  # one of them opens the connection
    (summary,) = metering.usage.get_summary(metric_key, start=month, subject=subject, org_id=org_id).rows
    assert one.metric is not None
    assert one.metric_key == metric_key
    assert (one.month_total, one.month_records) == (summary.total_quantity, summary.record_count)
    assert metering.usage.metrics_of(subject, org_id="other") == []


def test_subjects_are_those_used_last_also_where_few_windows_are_looked_at(metering: Metering) -> None:
    with metering.clients.client() as client:
        newest = client.rows(
            "SELECT subject_id, max(last_timestamp) AS used FROM usage_windows WHERE period_type = 'lifetime' "
            "GROUP BY subject_id ORDER BY used DESC, subject_id LIMIT 20"
        )
    found = metering.usage.subjects(limit=20)
    assert [(one.subject_id, one.last_used, one.metrics) for one in found] == [
        (row["subject_id"], row["used"], 1) for row in newest
    ]
    assert [one.subject_id for one in metering.usage.subjects("user-0000012", limit=5)] == ["user-0000012"]


def test_usage_without_a_definition_is_found_and_nothing_else(metering: Metering) -> None:
    assert metering.metrics.list(limit=1).undefined == ()
    with metering.clients.client() as client:
        client.command(
            "INSERT INTO usage_windows SELECT 'org-01', 'api.cals', 'user', 'ada', 'monthly', "
            "toDateTime64(toStartOfMonth(now('UTC')), 6, 'UTC'), 0, 5, 7, 1, 2, 3, now64(6, 'UTC'), 4, number "
            "FROM numbers(2)"
        )
    (one,) = metering.metrics.list(limit=1).undefined
    assert (one.key, one.organizations, one.records, one.guess) == ("api.cals", ("org-01",), 5, "api.calls")


def code(page: str, number: int) -> str:
    """The text of one of the fields that can be copied: SQL, curl, Python."""
    (found,) = re.findall(rf'<code id="c-{number}">(.*?)</code>', page, re.DOTALL)
    return html.unescape(found)


ORG = f"org={SUBJECT[0]}"


@pytest.mark.parametrize(
    "query",
    [
        "period=monthly",
        "period=lifetime",
        "period=billing&anchor=15&tz=Europe/Berlin",
        f"period=monthly&{ORG}",
        f"period=monthly&{ORG}&group=subject",
        f"period=monthly&metric={SUBJECT[1]}&{ORG}&subject_type=user&subject_id={SUBJECT[2]}",
    ],
)
def test_what_is_copied_and_downloaded_is_what_the_page_shows(
    browser: TestClient,
    metering: Metering,
    filled: ClickHouseSettings,
    query: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    query = query if "metric=" in query else f"metric={SUBJECT[1]}&{query}"
    page = browser.get(f"/usage?{query}").text
    shown = sorted(Decimal(total) for total in re.findall(r'<tr data-x="[^"]*" data-y="([^"]+)"', page))
    assert shown
    words = shlex.split(code(page, 2).replace("\\\n", ""))
    token = metering.tokens.create(name="reader", scopes=["read"]).text
    answer = browser.get(words[-1].removeprefix(URL), headers={"Authorization": f"Bearer {token}"})
    assert sorted(Decimal(row["total_quantity"]) for row in answer.json()["data"]) == shown

    @contextmanager
    def opened() -> Iterator[Metering]:
        yield metering

    monkeypatch.setattr(meterfold_service, "Metering", opened)
    capsys.readouterr()
    exec(code(page, 3), {})  # what the page offers to a person  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) == len(shown)
    if 'id="c-1"' in page:
        with connect(filled) as client:
            rows = client.rows(code(page, 1))
        assert sorted(next(row[name] for name in ("total_quantity", "total") if name in row) for row in rows) == shown
    file = browser.get(f"/usage/download?{query}")
    assert file.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    totals = Counter(Decimal(row["total_quantity"]) for row in csv.DictReader(io.StringIO(file.text)))
    if "group=subject" in query:
        assert len(shown) == 2 * 20, "of each month"
        assert totals.total() > 100
        assert not Counter(shown) - totals, "the largest are in the file, too"
    else:
        assert sorted(totals.elements()) == shown
