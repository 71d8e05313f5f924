"""The largest scale of a rule's dimensions that a budget allows."""

from collections.abc import Sequence

import numpy as np

from keras_dimgrow.fields import Field
from keras_dimgrow.methods.problem import SearchProblem


def bounds_of(table: Field, max_dimension: int) -> tuple[int, int]:
    """Least and most dimensions that a rule gives a table: 1 or its `min_dim`, and `max_dimension` or its `max_dim`."""
    least = max(1, table.min_dim)
    return least, max(least, min(table.max_dim, max_dimension))


def scale_to_budget(
    problem: SearchProblem,
    weights: Sequence[float],
    max_dimension: int,
    method: str,
    use_powers_of_two: bool = False,
) -> list[int]:
    """d_i = round(c w_i) within each table's bounds, for the largest c with sum_i V_i d_i <= budget.

    Dimensions never fall while c rises, and change at finitely many c only. These are sorted and summed, so that c is
    exact; tables whose dimensions rise at the same c rise together or not at all.

    Args:
        problem: the tables and the budget. Without a budget, c gives the largest weight `max_dimension`.
        weights: w_i > 0 of each of `problem.tables`.
        max_dimension: the most that a table gets; see `bounds_of`.
        method: named in the error.
        use_powers_of_two: dimensions are rounded to the nearest power of two (of their logarithm), not to the nearest
            integer; a least dimension (`min_dim`) that is none stays.

    Raises:
        ValueError: if the least dimensions do not fit the budget.
    """
    tables = problem.tables
    dims = np.array([bounds_of(table, max_dimension)[0] for table in tables])
    sizes = np.array([table.vocabulary_size for table in tables])
    least = int(dims @ sizes)
    if problem.max_parameters is not None and least > problem.max_parameters:
        raise ValueError(
            f"{method}: one dimension for each field (or its min_dim) takes {least} parameters; received a budget of "
            f"{problem.max_parameters}. Raise parameter_budget, or use a method that removes fields (dimgrow)."
        )
    rises = []  # (c, table, dimension from this c on)
    for i, (table, weight) in enumerate(zip(tables, weights, strict=True)):
        low, high = bounds_of(table, max_dimension)
        if use_powers_of_two:
            powers = [2**k for k in range(high.bit_length())]
            rises += [(dim / 2**0.5 / weight, i, dim) for dim in powers if dim > low]
        else:
            rises += [((dim - 0.5) / weight, i, dim) for dim in range(low + 1, high + 1)]
    rises.sort()
    allowed = dims.copy()
    for k, (scale, i, dim) in enumerate(rises):
        if problem.max_parameters is None and scale > max_dimension / max(weights):
            break
        dims[i] = dim
        if problem.max_parameters is not None and int(dims @ sizes) > problem.max_parameters:
            break
        if k + 1 == len(rises) or rises[k + 1][0] > scale:
            allowed = dims.copy()
    return allowed.tolist()
