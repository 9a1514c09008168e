"""The tokens of the HTTP API: one by its id, all of them, and when they were used last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import micros
from meterfold_sink.keyset import Key, Keys, Position, RowPage, micros_of, ordered, read_page

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.small import Parameter

__all__ = ["TOKEN_SORTS", "StoredToken", "list_tokens", "note_uses", "read_token", "write_token"]

_COLUMNS: Final = (
    "id, version, digest, name, scopes, org_id, subject_type, subject_id, created_at, expires_at, revoked_at"
)
_ONE: Final = f"SELECT {_COLUMNS} FROM api_tokens FINAL WHERE id = {{id:String}}"  # noqa: S608
_ALL: Final = f"""
SELECT {_COLUMNS}, used.last_used_at AS last_used_at
FROM api_tokens AS t FINAL
LEFT JOIN
(
    SELECT token_id, CAST(max(last_used_at) AS Nullable(DateTime64(6, 'UTC'))) AS last_used_at
    FROM api_token_uses GROUP BY token_id
) AS used ON used.token_id = t.id
WHERE ({{org:Nullable(String)}} IS NULL OR org_id = {{org:Nullable(String)}})
"""  # noqa: S608
_OUTER_NULLS: Final = {"join_use_nulls": 1}
TOKEN_SORTS: Final[Mapping[str, Keys]] = {
    "created_at": (micros_of("created_at"), Key("id", breaks_ties=True)),
    "name": (Key("name"), Key("id", breaks_ties=True)),
}
"""What tokens can be sorted by."""
NEWEST: Final = ordered(TOKEN_SORTS["created_at"], descending=True)
_WRITE: Final = f"""
INSERT INTO api_tokens ({_COLUMNS}) SELECT {{id:String}}, {{version:Int64}}, {{digest:String}}, {{name:String}},
    {{scopes:Array(String)}}, {{org_id:Nullable(String)}}, {{subject_type:Nullable(String)}},
    {{subject_id:Nullable(String)}}, fromUnixTimestamp64Micro({{created_at:Int64}}, 'UTC'),
    fromUnixTimestamp64Micro({{expires_at:Nullable(Int64)}}, 'UTC'),
    fromUnixTimestamp64Micro({{revoked_at:Nullable(Int64)}}, 'UTC')
"""
_USES: Final = """
INSERT INTO api_token_uses (token_id, last_used_at)
SELECT arrayJoin({ids:Array(String)}), fromUnixTimestamp64Micro({at:Int64}, 'UTC')
"""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A row of api_tokens. `digest`: the HMAC of the secret in hexadecimal digits. `org_id` None: every organization.
    A token with a subject sees this subject alone."""

    id: str
    version: int
    digest: str
    name: str
    scopes: tuple[str, ...]
    org_id: str | None
    subject_type: str | None
    subject_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None

    @property
    def subject(self) -> tuple[str, str] | None:
        """The only subject that it sees; None: every one."""
        return None if self.subject_type is None else (self.subject_type, self.subject_id or "")


def read_token(client: Client, token_id: str) -> StoredToken | None:
    """Raises Retryable or Fatal, as every function of this module."""
    rows = client.rows(_ONE, {"id": token_id})
    return _token(rows[0]) if rows else None


def list_tokens(
    client: Client,
    keys: Keys = NEWEST,
    *,
    org_id: str | None = None,
    limit: int = 100,
    offset: int = 0,
    after: Position | None = None,
) -> RowPage[StoredToken]:
    """`org_id` None: those of all organizations."""
    page = read_page(
        client, _ALL, keys, {"org": org_id}, limit=limit, offset=offset, after=after, settings=_OUTER_NULLS
    )
    return RowPage([_token(row) for row in page.rows], page.total, page.end)


def write_token(client: Client, token: StoredToken) -> None:
    """A new token, or a later version of one. Harmless when repeated."""
    values: dict[str, Parameter] = {
        "id": token.id,
        "version": token.version,
        "digest": token.digest,
        "name": token.name,
        "scopes": list(token.scopes),
        "org_id": token.org_id,
        "subject_type": token.subject_type,
        "subject_id": token.subject_id,
        "created_at": micros(token.created_at),
        "expires_at": None if token.expires_at is None else micros(token.expires_at),
        "revoked_at": None if token.revoked_at is None else micros(token.revoked_at),
    }
    client.command(_WRITE, values)


def note_uses(client: Client, ids: Sequence[str], at: datetime) -> None:
    """These tokens were used at this time."""
    client.command(_USES, {"ids": list(ids), "at": micros(at)})


def _token(row: Mapping[str, Any]) -> StoredToken:
    return StoredToken(**{**row, "scopes": tuple(row["scopes"])})
