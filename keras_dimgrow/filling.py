"""What a budget has left, shared out among the tables that are kept."""

from collections.abc import Sequence

import numpy as np

MIN_USED_SHARE = 0.92  # of the budget; a plan below it says why
ALPHA = 0.1  # mixed dimensions (arXiv 1909.11810) have 0.3; here shapes come from what was measured


def fill(
    dims: np.ndarray,
    sizes: np.ndarray,
    budget: int,
    most: Sequence[int] | np.ndarray,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Dimensions in proportion to d_i V_i^-0.1, at least d_i, with as much of the budget as fits.

    Column by column, to the table that is furthest below its proportion; one whose next column does not fit is passed over as
    long as less than 92% of the budget is used. What a plan was shown to need keeps its shape; where all tables were shown
    to need one dimension, small vocabularies get a little more.

    Args:
        dims: d_i of each table, int [F]; tables with 0 stay at 0.
        sizes: V_i of each table, int [F].
        budget: parameters that the plan may have; `dims` must fit, or `start` where it is given.
        most: the most dimensions of each table, [F]; tables that have more keep what they have.
        start: what tables have got already, at least `dims`, int [F]. None: `dims`.

    Example:
        >>> fill(np.array([1, 2, 0]), np.array([1000, 10, 10]), 2100, [16, 16, 16])
        array([ 2, 10,  0])
    """
    filled = np.array(dims if start is None else start, np.int64)
    weights = dims * sizes.astype(float) ** -ALPHA
    room = budget - int(sizes @ filled)
    growing = {i for i in np.flatnonzero(filled).tolist() if filled[i] < most[i]}
    while growing:
        # The scale at which a table's proportion rounds to one more; of equals, the first.
        i = min(growing, key=lambda i: ((filled[i] + 0.5) / weights[i], i))
        if sizes[i] <= room:
            filled[i] += 1
            room -= int(sizes[i])
        elif budget - room >= MIN_USED_SHARE * budget:
            break
        if sizes[i] > room or filled[i] >= most[i]:
            growing.remove(i)
    return filled
