"""Verifications."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from meterfold_service.http.models.values import Answer, Body, ListOf, PlainText, Time
from meterfold_service.proofs import operations

__all__ = ["Proof", "ProofList", "ProofRequest"]


class ProofSummary(Answer):
    """What was compared, and what was found."""

    seconds: float
    partitions: int
    counted: int
    duplicates: int
    rejected: int
    windows: int
    records: int
    compared: int
    states: int
    events: int
    aggregates: int
    closings: int
    findings: list[str] = Field(description="The first 200, as sentences.")
    findings_total: int
    unproven: list[str] = Field(description="What could not be compared, and why.")


class Proof(Answer):
    """A verification."""

    id: str
    begun_at: Time
    seen_at: Time = Field(description="When its last step began.")
    by: str
    state: Literal["running", "proven", "different", "unproven", "failed", "lost"] = Field(
        description="`lost`: its server stopped before it was done."
    )
    done: int = Field(description="Steps of `total`.")
    total: int
    doing: str = Field(description="The step, or why it failed.")
    summary: ProofSummary | None = Field(description="Null while it runs, and where it failed.")

    @classmethod
    def of(cls, value: operations.Proof) -> Self:
        names = ("id", "begun_at", "seen_at", "by", "state", "done", "total", "doing")
        return cls.model_validate({**{name: getattr(value, name) for name in names}, "summary": value.summary or None})


class ProofList(ListOf[Proof]):
    """A page of verifications, the newest first."""


class ProofRequest(Body):
    """Who starts a verification."""

    by: PlainText | None = Field(default=None, description="Default: the name of the token.")
