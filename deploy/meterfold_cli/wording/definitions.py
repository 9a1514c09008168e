"""What is said alike of metrics and of thresholds: what differs from a definition that exists, and how to change it.

`options` is the table of a definition's fields: field -> its option on the command line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterfold_schemas.quantities import number_text

if TYPE_CHECKING:
    from meterfold_service.errors import Difference

__all__ = ["changes", "define_command", "define_instead", "differing"]

Options = Mapping[str, str]


def differing(options: Options, differences: Iterable[Difference]) -> str:
    """How a definition differs from what was asked for."""
    return ", ".join(
        f"{options.get(one.field, one.field)} is {_shown(one.known)}, not {_shown(one.wanted)}"
        f"{' (the default)' if one.is_default else ''}"
        for one in differences
    )


def changes(options: Options, differences: Iterable[Difference]) -> str:
    """The options of an `update` that makes these fields what was asked for, quoted for a shell."""
    return shlex.join(part for one in differences for part in _option(options, one.field, one.wanted))


def define_instead(key: str, similar: str | None) -> str:
    """What to do about a key that is not defined: a similar one, if there is one, and the command that defines it."""
    guess = f"did you mean {similar!r}? Otherwise " if similar else ""
    return f"{guess}define it with {define_command(key)}"


def define_command(key: str) -> str:
    """The command that defines a metric."""
    return f"`meterfold metric define {shlex.quote(key)} --name NAME --unit UNIT`"


def _option(options: Options, name: str, value: Any) -> Sequence[str]:
    if name == "is_active":
        return ["--active" if value else "--inactive"]
    if name == "dimensions" and not value:
        return ["--no-dimensions"]
    if isinstance(value, tuple):
        return [part for one in value for part in (options.get(name, name), one)]
    return [] if value is None else [options.get(name, name), _shown(value)]


def _shown(value: Any) -> str:
    if isinstance(value, Decimal):
        return number_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "empty"
    return "empty" if value is None else str(value)
