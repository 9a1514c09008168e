"""Questions about thresholds: whom each one watches, and which ones replace it or double it.

The rule is that of `UsageThreshold.narrowness`: of the active thresholds of one metric and name that match a subject
the narrowest judge it, where the metric as its organization sees it is defined and active.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from meterfold_sink.client import Client

__all__ = [
    "IS_DEFINED",
    "IS_REPLACED",
    "RANK",
    "RANK_OF_ROW",
    "Definers",
    "Rival",
    "SubjectGroup",
    "WatchedSubjects",
    "metric_definers",
    "narrower_thresholds",
    "same_thresholds",
    "watched_subjects",
]

RANK: Final = "(isNotNull({org_id}), isNotNull({subject_id}), isNotNull({subject_type}))"
"""How narrow the scope of a threshold is: of two with one name, the higher one judges a subject."""
RANK_OF_ROW: Final = RANK.format(org_id="org_id", subject_id="subject_id", subject_type="subject_type")
IS_REPLACED: Final = """(
    (org_id, subject_type, subject_id) IN
        (SELECT assumeNotNull(org_id), assumeNotNull(subject_type), assumeNotNull(subject_id) FROM narrower
         WHERE isNotNull(org_id) AND isNotNull(subject_id))
    OR (org_id, subject_type) IN
        (SELECT assumeNotNull(org_id), assumeNotNull(subject_type) FROM narrower
         WHERE isNotNull(org_id) AND isNotNull(subject_type) AND isNull(subject_id))
    OR org_id IN
        (SELECT assumeNotNull(org_id) FROM narrower WHERE isNotNull(org_id) AND isNull(subject_type))
    OR (subject_type, subject_id) IN
        (SELECT assumeNotNull(subject_type), assumeNotNull(subject_id) FROM narrower
         WHERE isNull(org_id) AND isNotNull(subject_id))
    OR subject_type IN
        (SELECT assumeNotNull(subject_type) FROM narrower
         WHERE isNull(org_id) AND isNotNull(subject_type) AND isNull(subject_id)))"""
"""Whether one of the thresholds `narrower` (org_id, subject_type, subject_id; NULL: any) judges a row's subject."""
IS_DEFINED: Final = """if(
    org_id IN (SELECT org_id FROM definers),
    org_id IN (SELECT org_id FROM definers WHERE is_active),
    '' IN (SELECT org_id FROM definers WHERE is_active))"""
"""Whether the metric of the `definers` (org_id, is_active) is active for a row's organization."""
# Every subject that has used a metric has one row, of its lifetime; a row that was replaced counts once.
_SUBJECTS: Final = f"""
WITH
    mine AS (SELECT * FROM thresholds FINAL WHERE NOT deleted AND id = {{id:String}}),
    narrower AS
    (
        SELECT org_id, subject_type, subject_id
        FROM thresholds FINAL
        WHERE NOT deleted AND is_active
            AND metric_key = (SELECT metric_key FROM mine) AND name = (SELECT name FROM mine)
            AND {RANK_OF_ROW} > (SELECT {RANK_OF_ROW} FROM mine)
    ),
    definers AS
    (
        SELECT org_id, is_active
        FROM metric_definitions FINAL
        WHERE NOT deleted AND key = (SELECT metric_key FROM mine)
    )
SELECT
    org_id,
    subject_type,
    ifNull(org_id = (SELECT org_id FROM mine), 1)
        AND ifNull(subject_type = (SELECT subject_type FROM mine), 1)
        AND ifNull(subject_id = (SELECT subject_id FROM mine), 1) AS is_matching,
    {IS_REPLACED} AS is_replaced,
    {IS_DEFINED} AS is_defined
FROM
(
    SELECT DISTINCT org_id, subject_type, subject_id
    FROM usage_windows
    WHERE period_type = 'lifetime' AND metric_key = (SELECT metric_key FROM mine)
        AND ({{seen_by:Nullable(String)}} IS NULL OR org_id = {{seen_by:Nullable(String)}})
)
"""  # noqa: S608
_COUNTS: Final = f"""
SELECT
    toInt64(count()) AS subjects,
    toInt64(countIf(is_matching)) AS matching,
    toInt64(countIf(is_matching AND is_replaced)) AS replaced,
    toInt64(countIf(is_matching AND NOT is_replaced AND NOT is_defined)) AS undefined,
    (SELECT toInt64(any(is_active)) FROM thresholds FINAL WHERE NOT deleted AND id = {{id:String}}) AS is_active
FROM ({_SUBJECTS})
"""  # noqa: S608
_GROUPS: Final = f"""
SELECT org_id, subject_type, toInt64(count()) AS subjects
FROM ({_SUBJECTS})
GROUP BY org_id, subject_type
ORDER BY subjects DESC, org_id, subject_type
LIMIT {{limit:UInt64}}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class SubjectGroup:
    """The subjects of one type in one organization ("": without one)."""

    org_id: str
    subject_type: str
    subjects: int


@dataclass(frozen=True, slots=True)
class WatchedSubjects:
    """Of the subjects that have used a threshold's metric: `watched` are judged by it now. `matching` are those that
    it is about; `replaced` of them are judged by a narrower threshold of the same name, and `undefined` belong to an
    organization where the metric is not active. `groups`: the largest ones of all, only where none is watched."""

    watched: int
    subjects: int
    matching: int
    replaced: int
    undefined: int
    groups: tuple[SubjectGroup, ...] = ()


def watched_subjects(
    client: Client, threshold_id: str, *, groups: int = 3, seen_by: str | None = None
) -> WatchedSubjects:
    """Whom a threshold of the table `thresholds` watches now. `seen_by`: only subjects of this organization. Raises
    Retryable or Fatal."""
    (row,) = client.rows(_COUNTS, {"id": threshold_id, "seen_by": seen_by})
    watched = row["matching"] - row["replaced"] - row["undefined"] if row["is_active"] else 0
    found: list[dict[str, Any]] = []
    if not watched and row["subjects"]:
        found = client.rows(_GROUPS, {"id": threshold_id, "limit": groups, "seen_by": seen_by})
    return WatchedSubjects(
        watched,
        row["subjects"],
        row["matching"],
        row["replaced"],
        row["undefined"],
        tuple(SubjectGroup(**group) for group in found),
    )


@dataclass(frozen=True, slots=True)
class Rival:
    """Another active threshold of the same metric and name, with its scope (None: any)."""

    id: str
    org_id: str | None
    subject_type: str | None
    subject_id: str | None


_THRESHOLDS: Final = f"""
    SELECT id, metric_key, name, is_active, org_id, subject_type, subject_id, {RANK_OF_ROW} AS rank
    FROM thresholds FINAL
    WHERE NOT deleted AND ({{seen_by:Nullable(String)}} IS NULL OR org_id IS NULL
        OR org_id = {{seen_by:Nullable(String)}})"""  # noqa: S608
# One that names organization and subject has no narrower one: only the few wide ones are joined.
_NARROWER: Final = f"""
SELECT mine.id AS mine_id, toInt64(count() OVER (PARTITION BY mine.id)) AS rivals, other.id AS id,
    other.org_id AS org_id, other.subject_type AS subject_type, other.subject_id AS subject_id
FROM ({_THRESHOLDS} AND has({{ids:Array(String)}}, id) AND (isNull(org_id) OR isNull(subject_id))) AS mine
INNER JOIN ({_THRESHOLDS} AND is_active) AS other
    ON mine.metric_key = other.metric_key AND mine.name = other.name
WHERE other.rank > mine.rank
    AND ifNull(mine.org_id = other.org_id, 1)
    AND ifNull(mine.subject_type = other.subject_type, 1)
    AND ifNull(mine.subject_id = other.subject_id, 1)
ORDER BY mine_id, id
LIMIT {{limit:UInt64}} BY mine_id
"""  # noqa: S608
_SAME: Final = f"""
SELECT mine.id AS mine_id, toInt64(count() OVER (PARTITION BY mine.id)) AS rivals, other.id AS id,
    other.org_id AS org_id, other.subject_type AS subject_type, other.subject_id AS subject_id
FROM ({_THRESHOLDS} AND has({{ids:Array(String)}}, id)) AS mine
INNER JOIN ({_THRESHOLDS} AND is_active) AS other
    ON mine.metric_key = other.metric_key AND mine.name = other.name AND mine.rank = other.rank
WHERE mine.id != other.id
    AND ifNull(mine.org_id = other.org_id, 1)
    AND ifNull(mine.subject_type = other.subject_type, 1)
    AND ifNull(mine.subject_id = other.subject_id, 1)
ORDER BY mine_id, id
LIMIT {{limit:UInt64}} BY mine_id
"""  # noqa: S608


def narrower_thresholds(
    client: Client, ids: Sequence[str], *, limit: int = 3, seen_by: str | None = None
) -> dict[str, tuple[int, list[Rival]]]:
    """threshold id -> how many narrower ones replace it for some of its subjects, and the first `limit` of them.
    `seen_by`: only those of this organization and of every organization."""
    return _rivals(client, _NARROWER, ids, limit, seen_by)


def same_thresholds(
    client: Client, ids: Sequence[str], *, limit: int = 3, seen_by: str | None = None
) -> dict[str, tuple[int, list[Rival]]]:
    """threshold id -> how many others have the same metric, name and scope, so that both judge, and the first of them.
    Commands refuse to create one; two at the same moment, and old versions, could."""
    return _rivals(client, _SAME, ids, limit, seen_by)


def _rivals(
    client: Client, sql: str, ids: Sequence[str], limit: int, seen_by: str | None
) -> dict[str, tuple[int, list[Rival]]]:
    found: dict[str, tuple[int, list[Rival]]] = {}
    for row in client.rows(sql, {"ids": list(ids), "limit": limit, "seen_by": seen_by}):
        mine, count = row.pop("mine_id"), row.pop("rivals")
        found.setdefault(mine, (count, []))[1].append(Rival(**row))
    return found


@dataclass(frozen=True, slots=True)
class Definers:
    """Who defines one metric: `by_org` says whether the definition of each organization that was asked about, and of
    every organization (""), is active. `own` counts active ones of organizations, `some` names the first of them."""

    by_org: dict[str, bool]
    own: int = 0
    some: tuple[str, ...] = ()


_DEFINERS: Final = """
SELECT key, org_id, toInt64(is_active) AS is_active, toInt64(0) AS own, CAST([], 'Array(String)') AS some
FROM metric_definitions FINAL
WHERE NOT deleted AND has({keys:Array(String)}, key) AND (org_id = '' OR has({org_ids:Array(String)}, org_id))
UNION ALL
SELECT key, '', toInt64(0), toInt64(count()), arraySlice(arraySort(groupArray(org_id)), 1, {limit:UInt64})
FROM metric_definitions FINAL
WHERE NOT deleted AND is_active AND org_id != '' AND has({keys:Array(String)}, key)
    AND ({seen_by:Nullable(String)} IS NULL OR org_id = {seen_by:Nullable(String)})
GROUP BY key
"""


def metric_definers(
    client: Client, keys: Sequence[str], org_ids: Sequence[str], *, limit: int = 3, seen_by: str | None = None
) -> dict[str, Definers]:
    """metric key -> who defines it, for every one of `keys`. `seen_by`: of the organizations only this one is looked
    at."""
    by_key: dict[str, dict[str, bool]] = {key: {} for key in keys}
    own: dict[str, tuple[int, tuple[str, ...]]] = {}
    parameters: dict[str, Any] = {"keys": list(keys), "org_ids": list(org_ids), "limit": limit, "seen_by": seen_by}
    for row in client.rows(_DEFINERS, parameters):
        if row["own"]:
            own[row["key"]] = row["own"], tuple(row["some"])
        else:
            by_key[row["key"]][row["org_id"]] = bool(row["is_active"])
    return {key: Definers(by_org, *own.get(key, (0, ()))) for key, by_org in by_key.items()}
