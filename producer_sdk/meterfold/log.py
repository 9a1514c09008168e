"""The SDK's log: the loggers `meterfold` (what an application has to know) and `meterfold.librdkafka` (the client).

An application that configures logging gets both as usual. In a script that configures nothing, warnings and errors of
`meterfold` go to standard error, one line each, so that refused events or a wrong password are never silent;
librdkafka's own lines do not, since it repeats each of them while a broker is away. `NullHandler` silences both.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

__all__ = ["client_logger", "logger"]

logger: Final = logging.getLogger("meterfold")
client_logger: Final = logger.getChild("librdkafka")


class _Unconfigured(logging.Handler):
    """Does what logging's last resort does, but not for the client."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(client_logger.name) or self._is_configured(logging.getLogger(record.name)):
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)

    def _is_configured(self, at: logging.Logger) -> bool:
        current: logging.Logger | None = at
        while current is not None:
            if any(handler is not self for handler in current.handlers):
                return True
            current = current.parent if current.propagate else None
        return False


_handler = _Unconfigured()
_handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
logger.addHandler(_handler)
