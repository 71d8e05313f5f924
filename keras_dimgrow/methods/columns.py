"""Which columns of full-size tables a plan keeps, by a score of each (pure NumPy)."""

from collections.abc import Sequence

import numpy as np

from keras_dimgrow.fields import Field


def keep_best_columns(
    scores: Sequence[np.ndarray], tables: Sequence[Field], max_parameters: int | None, threshold: float
) -> list[int]:
    """Dimension of each table: how many of its columns are kept.

    Each table first keeps its `min_dim` best columns. Then, with a budget, columns are taken from the highest score down
    as long as they fit: one that does not is skipped, and cheaper ones behind it may still be taken. A larger budget hence
    never gives fewer parameters. Equal scores go by the order of tables and columns.

    Args:
        scores: per table, the score of each of its columns, as many as the table may have dimensions.
        tables: the first field of each table; a column costs its `vocabulary_size`.
        max_parameters: the most parameters of all kept columns; None for no budget.
        threshold: without a budget, columns with higher scores are kept, or the best one if there is none.

    Raises:
        ValueError: if the budget holds no column at all, or not the `min_dim` of every table.

    Example:
        >>> tables = [Field(name="user", vocabulary_size=100), Field(name="hour", vocabulary_size=24)]
        >>> keep_best_columns([np.array([0.9, 0.1]), np.array([0.5, 0.2])], tables, 150, 0.3)
        [1, 2]
        >>> keep_best_columns([np.array([0.9, 0.1]), np.array([0.5, 0.2])], tables, None, 0.3)
        [1, 1]
    """
    dims = [table.min_dim for table in tables]
    left = np.inf if max_parameters is None else max_parameters - _cost(dims, tables)
    if left < 0:
        raise ValueError(
            f"The min_dim of all fields take {_cost(dims, tables)} parameters; received a budget of {max_parameters}. "
            "Raise parameter_budget or lower min_dim."
        )
    free = [(table, score) for table, of_table in enumerate(scores) for score in _after_best(of_table, dims[table])]
    for table, score in sorted(free, key=lambda column: -column[1]):
        cost = tables[table].vocabulary_size
        if cost <= left and (max_parameters is not None or score > threshold):
            dims[table] += 1
            left -= cost
    if not any(dims):
        if max_parameters is not None:
            smallest = min(table.vocabulary_size for table in tables)
            raise ValueError(
                f"The smallest table takes {smallest} parameters for one dimension; received a budget of "
                f"{max_parameters}, which keeps no field. Raise parameter_budget."
            )
        dims[int(np.argmax([of_table.max() for of_table in scores]))] = 1
    return dims


def _after_best(scores: np.ndarray, count: int) -> list[float]:
    """`scores` from high to low without the `count` highest."""
    return sorted(scores.tolist(), reverse=True)[count:]


def _cost(dims: Sequence[int], tables: Sequence[Field]) -> int:
    return sum(dim * table.vocabulary_size for dim, table in zip(dims, tables, strict=True))
