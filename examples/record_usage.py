"""An application that records what its users do. METERFOLD_CONFIG names the settings file that `meterfold up` writes.

python examples/record_usage.py
"""

from __future__ import annotations

from meterfold import Meter

USERS = ("ada", "grace", "linus")
CALLS_EACH = 4


def main() -> None:
    # METERFOLD_* variables, or the settings file that METERFOLD_CONFIG names, say where Kafka is.
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
