"""The metrics that workers export: names and labels, from the collectors themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Final

from meterfold_processor.backoff import Troubles
from meterfold_processor.checker.status import CheckerStatus
from meterfold_processor.durations import Durations
from meterfold_processor.fold.status import FoldStatus, Stages
from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.checker import CheckerSubject
from meterfold_processor.probes.fold import FoldSubject
from meterfold_processor.probes.metrics import registry
from meterfold_processor.probes.vitals import Vitals, WorkerKind
from meterfold_service.http.traffic import ServerSubject, Traffic
from meterfold_service.notify.probes import NotifySubject
from meterfold_service.notify.status import NotifyStatus

__all__ = ["exported"]

SCRAPED: Final = frozenset({"job", "instance"})
"""Labels that Prometheus adds to every sample."""


@cache
def exported() -> dict[str, frozenset[str]]:
    """Sample name -> its labels, for every kind of worker, and `up`, which Prometheus makes."""
    found: dict[str, frozenset[str]] = {"up": SCRAPED}
    for subject in (_fold(), _checker(), _notifier(), _server()):
        for family in registry(Vitals(subject, 120.0)).collect():
            assert family.samples, f"{family.name} has no sample here: give it one, its labels are compared"
            for sample in family.samples:
                found[sample.name] = frozenset(sample.labels) | SCRAPED
    return found


def _took() -> Durations:
    durations = Durations()
    durations.observe(0.1)
    return durations


def _fold() -> WorkerKind:
    status = FoldStatus(
        last_flush=0.0,
        stages=Stages({"fold": 1.0}),
        partitions=[0],
        errors=Troubles(flush="refused"),
        durations={"records": _took()},
        positions={0: 1},
        stamps={0: 1},
        backup=(1.0, 2.0),
    )
    status.membership.seen = MembershipState(0.0, True, True, "", {0: 2})
    return FoldSubject(status)


def _checker() -> WorkerKind:
    status = CheckerStatus(
        emitted={"usage.aggregated": 1},
        last_step=0.0,
        durations=_took(),
        assigned=[0],
        positions={0: 1},
        mirrored={"thresholds": 1},
        sweeps={"judge": 1},
        errors=Troubles(mirror="refused"),
    )
    status.membership.seen = MembershipState(0.0, True, True, "", {0: 2})
    return CheckerSubject(status)


def _notifier() -> WorkerKind:
    place = ("threshold.exceeded", 0)
    status = NotifyStatus(
        tries={("webhook", "delivered"): 1},
        durations=_took(),
        waiting={"webhook": (1, datetime.now(UTC))},
        positions={place: 1},
        ends={place: 2},
        errors=Troubles(events="refused"),
    )
    status.membership.seen = MembershipState(0.0, True, True, "", {0: 2})
    return NotifySubject(status)


def _server() -> WorkerKind:
    traffic = Traffic(errors=Troubles(clickhouse="refused"))
    traffic.add("GET", "/v1/alerts", 200, 0.1)
    return ServerSubject(traffic)
