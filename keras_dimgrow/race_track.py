"""The track of a race: one traced training loop over which the contestants go one after another.

To trace a training step costs as much time as hundreds of steps of a small model. The tables of a track therefore have
dynamic numbers of rows, and where each field reads them is data, not graph: plans of any dimensions are trained by one
trace, each with the values and optimizer slots of its own that `Track.load` and `Track.unload` swap.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.devices import place_tables
from keras_dimgrow.fields import FieldInput
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.models import ModelConfig, build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.variables import GrowableVariable

State = list[np.ndarray]


class Chunk(NamedTuple):
    """Batches one below the other: those of a step are rows bounds[step] .. bounds[step + 1].

    Attributes:
        plain: ids of the fields with one value a row, in the order of the fields, int64 [N, F].
        others: the other fields' ids and weights, [N, L] or [N] each.
        labels: float32 [N].
        bounds: int32 [steps + 1].
    """

    plain: tf.Tensor
    others: dict[str, tf.Tensor]
    labels: tf.Tensor
    bounds: tf.Tensor


def read_chunks(batches: Iterable, fields: Sequence[FieldInput]) -> list[Chunk]:
    """The batches of ({name: ids}, labels [B]) in as few chunks as their shapes allow."""
    plain = [field.name for field in fields if field.is_plain]
    others = [name for field in fields if not field.is_plain for name in (field.name, field.weights) if name]
    groups: list[list[tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]]] = []
    shapes = None
    for inputs, labels in batches:
        y = np.asarray(labels, np.float32).reshape(-1)
        matrix = np.zeros((len(y), 0), np.int64)
        if plain:
            matrix = np.stack([np.asarray(inputs[name]).reshape(-1) for name in plain], axis=1, dtype=np.int64)
        rest = {name: _widest(np.asarray(inputs[name])) for name in others}
        if shapes != {name: values.shape[1:] for name, values in rest.items()}:
            shapes = {name: values.shape[1:] for name, values in rest.items()}
            groups.append([])
        groups[-1].append((matrix, rest, y))
    return [
        Chunk(
            plain=tf.constant(np.concatenate([matrix for matrix, _, _ in group])),
            others={name: tf.constant(np.concatenate([rest[name] for _, rest, _ in group])) for name in others},
            labels=tf.constant(np.concatenate([y for _, _, y in group])),
            bounds=tf.constant(np.cumsum([0] + [len(y) for _, _, y in group]), tf.int32),
        )
        for group in groups
    ]


def _widest(values: np.ndarray) -> np.ndarray:
    """One dtype for ids and one for weights: a function is traced for the dtypes of its first chunk."""
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)


class Track:
    """Trains models of a plan, as `fit` with `LazyAdam` does, and predicts with them.

    Args:
        plans: those that will run on this track, `shares_track` with each other.
        model_config, learning_rate, seed: of the models.
    """

    def __init__(self, plans: Sequence[EmbeddingPlan], model_config: ModelConfig, learning_rate: float, seed: int):
        self._model_config, self._seed = model_config, seed
        self._fields = plans[0].fields
        self._is_shared = all(field.is_plain for field in self._fields)
        # Of the shared track's model only the backbone is used: its shapes are those of every plan.
        largest = max(plans, key=lambda plan: plan.parameters)
        self._device = place_tables({"a raced plan": largest.parameters}, model_config.max_gpu_table_bytes)[0]
        self._model = build_model(_embedding(plans[0], model_config, seed, self._device), model_config, seed)
        backbone = self._model.backbone
        trained: list[Any] = self._model.trainable_variables
        if self._is_shared:
            dims = sorted({field.dimension for plan in plans for field in plan.kept_fields})
            with tf.device(self._device):
                self._tables = {dim: GrowableVariable("zeros", (0, dim), (0,), name=f"table_{dim}") for dim in dims}
            self._kernel = GrowableVariable("zeros", (0, model_config.adapter_width), (0,), name="kernel")
            # Of each dimension: which columns of the ids, and the row of their table's id 0; the field of each row of
            # the kernel.
            self._columns = {dim: tf.Variable(np.zeros(0, np.int32), shape=[None]) for dim in dims}
            self._offsets = {dim: tf.Variable(np.zeros(0, np.int64), shape=[None]) for dim in dims}
            self._owners = tf.Variable(np.zeros(0, np.int32), shape=[None])
            self._layout = [*self._columns.values(), *self._offsets.values(), self._owners]
            trained = [*self._tables.values(), self._kernel, *backbone.trainable_variables]
        else:
            self._layout = []
        self._trained = trained
        self._optimizer = LazyAdam(learning_rate)
        self._optimizer.build(trained)
        others = [v for v in self._model.variables if not v.trainable]
        self._variables = [*trained, *others, *self._optimizer.variables, *self._layout]
        self._start_values = self.unload()
        self._traced: dict[str, Callable[..., Any]] = {}

    def start(self, plan: EmbeddingPlan) -> None:
        """Puts an untrained model of `plan` on the track: the one that `retrain` starts from."""
        self.load(self._start_values)
        if not self._is_shared:
            return
        layer = _embedding(plan, self._model_config, self._seed, self._device)
        layer.build(None)
        position = {field.name: i for i, field in enumerate(plan.fields)}
        place = {field.name: i for i, field in enumerate(plan.kept_fields)}
        starts = table_starts(plan)
        order = []
        for dim, table in self._tables.items():
            fields = [field for field in plan.fields if field.dimension == dim]
            order += fields
            table.assign(layer.tables[str(dim)].value if fields else tf.zeros([0, dim]))
            self._columns[dim].assign(np.array([position[field.name] for field in fields], np.int32))
            self._offsets[dim].assign(np.array([starts[field.table_key] for field in fields], np.int64))
        self._kernel.assign(layer.kernel.value)
        owners = np.repeat([place[field.name] for field in order], [field.dimension for field in order])
        self._owners.assign(owners.astype(np.int32))
        for variable in (*self._tables.values(), self._kernel):
            for _, slot in self._optimizer.slots_of(variable):
                slot.assign(tf.zeros(variable.shape))

    def unload(self) -> State:
        """Everything that training changes and that depends on the plan."""
        return [variable.numpy() for variable in self._variables]

    def load(self, state: State) -> None:
        """Goes on from what `unload` gave."""
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)

    def train(self, chunks: Sequence[Chunk]) -> None:
        """One step on every batch."""
        for chunk in chunks:
            self._run("train", self._train_steps, chunk)

    def predict(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """The probability of every row, [N]."""
        return np.concatenate([self._run("predict", self._predict_steps, chunk).numpy() for chunk in chunks])

    def _run(self, name: str, steps: Callable[..., Any], chunk: Chunk) -> Any:
        """Runs a function of a chunk, traced once for chunks of any sizes."""
        if name not in self._traced:
            specs = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype), tuple(chunk)
            )
            self._traced[name] = tf.function(steps, autograph=False).get_concrete_function(*specs)
        return self._traced[name](*chunk)

    def _train_steps(self, plain, others, labels, bounds):
        def step(i):
            rows = slice(bounds[i], bounds[i + 1])
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([variable.value for variable in self._trained])
                p = self._forward(plain[rows], {name: values[rows] for name, values in others.items()}, True)
                losses = keras.losses.binary_crossentropy(labels[rows][:, tf.newaxis], p)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, [variable.value for variable in self._trained])
            self._optimizer.apply(gradients, self._trained)
            return i + 1

        tf.while_loop(lambda i: i < tf.size(bounds) - 1, step, [tf.constant(0)], parallel_iterations=1)

    def _predict_steps(self, plain, others, labels, bounds):
        def step(i, parts):
            rows = slice(bounds[i], bounds[i + 1])
            p = self._forward(plain[rows], {name: values[rows] for name, values in others.items()}, False)
            return i + 1, parts.write(i, tf.reshape(p, [-1]))

        num_steps = tf.size(bounds) - 1
        parts = tf.TensorArray(tf.float32, num_steps, infer_shape=False, element_shape=[None])
        return tf.while_loop(lambda i, _: i < num_steps, step, [tf.constant(0), parts], parallel_iterations=1)[
            1
        ].concat()

    def _forward(self, plain: tf.Tensor, others: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        if not self._is_shared:
            names = [field.name for field in self._fields if field.is_plain]
            columns = tf.unstack(plain, axis=1, num=len(names))
            return self._model(dict(zip(names, columns, strict=True)) | dict(others), training=training)
        q = tf.concat([self._embed(dim, table, plain) for dim, table in self._tables.items()], axis=1)
        q = tf.cast(q, self._model.backbone.compute_dtype)
        kernel = tf.cast(self._kernel.value, q.dtype)
        if self._model_config.adapter == "joint":
            h = adapters.adapt_jointly(q, kernel)
        else:
            h = adapters.adapt_per_field(q, kernel, self._owners, len(self._model.embedding.fields))
        return self._model.backbone(h, training=training)

    def _embed(self, dim: int, table: GrowableVariable, ids: tf.Tensor) -> tf.Tensor:
        columns = self._columns[dim]
        rows = tf.gather(ids, columns, axis=1) + self._offsets[dim]
        return tf.reshape(tf.gather(table.value, rows), [tf.shape(ids)[0], tf.size(columns) * dim])


def shares_track(first: EmbeddingPlan, second: EmbeddingPlan, model_config: ModelConfig) -> bool:
    """Whether one traced training step serves both plans."""
    if not all(field.is_plain for field in first.fields):
        return first == second
    return model_config.adapter == "joint" or len(first.kept_fields) == len(second.kept_fields)


def table_starts(plan: EmbeddingPlan) -> dict[tuple[str, str], int]:
    """The row of each table's id 0 among the tables of its dimension, as `PlannedEmbedding` puts them."""
    ends: dict[int, int] = {}
    starts = {}
    for table in plan.tables:
        starts[table.table_key] = ends.get(table.dimension, 0)
        ends[table.dimension] = starts[table.table_key] + table.vocabulary_size
    return starts


def _embedding(plan: EmbeddingPlan, model_config: ModelConfig, seed: int, device: str | None) -> PlannedEmbedding:
    layer = PlannedEmbedding(plan, model_config.adapter_width, model_config.adapter, seed=seed, name="embedding")
    layer.table_devices = dict.fromkeys((field.dimension for field in plan.fields), device)
    return layer
