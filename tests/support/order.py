"""In which order files of tests run when several processes share them: no long file may be the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from support.paths import TESTS

__all__ = ["place", "without_servers"]

_WITHOUT_SERVERS: Final = (TESTS / "unit", TESTS / "simulation")

_LONG: Final = (
    "simulation/fold/test_random_fold.py",
    "simulation/checker/test_checker_chance.py",
    "integration/test_docs_pages.py",
    "integration/test_verify_tampering.py",
    "integration/test_fold_servers_down.py",
    "integration/test_verify_live.py",
    "integration/test_fold_start.py",
    "integration/test_pipeline_whole.py",
    "integration/test_probes_fold.py",
    "integration/test_checker_crashes.py",
    "integration/test_fold_crashes.py",
    "integration/test_cli_import.py",
    "integration/test_fold_group.py",
    "integration/test_fold_bad_input.py",
    "integration/test_cli_up.py",
    "integration/test_cli_thresholds.py",
    "integration/test_sink_reconciliation.py",
    "integration/test_sink_summaries.py",
    "integration/test_service_usage.py",
    "integration/test_stored_settings.py",
    "integration/test_rejected_redrive.py",
    "integration/test_checker_servers_down.py",
    "integration/test_least_privilege.py",
    "integration/test_sink_thresholds.py",
    "integration/test_readme.py",
    "integration/test_notify.py",
    "integration/test_local_stack_three_brokers.py",
    "integration/test_local_stack_servers.py",
)
"""Files that take longer than half a minute, the longest first, by what they cost in CPU and waiting."""


def without_servers(file: Path) -> bool:
    """Whether tests of this file run without Kafka and ClickHouse."""
    return any(file.is_relative_to(folder) for folder in _WITHOUT_SERVERS)


def place(file: Path, *, alone: bool) -> tuple[int, int]:
    """A key to sort by. What needs the machine alone is first, beside it runs what needs no servers, then the rest."""
    name = file.relative_to(TESTS).as_posix()
    group = 0 if alone else 1 if without_servers(file) else 2
    return group, _LONG.index(name) if name in _LONG else len(_LONG)
