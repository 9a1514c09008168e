"""The errors of the operations: each has a code of its own, is exported, documented, and survives a process pool."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

import meterfold_service
from meterfold_service.errors import OperationError, RecordsExpired
from support.paths import ROOT


def kinds(base: type[OperationError] = OperationError) -> Iterator[type[OperationError]]:
    for kind in base.__subclasses__():
        if kind.__module__ == "meterfold_service.errors":
            yield kind
            yield from kinds(kind)


KINDS = list(kinds())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_stable_code_is_exported_and_documented(kind: type[OperationError]) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)+", kind.code)
    assert getattr(meterfold_service, kind.__name__) is kind
    assert kind.__name__ in meterfold_service.__all__
    assert f"| `{kind.__name__}` | `{kind.code}` |" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_no_two_errors_have_the_same_code_but_a_kind_of_another() -> None:
    for kind in KINDS:
        same = [other for other in KINDS if other.code == kind.code]
        assert all(issubclass(other, kind) or issubclass(kind, other) for other in same), kind


def test_expired_records_name_the_fields_that_needed_them() -> None:
    hour, kept = datetime(2026, 8, 3, 12, tzinfo=UTC), datetime(2026, 8, 21, 11, tzinfo=UTC)
    error = RecordsExpired("api.calls", hour, 2, kept, ("model", "region"))
    assert str(error).startswith(
        "2 records of api.calls in the hour from 2026-08-03 12:00 UTC have expired, and with them the metadata fields "
        "'model' and 'region'. Choose periods that begin at 2026-08-21 11:00 UTC or later, or leave the fields out."
    )
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.fields, again.kept_from) == (str(error), ("model", "region"), kept)
    without = str(RecordsExpired("api.calls", hour, 1, kept))
    assert "has expired, and a part of that hour, or a list of its records, needs them" in without
    assert without.endswith("at whole hours in UTC, or periods that begin at 2026-08-21 11:00 UTC or later")
