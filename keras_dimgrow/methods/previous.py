"""The plan of the search before, kept: for the many runs between two searches."""

import dataclasses

from keras_dimgrow.config import Config
from keras_dimgrow.methods.dimgrow import start_dims
from keras_dimgrow.methods.problem import SearchProblem, SearchResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreviousConfig(Config):
    """Has no settings."""


def run(problem: SearchProblem, config: PreviousConfig) -> SearchResult:
    """The dimensions of `problem.start`, with the vocabularies of now; a field that it does not know gets one dimension.

    Where the vocabularies outgrew the budget, the tables with most parameters give dimensions up.

    Raises:
        ValueError: if there is no plan to keep.
    """
    if problem.start is None:
        raise ValueError(
            "search(method='previous') keeps the plan of an earlier search; received none. Search once with another method, "
            "such as dimgrow, and pass its plan as start (in the pipeline: warm_start: plan, or weights)."
        )
    budget = problem.max_parameters or sum(table.vocabulary_size * table.max_dim for table in problem.tables)
    return SearchResult(problem.plan(start_dims(problem, budget, budget)))
