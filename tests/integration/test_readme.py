"""The five minutes of the README, pasted as one block beside a real `meterfold up`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import running
from support.paths import ROOT


def five_minutes() -> list[str]:
    """The shell blocks of the section, in order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Five minutes\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [text for language, text in blocks if not language]


@pytest.mark.stack
def test_the_five_minutes_pasted_as_one_block_work(tmp_path: Path) -> None:
    first, *rest = five_minutes()
    assert first.splitlines()[-1] == "meterfold up"
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    env = {"PATH": os.defpath, "HOME": str(Path.home())}
    ports = ("--data", str(tmp_path / ".meterfold"), "--port", "0", "--clickhouse-port", "0", "--http-port", "0")
    with running("up", *ports, env=env, folder=tmp_path, ready="ready; Ctrl-C", deadline=120) as up:
        pasted = subprocess.run(
            ["/bin/bash", "-e", "-x"],
            input="".join(rest),
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert pasted.returncode == 0, pasted.stdout + pasted.stderr
        up.signal(signal.SIGINT)
        assert up.wait(30) == 0
    out = pasted.stdout
    read = out[out.index("total_quantity") :]
    # What curl shows, and the client of examples/read_summaries.py.
    assert re.search(r"ada +│.*│ +10 │ +5 │", read), out
    assert re.search(r"grace +│.*│ +4 │ +4 │", read), out
    assert "ada        10.00 in 5 records\n" in out
    assert "threshold.exceeded  user ada  api.calls 10.00 of 10.00 (100 %)\n" in out
    assert re.findall(r"(\d+) counted, (\d+) duplicates, (\d+) rejected", out) == [("13", "0", "0"), ("13", "13", "0")]
    assert out.count("all is well\n") == 2
    assert "! " not in out
