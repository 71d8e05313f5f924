"""Near-optimal neighbours of an allocation: one dear table forced one dimension up or down, the rest chosen anew."""

from collections.abc import Sequence

import numpy as np

from keras_dimgrow.allocation import allocate

_MIN_COST_SHARE = 0.05  # of the budget, for one dimension or for all that the table has


def neighbours(
    utilities: Sequence[np.ndarray],
    costs: Sequence[int],
    budget: int,
    minimum: Sequence[int],
    dimensions: Sequence[int],
    num_expensive: int = 3,
) -> list[np.ndarray]:
    """Other allocations, each with d_i + 1 or d_i - 1 in one of the tables where a wrong dimension costs most.

    These are the tables that hold most parameters, or would with one dimension: with more than 5% of the budget in
    max(d_i, 1) V_i.

    Args:
        utilities, costs, budget, minimum: see `allocate`.
        dimensions: d_i of each table, what `allocate` chose.
        num_expensive: in how many tables at most, the dearest first.

    Returns:
        At most two int64 [F] a table, each within the budget, all different from each other and from `dimensions`.

    Example:
        >>> curves = [np.array([0.0, 3.0, 4.0]), np.array([0.0, 2.0, 3.0])]
        >>> neighbours(curves, [100, 10], 120, [0, 0], [1, 2])
        [array([0, 2]), array([1, 1])]
    """
    chosen = np.asarray(dimensions, np.int64)
    held = np.maximum(chosen, 1) * np.asarray(costs, np.int64)
    dearest = [int(i) for i in np.argsort(-held, kind="stable") if held[i] > _MIN_COST_SHARE * budget]
    found: list[np.ndarray] = []
    for i in dearest[:num_expensive]:
        for forced in (chosen[i] + 1, chosen[i] - 1):
            least = np.array(minimum, np.int64)
            is_possible = least[i] <= forced < len(utilities[i])
            least[i] = forced
            if not is_possible or int(least @ np.asarray(costs, np.int64)) > budget:
                continue
            curves = [curve[: forced + 1] if table == i else curve for table, curve in enumerate(utilities)]
            neighbour = allocate(curves, costs, budget, least.tolist())
            if not any(np.array_equal(neighbour, other) for other in (chosen, *found)):
                found.append(neighbour)
    return found
