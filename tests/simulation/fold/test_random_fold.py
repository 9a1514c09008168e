"""Random histories of the fold: the tables come to what the oracle says, whatever happens to the workers.

METERFOLD_SIMULATIONS sets how many there are. METERFOLD_SEED=<seed> METERFOLD_SIMULATIONS=1 runs one history again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from meterfold_processor.fold import duplicates, partition, recall
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.period_windows import PeriodWindows
from meterfold_processor.fold.remembered import Remembered
from meterfold_processor.fold.schemas import BY_TIME
from meterfold_processor.fold.windows import WindowTable
from simulation.fold import verdict
from simulation.fold import world as world_module
from simulation.fold.histories import run_history
from simulation.fold.model_store import ModelStore
from simulation.fold.variants import VARIANTS
from simulation.fold.world import Worker, World
from support.seeds import seed_of

HISTORIES = int(os.environ.get("METERFOLD_SIMULATIONS", "30"))
WATCHED = range(120)
"""Seeds that are always run, and of which it is seen where their histories come."""


def run_and_name(seed: int) -> None:
    try:
        run_history(seed)
    except BaseException:
        print(f"the history of seed {seed} went wrong: run_history({seed}) shows it again")  # noqa: T201
        raise


def test_random_histories_come_to_the_oracle() -> None:
    first = seed_of("random histories of the fold")
    for seed in range(first, first + HISTORIES):
        run_and_name(seed)


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.seeds])
def test_random_histories_catch(name: str) -> None:
    variant = VARIANTS[name]
    for seed in variant.seeds:
        try:
            run_history(seed, variant)
        except AssertionError:
            return
    pytest.fail(f"no history of {variant.seeds} notices {name}")


def test_random_histories_go_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation that never comes to a place proves nothing about it."""
    seen: Counter[str] = Counter()

    def watch(owner: Any, name: str, place: str, came: Callable[..., bool]) -> None:
        real = getattr(owner, name)

        def watched(*args: Any, **named: Any) -> Any:
            answer = real(*args, **named)
            seen[place] += came(answer, *args)
            return answer

        monkeypatch.setattr(owner, name, watched)

    watch(Ledger, "_merged_carefully", "a row had a part of the batch", lambda *_: True)
    watch(WindowTable, "forget", "windows were evicted", lambda *_: True)
    watch(ModelStore, "find_windows", "a single window was fetched", lambda found, *_: not found.is_empty())
    watch(ModelStore, "load_part", "a part of a bucket was loaded", lambda found, *_: not found.is_empty())
    watch(
        PeriodWindows,
        "_unknown",
        "a loaded part saved a look-up",
        lambda asked, windows, partly, ordinals, *_: 0 < len(asked) < len(ordinals),
    )
    watch(ModelStore, "load_windows", "stored windows were loaded", lambda found, *_: not found.is_empty())
    watch(ModelStore, "find_records", "a counted record was found", lambda found, *_: not found.is_empty())
    watch(ModelStore, "load_identities", "identities were loaded", lambda found, *_: len(found[0]) > 0)
    watch(recall._Load, "step", "a stored table was taken over", lambda then, _: then is None)
    watch(recall._Load, "_late", "identities came after their table", lambda found, _: len(found[0]) > 0)
    watch(recall._Load, "_read", "a damaged table was built again", lambda then, *_: isinstance(then, recall._Build))
    watch(recall._Build, "step", "a table was built", lambda then, _: then is None)
    watch(Remembered, "set_aside", "exact identities were replaced", lambda *_: True)
    watch(partition, "dismiss", "a table claimed an event", lambda _, claims, *__: any(c.version for c in claims))
    watch(partition, "dismiss", "a false hit was dismissed", lambda left, claims, *_: len(left) < len(claims))
    watch(Remembered, "candidates", "a batch came before all was loaded", lambda _, memory, *__: bool(memory.missing))
    watch(ModelStore, "expire_before", "records expired", lambda _, store, *__: bool(store.expired))
    watch(Remembered, "forget_before", "identities were forgotten", lambda _, memory, *__: memory.loaded_from > 0)
    watch(duplicates, "_decide_one_by_one", "an identity counted twice in a batch", lambda *_: True)
    watch(World, "effect_fails", "an effect failed", lambda failed, *_: failed)
    watch(World, "restore", "ClickHouse was restored", lambda *_: True)
    watch(Worker, "_fold_next", "folded ahead of a flush", lambda _, worker: len(worker.in_flight) == 1)
    watch(verdict, "check_so_far", "a worker stopped for expired records", lambda *_: True)
    watch(Worker, "obey", "a foreign schema was read", lambda _, __, ___, step: step.schema is not None)
    watch(World, "_operator", "an operator decided", lambda *_: True)
    by_time = "an unknown schema became poison by time"
    watch(world_module, "next_schema_step", by_time, lambda step, *_: BY_TIME in getattr(step, "detail", ""))
    for seed in WATCHED:
        run_and_name(seed)
    assert len(seen) == 26
    assert min(seen.values()) > 0, seen
