"""Rows of ids in blocks, as our Transform writes them: a tf.Example of some thousand rows, a feature a column.

A feature has two strings: the smallest of u1, u2 and u4 that holds the block's ids, and the ids in it, little-endian. A
tf.Example a row costs as much to encode, to compress, to read and to parse as its 40 names and its record do; what is left
here is copying (docs/decisions/0009-rows-in-blocks.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

ROWS_PER_BLOCK = 4096


def encode_block(columns: Mapping[str, np.ndarray]) -> bytes:
    """A serialized tf.Example of columns [rows] of integers from 0 to below 2^31."""
    block = tf.train.Example()
    for name, ids in columns.items():
        kind = f"u{min(np.min_scalar_type(ids.max(initial=0)).itemsize, 4)}"
        block.features.feature[name].bytes_list.value.extend([kind.encode(), ids.astype(f"<{kind}").tobytes()])
    return block.SerializeToString(deterministic=True)


def decode_block(record: bytes, names: Sequence[str]) -> np.ndarray:
    """int32 [rows, columns] of a serialized block; a ValueError names a column that it lacks or that is broken."""
    features = tf.train.Example.FromString(record).features.feature
    rows = np.empty((0, len(names)), np.int32)
    for i, name in enumerate(names):
        if name not in features:
            raise ValueError(f"there is no column {name!r}")
        try:
            kind, values = features[name].bytes_list.value
            ids = np.frombuffer(values, f"<{kind.decode()}")
            if i == 0:
                rows = np.empty((len(ids), len(names)), np.int32)
            rows[:, i] = ids
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name!r} is broken: {error}") from error
    return rows


def is_block(record: bytes) -> bool:
    """Whether a serialized tf.Example is a block, not a row, whose features are integers."""
    features = tf.train.Example.FromString(record).features.feature.values()
    return any(feature.WhichOneof("kind") == "bytes_list" for feature in features)
