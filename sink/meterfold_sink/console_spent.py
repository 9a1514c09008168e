"""Links of the console that were used, and sessions that were signed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["claims_of", "write_claim"]

_READ: Final = "SELECT claim FROM console_spent FINAL WHERE name = {name:String} ORDER BY claim LIMIT 2"
_WRITE: Final = "INSERT INTO console_spent (name, claim) SELECT {name:String}, {claim:String}"


def claims_of(client: Client, name: str) -> list[str]:
    """The claims of a name, at most two. Raises Retryable or Fatal."""
    return [row["claim"] for row in client.rows(_READ, {"name": name})]


def write_claim(client: Client, name: str, claim: str) -> None:
    """Harmless when repeated. Raises Retryable or Fatal."""
    client.command(_WRITE, {"name": name, "claim": claim})
