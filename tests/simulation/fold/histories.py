"""One random history by its seed: a log, a cut of it, and a fate for everyone who works on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from meterfold_processor.fold import compact, recall
from meterfold_schemas.periods import DAY
from simulation.fold.logs import RULES, aging_log, random_log, with_foreign_headers
from simulation.fold.variants import Variant
from simulation.fold.world import World

LAG = 4 * DAY
"""What a source topic keeps in histories in which records expire."""


@contextmanager
def tiny_tables() -> Iterator[None]:
    """Tables of so few bits that they claim about every other identity, in so many pieces that each takes steps."""
    with (
        patch.object(compact, "SHAPE", compact.Shape(remainder_bits=1, rest_bits=1, load=0.8, piece_bits=1)),
        patch.object(recall, "FEW", 1),
        patch.object(recall, "STEP_IDENTITIES", 2),
    ):
        yield


def run_history(seed: int, variant: Variant | None = None) -> None:
    """Raises AssertionError when the tables do not come to what the oracle says."""
    variant = variant or Variant(foreign=None, aging=None)
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
    memory_rng = random.Random(seed ^ 0x5EED)
    aging = memory_rng.random() < 0.3 if variant.aging is None else variant.aging
    if aging:
        log = aging_log(memory_rng)
    world = World(
        log,
        rng,
        variant.parts,
        variant.rules(rules),
        schema_rng=schema_rng if foreign else None,
        memory_rng=memory_rng,
    )
    world.expiring = expiring
    if aging:
        world.recall_chance = memory_rng.choice([0.5, 0.9])
    with tiny_tables(), variant.active():
        world.run(rng.choice([10, 25, 50]) * (4 if aging else 1))
