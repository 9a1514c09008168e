"""What the rooms of `Scoped` share: the scope, the organization and the subject of the principal.

An id of another organization is answered exactly as one that does not exist. What is about the whole installation is
refused to a principal of one organization, and everything but its own usage to one of a subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meterfold_service.access.errors import Forbidden
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.errors import MetricNotFound

if TYPE_CHECKING:
    from meterfold_service.metering import Metering

__all__ = ["Room"]


class Room:
    """Operations on one noun, as `principal` may call them."""

    def __init__(self, metering: Metering, principal: Principal) -> None:
        self._metering = metering
        self._principal = principal

    @property
    def _own(self) -> str | None:
        """The only organization of the principal; None: every one."""
        return self._principal.org_id

    def _need(self, scope: Scope) -> None:
        """Raises Forbidden. A principal of a subject needs `_need_for_subject`."""
        if self._principal.subject is not None:
            raise Forbidden("this token is for the usage and limits of one subject, and nothing else")
        self._need_for_subject(scope)

    def _need_for_subject(self, scope: Scope) -> None:
        """For an operation that a principal of a subject may call too. Raises Forbidden."""
        self._principal.need(scope)

    def _need_everything(self, scope: Scope, what: str) -> None:
        """For `what` is about the whole installation. Raises Forbidden."""
        self._need(scope)
        if self._own is not None:
            raise Forbidden(f"this token is for one organization, and {what} of the whole installation")

    def _org(self, org_id: str | None) -> str | None:
        """The organization that an operation is about: the principal's own where none was asked for."""
        if self._own is None or org_id == self._own:
            return org_id
        if org_id is None:
            return self._own
        raise Forbidden("this token is for another organization; leave org_id out, or ask for your own")

    def _subject(self, subject: tuple[str, str] | None) -> tuple[str, str] | None:
        """The subject that an operation is about: the principal's own where none was asked for."""
        own = self._principal.subject
        if own is None or subject == own:
            return subject
        if subject is None:
            return own
        raise Forbidden("this token is for another subject; leave the subject out, or ask for your own")

    @contextmanager
    def _without_hints(self) -> Iterator[None]:
        """A metric that is not found: say nothing of what other organizations define."""
        try:
            yield
        except MetricNotFound as error:
            if self._own is None:
                raise
            raise self._not_found(error.key) from None

    def _not_found(self, key: str) -> MetricNotFound:
        from meterfold_service.metrics.operations import metric_not_found

        if self._principal.subject is not None:
            return MetricNotFound(key, self._own)
        known = self._metering.metrics.defined_keys()
        return metric_not_found(key, self._own, [one for one in known if one[0] in ("", self._own)])
