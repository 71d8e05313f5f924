"""RaS, random search: random plans are trained briefly and the best one is kept (arXiv 2006.14827, section 3.4).

The paper draws each field's dimension from its candidate set {2, 8, 16, 24, 32} and reports the best of its runs; it says
neither how many there were nor how long each was trained, and has no budgets. Chosen here: 10 plans, one pass over the
data each, compared by held-out log loss. With a budget the candidates' set is of no use (most of its plans do not fit, and
small tables would be as coarse as large ones), so proportions between fields are drawn and scaled to the budget.
"""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from keras_dimgrow.config import Config
from keras_dimgrow.evaluation import evaluate
from keras_dimgrow.fields import Field
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.scaling import bounds_of, scale_dimensions
from keras_dimgrow.models import build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.steps import steps_for

LEAST_SHARE_USED = 0.9  # of the budget, as far as tables can be made larger
DRAWS_PER_PLAN = 100  # before it is given up that another plan exists
TABLE_COPIES = 3  # the table and both moments of Adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomConfig(Config):
    """How many plans are drawn, and how long each is trained.

    Args:
        num_plans: plans that are trained; fewer if there are not so many.
        candidates: the dimensions that a field draws from, clipped to its bounds. With a budget only their largest
            counts: the most that a field gets.
        epochs: passes over the training data for each plan.
        max_steps: training steps for each plan at most, None for no bound.
        learning_rate: of LazyAdam.

    Example:
        >>> RandomConfig(num_plans=5).candidates
        (2, 8, 16, 24, 32)
    """

    num_plans: int = 10
    candidates: tuple[int, ...] = (2, 8, 16, 24, 32)
    epochs: float = 1.0
    max_steps: int | None = None
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        self._require_int("num_plans", 1)
        is_list = isinstance(self.candidates, tuple) and bool(self.candidates)
        is_valid = is_list and all(isinstance(dim, int) and dim >= 1 for dim in self.candidates)
        self._require("candidates", is_valid, "a non-empty list of integers >= 1")
        self._require_number("epochs", 0.0, above=True)
        self._require_int("max_steps", 1, optional=True)
        self._require_number("learning_rate", 0.0, above=True)


def run(problem: SearchProblem, config: RandomConfig) -> SearchResult:
    """Trains every drawn plan from scratch, all from the same seed, and keeps the one with the lowest held-out loss.

    Raises:
        ValueError: without validation data, or if the budget allows no field any dimension.
    """
    validation_data = problem.require_validation_data("random")
    rng = np.random.default_rng(problem.seed)
    steps = steps_for(problem.train_data, config.epochs, config.max_steps)
    begin = time.monotonic()
    trajectory: list[dict] = []
    plans = []
    for dims in draw_plans(problem, config, rng):
        plan = problem.plan(dims)
        model_config = problem.model_config
        layer = PlannedEmbedding(
            plan, model_config.adapter_width, model_config.adapter, seed=problem.seed, name="embedding"
        )
        model = build_model(layer, model_config, problem.seed)
        model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
        history = model.fit(problem.train_data.repeat(), steps_per_epoch=steps, shuffle=False, verbose=0).history
        validation = evaluate(model, validation_data)
        plans.append(plan)
        trajectory.append(
            {
                "step": len(plans) * steps,
                "seconds": round(time.monotonic() - begin, 3),
                "loss": history["loss"][0],
                "validation_loss": validation.log_loss,
                "validation_auc": validation.auc,
                "dimensions": plan.dimensions,
                "parameters": plan.parameters,
                "table_bytes": TABLE_COPIES * plan.table_bytes(),
            }
        )
        if problem.on_check:
            problem.on_check(trajectory[-1])
    best = int(np.argmin([record["validation_loss"] for record in trajectory]))
    peak = max(record["table_bytes"] for record in trajectory)
    return SearchResult(plans[best], trajectory, peak_table_bytes=peak)


def draw_plans(problem: SearchProblem, config: RandomConfig, rng: np.random.Generator) -> list[list[int]]:
    """`num_plans` different lists of dimensions of `problem.tables`, or as many as were found.

    Raises:
        ValueError: if the budget allows no field any dimension, or not the fields' `min_dim`.
    """
    tables, budget = problem.tables, problem.max_parameters
    if budget is not None:
        forced = sum(table.vocabulary_size * table.min_dim for table in tables)
        least = forced or min(table.vocabulary_size for table in tables)
        if least > budget:
            what = "the fields' min_dim take" if forced else "one dimension for the smallest field takes"
            raise ValueError(
                f"random: {what} {least} parameters; received a budget of {budget}. Raise parameter_budget."
            )
    drawn: dict[tuple[int, ...], None] = {}
    for _ in range(DRAWS_PER_PLAN * config.num_plans):
        if len(drawn) == config.num_plans:
            break
        if budget is None:
            dims = [
                int(np.clip(rng.choice(config.candidates), max(1, table.min_dim), table.max_dim)) for table in tables
            ]
        else:
            dims = draw_within(tables, budget, max(config.candidates), rng)
        drawn[tuple(dims)] = None
    return [list(dims) for dims in drawn]


def draw_within(tables: Sequence[Field], budget: int, max_dimension: int, rng: np.random.Generator) -> list[int]:
    """Random dimensions with sum_i V_i d_i in [0.9, 1] x budget, or below if no table can be made larger.

    Proportions are uniform in (0, 1] and scaled to the budget (`scale_dimensions`). Where not every field can have one
    dimension, fields are taken in random order, as far as they fit, and the others are removed.
    """
    sizes = [table.vocabulary_size for table in tables]
    left = budget - sum(table.vocabulary_size * table.min_dim for table in tables)
    bounds = [(0, 0)] * len(tables)
    for i in rng.permutation(len(tables)).tolist():
        cost = 0 if tables[i].min_dim else sizes[i]
        if cost <= left:
            left -= cost
            bounds[i] = bounds_of(tables[i], max_dimension)
    weights = 1.0 - rng.random(len(tables))
    dims = scale_dimensions(weights.tolist(), bounds, sizes, budget)
    left = budget - int(np.dot(dims, sizes))
    # The next table to rise was too large: smaller ones take what it leaves.
    while left > (1 - LEAST_SHARE_USED) * budget:
        room = [i for i, (_, high) in enumerate(bounds) if dims[i] < high and sizes[i] <= left]
        if not room:
            break
        chosen = int(rng.choice(room))
        dims[chosen] += 1
        left -= sizes[chosen]
    return dims
