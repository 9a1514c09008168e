"""The JSONPath expressions that meters have: names and places, such as $.usage.tokens or $.items[0]['price']."""

from __future__ import annotations

import re
from typing import Any, Final

from meterfold_schemas.errors import InvalidDefinition, shown

__all__ = ["MISSING", "JsonPath"]

MISSING: Final = object()
_STEP: Final = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d{1,9})\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")


class JsonPath:
    """One expression. Raises InvalidDefinition for one that may find several values: wildcards, slices, filters."""

    __slots__ = ("_steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = _steps(text)

    def value(self, document: Any) -> Any:
        """The value in a JSON document, or MISSING."""
        for step in self._steps:
            if isinstance(step, str):
                if not isinstance(document, dict) or step not in document:
                    return MISSING
                document = document[step]
            else:
                if not isinstance(document, list) or step >= len(document):
                    return MISSING
                document = document[step]
        return document


def _steps(text: Any) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    at = 1
    if not isinstance(text, str) or not text.startswith("$"):
        at = -1
    while 0 <= at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            at = -1
            break
        name, place, single, double = found.groups()
        quoted = single if single is not None else double
        if place is not None:
            steps.append(int(place))
        else:
            steps.append(name if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = found.end()
    if at < 0:
        raise InvalidDefinition(
            f"{shown(text)} is not a JSONPath that finds one value; write names and places, such as $.usage.tokens, "
            "$['a name'] or $.items[0]"
        )
    return tuple(steps)
