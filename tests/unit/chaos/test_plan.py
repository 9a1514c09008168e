"""The faults of a chaos run are a function of its seed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from chaos.broken import CHECKERS, NAMES, NOTIFIERS, SIMULATED
from chaos.journal import Journal, has_report, read
from chaos.plan import ENDPOINT, KINDS, NOTICES, PLANNING, SENDING, SHORT, draw, kinds_on
from chaos.receivers import HARMS
from chaos.scenes import SCENES
from simulation.checker import variants as checkers
from simulation.fold.variants import VARIANTS as FOLDS
from simulation.notify.variants import VARIANTS
from support.seeds import seed_of


def test_a_seed_repeats_its_faults_and_begins_with_every_kind() -> None:
    seed = seed_of("plan of faults")
    first = list(islice(draw(seed), 200))
    assert first == list(islice(draw(seed), 200))
    assert {fault.kind for fault in first[: len(KINDS)]} == set(KINDS)
    assert first != list(islice(draw(seed + 1), 200))
    assert all(
        (fault.point is not None) == (fault.group in ("point", "opening", "stop at", "alone", "away", "wake"))
        for fault in first
    )


def test_a_single_broker_has_the_faults_that_need_no_other() -> None:
    assert set(kinds_on(3)) == set(KINDS)
    assert set(KINDS) - set(kinds_on(1)) == {
        "broker killed",
        "group coordinator killed",
        "transaction coordinator killed",
        "broker away at a commit",
    }


def test_the_short_run_has_faults_of_every_group_and_both_workers() -> None:
    def hit(kinds: Iterable[str]) -> set[tuple[str, str]]:
        return {(KINDS[kind][0], kind.split()[0] if kind.startswith(("fold ", "checker ")) else "") for kind in kinds}

    assert set(NOTICES) & set(SHORT) == set(), "it has no notifiers"
    left_out = {("kill", "fold"), ("stop", "fold"), ("stop at", "checker"), ("protocol", "fold")}
    assert hit(KINDS.keys() - set(NOTICES)) - hit(SHORT) == left_out


def test_every_step_of_a_notifier_and_every_harm_of_a_receiver_is_a_fault() -> None:
    killed = {kind.rpartition(" ")[2] for kind in NOTICES if KINDS[kind][0] == "point"}
    assert killed == {*PLANNING, *SENDING, *ENDPOINT}
    assert {kind for kind in NOTICES if KINDS[kind][0] == "receiver"} == set(HARMS)
    points = [fault.point for fault in islice(draw(7, NOTICES), 2_000) if fault.group == "stop at"]
    assert {point.step for point in points if point is not None} == {*PLANNING, *SENDING}


def test_every_broken_variant_of_the_simulations_runs_here() -> None:
    """By number and rule; PublishBeforeInsert (19) is a rule of the fold, where it is 03_publish_before_insert."""
    assert set(NAMES) == (FOLDS.keys() - SIMULATED) | CHECKERS.keys() | NOTIFIERS.keys()
    simulated_notifiers = {re.sub("(?<!^)([A-Z])", r"_\1", variant.__name__).lower() for variant in VARIANTS}
    assert {name.removeprefix("notify_") for name in NOTIFIERS} <= simulated_notifiers
    assert {name.partition("_")[0] for name in SIMULATED} == {"40", "41"}
    assert SCENES.keys() <= set(NAMES)
    simulated = {variant.__name__ for variant in checkers.Broken.__subclasses__()} - {"PublishBeforeInsert"}
    here = {variant.__name__ for variant in CHECKERS.values()}
    # 32 is DeletionsExpired here, and all usage is that of one organization, whose metric has one type at a time.
    # The order of aggregates, and pieces of stored windows, need a moment that a run does not reach on purpose.
    order = {"AggregatesFirst", "EmitsBeforeReadingBack", "ForgetsTheRest", "BelievesTheStream"}
    assert simulated - here == {"DeletionsElsewhere", "OneTypePerThreshold", *order}


def test_a_journal_is_read_back_also_behind_a_torn_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "p.jsonl"
    Journal(path).write("handed", "p-0", quantity="1")
    with path.open("a") as file:
        file.write('{"kind":"acknowledged","id":"p-0","parti')
    begun = path.stat().st_size
    again = Journal(path)
    again.write("handed", "p-0", quantity="1")
    assert not has_report(path, begun)
    again.write("acknowledged", "p-0", partition=1, offset=7)
    assert has_report(path, begun)
    entry = read(path)["p-0"]
    assert (entry.contents, entry.acknowledged) == ([{"quantity": "1"}], [(1, 7)])
