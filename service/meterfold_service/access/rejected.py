"""`rejected` of Scoped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room
from meterfold_service.errors import RejectedNotFound

if TYPE_CHECKING:
    from meterfold_service.pages import Page
    from meterfold_service.rejected.corrections import Correction
    from meterfold_service.rejected.results import Position, RedriveReport, RejectedMessage

__all__ = ["ScopedRejected"]


class ScopedRejected(Room):
    """As Rejected. A principal of one organization sees the messages that name it; those that name none, or cannot be
    read, are for principals of every organization."""

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[RejectedMessage]:
        return self._metering.rejected.list(org_id=self._readable(org_id), **values)

    def count(self, *, org_id: str | None = None, **values: Any) -> dict[str, int]:
        return self._metering.rejected.count(org_id=self._readable(org_id), **values)

    def get(self, position: Position) -> RejectedMessage:
        self._readable(None)
        return self._seen(position)

    def redrive(
        self, corrections: Mapping[Position, Correction], *, by: str | None = None, **values: Any
    ) -> RedriveReport:
        """Messages of another organization are refused as those that do not exist. What is sent is of the principal's
        own organization, whatever a message or a correction says."""
        self._need(Scope.MANAGE)
        self._readable(None)
        wanted = dict(corrections)
        if self._own is not None:
            from meterfold_service.rejected.results import Refusal

            refused = []
            for position in corrections:
                try:
                    self._seen(position)
                except RejectedNotFound as error:
                    refused.append(Refusal(position, str(error)))
                    del wanted[position]
            wanted = {position: one.with_fields({"org_id": self._own}) for position, one in wanted.items()}
            report = self._metering.rejected.redrive(wanted, by=by or self._principal.name, **values)
            return _with_refused(report, refused)
        return self._metering.rejected.redrive(wanted, by=by or self._principal.name, **values)

    def redrive_all(
        self, correction: Correction, *, by: str | None = None, org_id: str | None = None, **values: Any
    ) -> RedriveReport:
        self._need(Scope.MANAGE)
        own = self._readable(org_id)
        if self._own is not None:
            correction = correction.with_fields({"org_id": self._own})
        return self._metering.rejected.redrive_all(correction, by=by or self._principal.name, org_id=own, **values)

    def _readable(self, org_id: str | None) -> str | None:
        """The organization whose messages are asked for. Raises Forbidden."""
        self._need(Scope.READ)
        if self._own == "":
            self._need_everything(Scope.READ, "messages of an unknown organization are")
        return self._org(org_id)

    def _seen(self, position: Position) -> RejectedMessage:
        found = self._metering.rejected.get(position)
        if self._own is not None and found.org_id != self._own:
            raise RejectedNotFound(position.partition, position.offset)
        return found


def _with_refused(report: RedriveReport, refused: list[Any]) -> RedriveReport:
    from dataclasses import replace

    return replace(
        report,
        refused=(*report.refused, *refused),
        refused_total=report.refused_total + len(refused),
    )
