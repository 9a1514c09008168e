"""python -m chaos: faults by the hundred, then the proof. `make chaos SEED=7 FAULTS=300` calls it."""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos.plan import kinds_on
from chaos.report import table
from chaos.run import Options, Result, run


def main() -> int:
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first one
        signal.signal(number, signal.default_int_handler)
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    words = arguments.only or [""]
    kinds = tuple(kind for kind in kinds_on(arguments.brokers) if any(word in kind for word in words))
    if not kinds:
        where = f"a cluster of {arguments.brokers}"
        sys.exit(f"no kind of fault on {where} has any of the words {words}: docs/chaos.md names them")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="meterfold-chaos-"))
    begun = time.monotonic()
    logging.getLogger("meterfold").setLevel(logging.CRITICAL)  # lost connections are what this is about

    def tell(text: str) -> None:
        # One write: faults that end at the same moment tell from threads of their own.
        sys.stdout.write(f"{time.monotonic() - begun:7.1f} {text}\n")
        sys.stdout.flush()

    print(f"seed {seed}, at most {arguments.faults} faults, in {folder}", flush=True)
    options = Options(
        seed,
        arguments.faults,
        folder,
        arguments.seconds,
        kinds,
        arguments.broken,
        arguments.protocol,
        arguments.brokers,
    )
    result = run(options, tell)
    show(result)
    print(f"\nto repeat: {_command(arguments, seed)}")
    if result.findings.differences:
        print(f"what is left stands in {folder}")
        return 1
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def show(result: Result) -> None:
    print(f"\n{table(result.outcomes)}\n")
    found = result.findings
    if found.account:
        print(found.account)
    if found.alerts:
        print(found.alerts)
    if found.notices:
        print(found.notices)
    for difference in found.differences:
        print(f"DIFFERENCE {difference}")
    if not found.differences:
        print(f"no difference after {len(result.outcomes)} faults in {result.seconds:.0f} s; verify: {found.verified}")


def _command(arguments: argparse.Namespace, seed: int) -> str:
    command = f"make chaos SEED={seed} FAULTS={arguments.faults}"
    if arguments.seconds:
        command += f" SECONDS={arguments.seconds:g}"
    more = "".join(f" --only '{word}'" for word in arguments.only or ())
    more += f" --broken {arguments.broken}" if arguments.broken else ""
    more += f" --protocol {arguments.protocol}" if arguments.protocol else ""
    more += f" --brokers {arguments.brokers}" if arguments.brokers != 3 else ""
    return command + (f' ARGS="{more.strip()}"' if more else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="which faults; random if left out, and printed")
    parser.add_argument("--faults", type=int, default=100, help="how many at most")
    parser.add_argument("--seconds", type=float, help="no fault begins after so long")
    parser.add_argument("--only", action="append", help="only kinds of faults with this word; may be repeated")
    parser.add_argument("--broken", help="run with a deliberately broken worker: the run must fail")
    parser.add_argument("--protocol", choices=("consumer", "classic"), help="the group protocol to begin with")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=3, help="how many of Kafka")
    parser.add_argument("--folder", type=Path, help="where everything is kept (a fresh one in the temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the folder even if nothing differs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
