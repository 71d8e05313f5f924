"""FIITED: dimensions by row, found while the model trains, inside a pool of fixed size (Luo et al.).

What it finds stands in the trained model (`SearchResult.model`): which chunks of which rows have memory. No retraining is
needed. The plan says how to train such a model: which fields are in chunks, what their rows start with, how they are pruned.

Under-specified, and chosen here: the paper's pool is a share of the unpruned model; with a `parameter_budget`, the pool takes
what the budget leaves beside the fields that are whole. The budget bounds values of embeddings, as everywhere in `search`;
index and utilities are counted in bytes (`peak_table_bytes`). The paper trains on a stream, in one pass; here training ends
when held-out loss stops improving, and the weights of the best check are kept, pool and index with them.
"""

import dataclasses
import logging
import time
from typing import Any, cast

import keras
import numpy as np

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.chunking import ChunkConfig
from keras_dimgrow.config import Config
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.methods import dimgrow, mixed_dimension
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.models import build_embedding, build_model
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.training import TrainingConfig, train

logger = logging.getLogger(__name__)

INITIAL = ("auto", "uniform", "mixed_dimension", "dimgrow")
SMALL_SHARE = 0.01  # of all rows: tables of fewer are small
BYTES_PER_VALUE = 4
ADAM_COPIES = 3  # the value and Adam's two slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class FIITEDConfig(Config):
    """How rows are cut and pruned, where they start, and how the model is trained.

    Args:
        dimension: D of an unpruned row, at most the field's max_dim; chunking.chunks must divide it. min_dim is
            ignored.
        chunking: see `ChunkConfig`. Where `search` has a parameter_budget, it takes the place of a single `pruning_ratio`;
            the pool of a ratio for each chunk must fit it.
        initial: what rows start with. "uniform": every table with the same share of its chunks. "mixed_dimension" or "dimgrow":
            with the dimensions that this method finds for the same budget; fields that it removes stay removed. "auto":
            "mixed_dimension" where the budget holds a dimension for each row, as that needs, and there is one ratio for all
            chunks; else "uniform".
        min_rows: tables of fewer rows are not put in chunks: all their rows have the dimension of the initial plan. None: with
            "mixed_dimension" a hundredth of all rows, at most those of the largest table; else 0.
        training: see `TrainingConfig`.
        is_trained: False leaves the training to `retrain(result.plan)`: where it is done anyway, as in the pipeline.

    Example:
        >>> FIITEDConfig.from_dict({"chunking": {"chunks": 4}}).chunking.pruning_ratio
        0.75
    """

    dimension: int = UNIFORM_DIMENSION
    chunking: ChunkConfig = dataclasses.field(default_factory=ChunkConfig)
    initial: str = "auto"
    min_rows: int | None = None
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    is_trained: bool = True

    def __post_init__(self) -> None:
        self._require_int("dimension", 1)
        if self.dimension % self.chunking.chunks:
            raise ValueError(
                f"{type(self).__name__}: the number of chunks must divide dimension; received chunking.chunks="
                f"{self.chunking.chunks}, dimension={self.dimension}."
            )
        if self.chunking.parameter_budget is not None:
            raise ValueError(
                f"{type(self).__name__}: the budget is the parameter_budget of the search; received "
                f"chunking.parameter_budget={self.chunking.parameter_budget!r}. Move it there."
            )
        self._require("initial", self.initial in INITIAL, f"one of {', '.join(INITIAL)}")
        self._require_int("min_rows", 0, optional=True)
        self._require("is_trained", isinstance(self.is_trained, bool), "true or false")


def run(problem: SearchProblem, config: FIITEDConfig) -> SearchResult:
    """Plans the chunks and, unless `retrain` is to do it, trains the model. An interrupted search starts over.

    Raises:
        ValueError: if the budget leaves no pool, a pool of manual ratios does not fit it, no table has `min_rows`, or
            "dimgrow" has no validation data.
    """
    if problem.checkpoint_directory is not None and config.is_trained:
        logger.warning(
            "fiited's training keeps no checkpoints; checkpoint_directory=%r is not used", problem.checkpoint_directory
        )
    config = _resolve(problem, config)
    initial = _find_initial(problem, config)
    plan = plan_chunks(initial.plan, config, problem)
    model = build_model(build_embedding(plan, problem.model_config, problem.seed), problem.model_config, problem.seed)
    peak = max(initial.peak_table_bytes, training_bytes(model.embedding))
    if not config.is_trained:
        return SearchResult(plan, note=initial.note, peak_table_bytes=peak)
    trajectory = Trajectory(problem, model.embedding, plan)
    train(model, problem.train_data, problem.validation_data, config.training, [trajectory])
    notes = [initial.note, _tell(trajectory.records[-1]["pool"])]
    return SearchResult(
        plan,
        trajectory.records,
        model=model,
        peak_table_bytes=peak,
        race=initial.race,
        race_seconds=initial.race_seconds,
        note=" ".join(note for note in notes if note),
    )


def _resolve(problem: SearchProblem, config: FIITEDConfig) -> FIITEDConfig:
    """The config with what "auto" and None stand for."""
    sizes = [table.vocabulary_size for table in problem.tables]
    initial, min_rows = config.initial, config.min_rows
    if initial == "auto":
        least = sum(table.vocabulary_size * max(1, table.min_dim) for table in problem.tables)
        budget, is_one_ratio = _pool_budget(problem, config), not isinstance(config.chunking.pruning_ratio, tuple)
        # One dimension for each row of the largest table is a chunk at least.
        fits = budget is not None and least <= budget and max(sizes) >= config.dimension
        initial = "mixed_dimension" if is_one_ratio and fits else "uniform"
    if min_rows is None:
        min_rows = min(int(SMALL_SHARE * sum(sizes)), max(sizes)) if initial == "mixed_dimension" else 0
    return dataclasses.replace(config, initial=initial, min_rows=min_rows)


def _pool_budget(problem: SearchProblem, config: FIITEDConfig) -> int | None:
    """The problem's budget; without one, what a pool for all tables has. None: no budget, and a ratio for each chunk."""
    if problem.max_parameters is not None or isinstance(config.chunking.pruning_ratio, tuple):
        return problem.max_parameters
    unpruned = config.dimension * sum(table.vocabulary_size for table in problem.tables)
    return max(1, int((1 - cast(float, config.chunking.pruning_ratio)) * unpruned))


def _find_initial(problem: SearchProblem, config: FIITEDConfig) -> SearchResult:
    if config.initial == "uniform":
        return SearchResult(problem.plan([min(config.dimension, table.max_dim) for table in problem.tables]))
    problem = dataclasses.replace(problem, max_parameters=_pool_budget(problem, config))
    if config.initial == "mixed_dimension":
        return mixed_dimension.run(problem, mixed_dimension.MixedDimensionConfig())
    return dimgrow.run(problem, dimgrow.DimGrowConfig())


def plan_chunks(initial: EmbeddingPlan, config: FIITEDConfig, problem: SearchProblem) -> EmbeddingPlan:
    """The plan of `initial` with its large tables in chunks, within the budget of the problem."""
    max_dims = {table.table_key: table.max_dim for table in problem.tables}
    chunking = config.chunking
    plan = initial.in_chunks(chunking, config.dimension, config.min_rows or 0, is_start=config.initial != "uniform")
    fields = []
    for field in plan.fields:
        if field.is_chunked and max_dims[field.table_key] < field.dimension:
            most = max_dims[field.table_key] // chunking.chunks * chunking.chunks
            start = None if field.start_dimension is None else min(field.start_dimension, most)
            field = dataclasses.replace(field, dimension=most, start_dimension=start)
        fields.append(field)
    plan = EmbeddingPlan(tuple(fields), chunking)
    if problem.max_parameters is None:
        return plan
    left = problem.max_parameters - sum(table.parameters for table in plan.tables if not table.is_chunked)
    if left < 1:
        raise ValueError(
            f"fiited: the tables of fewer than min_rows={config.min_rows} rows, whole, take {problem.max_parameters - left} "
            f"parameters; received a budget of {problem.max_parameters}. Lower min_rows, or raise parameter_budget."
        )
    if isinstance(chunking.pruning_ratio, tuple):
        if plan.pool_parameters > left:
            raise ValueError(
                f"fiited: the pool of chunking.pruning_ratio={chunking.pruning_ratio} holds {plan.pool_parameters} values; the "
                f"budget leaves {left}. Raise the ratios, or give one for all chunks, which the budget then sets."
            )
        return plan
    return EmbeddingPlan(plan.fields, dataclasses.replace(chunking, pruning_ratio=None, parameter_budget=left))


def training_bytes(embedding: keras.layers.Layer) -> int:
    """Bytes of tables, pools, index, utilities and Adam's slots while a layer of `build_embedding` is trained."""
    if isinstance(embedding, PlannedEmbedding):
        return ADAM_COPIES * embedding.plan.table_bytes()
    chunked = getattr(embedding, "chunked", embedding)
    slots = (
        sum(int(np.prod(store.pool.shape)) for store in chunked.stores.values()) * BYTES_PER_VALUE * (ADAM_COPIES - 1)
    )
    whole = training_bytes(embedding.whole) if hasattr(embedding, "whole") else 0
    return whole + chunked.summary()["bytes"] + slots


def _tell(pool: dict[str, int]) -> str:
    text = f"{pool['used']:,} of the pool's {pool['slots']:,} chunks are in use; {pool['evicted']:,} were evicted and "
    text += f"{pool['allocated']:,} allocated while it trained"
    return text + (f", and {pool['dropped']:,} times one found no room." if pool["dropped"] else ".")


class Trajectory(keras.callbacks.Callback):
    """A record at the end of every epoch of `fit`: what the rows have, and what the pool holds.

    Attributes:
        records: for `SearchResult.trajectory`.
    """

    def __init__(self, problem: SearchProblem, embedding: keras.layers.Layer, plan: EmbeddingPlan):
        super().__init__()
        self.problem, self.embedding, self.plan = problem, embedding, plan
        self.records: list[dict[str, Any]] = []
        self._begin = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        dimensions = {field.name: 0.0 for field in self.plan.fields} | self.embedding.mean_dimensions()
        self.records.append(
            {
                "step": int(self.model.optimizer.iterations.numpy()),
                "seconds": round(time.monotonic() - self._begin, 3),
                "loss": logs.get("loss"),
                "validation_loss": logs.get("val_loss"),
                "dimensions": {name: round(dim, 4) for name, dim in dimensions.items()},
                "total_dimensions": round(sum(dimensions[table.name] for table in self.plan.tables)),
                "parameters": self.plan.parameters,
                "table_bytes": training_bytes(self.embedding),
                "pool": self.embedding.summary(),
            }
        )
        if self.problem.on_check is not None:
            self.problem.on_check(self.records[-1])
