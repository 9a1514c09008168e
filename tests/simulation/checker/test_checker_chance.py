"""Random histories of the checker, each from a seed; a failure names it.

METERFOLD_SIMULATIONS sets how many there are. METERFOLD_SEED=<seed> METERFOLD_SIMULATIONS=1 runs one history again.
"""

from __future__ import annotations

import os

import pytest

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.pace import Sizes
from simulation.checker import variants
from simulation.checker.chance import Chance
from simulation.checker.variants import Broken
from support.seeds import seed_of

# Read while the module is loaded: fixtures remove every METERFOLD_ variable before a test runs.
HISTORIES = int(os.environ.get("METERFOLD_SIMULATIONS", "30"))
LENGTH = 120


def run(seed: int, variant: Broken | None = None) -> None:
    try:
        Chance(seed, variant).run(LENGTH)
    except Exception as error:
        error.add_note(f"METERFOLD_SEED={seed} METERFOLD_SIMULATIONS=1 runs this history again")
        raise


def test_random_histories() -> None:
    first = seed_of("random histories of the checker")
    for seed in range(first, first + HISTORIES):
        run(seed)


_FIRST_SEED = {variants.BelievesHoles: 5_563, variants.OneTypePerThreshold: 5_050, variants.WideChangesNoOrg: 5_033}
"""Where the search begins for a variant that few histories notice; elsewhere at 5,000."""


@pytest.mark.parametrize(
    "variant",
    [
        variants.PositionPerSubject,
        variants.StreamOnly,
        variants.BelievesHoles,
        variants.OnlyNewerRows,
        variants.KeepsMemoryAfterAbort,
        variants.ForgetsEarly,
        variants.NoReplacement,
        variants.OnlyOwnSubjects,
        variants.AggregatesFirst,
        variants.EmitsBeforeReadingBack,
        variants.WideIsWithoutOrg,
        variants.OrgDoesNotReplace,
        variants.OneTypePerThreshold,
        variants.WideChangesNoOrg,
    ],
)
def test_random_histories_find_broken_checkers(variant: type[Broken]) -> None:
    """The random histories are worth something: without a rule one of them fails soon."""
    with pytest.MonkeyPatch.context() as patch:
        broken = variant()
        broken.install(patch)
        first = _FIRST_SEED.get(variant, 5_000)
        for seed in range(first, first + 400):
            try:
                Chance(seed, broken).run(LENGTH)
            except AssertionError:
                return
    pytest.fail(f"400 histories from {first} went well without the rule of {variant.__name__}")


def test_a_process_is_killed_at_every_operation() -> None:
    """One plain history, with a crash before each operation of a step and of an opening in turn."""
    from simulation.checker.test_checker_histories import finish
    from simulation.checker.world import U2, World

    kinds = [kind for kind in ops.Operation.__args__ if kind is not ops.PollRows]
    for crashing in kinds:
        for fault in (None, "lost answer", "late marker", "aborted"):
            world = World(sizes=Sizes() if fault is None else Sizes(1, 2, 1, 2, 2, 3))
            world.metric()
            world.threshold()
            worker = world.start()
            for quantity in (85, 30, -90, 200):
                world.tick(11_000_000)
                world.use(quantity)
                world.use(quantity, U2)
                world.fold()
                for _ in range(60):
                    if isinstance(worker.operation, crashing):
                        if fault is not None:
                            worker.faults["commit"] = fault
                            worker.advance()
                        world.kill(worker)
                        worker = world.start()
                        break
                    worker.advance()
                world.run()
            finish(world)
