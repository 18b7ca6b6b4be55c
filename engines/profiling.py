"""Times of nodes, run by run → their medians. Knows no library and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from engines.engine import LayerTime

WARM_UP = 2
"""First runs, whose times are left out."""


def medians_of(runs: Sequence[Sequence[LayerTime]]) -> list[LayerTime]:
    """The nodes of the first run, each with the median of its times in all runs.

    Raises:
        ValueError: no runs, or runs of different nodes.
    """
    words = [[(node.name, node.kind) for node in run] for run in runs]
    if not words or any(other != words[0] for other in words):
        raise ValueError(f"{len(runs)} profiled runs that are not of the same nodes")
    return [LayerTime(name, kind, median(run[place].ms for run in runs)) for place, (name, kind) in enumerate(words[0])]
