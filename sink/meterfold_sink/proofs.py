"""Verifications that the service has started: each is rows of one id, of which the latest counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from meterfold_sink.keyset import Key, Keys, Position, RowPage, read_page

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["NEWEST_PROOFS", "ProofRow", "list_proofs", "read_proof", "write_proof"]

_COLUMNS: Final = "id, version, begun_at, by, state, done, total, doing, summary"
_ALL: Final = """
SELECT id, version, toUnixTimestamp64Micro(begun_at) AS begun_at, by, toString(state) AS state, done, total, doing,
    summary
FROM proofs FINAL
"""
_ONE: Final = f"{_ALL} WHERE id = {{id:String}}"
NEWEST_PROOFS: Final[Keys] = (Key("begun_at", "Int64", descending=True), Key("id"))
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


def list_proofs(client: Client, *, limit: int, after: Position | None = None) -> RowPage[ProofRow]:
    """The newest first. Raises Retryable or Fatal."""
    page = read_page(client, _ALL, NEWEST_PROOFS, {}, limit=limit, after=after)
    return RowPage([ProofRow(**row) for row in page.rows], page.total, page.end)


def read_proof(client: Client, proof_id: str) -> ProofRow | None:
    """None where there is none. Raises Retryable or Fatal."""
    return next((ProofRow(**row) for row in client.rows(_ONE, {"id": proof_id})), None)


def write_proof(client: Client, row: ProofRow) -> None:
    """Harmless when repeated. Raises Retryable or Fatal."""
    client.command(_WRITE, asdict(row))
