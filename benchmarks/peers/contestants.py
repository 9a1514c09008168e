"""Who is measured: each peer with its runtime, what it reads, and what it guarantees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
FORMATS: Final = ("avro", "json")
BACKLOGS: Final = ("dense", "sparse")


class Runtime(Enum):
    """How a peer is started."""

    FOLD = "Meterfold's own worker"
    COPY = "Meterfold's own decoder and writer, without folding"
    PYTHON = "a virtual environment of the peer's own, from requirements.txt"
    JAVA = "the Java runtime of the local stack, with the jars of jars.lock.toml"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer. `folder` has its source; `programs` are the Python files or Java classes that it runs, one process
    each."""

    name: str
    title: str
    runtime: Runtime
    guarantee: str
    programs: tuple[str, ...] = ()
    formats: tuple[str, ...] = FORMATS

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def windows(self) -> bool:
        """Whether it writes windows at all."""
        return self.runtime is not Runtime.COPY


PEERS: Final = (
    Peer("copy", "Bare copy", Runtime.COPY, "none: copies the raw rows", formats=("avro",)),
    Peer("meterfold", "Meterfold", Runtime.FOLD, "exactly once, up to the rows in ClickHouse"),
    Peer("hand_loop", "Hand-written loop", Runtime.PYTHON, "none: a restart loses or repeats events", ("loop.py",)),
    Peer(
        "quix_streams",
        "Quix Streams",
        Runtime.PYTHON,
        "exactly once in its state; the sink repeats rows, which replace each other",
        ("app.py",),
    ),
    Peer(
        "bytewax",
        "Bytewax",
        Runtime.PYTHON,
        "exactly once in its recovered state; the sink repeats rows, which replace each other",
        ("flow.py",),
    ),
    Peer(
        "kafka_streams",
        "Kafka Streams",
        Runtime.JAVA,
        "exactly once up to its output topic; the sink repeats rows, which replace each other",
        ("StreamsPeer", "WindowSink"),
    ),
    Peer(
        "flink",
        "Flink",
        Runtime.JAVA,
        "exactly once in its state; the sink repeats rows, which replace each other",
        ("FlinkPeer",),
    ),
)


def chosen(names: list[str] | None) -> list[Peer]:
    """The peers of these names, all of them without names. Raises SystemExit for an unknown name."""
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SystemExit(f"unknown peer {', '.join(unknown)}; choose from {', '.join(known)}")
    return [peer for peer in PEERS if not names or peer.name in names]
