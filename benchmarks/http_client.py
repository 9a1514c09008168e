"""The load of the HTTP benchmark, as a process of its own: connections that send one batch after another.

    python benchmarks/http_client.py URL TOKEN BATCH CONNECTIONS SECONDS

Prints the number of requests, of accepted events and the latencies as JSON.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

MARK: Final = b"@@@@@@@@@@"
SUBJECTS: Final = 1_000


def body(batch: int) -> bytes:
    """A batch whose ids have a mark that each request replaces."""
    events = [
        {
            "id": f"{MARK.decode()}-{number}",
            "metric_key": "api.calls",
            "subject_type": "user",
            "subject_id": f"user-{number % SUBJECTS}",
            "quantity": number % 7 + 1,
            "timestamp": datetime.now(UTC).isoformat(),
            "metadata": {"route": "/v1/items", "region": "eu"},
        }
        for number in range(batch)
    ]
    return json.dumps(events[0] if batch == 1 else events).encode()


class Load:
    """Numbers requests across its threads."""

    def __init__(self, url: str, token: str, batch: int, seconds: float) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._body = body(batch)
        self._batch = batch
        self._until = time.monotonic() + seconds
        self._run = time.time_ns() // 1_000_000 % 100_000
        self.accepted: list[int] = []
        self.latencies: list[float] = []

    def connection(self, number: int) -> None:
        link = http.client.HTTPConnection(self._address, timeout=60)
        sent = 0
        accepted = 0
        while (begun := time.monotonic()) < self._until:
            # The run, the connection and the request make the ids.
            mark = f"{self._run:05d}{number:02d}".encode()
            whole = self._body.replace(MARK, mark + b"-%d" % sent)
            link.request("POST", "/v1/events", whole, self._headers)
            answer = link.getresponse()
            found = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {found[:300]!r}")
            self.latencies.append(time.monotonic() - begun)
            sent += 1
            accepted += self._batch
        self.accepted.append(accepted)


def main(url: str, token: str, batch: str, connections: str, seconds: str) -> None:
    load = Load(url, token, int(batch), float(seconds))
    threads = [threading.Thread(target=load.connection, args=(number,)) for number in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(load.accepted) != len(threads):
        raise SystemExit("a connection failed")
    found = sorted(load.latencies)
    print(
        json.dumps(
            {
                "accepted": sum(load.accepted),
                "requests": len(found),
                "p50": found[len(found) // 2],
                "p99": found[len(found) * 99 // 100],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
