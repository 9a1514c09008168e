"""AsyncAPI's own parser finds the AsyncAPI document valid, and a broken one not."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from clients.tools import expect, run
from meterfold_local.stack import LocalStack
from meterfold_schemas import published


def check(folder: Path, stack: LocalStack) -> None:
    """`folder` has the parser. Raises Failed."""
    published.export(folder / "schemas")
    valid = folder / "schemas" / "asyncapi.json"
    document: dict[str, Any] = json.loads(valid.read_text(encoding="utf-8"))
    no_action, no_channel = deepcopy(document), deepcopy(document)
    no_action["operations"]["receive.usage.recorded"]["action"] = "read"
    del no_channel["channels"]["usage.aggregated"]
    names = []
    for number, broken in enumerate((no_action, no_channel)):
        names.append(f"broken-{number}.json")
        (folder / names[-1]).write_text(json.dumps(broken), encoding="utf-8")
    answer = run(("node", "validate.js", str(valid), *names), folder, os.environ)
    first, *others = json.loads(answer)
    expect(first == {"channels": sorted(document["channels"]), "errors": []}, f"the document is invalid: {first}")
    for broken, place in zip(others, ("operations.receive.usage.recorded", "usage.aggregated"), strict=True):
        expect(any(place in error for error in broken["errors"]), f"the parser overlooks a broken document: {broken}")
