"""Every command: an example in its help, and its line in the list of commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meterfold_cli import main
from meterfold_cli.app import COMMANDS, _built
from support.paths import ROOT


def commands() -> Iterator[tuple[str, Any]]:
    """("metric define", the command) of each command that can be run."""
    for name, entry in COMMANDS.items():
        if not entry.hidden:
            yield from _leaves(name, _built(name))


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
    for name, child in (children or {}).items():
        yield from _leaves(f"{path} {name}", child)


ALL = dict(commands())


def examples(command: Any) -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"^Example: (meterfold .+)$", command.help or "", re.MULTILINE)]


@pytest.mark.parametrize("path", ALL)
def test_the_help_of_a_command_has_an_example_that_parses(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ALL[path]
    found = examples(command)
    assert found, f"`meterfold {path} --help` has no line that begins with `Example: meterfold`"
    for words in found:
        depth = 1 + len(path.split())
        assert words[:depth] == ["meterfold", *path.split()]
        # Raises for an unknown option, a wrong value, or an argument that is missing.
        command.make_context(path, words[depth:], resilient_parsing=False)
    # On one line, so that it can be copied.
    assert main.run([*path.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(shlex.join(words[:2]) in shown for words in found)


def test_every_command_that_the_console_offers_parses() -> None:
    found = dict[str, list[str]]()
    for template in sorted((ROOT / "service/meterfold_service/console/templates").glob("*.html")):
        for text in re.findall(r'"(meterfold [^"]+)"', template.read_text()):
            line = text.split("\\n")[0] + ("2026-10" if text.endswith(" ") else "")
            found[line] = shlex.split(line)
    assert len(found) >= 5
    for line, words in found.items():
        depth = 3 if " ".join(words[1:3]) in ALL else 2
        path = " ".join(words[1:depth])
        if path in COMMANDS and path not in ALL:  # it has commands of its own, and does something without one
            assert len(words) == depth, line
            continue
        assert path in ALL, line
        ALL[path].make_context(path, words[depth:], resilient_parsing=False)


def test_the_list_of_commands_says_what_their_help_says() -> None:
    for name, entry in COMMANDS.items():
        found = _built(name)
        assert found.name == name
        if getattr(found, "commands", None) and not entry.hidden:
            assert found.help.split("\n")[0] == entry.help
        assert entry.help.endswith("."), name


def test_a_list_of_commands_and_a_completion_import_no_command(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from meterfold_cli import main\n"
        "main.run(['--help'])\n"
        "assert not [name for name in sys.modules if name.startswith('meterfold_cli.commands.')]\n"
        "assert 'rich.console' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def completed(words: str, tmp_path: Path, **env: str) -> list[str]:
    """What bash is offered for the last word."""
    done = subprocess.run(
        [sys.executable, "-m", "meterfold_cli"],
        env={
            "PATH": "/usr/bin:/bin",
            "_METERFOLD_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    assert completed("meterfold th", tmp_path) == ["threshold"]
    assert completed("meterfold threshold l", tmp_path) == ["list"]
    assert "--subject-type" in completed("meterfold threshold list --su", tmp_path)
    assert {"metric", "usage", "top"} <= set(completed("meterfold ", tmp_path))
    # Without a server there is nothing to offer, and nothing to complain about.
    away = {"METERFOLD_CLICKHOUSE_URL": "http://127.0.0.1:1"}
    assert completed("meterfold usage summary api", tmp_path, **away) == []
    assert completed("meterfold usage summary api", tmp_path) == []
