"""What float16 and int8 tables cost in quality, and which scale int8 rows should have.

A plan trained to its end on planted data (profile `full`), its tables then stored in other ways; a round is a seed, of data,
model and plan. `plan` has 1 to 6 dimensions, whatever the fields need. Of int8, what ships is a scale of one byte a row on a
grid of 8 an octave; beside it, scales in float32 and float16, and one scale a table.
`python benchmarks/storage_quality.py`: 5 trainings, about 3 minutes on 2 cores.
"""

import sys
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from harness import Figure, main, round_seed

import keras_dimgrow as kd
from keras_dimgrow.storage import decode, encode
from pipeline.datasets.planted import make_planted

NUM_ROWS = 150_000
BATCH_SIZE = 512


def in_int8(table: np.ndarray, axis: int | None, dtype: str) -> np.ndarray:
    """`table` after symmetric int8 with a scale of this dtype for each row (axis 1) or for all (None)."""
    scale = (np.abs(table).max(axis=axis, keepdims=True) / 127).astype(dtype).astype("float64")
    scale[scale == 0] = 1
    return np.clip(np.rint(table / scale), -127, 127) * scale


# Storage -> (a table after it, bytes of a row of d dimensions).
STORAGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[int], float]]] = {
    "float16": (lambda table: table.astype("float16"), lambda d: 2 * d),
    "int8": (
        lambda table: decode(tf.constant(encode(table, "int8")), "int8", table.shape[1]).numpy(),
        lambda d: d + 1,
    ),
    "int8, float32 scale": (lambda table: in_int8(table, 1, "float32"), lambda d: d + 4),
    "int8, float16 scale": (lambda table: in_int8(table, 1, "float16"), lambda d: d + 2),
    "int8, scale of the table": (lambda table: in_int8(table, None, "float32"), lambda d: d),
}


def measure() -> dict[str, float]:
    """Test AUC and log loss of each storage minus those of float32, and bytes in parts of float32's."""
    seed = round_seed()
    data = make_planted("full", NUM_ROWS, seed=seed)
    rng = np.random.default_rng(seed)
    dims = {field.name: int(rng.integers(1, 7)) for field in data.fields}
    plan = kd.EmbeddingPlan.from_dimensions(data.fields, dims)
    batches = data.batches("train", BATCH_SIZE, seed), data.batches("validation", 4096)
    model = kd.retrain(plan, *batches, config=kd.TrainingConfig(learning_rate=3e-3), seed=seed).model
    test = data.batches("test", 4096)
    layer = model.embedding
    tables, kernels = layer.tables_by_field(), layer.kernels_by_field()
    results = {}
    for name in ("float16", "int8"):
        comparison = kd.compare_storage(model, kd.with_storage(model, name), test)
        results |= {f"{name} shipped, auc": comparison.auc_difference}
    before = kd.evaluate(model, test)
    for name, (store, row_bytes) in STORAGES.items():
        layer.assign_by_field({field: store(table) for field, table in tables.items()}, kernels)
        after = kd.evaluate(model, test)
        num_bytes = sum(table.vocabulary_size * row_bytes(table.dimension) for table in plan.tables)
        results |= {
            f"{name}, auc": after.auc - before.auc,
            f"{name}, log loss": after.log_loss - before.log_loss,
            f"{name}, bytes": num_bytes / plan.table_bytes(),
        }
    return results | {"float32, auc": before.auc, "float32, log loss": before.log_loss}


def lost(key: str, sign: int):
    return lambda results: sign * results["planted"][key]


FIGURES = [
    figure
    for name, limits in (("float16", (1e-4, 1e-5)), ("int8", (1e-3, 1e-4)))
    for figure in (
        Figure(f"{name}: AUC lost", *limits, lost(f"{name} shipped, auc", -1), is_mean=True),
        Figure(f"{name}: log loss gained", *limits, lost(f"{name}, log loss", 1), is_mean=True),
    )
]

if __name__ == "__main__":
    sys.exit(main(__file__, "Quality of stored tables", {"planted": measure}, FIGURES))
