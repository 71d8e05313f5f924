"""The supernet: full-size tables with a gate for each column, what methods that prune train first."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.config import Config
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.methods.columns import keep_best_columns
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.models import RankingModel, build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.steps import steps_per_pass

VALUES_PER_PARAMETER = 3  # the parameter and Adam's two slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupernetConfig(Config):
    """How a supernet is trained: what the methods that prune one have in common.

    Args:
        dimension: columns of every table, capped by the field's max_dim and no fewer than its min_dim.
        epochs: passes over the training data.
        learning_rate: of LazyAdam, for embeddings, gates and backbone alike.
    """

    dimension: int = UNIFORM_DIMENSION
    epochs: int = 3
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        self._require_int("dimension", 1)
        self._require_int("epochs", 1)
        self._require_number("learning_rate", 0.0, above=True)


class SupernetEmbedding(PlannedEmbedding):
    """A PlannedEmbedding of full-size tables in which each column of each table is multiplied by a gate.

    Gates are flat, [sum of the tables' columns], in the order of the tables' first fields. Fields that share a table
    share its gates. Here they are the weight `gate` itself, 1 and not trained: a mask. Subclasses train them.

    Args:
        fields: the fields that are searched.
        dimension: columns of a table, see `SupernetConfig`.
        adapter_width, adapter, seed: see `PlannedEmbedding`.

    Input shape, output shape: those of `PlannedEmbedding`.
    """

    initial_gate = 1.0
    trains_gates = False

    def __init__(self, fields: Sequence[Field], dimension: int, adapter_width: int, adapter: str, seed: int, **kwargs):
        dims = {field.name: max(field.min_dim, min(field.max_dim, dimension)) for field in fields}
        super().__init__(EmbeddingPlan.from_dimensions(fields, dims), adapter_width, adapter, seed=seed, **kwargs)
        self.searched_tables = tables_of(fields)
        self.num_columns = [dims[table.name] for table in self.searched_tables]
        self.is_searched = np.repeat([table.is_searched for table in self.searched_tables], self.num_columns)

    def build(self, input_shape):
        super().build(input_shape)
        self.gate = self.add_weight(
            shape=(sum(self.num_columns),),
            initializer=keras.initializers.Constant(self.initial_gate),
            trainable=self.trains_gates,
            autocast=False,
            name="gate",
        )

    def gates(self) -> tf.Tensor:
        """The factor of each column, [columns]."""
        return self.gate.value

    def call(self, inputs, training=None):
        # The few rows of the adapter are scaled rather than all of Q.
        scale = tf.gather(self.gates(), self.column_of_q())
        return self._adapt(self._concatenate(inputs), self.kernel.value * scale[:, tf.newaxis])

    def column_of_q(self) -> np.ndarray:
        """For each column of Q the position of its gate, int [sum d]."""
        keys = [table.table_key for table in self.searched_tables]
        starts = dict(zip(keys, np.cumsum([0, *self.num_columns[:-1]]).tolist(), strict=True))
        return np.concatenate([starts[field.table_key] + np.arange(field.dimension) for field in self._fields_of_q])

    def by_table(self, flat) -> list[np.ndarray]:
        """What is flat over all columns, per table."""
        return np.split(np.asarray(flat), np.cumsum(self.num_columns)[:-1])


def train_supernet(
    problem: SearchProblem,
    layer: SupernetEmbedding,
    config: SupernetConfig,
    dimensions: Callable[[], list[int]],
) -> tuple[RankingModel, list[dict[str, Any]]]:
    """Trains the supernet for `config.epochs` passes; returns the model and one record a pass.

    Args:
        dimensions: what the plan would be now, per table.

    Raises:
        ValueError: if the training data have no batch or no end, or the budget holds no column.
    """
    num_batches = steps_per_pass(problem.train_data)
    # A budget that holds nothing fails here, before the training.
    keep_best_columns([np.zeros(num) for num in layer.num_columns], problem.tables, problem.max_parameters, 0.0)
    model = build_model(layer, problem.model_config, problem.seed)
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    trajectory: list[dict[str, Any]] = []
    begin = time.monotonic()

    def record(epoch, logs):
        plan = problem.plan(dimensions())
        gates = dict(zip((t.table_key for t in layer.searched_tables), layer.by_table(layer.gates()), strict=True))
        trajectory.append(
            {
                "step": int(model.optimizer.iterations.numpy()),
                "seconds": round(time.monotonic() - begin, 3),
                "loss": float(logs["loss"]),
                "validation_loss": None,
                "validation_auc": None,
                "dimensions": plan.dimensions,
                "total_dimensions": plan.total_dimensions,
                "gates": {f.name: [round(float(gate), 4) for gate in gates[f.table_key]] for f in problem.fields},
                "parameters": plan.parameters,
                "table_bytes": layer.plan.table_bytes() * VALUES_PER_PARAMETER,
                "events": [],
            }
        )
        if problem.on_check is not None:
            problem.on_check(trajectory[-1])

    callback = keras.callbacks.LambdaCallback(on_epoch_end=record)
    model.fit(
        problem.train_data.repeat(),
        epochs=config.epochs,
        steps_per_epoch=num_batches,
        callbacks=[callback],
        shuffle=False,
        verbose=0,
    )
    return model, trajectory


def prune(
    problem: SearchProblem,
    layer: SupernetEmbedding,
    scores: Sequence[np.ndarray],
    max_parameters: int | None,
    threshold: float,
    trajectory: list[dict[str, Any]],
) -> SearchResult:
    """The result of a trained supernet whose columns have `scores`, per table: the plan of `keep_best_columns`.

    Its `plan_for` gives the plans of all other budgets by the same scores.

    Raises:
        ValueError: if a score is not finite.
    """
    if not all(np.isfinite(of_table).all() for of_table in scores):
        raise ValueError("search: scores of columns are not finite: the training diverged. Lower learning_rate.")

    def plan_for(budget: int | None) -> EmbeddingPlan:
        return problem.plan(keep_best_columns(scores, problem.tables, budget, threshold))

    plan, note = plan_for(max_parameters), None
    if plan == problem.plan(layer.num_columns):
        note = "Nothing was pruned: the plan is the whole supernet. Raise `dimension` to search beyond it."
    return SearchResult(
        plan,
        trajectory,
        peak_table_bytes=layer.plan.table_bytes() * VALUES_PER_PARAMETER,
        note=note,
        plan_for=plan_for,
    )
