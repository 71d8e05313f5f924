"""The largest scale of given proportions between dimensions that a budget allows."""

import math
from collections.abc import Sequence

import numpy as np

from keras_dimgrow.fields import Field
from keras_dimgrow.methods.problem import SearchProblem

Bounds = tuple[int, int]


def bounds_of(table: Field, max_dimension: int) -> Bounds:
    """Least and most dimensions of a table that is kept: 1 or its `min_dim`, and `max_dimension` or its `max_dim`."""
    least = max(1, table.min_dim)
    return least, max(least, min(table.max_dim, max_dimension))


def scale_dimensions(
    weights: Sequence[float],
    bounds: Sequence[Bounds],
    sizes: Sequence[int],
    max_parameters: int | None = None,
    max_scale: float = math.inf,
    use_powers_of_two: bool = False,
) -> list[int]:
    """d_i = round(c w_i) within its bounds, for the largest c <= max_scale with sum_i V_i d_i <= max_parameters.

    Dimensions never fall while c rises, and change at finitely many c only. These are sorted and summed, so that c is
    exact; tables whose dimensions rise at the same c rise together or not at all.

    Args:
        weights: w_i > 0 of each table.
        bounds: least and most dimensions of each table; the least must fit the budget.
        sizes: V_i, rows of each table.
        max_parameters: the budget, None for none.
        max_scale: the largest c.
        use_powers_of_two: dimensions are rounded to the nearest power of two (of their logarithm), not to the nearest
            integer; a least dimension that is none stays.

    Example:
        >>> scale_dimensions([1.0, 2.0], [(1, 16), (1, 16)], [100, 10], max_parameters=400)
        [3, 7]
    """
    rises = []  # (c, table, dimension from this c on)
    for i, (weight, (low, high)) in enumerate(zip(weights, bounds, strict=True)):
        if use_powers_of_two:
            powers = [2**k for k in range(high.bit_length())]
            rises += [(dim / 2**0.5 / weight, i, dim) for dim in powers if dim > low]
        else:
            rises += [((dim - 0.5) / weight, i, dim) for dim in range(low + 1, high + 1)]
    rises.sort()
    dims, rows = np.array([low for low, _ in bounds]), np.array(sizes)
    allowed = dims.copy()
    for k, (scale, i, dim) in enumerate(rises):
        dims[i] = dim
        if scale > max_scale or (max_parameters is not None and int(dims @ rows) > max_parameters):
            break
        if k + 1 == len(rises) or rises[k + 1][0] > scale:
            allowed = dims.copy()
    return allowed.tolist()


def scale_to_budget(
    problem: SearchProblem,
    weights: Sequence[float],
    max_dimension: int,
    method: str,
    use_powers_of_two: bool = False,
) -> list[int]:
    """The dimensions of a rule, by `scale_dimensions`; without a budget the largest weight gets `max_dimension`.

    Raises:
        ValueError: if one dimension for each field (or its `min_dim`) does not fit the budget.
    """
    bounds = [bounds_of(table, max_dimension) for table in problem.tables]
    sizes = [table.vocabulary_size for table in problem.tables]
    budget = problem.max_parameters
    least = sum(low * size for (low, _), size in zip(bounds, sizes, strict=True))
    if budget is not None and least > budget:
        raise ValueError(
            f"{method}: one dimension for each field (or its min_dim) takes {least} parameters; received a budget of "
            f"{budget}. Raise parameter_budget, or use a method that removes fields (dimgrow)."
        )
    max_scale = max_dimension / max(weights) if budget is None else math.inf
    return scale_dimensions(weights, bounds, sizes, budget, max_scale, use_powers_of_two)
