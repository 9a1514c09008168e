"""New versions of a schema against released ones: what `make check` refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from meterfold_schemas import catalog, compatibility

PACKAGE = Path(str(files("meterfold_schemas")))
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE / "avro", tmp_path / "avro")
    return tmp_path


def field(definition: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in definition["fields"] if entry["name"] == name)
    return found


def add_version(package: Path, change: Change, name: str = "usage_recorded") -> str:
    """A next version of a schema, released."""
    latest = catalog.latest(name)
    definition = deepcopy(latest.definition)
    change(definition)
    path = package / "avro" / f"{name}.v{latest.version + 1}.avsc"
    path.write_text(json.dumps(definition))
    compatibility.release(package)
    return path.name


def test_the_schemas_of_this_package_are_compatible() -> None:
    assert compatibility.problems(PACKAGE) == []
    assert len(compatibility._released(PACKAGE)) == sum(len(catalog.all_versions(name)) for name in catalog.names())


def test_an_optional_field_may_be_added(package: Path) -> None:
    added = {"name": "region", "type": ["null", "string"], "default": None}
    add_version(package, lambda definition: definition["fields"].append(added))
    assert compatibility.problems(package) == []


def _required(definition: dict[str, Any]) -> None:
    definition["fields"].append({"name": "region", "type": "string"})


def _other_type(definition: dict[str, Any]) -> None:
    field(definition, "id")["type"] = "long"


def _no_null(definition: dict[str, Any]) -> None:
    field(definition, "source").update(type="string", default="")


def _other_scale(definition: dict[str, Any]) -> None:
    field(definition, "quantity")["type"] = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 6}
    definition["fields"].append({"name": "region", "type": ["null", "string"], "default": None})


def _no_time(definition: dict[str, Any]) -> None:
    field(definition, "timestamp")["type"] = {"type": "long", "logicalType": "timestamp-millis"}
    definition["fields"].append({"name": "region", "type": ["null", "string"], "default": None})


@pytest.mark.parametrize("change", [_required, _other_type, _no_null, _other_scale, _no_time])
def test_a_version_that_cannot_read_an_older_value_is_refused(package: Path, change: Change) -> None:
    add_version(package, change)
    [problem] = compatibility.problems(package)
    assert problem.startswith("usage_recorded.v2 cannot read a value of usage_recorded.v1: "), problem


def test_a_version_is_read_by_every_later_one_not_only_by_the_next(package: Path) -> None:
    add_version(package, _required, "threshold_defined")
    assert [problem.split(":")[0] for problem in compatibility.problems(package)] == [
        "threshold_defined.v3 cannot read a value of threshold_defined.v1",
        "threshold_defined.v3 cannot read a value of threshold_defined.v2",
    ]


def test_a_released_file_is_never_changed_or_removed(package: Path) -> None:
    changed = package / "avro" / "usage_recorded.v1.avsc"
    changed.write_text(changed.read_text().replace("How much was used", "The amount used"))
    assert compatibility.problems(package) == [
        "usage_recorded.v1.avsc was released and has changed: restore it, and make the change in a new version"
    ]
    changed.unlink()
    assert compatibility.release(package) == []
    [missing, *_] = compatibility.problems(package)
    assert missing == "usage_recorded.v1.avsc was released and is missing: restore it"


def test_a_new_file_must_be_released(package: Path) -> None:
    add_version(package, lambda definition: definition["fields"].pop(6))
    released = json.loads((package / compatibility.RELEASED).read_text())
    del released["usage_recorded.v2.avsc"]
    (package / compatibility.RELEASED).write_text(json.dumps(released))
    [problem] = compatibility.problems(package)
    assert problem.startswith("usage_recorded.v2.avsc is not released: run ")
    assert compatibility.release(package) == ["usage_recorded.v2.avsc"]
    assert compatibility.problems(package) == []
