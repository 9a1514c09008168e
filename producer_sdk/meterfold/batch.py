"""What `record_batch` returns: one result per event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, overload

from meterfold.errors import MeterfoldError, RefusedEvents

__all__ = ["BatchResults", "Recorded"]


class Recorded(NamedTuple):
    """What became of one event of a batch.

    accepted: in the buffer; its delivery is reported later. repeated: an earlier event of the batch has the same
    identity, so it was not sent again. refused: not taken; `error` says why.
    """

    status: Literal["accepted", "repeated", "refused"]
    id: str | None
    error: MeterfoldError | None = None


class BatchResults(Sequence[Recorded]):
    """The results in the order of the events. Accepted events are kept as their ids alone: a batch may be millions."""

    __slots__ = ("_ids", "_others")

    def __init__(self, ids: Sequence[str | None], others: Mapping[int, Recorded]) -> None:
        self._ids = ids
        self._others = others

    @property
    def accepted(self) -> int:
        """How many were accepted."""
        return len(self._ids) - len(self._others)

    @property
    def repeated(self) -> int:
        """How many repeat the identity of an earlier event of the batch."""
        return sum(1 for other in self._others.values() if other.status == "repeated")

    @property
    def refused(self) -> dict[int, Recorded]:
        """The refused events by their index in the batch."""
        return {index: other for index, other in self._others.items() if other.status == "refused"}

    def raise_refused(self) -> None:
        """Raises RefusedEvents if events were refused. The others of the batch were taken."""
        if refused := self.refused:
            raise RefusedEvents(refused, len(self))

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Recorded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Recorded]: ...
    def __getitem__(self, index: int | slice) -> Recorded | list[Recorded]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        position = range(len(self._ids))[index]  # IndexError and negative numbers as a list has them
        return self._others.get(position) or Recorded("accepted", self._ids[position])

    def __repr__(self) -> str:
        refused = len(self.refused)
        return f"<BatchResults {self.accepted} accepted, {self.repeated} repeated, {refused} refused>"
