"""Uniform dimensions: what a model without a search has (the papers' FED and FDE)."""

import dataclasses

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.config import Config
from keras_dimgrow.methods.problem import SearchProblem, SearchResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformConfig(Config):
    """The dimension of every field.

    Args:
        dimension: d of all fields; with a budget, the most that a field gets.
    """

    dimension: int = UNIFORM_DIMENSION

    def __post_init__(self) -> None:
        self._require_int("dimension", 1)


def run(problem: SearchProblem, config: UniformConfig) -> SearchResult:
    """The same dimension for every field: the largest that the budget allows."""
    rows = sum(table.vocabulary_size for table in problem.tables)
    dimension = config.dimension
    if problem.max_parameters is not None:
        dimension = min(dimension, problem.max_parameters // rows)
    if dimension < 1:
        raise ValueError(
            f"uniform: one dimension for each field takes {rows} parameters; received a budget of "
            f"{problem.max_parameters}. Raise parameter_budget, or use a method that removes fields (dimgrow)."
        )
    return SearchResult(
        problem.plan([dimension] * len(problem.tables)),
        plan_for=lambda budget: run(dataclasses.replace(problem, max_parameters=budget), config).plan,
    )
