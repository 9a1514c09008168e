"""Asking before a command changes what exists."""

from __future__ import annotations

import io
import sys

import pytest
import typer

from meterfold_cli import exits
from meterfold_cli.confirming import confirm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def typing(monkeypatch: pytest.MonkeyPatch, answer: io.StringIO) -> Terminal:
    """Somebody at a terminal; what they see."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdin", answer)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_yes_goes_on_and_the_effects_were_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = typing(monkeypatch, Terminal("y\n"))
    confirm("deleting the metric calls", ["48 windows will have no total", "1 threshold rests"])
    shown = screen.getvalue()
    assert shown.index("deleting the metric calls:") < shown.index("  48 windows") < shown.index("Continue? [y/N]")


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_anything_else_changes_nothing(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    screen = typing(monkeypatch, Terminal(answer))
    with pytest.raises(typer.Exit) as ended:
        confirm("deleting", ["everything"])
    assert ended.value.exit_code == exits.FAILED
    assert "Nothing was changed." in screen.getvalue()


def test_an_end_of_the_input_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    typing(monkeypatch, Terminal(""))
    with pytest.raises(KeyboardInterrupt):
        confirm("deleting", ["everything"])


def test_without_a_terminal_it_is_refused_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = typing(monkeypatch, io.StringIO("y\n"))
    with pytest.raises(exits.WrongInput) as refused:
        confirm("deleting the metric calls", ["48 windows will have no total", "1 threshold rests"])
    assert str(refused.value) == (
        "deleting the metric calls: 48 windows will have no total; 1 threshold rests. "
        "To confirm, run the command with --yes"
    )
    assert (refused.value.code, exits.code_of(refused.value)) == ("NOT_CONFIRMED", exits.USAGE)
    assert screen.getvalue() == ""
