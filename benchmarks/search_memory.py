"""Memory of a search against training uniform models: what tables and slots take, and what the process takes.

Criteo profile with 10M rows in all: 39 fields, Zipf ids, batch 2048. The search by gates grows, step by step as the callback
would, from one dimension to 141 in all. The sample's profile (14 fields, 347 rows, as `make run` has them) compares whole
processes, the search there being `kd.search` as it is by default.
`python benchmarks/search_memory.py`: about 15 minutes on 2 cores.
"""

import functools
import sys
import threading
import time

import keras
import numpy as np
import tensorflow as tf
from criteo_profile import make_batches, make_fields, make_search_model, make_uniform_model, mixed_dims
from harness import Figure, main

import keras_dimgrow as kd
from keras_dimgrow.callbacks import resident_bytes

TOTAL_ROWS = 10_000_000
SAMPLE_SIZES = (15, 53, 30, 18, 11, 99, 25, 9, 42, 16, 7, 8, 4, 10)


class PeakMemory:
    """Highest resident memory of this process while the context is open, sampled 200 times a second."""

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = resident_bytes()
        self._is_done = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._is_done:
            self.peak = max(self.peak, resident_bytes())
            time.sleep(0.005)

    def __exit__(self, *exc_info) -> None:
        self._is_done = True
        self._thread.join()


def count_bytes(variables, optimizer) -> int:
    """Bytes of embedding tables and of the optimizer's slots of the same shape."""
    shapes = {tuple(variable.shape) for variable in variables}
    slots = [variable for variable in optimizer.variables if tuple(variable.shape) in shapes]
    return sum(int(np.prod(variable.shape)) * 4 for variable in (*variables, *slots))


def measure(make_model, steps: int, grow_to=None) -> dict[str, float]:
    """Peak memory above the start, peak memory, and bytes of tables and slots at the end."""
    batches = make_batches(make_fields(TOTAL_ROWS), 2048, num_batches=4)
    next(iter(batches))
    with PeakMemory() as memory:
        model = make_model(make_fields(TOTAL_ROWS))
        callbacks = [] if grow_to is None else [GrowTo(model, grow_to)]
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=callbacks)
    if grow_to is None:
        tables = [layer.embeddings for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
    else:
        tables = model.embedding.tables
    return {"above_start": memory.peak - memory.before, "table_bytes": count_bytes(tables, model.optimizer)}


class GrowTo(keras.callbacks.Callback):
    """Grows one dimension of every field that lacks some before each step, until `dims` are reached."""

    def __init__(self, search_model: kd.RankingModel, dims: list[int]):
        super().__init__()
        self._search_model, self._dims = search_model, dims

    def on_train_batch_begin(self, batch, logs=None):
        layer = self._search_model.embedding
        for index, (used, wanted) in enumerate(zip(layer.used_dims(), self._dims, strict=True)):
            if used < wanted:
                layer.grow(index, self._search_model.optimizer)


def measure_sample(is_search: bool) -> dict[str, float]:
    """Peak memory of a whole process that searches for, or trains uniform 16 on, a model of the sample's size."""
    fields = [kd.Field(name=f"f{i}", vocabulary_size=size) for i, size in enumerate(SAMPLE_SIZES)]
    rng = np.random.default_rng(0)
    ids = {field.name: rng.integers(0, field.vocabulary_size, 39_000).astype("int32") for field in fields}
    labels = (rng.random(39_000) < 0.25).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(256)
    with PeakMemory() as memory:
        if is_search:
            # At no more than a quarter of uniform 16, the race among the plans included.
            kd.search(fields, batches.skip(15), batches.take(15), parameter_budget=0.25)
        else:
            make_uniform_model(fields, keras.optimizers.Adam(1e-3)).fit(batches, epochs=10, verbose=0)
    return {"peak": memory.peak}


CASES = {
    "search": functools.partial(measure, lambda f: make_search_model(f, [1] * len(f)), 12, mixed_dims()),
    "uniform_16": functools.partial(measure, lambda f: make_uniform_model(f, keras.optimizers.Adam(1e-3)), 3),
    "uniform_32": functools.partial(measure, lambda f: make_uniform_model(f, keras.optimizers.Adam(1e-3), 32), 3),
    "sample_search": functools.partial(measure_sample, True),
    "sample_uniform_16": functools.partial(measure_sample, False),
}


def ratio(a: str, b: str, key: str):
    return lambda results: results[a][key] / results[b][key]


FIGURES = [
    Figure("tables and slots: search / uniform 16", 0.30, 0.15, ratio("search", "uniform_16", "table_bytes")),
    Figure("tables and slots: search / uniform 32", 0.15, 0.08, ratio("search", "uniform_32", "table_bytes")),
    Figure("peak above start: search / uniform 16", 0.60, 0.40, ratio("search", "uniform_16", "above_start")),
    Figure("peak above start: search / uniform 32", 0.35, 0.20, ratio("search", "uniform_32", "above_start")),
    Figure("sample, whole process: search / uniform 16", 1.0, 1.0, ratio("sample_search", "sample_uniform_16", "peak")),
]

if __name__ == "__main__":
    sys.exit(main(__file__, "Memory of the search, Criteo profile with 10M rows", CASES, FIGURES))
