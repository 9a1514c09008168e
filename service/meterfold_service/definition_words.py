"""What the commands of metrics and of thresholds say alike: what differs from a definition that exists, and how to
change it. `options` is the table of a definition's fields: field -> its option on the command line.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold

__all__ = ["changes", "define_command", "define_instead", "differences", "differing", "number"]

Options = Mapping[str, str]
Definition = MetricDefinition | UsageThreshold


def differing(options: Options, known: Definition, wanted: Definition, given: Collection[str]) -> list[str]:
    """The fields in which the two differ. `given`: those that the caller has named; a field that differs only by a
    default is left out where another one differs."""
    found = [name for name in options if getattr(known, name) != getattr(wanted, name)]
    return [name for name in found if name in given] or found


def differences(
    options: Options, names: Iterable[str], known: Definition, wanted: Definition, given: Collection[str]
) -> str:
    """How `known` and `wanted` differ in these fields, in words."""
    return ", ".join(
        f"{options[name]} is {_shown(getattr(known, name))}, not {_shown(getattr(wanted, name))}"
        f"{'' if name in given else ' (the default)'}"
        for name in names
    )


def changes(options: Options, names: Iterable[str], wanted: Definition) -> str:
    """The options of an `update` that gives these fields the values of `wanted`, quoted for a shell."""
    return shlex.join(part for name in names for part in _option(options, name, getattr(wanted, name)))


def define_instead(key: str, known_keys: Iterable[str]) -> str:
    """What to do about a key that is not defined: a similar one, if there is one, and the command that defines it."""
    similar = difflib.get_close_matches(key, set(known_keys), 1)
    guess = f"did you mean {similar[0]!r}? Otherwise " if similar else ""
    return f"{guess}define it with {define_command(key)}"


def define_command(key: str) -> str:
    """The command that defines a metric."""
    return f"`meterfold metric define {shlex.quote(key)} --name NAME --unit UNIT`"


def number(value: Decimal) -> str:
    """Without zeros at the end. Not by normalize(): that rounds to the 28 digits of the decimal context."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _option(options: Options, name: str, value: Any) -> list[str]:
    if name == "is_active":
        return ["--active" if value else "--inactive"]
    if isinstance(value, tuple):
        return [part for one in value for part in (options[name], one)]
    return [] if value is None else [options[name], _shown(value)]


def _shown(value: Any) -> str:
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "empty"
    return "empty" if value is None else str(value)
