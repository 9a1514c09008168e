"""What tests of the fold on real servers share: an installation, workers, and the truth that a log comes to."""

from fold_support.flow import Flow
from fold_support.installation import Installation, Outgoing, event, raw_event, unique
from fold_support.truth import Truth
from fold_support.verdict import check
from fold_support.workers import FAST, Running, dying_worker, fold_environment, running, started

__all__ = [
    "FAST",
    "Flow",
    "Installation",
    "Outgoing",
    "Running",
    "Truth",
    "check",
    "dying_worker",
    "event",
    "fold_environment",
    "raw_event",
    "running",
    "started",
    "unique",
]
