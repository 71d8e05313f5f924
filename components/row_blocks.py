"""Rows of ids in blocks, as our Transform writes them: a tf.Example of some thousand rows, a feature a column.

The value of a feature is one string: the column's ids, int32, little-endian. A tf.Example a row costs as much to encode, to
compress, to read and to parse as its 40 names and its record do; what is left here is copying
(docs/decisions/0009-rows-in-blocks.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

ROWS_PER_BLOCK = 4096


def encode_block(columns: Mapping[str, np.ndarray]) -> bytes:
    """A serialized tf.Example of columns [rows] of integers below 2^31."""
    block = tf.train.Example()
    for name, ids in columns.items():
        block.features.feature[name].bytes_list.value.append(ids.astype("<i4").tobytes())
    return block.SerializeToString(deterministic=True)


def decode_block(record: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
    """int32 [rows, columns] of a serialized block; an InvalidArgumentError names a column that it lacks."""
    parsed = tf.io.parse_single_example(record, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
    return tf.transpose(tf.io.decode_raw(tf.stack([parsed[name] for name in names]), tf.int32))


def is_block(record: bytes) -> bool:
    """Whether a serialized tf.Example is a block, not a row, whose features are integers."""
    features = tf.train.Example.FromString(record).features.feature.values()
    return any(feature.WhichOneof("kind") == "bytes_list" for feature in features)
