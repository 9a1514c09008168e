"""The health check of the image: exit status 0 while /healthz of the worker in this container answers 200.

The address is METERFOLD_HEALTH_ADDRESS; 0.0.0.0 and [::] stand for this machine. With `off`, or a port that is chosen
at the start (0), there is nothing to ask.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

SECONDS = 5.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main() -> int:
    address = os.environ.get("METERFOLD_HEALTH_ADDRESS", "off")
    host, _, port = address.rpartition(":")
    if address == "off" or port == "0":
        return 0
    host = host.strip("[]")
    connection = HTTPConnection(EVERYWHERE.get(host, host), int(port), timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode(errors="replace"))
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"{address} does not answer: {error}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
