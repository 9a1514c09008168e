"""Who used something: plain values, or an application's own object that a resolver turns into a subject."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
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

__all__ = ["Known", "Resolver", "Resolvers", "Subject", "subject_parts"]


class Subject(NamedTuple):
    """A subject; `org_id` None leaves the organization to the call or to the Meter."""

    subject_type: str
    subject_id: Id
    org_id: Id | None = None


#: Turns an application's object (a request, a user, a session) into a Subject, or None if it does not know it.
Resolver = Callable[[Known], Subject | None]


class Resolvers:
    """Resolvers by the type of the object, and `fallback` for every other object, and where one of them returns None.

    As functools.singledispatch: the resolver of the nearest class among an object's bases, abstract ones included.
    """

    def __init__(
        self,
        by_type: Mapping[type[Any], Resolver[Any]] | None = None,
        fallback: Resolver[Any] | None = None,
    ) -> None:
        """Raises TypeError for what is no type."""
        self._by_type = singledispatch(_unregistered)
        self._fallback = fallback
        self._has_types = False
        for kind, resolve in (by_type or {}).items():
            self.add(kind, resolve)

    def add(self, kind: type[Any], resolve: Resolver[Any]) -> None:
        """`resolve` turns objects of `kind` and its subclasses into subjects; it replaces an earlier one of `kind`."""
        if not callable(resolve):
            raise TypeError(f"the resolver of {kind!r} must be callable, not {type(resolve).__name__}")
        self._by_type.register(kind, resolve)
        self._has_types = True

    def knows(self, kind: type[Any]) -> bool:
        """Whether a type was registered for these objects."""
        return self._has_types and self._by_type.dispatch(kind) is not _unregistered

    def __call__(self, subject: object) -> Subject | None:
        """None where no resolver knows the object. Raises InvalidUsage where one fails or returns something else."""
        if self._has_types and (found := _resolved(subject, self._by_type.dispatch(type(subject)))) is not None:
            return found
        return None if self._fallback is None else _resolved(subject, self._fallback)

    @property
    def names(self) -> list[str]:
        """The registered types, by name."""
        return sorted(kind.__name__ for kind in self._by_type.registry if kind is not object)

    def __bool__(self) -> bool:
        return self._has_types or self._fallback is not None


def _unregistered(_: object) -> Subject | None:
    return None


def subject_parts(subject: object, resolvers: Resolvers) -> tuple[str, Id, Id | None]:
    """(subject_type, subject_id, org_id or None) of a subject. Raises InvalidUsage if it is none.

    An object of a registered type is one of the application's even if it is a tuple, such as a NamedTuple of two.
    """
    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, tuple) and len(subject) == 2 and not resolvers.knows(type(subject)):
        return subject[0], subject[1], None
    if (resolved := resolvers(subject)) is not None:
        return resolved
    unknown = ""
    if resolvers:
        known = f" (known types: {', '.join(names)})" if (names := resolvers.names) else ""
        unknown = f", and no resolver knows it{known}"
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
