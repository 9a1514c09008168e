"""Limits of a subject."""

from __future__ import annotations

from pydantic import Field

from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action
from meterfold_service.http.models.values import Answer, Number, Time

__all__ = ["Limit", "SubjectLimits"]


class Limit(Answer):
    """A threshold that the subject has reached or approaches, in a period that has not ended."""

    threshold_id: str
    name: str
    metric_key: str
    period_type: Period
    period_start: Time
    period_end: Time | None = Field(description="Null: a lifetime has no end.")
    level: str = Field(description="`exceeded` or `approaching`.", examples=["exceeded"])
    action: Action = Field(description="What the application should do.")
    blocks: bool = Field(description="Exceeded, with the action `block`.")
    value: Number = Field(description="When the level was reached.")
    threshold: Number
    warn_threshold: Number
    since: Time = Field(description="When the level was reached.")


class SubjectLimits(Answer):
    """What is blocked or near its limit for a subject. Empty `limits`: nothing."""

    org_id: str
    subject_type: str
    subject_id: str
    blocked: bool = Field(description="Refuse the subject: a limit with the action `block` is exceeded.")
    blocked_until: Time | None = Field(description="When the last blocking period ends. Null: not blocked, or never.")
    as_of: Time = Field(description="Everything that the checker had judged until then is in the answer.")
    limits: list[Limit] = Field(description="What blocks first. At most four for each threshold of the subject.")
