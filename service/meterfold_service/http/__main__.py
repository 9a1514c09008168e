"""Write the OpenAPI document: `python -m meterfold_service.http docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from meterfold_service.http.app import described

__all__ = ["text"]


def text() -> str:
    """The document as it is committed."""
    return json.dumps(described(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
