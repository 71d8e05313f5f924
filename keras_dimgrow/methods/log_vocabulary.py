"""Dimensions that grow with the logarithm of the vocabulary: a rule of thumb that anyone can type."""

import dataclasses
import math

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.config import Config
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.scaling import scale_to_budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogVocabularyConfig(Config):
    """The bound of the rule.

    Args:
        max_dimension: the most that a field gets, and, without a budget, what the largest vocabulary gets.

    Example:
        >>> LogVocabularyConfig().max_dimension
        16
    """

    max_dimension: int = UNIFORM_DIMENSION

    def __post_init__(self) -> None:
        self._require_int("max_dimension", 1)


def run(problem: SearchProblem, config: LogVocabularyConfig) -> SearchResult:
    """d_i = max(1, round(c log V_i)) with the largest c that the budget allows.

    Raises:
        ValueError: if one dimension for each field does not fit the budget.

    Example:
        >>> from keras_dimgrow.fields import Field
        >>> fields = [Field(name=str(size), vocabulary_size=size) for size in (10, 100, 10000)]
        >>> data = None  # a rule looks at no data
        >>> run(SearchProblem(fields=fields, train_data=data), LogVocabularyConfig()).plan.dimensions
        {'10': 4, '100': 8, '10000': 16}
        >>> run(SearchProblem(fields=fields, train_data=data, max_parameters=20300), LogVocabularyConfig()).plan.dimensions
        {'10': 1, '100': 1, '10000': 2}
    """
    weights = [math.log(table.vocabulary_size) for table in problem.tables]
    return SearchResult(
        problem.plan(scale_to_budget(problem, weights, config.max_dimension, "log_vocabulary")),
        plan_for=lambda budget: run(dataclasses.replace(problem, max_parameters=budget), config).plan,
    )
