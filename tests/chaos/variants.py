"""python -m chaos.variants: every deliberately broken worker on one real stack, until it is caught.

A run that never fails proves nothing. Each variant has an installation of its own, gets a few faults, rests, is looked
at, and gets more, fifty at most.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from chaos.broken import CHECKERS, NAMES
from chaos.brokers import quick
from chaos.field import Field, Tell
from chaos.plan import CHECKERS as CHECKER_NAMES
from chaos.plan import FOLDS as FOLD_NAMES
from chaos.plan import KINDS, Fault, draw
from meterfold_deploy.stack import LocalStack

MOST = 50
_ROUNDS = (3, 5, 8, 12, 22)
#: Faults that have nothing to do with a rule only cost time.
_FOLD = ("fold", "partial insert", "slow answer", "reset after insert")
_CHECKER = ("checker", "definitions")


@dataclass(frozen=True, slots=True)
class Caught:
    """`faults` is how many there were when it was caught, None if it never was."""

    variant: str
    seed: int
    faults: int | None
    seconds: float
    by: str


def catch(stack: LocalStack, folder: Path, variant: str, seed: int, tell: Tell, most: int = MOST) -> Caught:
    """Faults until the variant is caught."""
    begun = time.monotonic()
    done, found = 0, ""
    words = _CHECKER if variant in CHECKERS else _FOLD
    faults = draw(seed, tuple(kind for kind in KINDS if any(word in kind for word in words) and "protocol" not in kind))
    name = "v" + variant.partition("_")[0] + f"_{seed % 100_000}_{abs(hash(variant)) % 10_000}"
    workers = ("fold-0", *CHECKER_NAMES) if variant in CHECKERS else (*FOLD_NAMES, "check-0")
    with Field(
        stack,
        folder / variant,
        seed,
        tell,
        name=name,
        broken=variant,
        protocol="consumer",
        rest_seconds=60,
        workers=workers,
        producers=("p0", "p1", "p3"),
    ) as it:
        for size in _ROUNDS:
            batch: Iterator[Fault] = islice(faults, min(size, most - done))
            it.inject(batch)
            done = len(it.outcomes)
            unrest = it.rest()
            found = "; ".join([*unrest, *it.compare(verify=False, patience=15).differences])
            if found or done >= most:
                break
            it.flow()
    return Caught(variant, seed, done if found else None, time.monotonic() - begun, " ".join(found.split())[:200])


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos.variants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=MOST)
    parser.add_argument("names", nargs="*", help="variants; all of them if left out", default=NAMES)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    logging.getLogger("meterfold").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="meterfold-chaos-"))
    all_caught = True
    with quick(), LocalStack(folder / "stack", brokers=3, kafka_port=0, clickhouse_port=0) as stack:
        for variant in arguments.names:

            def tell(text: str, variant: str = variant) -> None:
                sys.stdout.write(f"  {variant}: {text}\n")
                sys.stdout.flush()

            caught = catch(stack, folder, variant, arguments.seed, tell, arguments.faults)
            all_caught = all_caught and caught.faults is not None
            faults = "not caught" if caught.faults is None else caught.faults
            row = (caught.variant, caught.seed, faults, f"{caught.seconds:.0f}", caught.by)
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    return 0 if all_caught else 1


if __name__ == "__main__":
    sys.exit(main())
