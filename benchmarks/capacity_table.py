"""Writes the tables of docs/capacity.md: python benchmarks/capacity_table.py.

They are made by the functions of `meterfold capacity`.
"""

from __future__ import annotations

from pathlib import Path

from meterfold_service.capacity import MEASURED, Load, plan

PAGE = Path(__file__).resolve().parent.parent / "docs" / "capacity.md"
LOADS = (
    (100, 20_000),
    (1_000, 200_000),
    (5_000, 2_000_000),
    (10_000, 2_000_000),
    (30_000, 5_000_000),
    (100_000, 10_000_000),
)
HEAD = (
    "| events/s | subjects | partitions | workers | cores: workers | ClickHouse | Kafka | GB per worker | "
    "records, GB/month | windows, GB/month | ClickHouse after a year, GB | Kafka, GB |"
)


def table() -> str:
    """One row per load, with the default retention."""
    lines = [HEAD, "|" + "---:|" * HEAD.count(" | ") + "---:|"]
    for rate, subjects in LOADS:
        found = plan(Load(events_per_second=rate, subjects=subjects))
        cells = [
            f"{rate:,}",
            f"{subjects:,}",
            f"{found.partitions:,}",
            f"{found.workers:,}",
            *(f"{cores:.2f}" for cores in (found.worker_cores, found.clickhouse_cores, found.kafka_cores)),
            f"{found.worker_memory / 1e9:.1f}",
            *(
                f"{size / 1e9:,.0f}"
                for size in (
                    found.records_disk_per_month,
                    found.windows_disk_per_month,
                    found.clickhouse_disk_in_a_year,
                    found.kafka_disk,
                )
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def figures() -> str:
    """The measured figures, each with what it is and the command that measures it."""
    rows = [f"| {one.title} | {_size(one.value, one.unit)} | `{one.command}` |" for one in MEASURED.figures()]
    return "\n".join(["| figure | value | measured by |", "|---|---:|---|", *rows])


def _size(value: float, unit: str) -> str:
    return f"{value / 1e9:g} GB" if unit == "bytes" and value >= 1e9 else f"{value:,g} {unit}"


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, body in (("table", table()), ("figures", figures())):
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        head, _, rest = text.partition(begin)
        text = head + begin + body + end + rest.partition(end)[2]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
