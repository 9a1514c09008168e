"""Who used something: plain values, or an application's own object that a resolver knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from meterfold.values import Id
from meterfold_schemas.errors import InvalidUsage

__all__ = ["Resolver", "Subject", "subject_parts"]


class Subject(NamedTuple):
    """A subject; `org_id` None leaves the organization to the call or to the Meter."""

    subject_type: str
    subject_id: Id
    org_id: Id | None = None


#: Turns an application's object (a request, a user, a session) into a Subject, or None if it knows nothing of it.
Resolver = Callable[[object], Subject | None]


def subject_parts(subject: object, resolver: Resolver | None) -> tuple[str, Id, Id | None]:
    """(subject_type, subject_id, org_id or None) of what was meant. Raises InvalidUsage where nothing can tell."""
    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, tuple) and len(subject) == 2:
        return subject[0], subject[1], None
    if resolver is not None and (resolved := _resolved(subject, resolver)) is not None:
        return resolved
    hint = "the resolver does not know it" if resolver else "no resolver is registered"
    raise InvalidUsage(
        f"the subject is a {type(subject).__name__} and {hint}; give (subject_type, subject_id) or a Subject"
    )


def _resolved(subject: object, resolver: Resolver) -> Subject | None:
    try:
        resolved = resolver(subject)
    except Exception as error:  # the application's own code; in a batch it must not spoil the neighbours
        raise InvalidUsage(f"the resolver failed for a {type(subject).__name__}: {error!r}") from error
    if resolved is not None and not isinstance(resolved, Subject):
        raise InvalidUsage(f"the resolver must give a Subject or None, not {type(resolved).__name__}")
    return resolved
