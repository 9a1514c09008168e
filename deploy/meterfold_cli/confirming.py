"""Confirmation of commands that change existing results: a question on a terminal, `--yes` elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from meterfold_cli import console, exits

__all__ = ["YesOption", "confirm"]

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(what: str, effects: Sequence[str]) -> None:
    """Show what doing `what` (such as "deleting the metric calls") will change, and ask whether to continue.

    Raises typer.Exit with exits.FAILED when the answer is no, and WrongInput where there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise exits.WrongInput(
            f"{what}: {'; '.join(effects)}. To confirm, run the command with --yes", code="NOT_CONFIRMED"
        )
    console.note(f"{what}:", style="bold")
    for effect in effects:
        console.note(f"  {effect}", style="")
    try:
        wanted = typer.confirm("Continue?", err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if not wanted:
        console.note("Nothing was changed.")
        raise typer.Exit(exits.FAILED)
