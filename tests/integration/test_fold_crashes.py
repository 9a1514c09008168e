"""SIGKILL of a fold worker, at random moments and at every step of its flush: what is folded in the end is exact."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import get_args

import pytest

from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_processor.fold.flush import Operation, Step
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support.fold import (
    Flow,
    Installation,
    Outgoing,
    Running,
    check,
    dying_worker,
    event,
    fold_environment,
    running,
    started,
)
from support.fold.installation import DEADLINE
from support.seeds import seed_of

STEPS: tuple[str, ...] = get_args(Step)
KILLS = 3


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings)
    yield made
    made.close()


def test_sigkill_at_random_moments_while_events_flow(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    seed = seed_of("kills at random moments")
    moments = random.Random(seed)
    with Flow(installation, seed):
        for number in range(KILLS):
            # A group of its own, so that nobody waits for the session of the one before: the progress row decides.
            settings = {"group_id": f"fold-{number}", "batch_events": 150}
            environment = fold_environment(installation, tmp_path, stack_environment, **settings)
            worker = ManagedProcess("fold", command("fold"), tmp_path / "fold.log", env=environment)
            before = installation.folded()
            worker.start()
            try:
                worker.wait_until(lambda start=before: installation.folded() > start, DEADLINE, "folding")
                Event().wait(moments.random() * 0.4)
            finally:
                worker.kill()
            assert worker.exit_code == -signal.SIGKILL
    with running(installation, group_id="fold-last") as last:
        installation.wait_folded(last)
    truth = check(installation)
    assert len(truth.counted) > 200
    assert truth.duplicates
    assert truth.rejected


def test_death_before_each_step_of_a_flush_and_after_the_last(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    """Each worker folds again what the one before left half done, and dies a step later, with new events behind."""
    points = [*(("before", step) for step in STEPS), ("after", STEPS[-1])]
    for number, (when, step) in enumerate(points):
        installation.send(*_some_of_everything())
        environment = fold_environment(installation, tmp_path, stack_environment, group_id=f"fold-{number}")
        with started(f"{when}-{step}", environment, tmp_path, dying_worker("SIGKILL", when, step)) as worker:
            assert worker.wait(DEADLINE) == -signal.SIGKILL, worker.quote()
    with running(installation, group_id="fold-last") as last:
        installation.wait_folded(last)
    truth = check(installation)
    assert len(truth.rejected) == 2 * len(points)
    assert truth.duplicates


class _Crash(Exception):
    """The end of a worker in the middle of a flush."""


@pytest.mark.parametrize("first", ["progress", "commit"])
def test_a_flush_in_another_order_would_lose_events(installation: Installation, first: str) -> None:
    """The broken variant: progress before records loses them in a crash; the commit alone decides nothing."""

    def drive(operations: Iterator[Operation], perform: Callable[[Operation], None]) -> None:
        every = list(operations)
        for operation in every:
            if operation.step == first:
                perform(operation)
        raise _Crash

    installation.send(*_some_of_everything())
    broken = Running(installation, drive=drive)
    broken.wait_for_failure(_Crash)
    with running(installation, group_id="fold-last") as last:
        installation.wait_folded(last)
    if first == "progress":
        with pytest.raises(AssertionError, match=r"usage_records: .* missing"):
            check(installation)
    else:
        check(installation)


def _some_of_everything() -> list[Outgoing]:
    """On both partitions: whole events, one sent twice, and one that cannot be read."""
    whole = [event(f"u{number}", number) for number in range(12)]
    cut = [Outgoing((whole[0].value or b"")[:-2], whole[0].key, partition) for partition in (0, 1)]
    return [*whole, whole[0], *cut, whole[1]]
