"""GPU memory and step time of the search against uniform models: figure 4 of arXiv 2505.12683, for tables of 10M rows.

Criteo profile: 39 fields, Zipf ids, batch 8192. The search grows from one dimension a field to 141 in all, as a search does,
inside the measurement: its peak holds a grown table beside the old one. Optional: where TensorFlow sees no GPU, nothing is
measured, and the exit status is 0. `python benchmarks/gpu.py`: some minutes on one GPU (estimated; never run on one).
"""

import functools
import sys

import keras
import tensorflow as tf
from criteo_profile import (
    make_batches,
    make_default_search_model,
    make_fields,
    make_uniform_model,
    mixed_dims,
    time_fit,
)
from harness import Figure, main

import keras_dimgrow as kd

TOTAL_ROWS = 10_000_000
BATCH_SIZE = 8192


def measure(make_model) -> dict[str, float]:
    """Peak bytes that the model took of the GPU, from its making to its training, and median milliseconds of a step."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    fields = make_fields(TOTAL_ROWS)
    batches = make_batches(fields, BATCH_SIZE)
    milliseconds = time_fit(make_model(fields), batches)
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return {"ms": milliseconds, "peak_bytes": peak}


MODELS = {
    "search": lambda fields: make_default_search_model(fields, mixed_dims()),
    "uniform_16": lambda fields: make_uniform_model(fields, keras.optimizers.Adam(1e-3)),
    "uniform_32": lambda fields: make_uniform_model(fields, keras.optimizers.Adam(1e-3), 32),
    "uniform_16_lazy": lambda fields: make_uniform_model(fields, kd.LazyAdam(1e-3)),
}
CASES = {name: functools.partial(measure, make_model) for name, make_model in MODELS.items()}


def ratio(a: str, b: str, key: str):
    return lambda results: results[a][key] / results[b][key]


# The paper's GPU figures are savings of 19% (Criteo-16) and 44% (Criteo-32) against supernets.
FIGURES = [
    Figure("peak GPU memory: search / uniform 16", 0.60, 0.40, ratio("search", "uniform_16", "peak_bytes")),
    Figure("peak GPU memory: search / uniform 32", 0.35, 0.20, ratio("search", "uniform_32", "peak_bytes")),
    Figure("step: search / uniform 16, Keras Adam", 0.85, 0.6, ratio("search", "uniform_16", "ms")),
    Figure("step: search / uniform 16, LazyAdam", 1.0, 0.6, ratio("search", "uniform_16_lazy", "ms")),
]

if __name__ == "__main__":
    if not tf.config.list_physical_devices("GPU"):
        sys.stdout.write(f"skipped: TensorFlow {tf.__version__} sees no GPU on this machine\n")
        sys.exit(0)
    sys.exit(main(__file__, "GPU memory and step of the search, Criteo profile with 10M rows", CASES, FIGURES))
