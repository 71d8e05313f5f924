"""MDE, mixed dimension embeddings: dimensions fall with a power of the vocabulary (Ginart et al., arXiv 1909.11810).

The paper sizes blocks of rows by their popularity p: d = c p^alpha, alpha in [0, 1] (its "popularity-based dimension
sizing", with c = d_base / max(p)^alpha). Here, as in its CTR experiments, each field is one block. A row of a field is
then looked up with the mean probability p_i = 1 / V_i, which gives d_i = c V_i^-alpha.

Under-specified, and chosen here: the paper scales by a baseline dimension and rounds; its public code, which may be given
a budget instead, solves for c before it rounds and so may miss it. Here c is the largest whose rounded dimensions fit. The
paper rounds to powers of two, which is an option here. Its code bounds no dimension from above when it is given a budget;
here `max_dimension` does, as for every rule. alpha is a hyperparameter: 0.3 is the default of the authors'
public code. Fields with many values a row count as one look-up.
"""

import dataclasses

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.config import Config
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.scaling import scale_to_budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedDimensionConfig(Config):
    """The power and the bound of the rule.

    Args:
        alpha: the paper's temperature, 0 <= alpha <= 1; 0 gives uniform dimensions, 1 tables of about equal size.
        max_dimension: the most that a field gets, and, without a budget, what the smallest vocabulary gets (the paper's
            baseline dimension).
        use_powers_of_two: whether dimensions are rounded to powers of two, as in the paper, not to integers.

    Example:
        >>> MixedDimensionConfig(alpha=0.5).max_dimension
        16
    """

    alpha: float = 0.3
    max_dimension: int = UNIFORM_DIMENSION
    use_powers_of_two: bool = False

    def __post_init__(self) -> None:
        self._require_number("alpha", 0.0, 1.0)
        self._require_int("max_dimension", 1)
        self._require("use_powers_of_two", isinstance(self.use_powers_of_two, bool), "true or false")


def run(problem: SearchProblem, config: MixedDimensionConfig) -> SearchResult:
    """d_i = max(1, round(c V_i^-alpha)) with the largest c that the budget allows.

    Raises:
        ValueError: if one dimension for each field does not fit the budget.

    Example:
        >>> from keras_dimgrow.fields import Field
        >>> fields = [Field(name=str(size), vocabulary_size=size) for size in (10, 160, 2560)]
        >>> data = None  # a rule looks at no data
        >>> run(SearchProblem(fields=fields, train_data=data), MixedDimensionConfig(alpha=0.5)).plan.dimensions
        {'10': 16, '160': 4, '2560': 1}
    """
    weights = [table.vocabulary_size**-config.alpha for table in problem.tables]
    dims = scale_to_budget(problem, weights, config.max_dimension, "mixed_dimension", config.use_powers_of_two)
    return SearchResult(
        problem.plan(dims),
        plan_for=lambda budget: run(dataclasses.replace(problem, max_parameters=budget), config).plan,
    )
