"""A notifier that can be told to end at a step of planning or sending. See fold_process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest import mock

from chaos import broken_notifiers
from chaos.points import Points
from meterfold_cli.commands.notify import snapshot
from meterfold_cli.logs import configure
from meterfold_cli.workers import run_worker
from meterfold_processor.kafka.clients import publish
from meterfold_processor.kafka.stored_start import StoredStart
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Sources, load_settings
from meterfold_service.notify import schedule, store, worker
from meterfold_service.notify.mails import MailSender
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.webhooks import WebhookSender
from meterfold_service.notify.worker import NotifyWorker
from meterfold_sink.client import connect
from meterfold_sink.notification_tries import BEGUN, PLANNED, TryRow
from meterfold_sink.notifications import DueDelivery

DELAYS: Final = (0.5, 1.0, 2.0, 3.0)
"""Seconds between tries: the shipped ones would make a run wait for hours."""

T = TypeVar("T")


def main(arguments: dict[str, Any]) -> None:
    configure(as_json=False, verbose=False)
    points = Points(Path(arguments["points"]), arguments["name"])
    sources = Sources.read()
    settings = load_settings(NotifySettings, "notify", sources=sources)
    kafka, clickhouse = KafkaSettings.load(sources=sources), ClickHouseSettings.load(sources=sources)
    with (
        mock.patch.object(store, "connect", partial(connect, timeout_seconds=arguments["timeout"])),
        mock.patch.object(schedule, "DELAYS", DELAYS),
        broken_notifiers.active(arguments.get("broken")),
        _watched(points),
    ):
        notifier = NotifyWorker(settings, kafka, clickhouse)
        run_worker("notify", notifier.run, lambda: snapshot(notifier.status))


@contextmanager
def _watched(points: Points) -> Iterator[None]:
    """Around whatever is there, also what is broken on purpose."""

    def around(step: str, call: Callable[[], T]) -> T:
        points.reached("before", step)
        answer = call()
        points.reached("after", step)
        return answer

    kept = store.ClickHouseStore
    write, progress, endpoint = kept.write, kept.write_progress, kept.write_endpoint
    commit = StoredStart.commit

    def watched_write(self: store.ClickHouseStore, rows: Sequence[TryRow]) -> None:
        around(_step_of(rows), lambda: write(self, rows))

    def watched_progress(self: store.ClickHouseStore, positions: Mapping[tuple[str, int], int]) -> None:
        around("WriteProgress", lambda: progress(self, positions))

    def watched_endpoint(self: store.ClickHouseStore, row: Any) -> None:
        around("WriteEndpoint", lambda: endpoint(self, row))

    def watched_commit(self: StoredStart, positions: Mapping[tuple[str, int], int], failing: str) -> None:
        around("CommitOffsets", lambda: commit(self, positions, failing))

    def watched_publish(*given: Any) -> None:
        around("PublishEndpoint", lambda: publish(*given))

    def sending(send: Any) -> Any:
        async def watched_send(self: Any, delivery: DueDelivery, now: datetime) -> Outcome:
            points.reached("before", "Send")
            outcome: Outcome = await send(self, delivery, now)
            points.reached("after", "Send")
            return outcome

        return watched_send

    with ExitStack() as patches:
        for owner, name, replacement in (
            (kept, "write", watched_write),
            (kept, "write_progress", watched_progress),
            (kept, "write_endpoint", watched_endpoint),
            (StoredStart, "commit", watched_commit),
            (worker, "publish", watched_publish),
            (MailSender, "send", sending(MailSender.send)),
            (WebhookSender, "send", sending(WebhookSender.send)),
        ):
            patches.enter_context(mock.patch.object(owner, name, replacement))
        yield


def _step_of(rows: Sequence[TryRow]) -> str:
    """Rows of several tries are one insert; it counts as the first one's."""
    stage = rows[0].stage
    return "WriteDeliveries" if stage == PLANNED else "WriteBegun" if stage == BEGUN else "WriteEnded"
