"""How a table's rows are stored for serving: encoded once in NumPy, decoded in the graph after they were looked up."""

from itertools import pairwise

import numpy as np
import tensorflow as tf

from keras_dimgrow.plan import EmbeddingPlan

STORAGES = ("float32", "float16", "int8")

# int8: a row's scale is 2^(code / 8 - 8), one more byte in the row. Scales reach from 2^-24 to 2^7.9, so that rows whose
# largest value is between 8e-6 and 3e4 lose nothing to the scale but the rounding up to the next one, 9% at most.
_STEPS_AN_OCTAVE = 8
_MIDDLE = 8
_LARGEST = 127

# Values that padding may add to a plan's tables for fewer operations in serving, in parts of the plan's parameters.
_MAX_PADDING = 0.1


def encodes(storage: str, dimension: int) -> bool:
    """Whether rows of this dimension have an encoding of their own, not just a dtype.

    A row of one dimension takes two bytes as int8 with its scale, as it does in float16, which is more exact.
    """
    return storage == "int8" and dimension > 1


def stored_shape(storage: str, num_rows: int, dimension: int) -> tuple[int, int]:
    """The shape of a table's stored form."""
    return (num_rows, dimension + 1) if encodes(storage, dimension) else (num_rows, dimension)


def stored_dtype(storage: str, dimension: int) -> str:
    """The dtype of a table's stored form."""
    return "float16" if storage == "int8" and not encodes(storage, dimension) else storage


def encode(table: np.ndarray, storage: str) -> np.ndarray:
    """The stored form of `table` [V, d]: [V, d] in the storage's dtype or, for int8, [V, d + 1] with each row's scale.

    int8 is symmetric: a value is an integer in -127 .. 127 times its row's scale.

    Raises:
        ValueError: if a value is not finite or too large for the storage.

    Example:
        >>> encode(np.array([[1.0, -0.5]]), "int8").tolist()
        [[117, -59, 9]]
    """
    dimension = table.shape[1]
    dtype = stored_dtype(storage, dimension)
    limit = _LARGEST * float(_scales(np.array(127))) if dtype == "int8" else float(np.finfo(dtype).max)
    largest = float(np.abs(table).max(initial=0.0))
    if not largest <= limit:
        raise ValueError(
            f"Storage {storage!r} holds values up to {limit:.6g}; a table has {largest:.6g}. Use storage='float32', or "
            "look for a training that diverged."
        )
    if dtype != "int8":
        return table.astype(dtype)
    with np.errstate(divide="ignore"):  # a row of zeros has the least scale
        exponents = np.log2(np.abs(table).max(axis=1) / _LARGEST)
    codes = np.clip(np.ceil((exponents + _MIDDLE) * _STEPS_AN_OCTAVE), -128, 127).astype(np.int8)
    values = np.rint(table / _scales(codes)[:, np.newaxis])
    return np.concatenate([np.clip(values, -_LARGEST, _LARGEST).astype(np.int8), codes[:, np.newaxis]], axis=1)


def decode(rows: tf.Tensor, storage: str, dimension: int) -> tf.Tensor:
    """Rows [..., d or d + 1] of a stored form as they were, [..., d], but for the storage's rounding; float32."""
    rows = tf.cast(rows, tf.float32)
    if not encodes(storage, dimension):
        return rows
    scales = tf.exp(rows[..., dimension:] * (np.log(2) / _STEPS_AN_OCTAVE) - _MIDDLE * np.log(2))
    return rows[..., :dimension] * scales


def _scales(codes: np.ndarray) -> np.ndarray:
    return np.exp2(codes.astype(np.float64) / _STEPS_AN_OCTAVE - _MIDDLE)


def pad_dimensions(plan: EmbeddingPlan) -> EmbeddingPlan:
    """A plan whose tables have fewer distinct dimensions, some of them larger: each costs operations in serving.

    While this adds at most a tenth of the plan's parameters, all tables of one dimension get the next larger one; those
    first where it adds least. Removed fields stay removed.

    Example:
        >>> from keras_dimgrow.fields import Field
        >>> fields = [Field(name=str(size), vocabulary_size=size) for size in (9, 8, 500)]
        >>> pad_dimensions(EmbeddingPlan.from_dimensions(fields, {"9": 1, "8": 2, "500": 4})).dimensions
        {'9': 4, '8': 4, '500': 4}
    """
    rows: dict[int, int] = {}
    for table in plan.tables:
        if table.dimension:
            rows[table.dimension] = rows.get(table.dimension, 0) + table.vocabulary_size
    left = _MAX_PADDING * plan.parameters
    becomes = {dim: dim for dim in rows}
    while len(rows) > 1:
        cost, dim, larger = min((rows[dim] * (larger - dim), dim, larger) for dim, larger in pairwise(sorted(rows)))
        if cost > left:
            break
        left -= cost
        rows[larger] += rows.pop(dim)
        becomes = {old: larger if new == dim else new for old, new in becomes.items()}
    dimensions = {field.name: becomes.get(field.dimension, 0) for field in plan.fields}
    return EmbeddingPlan.from_dimensions(plan.fields, dimensions)
