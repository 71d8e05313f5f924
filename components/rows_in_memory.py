"""Rows of ids that fit into memory, from which batches are read: in order, or in a new random order each pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

TENSOR_ALIGNMENT = 64  # bytes: what TensorFlow asks of memory that becomes a tensor as it lies


class RowsInMemory:
    """At most so many bytes of rows [N, C] int32.

    Memory is taken as rows come: what has not been written does not count.

    Args:
        max_bytes: 4 bytes an id.
        num_columns: C.
    """

    def __init__(self, max_bytes: int, num_columns: int):
        size = max_bytes // (4 * num_columns) * num_columns
        memory = np.empty(size + TENSOR_ALIGNMENT // 4, np.int32)
        begin = -memory.ctypes.data % TENSOR_ALIGNMENT // 4
        self._buffer = memory[begin : begin + size].reshape(-1, num_columns)
        self.num_rows = 0

    @property
    def rows(self) -> np.ndarray:
        """Those that were appended, [N, C]; not a copy."""
        return self._buffer[: self.num_rows]

    def append(self, rows: np.ndarray) -> bool:
        """Takes these rows if all of them fit, and returns whether they do."""
        end = self.num_rows + len(rows)
        fits = end <= len(self._buffer)
        if fits:
            self._buffer[self.num_rows : end] = rows
            self.num_rows = end
        return fits

    def batches(self, batch_size: int, shuffle_seed: int | None, unpack: Callable[[tf.Tensor], Any]) -> tf.data.Dataset:
        """What `unpack` makes of batches [B, C]: in order and with a short last one, or, with a seed, without it, in a new
        order each pass."""
        # A constant would be a copy, which takes longer than reading the rows did.
        rows = tf.experimental.dlpack.from_dlpack(self.rows.__dlpack__())
        num_rows, num_batches = self.num_rows, self.num_rows // batch_size

        # Nothing here is for AutoGraph, which takes longer than the first thousands of rows.
        @tf.autograph.experimental.do_not_convert
        def in_order(begin: tf.Tensor) -> Any:
            return unpack(rows[begin : begin + batch_size])

        @tf.autograph.experimental.do_not_convert
        def one_pass(number: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.experimental.stateless_shuffle(tf.range(num_rows), tf.stack([number, 0]))
            return tf.data.Dataset.from_tensor_slices(
                tf.reshape(order[: num_batches * batch_size], [num_batches, batch_size])
            )

        @tf.autograph.experimental.do_not_convert
        def take(positions: tf.Tensor) -> Any:
            return unpack(tf.gather(rows, positions))

        if shuffle_seed is None:
            batches = tf.data.Dataset.range(0, num_rows, batch_size).map(in_order)
        else:
            # Each pass draws a number, and its order follows from that.
            passes = tf.data.Dataset.random(seed=shuffle_seed, rerandomize_each_iteration=True).take(1)
            batches = passes.flat_map(one_pass).map(take)
            batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
        # The optimiser of graphs would copy the rows, which are a constant of this one.
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        return batches.with_options(options)
