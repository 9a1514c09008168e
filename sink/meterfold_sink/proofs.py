"""Verifications that the service has started: each is rows of one id, of which the latest counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["ProofRow", "read_proofs", "write_proof"]

_COLUMNS: Final = "id, version, begun_at, by, state, done, total, doing, summary"
_READ: Final = """
SELECT id, version, toUnixTimestamp64Micro(begun_at) AS begun_at, by, toString(state) AS state, done, total, doing,
    summary
FROM proofs FINAL
WHERE ({id:String} = '' OR id = {id:String})
ORDER BY begun_at DESC, id
LIMIT {limit:UInt32}
"""
_WRITE: Final = f"""
INSERT INTO proofs ({_COLUMNS}) SELECT {{id:String}}, {{version:Int64}},
    fromUnixTimestamp64Micro({{begun_at:Int64}}, 'UTC'), {{by:String}}, {{state:String}}, {{done:Int64}},
    {{total:Int64}}, {{doing:String}}, {{summary:String}}
"""


@dataclass(frozen=True, slots=True)
class ProofRow:
    """`begun_at` and `version`, which is when the row was written, in UTC microseconds. `summary`: JSON."""

    id: str
    version: int
    begun_at: int
    by: str
    state: str
    done: int
    total: int
    doing: str
    summary: str


def read_proofs(client: Client, *, proof_id: str = "", limit: int) -> Sequence[ProofRow]:
    """The newest first; with an id that one alone. Raises Retryable or Fatal."""
    return [ProofRow(**row) for row in client.rows(_READ, {"id": proof_id, "limit": limit})]


def write_proof(client: Client, row: ProofRow) -> None:
    """Harmless when repeated. Raises Retryable or Fatal."""
    client.command(_WRITE, asdict(row))
