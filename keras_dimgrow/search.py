"""`search` finds an EmbeddingPlan; `retrain` trains a model with one."""

import difflib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_dimgrow.budget import Budget, parse_budget, require_budget
from keras_dimgrow.config import Config
from keras_dimgrow.distributed import outside_of_strategy
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.methods import METHODS, Method, SearchProblem, SearchResult
from keras_dimgrow.models import ModelConfig, RankingModel, build_embedding, build_model
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.training import TrainingConfig, TrainingResult, train
from keras_dimgrow.transfer import transfer_model

logger = logging.getLogger(__name__)


def search(
    fields: Sequence[Field],
    train_data: tf.data.Dataset,
    validation_data: tf.data.Dataset | None = None,
    *,
    method: str = "dimgrow",
    parameter_budget: Budget | None = None,
    config: Config | None = None,
    model_config: ModelConfig | None = None,
    seed: int = 0,
    checkpoint_directory: str | None = None,
    on_check: Callable[[dict[str, Any]], None] | None = None,
    start: EmbeddingPlan | None = None,
) -> SearchResult:
    """Searches the dimension of every field.

    Args:
        fields: what is embedded.
        train_data: shuffled batches of ({field: int [B], or [B, L] with a combiner}, label [B]), repeated as often as
            needed. For a reproducible and resumable search its order must be the same each time (a seeded shuffle).
        validation_data: held-out batches, by which dimensions are judged.
        method: a name in `METHODS`.
        parameter_budget: the most embedding parameters that the plan may have: a share of uniform 16 (float), a number (int)
            or bytes of the float32 tables ("64MB"). None: no budget; "dimgrow" then finds the smallest plan within its
            `tolerance` of uniform 16.
        config: settings of the method, of the class `METHODS[method].config`.
        model_config: the backbone and its sizes.
        seed: seed of everything random.
        checkpoint_directory: where the search saves itself, and goes on from if it was interrupted (same arguments).
            None: no checkpoints.
        on_check: called with each record of the trajectory.
        start: the plan of an earlier search, on other rows: where this one starts, and a contestant of its race.
            Vocabularies may have grown, fields may have come and gone. Only where `METHODS[method].takes_start`. None: from
            small dimensions.

    Raises:
        ValueError: for an unknown method, a config of another method, a budget that is none or that the method cannot keep, a
            start for a method that takes none, or a search that removed every field.

    Example:
        >>> fields = [Field(name="user", vocabulary_size=8, min_dim=1), Field(name="hour", vocabulary_size=24)]
        >>> ids = {"user": tf.range(512) % 8, "hour": tf.range(512) % 24}
        >>> data = tf.data.Dataset.from_tensor_slices((ids, ids["user"] % 2)).shuffle(512, seed=0).batch(64)
        >>> search(fields, data, method="uniform", parameter_budget=0.5).plan.dimensions
        {'user': 8, 'hour': 8}
    """
    chosen, config = choose_method(method, config, parameter_budget)
    if start is not None and not chosen.takes_start:
        able = ", ".join(name for name, each in METHODS.items() if each.takes_start)
        raise ValueError(
            f"search(method={method!r}) cannot start from a plan. Leave start out, or use one that can: {able}."
        )
    problem = SearchProblem(
        fields=tuple(fields),
        train_data=train_data,
        validation_data=validation_data,
        max_parameters=None if parameter_budget is None else parse_budget(parameter_budget, tables_of(fields)),
        model_config=model_config or ModelConfig(),
        seed=seed,
        checkpoint_directory=checkpoint_directory,
        on_check=on_check,
        start=start,
    )
    if chosen.takes_strategy or not tf.distribute.has_strategy():
        return chosen.run(problem, config)
    logger.info("search: method %r trains on one device, outside of the strategy", method)
    return outside_of_strategy(lambda: chosen.run(problem, config))


def choose_method(method: str, config: Config | None, parameter_budget: Budget | None) -> tuple[Method, Config]:
    """The method of this name and its settings, checked as far as they can be before the fields are known.

    Raises:
        ValueError: see `search`.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"search: unknown method {method!r}.{hint} Methods: {', '.join(sorted(METHODS))}.")
    chosen = METHODS[method]
    config = chosen.config() if config is None else config
    if not isinstance(config, chosen.config):
        raise ValueError(
            f"search(method={method!r}) takes a {chosen.config.__name__} as config; received a {type(config).__name__}."
        )
    if parameter_budget is not None:
        if not chosen.takes_budget:
            raise ValueError(
                f"search(method={method!r}) finds plans of whatever size and takes no parameter_budget; received "
                f"{parameter_budget!r}. Leave it out, or use a method that keeps budgets, such as dimgrow."
            )
        require_budget(parameter_budget)
    return chosen, config


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
        plan: dimension of every field; fields of dimension 0 are no inputs of the model. The rows of its fields in chunks get
            and lose dimensions in this training, from their `start_dimension` on.
        train_data, validation_data: batches of ({field: int [B]}, label [B]).
        config: a TrainingConfig.
        model_config: the backbone and its sizes.
        seed: seed of everything random.
        transfer_from: the model of a search, or of an earlier `retrain`, whose state is fine-tuned: its columns, adapter and
            backbone are where training starts (`transfer_model`, which also changes dimensions to those of `plan`);
            `model_config` and `seed` are then those of that model. Where values have been added since, call `grow_vocabulary`
            first. None: from scratch.

    Raises:
        ValueError: if `transfer_from` is no such model, or `plan` does not fit it (`transfer_layer`) or has chunks.

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
        model = build_model(build_embedding(plan, model_config, seed), model_config, seed)
    else:
        if not isinstance(transfer_from, RankingModel):
            raise ValueError(
                "retrain: transfer_from must be the model of a SearchResult or a TrainingResult; received a "
                f"{type(transfer_from).__name__}. Fine-tune a model of your own with transfer_model(model), compile and fit."
            )
        if plan.chunks is not None:
            raise ValueError(
                "retrain: a model whose plan has chunks is trained already; there is nothing to transfer. Go on with "
                "model.fit, or train from scratch, without transfer_from."
            )
        model = transfer_model(transfer_from, plan)
    return train(model, train_data, validation_data, config)
