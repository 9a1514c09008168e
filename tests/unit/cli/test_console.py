"""Output of the commands: plain text where there is no terminal, JSON's own types, nothing cut."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from meterfold_cli import console, exits
from meterfold_schemas.errors import Fatal, InvalidSettings, InvalidUsage, Retryable


def test_json_keeps_decimals_exact_and_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit({"q": Decimal("1E+3"), "r": Decimal("0.100000000"), "t": datetime(2026, 1, 2, 3, tzinfo=UTC)})
    assert json.loads(capsys.readouterr().out) == {"q": "1000", "r": "0.1", "t": "2026-01-02T03:00:00Z"}


def test_a_table_without_a_terminal_has_plain_columns_that_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    console.table(("name", "count"), [(long, 1_000_000), ("[bold]b", None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{'name':300}  {'count':>9}",
        f"{long}  1,000,000",
        f"{'[bold]b':300}  {'-':>9}",
    ]


def test_a_list_in_a_table_is_its_entries(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("key", "dimensions"), [("a", ("model", "region")), ("b", ())])
    assert capsys.readouterr().out.splitlines() == ["key  dimensions", "a    model, region", "b    -"]


def test_errors_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.fail("it is [red]broken[/red]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "meterfold: it is [red]broken[/red]\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Fatal("x"), 1),
        (InvalidSettings("x"), 2),
        (InvalidUsage("x"), 2),
        (exits.WrongInput("x"), 2),
        (Retryable("x"), 3),
    ],
)
def test_exit_codes_follow_the_error_tree(error: Exception, code: int) -> None:
    assert exits.code_of(error) == code  # type: ignore[arg-type]


def on_a_terminal(**env: str) -> str:
    """What `meterfold status` without any settings writes to a terminal of 60 columns."""
    controller, terminal = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "meterfold_cli", "status"],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "COLUMNS": "60", **env},
            timeout=60,
            check=False,
        )
        return os.read(controller, 65_536).decode()
    finally:
        os.close(controller)
        os.close(terminal)


def test_colour_on_a_terminal_unless_it_is_not_wanted() -> None:
    assert "\x1b[1;31mmeterfold: " in on_a_terminal()
    assert "\x1b[" not in on_a_terminal(NO_COLOR="1").replace("\x1b[1m", "").replace("\x1b[0m", "")


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\t"), max_size=40))
def test_plain_output_is_what_rich_would_write(text: str) -> None:
    """It is written without rich, which takes long to import. Tabs stay: rich would make them spaces."""
    ours, theirs = io.StringIO(), io.StringIO()
    with redirect_stdout(ours):
        console.say(text, "bold")
    Console(file=theirs, highlight=False, soft_wrap=True).print(Text(text))
    assert ours.getvalue() == theirs.getvalue()


def test_rich_is_imported_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        console.say("a", "red")
        console.note("b")
        console.fail("c")
        console.table(("a",), [("b",)])
        console.emit({"a": 1})
        assert "rich" not in sys.modules
        monkeypatch.setenv("FORCE_COLOR", "1")
        console.say("a", "red")
        assert "rich.console" in sys.modules
        assert "\x1b[31ma" in sys.stdout.getvalue()
