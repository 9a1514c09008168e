"""Whom a threshold watches, in words."""

from __future__ import annotations

__all__ = ["watched"]


def watched(org_id: str | None, subject_type: str | None, subject_id: str | None) -> str:
    """Whom a threshold with this scope watches, such as "every user of every organization"."""
    if subject_type is None:
        subjects = "every subject"
    else:
        subjects = f"every {subject_type}" if subject_id is None else f"{subject_type} {subject_id}"
    if org_id is None:
        return f"{subjects} of every organization"
    return f"{subjects} of organization {org_id}" if org_id else f"{subjects} without an organization"
