"""deploy/systemd and the cron lines of docs/scheduling.md: every command and option exists, and systemd accepts the
units. The CronJobs are tested in test_kubernetes.py."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from meterfold_cli import exits, main
from support.deployed import known_variables
from support.paths import ROOT

FOLDER = ROOT / "deploy" / "systemd"
PAGE = (ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8")
TASKS = ("backup", "close", "verify")
CRON = re.findall(r"^[\d*]+ [\d*]+ \* \* \*\s+meterfold\s+(.*)$", PAGE, re.MULTILINE)


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Section -> name -> values."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


def require_command(text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """AssertionError unless the command exists with these options; its words without options."""
    program, *words = shlex.split(re.sub(r">>\S+", "", text))
    assert Path(program).name == "meterfold"
    commands = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
    assert main.run([*commands, "--help"]) == exits.OK
    helped = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and word not in helped] == []
    return commands


def test_there_is_a_service_and_a_timer_for_each_task() -> None:
    expected = {f"meterfold-{task}.{kind}" for task in TASKS for kind in ("service", "timer")}
    assert {path.name for path in FOLDER.iterdir()} == expected


@pytest.mark.parametrize("task", TASKS)
def test_a_service_runs_commands_that_exist_and_repeats_what_may_succeed_later(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service = unit(f"meterfold-{task}.service")["Service"]
    for line in service["ExecStart"]:
        require_command(line, capsys)
    variables = {line.partition("=")[0] for line in service["Environment"]}
    assert variables <= known_variables()
    final = {int(code) for code in service["RestartPreventExitStatus"][0].split()}
    assert final == {exits.FAILED, exits.USAGE, exits.MISSING_EXTRA, exits.EXPIRED, exits.DEFECT}
    assert service["Type"] == ["oneshot"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("/usr/local/bin/meterfold", "/bin/true")
        (tmp_path / path.name).write_text(text.replace("User=meterfold\n", ""), encoding="utf-8")
    for task in TASKS:
        done = subprocess.run(
            [
                "systemd-analyze",
                "verify",
                "--man=no",
                "--recursive-errors=no",
                tmp_path / f"meterfold-{task}.timer",
                tmp_path / f"meterfold-{task}.service",
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        ours = [line for line in done.stderr.splitlines() if "meterfold-" in line]
        assert (done.returncode, ours) == (0, []), done.stderr
        (calendar,) = unit(f"meterfold-{task}.timer")["Timer"]["OnCalendar"]
        subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True, timeout=60)


def test_the_cron_lines_run_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [require_command(part, capsys) for line in CRON for part in line.split("&&")]
    assert [words for words in commands if words] == [
        ["periods", "close"],
        ["backup", "create"],
        ["backup", "check"],
        ["verify"],
    ]


def test_every_exit_code_of_the_table_is_one_of_ours() -> None:
    header = next(line for line in PAGE.splitlines() if line.startswith("| command"))
    codes = {int(cell) for cell in header.split("|") if cell.strip().isdigit()}
    assert codes == {exits.OK, exits.FAILED, exits.UNAVAILABLE, exits.EXPIRED}
