"""Random histories of the fold: the tables come to what the oracle says, whatever happens to the workers.

METERFOLD_SIMULATIONS sets how many histories are run, METERFOLD_SIMULATION_SEED the first of their seeds.
"""

from __future__ import annotations

import os

import pytest

from simulation.fold.histories import run_history
from simulation.fold.variants import VARIANTS

HISTORIES = int(os.environ.get("METERFOLD_SIMULATIONS", "400"))
FIRST_SEED = int(os.environ.get("METERFOLD_SIMULATION_SEED", "0"))
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories_come_to_the_oracle(part: int) -> None:
    for seed in range(FIRST_SEED + part, FIRST_SEED + HISTORIES, PARTS):
        try:
            run_history(seed)
        except BaseException:
            print(f"the history of seed {seed} went wrong: run_history({seed}) shows it again")  # noqa: T201
            raise


@pytest.mark.parametrize("name", VARIANTS)
def test_random_histories_catch(name: str) -> None:
    variant = VARIANTS[name]
    for seed in variant.seeds:
        try:
            run_history(seed, variant)
        except AssertionError:
            return
    pytest.fail(f"no history of {variant.seeds} notices {name}")
