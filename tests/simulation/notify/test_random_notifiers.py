"""Random histories of notifiers, each from a seed; a failure names it.

METERFOLD_SIMULATIONS sets how many there are. METERFOLD_SEED=<seed> METERFOLD_SIMULATIONS=1 runs one history again.
"""

from __future__ import annotations

import os

import pytest

from simulation.notify.variants import VARIANTS
from simulation.notify.world import Chance, Installation, Variant, run
from support.notifier import HOOK, MAIL, OPERATOR
from support.seeds import seed_of

# Read while the module is loaded: fixtures remove every METERFOLD_ variable before a test runs.
HISTORIES = int(os.environ.get("METERFOLD_SIMULATIONS", "30"))
LENGTH = 80
_TRIED = 150


def history(seed: int, variant: Variant) -> Installation:
    try:
        return run(Chance(seed), variant, LENGTH)
    except Exception as error:
        error.add_note(f"METERFOLD_SEED={seed} METERFOLD_SIMULATIONS=1 runs this history again")
        raise


def test_every_receiver_sees_each_event_once_by_its_id() -> None:
    first = seed_of("random histories of notifiers")
    events = repeats = changes = 0
    for seed in range(first, first + HISTORIES):
        here = history(seed, Variant())
        events += len(here.world.log)
        changes += len(here.received[OPERATOR])
        repeats += sum(len(here.received[target]) - len(set(here.received[target])) for target in (HOOK, MAIL))
    assert events > 5 * HISTORIES
    if HISTORIES > 20:
        assert repeats > HISTORIES, "the histories repeat messages, which the ids have to make up for"
        assert changes > HISTORIES / 4, "and endpoints fail and recover"


def test_without_a_fault_nothing_is_sent_twice() -> None:
    seed = seed_of("quiet histories of notifiers")
    for number in range(5):
        here = run(Chance(seed + number, killed=0, unavailable=0, paused=0, silent=0, restored=0), Variant(), LENGTH)
        assert here.received[HOOK]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_random_histories_find_broken_notifiers(variant: type[Variant]) -> None:
    """The random histories are worth something: without a rule one of them fails soon."""
    for seed in range(5_000, 5_000 + _TRIED):
        try:
            history(seed, variant())
        except AssertionError:
            return
    pytest.fail(f"{_TRIED} histories went well without the rule of {variant.__name__}")
