"""`search` finds an EmbeddingPlan; `retrain` trains a model with one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_dimgrow.callbacks import DimensionSearch
from keras_dimgrow.checkpoint import SearchCheckpoint
from keras_dimgrow.config import Config
from keras_dimgrow.evaluation import Evaluation, evaluate
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.layers import DimGrowEmbedding, PlannedEmbedding
from keras_dimgrow.models import ModelConfig, RankingModel, build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.policy import GrowthConfig
from keras_dimgrow.shuffle_gate import GateConfig
from keras_dimgrow.transfer import transfer_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """How a search trains, looks at its gates and stops.

    Args:
        max_steps: the search ends after this many training steps at the latest.
        check_every: steps between two looks at the gates.
        checkpoint_every: steps between two checkpoints, each with a validation; a multiple of check_every.
        patience_checks: the search ends when no dimension changed for this many checks and the gates are decided.
        learning_rate: of LazyAdam, for embeddings, gates and backbone alike.
        gate, growth: see GateConfig and GrowthConfig.

    Example:
        >>> SearchConfig(max_steps=2000, gate=GateConfig(penalty=1e-3)).gate.penalty
        0.001
    """

    max_steps: int = 5000
    check_every: int = 50
    checkpoint_every: int = 500
    patience_checks: int = 40
    learning_rate: float = 1e-3
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)
    growth: GrowthConfig = dataclasses.field(default_factory=GrowthConfig)

    def __post_init__(self) -> None:
        for key in ("max_steps", "check_every", "checkpoint_every", "patience_checks"):
            self._require_int(key, 1)
        is_multiple = self.checkpoint_every % self.check_every == 0
        self._require("checkpoint_every", is_multiple, f"a multiple of check_every={self.check_every}")
        self._require_number("learning_rate", 0.0, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """How a model with a given plan is trained.

    Args:
        max_epochs: passes over the training data at most.
        patience_epochs: training stops when validation log loss has not improved for this many epochs, and the weights
            of the best epoch are kept.
        learning_rate: of LazyAdam.

    Example:
        >>> TrainingConfig.from_dict({"max_epochs": 3}).patience_epochs
        2
    """

    max_epochs: int = 20
    patience_epochs: int = 2
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        self._require_int("max_epochs", 1)
        self._require_int("patience_epochs", 1)
        self._require_number("learning_rate", 0.0, above=True)


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        plan: dimension of every field.
        trajectory: one record a check: step, seconds, loss, dimensions, gates, parameters, bytes, events.
        has_converged: False if max_steps ended the search.
        model: the trained search model, its DimGrowEmbedding layer named "embedding", without the dimensions that the plan
            leaves out: `retrain(plan, ..., transfer_from=model)` fine-tunes it.
    """

    plan: EmbeddingPlan
    trajectory: list[dict[str, Any]]
    has_converged: bool
    model: keras.Model


def search(
    fields: Sequence[Field],
    train_data: tf.data.Dataset,
    validation_data: tf.data.Dataset | None = None,
    *,
    config: SearchConfig | None = None,
    model_config: ModelConfig | None = None,
    seed: int = 0,
    checkpoint_directory: str | None = None,
    on_check: Callable[[dict[str, Any]], None] | None = None,
) -> SearchResult:
    """Searches the dimension of every field by DimGrow (arXiv 2505.12683, section 4).

    Args:
        fields: what is embedded.
        train_data: shuffled batches of ({field: int [B], or [B, L] with a combiner}, label [B]), repeated as often as
            needed. For a reproducible and resumable search its order must be the same each time (a seeded shuffle).
        validation_data: held-out batches, measured at every checkpoint.
        config: a SearchConfig.
        model_config: the backbone and its sizes.
        seed: seed of everything random.
        checkpoint_directory: where the search saves itself, and goes on from if it was interrupted (same arguments).
            None: no checkpoints.
        on_check: called with each record of the trajectory.

    Raises:
        ValueError: if a budget is below the start of the search, or the gates removed every field.

    Example:
        >>> fields = [Field(name="user", vocabulary_size=8, min_dim=1), Field(name="hour", vocabulary_size=24)]
        >>> ids = {"user": tf.range(512) % 8, "hour": tf.range(512) % 24}
        >>> data = tf.data.Dataset.from_tensor_slices((ids, ids["user"] % 2)).shuffle(512, seed=0).batch(64)
        >>> config = SearchConfig(max_steps=20, check_every=10, checkpoint_every=20)  # too few to find anything
        >>> search(fields, data, config=config).plan.dimensions["user"]
        1
    """
    config = config or SearchConfig()
    model_config = model_config or ModelConfig()
    config.growth.require_room_for(tables_of(fields))
    layer = DimGrowEmbedding(
        fields, model_config.adapter_width, model_config.adapter, config.gate, seed=seed, name="embedding"
    )
    model = build_model(layer, model_config, seed)
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)

    growth = DimensionSearch(
        layer, config.growth, config.check_every, config.patience_checks, config.max_steps, on_check
    )
    checkpoint = SearchCheckpoint(growth, validation_data, checkpoint_directory)
    step = checkpoint.restore(model)
    if step < config.max_steps and not growth.has_converged:
        # An "epoch" is the time between two checkpoints, whatever the size of the data.
        model.fit(
            train_data.repeat().skip(step),
            initial_epoch=step // config.checkpoint_every,
            epochs=-(-config.max_steps // config.checkpoint_every),
            steps_per_epoch=config.checkpoint_every,
            callbacks=[growth, checkpoint],
            shuffle=False,
            verbose=0,
        )
    if not any((gates > 0.5).any() for gates in layer.gates()) and not any(field.min_dim for field in layer.fields):
        raise ValueError(
            f"After {int(model.optimizer.iterations.numpy())} steps no gate is above 0.5: the search removed every field. "
            "Search longer (max_steps), lower gate.penalty, or keep fields with min_dim=1."
        )
    layer.settle()
    return SearchResult(layer.plan(), growth.trajectory, growth.has_converged, model)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A trained model, its validation at the best epoch (None without validation data), and the epochs it took."""

    model: keras.Model
    validation: Evaluation | None
    num_epochs: int


def retrain(
    plan: EmbeddingPlan,
    train_data: tf.data.Dataset,
    validation_data: tf.data.Dataset | None = None,
    *,
    config: TrainingConfig | None = None,
    model_config: ModelConfig | None = None,
    seed: int = 0,
    transfer_from: keras.Model | None = None,
) -> TrainingResult:
    """Trains a model with the dimensions of `plan`, from scratch or from the state of a search (section 4.2.2).

    Args:
        plan: dimension of every field; fields of dimension 0 are no inputs of the model.
        train_data, validation_data: batches of ({field: int [B]}, label [B]).
        config: a TrainingConfig.
        model_config: the backbone and its sizes.
        seed: seed of everything random.
        transfer_from: the search model whose state is fine-tuned: its surviving columns, adapter and backbone are where
            training starts (`transfer_model`); `model_config` and `seed` are then those of the search. None: from scratch.

    Raises:
        ValueError: if `transfer_from` is no model of a search, or `plan` is not that model's.

    Example:
        >>> plan = EmbeddingPlan.uniform([Field(name="user", vocabulary_size=8)], 2)
        >>> ids = {"user": tf.range(512) % 8}
        >>> data = tf.data.Dataset.from_tensor_slices((ids, ids["user"] % 2)).shuffle(512, seed=0).batch(64)
        >>> retrain(plan, data, data, config=TrainingConfig(max_epochs=5, learning_rate=0.05)).validation.auc
        1.0
    """
    config = config or TrainingConfig()
    model_config = model_config or ModelConfig()
    if transfer_from is None:
        layer = PlannedEmbedding(plan, model_config.adapter_width, model_config.adapter, seed=seed, name="embedding")
        model = build_model(layer, model_config, seed)
    else:
        if not isinstance(transfer_from, RankingModel):
            raise ValueError(
                f"retrain: transfer_from must be the model of a SearchResult; received a {type(transfer_from).__name__}. "
                "Fine-tune a model of your own with transfer_model(model), compile and fit."
            )
        model = transfer_model(transfer_from)
        if model.embedding.plan != plan:
            raise ValueError(
                f"retrain: the model in transfer_from has the plan {model.embedding.plan.dimensions}; received the plan "
                f"{plan.dimensions}. Fine-tune with the plan and the model of one SearchResult, or train from scratch."
            )
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    callbacks = []
    if validation_data is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping("val_loss", patience=config.patience_epochs, restore_best_weights=True)
        )
    history = model.fit(
        train_data,
        validation_data=validation_data,
        epochs=config.max_epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    validation = None if validation_data is None else evaluate(model, validation_data)
    return TrainingResult(model, validation, len(history.epoch))
