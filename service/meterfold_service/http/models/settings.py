"""The stored settings of an installation."""

from __future__ import annotations

from typing import Any, Self

from meterfold_service.http.models.values import Answer

__all__ = ["Settings"]


class FoldRules(Answer):
    """The stored settings. Times in seconds."""

    cluster_id: str
    topic_id: str
    partition_count: int
    decoder_version: str
    horizon_seconds: int
    future_tolerance_seconds: int
    slack_seconds: int
    grace_seconds: int
    record_retention_seconds: int
    source_retention_seconds: int


class Settings(Answer):
    """What is stored, and what is in effect."""

    rules: FoldRules
    unknown_schema_hold_seconds: int
    table_retentions: dict[str, int | None]
    topic_retentions: dict[str, int]
    problems: list[str]
    workers: dict[str, int]

    @classmethod
    def of(cls, value: Any) -> Self:
        return cls.model_validate({name: getattr(value, name) for name in cls.model_fields})
