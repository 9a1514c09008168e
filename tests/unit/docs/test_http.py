"""docs/http.md and docs/openapi.json: the document is that of the code, and the page names routes that exist."""

from __future__ import annotations

import json
import re

from meterfold_service.access.principal import Scope
from meterfold_service.http.__main__ import text
from meterfold_service.http.app import operations
from support.paths import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")


def test_the_committed_document_is_that_of_the_routes() -> None:
    """After a change of the routes: python -m meterfold_service.http docs/openapi.json"""
    assert (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8") == text()


DOORS = "/api/v1/"
"""OpenMeter's and Lago's own documents describe these."""


def test_every_operation_is_described_completely() -> None:
    document = json.loads(text())
    assert document["openapi"].startswith("3.1")
    found, ids = {}, []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method.upper()} {path}"
            assert operation["summary"], where
            assert operation["tags"], where
            ids.append(operation["operationId"])
            scope = operation.get("x-required-scope")
            found[where] = scope
            if scope is not None:
                assert f"scope `{scope}`" in operation["description"], where
                assert operation["security"], where
                assert {"401", "403", "422", "503"} <= operation["responses"].keys(), where
            for status, response in operation["responses"].items():
                assert response["description"], where
                if status.startswith(("4", "5")) and scope is not None:
                    assert list(response["content"]) == ["application/problem+json"], (where, status)
            for parameter in operation.get("parameters", ()):
                assert parameter["in"] == "path" or parameter["description"], (where, parameter["name"])
    assert len(ids) == len(set(ids))
    scoped = {
        name.replace(":path}", "}"): scope
        for name, scope in operations().items()
        if scope is not None and f" {DOORS}" not in name
    }
    assert {name: scope for name, scope in found.items() if scope is not None} == scoped


def test_the_page_names_only_paths_that_exist_and_every_scope() -> None:
    paths = {re.sub(r"\{[^}]+\}", "*", name.split(" ")[1]) for name in operations()}
    for path in re.findall(r"127\.0\.0\.1:8888(/v1/[\w./-]+)", PAGE):
        known = [one for one in paths if re.fullmatch(one.replace(".", r"\.").replace("*", "[^/]+"), path)]
        assert known or path == "/v1/openapi.json", path
    for scope in Scope:
        assert f"| `{scope}` |" in PAGE
