"""Rows of ids with labels, in memory, and batches of them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_dimgrow import Field


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Rows of one id a field.

    Attributes:
        fields: the fields, in the order of the ids' columns.
        ids: int32 [rows, F].
        labels: float32 [rows], 0 or 1.
        splits: "train", "validation" and "test" -> slice of the rows.
    """

    fields: tuple[Field, ...]
    ids: np.ndarray
    labels: np.ndarray
    splits: Mapping[str, slice]

    def batches(self, split: str, batch_size: int, seed: int = 0) -> tf.data.Dataset:
        """Batches of ({field: int32 [B]}, label [B]): training rows in a new order each pass, without a short last batch."""
        ids, labels = tf.constant(self.ids[self.splits[split]]), tf.constant(self.labels[self.splits[split]])
        names, num_rows = [field.name for field in self.fields], len(labels)

        def order(pass_seed):
            rows = tf.random.experimental.stateless_shuffle(tf.range(num_rows), [seed, pass_seed])
            rows = tf.reshape(rows[: num_rows // batch_size * batch_size], [-1, batch_size])
            return tf.data.Dataset.from_tensor_slices(rows)

        def gather(rows):
            return dict(zip(names, tf.unstack(tf.gather(ids, rows), axis=1), strict=True)), tf.gather(labels, rows)

        if split == "train":
            passes = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
            cardinality = tf.data.experimental.assert_cardinality(num_rows // batch_size)
            rows = passes.map(lambda value: value // 2).flat_map(order).apply(cardinality)
        else:
            rows = tf.data.Dataset.range(num_rows).batch(batch_size)
        return rows.map(gather).prefetch(2)
