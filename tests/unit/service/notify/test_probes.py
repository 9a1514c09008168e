"""A notifier over its partitions: alive, ready, behind."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

from meterfold_processor.backoff import Troubles
from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.progress import PartitionPosition
from meterfold_processor.probes.vitals import Vitals
from meterfold_service.notify.probes import NotifySubject
from meterfold_service.notify.status import NotifyStatus

EXCEEDED, CLEARED = "threshold.exceeded", "threshold.cleared"


def status(**values: object) -> NotifyStatus:
    found = NotifyStatus(**values)  # type: ignore[arg-type]
    found.membership.seen = MembershipState(time.monotonic(), True, True, "", {})
    return found


def test_a_partition_has_the_sums_over_its_topics() -> None:
    found = status(
        positions={(EXCEEDED, 0): 5, (CLEARED, 0): 7, (EXCEEDED, 1): 2},
        ends={(EXCEEDED, 0): 6, (CLEARED, 0): 7, (EXCEEDED, 1): 2, (CLEARED, 1): 99},
    )
    assert NotifySubject(found).observe().places == {0: PartitionPosition(12, 13), 1: PartitionPosition(2, 2)}


def test_an_end_behind_markers_of_transactions_is_no_lag_and_an_unknown_one_is_unknown() -> None:
    """The position was moved to the end that the consumer reached; the statistics can be older."""
    found = status(positions={(EXCEEDED, 0): 8, (CLEARED, 1): 3}, ends={(EXCEEDED, 0): 6})
    places = NotifySubject(found).observe().places
    assert (places[0].lag, places[1].lag) == (0, None)


def test_what_waits_is_told_and_makes_it_neither_dead_nor_unready() -> None:
    found = status(
        positions={(EXCEEDED, 0): 1},
        ends={(EXCEEDED, 0): 1},
        waiting={"webhook": (3, datetime.now(UTC) - timedelta(hours=2))},
        endpoints={"failing": 1},
    )
    look = Vitals(NotifySubject(found), 120.0).look()
    assert look.verdict.ready
    facts = look.observation.facts
    assert facts["endpoints"] == {"failing": 1, "disabled": 0}
    assert facts["deliveries"]["webhook"]["waiting"] == 3
    assert 7_200 <= facts["deliveries"]["webhook"]["oldest_seconds"] < 7_300
    assert json.dumps(facts)


def test_it_is_ready_when_every_partition_is_read_and_nothing_is_failing() -> None:
    ready = status(positions={(EXCEEDED, 0): 1}, ends={(EXCEEDED, 0): 1})
    assert Vitals(NotifySubject(ready), 120.0).look().verdict.ready
    opening = status(positions={(EXCEEDED, 0): 1}, ends={(EXCEEDED, 0): 1}, opening=[(CLEARED, 1)])
    assert not Vitals(NotifySubject(opening), 120.0).look().verdict.ready
    failing = status(positions={(EXCEEDED, 0): 1}, ends={(EXCEEDED, 0): 1}, errors=Troubles(deliveries="away"))
    verdict = Vitals(NotifySubject(failing), 120.0).look().verdict
    assert (verdict.alive, verdict.ready) == (True, False)
