"""A short run of `make chaos`: some faults of every group, on three brokers, and the proof of every number.

`make chaos FAULTS=75` injects every kind once. The long runs and what they showed are in docs/chaos.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.plan import SHORT
from chaos.report import table
from chaos.run import Options, run
from support.seeds import seed_of

pytestmark = [pytest.mark.stack, pytest.mark.alone]


def test_some_faults_of_every_group(tmp_path: Path) -> None:
    seed = seed_of("every kind of fault once")
    result = run(Options(seed, len(SHORT), tmp_path, kinds=SHORT, notifiers=False), print)
    print(table(result.outcomes))  # noqa: T201
    assert result.findings.differences == []
    assert {outcome.fault.kind for outcome in result.outcomes} == set(SHORT)
    account, alerts = result.findings.account, result.findings.alerts
    assert account is not None
    assert alerts is not None
    assert min(account.counted, account.duplicates, account.rejected, alerts.events, alerts.finals) > 0
    assert result.findings.verified.startswith("proven")
