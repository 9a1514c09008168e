"""The pages of docs/ that are about one job: their commands and programs, pasted one after the other.

Everything runs beside a fold worker and a checker. Blocks of commands and Python are fenced; blocks of SQL are indented
or fenced as sql.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.cli import answer, running
from support.paths import ROOT

PAGES = ("metrics", "billing", "alerts", "notifications", "proving", "usage", "closing", "python", "rejected")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """(language, text) of the blocks of commands ("") and of Python of a page, in order."""
    for language, text in _BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        if language in ("", "python"):
            yield language, text


def script(page: str, folder: Path) -> str:
    """One shell script. The Python blocks of a page build on one another: each runs with those before it."""
    lines = ["set -e"]
    python = list[str]()
    for number, (language, text) in enumerate(steps(page)):
        if language == "python":
            python.append(text)
            program = folder / f"{page}-{number}.py"
            program.write_text("\n".join(python), encoding="utf-8")
            lines.append(f"python {program}")
        else:
            lines.append(text)
    return "\n".join(lines)


def test_every_page_works_from_top_to_bottom(tables: None, stack_environment: dict[str, str], tmp_path: Path) -> None:
    answer("migrate", "--partitions", "2", env=stack_environment)
    env = {**stack_environment, "PATH": f"{Path(sys.executable).parent}:{os.defpath}", "USER": "ada"}
    with (
        running("fold", env=stack_environment, folder=tmp_path, ready="fold: ready"),
        running("check", env=stack_environment, folder=tmp_path, ready="check: ready"),
    ):
        for page in PAGES:
            pasted = subprocess.run(
                ["/bin/bash", "-x", "-c", script(page, tmp_path)],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert pasted.returncode == 0, f"docs/{page}.md\n{pasted.stdout}{pasted.stderr}"
            assert "Traceback" not in pasted.stderr, f"docs/{page}.md\n{pasted.stderr}"
