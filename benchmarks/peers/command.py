"""The command line of run.py: which peers run how often, and where the results go."""

from __future__ import annotations

import argparse
from pathlib import Path

import machine
from meterfold_cli import console
from peers import contest, page
from peers.arena import Arena
from peers.contestants import BACKLOGS, FOLDER, FORMATS, PEERS, Peer, chosen
from peers.outcomes import Median, Results, medians
from peers.tables import HEADERS, rows

RESULTS = FOLDER / "results.json"


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        console.table(["name", "peer", "guarantee"], [[p.name, p.title, p.guarantee] for p in PEERS])
        return 0
    results = Results(arguments.results)
    if arguments.write_docs:
        page.write(results.outcomes, _medians(results, arguments))
        return 0
    peers = chosen(arguments.only)
    console.say(machine.describe())
    for name in arguments.backlog:
        cases = [(peer, fmt) for peer in peers for fmt in peer.formats if fmt in arguments.format]
        if arguments.again:
            results.forget((peer.name, fmt, name, arguments.events) for peer, fmt in cases)
        _measure(results, name, cases, arguments)
    found = _medians(results, arguments)
    for name in arguments.backlog:
        console.say()
        console.table([name, *HEADERS], rows([one for one in found if one.backlog == name]))
    failed = [one for one in found if one.failed]
    for one in failed:
        console.say()
        console.fail(f"{one.peer} on {one.format}, {one.backlog}: {one.failed}")
    return 1 if failed else 0


def _medians(results: Results, arguments: argparse.Namespace) -> list[Median]:
    """Of all peers in the file, also those that were not chosen now: a table without them would say less."""
    return [one for one in medians(results.outcomes) if one.events == arguments.events]


def _measure(results: Results, name: str, cases: list[tuple[Peer, str]], arguments: argparse.Namespace) -> None:
    """Round by round, so that a change of the machine's load meets all peers alike."""

    def needed(peer: Peer, fmt: str) -> int:
        return results.missing((peer.name, fmt, name, arguments.events), arguments.runs)

    if not any(needed(*case) for case in cases):
        return
    arena = Arena(name, arguments.events, arguments.seed)
    try:
        for number in range(arguments.runs):
            for peer, fmt in cases:
                if needed(peer, fmt) < arguments.runs - number:
                    continue
                outcome = contest.run(arena, peer, fmt, arguments.deadline)
                results.add(outcome)
                if outcome.error:
                    console.say(f"{name} {fmt:4} {peer.title}: FAILED: {outcome.error.splitlines()[0]}")
                else:
                    rate, cpu = arguments.events / outcome.seconds, sum(outcome.cpu.values())
                    console.say(
                        f"{name} {fmt:4} {peer.title}: {rate:,.0f} events/s, {cpu:.1f} us/event, equal to the oracle"
                    )
    finally:
        arena.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3, help="Successful runs per case; earlier ones in the file count.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="Names of peers (--list shows them).")
    parser.add_argument("--backlog", nargs="+", choices=BACKLOGS, default=list(BACKLOGS))
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="File of results, written after each run.")
    parser.add_argument("--again", action="store_true", help="Measure the chosen cases again.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--deadline", type=float, default=900.0, help="Seconds that one run may take.")
    parser.add_argument(
        "--write-docs", action="store_true", help="Write docs/peers.md and docs/peers.svg; measure nothing."
    )
    parser.add_argument("--list", action="store_true", help="Show the peers and exit.")
    return parser.parse_args()
