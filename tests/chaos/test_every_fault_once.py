"""Every kind of fault of `make chaos` once, on three brokers, and the proof that nothing was lost or doubled.

The long runs and what they showed are in docs/chaos.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.plan import KINDS
from chaos.report import table
from chaos.run import Options, run
from support.seeds import seed_of

pytestmark = [pytest.mark.stack, pytest.mark.alone]


def test_every_kind_of_fault_once(tmp_path: Path) -> None:
    seed = seed_of("every kind of fault once")
    result = run(Options(seed, len(KINDS), tmp_path), print)
    print(table(result.outcomes))  # noqa: T201
    assert result.findings.differences == []
    assert {outcome.fault.kind for outcome in result.outcomes} == set(KINDS)
    account, alerts = result.findings.account, result.findings.alerts
    assert account is not None
    assert alerts is not None
    assert min(account.counted, account.duplicates, account.rejected, alerts.events, alerts.finals) > 0
    assert result.findings.verified.startswith("proven")
