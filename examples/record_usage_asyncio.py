"""The same in asyncio: several tasks share one AsyncMeter.

python examples/record_usage_asyncio.py
"""

from __future__ import annotations

import asyncio

from meterfold import AsyncMeter


async def handle(meter: AsyncMeter, user: str, calls: int) -> None:
    for number in range(calls):
        # Returns at once while the buffer has room, and awaits room otherwise: it never blocks the event loop.
        await meter.record("api.calls", ("user", user), id=f"async-{number}")


async def main() -> None:
    async with AsyncMeter() as meter:
        await asyncio.gather(*(handle(meter, user, 4) for user in ("ada", "grace", "linus")))
        # With `confirm` it returns once the broker has the event.
        report = await meter.record("api.calls", ("user", "ada"), id="async-last", confirm=True)
        print(f"{report.event_id} is at offset {report.offset} of partition {report.partition}")
        await meter.flush(timeout=30)
        print(f"{meter.counts.delivered} events delivered")


if __name__ == "__main__":
    asyncio.run(main())
