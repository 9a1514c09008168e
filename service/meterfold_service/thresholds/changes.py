"""What creating, changing or deleting a threshold changes at once: said before it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterfold_schemas.definitions import UsageThreshold
    from meterfold_sink.threshold_preview import Reached

__all__ = ["ThresholdChange"]


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """A threshold before and after, None where it does not exist, and the current windows that each of both judges."""

    before: UsageThreshold | None
    after: UsageThreshold | None
    reached_before: Reached
    reached_after: Reached

    @property
    def changes_anything(self) -> bool:
        """Whether a level is reached or left at once, or other windows are judged."""
        return self.reached_before != self.reached_after
