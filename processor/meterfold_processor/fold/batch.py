"""The verdict on one batch of one partition: accepted or rejected, each with its reason. No memory of earlier
events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.fold import validate
from meterfold_processor.fold.rejected import misrouted_details, with_subject
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.subjects import MISROUTED, SUBJECT, Placed, Subjects

Int64s = npt.NDArray[np.int64]

MISROUTED_REASON = "misrouted"
_REJECTED_COLUMNS = ["row", "partition", "offset", "stamp", "key", *SUBJECT, "reason", "detail"]


@dataclass(frozen=True, slots=True)
class ValidatedBatch:
    """`accepted` has all columns of the batch and `time` (UTC microseconds), `subject` the row of each accepted event
    in `subjects`; `rejected` has positions, `reason`, `detail` and the subject where it is known (else empty). Both by
    rising offset."""

    accepted: pl.DataFrame
    subject: Int64s
    subjects: Placed
    rejected: pl.DataFrame


def judge(
    batch: pl.DataFrame, subjects: Subjects, rules: Rules, before_misrouted: Callable[[], None]
) -> ValidatedBatch:
    """Apply the rules in their fixed order: undecodable, invalid, misrouted, too old, in the future.

    `before_misrouted` is called before an event is rejected as misrouted; it raises Fatal when the topic has another
    number of partitions than this worker knows, since then it is the worker that is wrong.
    """
    batch = batch.with_columns(time=pl.col("timestamp").to_physical())
    rejected: list[pl.DataFrame] = []

    detail = validate.invalid(batch)
    wrong = batch["reason"].is_not_null() | detail.is_not_null()
    if wrong.any():
        refused = batch.with_columns(
            reason=pl.coalesce("reason", pl.when(detail.is_not_null()).then(pl.lit(validate.INVALID))),
            detail=pl.coalesce("detail", detail),
        )
        rejected.append(refused.filter(wrong).select(_REJECTED_COLUMNS))
        batch = batch.filter(~wrong)

    placed = subjects.place(batch)
    subject = placed.subject
    if (subject == MISROUTED).any():
        before_misrouted()
        misrouted = pl.Series(subject == MISROUTED)
        refused = batch.filter(misrouted)
        refused = refused.with_columns(
            reason=pl.lit(MISROUTED_REASON), detail=misrouted_details(refused, rules.partition_count)
        )
        rejected.append(refused.select(_REJECTED_COLUMNS))
        batch, subject = batch.filter(~misrouted), subject[subject != MISROUTED]

    timely = batch.select(
        validate.timely(pl.col("time"), pl.col("stamp"), rules.horizon, rules.future_tolerance)
    ).to_series()
    if not timely.all():
        late = batch.filter(~timely)
        verdict = validate.untimely(late, rules.horizon, rules.future_tolerance)
        rejected.append(late.with_columns(verdict["reason"], verdict["detail"]).select(_REJECTED_COLUMNS))
        batch, subject = batch.filter(timely), subject[timely.to_numpy()]

    refused = pl.concat(rejected).sort("offset") if rejected else batch.clear().select(_REJECTED_COLUMNS)
    return ValidatedBatch(batch, subject, placed, with_subject(refused))
