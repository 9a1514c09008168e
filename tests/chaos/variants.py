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
from typing import Final

from chaos.broken import CHECKERS, NAMES, NOTIFIERS
from chaos.brokers import quick
from chaos.field import Field, Tell
from chaos.plan import CHECKERS as CHECKER_NAMES
from chaos.plan import FOLDS as FOLD_NAMES
from chaos.plan import KINDS, Fault, draw
from chaos.plan import NOTIFIERS as NOTIFIER_NAMES
from chaos.scenes import SCENES, USUAL
from meterfold_local.stack import LocalStack

MOST: Final = 50
_ROUNDS: Final = (4, 8, 14, 24)
#: The faults that a rule is there for; others would only cost time. Words of their kinds.
_FOLD: Final = ("fold killed", "partial insert")
_CHECKER: Final = ("checker killed", "definitions")
_NOTIFIER: Final = ("notifier killed", "mail server: slow", "mail server: busy", "endpoint: status 500")
_FOCUS: Final = {
    "27_committed_ends": ("away at a commit",),
    "01_merges_whole_shares": ("partial insert", "killed at publish_windows", "killed at progress"),
    "01_rolls_up_what_is_partly_folded": ("killed at a partial insert",),
    "02_publishes_changed_only": ("killed at publish_windows",),
    "03_duplicates_after_progress": ("killed at duplicates", "fold killed at commit"),
    "03_windows_before_records": ("killed at records", "killed at windows"),
    "03_progress_before_publish": ("killed at publish_windows",),
    "03_publish_before_insert": ("killed at windows", "killed at publish_windows"),
    "04_lookback_with_upper_bound": ("fold killed",),
    "06_never_refuses_expired": ("fold killed",),
    "11_commit_decides": ("fold killed at commit", "fold joins"),
    "11_minimum_decides": ("fold killed at commit", "fold joins"),
    "15_state_before_progress": ("fold wakes",),
    "21_positions_in_memory": ("clickhouse restored",),
    "24_only_newer_rows": ("definitions",),
    "24_versions_as_positions": ("newest deleted", "definitions: threshold"),
    "26_without_offsets": ("over a definition",),
    "27_late_flush_early_ends": ("checker wakes",),
    "28_keeps_memory_after_abort": ("broker killed", "coordinator killed"),
    "32_deletions_elsewhere": ("definitions: threshold", "newest deleted", "checker killed at Commit"),
    "34_no_replacement": ("definitions: threshold", "definitions: narrower"),
    "34_only_own_subjects": ("definitions",),
    "34_org_does_not_replace": ("definitions: narrower",),
    "34_wide_changes_no_org": ("definitions",),
    "34_wide_is_without_org": ("definitions: threshold",),
}


@dataclass(frozen=True, slots=True)
class Caught:
    """`faults` is how many there were when it was caught, None if it never was."""

    variant: str
    seed: int
    faults: int | None
    seconds: float
    by: str


def catch(
    stack: LocalStack, folder: Path, variant: str, seed: int, tell: Tell, most: int = MOST, *, broken: bool = True
) -> Caught:
    """Faults until the variant is caught; with `broken` false the same for workers that keep the rule."""
    begun = time.monotonic()
    done, found = 0, ""
    usual = _CHECKER if variant in CHECKERS else _NOTIFIER if variant in NOTIFIERS else _FOLD
    words = _FOCUS.get(variant, usual)
    faults = draw(seed, tuple(kind for kind in KINDS if any(word in kind for word in words) and "protocol" not in kind))
    name = "v" + variant.partition("_")[0] + f"_{seed % 100_000}_{abs(hash(variant)) % 10_000}"
    workers = _workers(variant)
    with Field(
        stack,
        folder / variant,
        seed,
        tell,
        name=name,
        broken=variant if broken else None,
        protocol="consumer",
        rest_seconds=60,
        workers=workers,
        producers=("p0", "p1", "p3"),
        scene=SCENES.get(variant, USUAL),
    ) as it:
        for size in _ROUNDS:
            batch: Iterator[Fault] = islice(faults, min(size, most - done))
            it.inject(batch)
            done = len(it.outcomes)
            unrest = it.rest()
            found = "; ".join([*unrest, *it.compare(verify=False, patience=15).differences])
            if found or it.waits or done >= most:
                break
            it.flow()
    return Caught(variant, seed, done if found else None, time.monotonic() - begun, " ".join(found.split())[:200])


def _workers(variant: str) -> tuple[str, ...]:
    if variant in NOTIFIERS:
        return ("fold-0", "check-0", *NOTIFIER_NAMES)
    return ("fold-0", *CHECKER_NAMES) if variant in CHECKERS else (*FOLD_NAMES, "check-0")


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos.variants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=MOST)
    parser.add_argument("--unbroken", action="store_true", help="the same with whole workers: none may be caught")
    parser.add_argument("names", nargs="*", help="variants; all of them if left out", default=NAMES)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    logging.getLogger("meterfold").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="meterfold-chaos-"))
    broken = not arguments.unbroken
    all_well = True
    with quick(), LocalStack(folder / "stack", brokers=3, kafka_port=0, clickhouse_port=0) as stack:
        for variant in arguments.names:

            def tell(text: str, variant: str = variant) -> None:
                sys.stdout.write(f"  {variant}: {text}\n")
                sys.stdout.flush()

            caught = catch(stack, folder, variant, arguments.seed, tell, arguments.faults, broken=broken)
            all_well = all_well and (caught.faults is not None) is broken
            faults = "not caught" if caught.faults is None else caught.faults
            row = (caught.variant, caught.seed, faults, f"{caught.seconds:.0f}", caught.by)
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
