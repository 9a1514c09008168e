"""How the programs of this package end: as `meterfold` commands do, one line and an exit code, never in silence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from meterfold_cli import exits
from meterfold_schemas.errors import MeterfoldError


def run(main: Callable[[], None]) -> NoReturn:
    """Never returns. What is no MeterfoldError is a defect and shows its trace."""
    try:
        main()
    except MeterfoldError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(exits.code_of(error))
    sys.exit(exits.OK)
