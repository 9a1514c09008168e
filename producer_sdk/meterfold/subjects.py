"""Who used something: plain values, or an application's own object that a resolver turns into a subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Never

from meterfold.values import Id, shown
from meterfold_schemas.errors import InvalidUsage

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: The type of the objects that a Meter's resolver knows; Never without a resolver.
    Known = TypeVar("Known", contravariant=True, default=Never)
else:  # typing's own has no default before Python 3.13, and only type checkers need it
    from typing import TypeVar

    Known = TypeVar("Known", contravariant=True)

__all__ = ["Known", "Resolver", "Subject", "subject_parts"]


class Subject(NamedTuple):
    """A subject; `org_id` None leaves the organization to the call or to the Meter."""

    subject_type: str
    subject_id: Id
    org_id: Id | None = None


#: Turns an application's object (a request, a user, a session) into a Subject, or None if it does not know it.
Resolver = Callable[[Known], Subject | None]


def subject_parts(subject: object, resolver: Resolver[Any] | None) -> tuple[str, Id, Id | None]:
    """(subject_type, subject_id, org_id or None) of a subject. Raises InvalidUsage if it is none."""
    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, tuple) and len(subject) == 2:
        return subject[0], subject[1], None
    if resolver is not None and (resolved := _resolved(subject, resolver)) is not None:
        return resolved
    unknown = ", and the resolver does not know it" if resolver else ""
    raise InvalidUsage(
        f'subject must be a pair (subject_type, subject_id), such as ("user", "ada"), or a Subject, not the '
        f"{type(subject).__name__} {shown(subject)}{unknown}"
    )


def _resolved(subject: object, resolver: Resolver[Any]) -> Subject | None:
    try:
        resolved = resolver(subject)
    except Exception as error:  # the application's own code; in a batch it must not affect other events
        raise InvalidUsage(f"the resolver failed for a {type(subject).__name__}: {error!r}") from error
    if resolved is not None and not isinstance(resolved, Subject):
        raise InvalidUsage(f"the resolver must return a Subject or None, not {type(resolved).__name__}")
    return resolved
