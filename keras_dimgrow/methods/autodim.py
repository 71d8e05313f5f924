"""AutoDim: differentiable choice among candidate dimensions, by Gumbel-softmax and bilevel optimisation (arXiv 2006.14827)."""

import dataclasses
import itertools
import logging

import numpy as np
import tensorflow as tf

from keras_dimgrow.config import Config
from keras_dimgrow.fields import Field
from keras_dimgrow.methods.autodim_layer import AutoDimEmbedding
from keras_dimgrow.methods.autodim_training import AutoDimTraining, shuffled_forever
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.models import build_model

logger = logging.getLogger(__name__)

PAPER_ALPHA_EVERY = 10  # section 3.7
PAPER_ALPHA_STEPS = 2000  # one in 10 of the 20,000 steps in which the paper's temperature falls


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoDimConfig(Config):
    """How AutoDim searches. The default is the paper's AD-2; AD-1 to AD-4 are the four pairs of the first two settings.

    Args:
        embeddings: "sharing" (candidate n is the first d_n columns of one table: AD-1, AD-2) or "separate" (a table for
            each candidate: AD-3, AD-4).
        transformation: "linear" (equations (1), (2): AD-2, AD-4) or "padding" (equations (3), (4): AD-1, AD-3).
        simultaneous: the paper's AutoDim-s: alpha and weights learn from the same training batch, in one step. False:
            alpha learns from validation batches (Algorithm 1 with xi = 0).
        candidates: dimensions to choose from, ascending; section 3.2.
        alpha_every: f, steps of the weights for one of alpha; 10 in the paper (section 3.7). None: 10 in searches of 20,000
            steps or more, and down to 1 in shorter ones, so that alpha gets the paper's 2,000 steps or as many as there
            are: few steps of alpha choose by chance. Without effect if `simultaneous`.
        pretrain: share of the steps in which only the weights learn, all candidates weighted alike (section 2.3.1; the
            paper gives no length).
        epochs: passes over the training data.
        max_steps: the search ends after this many training steps at the latest; None: after `epochs`.
        learning_rate: of LazyAdam, for the weights; the paper's.
        alpha_learning_rate: of Adam, for alpha; the paper's.
        annealing: by how much the temperature falls in each step after pretraining, from 1; 0.00005 in the paper, which
            trains for tens of thousands of steps. None: so that it is at `min_temperature` in the last step.
        min_temperature: where the temperature stays.
        check_every: steps between two records of the trajectory.

    Example:
        >>> AutoDimConfig(candidates=(2, 4, 8), annealing=0.00005, max_steps=20_000).candidates
        (2, 4, 8)
    """

    embeddings: str = "sharing"
    transformation: str = "linear"
    simultaneous: bool = False
    candidates: tuple[int, ...] = (2, 8, 16, 24, 32)
    alpha_every: int | None = None
    pretrain: float = 0.2
    epochs: int = 3
    max_steps: int | None = None
    learning_rate: float = 1e-3
    alpha_learning_rate: float = 1e-3
    annealing: float | None = None
    min_temperature: float = 0.01
    check_every: int = 50

    def __post_init__(self) -> None:
        self._require("embeddings", self.embeddings in ("sharing", "separate"), '"sharing" or "separate"')
        self._require("transformation", self.transformation in ("linear", "padding"), '"linear" or "padding"')
        self._require("simultaneous", isinstance(self.simultaneous, bool), "true or false")
        is_tuple = isinstance(self.candidates, tuple) and bool(self.candidates)
        is_valid = is_tuple and all(type(dim) is int and dim >= 1 for dim in self.candidates)
        is_valid = is_valid and all(a < b for a, b in itertools.pairwise(self.candidates))
        self._require("candidates", is_valid, "a non-empty, ascending tuple of integers >= 1")
        for key in ("epochs", "check_every"):
            self._require_int(key, 1)
        for key in ("alpha_every", "max_steps"):
            self._require_int(key, 1, optional=True)
        self._require_number("pretrain", 0.0, 1.0)
        self._require("pretrain", self.pretrain < 1.0, "a share < 1.0: after pretraining, alpha is to learn")
        self._require_number("learning_rate", 0.0, above=True)
        self._require_number("alpha_learning_rate", 0.0, above=True)
        self._require_number("min_temperature", 0.0, 1.0, above=True)
        if self.annealing is not None:
            self._require_number("annealing", 0.0)


def run(problem: SearchProblem, config: AutoDimConfig) -> SearchResult:
    """Trains all candidates of every table together with their weights alpha, and takes the heaviest of each.

    Where the paper is silent: candidates outside a field's min_dim and max_dim are left out for that field, and one with
    min_dim == max_dim has this dimension alone; equation (7) is taken as written, with soft weights; each step, of weights
    or alpha, draws new Gumbel noise, one for all rows; the temperature's t counts from the end of pretraining.
    `has_converged` says whether no dimension changed in the last tenth of the records. No checkpoints are kept, and the
    search model is not given back: `retrain` trains the plan from scratch, after either transformation with an adapter that is
    the linear one of section 2.4.2, without BatchNorm.

    Raises:
        ValueError: without validation data (unless `simultaneous`), for data without batches, for endless training data
            without `max_steps`, or for a field without a candidate.
    """
    validation_data = None if config.simultaneous else problem.require_validation_data("autodim")
    if problem.checkpoint_directory is not None:
        logger.warning(
            "autodim keeps no checkpoints; checkpoint_directory=%r is not used", problem.checkpoint_directory
        )
    num_steps = num_steps_of(problem.train_data, config)
    layer = AutoDimEmbedding(
        problem.fields,
        [candidates_of(table, config.candidates) for table in problem.tables],
        config.embeddings == "sharing",
        config.transformation == "linear",
        problem.model_config.adapter_width,
        problem.model_config.adapter,
        problem.seed,
        name="embedding",
    )
    model = build_model(layer, problem.model_config, problem.seed)
    training = AutoDimTraining(problem, model, config.learning_rate, config.alpha_learning_rate)
    num_pretraining = int(config.pretrain * num_steps)
    alpha_every = alpha_every_of(num_steps - num_pretraining, config)
    validation_batches = None if validation_data is None else shuffled_forever(validation_data, problem.seed)
    for step, batch in enumerate(problem.train_data.repeat().take(num_steps)):
        t = step - num_pretraining
        layer.temperature.assign(temperature_at(t, num_steps - num_pretraining, config))
        if validation_batches is not None and t >= 0 and t % alpha_every == 0:
            training.update_alpha(next(validation_batches))
        training.train(batch, with_alpha=config.simultaneous and t >= 0)
        if (step + 1) % config.check_every == 0 or step + 1 == num_steps:
            training.check(step + 1)
    trajectory = training.trajectory
    last_tenth = trajectory[-1 - max(1, len(trajectory) // 10) :]
    return SearchResult(
        problem.plan(layer.dimensions()),
        trajectory,
        has_converged=len(trajectory) > 1
        and all(record["dimensions"] == trajectory[-1]["dimensions"] for record in last_tenth),
        peak_table_bytes=training.table_bytes,
    )


def candidates_of(table: Field, candidates: tuple[int, ...]) -> tuple[int, ...]:
    """The candidates that a table's min_dim and max_dim allow.

    Raises:
        ValueError: if none is left.
    """
    if not table.is_searched:
        return (table.max_dim,)
    allowed = tuple(dim for dim in candidates if table.min_dim <= dim <= table.max_dim)
    if not allowed:
        raise ValueError(
            f"autodim, field {table.name!r}: none of the candidates {candidates} is within min_dim={table.min_dim} and "
            f"max_dim={table.max_dim}. Add such a candidate to AutoDimConfig.candidates, or change the field's limits."
        )
    return allowed


def alpha_every_of(num_steps: int, config: AutoDimConfig) -> int:
    """f, how many steps of the weights come with one of alpha, in a search of `num_steps` after pretraining."""
    if config.alpha_every is not None:
        return config.alpha_every
    return min(PAPER_ALPHA_EVERY, max(1, num_steps // PAPER_ALPHA_STEPS))


def temperature_at(t: int, num_steps: int, config: AutoDimConfig) -> float:
    """tau = max(min_temperature, 1 - annealing * t) of section 3.2, t steps after pretraining; infinite before.

    Args:
        num_steps: steps after pretraining; from 1 the temperature reaches its minimum at t = num_steps - 1 unless
            `config.annealing` says otherwise.
    """
    if t < 0:
        return float("inf")
    annealing = config.annealing
    if annealing is None:
        annealing = (1.0 - config.min_temperature) / max(1, num_steps - 1)
    return max(config.min_temperature, 1.0 - annealing * t)


def num_steps_of(train_data: tf.data.Dataset, config: AutoDimConfig) -> int:
    """Training steps of a search: `epochs` passes, `max_steps` at most. Data of unknown length are counted, in one pass.

    Raises:
        ValueError: for data without batches, or endless data without `max_steps`.
    """
    num_batches = int(train_data.cardinality())
    if num_batches == tf.data.INFINITE_CARDINALITY:
        if config.max_steps is None:
            raise ValueError(
                "autodim: train_data never ends, so epochs cannot be counted. Pass data without repeat(), or set "
                "AutoDimConfig.max_steps."
            )
        return config.max_steps
    if num_batches == tf.data.UNKNOWN_CARDINALITY:
        num_batches = int(train_data.reduce(np.int64(0), lambda count, _: count + 1))
    if num_batches == 0:
        raise ValueError("autodim: train_data has no batches. Pass at least one batch of rows.")
    return min(config.epochs * num_batches, config.max_steps or config.epochs * num_batches)
