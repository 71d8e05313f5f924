"""Time of a training step: the search against uniform models, gates, shuffles, LazyAdam, and growth.

Criteo profile: 39 fields, 1.1M rows in all, Zipf ids. `python benchmarks/search_step.py`: about 15 minutes on 2 cores.
"""

import functools
import statistics
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from criteo_profile import make_batches, make_fields, make_search_model, make_uniform_model, mixed_dims, time_fit
from harness import Figure, main

import keras_dimgrow as kd

TOTAL_ROWS = 1_100_000


def time_step(make_model, batch_size: int) -> dict[str, float]:
    """Median milliseconds of a step inside plain `fit`, after a warm-up epoch."""
    fields = make_fields(TOTAL_ROWS)
    return {"ms": time_fit(make_model(fields), make_batches(fields, batch_size))}


def without_gates(fields) -> kd.RankingModel:
    """The search model's dimensions and tables, trained without shuffles, gates and penalty."""
    model = make_search_model(fields, mixed_dims())
    layer = model.embedding

    def call(inputs, training=None):
        rows = [tf.gather(table.value, inputs[f.name]) for table, f in zip(layer.tables, fields, strict=True)]
        return tf.matmul(tf.concat(rows, axis=1), layer.kernel.value)

    layer.call = call
    return model


def time_adam(make_optimizer) -> dict[str, float]:
    """Median milliseconds of gather + update on one table of 1.1M x 16, batch 2048."""
    table = keras.Variable(np.zeros((TOTAL_ROWS, 16), "float32"))
    optimizer = make_optimizer()
    optimizer.build([table])
    rng = np.random.default_rng(0)
    ids = [tf.constant(np.minimum(rng.zipf(1.2, 2048) - 1, TOTAL_ROWS - 1).astype("int32")) for _ in range(20)]

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(table.value, batch) - 1.0))
        optimizer.apply([tape.gradient(loss, table.value)], [table])

    seconds = []
    for batch in ids:
        begin = time.perf_counter()
        step(batch)
        table.value.sparse_read([0]).numpy()
        seconds.append(time.perf_counter() - begin)
    return {"ms": 1000 * statistics.median(seconds[5:])}


def time_growth() -> dict[str, float]:
    """Seconds to grow all 39 fields by one, slots included, and traces of the train function in a search of 100 growths."""
    fields = make_fields(TOTAL_ROWS)
    model = make_search_model(fields, mixed_dims())
    traces = []
    call = model.backbone.call

    def counting_call(*args, **kwargs):
        traces.append(1)
        return call(*args, **kwargs)

    batches = make_batches(fields, 256, num_batches=4)
    model.backbone.call = counting_call
    seconds = []
    grown = iter(range(100))

    class Grow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch and next(grown, None) is not None:
                model.embedding.grow(batch % len(fields), model.optimizer)

    model.fit(batches, steps_per_epoch=102, verbose=0, shuffle=False, callbacks=[Grow()])
    for _ in range(3):
        begin = time.perf_counter()
        model.embedding.grow(range(len(fields)), model.optimizer)
        seconds.append(time.perf_counter() - begin)
    return {"growth_s": statistics.median(seconds), "traces": float(len(traces))}


MODELS = {
    "search": lambda fields: make_search_model(fields, mixed_dims()),
    "search_algorithm_1": lambda fields: make_search_model(fields, mixed_dims(), shuffle="permutation"),
    "search_without_gates": without_gates,
    "uniform_keras_adam": lambda fields: make_uniform_model(fields, keras.optimizers.Adam(1e-3)),
    "uniform_lazy_adam": lambda fields: make_uniform_model(fields, kd.LazyAdam(1e-3)),
}
CASES = {
    f"{name}_{size}": functools.partial(time_step, make, size) for size in (2048, 8192) for name, make in MODELS.items()
} | {
    "keras_adam": functools.partial(time_adam, lambda: keras.optimizers.Adam(1e-3)),
    "lazy_adam": functools.partial(time_adam, lambda: kd.LazyAdam(1e-3)),
    "growth": time_growth,
}


def ratio(a: str, b: str):
    return lambda results: results[a]["ms"] / results[b]["ms"]


FIGURES = [
    figure
    for size in (2048, 8192)
    for figure in (
        Figure(
            f"search / uniform 16, Keras Adam, B={size}",
            0.6,
            0.35,
            ratio(f"search_{size}", f"uniform_keras_adam_{size}"),
        ),
        Figure(
            f"search / uniform 16, LazyAdam, B={size}", 0.85, 0.6, ratio(f"search_{size}", f"uniform_lazy_adam_{size}")
        ),
        Figure(
            f"gates: search / without, B={size}", 1.25, 1.1, ratio(f"search_{size}", f"search_without_gates_{size}")
        ),
        Figure(f"cyclic / Algorithm 1, B={size}", 0.55, 0.4, ratio(f"search_{size}", f"search_algorithm_1_{size}")),
    )
] + [
    Figure("LazyAdam / Keras Adam, 1.1M x 16, B=2048", 0.25, 0.15, ratio("lazy_adam", "keras_adam")),
    Figure("growing 39 fields by one, s", 0.3, 0.1, lambda results: results["growth"]["growth_s"]),
    Figure("traces in a search with 100 growths", 1, 1, lambda results: results["growth"]["traces"]),
]

if __name__ == "__main__":
    sys.exit(main(__file__, "Training step of the search, Criteo profile", CASES, FIGURES))
