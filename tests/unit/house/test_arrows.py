"""Who may import whom. The rooms and the reasons are in docs/architecture.md."""

from __future__ import annotations

import pytest

from support.sources import PACKAGES, modules, package_of

MAY_IMPORT: dict[str, frozenset[str]] = {
    "meterfold_schemas": frozenset(),
    "meterfold": frozenset({"meterfold_schemas"}),
    "meterfold_sink": frozenset({"meterfold_schemas"}),
    "meterfold_processor": frozenset({"meterfold_schemas", "meterfold_sink"}),
    "meterfold_service": frozenset({"meterfold_schemas", "meterfold", "meterfold_sink", "meterfold_processor"}),
    "meterfold_local": frozenset({"meterfold_schemas"}),
    "meterfold_cli": frozenset(
        {
            "meterfold_schemas",
            "meterfold",
            "meterfold_sink",
            "meterfold_processor",
            "meterfold_service",
            "meterfold_local",
        }
    ),
}
"""Package -> the packages that it may import. Each row names rows above it only, so the arrows have no circle."""

ONLY_IN: dict[str, frozenset[str]] = {
    "typer": frozenset({"meterfold_cli"}),
    "click": frozenset({"meterfold_cli"}),
    "rich": frozenset({"meterfold_cli"}),
    "fastapi": frozenset({"meterfold_service"}),
    "starlette": frozenset({"meterfold_local", "meterfold_service"}),
    "uvicorn": frozenset({"meterfold_local", "meterfold_service"}),
    "chdb": frozenset({"meterfold_local"}),
    "clickhouse_connect": frozenset({"meterfold_sink"}),
}
"""A library that belongs to one part of the house -> the packages that may import it."""

ROOMS: dict[str, frozenset[str]] = {
    "columns": frozenset(),
    "kafka": frozenset(),
    "fold": frozenset({"columns", "kafka"}),
    "checker": frozenset({"columns", "kafka"}),
    "verify": frozenset({"columns", "kafka", "checker", "fold"}),
    "probes": frozenset({"columns", "kafka", "checker", "fold"}),
}
"""Room of the processor -> the rooms that it may import. What fold and checker share has a room of its own."""


def test_the_table_names_every_package_and_has_no_circle() -> None:
    order = list(MAY_IMPORT)
    assert set(order) == set(PACKAGES)
    for position, package in enumerate(order):
        assert MAY_IMPORT[package] <= set(order[:position]), package


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_is_below_it(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    wrong = [
        f"{module.path}:{found.line} imports {found.module}"
        for module in modules(package)
        for found in module.imports
        if package_of(found.module) in PACKAGES and package_of(found.module) not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_part_of_the_house(library: str) -> None:
    wrong = [
        f"{module.path}:{found.line} imports {found.module}"
        for package in PACKAGES
        if package not in ONLY_IN[library]
        for module in modules(package)
        for found in module.imports
        if package_of(found.module) == library
    ]
    assert wrong == []


def test_a_room_of_the_processor_imports_only_what_is_below_it() -> None:
    wrong: dict[str, list[str]] = {}
    for module in modules("meterfold_processor"):
        room = _room(module.name)
        for found in module.imports:
            other = _room(found.module)
            if room in ROOMS and other in ROOMS and other != room and other not in ROOMS[room]:
                wrong.setdefault(module.path, []).append(f"line {found.line} imports {found.module}")
    assert wrong == {}


def _room(module: str) -> str:
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "meterfold_processor" else ""
