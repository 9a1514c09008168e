"""`meterfold verify`: proves the numbers of an installation, on a live system too.

offsets       fixed first: everything below a partition's progress is to be proven
conservation  each offset of the log in exactly one of three tables, or no message
windows       equal to a recount of their records, lifetimes to the sum of their months
identities    each counted once within the look-back; a duplicate repeats something that was counted
contents      each row is what its message says and the rules decide (only where it is asked for)
closings      numbers as closed have their checksum, and are what the records add up to while those are kept
aggregates    what usage.aggregated says is what the stored windows say, each event once
definitions   the tables of metrics and thresholds are what their topics say
states        what follows from windows and definitions is what threshold.state says, each crossing has its event
"""

from meterfold_processor.verify.report import (
    Finding,
    OrgCounts,
    PartitionReport,
    ThresholdReport,
    Unproven,
    VerifyReport,
    VerifyResult,
    WindowName,
)
from meterfold_processor.verify.run import verify
from meterfold_processor.verify.timerange import TimeRange

__all__ = [
    "Finding",
    "OrgCounts",
    "PartitionReport",
    "ThresholdReport",
    "TimeRange",
    "Unproven",
    "VerifyReport",
    "VerifyResult",
    "WindowName",
    "verify",
]
