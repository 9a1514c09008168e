"""`metering.alerts` and `meterfold alert` on the real stack: what the checker emits, and what people do about it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Barrier

import pytest

from meterfold_schemas import cloudevents
from meterfold_schemas.alert_actions import AlertActed
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import AlertNotFound, CheckerNotRunning, Metering
from meterfold_service.alerts.operations import UsageAlert
from support import consume_all, eventually
from support.checker.installation import Installation, running
from support.cli import answer, inside

PEOPLE = 6


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


def listed(metering: Metering, count: int) -> dict[tuple[str, str], UsageAlert]:
    """(subject, level) -> alert, once there are so many."""

    def there() -> dict[tuple[str, str], UsageAlert]:
        page = metering.alerts.list()
        assert (page.total, len(page.rows)) == (count, count), page
        return {(alert.subject_id, alert.level.value): alert for alert in page.rows}

    return eventually(there, 40, "the alerts are listed")


def test_alerts_are_listed_and_the_first_person_wins(
    there: Installation, settings_file: Path, stack_environment: dict[str, str]
) -> None:
    begun = datetime.now(UTC) - timedelta(minutes=1)
    there.define_metric()
    there.define_threshold(period_type=Period.LIFETIME)
    with ExitStack() as ending:
        metering = ending.enter_context(Metering(config=settings_file))
        checker = ending.enter_context(running(there, mirror=True))
        checker.ready(2)
        there.use(85)
        there.use(130, "u2", partition=1)
        alerts = listed(metering, 3)
        exceeded = alerts["u2", "exceeded"]
        assert (exceeded.status, exceeded.actual_value, exceeded.percentage_used) == ("pending", 130, Decimal(130))
        assert (exceeded.threshold_id, exceeded.org_id, exceeded.metric_key) == ("t1", "acme", "api.calls")
        assert metering.alerts.get(exceeded.id) == exceeded

        # Filters, and pages
        def ids(**filters: object) -> list[str]:
            return [alert.id for alert in metering.alerts.list(**filters).rows]  # type: ignore[arg-type]

        assert ids(level="exceeded") == ids(subject=("user", "u2"), level="exceeded", org_id="acme") == [exceeded.id]
        assert ids(subject=("user", "u1"), metric_key="api.calls", threshold_id="t1") == [
            alerts["u1", "approaching"].id
        ]
        assert len(ids(status="pending", since=begun)) == 3
        assert ids(since=datetime.now(UTC) + timedelta(days=1)) == ids(org_id="") == ids(metric_key="other") == []
        pages = [metering.alerts.list(limit=1, offset=number) for number in range(4)]
        assert [page.total for page in pages] == [3, 3, 3, 3]
        assert [row.id for page in pages for row in page.rows] == ids()
        for wrong in ({"status": "open"}, {"level": "none"}, {"limit": 0}, {"since": datetime(2026, 1, 1)}):  # noqa: DTZ001
            with pytest.raises(InvalidUsage):
                ids(**wrong)

        # Several people at the same moment, each with connections of their own
        together = Barrier(PEOPLE)
        own = [ending.enter_context(Metering(config=settings_file)) for _ in range(PEOPLE)]

        def acknowledge(number: int) -> UsageAlert:
            own[number].alerts.get(exceeded.id)  # connected
            together.wait(60)
            return own[number].alerts.acknowledge(exceeded.id, by=f"person {number}")

        with ThreadPoolExecutor(PEOPLE) as pool:
            answers = list(pool.map(acknowledge, range(PEOPLE)))
        assert len({(one.acknowledged_by, one.acknowledged_at) for one in answers}) == 1
        assert {one.status for one in answers} == {"acknowledged"}
        messages = consume_all(there.kafka, there.topics.alert_acted)
        first = AlertActed.from_bytes(messages[0].value())
        assert (first.by, first.occurred_at) == (answers[0].acknowledged_by, answers[0].acknowledged_at)
        source, at = "/meterfold/alerts", first.occurred_at
        headers = cloudevents.headers("alert.acted", first.event_id, source, at, exceeded.id)
        assert dict(messages[0].headers() or ()) == dict(headers)
        again = metering.alerts.acknowledge(exceeded.id, by="somebody late")
        assert again == answers[0]
        assert len(consume_all(there.kafka, there.topics.alert_acted)) == len(messages)  # nothing was left to decide

        # The command line
        env = stack_environment
        resolved = answer("alert", "resolve", exceeded.id, "--by", "bob", env=env)
        assert (resolved["status"], resolved["resolved_by"]) == ("resolved", "bob")
        assert resolved["acknowledged_by"] == first.by
        said = inside("alert", "resolve", exceeded.id, "--by", "eve", env=env)
        assert (said.returncode, "resolved by bob at" in said.stdout) == (0, True), said
        rows = answer("alert", "list", "--status", "pending", "--since", "1h", "--subject", "user:u2", env=env)
        assert [row["level"] for row in rows["rows"]] == ["approaching"]
        text = inside("alert", "list", "--metric", "api.calls", env=env)
        assert exceeded.id in text.stdout
        assert text.stderr.splitlines()[-1] == "3 of 3"
        missing = inside("alert", "acknowledge", "nothing", "--by", "bob", env=env)
        assert (missing.returncode, "there is no alert 'nothing'" in missing.stderr) == (1, True), missing
        with pytest.raises(AlertNotFound):
            metering.alerts.get("nothing")
        for name in ("", "x" * 513, "a\0b"):
            with pytest.raises(InvalidUsage, match="by "):
                metering.alerts.resolve(exceeded.id, by=name)

        # The value falls back
        there.use(-60)
        cleared = eventually(
            lambda: [alert for alert in metering.alerts.list(status="resolved").rows if alert.subject_id == "u1"],
            40,
            "the alert is cleared",
        )[0]
        assert (cleared.resolved_by, cleared.acknowledged_by) == (None, None)
        assert metering.alerts.acknowledge(cleared.id, by="ada") == cleared
        checker.end()

        # Without a checker nobody learns who was first; a repetition later does.
        hurried = ending.enter_context(Metering(config=settings_file, wait_seconds=0.2))
        last = alerts["u2", "approaching"].id
        with pytest.raises(CheckerNotRunning, match=r"acknowledge of alert .* is published"):
            hurried.alerts.acknowledge(last, by="ada")
        assert metering.alerts.get(last).status == "pending"
        ending.enter_context(running(there, mirror=True))
        assert metering.alerts.acknowledge(last, by="bob").acknowledged_by == "ada"
