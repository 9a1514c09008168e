"""What tests of the fold on real servers share: an installation, workers, and the truth that a log comes to."""

from support.fold.flow import Flow
from support.fold.installation import Installation, Outgoing, event, in_json, raw_event, unique
from support.fold.truth import Truth
from support.fold.verdict import check, verify_contents
from support.fold.workers import FAST, Running, dying_worker, fold_environment, running, started

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
    "in_json",
    "raw_event",
    "running",
    "started",
    "unique",
    "verify_contents",
]
