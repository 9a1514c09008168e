"""The content of definitions: what the caller gives, apart from what an operation sets itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.errors import InvalidDefinition
from meterfold_service.errors import Difference

__all__ = ["OWN", "differences", "refuse_fields", "same_content"]

OWN: Final = frozenset({"id", "created_at", "updated_at", "version"})
"""Fields that an operation sets."""

Definition = MetricDefinition | UsageThreshold


def same_content(one: Definition, other: Definition) -> bool:
    return one.model_dump(exclude=set(OWN)) == other.model_dump(exclude=set(OWN))


def differences(known: Definition, wanted: Definition, given: Collection[str]) -> tuple[Difference, ...]:
    """Where `wanted` is not `known`. `given`: the fields that the caller has named; one that differs only by a default
    is left out where another one differs."""
    found = tuple(
        Difference(name, getattr(known, name), getattr(wanted, name), name not in given)
        for name in type(known).model_fields
        if name not in OWN and getattr(known, name) != getattr(wanted, name)
    )
    return tuple(one for one in found if not one.is_default) or found


def refuse_fields(values: Collection[str], fixed: Collection[str]) -> None:
    """Raises InvalidDefinition if any of `values` is one of `fixed`."""
    given = sorted(set(fixed) & set(values))
    if given:
        raise InvalidDefinition(f"{', '.join(given)} cannot be given here")
