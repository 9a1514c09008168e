"""What is wrong with a mapping, in words: the key, the value, and what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from meterfold_cli.importing.mapping import Mapping, Measure, MetadataValue, Metric, SubjectChoice, Timestamp
from meterfold_schemas.errors import shown

__all__ = ["KEYS", "first_problem", "problem_text"]


def first_problem(error: ValidationError) -> str:
    """The first problem as one sentence: field, what is wrong, and the value."""
    return problem_text(error.errors(include_url=False)[0])


def problem_text(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), KEYS, n=1)
        return f"{where}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    message = _MESSAGES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    shown_value = f", not {shown(value)}" if problem["type"] in _TYPES and not isinstance(value, dict | list) else ""
    return f"{where}: {message}{shown_value}" if where else f"{message}{shown_value}"


_MODELS: Final = (Mapping, Metric, Measure, Timestamp, SubjectChoice, MetadataValue)
#: Every key of any table.
KEYS: Final = sorted({field.alias or name for model in _MODELS for name, field in model.model_fields.items()})
_MESSAGES: Final = {
    "missing": "this key is missing",
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}
_TYPES: Final = frozenset({"string_type", "bool_type", "tuple_type", "dict_type", "model_type", "literal_error"})
