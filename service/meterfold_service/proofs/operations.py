"""`metering.proofs`: start a verification, which runs beside, and what the last ones found."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.periods import from_micros, micros
from meterfold_service.errors import OperationError
from meterfold_service.pages import Page, RowOrder, check_page
from meterfold_sink.proofs import NEWEST_PROOFS, ProofRow, list_proofs, read_proof, write_proof

if TYPE_CHECKING:
    from meterfold_processor.verify.report import Tell, VerifyReport
    from meterfold_sink.pool import ClientPool

__all__ = ["Proof", "ProofNotFound", "Proofs"]

_LOG = logging.getLogger("meterfold.proofs")

SILENT_SECONDS: Final = 120.0
"""One that is running and has said nothing for this time has ended with its process."""
_SAY_SECONDS: Final = 2.0
_FINDINGS: Final = 200
_ORDER: Final = RowOrder("proofs", {"newest": NEWEST_PROOFS}, "newest")

Verify = Callable[["Tell"], "VerifyReport"]


class ProofNotFound(OperationError):
    """No verification has this id."""

    code = "PROOF_NOT_FOUND"

    def __init__(self, proof_id: str) -> None:
        super().__init__(f"verification {proof_id!r} does not exist, or was removed after 400 days")


@dataclass(frozen=True, slots=True)
class Proof:
    """`state`: running, proven, different, unproven, failed, or lost: its process ended before it did. `summary` has
    the counts, `findings` and what is `unproven`, as sentences; empty while it runs. `seen_at`: of its last step."""

    id: str
    begun_at: datetime
    seen_at: datetime
    by: str
    state: str
    done: int
    total: int
    doing: str
    summary: Mapping[str, Any]


class Proofs:
    """For any thread. Every operation raises Retryable or Fatal, and what it says itself."""

    def __init__(self, clients: ClientPool, verify: Verify, now: Callable[[], datetime]) -> None:
        self._clients = clients
        self._verify = verify
        self._now = now
        self._lock = Lock()

    def list(self, *, limit: int = 20) -> Sequence[Proof]:
        """The newest first."""
        return self.page(limit=limit).rows

    def page(self, *, limit: int = 100, cursor: str | None = None) -> Page[Proof]:
        """`list`, page by page. Raises InvalidUsage."""
        check_page(limit)
        _, after = _ORDER.start(None, cursor)
        with self._clients.client() as client:
            found = list_proofs(client, limit=limit, after=after)
        return Page(found.total, tuple(map(self._proof, found.rows)), cursor=_ORDER.cursor(None, found.end))

    def get(self, proof_id: str) -> Proof:
        """One of them. Raises ProofNotFound."""
        with self._clients.client() as client:
            row = read_proof(client, proof_id)
        if row is None:
            raise ProofNotFound(proof_id)
        return self._proof(row)

    def start(self, *, by: str) -> Proof:
        """Start a verification of everything, and return while it runs. One at a time: where one is running, this is
        that one."""
        with self._lock:
            for known in self.list(limit=5):
                if known.state == "running":
                    return known
            now = micros(self._now())
            row = ProofRow(str(uuid.uuid4()), now, now, by, "running", 0, 1, "starting", "{}")
            self._write(row)
        Thread(target=self._run, args=(row,), name="meterfold-proof", daemon=True).start()
        return self._proof(row)

    def _run(self, row: ProofRow) -> None:
        said = 0.0

        def tell(done: int, total: int, text: str) -> None:
            nonlocal said, row
            row = replace(row, done=done, total=total, doing=text)
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                row = self._write(row)

        try:
            report = self._verify(tell)
        except MeterfoldError as error:
            ended = replace(row, state="failed", doing=str(error))
        except Exception as error:
            _LOG.exception("a verification failed")
            ended = replace(row, state="failed", doing=f"an unexpected error: {error!r}")
        else:
            summary = json.dumps(summary_of(report), ensure_ascii=False)
            ended = replace(row, state=report.verdict.value, done=row.total, doing="", summary=summary)
        try:
            self._write(ended)
        except MeterfoldError as error:
            _LOG.warning("the result of a verification is not stored: %s", error)

    def _write(self, row: ProofRow) -> ProofRow:
        written = replace(row, version=max(micros(self._now()), row.version + 1))
        with self._clients.client() as client:
            write_proof(client, written)
        return written

    def _proof(self, row: ProofRow) -> Proof:
        silent = micros(self._now()) - row.version > SILENT_SECONDS * 1_000_000
        return Proof(
            row.id,
            from_micros(row.begun_at),
            from_micros(row.version),
            row.by,
            "lost" if row.state == "running" and silent else row.state,
            row.done,
            row.total,
            row.doing,
            json.loads(row.summary),
        )


def summary_of(report: VerifyReport) -> dict[str, Any]:
    """What is kept of a report."""
    parts = report.partitions
    return {
        "seconds": round(report.seconds, 1),
        "partitions": len(parts),
        "counted": sum(one.counted for one in parts),
        "duplicates": sum(one.duplicates for one in parts),
        "rejected": sum(one.rejected for one in parts),
        "windows": sum(one.windows for one in parts),
        "records": sum(one.records for one in parts),
        "compared": sum(one.compared or 0 for one in parts),
        "states": report.thresholds.states,
        "events": report.thresholds.events,
        "aggregates": report.aggregates,
        "closings": report.closings,
        "findings": [str(one) for one in report.findings[:_FINDINGS]],
        "findings_total": len(report.findings) + report.more,
        "unproven": [str(one) for one in report.unproven[:_FINDINGS]],
    }
