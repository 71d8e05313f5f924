"""What every method of `search` is given, and what it gives back."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.budget import Budget, parse_budget
from keras_dimgrow.config import Config
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.models import ModelConfig
from keras_dimgrow.plan import EmbeddingPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchProblem:
    """The arguments of `search`, checked and completed; the same for every method.

    Attributes:
        fields: what is embedded.
        train_data: shuffled batches of ({field: ids}, label [B]), one pass.
        validation_data: held-out batches, None if the caller gave none.
        max_parameters: budget on sum_i V_i d_i, None for none.
        model_config: the backbone and its sizes.
        seed: seed of everything random.
        checkpoint_directory: where an interrupted search is kept, None for nowhere.
        on_check: called with each record of the trajectory.
        start: the plan that the search starts from, of an earlier search; None for none.
    """

    fields: tuple[Field, ...]
    train_data: tf.data.Dataset
    validation_data: tf.data.Dataset | None = None
    max_parameters: int | None = None
    model_config: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    seed: int = 0
    checkpoint_directory: str | None = None
    on_check: Callable[[dict[str, Any]], None] | None = None
    start: EmbeddingPlan | None = None

    @property
    def tables(self) -> tuple[Field, ...]:
        """The first field of each table: what has a dimension."""
        return tables_of(self.fields)

    def plan(self, dimensions: Sequence[int] | np.ndarray) -> EmbeddingPlan:
        """The plan with these dimensions of `tables`."""
        by_table = {table.table_key: int(dim) for table, dim in zip(self.tables, dimensions, strict=True)}
        return EmbeddingPlan.from_dimensions(
            self.fields, {field.name: by_table[field.table_key] for field in self.fields}
        )

    def require_validation_data(self, method: str) -> tf.data.Dataset:
        """`validation_data`, or a ValueError that says why `method` needs them."""
        if self.validation_data is None:
            raise ValueError(
                f"search(method={method!r}) judges dimensions on held-out rows. Pass validation_data, batches of rows "
                "that train_data does not have."
            )
        return self.validation_data


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        plan: dimension of every field.
        trajectory: one record a check: step, seconds, loss, dimensions, parameters, table_bytes and what the method adds
            (empty for rules, which train nothing).
        has_converged: False if the search was ended by its number of steps.
        model: the trained search model, where `retrain(plan, ..., transfer_from=model)` can go on from it; of fiited and
            adaembed, the model trained to its end, which needs no retraining; else None.
        peak_table_bytes: most bytes that the search held in embedding tables and their optimizer slots at any time.
        race: one record a round and contestant of the race that the plan was put through (`RaceResult`); empty without one.
        race_seconds: how long that took, in seconds of the search's.
        note: what the user should know about this result, such as a budget that was not needed; None for nothing.
    """

    plan: EmbeddingPlan
    trajectory: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    has_converged: bool = True
    model: keras.Model | None = None
    peak_table_bytes: int = 0
    race: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    race_seconds: float = 0.0
    note: str | None = None
    # Parameters -> plan, for methods whose one run has the plans of all smaller budgets.
    plan_for: Callable[[int], EmbeddingPlan] | None = dataclasses.field(default=None, repr=False, compare=False)

    def plan_at(self, budget: Budget) -> EmbeddingPlan:
        """The plan that this run gives for a smaller budget, without another search.

        Args:
            budget: see `parse_budget`; at most the budget of the search.

        Raises:
            ValueError: if the method's run has one plan only, or the budget allows no field any dimension.
        """
        if self.plan_for is None:
            raise ValueError("This method's run gives one plan only. Search again with the other parameter_budget.")
        return self.plan_for(parse_budget(budget, self.plan.fields))


@dataclasses.dataclass(frozen=True)
class Method:
    """One entry of `METHODS`.

    Attributes:
        config: class of the method's settings.
        run: the method itself.
        takes_budget: whether it can be told how many parameters to find a plan for.
        takes_start: whether it can start from the plan of an earlier search.
        takes_strategy: whether it trains on all replicas of a `tf.distribute` strategy; others take the first device.
    """

    config: type[Config]
    run: Callable[[SearchProblem, Any], SearchResult]
    takes_budget: bool = True
    takes_start: bool = False
    takes_strategy: bool = False
