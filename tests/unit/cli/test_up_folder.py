"""Where `meterfold up` starts nothing: folders that are not its own, ports that do not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import inside


def refused(*arguments: str | Path) -> str:
    done = inside("up", *arguments, env={"HOME": str(Path.home())})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    assert f"--data {file} is a file; give a folder" in refused("--data", file)
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert f"--data {tmp_path} contains other files" in refused("--data", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "--data / contains other files" in refused("--data", "/")


@pytest.mark.parametrize("option", ["--port", "--clickhouse-port"])
@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_port_out_of_range_is_an_error_of_its_option(option: str, port: str, tmp_path: Path) -> None:
    assert option in refused("--data", tmp_path / "new", option, port)
    assert not (tmp_path / "new").exists()
