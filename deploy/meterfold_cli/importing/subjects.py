"""Subjects that are in one of several columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meterfold_cli.importing.plan import Reader, Row, Step
from meterfold_schemas.errors import InvalidUsage

__all__ = ["Choice", "subject_step"]

#: (reader and source of the type, reader and source of the id). A source is the index of a column, or text.
Choice = tuple[Reader | None, str | int, Reader | None, str | int]


def subject_step(choices: Sequence[Choice]) -> Step:
    """Takes the first choice whose id is not empty."""

    def step(row: Row, event: dict[str, Any]) -> None:
        for read_type, subject_type, read_id, subject_id in choices:
            who = row[subject_id] if isinstance(subject_id, int) else subject_id
            if who is None or who == "":
                continue
            kind = row[subject_type] if isinstance(subject_type, int) else subject_type
            if kind is None or kind == "":
                raise InvalidUsage("subject_type is empty")
            event["subject_type"] = kind if read_type is None else read_type(kind)
            event["subject_id"] = who if read_id is None else read_id(who)
            return
        raise InvalidUsage("subject_id is empty")

    return step
