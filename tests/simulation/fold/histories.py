"""One random history by its seed: a log, a cut of it, and a fate for everyone who works on it."""

from __future__ import annotations

import random
from dataclasses import replace

from meterfold_schemas.periods import DAY
from simulation.fold.logs import RULES, random_log, with_foreign_headers
from simulation.fold.variants import Variant
from simulation.fold.world import World

LAG = 4 * DAY
"""What a source topic keeps in histories in which records expire."""


def run_history(seed: int, variant: Variant | None = None) -> None:
    """Raises AssertionError when the tables do not come to what the oracle says."""
    variant = variant or Variant(foreign=None)
    rng = random.Random(seed)
    log = random_log(rng, rng.choice([2, 3, 4, 6, 9, 16]))
    rules, expiring = RULES, rng.random() < 0.15 or variant.expiring
    if expiring:
        rules = replace(RULES, record_retention=RULES.lookback + RULES.slack + LAG)
    # Chance of its own, so that every other history stays what it was.
    schema_rng = random.Random(~seed)
    foreign = schema_rng.random() < 0.3 if variant.foreign is None else variant.foreign
    if foreign:
        log = with_foreign_headers(schema_rng, log)
    world = World(log, rng, variant.parts, variant.rules(rules), schema_rng=schema_rng if foreign else None)
    world.expiring = expiring
    with variant.active():
        world.run(rng.choice([10, 25, 50]))
