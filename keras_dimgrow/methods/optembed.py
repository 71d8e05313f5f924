"""OptEmbed-D: a supernet trained with random dimension masks, then an evolution (Lyu et al., arXiv 2208.04482).

Only the paper's search of field-wise dimensions, not its pruning of single rows: plans here have a dimension
for each field. A supernet with full-size tables is trained while each row draws, for every field, a dimension d uniformly
from 1 .. D and uses the first d columns of its embedding; then dimensions evolve by their loss on held-out rows with the
weights of the supernet. The paper has no budget and neither has this method; no field is removed (d >= 1).

Under-specified, or different in the authors' public code, and chosen here: masks are drawn for each row, as in the code.
The supernet is trained until validation loss, with full embeddings, has not improved for two epochs (the code: until AUC
has not for one), and the best epoch is kept. The code judges candidates by AUC; here it is log loss, as for every method.
It keeps no candidate for the next generation (and mutates kept ones in place); the paper makes candidates from the k = 15
best, as is done here, best of all generations. Population (10 mutations, 10 crossovers) and mutation probability (0.1) are
the paper's; 10 generations instead of 30, as dimensions here end at 16, not at 64. The learning rate is that of the other
methods; the authors tune theirs for each data set. An adapter follows the embeddings, as in all our models.
"""

import dataclasses
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.config import Config
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.layers.inputs import batch_size_of, embed, read_ids
from keras_dimgrow.methods.evolution import EvolutionConfig, evolve
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.scaling import bounds_of
from keras_dimgrow.models import RankingModel, build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.steps import epochs_within

TABLE_COPIES = 3  # the table and both moments of Adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptEmbedConfig(Config):
    """How the supernet is trained, and how dimensions evolve.

    Args:
        max_dimension: D, columns of each table of the supernet (or the field's `max_dim`, if that is less).
        max_epochs: passes over the training data at most.
        patience_epochs: the supernet is trained until validation loss has not improved for this many passes.
        max_steps: training steps at most, None for no bound.
        learning_rate: of LazyAdam.
        evolution: see EvolutionConfig.

    Example:
        >>> OptEmbedConfig.from_dict({"evolution": {"num_generations": 30}}).evolution.num_mutations
        10
    """

    max_dimension: int = UNIFORM_DIMENSION
    max_epochs: int = 20
    patience_epochs: int = 2
    max_steps: int | None = None
    learning_rate: float = 3e-3
    evolution: EvolutionConfig = dataclasses.field(default_factory=EvolutionConfig)

    def __post_init__(self) -> None:
        for key in ("max_dimension", "max_epochs", "patience_epochs"):
            self._require_int(key, 1)
        self._require_int("max_steps", 1, optional=True)
        self._require_number("learning_rate", 0.0, above=True)


class MaskedEmbedding(keras.layers.Layer):
    """The supernet's embeddings: full-size tables, of which each row and table uses the first d columns in training.

    Args:
        fields: what is embedded; fields of one table draw one d.
        max_dimension: D.
        adapter_width, adapter, stddev, seed: as of PlannedEmbedding.

    Input and output as of PlannedEmbedding; in inference all columns are used.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        max_dimension: int = UNIFORM_DIMENSION,
        adapter_width: int = 64,
        adapter: str = "joint",
        stddev: float = 0.01,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.fields = tuple(fields)
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.stddev = stddev
        self.seed = seed
        self.bounds = [bounds_of(table, max_dimension) for table in tables_of(fields)]
        keys = [table.table_key for table in tables_of(fields)]
        self.table_of = [keys.index(field.table_key) for field in self.fields]
        widths = [self.bounds[table][1] for table in self.table_of]
        # Of each column of Q: its field, its table, and its place in the embedding.
        self._field_of_column = np.repeat(np.arange(len(widths)), widths)
        self._table_of_column = np.repeat(self.table_of, widths)
        self._place_of_column = np.concatenate([np.arange(width) for width in widths])

    def build(self, input_shape):
        def normal(index):
            return keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed + index)

        self.tables = [
            self.add_weight(
                shape=(table.vocabulary_size, high), initializer=normal(i), name=f"table_{i}", autocast=False
            )
            for i, (table, (_, high)) in enumerate(zip(tables_of(self.fields), self.bounds, strict=True))
        ]
        self.kernel = self.add_weight(
            shape=(len(self._place_of_column), self.adapter_width),
            initializer=normal(len(self.tables)),
            name="kernel",
        )
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, inputs, training=None):
        q = self.lookup(inputs)
        if training:
            q *= self._mask(self._random_dimensions(tf.shape(q)[0]), q.dtype)
        return self._adapt(q, self.kernel.value)

    def lookup(self, inputs) -> tf.Tensor:
        """Q, the full embeddings of all fields side by side, [B, sum over fields of D]."""
        ids = read_ids(inputs, self.fields, self.name)
        parts = [
            embed(self.tables[table].value, field_ids, field)
            for table, field_ids, field in zip(self.table_of, ids, self.fields, strict=True)
        ]
        return tf.cast(tf.concat(parts, axis=1), self.compute_dtype)

    def adapt_first(self, q: tf.Tensor, dimensions: tf.Tensor) -> tf.Tensor:
        """The layer's output if all rows use the first `dimensions` [T] columns of each table."""
        # Masks scale the few rows of the adapter rather than all of Q.
        return self._adapt(q, self.kernel.value * self._mask(dimensions, self.kernel.dtype)[:, tf.newaxis])

    def _adapt(self, q: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        kernel = tf.cast(kernel, q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        owners = tf.constant(self._field_of_column, tf.int32)
        return adapters.adapt_per_field(q, kernel, owners, len(self.fields))

    def _random_dimensions(self, num_rows) -> tf.Tensor:
        low, high = (tf.constant(bound, tf.int32) for bound in zip(*self.bounds, strict=True))
        uniform = keras.random.uniform((num_rows, len(self.bounds)), seed=self.seed_generator, dtype="float32")
        drawn = low + tf.cast(uniform * tf.cast(high - low + 1, tf.float32), tf.int32)
        return tf.minimum(drawn, high)  # the product may round up to its bound

    def _mask(self, dimensions: tf.Tensor, dtype) -> tf.Tensor:
        """Which columns of Q are used: [T] -> [Q], [B, T] -> [B, Q]."""
        dims = tf.gather(tf.cast(dimensions, tf.int32), self._table_of_column, axis=-1)
        return tf.cast(tf.constant(self._place_of_column, tf.int32) < dims, dtype)

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(batch_size_of(input_shape), self.adapter, len(self.fields), self.adapter_width)


class CandidateLosses:
    """Mean log loss of many candidates at once: int [K, T] -> [K], one pass over the rows, each looked up once.

    Args:
        model: a trained model of a `MaskedEmbedding`.
        data: held-out batches.
    """

    def __init__(self, model: RankingModel, data: tf.data.Dataset):
        self._data = data
        candidates = tf.TensorSpec([None, len(model.embedding.bounds)], tf.int32)

        # One signature for all batches and generations: one trace.
        @tf.function(input_signature=[*data.element_spec, candidates])
        def summed_losses(inputs, labels, candidates):
            q = model.embedding.lookup(inputs)
            y = tf.cast(tf.reshape(labels, [-1]), tf.float32)

            def loss_of(dimensions):
                p = tf.reshape(model.backbone(model.embedding.adapt_first(q, dimensions), training=False), [-1])
                p = tf.clip_by_value(tf.cast(p, tf.float32), 1e-7, 1 - 1e-7)
                return -tf.reduce_sum(y * tf.math.log(p) + (1 - y) * tf.math.log1p(-p))

            return tf.map_fn(loss_of, candidates, fn_output_signature=tf.float32), tf.size(y)

        self._summed_losses = summed_losses

    def __call__(self, candidates: np.ndarray) -> np.ndarray:
        total, num_rows = np.zeros(len(candidates)), 0
        for inputs, labels in self._data:
            losses, size = self._summed_losses(inputs, labels, tf.constant(candidates, tf.int32))
            total += losses.numpy()
            num_rows += int(size)
        return total / num_rows


def run(problem: SearchProblem, config: OptEmbedConfig) -> SearchResult:
    """Trains the supernet, then lets dimensions evolve; `loss` of an evolution's records is the supernet's last one.

    Raises:
        ValueError: without validation data.
    """
    validation_data = problem.require_validation_data("optembed")
    model_config = problem.model_config
    layer = MaskedEmbedding(
        problem.fields,
        config.max_dimension,
        model_config.adapter_width,
        model_config.adapter,
        seed=problem.seed,
        name="embedding",
    )
    model = build_model(layer, model_config, problem.seed)
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    dims = [high for _, high in layer.bounds]
    table_bytes = TABLE_COPIES * problem.plan(dims).table_bytes()
    begin = time.monotonic()
    trajectory: list[dict] = []

    def record(dimensions: Sequence[int], **values) -> None:
        plan = problem.plan(dimensions)
        trajectory.append(
            {
                "step": int(model.optimizer.iterations),
                "seconds": round(time.monotonic() - begin, 3),
                **values,
                "dimensions": plan.dimensions,
                "parameters": plan.parameters,
                "table_bytes": table_bytes,
            }
        )
        if problem.on_check:
            problem.on_check(trajectory[-1])

    epochs, steps = epochs_within(problem.train_data, config.max_epochs, config.max_steps)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=config.patience_epochs, restore_best_weights=True)
    epoch_ends = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs: record(dims, loss=logs["loss"], validation_loss=logs["val_loss"])
    )
    model.fit(
        problem.train_data.repeat(),
        validation_data=validation_data,
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[stopping, epoch_ends],
        shuffle=False,
        verbose=0,
    )
    loss, rng = trajectory[-1]["loss"], np.random.default_rng(problem.seed)
    for best in evolve(CandidateLosses(model, validation_data), layer.bounds, config.evolution, rng):
        dims = list(best.dimensions)
        record(dims, loss=loss, validation_loss=best.loss, num_evaluated=best.num_evaluated)
    return SearchResult(problem.plan(dims), trajectory, stopping.stopped_epoch > 0, peak_table_bytes=table_bytes)
