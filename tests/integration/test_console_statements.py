"""What pages and query routes ask ClickHouse: a few statements each, however many rows there are, which read what the
sort key finds. No time is measured here: `make bench ARGS="--only pages"` does that with 10 million windows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

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
from support.http_world import bearer, patient
from support.paths import ROOT
from support.statements import Statement, statements

sys.path.append(str(ROOT / "benchmarks"))
import pages  # noqa: E402
import pages_stored  # noqa: E402

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
def metering(kafka_settings: KafkaSettings, filled: ClickHouseSettings) -> Metering:
    return Metering(kafka=kafka_settings, clickhouse=filled, sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None))


@pytest.fixture
def browser(metering: Metering) -> Iterator[TestClient]:
    """Signed in."""
    authentication = Authentication(metering.tokens, lambda: NOW, lambda: 0.0)
    app = create_app(patient(HttpService(metering, authentication, HttpSettings(token_key=SecretStr(KEY)))))
    app.state.desk.spent._clock = lambda: 0.0
    with TestClient(app, base_url=URL) as found:
        form = found.get(sign_in_link(metering, URL, name="ada", now=NOW))
        values = {name: re.findall(rf'name="{name}" value="([^"]+)"', form.text)[0] for name in ("csrf", "link")}
        found.post("/sign-in/link", data=values)
        yield found


def asked(browser: TestClient, path: str, **headers: str) -> list[Statement]:
    """What a page asks when the session is known."""
    with statements() as found:
        answer = browser.get(path, headers=headers)
    assert answer.status_code == 200, (path, answer.text)
    return found


#: page -> the most statements, and the most rows that they may read of 200,000 windows.
PAGES = {name: (0, 0) for name in pages.pages(SUBJECT, NOW)}


def test_every_page_asks_a_few_statements_that_read_little(browser: TestClient) -> None:
    browser.get("/metrics")
    found = {}
    for name, path in pages.pages(SUBJECT, NOW).items():
        if name not in LEFT_OUT:
            one = asked(browser, path)
            found[name] = (len(one), sum(statement.rows for statement in one))
    print(found)
