"""Whether the server answers, and whether it is ready."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meterfold_service.http.models.values import Answer

__all__ = ["Health", "Readiness"]


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """Whether requests can be answered."""

    ready: bool
    waiting_for: list[Literal["clickhouse", "limits"]] = Field(examples=[[]])
    slow: list[Literal["clickhouse"]] = Field(description="What answers late: requests take longer.", examples=[[]])
