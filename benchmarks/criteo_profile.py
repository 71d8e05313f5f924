"""Data and models of the Criteo profile: 39 fields, Zipf ids, the vocabulary sizes of a given total."""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_dimgrow as kd

NUM_FIELDS = 39
STEPS = 40
ADAPTER_WIDTH = 64


def make_fields(total_rows: int) -> list[kd.Field]:
    """39 fields whose vocabularies fall off as a power of their rank and have about `total_rows` rows in all."""
    weights = 1 / np.arange(1, NUM_FIELDS + 1) ** 1.6
    sizes = np.maximum(4, total_rows * weights / weights.sum()).astype(int)
    return [kd.Field(name=f"f{i}", vocabulary_size=int(size)) for i, size in enumerate(sizes)]


def mixed_dims() -> list[int]:
    """Dimensions 1 .. 8, mixed over the fields, 141 in all."""
    dims = [1 + (i * 5) % 8 for i in range(NUM_FIELDS)]
    while sum(dims) > 141:
        dims[int(np.argmax(dims))] -= 1
    return dims


def make_batches(
    fields: list[kd.Field], batch_size: int, num_batches: int = 40, seed: int = 0, wraps: bool = False
) -> tf.data.Dataset:
    """Endless batches of ({field: int32 [B]}, label [B]), from memory; ids beyond a table are its last one, or wrap around."""
    rng = np.random.default_rng(seed)
    num_rows = num_batches * batch_size
    draws = [(field.vocabulary_size, rng.zipf(1.2, num_rows) - 1) for field in fields]
    columns = [ids % size if wraps else np.minimum(ids, size - 1) for size, ids in draws]
    ids = tf.constant(np.stack(columns, axis=1).astype("int32"))
    labels = tf.constant((rng.random(num_rows) < 0.25).astype("float32"))
    names = [field.name for field in fields]

    def batch(index):
        rows = slice(index * batch_size, (index + 1) * batch_size)
        return dict(zip(names, tf.unstack(ids[rows], axis=1), strict=True)), labels[rows]

    return tf.data.Dataset.range(num_batches).repeat().map(batch).prefetch(4)


def make_search_model(fields, dims, shuffle: str = "cyclic", optimizer=None) -> kd.RankingModel:
    """A search model grown to `dims`, its optimizer built."""
    layer = kd.DimGrowEmbedding(fields, ADAPTER_WIDTH, gate=kd.GateConfig(shuffle=shuffle), seed=0)
    model = kd.build_model(layer, kd.ModelConfig(adapter_width=ADAPTER_WIDTH), seed=0)
    model.compile(optimizer or kd.LazyAdam(1e-3), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    for index, dim in enumerate(dims):
        for _ in range(dim - 1):
            layer.grow(index, model.optimizer)
    return model


def make_default_search_model(fields, dims) -> kd.RankingModel:
    """The model of the default search (`method="dimgrow"`), grown from one dimension a field to `dims`."""
    layer = kd.GrowableEmbedding(fields, [1] * len(fields), ADAPTER_WIDTH, seed=0)
    model = kd.build_model(layer, kd.ModelConfig(adapter_width=ADAPTER_WIDTH), seed=0)
    model.compile(kd.LazyAdam(3e-3), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    layer.grow({index: dim - 1 for index, dim in enumerate(dims) if dim > 1}, model.optimizer)
    return model


def make_uniform_model(fields, optimizer, dim: int = 16) -> keras.Model:
    """What a Keras user writes: one Embedding a field, concatenated, and the same backbone."""
    inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in fields}
    embedded = [keras.layers.Embedding(f.vocabulary_size, dim)(inputs[f.name]) for f in fields]
    adapted = keras.layers.Dense(ADAPTER_WIDTH, use_bias=False)(keras.layers.Concatenate()(embedded))
    model = keras.Model(inputs, kd.WideDeep()(adapted))
    model.compile(optimizer, "binary_crossentropy")
    return model


class StepTimer(keras.callbacks.Callback):
    """Seconds of each epoch of STEPS steps."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._begin)


def time_fit(model: keras.Model, batches: tf.data.Dataset) -> float:
    """Median milliseconds of a step inside plain `fit`, after a warm-up epoch."""
    timer = StepTimer()
    model.fit(batches, epochs=6, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[timer])
    return 1000 * statistics.median(timer.seconds[1:]) / STEPS
