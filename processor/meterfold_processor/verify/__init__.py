"""`meterfold verify`: proves the numbers of an installation, on a live system too.

offsets       fixed first: everything below a partition's progress is to be proven
conservation  each offset of the log in exactly one of three tables, or no message
windows       equal to a recount of their records, lifetimes to the sum of their months
states        what follows from windows and definitions is what threshold.state says, each crossing has its event
"""

from meterfold_processor.verify.report import (
    Finding,
    OrgCounts,
    PartitionReport,
    Report,
    ThresholdReport,
    Unproven,
    Verdict,
    WindowName,
)
from meterfold_processor.verify.run import verify

__all__ = [
    "Finding",
    "OrgCounts",
    "PartitionReport",
    "Report",
    "ThresholdReport",
    "Unproven",
    "Verdict",
    "WindowName",
    "verify",
]
