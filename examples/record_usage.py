"""An application that records what its users do. Run it beside `meterfold up`, in the same folder.

python examples/record_usage.py
"""

from __future__ import annotations

from meterfold import Meter

USERS = ("ada", "grace", "linus")
CALLS_EACH = 4


def main() -> None:
    # Where Kafka is comes from METERFOLD_* variables, meterfold.toml, or the local stack in this folder.
    with Meter() as meter:
        for number in range(CALLS_EACH):
            for user in USERS:
                # An id of your own makes a retry harmless: under one metric and subject it counts once.
                meter.record("api.calls", ("user", user), id=f"request-{number}")
        meter.record("api.calls", ("user", "ada"), 6, id="batch-1", metadata={"route": "/bulk"})
        meter.flush(timeout=30)
        print(f"{meter.counts.delivered} events delivered")


if __name__ == "__main__":
    main()
