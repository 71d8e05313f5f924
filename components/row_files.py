"""Rows of ids in local files, from which batches are read in a new random order each pass, in bounded memory.

The two-pass shuffle: rows are dealt at random into piles, once; each pass reads the piles in another order, each of them
shuffled as a whole. Every order of the rows is as likely as any other but for which rows share a pile, so that batches are
good samples even of rows that are sorted by time or by label, which a shuffle buffer of some batches leaves sorted.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

MAX_PILES = 1024
ROWS_PER_DEAL = 65_536


class RowFiles:
    """Rows [N, C] int32 in files of a temporary directory, which is removed with the object.

    Args:
        chunks: the rows, in parts.
        num_columns: C.
        num_piles: files to deal the rows into at random; None: one file, in order.
        seed: of the dealing.

    Raises:
        OSError: if the disk is full; it names the directory and the cure.
    """

    def __init__(self, chunks: Iterable[np.ndarray], num_columns: int, num_piles: int | None, seed: int = 0):
        self.num_rows = 0
        self._num_columns, self._is_shuffled = num_columns, num_piles is not None
        directory = tempfile.mkdtemp(prefix="transformed-rows-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._paths = [os.path.join(directory, f"{i:04d}") for i in range(min(num_piles or 1, MAX_PILES))]
        for path in self._paths:
            open(path, "wb").close()
        random = np.random.default_rng(seed)
        try:
            for rows in _gather(chunks):
                self.num_rows += len(rows)
                self._append(rows, random)
        except OSError as error:
            need = "as much as the split has rows x fields x 4 bytes"
            cure = f"Free space there ({need}), or name another directory in the environment variable TMPDIR"
            raise OSError(
                error.errno, f"{error.strerror} while a split's rows were put into {directory}. {cure}."
            ) from error

    def _append(self, rows: np.ndarray, random: np.random.Generator) -> None:
        piles = random.integers(len(self._paths), size=len(rows))
        # As uint16, sorted four times as fast as int64.
        dealt = rows[np.argsort(piles.astype(np.uint16), kind="stable")]
        ends = np.cumsum(np.bincount(piles, minlength=len(self._paths)))
        for path, begin, end in zip(self._paths, [0, *ends[:-1]], ends, strict=True):
            with open(path, "ab") as file:
                file.write(dealt[begin:end].data)

    def batches(self, batch_size: int, shuffle_seed: int | None, unpack: Callable[[tf.Tensor], Any]) -> tf.data.Dataset:
        """What `unpack` makes of batches [B, C]: in order and with a short last one, or, where rows were dealt, without it,
        in a new order each pass, which `shuffle_seed` decides."""
        if self._is_shuffled:
            # Each pass draws a number, and all orders within it follow from that.
            passes = tf.data.Dataset.random(seed=shuffle_seed, rerandomize_each_iteration=True).take(1)
            batches = passes.flat_map(lambda number: self._one_pass(number, batch_size)).map(unpack)
            num_batches = self.num_rows // batch_size
        else:
            rows = tf.data.FixedLengthRecordDataset(self._paths, 4 * self._num_columns, buffer_size=2**20)
            batches = rows.batch(batch_size).map(lambda raw: unpack(tf.io.decode_raw(raw, tf.int32)))
            num_batches = -(-self.num_rows // batch_size)
        batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
        # Whatever is derived of these batches holds them, and they the files.
        batches._row_files = self
        return batches

    def _one_pass(self, number: tf.Tensor, batch_size: int) -> tf.data.Dataset:
        seed = tf.stack([number, 0])
        order = tf.random.experimental.stateless_shuffle(tf.constant(self._paths), seed)

        def read(index, path):
            rows = tf.reshape(tf.io.decode_raw(tf.io.read_file(path), tf.int32), [-1, self._num_columns])
            return tf.random.experimental.stateless_shuffle(rows, tf.stack([number, index + 1]))

        piles = tf.data.Dataset.from_tensor_slices(order).enumerate().map(read, num_parallel_calls=1).prefetch(1)
        return piles.rebatch(batch_size, drop_remainder=True)


def _gather(chunks: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Parts of ROWS_PER_DEAL rows or so: each is dealt to all piles."""
    waiting: list[np.ndarray] = []
    for chunk in chunks:
        for begin in range(0, len(chunk), ROWS_PER_DEAL):
            waiting.append(chunk[begin : begin + ROWS_PER_DEAL])
            if sum(map(len, waiting)) >= ROWS_PER_DEAL:
                yield np.concatenate(waiting)
                waiting = []
    if waiting:
        yield np.concatenate(waiting)
