"""What errors and log lines say, in the rooms of the contract, the fold, the checker and the sink.

Every message of a `raise` or a log call is read from the source; the helpers that make texts of values are called.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterfold_schemas import errors, vocabulary
from meterfold_schemas.errors import shown
from meterfold_schemas.periods import DAY, HOUR, MICROS_PER_SECOND, Period, span_text
from support.paths import ROOT

ROOMS = (
    "schemas/meterfold_schemas",
    "sink/meterfold_sink",
    "processor/meterfold_processor/fold",
    "processor/meterfold_processor/checker",
    "processor/meterfold_processor/columns",
)
TICS = re.compile(
    r"\b(stands|told|goes on|anew|by itself|nobody|whatever is there|so (long|many|far)"
    r"|[a-z]+ (is|are) no (?!longer)[a-z]+)\b"
)
# A number and a word in the plural: `1 thresholds`. plurals.plural writes both.
COUNTED = re.compile(r"(%d|\{#\}) [a-z]+s\b(?<!as)(?<!has)(?<!is)(?<!resumes)(?<!waits)(?<!seconds)")
OPERATIONS = re.compile(r"\b(metric|threshold)\.(define|update|delete|create|list|get)\b")
EXCEPTIONS = {
    # 513 bytes at least, and a limit
    "{} {} has {#} bytes; at most {} are allowed",
}


def messages() -> Iterator[tuple[str, str]]:
    """(file and line, message); `{#}` for what is a number by its name or its call, `{}` for any other value."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for call in _speaking(node):
                    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
                        for text in _texts(argument):
                            yield f"{path.relative_to(ROOT)}:{argument.lineno}", text


def _speaking(node: ast.AST) -> Iterator[ast.Call]:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield node.exc
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("debug", "info", "warning", "error", "exception")
    ):
        yield node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and hasattr(errors, node.func.id):
        yield node


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else _placeholder(part) for part in node.values)


def _placeholder(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    return "{#}" if isinstance(value, ast.BinOp | ast.Call) and _is_count(value) else "{}"


def _is_count(value: ast.expr) -> bool:
    return isinstance(value, ast.BinOp) or (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("len", "sum", "max")
    )


FOUND = list(messages())


def test_there_are_messages_to_read() -> None:
    assert len(FOUND) > 150
    assert len({place.partition(":")[0] for place, _ in FOUND}) > 30


@pytest.mark.parametrize("pattern", [TICS, COUNTED, OPERATIONS], ids=["tics", "numbers", "operations"])
def test_messages_are_plain_english(pattern: re.Pattern[str]) -> None:
    assert [(place, text) for place, text in FOUND if pattern.search(text) and text not in EXCEPTIONS] == []


def test_members_of_an_enum_are_shown_as_their_values() -> None:
    members = [*vocabulary.AggregationType, *vocabulary.ResetPeriod, *vocabulary.Level, *vocabulary.Action, *Period]
    for member in members:
        assert shown(member) == repr(member.value)
        assert f"{member}" == member.value
    assert shown("x" * 100) == "'" + "x" * 76 + "..."


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (MICROS_PER_SECOND, "1 second"),
        (90 * MICROS_PER_SECOND, "90 seconds"),
        (60 * MICROS_PER_SECOND, "1 minute"),
        (HOUR, "1 hour"),
        (36 * HOUR, "36 hours"),
        (DAY, "1 day"),
        (35 * DAY, "35 days"),
        (MICROS_PER_SECOND // 2, "0.5 seconds"),
        (0, "0 seconds"),
    ],
)
def test_spans(span: int, text: str) -> None:
    assert span_text(span) == text


@pytest.mark.parametrize("pattern", [TICS, COUNTED, OPERATIONS])
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str]) -> None:
    bad = "the folder is no place that stands", "%d thresholds watch it", "define it with metric.define"
    assert sum(bool(pattern.search(text)) for text in bad) == 1


def test_paths_in_messages_exist() -> None:
    for place, text in FOUND:
        for name in re.findall(r"docs/[a-z_]+\.md", text):
            page = ROOT / Path(name)
            assert page.is_file(), (place, name)
            for section in re.findall(rf"{re.escape(name)}, '([^']+)'", text):
                assert re.search(rf"^#+ {re.escape(section)}$", page.read_text(encoding="utf-8"), re.MULTILINE), place
