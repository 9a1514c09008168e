"""Who has used what."""

from __future__ import annotations

from pydantic import Field

from meterfold_service.http.models.values import Answer, Number, PlainText, Query, Time

__all__ = ["BusyQuery", "BusySubjects", "FoundSubjects", "SubjectMetrics", "SubjectSearch"]

_MOST = 1000


class SubjectSearch(Query):
    """Which subjects."""

    q: PlainText = Field(default="", description="A part of the id or of the type. Default: any.", examples=["ada"])
    org_id: PlainText | None = None
    limit: int = Field(default=50, ge=1, le=_MOST, description="The most subjects.")


class KnownSubject(Answer):
    """A subject with usage."""

    org_id: str
    subject_type: str
    subject_id: str
    metrics: int = Field(description="How many metrics it has used.")
    last_used: Time


class FoundSubjects(Answer):
    """The best matches: an equal id first, then those used last. Without pages: search for more of the id."""

    data: list[KnownSubject]


class SubjectMetric(Answer):
    """A metric that a subject has used."""

    metric_key: str
    records: int = Field(description="All events that were ever counted.")
    last_used: Time


class SubjectMetrics(Answer):
    """The metrics of a subject, the busiest first; up to 200."""

    data: list[SubjectMetric]


class BusyQuery(Query):
    """How many."""

    limit: int = Field(default=10, ge=1, le=_MOST, description="The most subjects.")


class BusySubject(Answer):
    """A subject of one metric."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    records: int
    quantity: Number


class BusySubjects(Answer):
    """The subjects with the most events in this hour and the last one."""

    data: list[BusySubject]
